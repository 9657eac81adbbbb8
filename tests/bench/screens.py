"""How long a message takes from one screen to the other, in headless Chromium with sockets open."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Records when Enter was pressed, and when the frame after each new message was drawn, by the clock of the machine.
STOPWATCH = """
() => {
  const now = () => performance.timeOrigin + performance.now();
  window.pressed = 0;
  window.shown = {};
  addEventListener("keydown", (event) => { if (event.key === "Enter") window.pressed = now(); }, true);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes)
      for (const row of addedNodes) {
        const text = row.querySelector?.(".bubble")?.textContent;
        if (text) requestAnimationFrame(() => { window.shown[text] = now(); });
      }
  }).observe(document.querySelector("#messages"), { childList: true });
}
"""


def delays(url: str, session: str, messages: int) -> Iterator[float]:
    """Milliseconds from Enter on one screen to the drawn message on the other. Customer and agent take turns."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        alice, bob = browser.new_context().new_page(), browser.new_context().new_page()
        bob.context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
        alice.goto(f"{url}/chat/")
        alice.fill("textarea", "The first one.")
        alice.keyboard.press("Enter")
        alice.wait_for_selector("#messages [data-id]")
        bob.goto(f"{url}/inbox/")
        newest = bob.locator(".row").first.get_attribute("href")
        bob.goto(f"{url}{newest}")
        for page in (alice, bob):
            page.wait_for_selector("[data-link=live]")
            page.evaluate(STOPWATCH)
        for number in range(messages):
            writer, reader = (alice, bob) if number % 2 == 0 else (bob, alice)
            yield delay(writer, reader, f"Message {number} from here to there")
        browser.close()


def delay(writer: Page, reader: Page, text: str) -> float:
    """Milliseconds for one message."""
    writer.fill("textarea", text)
    writer.keyboard.press("Enter")
    reader.wait_for_function("text => window.shown[text]", arg=text)
    shown: Any = reader.evaluate("text => window.shown[text]", text)
    pressed: Any = writer.evaluate("window.pressed")
    return float(shown - pressed)

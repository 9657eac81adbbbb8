"""The people in the browser tests: methods for what they do on a page and what they see."""

import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, TypedDict, Unpack
from urllib.request import Request, urlopen

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    ViewportSize,
    WebError,
    expect,
)

from tests.conftest import PASSWORD, Server

TIMEOUT = 15_000  # milliseconds, enough for a busy machine

Row = tuple[int | None, str]
"""A message or note on a page: its id, or None while it is unsent, and its text."""

ROWS = """() => [...document.querySelectorAll(".messages > .message:not(.activity)")].map(
    (row) => [row.dataset.id ? Number(row.dataset.id) : null, row.querySelector(".bubble")?.textContent ?? ""])"""

# Log violations of the Content-Security-Policy by script: the browser's own messages differ between versions.
LOG_VIOLATIONS = """addEventListener("securitypolicyviolation",
    (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"""

# What browsers and htmx log when a request fails. Some tests make requests fail on purpose.
EXPECTED = ("Failed to load resource", "WebSocket connection to", "htmx:", "Response Status Error Code")


class Options(TypedDict, total=False):
    """Options of a browser context."""

    viewport: ViewportSize | dict[str, int]
    java_script_enabled: bool
    has_touch: bool
    is_mobile: bool
    color_scheme: str
    storage_state: Any
    locale: str
    timezone_id: str


def exactly(text: str) -> re.Pattern[str]:
    """A pattern that matches only the whole text."""
    return re.compile(rf"^\s*{re.escape(text)}\s*$")


def eventually(page: Page, holds: Callable[[], bool], what: str, timeout: float = TIMEOUT / 1000) -> None:
    """Wait until the condition holds, and keep the page's events running meanwhile."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"This did not happen in time: {what}"
        page.wait_for_timeout(20)


def wait_for_same_screen(*people: "Person") -> list[Row]:
    """Wait until no message is pending and all pages show the same messages; returns them.

    The other side may show a message before its sender has the response to sending it.
    """
    first = people[0]

    def same() -> bool:
        return not any(person.pending.count() for person in people) and all(
            person.screen() == first.screen() for person in people
        )

    eventually(first.page, same, "all pages show the same messages")
    return first.screen()


class Person:
    """Somebody who uses a page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    @property
    def field(self) -> Locator:
        """The text field of the composer."""
        return self.page.locator("#content")

    @property
    def connection(self) -> Locator:
        """The text that says whether the page is connected."""
        return self.page.locator("door-bell")

    @property
    def pending(self) -> Locator:
        """Their messages that the server has not confirmed yet."""
        return self.page.locator(".message.pending")

    def goes(self, path: str) -> None:
        """Go to an address of Chatsite."""
        self.page.goto(self.url + path)

    def reloads(self) -> None:
        self.page.reload()

    def types(self, text: str) -> None:
        """Type without sending."""
        self.field.fill(text)

    def says(self, text: str) -> None:
        """Type, and press Enter."""
        self.field.fill(text)
        self.field.press("Enter")

    answers = says

    def bubble(self, text: str) -> Locator:
        """A message that the server has confirmed."""
        return self.page.locator("#messages .bubble").filter(has_text=exactly(text))

    def sees(self, text: str) -> None:
        """Wait until the message is shown exactly once."""
        expect(self.bubble(text)).to_have_count(1)

    def screen(self) -> list[Row]:
        """All messages from top to bottom, pending ones last."""
        return [(pk, text) for pk, text in self.page.evaluate(ROWS)]

    def shows(self, *texts: str) -> None:
        """Wait until exactly these messages are shown, in this order, and none is pending."""
        eventually(
            self.page,
            lambda: [text for pk, text in self.screen() if pk] == list(texts) and not self.pending.count(),
            f"the screen shows {texts}: {self.screen()}",
        )

    def is_connected(self) -> None:
        """Wait until the socket is open and has rung."""
        expect(self.page.locator("body")).to_have_attribute("data-link", "live")

    def loses_socket(self) -> None:
        """Close the socket as if the network had dropped it."""
        self.page.evaluate("document.querySelector('door-bell').socket?.close()")


class Customer(Person):
    """Alice, on the chat page."""

    def comes(self) -> None:
        self.goes("/chat/")

    def introduces_herself(self, name: str, email: str = "") -> None:
        """Fill in the name and the e-mail address."""
        self.page.get_by_text("Name and e-mail").click()
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("E-mail").fill(email)


class Agent(Person):
    """Bob or carol, in the inbox."""

    def comes(self, query: str = "") -> None:
        self.goes(f"/inbox/{query}")

    def row(self, text: str) -> Locator:
        """The row of the list with this text."""
        return self.page.locator(".row", has_text=text)

    def tab(self, name: str) -> Locator:
        """The link to the list with this name, which also has its count."""
        return self.page.locator("#tabs a").filter(has=self.page.locator(".label", has_text=exactly(name)))

    @property
    def head(self) -> Locator:
        """The header above the messages."""
        return self.page.locator(".talk-head")

    def opens(self, text: str) -> str:
        """Open the conversation whose row has this text; returns its id."""
        row = self.row(text)
        expect(row).to_have_count(1)
        pk = str(row.get_attribute("id")).removeprefix("row-")
        row.click()
        expect(self.page.locator(f'[data-conversation="{pk}"]')).to_be_visible()
        return pk

    def takes(self) -> None:
        self.page.locator("#take").click()
        expect(self.head).to_contain_text("assigned to you")

    def closes(self) -> None:
        self.page.get_by_role("button", name="Close").click()
        expect(self.head).to_contain_text("Closed")

    def reopens(self) -> None:
        self.page.get_by_role("button", name="Reopen").click()
        expect(self.head).to_contain_text("Open")


class People:
    """Opens a browser for each customer and agent, and collects the errors that their pages log."""

    def __init__(self, chromium: Browser, server: Server, sessions: dict[str, Any]) -> None:
        self.chromium = chromium
        self.server = server
        self.sessions = sessions
        self.errors: list[str] = []
        self.contexts: list[BrowserContext] = []

    def browser(self, **options: Unpack[Options]) -> BrowserContext:
        """A browser without cookies or storage."""
        context = self.chromium.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(TIMEOUT)
        context.add_init_script(LOG_VIOLATIONS)
        context.on("console", self._collect_message)
        context.on("weberror", self._collect_error)
        self.contexts.append(context)
        return context

    def customer(self, *, conversation: str = "", server: Server | None = None, **options: Unpack[Options]) -> Customer:
        """A customer on the chat page; with a conversation's uuid, the customer of that conversation."""
        context = self.browser(**options)
        customer = Customer(context.new_page(), (server or self.server).url)
        if conversation:
            context.add_cookies([{"name": "chat", "value": conversation, "url": customer.url, "httpOnly": True}])
        customer.comes()
        return customer

    def agent(
        self, name: str = "bob", query: str = "", *, server: Server | None = None, **options: Unpack[Options]
    ) -> Agent:
        """An agent who is signed in, in the inbox."""
        if name not in self.sessions:
            self.sessions[name] = self._signed_in(name)
        options["storage_state"] = self.sessions[name]
        agent = Agent(self.browser(**options).new_page(), (server or self.server).url)
        agent.comes(query)
        return agent

    def close(self) -> None:
        """Close all browsers; no page may have logged an error."""
        for context in self.contexts:
            context.close()
        assert not self.errors, "\n".join(self.errors)

    def _signed_in(self, name: str) -> Any:
        page = self.browser().new_page()
        page.goto(f"{self.server.url}/inbox/")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("header .my-name")).to_be_visible()
        return page.context.storage_state()

    def _collect_message(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(EXPECTED):
            self.errors.append(message.text)

    def _collect_error(self, error: WebError) -> None:
        self.errors.append(str(error.error))


class Api:
    """A client of the JSON API, as a widget is."""

    def __init__(self, server: Server) -> None:
        self.url = f"{server.url}/api/messages/"

    def post(self, content: str, conversation: str = "", **more: str) -> list[dict[str, Any]]:
        """Send a message; returns all messages of the conversation."""
        body = json.dumps({"content": content, "conversation": conversation, **more}).encode()
        request = Request(self.url, body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            items: list[dict[str, Any]] = json.load(answer)["items"]
        return items

    def start_conversation(self, *contents: str, **more: str) -> str:
        """Start a conversation with these messages; returns its uuid."""
        uuid = ""
        for content in contents:
            uuid = self.post(content, uuid, **more)[0]["conversation"]
        return uuid

    def read(self, conversation: str) -> list[Row]:
        """All messages of the conversation, in the same form as `Person.screen`."""
        with urlopen(f"{self.url}{conversation}/?limit=1000", timeout=30) as answer:
            return [(item["id"], item["content"]) for item in json.load(answer)["items"]]


def uuid_of(customer: Customer) -> str:
    """The conversation's uuid, from the customer's cookies."""
    return next(cookie["value"] for cookie in customer.page.context.cookies() if cookie["name"] == "chat")


def unique_name() -> str:
    """A name that no other test uses."""
    return f"Alice {secrets.token_hex(4)}"

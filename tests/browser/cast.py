"""People at their screens: what they do, and what they see."""

import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, TypedDict, Unpack
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, WebError, expect

from tests.conftest import PASSWORD, Server

PATIENCE = 15_000  # milliseconds that anything may take on a busy machine

Row = tuple[int | None, str]
"""A message on a screen: its id, or None while it is not sent, and its text."""

ROWS = """() => [...document.querySelectorAll(".messages > .message")].map(
    (row) => [row.dataset.id ? Number(row.dataset.id) : null, row.querySelector(".bubble")?.textContent ?? ""])"""

# The page itself tells of what its policy refused: the console's own words differ from version to version.
TELL_VIOLATIONS = """addEventListener("securitypolicyviolation",
    (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"""

# What a browser says by itself when an answer is an error or does not come, which is what some tests are about.
EXPECTED = ("Failed to load resource", "WebSocket connection to", "htmx:", "Response Status Error Code")


class Options(TypedDict, total=False):
    """What may differ between browsers."""

    viewport: dict[str, int]
    java_script_enabled: bool
    has_touch: bool
    is_mobile: bool
    color_scheme: str
    storage_state: Any
    locale: str
    timezone_id: str


def exactly(text: str) -> re.Pattern[str]:
    """A pattern for an element with this text and no more."""
    return re.compile(rf"^\s*{re.escape(text)}\s*$")


def eventually(page: Page, holds: Callable[[], bool], what: str, patience: float = PATIENCE / 1000) -> None:
    """Return once it holds, which is asked again and again; the page goes on living meanwhile."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"It never came to be that {what}"
        page.wait_for_timeout(20)


def see_the_same(*people: "Person") -> list[Row]:
    """Wait until nobody's message is on its way any more and all screens are alike; returns what they show.

    Who is written to may have a message before who wrote it has the answer to the sending of it.
    """
    first = people[0]

    def alike() -> bool:
        return not any(person.pending.count() for person in people) and all(
            person.screen() == first.screen() for person in people
        )

    eventually(first.page, alike, "they see the same")
    return first.screen()


class Person:
    """Somebody in front of a page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    @property
    def field(self) -> Locator:
        """Where they type."""
        return self.page.locator("#content")

    @property
    def connection(self) -> Locator:
        """The words that say whether the page is connected."""
        return self.page.locator("door-bell")

    @property
    def pending(self) -> Locator:
        """Their messages that the server does not have yet."""
        return self.page.locator(".message.pending")

    def goes(self, path: str) -> None:
        """Go to an address of Chatsite."""
        self.page.goto(self.url + path)

    def reloads(self) -> None:
        self.page.reload()

    def types(self, text: str) -> None:
        """Type, and send nothing."""
        self.field.fill(text)

    def says(self, text: str) -> None:
        """Type, and press Enter."""
        self.field.fill(text)
        self.field.press("Enter")

    answers = says

    def bubble(self, text: str) -> Locator:
        """A message that has come from the server."""
        return self.page.locator("#messages .bubble").filter(has_text=exactly(text))

    def sees(self, text: str) -> None:
        """Wait until the message is there, once."""
        expect(self.bubble(text)).to_have_count(1)

    def screen(self) -> list[Row]:
        """All messages from the top to the bottom, those that are being sent last."""
        return [(number, text) for number, text in self.page.evaluate(ROWS)]

    def shows(self, *texts: str) -> None:
        """Wait until these messages are all that there is, in this order, and the server has them all."""
        eventually(
            self.page,
            lambda: [text for number, text in self.screen() if number] == list(texts) and not self.pending.count(),
            f"the screen shows {texts}: {self.screen()}",
        )

    def is_connected(self) -> None:
        """Wait until there is a socket."""
        expect(self.page.locator("body")).to_have_attribute("data-link", "live")

    def loses_the_socket(self) -> None:
        """As if the network had dropped it."""
        self.page.evaluate("document.querySelector('door-bell').socket?.close()")


class Customer(Person):
    """Alice, on the chat page."""

    def comes(self) -> None:
        self.goes("/chat/")

    def introduces_herself(self, name: str, email: str = "") -> None:
        """Fill in who she is."""
        self.page.get_by_text("Add your name").click()
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("E-mail").fill(email)


class Agent(Person):
    """Bob or carol, in the inbox."""

    def comes(self, query: str = "") -> None:
        self.goes(f"/inbox/{query}")

    def row(self, text: str) -> Locator:
        """The conversation in the list that shows this text."""
        return self.page.locator(".row", has_text=text)

    @property
    def head(self) -> Locator:
        """What stands above the messages."""
        return self.page.locator(".talk-head")

    def opens(self, text: str) -> str:
        """Open the conversation in whose row this text is; returns its number."""
        row = self.row(text)
        expect(row).to_have_count(1)
        number = str(row.get_attribute("id")).removeprefix("row-")
        row.click()
        expect(self.page.locator(f'[data-conversation="{number}"]')).to_be_visible()
        return number

    def takes(self) -> None:
        self.page.locator("#take").click()
        expect(self.head).to_contain_text("you have it")

    def closes(self) -> None:
        self.page.get_by_role("button", name="Close").click()
        expect(self.head).to_contain_text("Closed")

    def reopens(self) -> None:
        self.page.get_by_role("button", name="Reopen").click()
        expect(self.head).to_contain_text("Open")


class Stage:
    """Gives everybody a browser of their own, and notes what any of their pages complains about."""

    def __init__(self, chromium: Browser, server: Server, badges: dict[str, Any]) -> None:
        self.chromium = chromium
        self.server = server
        self.badges = badges
        self.complaints: list[str] = []
        self.contexts: list[BrowserContext] = []

    def browser(self, **options: Unpack[Options]) -> BrowserContext:
        """A browser that knows nothing yet."""
        context = self.chromium.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        context.add_init_script(TELL_VIOLATIONS)
        context.on("console", self._note)
        context.on("weberror", self._note_error)
        self.contexts.append(context)
        return context

    def customer(self, *, conversation: str = "", server: Server | None = None, **options: Unpack[Options]) -> Customer:
        """A customer on the chat page; with a conversation's uuid, the one whose conversation it is."""
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
        if name not in self.badges:
            self.badges[name] = self._signed_in(name)
        options["storage_state"] = self.badges[name]
        agent = Agent(self.browser(**options).new_page(), (server or self.server).url)
        agent.comes(query)
        return agent

    def close(self) -> None:
        """Everybody goes home, and had nothing to complain about."""
        for context in self.contexts:
            context.close()
        assert not self.complaints, "\n".join(self.complaints)

    def _signed_in(self, name: str) -> Any:
        page = self.browser().new_page()
        page.goto(f"{self.server.url}/inbox/")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        return page.context.storage_state()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(EXPECTED):
            self.complaints.append(message.text)

    def _note_error(self, error: WebError) -> None:
        self.complaints.append(str(error.error))


class Api:
    """A program that speaks JSON to Chatsite, as customers' programs do."""

    def __init__(self, server: Server) -> None:
        self.url = f"{server.url}/api/messages/"

    def post(self, content: str, conversation: str = "", **more: str) -> list[dict[str, Any]]:
        """Write a message; returns all messages of the conversation."""
        body = json.dumps({"content": content, "conversation": conversation, **more}).encode()
        request = Request(self.url, body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            items: list[dict[str, Any]] = json.load(answer)["items"]
        return items

    def tells(self, *contents: str, **more: str) -> str:
        """Begin a conversation with these messages; returns its uuid."""
        uuid = ""
        for content in contents:
            uuid = self.post(content, uuid, **more)[0]["conversation"]
        return uuid

    def read(self, conversation: str) -> list[Row]:
        """The conversation as it is, in the same shape as a screen."""
        with urlopen(f"{self.url}{conversation}/?limit=1000", timeout=30) as answer:
            return [(item["id"], item["content"]) for item in json.load(answer)["items"]]


def uuid_of(customer: Customer) -> str:
    """The conversation's uuid, which only the browser's cookie jar has."""
    return next(cookie["value"] for cookie in customer.page.context.cookies() if cookie["name"] == "chat")


def somebody() -> str:
    """A name that nobody else has."""
    return f"Alice {secrets.token_hex(4)}"

"""Websites that embed the chat, and the customers on their pages."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, Unpack
from urllib.request import Request, urlopen

import jwt
import pytest
from playwright.sync_api import (
    BrowserContext,
    BrowserType,
    ConsoleMessage,
    Frame,
    FrameLocator,
    Locator,
    Page,
    Route,
    expect,
)

from tests.browser.people import LOG_VIOLATIONS, ROWS, TIMEOUT, Customer, Options, People, Row, exactly
from tests.conftest import Server

SECRET = "only-for-tests-" * 4
HMAC_SECRET = "only-for-hmac--" * 4
"""The secrets of the websites of the fixture `members`."""

SAME_AND_CROSS_SITE = pytest.mark.parametrize("where", ["same_site", "cross_site"])

PARTITIONING = "ThirdPartyStoragePartitioning"

NO_STORAGE = (
    """Object.defineProperty(window, "localStorage", { get() { throw new DOMException("No", "SecurityError") } })"""
)
"""A script that makes localStorage fail, as browsers do where storage is blocked."""

# What browsers log when a frame is refused or was removed. Some tests cause that on purpose.
REFUSED = (
    "Access to fetch at",
    "Framing 'http",
    "Failed to execute 'postMessage' on 'DOMWindow': The target origin",
    "Unsafe attempt to load URL",
)


class Site:
    """A website's own server. It has two origins: one on the same site as the chat, and one on another site.

    To a browser 127.0.0.1 and localhost are two sites, and two ports of either are two origins of the same site.
    """

    def __init__(self, chat: str) -> None:
        """`chat` is the URL of Chatsite."""
        self.chat = chat
        self.pages: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.numbers = count(1)
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body, headers = site.pages.get(self.path.partition("?")[0], (b"", {}))
                self.send_response(200 if body else 404)
                for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.same_site = f"http://127.0.0.1:{self.port}"
        self.cross_site = f"http://localhost:{self.port}"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def script(self, website: str = "shop", **data: str) -> str:
        """The script tag that embeds the chat."""
        more = "".join(f' data-{name}="{value}"' for name, value in data.items())
        return f'<script src="{self.chat}/chat.js" data-website="{website}"{more} async></script>'

    def page(self, *, script: str | None = None, body: str = "", html: str = 'lang="en"', policy: str = "") -> str:
        """Add a page; returns its path. Without `script` it has the usual script tag; `policy` is its CSP."""
        path = f"/{next(self.numbers)}"
        text = (
            f'<!doctype html><html {html}><head><meta charset="utf-8"><title>Page {path}</title>'
            f'<meta name="viewport" content="width=device-width"></head><body><main><h1>Bread and cakes</h1>'
            f"<p>{'We bake all day. ' * 9}</p>{body}</main>{self.script() if script is None else script}</body></html>"
        )
        self.pages[path] = (text.encode(), {"Content-Security-Policy": policy} if policy else {})
        return path

    def file(self, name: str, kind: str, text: str) -> str:
        """Add a file; returns its path."""
        self.pages[f"/{name}"] = (text.encode(), {"Content-Type": kind})
        return f"/{name}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


Sites = tuple[Site, Site, Site]
"""The shop and its rival, which are listed origins, and mallory's website, which is not."""


class EmbeddedCustomer(Customer):
    """Alice, on a page of a website that embeds the chat."""

    @property
    def button(self) -> Locator:
        """The button that opens the chat."""
        return self.page.locator("button.launcher")

    @property
    def badge(self) -> Locator:
        """The number of unread messages on the button."""
        return self.page.locator("button.launcher .badge")

    @property
    def panel(self) -> Locator:
        """The panel with the chat, visible while it is open."""
        return self.page.locator(".panel")

    @property
    def unreachable(self) -> Locator:
        """The notice in the panel that the chat cannot be reached."""
        return self.page.locator(".panel.lost")

    @property
    def frame(self) -> FrameLocator:
        """The chat page inside the panel."""
        return self.page.frame_locator(".panel iframe:not([hidden])")

    @property
    def inside(self) -> Frame:
        """The chat page inside the panel, to run scripts in."""
        frame = self.page.locator(".panel iframe:not([hidden])").element_handle().content_frame()
        assert frame is not None
        return frame

    @property
    def field(self) -> Locator:
        return self.frame.locator("#content")

    @property
    def connection(self) -> Locator:
        return self.frame.locator("door-bell")

    @property
    def pending(self) -> Locator:
        return self.frame.locator(".message.pending")

    @property
    def not_remembered(self) -> Locator:
        """The notice that this chat will not be remembered."""
        return self.frame.locator(".not-remembered")

    def bubble(self, text: str) -> Locator:
        return self.frame.locator("#messages .bubble").filter(has_text=exactly(text))

    def screen(self) -> list[Row]:
        return [(number, text) for number, text in self.frame.locator("body").evaluate(ROWS)]

    def comes(self, path: str = "/") -> None:
        self.goes(path)
        expect(self.button).to_be_visible()

    def opens(self) -> None:
        """Press the button."""
        self.button.click()
        expect(self.field).to_be_visible()
        self.is_connected_to_host()

    def is_connected_to_host(self) -> None:
        """Wait until the chat and the page around it are connected by their private port."""
        expect(self.frame.locator("body.in-a-panel")).to_be_attached()

    def closes(self) -> None:
        """Press the button again."""
        self.button.click()
        expect(self.panel).to_be_hidden()

    def is_connected(self) -> None:
        expect(self.frame.locator("body")).to_have_attribute("data-link", "live")

    def loses_socket(self) -> None:
        self.connection.evaluate("(bell) => bell.socket?.close()")

    def calls(self, name: str, *arguments: Any) -> None:
        """Call `Chatsite.name(…)` in the page, as the website's own script does."""
        self.page.evaluate("([name, more]) => void Chatsite[name](...more)", [name, list(arguments)])

    def local_storage(self) -> dict[str, str]:
        """The content of the website's localStorage."""
        found: dict[str, str] = self.page.evaluate("() => ({ ...localStorage })")
        return found

    def cookies(self) -> list[dict[str, Any]]:
        """The chat's cookies in this browser."""
        return [dict(each) for each in self.page.context.cookies() if each["name"].startswith("chat")]


class Requests:
    """The requests of a page to Chatsite."""

    def __init__(self, page: Page, chat: str) -> None:
        self.all: list[tuple[str, str, str]] = []
        self.answered: list[str] = []
        page.on("request", lambda request: self._collect_message(request, chat))
        page.on("requestfinished", lambda request: self.answered.append(request.url))

    def _collect_message(self, request: Any, chat: str) -> None:
        if request.url.startswith(chat):
            self.all.append((request.method, request.url.removeprefix(chat), request.post_data or ""))

    def ended(self, end: str) -> list[str]:
        """The URLs that contain this string and got a response."""
        return [path for path in self.answered if end in path]

    def to(self, end: str) -> list[dict[str, Any]]:
        """The bodies that were posted to URLs that contain this string."""
        return [json.loads(body) for method, path, body in self.all if method == "POST" and end in path]


def block_cookies(context: BrowserContext, chat: str) -> None:
    """Make a browser ignore cookies of the chat; its storages work."""

    def answer_without_cookies(route: Route) -> None:
        asked = route.request
        if asked.is_navigation_request():
            return route.continue_()  # it sets no cookie, and pages sent by route.fulfill() cannot open sockets
        body = asked.post_data_buffer
        headers = {name: value for name, value in asked.headers.items() if name not in {"cookie", "accept-encoding"}}
        with urlopen(Request(asked.url, body, headers, method=asked.method), timeout=30) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() != "set-cookie"}
            return route.fulfill(status=answer.status, headers=kept, body=answer.read())

    context.route(f"{chat}/chat/**", answer_without_cookies)


def token(sub: str, secret: str = SECRET) -> str:
    """The token that the website's own server signs for its user."""
    now = int(time.time())
    return jwt.encode({"sub": sub, "iat": now, "exp": now + 600, "name": sub.title()}, secret, "HS256")


class Browsers:
    """Browsers with different settings for cookies and storage in frames.

    `ordinary` opens private windows: they start without data, and block third-party cookies.
    """

    def __init__(self, kind: BrowserType, path: str, shell: str | None, arguments: list[str]) -> None:
        """`path` is the full browser, which has profiles; `shell` is the headless shell, if there is one."""
        self.path = path
        # Playwright's --disable-features switches off the partitioning of storage: find it, to leave it out.
        with kind.launch(executable_path=path, args=arguments) as browser:
            page = browser.new_page()
            page.goto("chrome://version")
            words = [f"--{word.strip()}" for word in page.locator("#command_line").inner_text().split(" --")]
        [self.default] = [word for word in words if word.startswith("--disable-features=") and PARTITIONING in word]
        self.arguments = [*arguments, self.default.replace(f",{PARTITIONING}", "")]
        assert PARTITIONING not in self.arguments[-1]
        # The full browser blocks third-party cookies in private windows. The headless shell needs this option.
        ordinary = [*self.arguments, "--test-third-party-cookie-phaseout"] if shell else self.arguments
        self.ordinary = kind.launch(executable_path=shell or path, args=ordinary, ignore_default_args=[self.default])

    def launch(self, kind: str, profile: Path) -> BrowserContext:
        """Start a browser of one of KINDS with its own profile in a folder."""
        (profile / "Default").mkdir(parents=True)
        (profile / "Default" / "Preferences").write_text(json.dumps({"profile": KINDS[kind]}))
        as_it_is = kind == "nothing partitioned"
        return self.ordinary.browser_type.launch_persistent_context(
            profile,
            executable_path=self.path,
            args=self.arguments[:-1] if as_it_is else self.arguments,
            ignore_default_args=[] if as_it_is else [self.default],
        )

    def close(self) -> None:
        self.ordinary.close()


KINDS: dict[str, dict[str, Any]] = {
    "ordinary": {"cookie_controls_mode": 0},
    "no third-party cookies": {"cookie_controls_mode": 1},
    "nothing partitioned": {"cookie_controls_mode": 0},
    "no cookies": {"default_content_setting_values": {"cookies": 2}},
}
"""Kinds of browsers, by their settings."""


class Web(People):
    """Customers and agents with ordinary browsers, and websites that embed the chat."""

    def __init__(self, browsers: Browsers, server: Server, sessions: dict[str, Any], home: Path, sites: Sites) -> None:
        """`home` is a folder for browsers' profiles."""
        super().__init__(browsers.ordinary, server, sessions)
        self.browsers = browsers
        self.home = home
        self.shop, self.rival, self.mallory = sites

    def customer_on(
        self, origin: str, path: str, *, context: BrowserContext | None = None, **options: Unpack[Options]
    ) -> EmbeddedCustomer:
        """Alice on a page of a website, in a new browser or in this one."""
        customer = EmbeddedCustomer((context or self.browser(**options)).new_page(), origin)
        customer.comes(path)
        return customer

    def browser_of_kind(self, kind: str) -> BrowserContext:
        """A browser of one of KINDS."""
        return self._watch(self.browsers.launch(kind, self.home / kind.replace(" ", "-")))

    def _watch(self, context: BrowserContext) -> BrowserContext:
        context.set_default_timeout(TIMEOUT)
        context.add_init_script(LOG_VIOLATIONS)
        context.on("console", self._collect_message)
        context.on("weberror", self._collect_error)
        self.contexts.append(context)
        return context

    def _collect_message(self, message: ConsoleMessage) -> None:
        if not message.text.startswith(REFUSED):
            super()._collect_message(message)

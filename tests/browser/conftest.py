"""Fixtures for real browsers against a real server. These tests never use the ORM: they check what the screen shows."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.people import TIMEOUT, Api, People
from tests.browser.websites import HMAC_SECRET, SECRET, Browsers, Site, Sites, Web
from tests.conftest import Server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHELL = "chromium-headless-shell"
"""Debian's package of this name: Chromium without its user interface, in which tests take half the time. It has no
profiles, so tests of cookie settings use the full browser."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where Chromium is; without one the browser tests are skipped, though never in CI."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("CI must run the browser tests, and there is no Chromium here. Install the package chromium.")
    if path is None:
        pytest.skip("The browser tests need Chromium, and there is none here. Install the package chromium.")
    return path


# Scope "package", not "session": while Playwright runs, this thread has a running event loop, in which neither Django's
# ORM nor asynchronous tests work. The server is requested first, because it creates its database with the ORM.
@pytest.fixture(scope="package")
def chromium(chromium_path: str, server: Server) -> Iterator[Browser]:
    """A headless browser."""
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(SHELL) or chromium_path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def sessions() -> dict[str, Any]:
    """The cookies of agents who have signed in, by user name."""
    return {}


@pytest.fixture
def people(chromium: Browser, server: Server, sessions: dict[str, Any]) -> Iterator[People]:
    """Customers and agents; no page may log a script error or a violation of the Content-Security-Policy."""
    people = People(chromium, server, sessions)
    yield people
    people.close()


@pytest.fixture
def killable_server(server: Server) -> Iterator[Server]:
    """A second server on the same database, which a test may kill."""
    second = Server({name: server.environment[name] for name in ("DEBUG", "RATE_LIMITS", "DATABASE_URL", "FILES")})
    second.start()
    yield second
    if second.process and second.process.poll() is None:
        second.kill()


@pytest.fixture
def api(server: Server) -> Api:
    """A client of the JSON API."""
    return Api(server)


@pytest.fixture(scope="package")
def browsers(chromium: Browser, chromium_path: str) -> Iterator[Browsers]:
    """Browsers with different settings for cookies and storage."""
    browsers = Browsers(chromium.browser_type, chromium_path, shutil.which(SHELL), ARGUMENTS)
    yield browsers
    browsers.close()


@pytest.fixture(scope="package")
def sites(server: Server) -> Iterator[Sites]:
    """Three websites: the first two are listed origins of the shop and the bakery, the third is not listed."""
    shop, rival, mallory = Site(server.url), Site(server.url), Site(server.url)
    both = [shop.same_site, shop.cross_site, rival.same_site, rival.cross_site]
    server.manage("addwebsite", "The shop", *both, "--key", "shop")
    server.manage("addwebsite", "The bakery", *both, "--key", "bakery")
    yield shop, rival, mallory
    for site in (shop, rival, mallory):
        site.close()


@pytest.fixture
def web(browsers: Browsers, server: Server, sessions: dict[str, Any], tmp_path: Path, sites: Sites) -> Iterator[Web]:
    """Customers and agents, and websites that embed the chat; no page may log an error."""
    web = Web(browsers, server, sessions, tmp_path, sites)
    yield web
    web.close()


@pytest.fixture(scope="module")
def members(server: Server, sites: Sites) -> Site:
    """Two chats on the shop's pages: one accepts identity proofs, the other requires them."""
    shop = sites[0]
    for key in ("members", "club"):
        server.manage("addwebsite", f"The {key}", shop.same_site, shop.cross_site, "--key", key)
    server.manage(
        "shell",
        "-c",
        "from conversations.models import Website\n"
        "Website.objects.filter(key__in=['members', 'club']).update("
        f"identity_secret='{SECRET}', accepts_hmac=True, hmac_secret='{HMAC_SECRET}')\n"
        "Website.objects.filter(key='club').update(identity_required=True)",
    )
    return shop


@pytest.fixture(scope="module")
def inn(server: Server, sites: Sites) -> Site:
    """A chat on the shop's pages with all fields required and long texts."""
    shop = sites[0]
    server.manage("addwebsite", "The inn", shop.same_site, shop.cross_site, "--key", "inn")
    server.manage(
        "shell",
        "-c",
        "from conversations.models import Website\n"
        "Website.objects.filter(key='inn').update(ask_name='REQUIRED', ask_email='REQUIRED', "
        "office_hours='Mon 3:00-3:01', greeting='Welcome, dear guest. ' * 14, away_text='We are all asleep. ' * 15)",
    )
    return shop

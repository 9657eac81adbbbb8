"""Budgets for size, requests and layout shifts of the chat and the inbox, measured on a server in production mode."""

from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import BrowserContext, Page, Response, expect

from tests.browser.people import Api, People, eventually
from tests.browser.websites import EmbeddedCustomer, Site, Web
from tests.conftest import PASSWORD, Server

pytestmark = pytest.mark.browser

LOADER = 3 * 1024  # bytes, gzipped
FRAME = 25 * 1024  # bytes as sent: page, style and script that open the chat and send text; htmx alone is 15 kB
REQUESTS = 6  # of the frame
INBOX = 60 * 1024  # bytes as sent: the first load of an agent's page
INBOX_REQUESTS = 8
SLOWER = 4  # a weak device, for which the goal is 200 ms


@pytest.fixture(scope="module")
def production(server: Server) -> Iterator[Server]:
    """A server in production mode on the same database."""
    production_server = Server(
        {
            "DEBUG": "off",
            "SECRET_KEY": "only-for-tests-" * 4,
            "ALLOWED_HOSTS": "127.0.0.1",
            "INSECURE_HTTP": "on",
            "DATABASE_URL": server.environment["DATABASE_URL"],
        }
    )
    production_server.manage("collectstatic", "--noinput", "--verbosity", "0")
    production_server.start()
    yield production_server
    assert production_server.stop() == 0


@pytest.fixture(scope="module")
def shop(production: Server) -> Iterator[Site]:
    """A website with a chat of that server."""
    shop = Site(production.url)
    production.manage("addwebsite", "The shop", shop.cross_site, "--key", "shop")
    yield shop
    shop.close()


class Meter:
    """Records the responses from the chat's server to a page and its frames."""

    def __init__(self, page: Page, chat: str) -> None:
        self.answers: list[Response] = []
        page.on("response", lambda answer: self.answers.append(answer) if answer.url.startswith(chat) else None)

    def read(self) -> list[tuple[str, int]]:
        """The URL and body size of each response since the last call; all must be finished."""
        read = [(answer.url, answer.request.sizes()["responseBodySize"]) for answer in self.answers]
        self.answers.clear()
        return read


def fetched(url: str, encoding: str) -> int:
    """The size of a file in this encoding, in bytes."""
    with urlopen(Request(url, headers={"Accept-Encoding": encoding}), timeout=30) as answer:
        return len(answer.read())


def table(files: list[tuple[str, int]]) -> str:
    """A table of URLs with their sizes: as sent, in gzip and in brotli."""
    lines = [f"{'sent':>7}{'gzip':>7}{'brotli':>7}"]
    sums = [0, 0, 0]
    for url, sent in files:
        sizes = (sent, fetched(url, "gzip"), fetched(url, "br"))
        sums = [a + b for a, b in zip(sums, sizes, strict=True)]
        lines.append("".join(f"{size:7}" for size in sizes) + f"  {url}")
    return "\n".join([*lines, "".join(f"{size:7}" for size in sums) + "  in all"])


def test_loader_and_chat_frame_stay_within_their_budgets(web: Web, shop: Site) -> None:
    page = web.browser().new_page()
    meter = Meter(page, shop.chat)
    alice = EmbeddedCustomer(page, shop.cross_site)
    alice.comes(shop.page())
    page.wait_for_load_state("networkidle")
    on_the_page = meter.read()
    alice.opens()
    page.wait_for_load_state("networkidle")
    in_the_frame = meter.read()
    alice.says("Hello")
    alice.shows("Hello")
    alice.is_connected()
    print(f"\nThe loader\n{table(on_the_page)}\n\nThe frame\n{table(in_the_frame)}")
    [(_, loader)] = on_the_page
    assert loader <= fetched(on_the_page[0][0], "gzip") <= LOADER
    assert len(in_the_frame) <= REQUESTS, in_the_frame
    total = sum(size for _, size in in_the_frame)
    assert total <= FRAME, f"The frame has {total} bytes, {total - FRAME} more than it may:\n{table(in_the_frame)}"


def test_the_inbox_stays_within_its_budget(web: Web, production: Server, api: Api) -> None:
    for number in range(50):
        api.start_conversation("Hello, is anybody there?", name=f"Customer {number}")
    page = web.browser().new_page()
    page.goto(f"{production.url}/inbox/")
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".row")).to_have_count(50)
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    meter = Meter(page, production.url)
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-link", "live")
    page.wait_for_load_state("networkidle")
    loaded = meter.read()
    print(f"\nThe inbox\n{table(loaded)}")
    assert len(loaded) <= INBOX_REQUESTS, loaded
    # Chromium does not say the size of what its cache would have had.
    total = sum(fetched(url, "br") if "/assets/" in url else size for url, size in loaded)
    assert 10_000 < total <= INBOX, f"The inbox has {total} bytes:\n{table(loaded)}"
    print(f"CPU time until it can be used, at 1/{SLOWER} of the speed: {cpu_of_first_load(page.context, page.url)}")


KINDS = {"TaskDuration": "in all", "ScriptDuration": "scripts", "LayoutDuration": "layout"} | {
    "RecalcStyleDuration": "styles",
    "TaskOtherDuration": "the rest",
}


def cpu_of_first_load(context: BrowserContext, url: str) -> str:
    """What a page's main thread does until the page is loaded, with nothing in the cache: the least of three loads.

    It depends on the machine, so it is only shown.
    """
    found = []
    for _ in range(3):
        page = context.new_page()
        devtools = context.new_cdp_session(page)
        devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU time: others use the machine too
        devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        page.goto(url)
        values = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
        found.append([1000 * values[kind] for kind in KINDS])
        page.close()
    return ", ".join(f"{name} {value:.0f} ms" for name, value in zip(KINDS.values(), min(found), strict=True))


WATCH = """if (window === top) {
    window.shifts = [];
    window.tasks = [];
    const watch = (type, into, what) =>
        new PerformanceObserver((list) => into.push(...list.getEntries().map(what))).observe({ type, buffered: true });
    watch("layout-shift", shifts, ({ value }) => value);
    watch("longtask", tasks, ({ duration, startTime }) => `${duration} ms at ${Math.round(startTime)} ms`);
}"""


def test_the_chat_shifts_no_layout_of_the_page(web: Web, shop: Site) -> None:
    context = web.browser()
    context.add_init_script(WATCH)
    alice = web.customer_on(shop.cross_site, shop.page(body="<p>More to read</p>" * 60), context=context)
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    alice.closes()
    alice.opens()
    alice.reloads()
    alice.shows("Hello")
    alice.closes()
    expect(alice.button).to_be_focused()
    settled = "new Promise((settled) => requestAnimationFrame(() => requestAnimationFrame(settled)))"
    alice.page.evaluate(settled)
    print("\nTasks of more than 50 ms on the page:", alice.page.evaluate("tasks") or "none")
    assert alice.page.evaluate("shifts") == []
    alice.page.evaluate("document.querySelector('h1').style.marginBottom = '200px'")  # the observer does notice a shift
    alice.page.evaluate(settled)
    eventually(alice.page, lambda: len(alice.page.evaluate("shifts")) == 1, "a page that moves is noticed")


NOTE_FORMATTERS = """
    window.formatters = [];
    for (const name of ["DateTimeFormat", "NumberFormat", "RelativeTimeFormat"]) {
        const note = (make) => (_, values) => {
            formatters.push(performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd > 0);
            return make(...values);
        };
        const Made = Intl[name];
        Intl[name] = new Proxy(Made, { construct: note((...values) => new Made(...values)), apply: note(Made) });
    }
"""


def test_a_list_can_be_used_before_the_browser_has_made_its_times(people: People, api: Api) -> None:
    api.start_conversation("Is anybody there?", name="Alice")
    bob = people.agent("bob")
    bob.page.add_init_script(NOTE_FORMATTERS)
    bob.page.reload()
    expect(bob.page.locator(".row .ago").first).to_have_text("now")
    expect(bob.page.locator(".row .ago").first).to_be_visible()
    made = bob.page.evaluate("formatters")
    assert made
    assert all(made), f"{made.count(False)} formatters were made while the page was loading, and the first takes 10 ms."


def test_all_rows_are_laid_out_when_the_list_was_shown_and_the_open_one_is_in_view(people: People, api: Api) -> None:
    for number in range(20):
        api.start_conversation("Is anybody there?", name=f"Customer {number}")
    bob = people.agent("bob")
    bob.page.locator(".row").nth(19).click()
    expect(bob.page.locator("#state h2")).to_be_visible()
    bob.page.reload()
    expect(bob.page.locator(".row[aria-current]")).to_be_in_viewport(ratio=0.9)
    expect(bob.page.locator("#list")).not_to_have_class("early")
    laid_out = "item => getComputedStyle(item).contentVisibility"
    assert bob.page.locator(".item").last.evaluate(laid_out) == "visible"

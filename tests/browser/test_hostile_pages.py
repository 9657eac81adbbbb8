"""Hostile pages and frames around the chat, and third-party widgets."""

import json
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Frame, Page, expect

from tests.browser.people import Api, Customer, eventually
from tests.browser.websites import Requests, Site, Web

pytestmark = pytest.mark.browser


# Hostile pages -------------------------------------------------------------------------------------------------------

GREET_AGAIN = """(target) => new Promise((answered) => {
    const { port1, port2 } = new MessageChannel();
    window.mallorys = port1;
    port1.onmessage = ({ data }) => answered(data);
    target.contentWindow.postMessage("chatsite", "*", [port2]);
})"""

NONSENSE = """(target) => {
    const much = "x".repeat(5_000_000);
    const words = [null, 7, "chatsite", much, [], { hello: true, open: false }, { keep: much }, { kept: "yes" }];
    for (const word of words) target.contentWindow.postMessage(word, "*");
    target.contentWindow.postMessage("chat", "*", [new MessageChannel().port2]);
}"""

NONSENSE_BY_PORT = """() => {
    const much = "x".repeat(5_000_000);
    const words = [null, 7, much, [], {}, { seen: much }, { seen: 1e99 }, { open: "no" }, { kept: 1 }, { proof: 5 },
        { chat: much, hello: true }, { proof: much }, { proof: "日本" }, { hello: true, chat: { a: 1 }, seen: [] }];
    for (const word of words) window.mallorys.postMessage(word);
}"""


def test_invalid_messages_from_the_host_page_are_ignored(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    alice.says("Before")
    alice.shows("Before")
    asked = Requests(alice.page, web.server.url)
    chat = alice.page.locator(".panel iframe")
    chat.evaluate(NONSENSE)
    assert chat.evaluate(GREET_AGAIN) == {"ready": True}  # everything before it has been received
    # Polls and page reports may happen at any time and are no reaction.
    assert [path for method, path, _ in asked.all if method == "POST" and "/here/" not in path] == []
    alice.page.evaluate(NONSENSE_BY_PORT)
    alice.says("After")
    alice.shows("Before", "After")
    assert max(len(body) for _, _, body in asked.all) < 1000


def test_messages_from_another_frame_to_the_host_page_are_ignored(web: Web) -> None:
    attack = """<script>
        const words = [{ ready: true }, { keep: "0".repeat(32) }, { close: true }, { unread: 99 }, { known: true },
            { event: "identified" }, "chatsite", "x".repeat(5_000_000)];
        for (const word of words) parent.postMessage(word, "*", [new MessageChannel().port2]);
        parent.postMessage("done", "*");
    </script>"""
    advertisement = web.mallory.same_site + web.mallory.page(script=attack)
    heard = "<script>addEventListener('message', ({ data }) => data === 'done' && (document.title = 'Done'))</script>"
    alice = web.customer_on(web.shop.cross_site, web.shop.page(body=heard))
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    kept = alice.local_storage()
    alice.page.evaluate(
        "(src) => document.body.append(Object.assign(document.createElement('iframe'), { src }))", advertisement
    )
    expect(alice.page).to_have_title("Done")
    expect(alice.panel).to_be_visible()
    expect(alice.badge).to_be_hidden()
    alice.says("Still here")
    alice.shows("Hello", "Still here")
    assert {**json.loads(alice.local_storage()["chatsite shop"]), "seen": 0} == {
        **json.loads(kept["chatsite shop"]),
        "seen": 0,
    }


ATTACK = """<script>
    window.answers = [], window.tries = 0;
    const attack = (chat) => setInterval(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = ({ data }) => answers.push(data);
        chat.postMessage("chatsite", "*", [port2]);
        tries++;
    }, 50);
</script>"""


def learns_nothing(mallory: Page | Frame, page: Page) -> None:
    """Wait for ten more tries; none may have been answered."""
    tried = mallory.evaluate("tries")
    eventually(page, lambda: mallory.evaluate("tries") > tried + 10, "mallory tried again and again")
    assert mallory.evaluate("answers") == []


def test_a_hostile_page_that_opens_the_chat_in_a_window_learns_nothing(web: Web) -> None:
    mallory = web.mallory
    page = web.browser().new_page()
    page.goto(mallory.cross_site + mallory.page(script=ATTACK))
    with page.expect_popup() as opened:
        page.evaluate(f"void attack(open('{web.server.url}/chat/shop/?host={mallory.cross_site}'))")
    opened.value.wait_for_load_state()
    alice = Customer(opened.value, web.server.url)
    alice.says("Hello")
    alice.shows("Hello")
    learns_nothing(page, page)
    expect(alice.page.locator("body.in-a-panel")).to_have_count(0)


def test_a_hostile_frame_next_to_the_chat_learns_nothing(web: Web) -> None:
    shop, mallory = web.shop, web.mallory
    chat = f'<iframe src="{web.server.url}/chat/shop/?host={shop.cross_site}"></iframe>'
    attack = ATTACK.replace("</script>", "attack(parent.frames[0]);</script>")
    advertisement = f'<iframe src="{mallory.same_site}{mallory.page(script=attack)}"></iframe>'
    page = web.browser().new_page()
    page.goto(shop.cross_site + shop.page(script="", body=chat + advertisement))
    expect(page.frame_locator("iframe").first.locator("#content")).to_be_visible()
    _, _, beside = page.frames
    assert beside.url.startswith(mallory.same_site)
    learns_nothing(beside, page)
    assert page.locator("iframe").first.evaluate(GREET_AGAIN) == {"ready": True}  # the host page may


def test_the_chat_may_be_framed_only_by_the_host_in_its_url(web: Web) -> None:
    shop, rival, mallory = web.shop, web.rival, web.mallory

    def framed_by(site: Site, host: str) -> str:
        frame = f'<iframe src="{web.server.url}/chat/shop/?host={host}"></iframe>'
        page = web.browser().new_page()
        with page.expect_response(lambda answer: "/chat/shop/" in answer.url):
            page.goto(site.cross_site + site.page(script="", body=frame))
        chat = page.locator("iframe").element_handle().content_frame()
        assert chat is not None
        chat.wait_for_load_state("load")
        return str(chat.evaluate("document.querySelector('h1')?.textContent"))

    assert framed_by(rival, rival.cross_site) == "The shop"
    assert framed_by(rival, shop.cross_site) != "The shop"
    assert framed_by(mallory, mallory.cross_site) != "The shop"


# Third-party widgets -------------------------------------------------------------------------------------------------

WIDGET = """async ([chat, content]) => {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ content, website: "shop" });
    const posted = await fetch(`${chat}/api/messages/`, { method: "POST", headers, body }).then((it) => it.json());
    const uuid = posted.items[0].conversation;
    const read = await fetch(`${chat}/api/messages/${uuid}/?since=0`).then((it) => it.json());
    const ring = await new Promise((answered) => {
        const socket = new WebSocket(`${chat.replace("http", "ws")}/ws/messages/${uuid}/`);
        socket.onmessage = ({ data }) => answered(JSON.parse(data));
        socket.onclose = ({ code }) => answered(code);
    });
    return [uuid, read.items.map((item) => item.content), ring];
}"""

REFUSALS = """async ([chat, uuid]) => {
    const asked = (path, more) => fetch(chat + path, more).then(({ status }) => status, () => "refused");
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ content: "Psst", website: "shop", conversation: uuid });
    return [
        await asked("/api/messages/", { method: "POST", headers, body }),
        await asked("/api/messages/", { method: "POST", body }),
        await asked(`/api/messages/${uuid}/?since=0`),
        await new Promise((answered) => {
            const socket = new WebSocket(`${chat.replace("http", "ws")}/ws/messages/${uuid}/`);
            socket.onopen = () => answered("open");
            socket.onclose = ({ code }) => answered(code);
        }),
    ];
}"""


def test_a_widget_works_only_on_listed_origins(web: Web, api: Api) -> None:
    page = web.browser().new_page()
    page.goto(web.shop.cross_site + web.shop.page(script=""))
    uuid, read, ring = page.evaluate(WIDGET, [web.server.url, "Hello from a widget"])
    assert read == ["Hello from a widget"]
    assert ring == {"type": "messages", "last": api.read(uuid)[-1][0]}
    errors: list[str] = []
    page.on("websocket", lambda socket: socket.on("socketerror", lambda error: errors.append(str(error))))
    # Pages of this machine need no list in debug mode, so mallory's is at a name of her own.
    elsewhere = web.mallory.cross_site.replace("localhost", "mallory.localhost")
    page.goto(elsewhere + web.mallory.page(script=""))
    assert page.evaluate(REFUSALS, [web.server.url, uuid]) == ["refused", "refused", "refused", 1006]
    for origin, allowed in ((web.shop.cross_site, web.shop.cross_site), (elsewhere, None)):
        with urlopen(Request(f"{api.url}{uuid}/?since=0", headers={"Origin": origin}), timeout=30) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == allowed
            assert (uuid in answer.read().decode()) == (allowed is not None)
    assert "403" in errors[0]
    assert [text for _, text in api.read(uuid)] == ["Hello from a widget"]

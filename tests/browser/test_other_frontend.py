"""A frontend that knows only the API, served by a dev server whose proxy changes the host, as Vite's does."""

from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.conftest import PASSWORD, Server

CUSTOMER = """async (texts) => {
    const seen = new Map();
    const show = ({ items }) => items.forEach((item) => seen.set(item.id, item));
    const newest = () => Math.max(0, ...seen.keys());
    const headers = { "Content-Type": "application/json" };
    let conversation;
    for (const content of texts) {
        const body = JSON.stringify({ content, conversation });
        const answer = await fetch(`/api/messages/?since=${newest()}`, { method: "POST", headers, body });
        if (!answer.ok) throw new Error(await answer.text());
        show(await answer.json());
        conversation ??= [...seen.values()][0].conversation;
        show(await (await fetch(`/api/messages/${conversation}/?since=${newest()}`)).json());
    }
    return [conversation, [...seen.values()].map((item) => item.content)];
}"""

AGENT = """async ([conversation, content]) => {
    const { items } = await (await fetch("/api/conversation/")).json();
    const found = items.find(({ uuid }) => uuid === conversation);
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ content, conversation: found.uuid });
    const post = async (more) => {
        const answer = await fetch("/api/messages/", { method: "POST", headers: { ...headers, ...more }, body });
        return [answer.status, await answer.json()];
    };
    const token = document.cookie.match(/csrftoken=([^;]+)/)?.[1];
    return [await post({}), await post({ "X-CSRFToken": token })];
}"""


@pytest.fixture
def frontend(server: Server) -> Iterator[str]:
    """The URL of a dev server: everything under /api/ and /inbox/ goes to Chatsite, with Chatsite's own host."""

    class Proxy(BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            if self.path == "/":
                return self.answer(200, [("Content-Type", "text/html")], b"<!doctype html><title>Frontend</title>")
            host = urlsplit(server.url).netloc
            upstream = HTTPConnection(host, timeout=30)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {**dict(self.headers.items()), "Host": host, "Connection": "close"}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in DROPPED]
            return self.answer(answer.status, kept, content)

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response(status)
            for name, value in [*headers, ("Content-Length", str(len(content)))]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = pass_on

        def log_message(self, *_: Any) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://localhost:{proxy.server_address[1]}"
    proxy.shutdown()
    proxy.server_close()


DROPPED = {"content-length", "transfer-encoding", "connection"}


def test_a_frontend_that_knows_only_the_api_works_behind_a_proxy_that_changes_the_host(
    chromium: Browser, frontend: str
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(frontend)
    conversation, contents = page.evaluate(CUSTOMER, ["Hello", "Is anybody there?"])
    assert contents == ["Hello", "Is anybody there?"]

    page.goto(f"{frontend}/inbox/sign-in/")
    page.fill("[name=username]", "bob")
    page.fill("[name=password]", PASSWORD)
    page.click("main [type=submit]")
    page.wait_for_url("**/inbox/")
    page.goto(frontend)
    refused, answered = page.evaluate(AGENT, [conversation, "Here I am"])
    assert refused[0] == 403
    for part in ("csrftoken", "X-CSRFToken", "Bearer"):
        assert part in refused[1]["detail"]
    assert answered[0] == 200
    assert [item["author"] for item in answered[1]["items"]] == ["CUS", "CUS", "AGE"]
    context.close()

"""Pages repeat nothing that a link chooses, so that the size of a compressed page reveals nothing about its messages.

See https://breachattack.com: an attacker who makes a browser open links and sees response sizes could guess texts.
"""

import gzip
from typing import Any
from urllib.parse import urlencode

import brotli
import pytest

from conversations.actions import post_message
from conversations.models import Conversation, Website
from tests.conftest import Page
from tests.test_hostile_requests import PARAMETERS, distinct_routes

pytestmark = pytest.mark.django_db

WORD = "zqvxkbwordofsomebodyelse"
VALUES = [WORD, f"https://{WORD}.example", f"de-{WORD}"]


@pytest.fixture
def long_talk(talk: Conversation) -> Conversation:
    """A conversation of more than one page, in which somebody has written."""
    for number in range(52):
        post_message(conversation=talk, content=f"Message {number}")
    website = Website.objects.create(key="shop", name="The shop")
    website.origins.create(origin="https://shop.example")
    return talk


def test_no_page_repeats_what_a_link_has_chosen(alice: Page, bobs: Page, long_talk: Conversation) -> None:
    alice.cookies["chat"] = long_talk.uuid.hex
    pages = [(alice, "/chat/"), (bobs, "/inbox/"), (bobs, f"/inbox/{long_talk.pk}/")]
    pages += [(alice, "/chat/messages/?before=99999"), (bobs, f"/inbox/{long_talk.pk}/messages/?before=99999")]
    for person, path in pages:
        for value in VALUES:
            for name in (*PARAMETERS, WORD):
                if len(path) < 20 or name in {"host", "language", "website", WORD}:
                    query = urlencode({name: value})
                    response = person.get(f"{path}{'&' if '?' in path else '?'}{query}")
                    assert response.status_code in {200, 204}
                    assert WORD not in response.content.decode().lower(), query


@pytest.mark.parametrize("route", [route for route in distinct_routes() if not route.startswith(("admin/", "api/"))])
def test_no_other_route_repeats_what_a_link_has_chosen(bobs: Page, talk: Conversation, route: str) -> None:
    if route == "inbox/sign-in/":
        pytest.skip("It repeats where to go on after signing in, and has no secret.")
    bobs.cookies["chat"] = talk.uuid.hex
    Website.objects.create(key="shop", name="The shop")
    path = "/" + route.replace("<key>", "shop").replace("<pk>", str(talk.pk)).replace("<uuid>", str(talk.uuid))
    for value in VALUES:
        response = bobs.get(
            path.replace("<", WORD).replace(">", "") + "?" + urlencode(dict.fromkeys(PARAMETERS, value))
        )
        assert WORD not in b"".join(response).decode(errors="replace").lower()


def test_pages_keep_their_own_query_parameters(alice: Page, bobs: Page, long_talk: Conversation) -> None:
    alice.cookies["chat-shop"] = long_talk.uuid.hex
    shop = "host=https%3A%2F%2Fshop.example"
    page = alice.get(f"/chat/shop/?{shop}&language=de&x={WORD}").content.decode()
    assert f"/chat/shop/messages/?{shop}&amp;language=de" in page
    assert 'data-host="https://shop.example"' in page
    page = bobs.get(f"/inbox/{long_talk.pk}/?website=shop&status=closed&x={WORD}").content.decode()
    assert 'href="?status=closed&amp;website=shop&amp;before=' in page
    assert 'href="?status=closed&amp;website=shop&amp;write=1"' in page


@pytest.mark.parametrize(("encoding", "unpack"), [("br", brotli.decompress), ("gzip", gzip.decompress)])
def test_the_chat_page_is_compressed(alice: Page, talk: Conversation, encoding: str, unpack: Any) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    response = alice.get("/chat/", headers={"Accept-Encoding": encoding})
    assert response["Content-Encoding"] == encoding
    assert "is anybody there?" in unpack(response.content).decode()


@pytest.mark.parametrize(
    ("accepted", "used"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("gzip; q=0.000 , BR;q=0.001", "br"),
        ("gzip;q=0", None),
        ("identity, br ; Q=0.0", None),
        ("x-gzip, brotli", None),
        ("", None),
    ],
)
def test_pages_and_scripts_are_compressed_only_as_the_browser_accepts(
    alice: Page, accepted: str, used: str | None
) -> None:
    for path in ("/chat/", "/chat.js"):
        response = alice.get(path, headers={"Accept-Encoding": accepted})
        assert response.headers.get("Content-Encoding") == used


def test_agents_pages_are_compressed_only_when_agents_open_them(bobs: Page, talk: Conversation) -> None:
    own = {"Accept-Encoding": "br", "Sec-Fetch-Site": "same-origin"}
    for path in ("/inbox/", f"/inbox/{talk.pk}/"):
        response = bobs.get(path, headers=own)
        assert "is anybody there?" in brotli.decompress(response.content).decode()
        for more in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Purpose": "prefetch"}, {"HX-Request": "true"}):
            assert "Content-Encoding" not in bobs.get(path, headers={**own, **more}), more
    assert "Content-Encoding" not in bobs.get("/inbox/list/", headers=own)
    assert "Content-Encoding" not in bobs.get(f"/inbox/{talk.pk}/messages/", headers=own)

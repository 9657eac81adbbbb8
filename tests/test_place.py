"""A page at a message in the middle of its conversation, and the way from there to the end."""

import re
from typing import Any

import pytest

from conversations.actions import post_message, take_back, write_note
from conversations.models import Agent, Conversation, Reading
from conversations.screen.paging import MAX_BYTES, PAGE_SIZE
from tests.conftest import Page, texts
from tests.test_delivery import OUT_OF_BAND
from tests.test_paging import HALF, ids, older

pytestmark = pytest.mark.django_db


def ask_for_newer(response: Any) -> str:
    """The query by which the page's script asks for newer messages; "" if there are none."""
    found = re.search(r"since=\d+&amp;page=1", response.content.decode())
    return found[0].replace("&amp;", "&") if found else ""


@pytest.fixture
def long_talk(talk: Conversation, bob: Any) -> list[int]:
    """A conversation with messages, notes and activities; the ids of all of them."""
    entries = [talk.last_message_id]
    for number in range(3 * PAGE_SIZE):
        if number % 7:
            agent = bob if number % 3 else None
            entries.append(post_message(content=f"Message {number}", conversation=talk, agent=agent).pk)
        else:
            entries.append(write_note(content=f"Note {number}", conversation=talk, agent=bob).pk)
    return entries


@pytest.mark.parametrize("place", [0, 1, 20, 70, 71, 72, 120, 149, 150])
def test_a_page_in_the_middle_and_all_that_it_adds_is_the_whole_conversation(
    talk: Conversation, long_talk: list[int], bobs: Page, place: int
) -> None:
    path = f"/inbox/{talk.pk}/"
    response = bobs.get(f"{path}?at={long_talk[place]}")
    shown = ids(response)
    assert long_talk[place] in shown
    assert len(shown) <= PAGE_SIZE
    assert f'data-row="message-{long_talk[place]}"' in response.content.decode()
    before = response
    while query := older(before):
        before = bobs.htmx(f"{path}messages/?{query}")
        shown = ids(before) + shown
    after = response
    while query := ask_for_newer(after):
        assert bobs.htmx(f"{path}messages/?gap=1&since={shown[-1]}").status_code == 204
        after = bobs.htmx(f"{path}messages/?{query}")
        assert "HX-Trigger" not in after
        shown += ids(after)
    assert [pk for pk in shown if pk in long_talk] == long_talk
    assert shown == sorted(set(shown))
    assert bobs.htmx(f"{path}messages/?since={shown[-1]}").status_code == 204


def test_rows_in_the_middle_look_as_they_do_on_any_page(talk: Conversation, long_talk: list[int], bobs: Page) -> None:
    def rows(response: Any) -> dict[str, str]:
        html = re.sub(r"\s+", " ", response.content.decode())
        return dict(re.findall(r'<li id="(message-\d+)" (.*?)</li>', html))

    middle = rows(bobs.get(f"/inbox/{talk.pk}/?at={long_talk[60]}"))
    newest = rows(bobs.get(f"/inbox/{talk.pk}/?before={long_talk[60] + 20}"))
    both = middle.keys() & newest.keys()
    assert len(both) > 30
    assert {pk: middle[pk] for pk in both} == {pk: newest[pk] for pk in both}


def test_the_links_lead_through_the_conversation_without_scripts(
    talk: Conversation, long_talk: list[int], bobs: Page
) -> None:
    page = bobs.get(f"/inbox/{talk.pk}/?status=closed&at={long_talk[40]}").content.decode()
    link = re.search(r'href="(\?status=closed&amp;at=(\d+)#message-(\d+))"', page)
    assert link
    assert link[2] == link[3]
    following = bobs.get(f"/inbox/{talk.pk}/" + link[1].replace("&amp;", "&").partition("#")[0])
    assert int(link[2]) in ids(following)
    assert ids(following)[-1] > int(link[2])
    assert f'<a class="pill newest" href="/inbox/{talk.pk}/?status=closed"' in page


@pytest.mark.parametrize("at", ["0", "-1", "x", "9" * 30, str(2**62), ""])
def test_a_place_that_is_nowhere_is_the_newest_page(
    talk: Conversation, long_talk: list[int], bobs: Page, at: str
) -> None:
    response = bobs.get(f"/inbox/{talk.pk}/?at={at}")
    assert ids(response) == ids(bobs.get(f"/inbox/{talk.pk}/"))
    assert not ask_for_newer(response)


def test_a_message_that_was_deleted_has_a_place(talk: Conversation, long_talk: list[int], bobs: Page) -> None:
    talk.messages.filter(pk=long_talk[52]).delete()
    assert {long_talk[51], long_talk[53]} < set(ids(bobs.get(f"/inbox/{talk.pk}/?at={long_talk[52]}")))


def test_what_is_below_the_page_is_not_read(talk: Conversation, long_talk: list[int], bobs: Page, bob: Any) -> None:
    headers = {"HX-Request": "true"}
    bobs.get(f"/inbox/{talk.pk}/?at={long_talk[40]}", headers=headers)
    assert Reading.objects.of(bob, talk.pk) is None
    bobs.get(f"/inbox/{talk.pk}/?at={long_talk[-3]}", headers=headers)
    reading = Reading.objects.of(bob, talk.pk)
    assert reading
    assert reading.last_message_id >= long_talk[-2]


def test_a_page_in_the_middle_can_jump_to_the_newest(talk: Conversation, long_talk: list[int], bobs: Page) -> None:
    newest = bobs.htmx(f"/inbox/{talk.pk}/messages/?newest=1")
    assert ids(newest) == ids(bobs.get(f"/inbox/{talk.pk}/"))
    assert older(newest)


def test_a_page_in_the_middle_comes_in_a_response_that_a_slow_line_can_take(talk: Conversation, bobs: Page) -> None:
    sent = [post_message(content=HALF, conversation=talk).pk for _ in range(9)]
    response = bobs.get(f"/inbox/{talk.pk}/?at={sent[4]}")
    assert sent[4] in ids(response)
    assert len("".join(texts(response)).encode()) <= MAX_BYTES


def test_a_page_in_the_middle_hears_that_the_state_has_changed(
    talk: Conversation, long_talk: list[int], bobs: Page
) -> None:
    response = bobs.htmx(f"/inbox/{talk.pk}/messages/?gap=1&since={long_talk[40]}&state=other")
    assert response["HX-Trigger"] == "state"


def test_a_page_in_the_middle_learns_what_was_taken_back(
    talk: Conversation, long_talk: list[int], bob: Agent, bobs: Page
) -> None:
    mine = talk.messages.filter(agent=bob).order_by("pk")[20]
    path = f"/inbox/{talk.pk}/"
    page = bobs.get(f"{path}?at={mine.pk}").content.decode()
    [known] = re.findall(r'<found-message [^>]*data-last="(\d+)"', page)
    poll = f"{path}messages/?since={mine.pk + 10}&gap="
    assert bobs.htmx(poll + known).status_code == 204
    take_back(conversation=talk, pk=mine.pk, by=bob)
    news = bobs.htmx(poll + known)
    assert ids(news) == [mine.pk]
    assert "You removed this message" in news.content.decode()
    assert OUT_OF_BAND in news.content.decode()
    assert bobs.htmx(poll + news["X-Removal"]).status_code == 204

"""The inbox: its list, filters and conversation pages, with plain forms and with htmx."""

import gzip
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import brotli
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import URLResolver, get_resolver
from django.utils import timezone

from conversations.actions import close, create_label, label, mark_read, post_message, take
from conversations.actions.save_view import save_view
from conversations.agent.customer_details import state_version
from conversations.agent.inbox import shown_count
from conversations.models import Agent, Conversation, Reading
from conversations.models.prepared import AtLeast
from conversations.presence import agents
from conversations.screen import bundles
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db


def rows(response: Any) -> list[str]:
    """The names in the list, from top to bottom."""
    return re.findall(r'<span class="who">(.*?)</span>', response.content.decode())


def unread(response: Any) -> list[int]:
    """The unread counts in the list, from top to bottom."""
    return [int(count) for count in re.findall(r'<span class="count">(\d+)', response.content.decode())]


def count_of_unread(agent: Agent) -> int:
    """How many messages the agent has not read in the one conversation there is."""
    found: Any = Conversation.objects.with_unread(agent.pk).get()
    return int(found.unread)


def begin(name: str, *more: str) -> Conversation:
    """A conversation of a customer."""
    conversation = post_message(content=f"I am {name}", name=name).conversation
    for text in more:
        conversation = post_message(content=text, conversation=conversation).conversation
    return conversation


def test_every_page_needs_a_signed_in_agent(mallory: Page, talk: Conversation) -> None:
    for path in ["/inbox/", "/inbox/list/", f"/inbox/{talk.pk}/", f"/inbox/{talk.pk}/messages/"]:
        response = mallory.get(path)
        assert response.status_code == 302
        assert response["Location"].startswith("/inbox/sign-in/?next=/inbox/")
        assert mallory.htmx(path).status_code == 401
    assert mallory.post(f"/inbox/{talk.pk}/close/").status_code == 302
    talk.refresh_from_db()
    assert talk.is_open


def test_a_user_who_is_not_an_agent_gets_403_with_a_sentence(mallory: Page, talk: Conversation) -> None:
    mallory.force_login(User.objects.create_user("mallory"))
    response = mallory.get(f"/inbox/{talk.pk}/")
    assert response.status_code == 403
    assert "Your account is not an agent" in response.content.decode().replace("&#x27;", "'")


def test_the_list_shows_names_last_lines_and_unread_counts_newest_first(bobs: Page, bob: Agent) -> None:
    first = begin("First")
    begin("Second", "more", "and\n\nmore  of it")
    post_message(content="again", conversation=first)
    post_message(content="hello", conversation=begin("Third"), agent=bob)
    page = bobs.get("/inbox/")
    assert rows(page) == ["Third", "First", "Second"]
    assert unread(page) == [2, 3]  # Third is answered
    assert "and more of it" in page.content.decode()
    assert "(2) Inbox" in page.content.decode()


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_opening_a_conversation_marks_it_read_for_this_agent_alone(bobs: Page, carols: Page, site: str) -> None:
    talk = begin("Alice", "more")
    assert unread(bobs.get("/inbox/list/")) == [2]
    bobs.get(f"/inbox/{talk.pk}/", headers={"Sec-Fetch-Site": site})
    assert unread(bobs.get("/inbox/list/")) == []
    assert unread(carols.get("/inbox/list/")) == [2]
    post_message(content="news", conversation=talk)
    assert unread(bobs.get("/inbox/list/")) == [1]


def test_an_answer_marks_it_read_for_all_agents(bobs: Page, carols: Page) -> None:
    talk = begin("Alice", "more")
    bobs.answers(talk, "Hi Alice")
    assert unread(carols.get("/inbox/list/")) == []
    assert "(" not in re.findall("<title>(.*?)</title>", carols.get("/inbox/").content.decode())[0]


def test_the_read_position_never_goes_back_nor_past_the_end(bob: Agent) -> None:
    talk = begin("Alice", "two", "three")
    two = talk.messages.get(content="two").pk
    for last, expected in [(two, 1), (0, 1), (two + 1000, 0), (two, 0)]:
        mark_read(conversation=talk, agent=bob, last=last)
        assert count_of_unread(bob) == expected
    assert Reading.objects.get().last_message_id == talk.last_message_id


def test_a_post_marks_as_read_up_to_a_message(bobs: Page, bob: Agent) -> None:
    talk = begin("Alice", "two")
    response = bobs.htmx(f"/inbox/{talk.pk}/read/", {"last": str(talk.last_message_id)})
    assert (response.status_code, response["HX-Trigger"]) == (204, "inbox")
    assert count_of_unread(bob) == 0
    for wrong in ["", "x", "-1", "9" * 30]:
        assert bobs.htmx(f"/inbox/{talk.pk}/read/", {"last": wrong}).status_code == 422


def test_the_filters_choose_the_rows(bobs: Page, bob: Agent, carol: Agent) -> None:
    take(conversation=begin("Mine"), by=bob)
    take(conversation=begin("Carols"), by=carol)
    begin("Nobodys")
    close(conversation=begin("Closed"))
    for query, expected in [
        ("", ["Nobodys", "Carols", "Mine"]),
        ("?whose=mine", ["Mine"]),
        ("?whose=nobody", ["Nobodys"]),
        ("?status=closed", ["Closed"]),
        ("?status=closed&whose=mine", []),
        ("?status=nonsense&whose=nonsense&rows=x", ["Nobodys", "Carols", "Mine"]),
    ]:
        assert rows(bobs.get(f"/inbox/{query}")) == rows(bobs.get(f"/inbox/list/{query}")) == expected, query


def test_an_empty_list_says_why(bobs: Page) -> None:
    for query, sentence in [
        ("", "No one is waiting. New conversations appear here by themselves."),
        ("?whose=mine", "No open conversations are assigned to you."),
        ("?whose=nobody", "There are no unassigned conversations."),
        ("?status=closed", "There are no closed conversations yet."),
    ]:
        assert sentence in bobs.get(f"/inbox/{query}").content.decode()


def test_fifty_rows_and_more_on_demand(bobs: Page) -> None:
    for number in range(55):
        begin(f"Customer {number}")
    page = bobs.get("/inbox/")
    assert len(rows(page)) == 50
    more = re.search(r'href="(/inbox/\?after=\d+)" hx-get="([^"]*)"[^>]*>Show more', page.content.decode())
    assert more
    rest = bobs.get(more[1])
    assert rows(rest) == rows(bobs.htmx(more[2].replace("&amp;", "&"))) == [f"Customer {n}" for n in (4, 3, 2, 1, 0)]
    assert "Show more" not in rest.content.decode()
    assert "Back to the start of the list" in rest.content.decode()
    refreshed = bobs.htmx("/inbox/list/?rows=55")
    assert rows(refreshed) == rows(page) + rows(rest)


def test_colleagues_see_who_has_taken_a_conversation(bobs: Page, carols: Page, talk: Conversation) -> None:
    assert "unassigned" in carols.get(f"/inbox/{talk.pk}/").content.decode()
    assert bobs.post(f"/inbox/{talk.pk}/take/").status_code == 302
    page = carols.get(f"/inbox/{talk.pk}/").content.decode()
    assert "assigned to Bob" in page
    assert "Assign to me" in page
    assert '<span class="taken" dir="auto">Bob</span>' in page
    assert "assigned to you" in bobs.get(f"/inbox/{talk.pk}/").content.decode()


def test_when_two_agents_take_at_once_the_second_gets_409(
    bobs: Page, carols: Page, bob: Agent, talk: Conversation
) -> None:
    bobs.post(f"/inbox/{talk.pk}/take/", {"seen_assignee": ""})
    page = carols.post(f"/inbox/{talk.pk}/take/", {"seen_assignee": ""})
    assert page.status_code == 409
    assert "just been assigned to Bob" in page.content.decode()
    part = carols.htmx(f"/inbox/{talk.pk}/take/", {"seen_assignee": ""})
    assert "just been assigned to Bob" in part.content.decode()
    talk.refresh_from_db()
    assert talk.assignee_id == bob.pk
    carols.post(f"/inbox/{talk.pk}/take/", {"seen_assignee": str(bob.pk)})  # she has seen it, and takes it over
    talk.refresh_from_db()
    assert talk.assignee_id != bob.pk


def test_answering_closing_and_reopening_with_plain_forms(bobs: Page, talk: Conversation) -> None:
    here = f"/inbox/{talk.pk}/"
    assert bobs.answers(talk, "Yes, I am here")["Location"] == here
    assert texts(bobs.get(here)) == ["Hello, is anybody there?", "Yes, I am here"]
    assert bobs.closes(talk) == here
    assert "Closed" in bobs.get(here).content.decode()
    assert rows(bobs.get("/inbox/")) == []
    bobs.post(f"{here}open/")
    assert rows(bobs.get("/inbox/")) == ["Alice"]


def test_the_filters_are_kept_after_an_action(bobs: Page, talk: Conversation) -> None:
    assert bobs.closes(talk, "?whose=nobody") == f"/inbox/{talk.pk}/?whose=nobody"


def test_htmx_gets_the_conversation_alone_and_a_history_restore_the_whole_page(bobs: Page, talk: Conversation) -> None:
    here = f"/inbox/{talk.pk}/"
    assert "<html" in bobs.get(here).content.decode()
    assert "<html" not in bobs.htmx(here).content.decode()
    assert "<html" in bobs.htmx(here, **{"HX-History-Restore-Request": "true"}).content.decode()


def test_a_poll_triggers_a_refresh_when_the_state_has_changed(bobs: Page, bob: Agent, talk: Conversation) -> None:
    path = f"/inbox/{talk.pk}/messages/?since={talk.last_message_id}&state="
    assert "HX-Trigger" not in bobs.get(path + state_version(talk, None))
    shown = talk.state
    take(conversation=talk, by=bob)
    response = bobs.get(path + shown)
    assert response["HX-Trigger"] == "state"


def test_an_empty_answer_is_422_with_a_sentence(bobs: Page, talk: Conversation) -> None:
    page = bobs.answers(talk, "  ")
    assert page.status_code == 422
    assert "Write something first" in page.content.decode()
    assert talk.messages.count() == 1


def test_unknown_conversations_are_404_everywhere(bobs: Page, talk: Conversation) -> None:
    for path in ["", "messages/", "state/"]:
        assert bobs.get(f"/inbox/{talk.pk}/{path}").status_code in {200, 204}
        assert bobs.get(f"/inbox/999999/{path}").status_code == 404
        assert bobs.get(f"/inbox/{10**30}/{path}").status_code == 404
    for verb in ["messages", "read", "take", "close", "open"]:
        assert bobs.post(f"/inbox/999999/{verb}/", {"content": "x", "last": "1"}).status_code == 404


def test_the_read_position_never_goes_back_when_two_tabs_mark_at_once(
    bob: Agent, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        last = post_message(content=f"{number}", conversation=talk)
    talk.refresh_from_db()
    lock = type(Conversation.objects.all()).lock

    def meanwhile(self: Any, pk: int) -> Conversation:
        monkeypatch.undo()
        mark_read(conversation=talk, agent=bob, last=last.pk)  # the other tab
        return lock(self, pk)

    monkeypatch.setattr(type(Conversation.objects.all()), "lock", meanwhile)
    mark_read(conversation=talk, agent=bob, last=last.pk - 3)
    assert Reading.objects.get().last_message_id == last.pk


def test_an_e_mail_address_cannot_add_headers_to_its_mailto_link(bobs: Page) -> None:
    talk = post_message(content="Hi", email="boss?bcc=evil@evil.example").conversation
    assert 'href="mailto:boss%3Fbcc%3Devil@evil.example"' in bobs.get(f"/inbox/{talk.pk}/").content.decode()


def test_a_row_shows_how_long_its_customer_has_waited(bobs: Page, talk: Conversation) -> None:
    assert 'class="waits' not in bobs.get("/inbox/list/").content.decode()  # that it is unread says enough
    for minutes, word in [(6, "soon"), (31, "late")]:
        Conversation.objects.update(waiting_since=timezone.now() - timedelta(minutes=minutes))
        assert f'class="waits {word}"' in bobs.get("/inbox/list/").content.decode()
    bobs.answers(talk, "Hi")
    assert 'class="waits' not in bobs.get("/inbox/list/").content.decode()


def test_agents_see_their_own_client_ids_alone(bobs: Page, carols: Page, talk: Conversation) -> None:
    name = "7d3a1c52-9e04-4f6b-8a21-5b0c9d7e4f13"
    bobs.answers(talk, "Hi", client_id=name)
    assert name in bobs.get(f"/inbox/{talk.pk}/").content.decode()
    assert name not in carols.get(f"/inbox/{talk.pk}/").content.decode()


@pytest.mark.parametrize("count", [3, 60])
def test_the_list_costs_the_same_queries_however_much_there_is(
    bobs: Page, bob: Agent, count: int, django_assert_num_queries: Any
) -> None:
    billing = create_label(name="Billing")
    for number in range(count):
        conversation = begin(f"Customer {number}", *["more"] * (number % 3))
        label(conversation=conversation, add=[billing])
        if number % 2:
            take(conversation=conversation, by=bob)
    for number in range(count % 20):
        save_view(name=f"{number}", query=f"label={billing.pk}&website=default", by=bob, for_team=number % 2 == 0)
    bobs.get("/inbox/list/")  # then it is known for a minute which indexes find the fewest
    with django_assert_num_queries(8):  # session, agent, websites, conversations, drafts, labels, saved views, counts
        bobs.get("/inbox/list/")


def test_customers_never_see_a_username(alice: Page, bobs: Page, bob: Agent, carols: Page, talk: Conversation) -> None:
    User.objects.filter(pk=bob.pk).update(first_name="", username="bobs-secret-login")
    alice.cookies["chat"] = talk.uuid.hex
    agents.mark_online(Agent.objects.get(pk=bob.pk))
    bobs.answers(talk, "Yes, I am here")
    for path in ["/chat/", "/chat/messages/?since=0", f"/api/messages/{talk.uuid}/"]:
        page = alice.get(path).content.decode()
        assert "Yes, I am here" in page
        assert "bobs-secret-login" not in page
    assert '<span class="name">Agent</span>' in alice.get("/chat/").content.decode()
    assert "bobs-secret-login" in carols.get(f"/inbox/{talk.pk}/").content.decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none", "Sec-Purpose": "prefetch;prerender"},
        {},  # the page's script marks it as read
    ],
)
def test_a_page_that_another_site_opens_marks_nothing_as_read(
    bobs: Page, talk: Conversation, headers: dict[str, str]
) -> None:
    page = bobs.get(f"/inbox/{talk.pk}/", headers=headers).content.decode()
    assert not Reading.objects.exists()
    assert 'data-read-up-to="0"' in page


def urls(patterns: list[Any], prefix: str = "/") -> Iterator[str]:
    """The routes of these patterns."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from urls(pattern.url_patterns, route)
        else:
            yield route


def test_a_get_from_another_site_writes_nothing_anywhere(talk: Conversation) -> None:
    root = User.objects.create_superuser("root", password="x")
    Agent.objects.promote(root)
    page = Page(raise_request_exception=False)
    page.force_login(root)
    page.cookies["chat"] = talk.uuid.hex
    values = {"key": "default", "app_label": "conversations", "url": "", "uuid": str(talk.uuid)}
    written: list[str] = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        if re.match(r"\s*(INSERT|UPDATE|DELETE|REPLACE)", sql, re.IGNORECASE):
            written.append(f"{path}: {sql}")
        return execute(sql, *rest)

    answers = set()
    for route in urls(get_resolver().url_patterns):
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: values.get(match[1], str(talk.pk)), route)
        path = re.sub(r"\(\?P<(\w+)>[^)]*\)|[$^]", lambda match: values.get(match[1] or "url", ""), path)
        with connection.execute_wrapper(watch):
            for method in (page.get, page.head):
                answers.add((path, method(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code))
    assert written == []
    assert len([path for path, status in answers if status == 200]) > 40
    assert [path for path, status in answers if status >= 500] == []


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("/inbox/", ["css", "js"]),
        ("/inbox/{pk}/", ["css", "js"]),
        ("/inbox/me/", ["css", "js"]),
        ("/nothing/", ["css"]),
    ],
)
def test_a_page_has_one_packed_style_and_at_most_one_packed_script(
    bobs: Page, talk: Conversation, path: str, kinds: list[str]
) -> None:
    page = bobs.get(path.format(pk=talk.pk)).content.decode()
    addresses = re.findall(r'<(?:link rel="stylesheet" href|script[^>]* src)="([^"]*)"', page)
    assert [address.rpartition(".")[2] for address in addresses] == kinds
    for address in addresses:
        plain = bobs.get(address)
        assert "immutable" in plain["Cache-Control"]
        assert not plain.cookies
        assert plain.get("Vary") == "Accept-Encoding"
        assert b"/* " not in plain.content
        assert b"\n  " not in plain.content
        for encoding, unpack in (("br", brotli.decompress), ("gzip", gzip.decompress)):
            packed = bobs.get(address, headers={"Accept-Encoding": encoding})
            assert (packed["Content-Encoding"], unpack(packed.content)) == (encoding, plain.content)
            assert len(packed.content) < len(plain.content) * 0.6
        old = bobs.get(re.sub("[0-9a-f]{12}", "000000000000", address))
        assert old.content == plain.content
        assert "immutable" not in old["Cache-Control"]


def test_unknown_bundles_do_not_exist(bobs: Page) -> None:
    for made_up in ("chat.000000000000.css", "inbox.000000000000.map", "loader.000000000000.js", "inbox.js"):
        assert bobs.get(f"/assets/{made_up}").status_code == 404


def test_a_changed_file_is_read_again_in_debug_mode_only(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bundles.url("inbox.css")
    monkeypatch.setattr(bundles, "read", lambda name: f"/* {name} */ a {{ color: red }}")
    assert bundles.url("inbox.css") == before
    settings.DEBUG = True
    assert bundles.url("inbox.css") != before
    bundles._bundle.cache_clear()


def test_a_list_that_has_not_changed_is_not_sent_again(bobs: Page, talk: Conversation) -> None:
    page = bobs.get("/inbox/").content.decode()
    [known] = re.findall(r'data-digest="(\w+)"', page)
    assert bobs.htmx(f"/inbox/list/?shown=&known={known}").status_code == 204
    assert bobs.htmx(f"/inbox/list/?shown=&known={known}&chosen={talk.pk}").status_code == 200  # another row is current
    post_message(conversation=talk, content="Are you there?")
    changed = bobs.htmx(f"/inbox/list/?shown=&known={known}")
    assert "Are you there?" in changed.content.decode()
    [known] = re.findall(r'data-digest="(\w+)"', changed.content.decode())
    Conversation.objects.filter(pk=talk.pk).update(assignee=bobs.session["_auth_user_id"])  # a count changes
    assert bobs.htmx(f"/inbox/list/?shown=&known={known}").status_code == 200


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (99, "99"), (100, "99+"), (AtLeast(3), "3+"), (AtLeast(0), ""), (AtLeast(200), "99+")],
)
def test_a_tab_says_that_a_count_may_be_higher(count: int, shown: str) -> None:
    assert shown_count(count) == shown

"""Menus and forms that change one conversation or several at once, undoing it, and saved views."""

import html
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from conversations.actions import assign, close, create_label, label, post_message, prioritize, snooze
from conversations.agent.changes import moments
from conversations.agent.inbox import MAX_ROWS
from conversations.models import Agent, Conversation, Label, SavedView, Website
from conversations.models import conversation as conversation_model
from tests.conftest import Page

pytestmark = pytest.mark.django_db


def begin(name: str = "Alice", website: Website | None = None) -> Conversation:
    """A conversation of a customer."""
    return post_message(content="Hello?", name=name, website=website).conversation


def now(*conversations: Conversation) -> list[Conversation]:
    """The conversations as they are now."""
    return [Conversation.objects.get(pk=each.pk) for each in conversations]


def undo(page: Page, response: Any, **headers: Any) -> Any:
    """Press Undo."""
    found = re.search(r'name="changed" value="([^"]*)"', response.content.decode())
    assert found
    return page.post("/inbox/undo/", {"changed": html.unescape(found[1])}, **headers)


def pks(*conversations: Conversation) -> list[str]:
    """The values of their boxes."""
    return [f"{each.pk}-{each.last_message_id}" for each in conversations]


@pytest.mark.parametrize("way", ["with scripts", "without"])
def test_several_conversations_are_changed_at_once_and_changed_back(
    bobs: Page, bob: Agent, carol: Agent, way: str
) -> None:
    one, two, three = begin(), begin(), begin()
    billing = create_label(name="Billing")
    label(conversation=two, add=[billing])
    assign(conversation=one, to=bob)
    send = bobs.htmx if way == "with scripts" else bobs.post
    tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
    steps: list[tuple[dict[str, Any], Callable[[Conversation], Any], list[Any], list[Any]]] = [
        ({"assignee": carol.pk}, lambda each: each.assignee_id, [bob.pk, None], [carol.pk, carol.pk]),
        ({"assignee": ""}, lambda each: each.assignee_id, [bob.pk, None], [None, None]),
        ({"priority": "4"}, lambda each: each.priority, [None, None], [4, 4]),
        ({"add": billing.pk}, lambda each: each.labels, [[], [billing.pk]], [[billing.pk], [billing.pk]]),
        ({"remove": billing.pk}, lambda each: each.labels, [[], [billing.pk]], [[], []]),
        ({"until": tomorrow}, lambda each: each.is_snoozed, [False, False], [True, True]),
        ({"status": "CLOSED"}, lambda each: each.status, ["OPEN", "OPEN"], ["CLOSED", "CLOSED"]),
    ]
    for form, read, before, after in steps:
        response = send("/inbox/changes/", {"pk": pks(one, two), **form})
        assert response.status_code == 200, form
        assert [read(each) for each in now(one, two)] == after, form
        assert "Undo" in response.content.decode()
        assert undo(bobs, response).status_code == 200
        assert [read(each) for each in now(one, two)] == before, form
    [untouched] = now(three)
    assert (untouched.assignee_id, untouched.priority, untouched.labels, untouched.is_open) == (None, None, [], True)


def test_the_answer_to_a_change_and_its_undo_has_the_new_header_of_the_page(
    bobs: Page, carol: Agent, talk: Conversation
) -> None:
    there = {"HX-Request": "true", "HX-Current-URL": f"http://testserver/inbox/{talk.pk}/?status=all"}
    changed = bobs.post("/inbox/changes/?status=all", {"pk": talk.pk, "assignee": carol.pk}, headers=there)
    undone = undo(bobs, changed, headers=there)
    for response, words in ((changed, "assigned to Carol"), (undone, "unassigned")):
        text = response.content.decode()
        assert f"innerHTML:[data-conversation='{talk.pk}'] #state" in html.unescape(text)
        assert words in text
        assert response.headers["HX-Trigger"] == "inbox, about"


@pytest.mark.parametrize("shown", ["", "{hers}/", "999999999/", f"{'9' * 40}/", "search/?q=["])
def test_a_page_without_a_conversation_of_the_agent_gets_no_header(
    bobs: Page, bob: Agent, talk: Conversation, shown: str
) -> None:
    talk.website.agents.add(bob)
    hers = begin(website=Website.objects.create(key="shop", name="Shop"))
    there = {"HX-Request": "true", "HX-Current-URL": f"http://testserver/inbox/{shown.format(hers=hers.pk)}"}
    response = bobs.post("/inbox/changes/", {"pk": talk.pk, "priority": "4"}, headers=there)
    assert "#state" not in response.content.decode()
    assert response.headers["HX-Trigger"] == "inbox, state"


def test_the_thread_says_who_changed_what(bobs: Page, carols: Page, talk: Conversation) -> None:
    billing = create_label(name="Billing <b>")
    for form in (
        {"add": billing.pk},
        {"remove": billing.pk},
        {"priority": "4"},
        {"priority": ""},
        {"until": "2030-01-02T09:00+00:00"},
        {"until": ""},
    ):
        bobs.htmx("/inbox/changes/", {"pk": talk.pk, **form})
    for reader, who in ((bobs, "You"), (carols, "Bob")):
        page = reader.get(f"/inbox/{talk.pk}/").content.decode()
        for what in (
            "added the label Billing &lt;b&gt;",
            "removed the label Billing &lt;b&gt;",
            "set the priority to urgent",
            "removed the priority",
            'snoozed this until <local-time data-as="full"><time datetime="2030-01-02T09:00:00+00:00">Jan',
            "ended the snooze",
        ):
            assert f"{who} {what}" in page


def test_undo_leaves_alone_what_has_been_changed_since(bobs: Page, bob: Agent, carol: Agent) -> None:
    one, two = begin(), begin()
    response = bobs.htmx("/inbox/changes/", {"pk": pks(one, two), "assignee": bob.pk})
    assign(conversation=one, to=carol)
    assert "Undone for" in undo(bobs, response).content.decode()
    assert [each.assignee_id for each in now(one, two)] == [carol.pk, None]
    assert "changed since" in undo(bobs, response).content.decode()


@pytest.mark.parametrize("form", [{"status": "OPEN"}, {"until": ""}])
def test_undo_hides_no_message_that_has_come_since(bobs: Page, form: dict[str, str]) -> None:
    one, two = begin(), begin()
    for each in (one, two):
        if "status" in form:
            close(conversation=each)
        else:
            snooze(conversation=each, until=timezone.now() + timedelta(days=1))
    response = bobs.htmx("/inbox/changes/", {"pk": pks(one, two), **form})
    post_message(content="One more thing", conversation=one)
    assert "Undone for 1 conversation." in undo(bobs, response).content.decode()
    assert [each.is_open and not each.is_snoozed for each in now(one, two)] == [True, False]


def test_snoozing_several_leaves_what_has_a_new_message(bobs: Page) -> None:
    one, two = begin(), begin()
    selected = pks(one, two)
    post_message(content="One more thing", conversation=one)
    until = (timezone.now() + timedelta(days=1)).isoformat()
    response = bobs.htmx("/inbox/changes/", {"pk": selected, "until": until}).content.decode()
    assert "Snoozed: 1 conversation." in response
    assert "1 stays open: it has a new message." in response
    assert [each.is_snoozed for each in now(one, two)] == [False, True]


def test_a_colleague_who_has_left_takes_nothing_from_its_assignee(bobs: Page, bob: Agent, carol: Agent) -> None:
    one, two = begin(), begin()
    assign(conversation=two, to=carol)
    response = bobs.htmx("/inbox/changes/", {"pk": pks(one, two), "assignee": bob.pk})
    carol.is_active = False
    carol.save()
    late = bobs.htmx("/inbox/changes/", {"pk": pks(one, two), "assignee": carol.pk})  # from a menu that was open
    assert "Nothing has changed." in late.content.decode()
    assert [each.assignee_id for each in now(one, two)] == [bob.pk, bob.pk]
    assert "Undone for 1 conversation." in undo(bobs, response).content.decode()
    assert [each.assignee_id for each in now(one, two)] == [None, bob.pk]


def test_undo_of_labels_keeps_those_that_others_have_put_on(bobs: Page) -> None:
    one, billing, refund = begin(), create_label(name="Billing"), create_label(name="Refund")
    response = bobs.htmx("/inbox/changes/", {"pk": pks(one), "add": billing.pk})
    label(conversation=one, add=[refund])
    undo(bobs, response)
    assert now(one)[0].labels == [refund.pk]


@pytest.mark.parametrize("value", ["", "x", "W10:1:x:y"])
def test_an_undo_that_was_made_up_is_refused(bobs: Page, talk: Conversation, value: str) -> None:
    assert bobs.htmx("/inbox/undo/", {"changed": value}).status_code == 422


def test_closing_several_leaves_open_what_has_a_new_message(bobs: Page) -> None:
    one, two = begin(), begin()
    values = pks(one, two)
    post_message(content="Wait!", conversation=one)
    response = bobs.htmx("/inbox/changes/", {"pk": values, "status": "CLOSED"})
    assert [each.is_open for each in now(one, two)] == [True, False]
    assert "1 stays open: it has a new message." in response.content.decode()


def test_a_label_is_made_on_the_spot(bobs: Page, talk: Conversation) -> None:
    bobs.htmx("/inbox/changes/", {"pk": talk.pk, "name": "Große Rechnung", "colour": "teal"})
    made = Label.objects.get()
    assert (made.name, made.colour, now(talk)[0].labels) == ("Große Rechnung", "teal", [made.pk])
    page = bobs.get(f"/inbox/{talk.pk}/").content.decode()
    assert page.count('<bdi class="chip label-teal">Große Rechnung</bdi>') == 2  # in the list and above the messages


def test_what_cannot_be_understood_changes_nothing_and_says_why(bobs: Page, bob: Agent, talk: Conversation) -> None:
    assign(conversation=talk, to=bob)
    prioritize(conversation=talk, priority=3)
    close(conversation=talk)
    before = now(talk)[0].updated_at
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "Select at least one"),
        ({"pk": "999999999", "status": "CLOSED"}, "Select at least one"),
        ({"pk": talk.pk}, "Choose what to change"),
        ({"pk": talk.pk, "assignee": "carol"}, "Choose what to change"),
        ({"pk": talk.pk, "priority": "9"}, "Choose what to change"),
        ({"pk": talk.pk, "priority": "high"}, "Choose what to change"),
        ({"pk": talk.pk, "status": "SPAM"}, "Choose what to change"),
        ({"pk": talk.pk, "name": "  "}, "A label needs a name"),
        ({"pk": talk.pk, "at": "soon"}, "Enter a date"),
        ({"pk": talk.pk, "until": "2020-01-01T09:00"}, "in the past"),
        ({"pk": talk.pk, "until": "2999-01-01T09:00"}, "too far"),
        ({"pk": talk.pk, "until": "0001-01-01T00:00+14:00"}, "Enter a date"),
    ]
    for form, sentence in wrong:
        for send in (bobs.htmx, bobs.post):
            response = send("/inbox/changes/", form)
            assert response.status_code == 422, form
            assert sentence in response.content.decode(), form
    for form in (
        {"pk": talk.pk, "add": "99999"},
        {"pk": talk.pk, "assignee": "99999"},
    ):
        assert "Nothing has changed." in bobs.htmx("/inbox/changes/", form).content.decode()
    assert now(talk)[0].updated_at == before


def test_moments_are_in_the_time_zone_of_the_browser(bobs: Page, talk: Conversation) -> None:
    friday = datetime(2026, 11, 27, 23, 30, tzinfo=ZoneInfo("America/New_York"))
    assert [each.value[:16] for each in moments(friday)] == ["2026-11-28T00:30", "2026-11-28T09:00", "2026-11-30T09:00"]
    sunday = datetime(2026, 11, 29, 8, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    assert [each.value[:16] for each in moments(sunday)][1:] == ["2026-11-30T09:00", "2026-12-07T09:00"]
    menu = bobs.htmx(f"/inbox/changes/?menu=snooze&pk={talk.pk}&zone=Asia/Tokyo").content.decode()
    assert "T09:00+09:00" in menu
    assert re.search(r"Tomorrow, 9:00</span><local-time[^>]*><time[^>]*>\w+ 09:00<", menu)
    assert "Asia/Tokyo" in menu
    assert "UTC" in bobs.htmx(f"/inbox/changes/?menu=snooze&pk={talk.pk}&zone=../../x").content.decode()
    at = (timezone.now() + timedelta(days=2)).strftime("%Y-%m-%dT12:00")
    bobs.post("/inbox/changes/", {"pk": talk.pk, "at": at, "zone": "Asia/Tokyo"})
    assert now(talk)[0].snoozed_until == datetime.fromisoformat(f"{at}+09:00")


@pytest.mark.parametrize(
    ("clock", "zone"),
    [
        ("2026-10-25T00:30Z", "Europe/Berlin"),  # 2:30, and in an hour it is 2:30 again
        ("2026-03-29T00:30Z", "Europe/Berlin"),
        ("2026-04-04T14:50Z", "Australia/Lord_Howe"),  # by half an hour
        ("2026-11-28T10:00Z", "Asia/Kathmandu"),
    ],
)
def test_in_an_hour_is_in_an_hour_also_when_the_clock_changes(clock: str, zone: str) -> None:
    moment = datetime.fromisoformat(clock)
    in_an_hour = moments(moment.astimezone(ZoneInfo(zone)))[0]
    for found in (in_an_hour.at.astimezone(UTC), datetime.fromisoformat(in_an_hour.value)):
        assert found - moment == timedelta(hours=1)


def test_a_time_that_comes_twice_is_the_one_that_is_still_to_come(
    bobs: Page, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"pk": talk.pk, "at": "2026-10-25T02:45", "zone": "Europe/Berlin"}
    for clock, expected in (("00:40", "00:45"), ("01:40", "01:45")):
        monkeypatch.setattr(timezone, "now", partial(datetime.fromisoformat, f"2026-10-25T{clock}Z"))
        assert "Snoozed" in bobs.htmx("/inbox/changes/", form).content.decode()
        assert now(talk)[0].snoozed_until == datetime.fromisoformat(f"2026-10-25T{expected}Z")
    monkeypatch.setattr(timezone, "now", partial(datetime.fromisoformat, "2026-10-25T01:50Z"))
    assert "in the past" in bobs.htmx("/inbox/changes/", form).content.decode()


def test_each_menu_opens_for_one_and_for_several_with_scripts_and_without(bobs: Page) -> None:
    one, two = begin("Alice"), begin("Zed")
    label(conversation=one, add=[create_label(name="Billing")])
    prioritize(conversation=one, priority=3)
    for menu, words in [("assign", "Nobody"), ("label", "Billing"), ("priority", "Urgent"), ("snooze", "In an hour")]:
        part = bobs.htmx("/inbox/changes/", {"pk": pks(one, two), "menu": menu}).content.decode()
        assert words in part
        assert "2 conversations" in part
        assert "<html" not in part
        whole = bobs.get(f"/inbox/changes/?menu={menu}&pk={one.pk}").content.decode()
        assert words in whole
        assert "<html" in whole
        assert f'name="pk" value="{one.pk}"' in whole
    assert bobs.htmx("/inbox/changes/?menu=nonsense&pk=1").status_code == 422


def test_agents_change_only_what_they_may_see(bobs: Page, bob: Agent, carol: Agent) -> None:
    shop = Website.objects.create(key="shop", name="Shop")
    shop.agents.add(bob)
    elsewhere, there = begin(), begin(website=shop)
    bobs.htmx("/inbox/changes/", {"pk": pks(elsewhere, there), "status": "CLOSED"})
    assert [each.is_open for each in now(elsewhere, there)] == [True, False]
    assert bobs.htmx("/inbox/changes/", {"pk": pks(elsewhere), "menu": "label"}).status_code == 422
    carols = Page()
    carols.force_login(carol)
    response = carols.htmx("/inbox/changes/", {"pk": pks(elsewhere), "assignee": bob.pk})  # he does not see it
    assert "Nothing has changed." in response.content.decode()


def test_views_are_saved_for_oneself_and_for_the_team(bobs: Page, carols: Page, bob: Agent) -> None:
    billing = create_label(name="Billing")
    label(conversation=begin(), add=[billing])
    begin()
    query = f"?label={billing.pk}&order=waiting"
    assert bobs.post(f"/inbox/views/{query}", {"name": "Billing first"})["Location"] == f"/inbox/{query}"
    assert bobs.post("/inbox/views/?whose=mine", {"name": "Ours", "team": "on"}).status_code == 302
    page = bobs.get(f"/inbox/{query}").content.decode()
    assert '<span class="label" dir="auto">Billing first</span> <span class="n">1</span>' in page
    assert "Delete the view “Billing first”" in page
    theirs = carols.get("/inbox/").content.decode()
    assert "Ours" in theirs
    shown = [bobs.get(f"/inbox/{saved}").content.decode() for saved in (query, "?whose=mine", "?status=closed")]
    assert ['name="team" checked' in each for each in shown] == [False, True, False]
    assert ['value="Ours"' in each for each in shown] == [False, True, False]
    assert "Billing first" not in theirs
    own = SavedView.objects.get(owner=bob)
    assert carols.post(f"/inbox/views/{own.pk}/delete/").status_code == 404
    bobs.post(f"/inbox/views/?{own.query}", {"name": "Billing first"})  # again: it is the same one
    assert SavedView.objects.count() == 2
    assert bobs.post(f"/inbox/views/{own.pk}/delete/").status_code == 302
    assert bobs.post(f"/inbox/views/{own.pk}/delete/").status_code == 302
    assert [each.name for each in SavedView.objects.all()] == ["Ours"]
    assert bobs.post("/inbox/views/", {"name": " "}).status_code == 422


def test_what_is_chosen_in_the_filters_is_said_in_words(bobs: Page) -> None:
    prioritize(conversation=begin(), priority=4)
    page = read(bobs, "/inbox/?priority=4&order=waiting")
    assert '<span class="words" dir="auto">Urgent · Waiting longest</span>' in page
    assert '<option value="4" selected>Urgent</option>' in page
    assert 'title="Priority: urgent"' in page


def tab_counts(page: Any) -> dict[str, str]:
    return dict(re.findall(r'id="tab-(\w+)".*?<span class="n">([\d+]*)</span>', page.content.decode()))


def test_tabs_have_counts_up_to_99(bobs: Page, bob: Agent) -> None:
    talk = begin()
    assign(conversation=begin(), to=bob)
    close(conversation=begin())
    Conversation.objects.bulk_create(
        Conversation(website=talk.website, assignee=bob, last_message_id=n) for n in range(99)
    )
    others = {"snoozed": "0", "closed": "0", "mentions": "0"}
    shown = tab_counts(bobs.get("/inbox/list/?whose=mine"))
    assert shown == {"open": "99+", "all": "99+", "mine": "99+", "nobody": "1"} | others


def test_a_count_that_has_not_read_all_has_a_plus(bobs: Page, bob: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        begin()
    snooze(conversation=begin(), until=timezone.now() + timedelta(days=1), by=bob)
    monkeypatch.setattr(conversation_model, "MAX_READ", 4)
    shown = tab_counts(bobs.get("/inbox/list/"))
    assert (shown["open"], shown["nobody"], shown["snoozed"]) == ("4+", "4+", "1")


def test_another_list_is_told_from_the_same_one_again(bobs: Page, talk: Conversation) -> None:
    same = bobs.htmx("/inbox/list/?whose=mine&shown=%3Fwhose%3Dmine", **{"HX-Trigger": "tab-mine"})
    assert "HX-Push-Url" not in same
    assert 'id="lists"' not in same.content.decode()
    other = bobs.htmx(f"/inbox/list/?whose=mine&shown=&chosen={talk.pk}", **{"HX-Trigger": "tab-mine"})
    assert other["HX-Push-Url"] == f"/inbox/{talk.pk}/?whose=mine"
    assert 'id="lists"' in other.content.decode()
    back = bobs.htmx("/inbox/list/?whose=mine&shown=", **{"HX-Trigger": "list"})
    assert "HX-Push-Url" not in back


@pytest.mark.parametrize("query", ["", "?order=waiting", "?whose=nobody"])
def test_after_closing_an_agent_is_where_they_have_chosen_to_be(bobs: Page, query: str) -> None:
    oldest, middle, newest = begin(), begin(), begin()
    below = [middle, oldest] if query != "?order=waiting" else [newest, oldest]
    assert bobs.closes(middle, query) == f"/inbox/{middle.pk}/{query}"
    bobs.post(f"/inbox/{middle.pk}/open/")
    assert bobs.post(f"/inbox/after-closing/{query}", {"then": "next"})["Location"] == f"/inbox/{query}"
    above = newest if query != "?order=waiting" else middle
    assert bobs.closes(above, query) == f"/inbox/{below[0].pk}/{query}"
    response = bobs.htmx(f"/inbox/{below[0].pk}/close/{query}", {})
    left = {"path": f"/inbox/{oldest.pk}/{query}", "select": None}
    assert json.loads(response["HX-Trigger"])["left"] == left
    assert "Closed: 1 conversation." in response.content.decode()
    assert "Undone for 1 conversation." in undo(bobs, response).content.decode()
    bobs.closes(below[0])
    assert bobs.closes(oldest, query) == f"/inbox/{query}"  # none is left
    bobs.post(f"/inbox/{oldest.pk}/open/")
    bobs.post("/inbox/after-closing/", {"then": "list"})
    assert bobs.closes(oldest, query) == f"/inbox/{query}"
    assert bobs.post("/inbox/after-closing/", {"then": "nonsense"}).status_code == 422


def test_all_rows_of_a_long_list_are_changed_at_once_and_changed_back(bobs: Page, bob: Agent) -> None:
    talk = begin()
    Conversation.objects.bulk_create(Conversation(website=talk.website, last_message_id=n) for n in range(MAX_ROWS - 1))
    every = list(Conversation.objects.all())
    assert "500 conversations" in bobs.htmx("/inbox/changes/", {"pk": pks(*every), "menu": "assign"}).content.decode()
    response = bobs.htmx("/inbox/changes/", {"pk": pks(*every), "assignee": bob.pk})
    assert "500 conversations" in response.content.decode()
    assert Conversation.objects.filter(assignee=bob).count() == MAX_ROWS
    assert "500 conversations" in undo(bobs, response).content.decode()
    assert not Conversation.objects.filter(assignee=bob).exists()


@pytest.mark.parametrize("way", ["with scripts", "without"])
def test_snoozing_the_open_conversation_hides_no_message_that_has_come_since(
    bobs: Page, talk: Conversation, way: str
) -> None:
    page = bobs.get(f"/inbox/{talk.pk}/").content.decode()
    found = re.search(r'id="menu-snooze" [^>]*href="([^"]*)" hx-get="([^"]*)"', page)
    assert found
    address, fetched = map(html.unescape, found.groups())
    shown = talk.last_message_id
    post_message(content="One more thing", conversation=talk)
    menu = bobs.get(address) if way == "without" else bobs.htmx(f"{fetched}&last={shown}")  # read-mark.js adds it
    values = re.findall(r'name="pk" value="([^"]*)"', menu.content.decode())[-1:]
    tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
    response = bobs.htmx("/inbox/changes/", {"pk": values, "until": tomorrow})
    assert "1 stays open: it has a new message." in response.content.decode()
    assert not now(talk)[0].is_snoozed


def test_undoing_that_a_snoozed_one_was_closed_snoozes_it_again(bobs: Page) -> None:
    one, two = begin(), begin()
    until = timezone.now() + timedelta(days=1)
    for each in (one, two):
        snooze(conversation=each, until=until)
    response = bobs.htmx("/inbox/changes/", {"pk": pks(one, two), "status": "CLOSED"})
    post_message(content="One more thing", conversation=two)
    undo(bobs, response)
    assert [each.snoozed_until for each in now(one, two)] == [until, None]
    assert [each.is_open for each in now(one, two)] == [True, True]


def menu_of(page: Page, talk: Conversation, menu: str, query: str = "") -> tuple[str, dict[str, str]]:
    """Without scripts, open a menu of the open conversation: the address of its form, and what it sends."""
    shown = page.get(f"/inbox/{talk.pk}/{query}").content.decode()
    link = re.search(rf'id="menu-{menu}"[^>]* href="([^"]*)"', shown)
    assert link
    form = re.search(r'<choice-menu>.*? action="([^"]*)".*?name="pk" value="([^"]*)"', read(page, link[1]), re.DOTALL)
    assert form
    return html.unescape(form[1]), {"pk": form[2]}


def read(page: Page, url: str) -> str:
    """A page of the inbox, by a link in HTML."""
    return page.get(html.unescape(url)).content.decode()


@pytest.mark.parametrize(
    ("menu", "form", "field", "sentence"),
    [
        ("label", {"name": "Billing"}, "labels", "Label added: 1 conversation."),
        ("priority", {"priority": "4"}, "priority", "Priority changed: 1 conversation."),
        ("assign", {"assignee": ""}, "assignee", "Unassigned: 1 conversation."),
        ("snooze", {"until": "2126-01-01T09:00+00:00"}, "snoozed_until", "This is too far in the future."),
        ("snooze", {"until": "in an hour"}, "snoozed_until", "Snoozed: 1 conversation."),
    ],
)
def test_without_scripts_a_change_of_the_open_conversation_ends_there_and_is_undone_there(
    bobs: Page, bob: Agent, menu: str, form: dict[str, str], field: str, sentence: str
) -> None:
    talk = assign(conversation=begin(), to=bob)
    if form.get("until") == "in an hour":
        form = {"until": (timezone.now() + timedelta(hours=1)).isoformat()}
    query, before = "?whose=mine", getattr(talk, field)
    action, fields = menu_of(bobs, talk, menu, query)
    after = bobs.post(action, fields | form)
    assert after["Location"].startswith(f"/inbox/{talk.pk}/{query}&done=")
    shown = read(bobs, after["Location"])
    assert sentence in shown
    assert f'data-conversation="{talk.pk}"' in shown
    undo_form = re.search(r'<form method="post" action="([^"]*/undo/[^"]*)".*?name="changed" value="([^"]*)"', shown)
    if "too far" in sentence:
        assert undo_form is None
        return
    assert undo_form
    assert getattr(now(talk)[0], field) != before
    undone = bobs.post(html.unescape(undo_form[1]), {"changed": undo_form[2]})
    assert undone["Location"].startswith(f"/inbox/{talk.pk}/{query}&done=")
    assert "Undone for 1 conversation." in read(bobs, undone["Location"])
    assert getattr(now(talk)[0], field) == before


@pytest.mark.parametrize("then", ["stay", "next", "list"])
def test_without_scripts_taking_closing_and_reopening_are_undone_where_they_end(bobs: Page, then: str) -> None:
    talk = begin()
    other = begin()
    bobs.post("/inbox/after-closing/", {"then": then})
    ends = {"stay": f"/inbox/{talk.pk}/", "next": f"/inbox/{other.pk}/", "list": "/inbox/"}[then]
    for verb, place, sentence in [
        ("take", f"/inbox/{talk.pk}/", ": 1 conversation."),
        ("close", ends, "Closed: 1 conversation."),
        ("open", f"/inbox/{talk.pk}/", "Reopened: 1 conversation."),
    ]:
        [before] = now(talk)
        response = bobs.post(f"/inbox/{talk.pk}/{verb}/")
        assert response["Location"].startswith(f"{place}?done="), verb
        shown = read(bobs, response["Location"])
        assert sentence in shown
        again = bobs.post(f"/inbox/{talk.pk}/{verb}/")
        assert again["Location"] == place, "nothing was done, so nothing is said"
        undo_form = re.search(r'action="([^"]*/undo/[^"]*)".*?name="changed" value="([^"]*)"', shown)
        assert undo_form
        undone = bobs.post(html.unescape(undo_form[1]), {"changed": undo_form[2]})
        assert undone["Location"].startswith(f"/inbox/{talk.pk}/?done=")
        [after] = now(talk)
        assert (after.status, after.assignee_id) == (before.status, before.assignee_id)
        bobs.post(f"/inbox/{talk.pk}/{verb}/")


def test_what_was_done_is_not_said_by_others(bobs: Page, carols: Page, talk: Conversation) -> None:
    """The address cannot be made up, nor one of the undo's own texts be used for it, nor another agent's address."""
    done = bobs.post(f"/inbox/changes/?open={talk.pk}", {"pk": pks(talk), "priority": "2"})["Location"]
    assert 'class="done"' in read(bobs, done)
    assert 'class="done"' not in read(carols, done)
    response = bobs.post("/inbox/changes/", {"pk": pks(talk), "priority": "4"})
    changed = re.search(r'name="changed" value="([^"]*)"', response.content.decode())
    assert changed
    for made_up in (changed[1], "Your account is closed", ""):
        shown = read(bobs, f"/inbox/{talk.pk}/?done={made_up}")
        assert 'class="done"' not in shown
        assert "Your account is" not in shown
    elsewhere = bobs.post("/inbox/changes/?open=https://evil.example", {"pk": pks(talk), "priority": "3"})
    assert "Location" not in elsewhere

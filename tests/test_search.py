"""Searching messages, notes, file names and names."""

import re
import tracemalloc
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from conversations import actions
from conversations.actions import post_message, write_note
from conversations.actions.reindex import add_missing, reindex
from conversations.agent import search as search_page
from conversations.models import Agent, Conversation, Message, Searchable, Website
from conversations.models import search as searching
from conversations.models.search import Answer, Question, search
from conversations.models.search_words import phrase, words
from conversations.models.searchable import index_pending, prefix_of
from tests.conftest import Page
from tests.test_attachments import send, upload

# MariaDB finds what was committed.
pytestmark = pytest.mark.django_db(transaction=connection.vendor == "mysql")


def look_for(*texts: str, most: int = 20, after: int | None = None) -> Answer:
    """Search everywhere for texts that begin with these."""
    phrases = tuple(found for text in texts if (found := phrase(text, is_prefix=True)))
    return search(Conversation.objects.all(), Question(phrases), most, after)


def contents(answer: Answer) -> list[str]:
    """The texts of what was found."""
    return [found.entry.content for found in answer.found]


def test_messages_notes_and_names_are_found_by_the_beginnings_of_words(talk: Conversation, bob: Any) -> None:
    post_message(content="Where is my order?", conversation=talk)
    write_note(content="The ordering system is down", conversation=talk, agent=bob)
    for _ in range(2):
        assert contents(look_for("orde")) == ["The ordering system is down", "Where is my order?"]
        assert contents(look_for("ORDER", "whe")) == ["Where is my order?"]
        assert look_for("ali").names == [talk]
        for number in range(150):
            post_message(content=f"number {number}", conversation=talk)
    found = look_for("number")
    assert contents(found) == [f"number {number}" for number in range(149, 129, -1)]
    assert contents(look_for("number", after=found.after)) == [f"number {number}" for number in range(129, 109, -1)]


SAME = {"Sec-Fetch-Site": "same-origin"}


def page_of(browser: Page, query: str, path: str = "/inbox/") -> str:
    """The inbox as the agent sees it after searching."""
    response = browser.get(path, {"q": query}, headers=SAME)
    assert response.status_code == 200
    html: str = response.content.decode()
    return html


def snippets(html: str) -> list[str]:
    """What the rows of a page show."""
    found = re.findall(r'<span class="line" dir="auto">(.*?)</span>\n', html, re.DOTALL)
    return [re.sub(r"\s+", " ", text).strip() for text in found]


def test_the_page_shows_what_was_found_with_marks_and_opens_it_in_its_place(talk: Conversation, bobs: Page) -> None:
    sent = post_message(content="Where is my <b>order</b>, the Ördered one? " + "x" * 300, conversation=talk)
    html = page_of(bobs, "order")
    marked = "Where is my &lt;b&gt;<mark>order</mark>&lt;/b&gt;, the <mark>Ördered</mark> one?"
    assert snippets(html)[0].startswith(marked)
    assert snippets(html)[0].endswith("…")
    assert f'href="/inbox/{talk.pk}/?q=order&amp;at={sent.pk}#message-{sent.pk}"' in html
    beside = page_of(bobs, "order", f"/inbox/{talk.pk}/")
    assert f'data-conversation="{talk.pk}"' in beside
    assert snippets(beside) == snippets(html)


@pytest.mark.parametrize(
    ("written", "query", "shown"),
    [
        ("It is **sent** to `Ann`", "sent", "It is <mark>sent</mark> to Ann"),
        ("See [our hours](https://example.com)", "hours", "See our <mark>hours</mark>"),
        ("See [our hours](https://example.org)", "example", "See [our hours](https://<mark>example</mark>.org)"),
    ],
)
def test_formatted_text_is_shown_without_its_marks(
    talk: Conversation, bob: Agent, bobs: Page, written: str, query: str, shown: str
) -> None:
    post_message(content=written, is_formatted=True, conversation=talk, agent=bob)
    write_note(content=written, is_formatted=True, conversation=talk, agent=bob)
    note, answer = snippets(page_of(bobs, query))
    assert (note.endswith(f"</bdi> {shown}"), answer.endswith(f"</bdi> {shown}")) == (True, True), (note, answer)
    typed = post_message(content=written, conversation=talk)
    assert re.sub("</?mark>", "", snippets(page_of(bobs, query))[0]) == typed.content


def test_what_is_found_far_down_in_a_long_text_is_shown_without_its_marks(
    talk: Conversation, bob: Agent, bobs: Page
) -> None:
    written = (
        "**Dear Alice**\n" + "word " * 800 + "\n\n- It is **sent** to `Ann`\n- and [our hours](https://example.com)"
    )
    post_message(content=written, is_formatted=True, conversation=talk, agent=bob)
    [row] = snippets(page_of(bobs, "sent"))
    assert row.endswith("word word • It is <mark>sent</mark> to Ann • and our hours")
    assert "</bdi> …" in row
    [row] = snippets(page_of(bobs, "example"))
    assert "[our hours](https://<mark>example</mark>.com)" in row


@pytest.mark.parametrize(
    "text",
    ["Größe №5: Straße_3", "Ёжик в тумане", "İstanbul’da ıŞık", "배송이 늦어요", "سلام\u200d عليكم", "½ ﬁn ٣ ǅ"],
)
def test_words_are_the_same_beside_letters_that_need_a_slower_way(text: str) -> None:
    found = list(words(text))
    for other in ("里", "e\u0301"):
        assert list(words(f"{text} {other}"))[:-1] == found
    assert "".join(word.text for word in found)


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("It is about the ORDER of 2024", "about"),
        ("I have to be at it", "to be a"),
        ("Ich wohne in der Königstraße 5", "konigstrasse"),
        ("Grüße aus Gdańsk", "GRUSSE gdan"),
        ("Ёжик в тумане", "ежик"),
        ("السَّلامُ عليكم", "السلام"),
        ("मेरा ऑर्डर कहाँ है", "ऑर्ड"),
        ("我的订单在哪里？", "订单"),
        ("我的订单在哪里？", "里"),
        ("配送はいつですか", "いつです"),
        ("サイズはﾒﾙﾍﾝです", "メルヘン"),
        ("พัสดุของฉันอยู่ที่ไหน", "ของฉัน"),
        ("배송이 늦어요", "배송"),
        ("write to ann.lee@example.com please", "ann.lee@example.com"),
        ("see https://shop.example/track?order=20417", "https://shop.example/track"),
        ("number AB-1234/x", "ab-12"),
        ("the big red box", '"big red"'),
        ("the big red box", 'box "the big"'),
        ("don't panic", "don't"),
        ("x" * 100, "x" * 50),
        ("я" * 60, "я" * 40),
    ],
)
def test_a_message_is_found_by_its_words_in_every_language(
    talk: Conversation, bobs: Page, written: str, query: str
) -> None:
    post_message(content=written, conversation=talk)
    html = page_of(bobs, query)
    assert len(snippets(html)) == 1, html
    assert "<mark>" in html


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("the big red box", '"red big"'),
        ("the big red box", '"big re"'),
        ("the big red box", "ox"),
        ("the big red box", "big blue"),
        ("我的订单在哪里", "我单"),
        ("订单 在", "单在"),
    ],
)
def test_what_does_not_have_all_words_in_order_is_not_found(
    talk: Conversation, bobs: Page, written: str, query: str
) -> None:
    post_message(content=written, conversation=talk)
    html = page_of(bobs, query)
    assert snippets(html) == []
    assert "Nothing was found" in html


def test_files_are_found_by_their_names(talk: Conversation, alice: Page, bobs: Page) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    assert send(alice, upload("Invoice-March.txt", b"some text", "text/plain"), text="Here it is").status_code == 204
    assert snippets(page_of(bobs, "invoice march")) == ["📎 <mark>Invoice</mark>-<mark>March</mark>.txt"]
    assert len(snippets(page_of(bobs, "here is:file"))) == 1


@pytest.fixture
def desk(talk: Conversation, bob: Agent, carol: Agent) -> dict[str, int]:
    """Messages about pots: their ids by their texts."""
    old = post_message(content="pots old", conversation=talk)
    Message.objects.filter(pk__lte=old.pk).update(created_at=datetime(2020, 5, 17, 12, tzinfo=UTC))
    shop = Website.objects.create(key="shop", name="The Shop")
    other = post_message(content="pots shop", website=shop, name="Zoe", email="zoe@example.com").conversation
    sent = [
        post_message(content="pots alice", conversation=talk),
        post_message(content="pots bob", conversation=talk, agent=bob),
        post_message(content="pots carol", conversation=other, agent=carol),
    ]
    notes = [write_note(content="pots note", conversation=talk, agent=carol)]
    actions.label(conversation=other, by=carol, add=[actions.create_label(name="Refund")])
    actions.close(conversation=other, by=carol, last_seen=None)
    return {row.content: row.pk for row in [*sent, old]} | {note.content: note.pk for note in notes}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("pots", {"shop", "alice", "bob", "carol", "note", "old"}),
        ("pots from:me", {"bob"}),
        ("pots from:carol", {"carol", "note"}),
        ('from:"Carol"', {"carol", "note"}),
        ("from: CAROL pots", {"carol", "note"}),
        ("pots from:customer", {"shop", "alice", "old"}),
        ("pots from:zoe@ex", {"shop"}),
        ("pots is:note", {"note"}),
        ("pots is:closed", {"shop", "carol"}),
        ("pots is:open from:customer", {"alice", "old"}),
        ("pots is:unassigned is:note", {"note"}),
        ("pots is:mine", set()),
        ("label:refund", {"shop", "carol"}),
        ('label:"Refund" from:carol', {"carol"}),
        ("pots website:shop", {"shop", "carol"}),
        ('website:"the shop" carol', {"carol"}),
        ("pots before:2020-05-18", {"old"}),
        ("pots before:2020-05-17", set()),
        ("pots after:2020-05-17 before:2021-01-01", {"old"}),
        ("pots after:2020-05-18", {"shop", "alice", "bob", "carol", "note"}),
    ],
)
def test_a_search_can_be_narrowed(desk: dict[str, int], bobs: Page, query: str, expected: set[str]) -> None:
    found = [re.sub("<.*?>", "", text).rpartition(" ")[2] for text in snippets(page_of(bobs, query))]
    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("pots label:nope", "There is no label “nope”."),
        ("pots label:", "There is no label “”."),
        ("pots website:club", "You see no website “club”."),
        ("pots is:great", "After “is:” there can be: open, closed"),
        ("pots before:yesterday", "“yesterday” is no date. Write it like 2026-11-30."),
        ("pots after:2026-02-31", "“2026-02-31” is no date."),
        ("pots form:bob", "“form:” is no filter: it was searched for as a word."),
        ("pots from:", "Write who after “from:”"),
        ("pots " + "x " * 20, "Only the first 10 words are searched for."),
        ("pots " + "x" * 300, "Only the first 200 characters are searched for."),
    ],
)
def test_what_cannot_be_understood_is_said(desk: dict[str, int], bobs: Page, query: str, sentence: str) -> None:
    assert sentence in page_of(bobs, query)


HOSTILE = [
    *(
        '"',
        '""',
        '"""',
        "'",
        "*",
        "a*",
        "+a -b",
        "~a",
        "(a",
        "a)",
        "NEAR(a b)",
        "a AND OR NOT",
        "a^2",
        "a:b:c",
        "@",
        "%",
    ),
    *(
        "_",
        "a'b",
        "a\\",
        "\\'",
        "a' | b",
        "a & !b",
        "a <-> b",
        "a:*",
        "{words}: a",
        "😀",
        "\u200f",
        "\u202ea",
        "<b>",
        "-",
    ),
    *(
        "from:from:from:",
        "before:0001-01-01 a",
        "after:9999-12-31 a",
        "is:is:is",
        "label:%",
        "website:'",
        "from:_",
        "[",
    ),
    *("from:%", "\U0001f468\u200d\U0001f469", "ﷺ", "½", "ÿ" * 200, "か" * 200, "a " * 200, "é" * 31 + "x", "\ufffd"),
]


def test_no_query_breaks_the_search(desk: dict[str, int], bobs: Page) -> None:
    for query in HOSTILE:
        assert 'class="results"' in page_of(bobs, query), query


def test_a_limited_agent_finds_only_their_websites(desk: dict[str, int], bob: Agent, bobs: Page) -> None:
    Website.objects.get(key="shop").agents.add(User.objects.get(pk=bob.pk))
    html = page_of(bobs, "pots")
    assert {re.sub("<.*?>", "", text).rpartition(" ")[2] for text in snippets(html)} == {"shop", "carol"}
    assert snippets(page_of(bobs, "alice")) == []
    assert "found-name" in page_of(bobs, "zoe")
    assert snippets(page_of(bobs, "zoe website:chat")) == []


def words_of(pk: int) -> str:
    """What the index has of a row."""
    return next(iter(Searchable.objects.filter(pk=pk).values_list("words", flat=True)), "")


def test_what_is_erased_leaves_the_index(desk: dict[str, int], talk: Conversation, bob: Agent, bobs: Page) -> None:
    actions.take_back(conversation=talk, pk=desk["pots bob"], by=bob)
    assert words_of(desk["pots bob"]) == ""
    Message.objects.filter(pk=desk["pots alice"]).delete()
    assert words_of(desk["pots alice"]) == ""
    assert len(snippets(page_of(bobs, "pots"))) == 4
    talk.refresh_from_db()
    talk.delete()
    assert not Searchable.objects.filter(conversation_id=talk.pk).exists()
    assert len(snippets(page_of(bobs, "pots"))) == 2
    assert snippets(page_of(bobs, "alice")) == []


def test_cleaning_takes_what_it_deletes_out_of_the_index(desk: dict[str, int], talk: Conversation) -> None:
    Website.objects.update(retention_days=30)
    long_ago = timezone.now() - timedelta(days=40)
    Conversation.objects.filter(pk=talk.pk).update(last_message_at=long_ago)
    for number in range(120):
        message = post_message(content=f"pots {number}", conversation=talk)
    Conversation.objects.filter(pk=talk.pk).update(last_message_at=long_ago)
    Message.objects.filter(pk=message.pk).update(created_at=long_ago)
    call_command("forgetold", verbosity=0)
    assert not Conversation.objects.filter(pk=talk.pk).exists()
    assert not Searchable.objects.filter(conversation_id=talk.pk).exists()
    assert Searchable.objects.exists()


def test_a_name_that_changes_is_found_by_the_new_one(talk: Conversation, bobs: Page) -> None:
    assert "found-name" in page_of(bobs, "alic")
    post_message(content="I have married", conversation=talk, name="Alma Jones", email="alma@example.com")
    assert "found-name" not in page_of(bobs, "alic")
    assert "<mark>Alma</mark> <mark>Jones</mark>" in page_of(bobs, "jones alma")
    assert "found-name" in page_of(bobs, "alma@example")
    talk.refresh_from_db()
    talk.customer_name = "Ada"
    talk.save_changes("customer_name")
    assert "<mark>Ada</mark>" in page_of(bobs, "ada")


def everything() -> dict[int, str]:
    """The index."""
    return dict(Searchable.objects.values_list("pk", "words"))


def test_of_many_namesakes_the_newest_that_an_agent_sees_are_found(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "NAMES_AT_ONCE", 3)
    shop = Website.objects.create(key="shop", name="Shop")
    theirs = post_message(content="Hello", name="Zoe", website=shop).conversation
    other = [post_message(content="Hello", name=f"Zoe {number}").conversation for number in range(9)]
    index_pending(Message.objects.all().last_id())
    zoe = phrase("zo", is_prefix=True)
    assert zoe
    assert searching.find_customers(Conversation.objects.all(), [zoe])[:3] == other[:-4:-1]
    assert searching.find_customers(Conversation.objects.filter(website=shop), [zoe]) == [theirs]


@pytest.fixture
def many(desk: dict[str, int], talk: Conversation) -> dict[int, str]:
    """More rows than some steps of reindexing take; the index as it was written."""
    for number in range(130):
        post_message(content=f"pots {number}", conversation=talk)
    return everything()


def test_the_index_is_made_anew_in_steps_which_may_be_interrupted(many: dict[int, str], bobs: Page) -> None:
    Searchable.objects.filter(pk__in=list(many)[::3]).delete()
    gone = next(pk for pk in range(1, 10**6) if pk not in many)
    Searchable.objects.create(pk=gone, conversation_id=1, words=f"{prefix_of(gone)}pots")
    next(reindex())
    assert "Older messages are still being added" in page_of(bobs, "pots")
    assert sum(add_missing()) > 100  # goes on where the other was killed
    assert everything() == many
    assert "Older messages are still" not in page_of(bobs, "pots")
    assert len(snippets(page_of(bobs, "pots carol"))) == 1
    call_command("reindex", "--fast", verbosity=0)
    assert everything() == many
    assert list(add_missing()) == []


def test_a_common_word_beside_a_rare_one_must_be_there_too(many: dict[int, str], talk: Conversation) -> None:
    post_message(content="Are there 77 lids?", conversation=talk)
    assert contents(look_for("pots", "77")) == ["pots 77"]
    assert contents(look_for("lids", "pots")) == []
    assert contents(look_for("pots", "carol")) == ["pots carol"]


def test_all_that_is_found_comes_page_by_page(many: dict[int, str], bobs: Page) -> None:
    seen: list[str] = []
    query = "q=pots"
    while query:
        html = bobs.htmx(f"/inbox/list/?{query}&append", **SAME).content.decode()
        seen += re.findall(r'id="found-(\d+)"', html)
        more = re.search(r'href="/inbox/[?](after=\d+&amp;q=pots)"', html)
        query = more[1].replace("&amp;", "&") if more else ""
    assert len(seen) == len(set(seen)) == 136
    assert seen == sorted(seen, key=int, reverse=True)


def test_a_search_that_takes_long_stops_and_goes_on_when_asked(
    many: dict[int, str], bobs: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "SECONDS", 0)
    monkeypatch.setattr(searching, "CANDIDATES", (30, 30))
    html = page_of(bobs, "pots is:note")
    assert snippets(html) == []
    assert "0 results, and there may be more." in html
    answers = [search(Conversation.objects.all(), Question(kinds=frozenset({"note"})), 20)]
    while answers[-1].after:
        answers.append(search(Conversation.objects.all(), Question(kinds=frozenset({"note"})), 20, answers[-1].after))
    assert len(answers) > 3
    assert [text for answer in answers for text in contents(answer)] == ["pots note"]


def test_a_search_ends_sooner_if_others_wait_for_it(
    many: dict[int, str], bobs: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "CANDIDATES", (30, 30))
    is_waited_for = False
    monkeypatch.setattr(search_page, "_is_urgent", lambda _request: lambda: is_waited_for)
    steps = []
    for is_waited_for in (False, True):
        clock = count()
        monkeypatch.setattr(searching, "time", SimpleNamespace(monotonic=lambda: next(clock) * 0.01))  # noqa: B023
        html = page_of(bobs, "pots is:note")
        steps.append(next(clock))
        assert ("0 results, and there may be more." in html) is is_waited_for
    assert steps[0] > steps[1] > 100 * searching.URGENT_SECONDS


def test_where_ids_have_gaps_a_search_stops_too_and_goes_on(
    many: dict[int, str], talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = max(many) + 10**7
    Message.objects.create(pk=far, conversation=talk, author="CUS", content="carol")
    Searchable.objects.add(far, talk.pk, "carol")
    index_pending(far)
    monkeypatch.setattr(searching, "SECONDS", 0)
    first = look_for("carol")
    assert contents(first) == ["carol"]
    assert first.after
    assert first.after > far // 2
    monkeypatch.setattr(searching, "SECONDS", 60)
    assert set(contents(look_for("carol", after=first.after))) == {"pots carol"}


def test_a_statement_that_takes_too_long_ends_the_search_for_now(
    talk: Conversation, bobs: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_long(*_arguments: Any) -> None:
        raise OperationalError("interrupted")

    monkeypatch.setattr(searching, "STATEMENT_SECONDS", 0)
    monkeypatch.setattr(searching, "_candidates", take_long)
    html = page_of(bobs, "hello")
    assert "0 results, and there may be more." in html
    assert f"after={talk.last_message_id + 1}" in html


def test_searches_are_limited(talk: Conversation, bob: Agent, bobs: Page, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "searches of one agent": (2, 60)}
    for _ in range(2):
        assert bobs.htmx("/inbox/list/?q=hello").status_code == 200
    refused = bobs.htmx("/inbox/list/?q=hello")
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 60
    assert "Too many requests." in page_of(bobs, "hello")
    assert bobs.get("/inbox/").status_code == 200


def test_an_agent_has_one_search_at_a_time(
    talk: Conversation, bob: Agent, bobs: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_page, "PATIENCE", 0.01)
    with search_page._alone(bob.pk):
        assert bobs.htmx("/inbox/list/?q=hello").status_code == 429
    assert bobs.htmx("/inbox/list/?q=hello").status_code == 200


def test_while_the_database_fails_only_the_search_does_not_work(
    talk: Conversation, bobs: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> Answer:
        raise OperationalError("the database is away")

    monkeypatch.setattr(search_page, "search", fail)
    response = bobs.htmx("/inbox/list/?q=hello")
    assert response.status_code == 503
    assert response.content.decode() == "The search does not work at the moment. Try again later."
    assert response.content.decode() in page_of(bobs, "hello")


def test_an_open_page_that_updates_itself_does_not_search_again(talk: Conversation, bobs: Page) -> None:
    response = bobs.htmx("/inbox/list/?q=hello&shown=%3Fq%3Dhello", **{"HX-Trigger": "list"})
    assert response["HX-Reswap"] == "none"
    assert "found-row" not in response.content.decode()
    again = bobs.htmx("/inbox/list/?q=hello&shown=%3Fstatus%3Dclosed", **{"HX-Trigger": "list"})
    assert "found-row" in again.content.decode()


def test_leaving_the_search_leads_to_the_list_from_which_it_began(talk: Conversation, bobs: Page) -> None:
    response = bobs.get("/inbox/", {"q": "hello", "status": "closed"}, headers=SAME)
    html = response.content.decode()
    assert 'id="leave-search" href="/inbox/?status=closed"' in html
    assert '<input type="hidden" name="status" value="closed">' in html
    assert f'href="/inbox/{talk.pk}/?status=closed&amp;q=hello&amp;at=' in html


def test_strangers_find_nothing(desk: dict[str, int], mallory: Page, alice: Page, talk: Conversation) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    for person in (mallory, alice):
        assert person.get("/inbox/", {"q": "pots"}, headers=SAME).status_code == 302
        assert person.htmx("/inbox/list/?q=pots").status_code == 401
    assert "pots note" not in alice.get("/chat/", {"q": "pots"}).content.decode()


def test_texts_of_one_very_long_word_fill_no_memory(talk: Conversation) -> None:
    tracemalloc.start()
    before, _peak = tracemalloc.get_traced_memory()
    for number in range(20):
        assert phrase(f"{number}{20_000 * 'ﷺ'}", is_prefix=True)
    after, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2_000_000
    post_message(content="é" + 20_000 * "́" + "tude", conversation=talk)
    assert len(look_for("é").found) == 1


@pytest.mark.parametrize("first", [1, 40])
def test_a_search_in_long_texts_ends_in_time_and_goes_on_when_asked(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    for number in range(12):
        post_message(content=f"maker {number} お客様", conversation=talk)
    monkeypatch.setattr(searching, "CANDIDATES", (first, 40))
    monkeypatch.setattr(searching, "AT_LEAST", 0)
    clock = count()
    monkeypatch.setattr(searching, "time", SimpleNamespace(monotonic=lambda: next(clock) * searching.SECONDS / 6))
    found, after, searches = list[str](), None, 0
    while after is not None or not searches:
        answer = look_for("maker", after=after)
        found, after, searches = found + contents(answer), answer.after, searches + 1
    assert found == [f"maker {number} お客様" for number in reversed(range(12))]
    assert 2 < searches < 12

"""Formatted text: what agents type in the inbox is Markdown, and what anybody else writes is shown as it was typed."""

import re
import time
import uuid
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.core.files.base import ContentFile

from conversations import actions
from conversations.agent import quoting
from conversations.models import Attachment, Conversation, DeskEntry, Message, News, formatted
from conversations.models.formatted import TAGS, render
from conversations.models.links import MAX_LINKS
from conversations.models.message import MAX_LENGTH
from tests.conftest import Page

pytestmark = pytest.mark.django_db(transaction=True)

HTMX = {"HX-Request": "true"}


@pytest.fixture
def alices(alice: Page, talk: Conversation) -> Page:
    """Alice's browser, with her conversation."""
    alice.cookies["chat"] = talk.uuid.hex
    return alice


def answer(talk: Conversation, bobs: Page, text: str) -> int:
    """Bob answers on the desk's page; return the message's id."""
    response = bobs.post(f"/inbox/{talk.pk}/messages/", {"content": text}, headers=HTMX)
    assert response.status_code == 204, response.content
    return int(response["X-Message"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("> Is it green?\n\nYes, it is", "Yes, it is"),
        ("> one\n> two\n\nYes\n> three", "Yes three"),
        ("> only a quote\n\n", "only a quote"),
        ("It **is** _green_ & `<b>`, not 2*3", "It is green & <b>, not 2*3"),
        ("See [our hours](https://example.com/hours) or www.example.com", "See our hours or www.example.com"),
        ("You need:\n- a *pot*\n- a lid\n\n1. Boil\n2. Eat", "You need: • a pot • a lid • Boil • Eat"),
        ("# Run\n```sh\nls *.txt\n```\nand wait", "Run ls *.txt and wait"),
    ],
)
def test_the_list_shows_the_answer_without_marks_and_what_it_quotes(
    talk: Conversation, bobs: Page, text: str, line: str
) -> None:
    answer(talk, bobs, text)
    shown = re.search(r'<span class="answered">↩ </span>(.*?)</span>', bobs.get("/inbox/").content.decode())
    assert shown
    assert unescape(shown[1]) == line


def test_only_what_agents_write_in_the_inbox_is_formatted(
    talk: Conversation, alice: Page, bob: Any, bobs: Page
) -> None:
    written = answer(talk, bobs, "**bold**")
    actions.post_message(content="**bot**", conversation=Conversation.objects.get(pk=talk.pk), agent=bob)
    alice.post(
        "/api/messages/", {"conversation": talk.uuid.hex, "content": "**typed**"}, content_type="application/json"
    )
    bobs.post(f"/inbox/{talk.pk}/notes/", {"content": "**note**"}, headers=HTMX)
    formatted = {message.content: bool(message.is_formatted) for message in Message.objects.filter(conversation=talk)}
    assert formatted == {
        talk.messages.earliest("pk").content: False,
        "**bold**": True,
        "**bot**": False,
        "**typed**": False,
    }
    assert DeskEntry.objects.get(kind="note").is_formatted is True
    news = News.after(talk.pk, written - 1, 10)
    assert news
    assert [bool(message.is_formatted) for message in news.messages] == [True, False, False]


def test_a_retry_finds_the_formatted_message(talk: Conversation, bobs: Page) -> None:
    sent = {"content": "*once*", "client_id": str(uuid.uuid4())}
    ids = {bobs.post(f"/inbox/{talk.pk}/messages/", sent, headers=HTMX)["X-Message"] for _ in range(2)}
    assert len(ids) == 1


# How it looks


def html(text: str) -> str:
    """The HTML of a text, without what all links have."""
    return render(text).html.replace(' target="_blank" rel="noopener noreferrer nofollow ugc"', "")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (
            "**bold** _italics_ *too* ***both***",
            "<strong>bold</strong> <em>italics</em> <em>too</em> <em><strong>both</strong></em>",
        ),
        ("**bold with *italics* in it**", "<strong>bold with <em>italics</em> in it</strong>"),
        ('(**yes**), "*no*"!', '(<strong>yes</strong>), "<em>no</em>"!'),
        ("これは**太字**です。**「はい」**です", "これは<strong>太字</strong>です。<strong>「はい」</strong>です"),
        ("_كلمة_، **نعم**؟", "<em>كلمة</em>، <strong>نعم</strong>؟"),
        ("one `*code*` two", "one <code>*code*</code> two"),
        ("```hello\nworld```", "<code>hello\nworld</code>"),
        ("```\n*a* <b>\n\n  c\n```\nafter", "<pre><code>*a* &lt;b&gt;\n\n  c</code></pre>after"),
        ("```python\nprint()\n```", "<pre><code>print()</code></pre>"),
        ("one\ntwo\n\n\nthree *x*", "one\ntwo\n\n\nthree <em>x</em>"),
        (
            "Bring:\n- a\n- **b**\n  - c\nThanks",
            "Bring:<ul><li>a</li><li><strong>b</strong><ul><li>c</li></ul></li></ul>Thanks",
        ),
        ("- a\n\n- b\n\nc", "<ul><li>a</li><li>b</li></ul>c"),
        ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("1. May\n3. May\n8. May", '<ol><li>May</li><li value="3">May</li><li value="8">May</li></ol>'),
        ("3) a\n4) b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("> asked\nanswer", "<blockquote>asked</blockquote>answer"),
        (
            "> a\n> > b\n> - c\n> - d",
            "<blockquote>a<blockquote>b</blockquote><ul><li>c</li><li>d</li></ul></blockquote>",
        ),
        ("# Hours\nMonday", "<strong>Hours</strong>\nMonday"),
        (
            "[our *hours*](https://a.example/b_(c)_d)",
            '<a href="https://a.example/b_(c)_d" dir="auto">our <em>hours</em></a>',
        ),
        ("[us](www.a.example)", '<a href="http://www.a.example" dir="auto">us</a>'),
        ("[mail](mailto:a@b.example)", '<a href="mailto:a@b.example" dir="auto">mail</a>'),
        (
            "*see* https://a.example/b_c_d",
            '<em>see</em> <a href="https://a.example/b_c_d" dir="ltr">https://a.example/b_c_d</a>',
        ),
        ("**a@b.example**", '<strong><a href="mailto:a@b.example" dir="ltr">a@b.example</a></strong>'),
        ("_https://a.example/x_", '<em><a href="https://a.example/x" dir="ltr">https://a.example/x</a></em>'),
        (
            "\\*not* 2 \\* 3 \\[a](https://b.example)",
            '*not* 2 * 3 [a](<a href="https://b.example" dir="ltr">https://b.example</a>)',
        ),
        ("`https://a.example`", "<code>https://a.example</code>"),
    ],
)
def test_markup_is_shown(typed: str, shown: str) -> None:
    assert html(typed) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("snake_case_words and __init__", "2 * 3 * 4", "2*3*4", "2**3**4", "5* or 4* hotel", "*.txt and *.log"),
        *("(*) a (*) b", "^_^ hi ^_^", "-_- ok -_-", "¯\\_(ツ)_/¯", "*args, **kwargs", "*** wow ***", "**", "a ` b"),
        *("**Total: ** 5", "_DSC_1 and _DSC_2", ">:(", ">100 kg", "1. May", "Am\n1. May", "1986. A year", "- Bob"),
        *("Regards\n- Bob", "-5 degrees", "#1", "#tag", "- - -", "***", "---", "Title\n=====", "Title\n---"),
        *("    four spaces", "C:\\temp\\*.tmp", "\\\\server\\share", "| a | b |\n|---|---|"),
        *("``` not closed\ntext", "```", "~~~\na\n~~~", "[a](javascript:alert(1))", "[a](/inbox/)", "[a](data:x)"),
        *("[](mailto:a)", "[\u200f ](mailto:a)", "a  \nb", "[1] and [x]", "[a]: b\n[a]"),
    ],
)  # fmt: skip
def test_what_is_no_markup_is_shown_as_it_was_typed(text: str) -> None:
    shown = re.sub(r"</?a[^>]*>", "", html(text))
    assert shown == text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Elements(HTMLParser):
    """The elements of HTML, with their attributes, and its text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script> *a*",
        '<img src=x onerror=alert(1)> **a** <b class="x" id="y" style="z">',
        "![a](https://a.example/a.png) *a*",
        "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](java\tscript:x) [d](data:text/html;base64,x)",
        '[a](&#106;avascript:alert(1)) [b](https://b.example/"onclick=alert(1)//) [c](<javascript:x>)',
        '[a](https://a.example "title" onclick=x) [b](//evil.example) [c](https:evil)',
        "[<img src=x onerror=alert(1)>](https://a.example)",
        '[a"><script>alert(1)</script>](https://a.example/"><script>)',
        "`<script>` ```\n</code></pre><script>alert(1)</script>\n```",
        '```" onload=alert(1)\nx\n```\n```js\n</pre><svg onload=alert(1)>\n```',
        "- <iframe src=https://a.example>\n- <style>*{}</style>",
        "> <svg/onload=alert(1)>\n> <math><mtext></mtext></math>",
        "*\0* **\ufffd** &lt;script&gt; &#60;b&#62;",
        "https://a.example/'onmouseover='alert(1) *a* https://a.example/<script>",
        "*a <!-- * --> <![CDATA[*b*]]> <?php *c* ?>",
    ],
)
def test_no_html_passes(text: str) -> None:
    for tag, attributes in Elements(render(text).html).found:
        assert tag in TAGS
        if tag == "a":
            assert attributes.pop("rel") == "noopener noreferrer nofollow ugc"
            assert attributes.pop("target") == "_blank"
            assert re.match(r"https?://[^\s<>\"]|mailto:", str(attributes.pop("href")))
        assert attributes.keys() <= {"dir", "start", "value"}


@pytest.mark.parametrize(
    "pattern",
    [
        *("[", "*", ">", "`", "_", "\\", "-", "- ", "> ", "*a ", "*a* ", "[a", "[a](", "[a](http://b) ", "`a", "``a`"),
        *("a@b.c ", "http://a "),
        *("- a\n", "1. a\n", "> a\n", "> > > > > > > > a\n", "- - - - -\n+ + + +\n"),
        *("> - > - > - a\n", "  - a\n    - b\n"),
        *("```a\n", "```\n", "```\na\n```\n", "# a\n", "a\n", "\n", "(\\*", "*a _b ", "<b>"),
    ],
)  # fmt: skip
def test_a_hostile_text_takes_little_time_and_loses_nothing(pattern: str) -> None:
    for count in (MAX_LENGTH, formatted.MAX_MARKS // 2):  # too much markup, and as much as may be
        text = (pattern * count + "x" * MAX_LENGTH)[:MAX_LENGTH]
        times = []
        for _ in range(3):
            begin = time.process_time()
            shown = formatted._render(text).html
            times.append(time.process_time() - begin)
        assert min(times) < 0.05
        assert len(shown) < 6 * MAX_LENGTH
        assert Elements(shown).text.count("a") == text.count("a")


def test_a_message_has_few_links() -> None:
    text = "*many* " + "[a](https://a.example) https://b.example " * MAX_LINKS
    assert render(text).html.count("<a ") == MAX_LINKS


def test_a_failing_parser_shows_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(formatted, "_html", lambda _tokens: 1 / 0)
    assert render("*never shown before*").html == "*never shown before*"
    assert caplog.records[0].exc_info
    formatted._render_short.cache_clear()


# Who sees it


def bubbles(page: str) -> list[str]:
    """What stands in the bubbles of a page."""
    thread = page.partition('class="messages waiting"')[0]
    return re.findall(r'<div class="bubble[^>]*>(.*?)</div>', thread, re.DOTALL)


def test_both_sides_see_the_same_in_page_and_poll(talk: Conversation, alices: Page, bobs: Page) -> None:
    answer(talk, bobs, "**Hi**\n- a\n- b")
    shown = "<strong>Hi</strong><ul><li>a</li><li>b</li></ul>"
    pages = [
        page.get(path, headers=HTMX if "since" in path else {}).content.decode()
        for page, folder in ((alices, "/chat/"), (bobs, f"/inbox/{talk.pk}/"))
        for path in (folder, f"{folder}messages/?since={talk.last_message_id}")
    ]
    assert [bubbles(page)[-1] for page in pages] == [shown] * 4
    assert ["formatted." in page for page in pages] == [True, True, False, False], "agents have the style sheet anyway"
    assert ["data-text" in page for page in pages] == [False, False, True, True]


def test_the_style_sheet_is_sent_only_where_it_is_needed(talk: Conversation, alices: Page, bobs: Page) -> None:
    answer(talk, bobs, "**Hi** https://a.example")
    page = alices.get("/chat/").content.decode()
    assert "<strong>Hi</strong>" in page
    assert "formatted." not in page
    answer(talk, bobs, "`code`")
    [address] = re.findall(r'href="(/assets/formatted\.\w+\.css)"', alices.get("/chat/").content.decode())
    sheet = alices.get(address)
    assert sheet["Content-Type"].startswith("text/css")
    assert "blockquote" in sheet.content.decode()


def test_programs_get_the_text_as_it_was_typed(talk: Conversation, alice: Page, bobs: Page) -> None:
    answer(talk, bobs, "**Hi** [a](https://a.example)")
    items = alice.get(f"/api/messages/{talk.uuid}/").json()["items"]
    assert items[-1]["content"] == "**Hi** [a](https://a.example)"


def test_what_others_write_is_shown_as_it_was_typed(talk: Conversation, alice: Page, bob: Any, bobs: Page) -> None:
    actions.post_message(content="**bot**", conversation=Conversation.objects.get(pk=talk.pk), agent=bob)
    alice.post(
        "/api/messages/", {"conversation": talk.uuid.hex, "content": "**typed**"}, content_type="application/json"
    )
    assert bubbles(bobs.get(f"/inbox/{talk.pk}/").content.decode())[-2:] == ["**bot**", "**typed**"]


def test_a_note_is_formatted_and_mentions_are_marked(talk: Conversation, bobs: Page, carol: Any, carols: Page) -> None:
    text = "**@carol** `@carol` [@carol](https://a.example) > @carol"
    bobs.post(f"/inbox/{talk.pk}/notes/", {"content": text}, headers=HTMX)
    shown = bubbles(carols.get(f"/inbox/{talk.pk}/").content.decode())[-1]
    assert shown.startswith('<strong><span class="mention to-you">@carol</span></strong> <code>@carol</code> <a ')
    assert shown.endswith('>@carol</a> &gt; <span class="mention to-you">@carol</span>')


def test_the_same_text_is_rendered_once(talk: Conversation, bobs: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        answer(talk, bobs, f"**{number}**")
    page = bubbles(bobs.get(f"/inbox/{talk.pk}/").content.decode())
    monkeypatch.setattr(formatted, "_tools", lambda: 1 / 0)
    assert bubbles(bobs.get(f"/inbox/{talk.pk}/").content.decode()) == page


# While it is written


def test_the_preview_is_what_the_customer_sees(talk: Conversation, alices: Page, bobs: Page) -> None:
    text = "**Hi** https://a.example\r\n- a\r\n- b"
    preview = bobs.post("/inbox/preview/", {"content": text}, headers=HTMX)
    answer(talk, bobs, text)
    assert bubbles(preview.content.decode()) == bubbles(alices.get("/chat/").content.decode())[-1:]
    assert bobs.post("/inbox/preview/", {"content": " \n"}, headers=HTMX).content == b""
    assert bobs.post("/inbox/preview/", {"content": "x" * (MAX_LENGTH + 1)}, headers=HTMX).status_code == 422


def test_only_agents_have_a_preview_and_it_is_limited(mallory: Page, bobs: Page, settings: Any) -> None:
    assert mallory.post("/inbox/preview/", {"content": "*hi*"}).status_code in {302, 401, 403}
    settings.RATE_LIMITS, settings.LIMITS = True, {**settings.LIMITS, "previews of one agent": (1, 60)}
    statuses = [bobs.post("/inbox/preview/", {"content": "*hi*"}, headers=HTMX).status_code for _ in range(2)]
    assert statuses == [200, 429]


@pytest.mark.parametrize("kind", ["messages", "notes"])
def test_without_javascript_a_button_shows_the_preview(talk: Conversation, bobs: Page, kind: str) -> None:
    page = bobs.post(f"/inbox/{talk.pk}/{kind}/", {"content": "**Hi** <b>", "preview": "1"}).content.decode()
    assert '<div class="bubble" dir="auto"><strong>Hi</strong> &lt;b&gt;</div>' in page
    assert "**Hi** &lt;b&gt;</textarea>" in page
    assert ('<div id="writing" class="note">' in page) == (kind == "notes")
    assert not Message.objects.filter(content__startswith="**Hi").exists()
    assert not DeskEntry.objects.exists()


# Quotes


def typed(page: str) -> str:
    """The text in the field of a page."""
    [text] = re.findall(r'<textarea id="content"[^>]*>(.*?)</textarea>', page, re.DOTALL)
    return unescape(text)


def menu(bobs: Page, talk: Conversation, number: int) -> str:
    """The menu of a message or note."""
    page = bobs.get(f"/inbox/{talk.pk}/messages/{number}/", headers=HTMX)
    assert page.status_code == 200
    return page.content.decode()


def test_the_menu_of_a_message_shows_its_text_without_marks(talk: Conversation, bobs: Page) -> None:
    assert "It is sent" in menu(bobs, talk, answer(talk, bobs, "It is **sent**"))


def test_a_link_in_the_menu_of_a_message_fills_the_field_with_its_quote(talk: Conversation, bobs: Page) -> None:
    number = answer(talk, bobs, "**Hi**\n\n> you\n- a <b>")
    [link] = re.findall(r'href="([^"]*quote=[^"]*)"', menu(bobs, talk, number))
    quoted = "> **Hi**\n>\n> > you\n> - a <b>\n\n"
    page = bobs.get(unescape(link)).content.decode()
    assert typed(page) == quoted
    assert f'data-quote="{escape(quoted)}"' in menu(bobs, talk, number)
    shown = "<blockquote><strong>Hi</strong><blockquote>you</blockquote>- a &lt;b&gt;</blockquote>I see"
    assert render(f"{quoted}I see").html == shown


def test_a_quote_is_added_below_the_draft(talk: Conversation, bob: Any, bobs: Page) -> None:
    bobs.post(f"/inbox/{talk.pk}/draft/", {"content": "So far", "version": "0", "age": "0"})
    page = bobs.get(f"/inbox/{talk.pk}/?quote={talk.last_message_id}&write=1").content.decode()
    assert typed(page) == "So far\n\n> Hello, is anybody there?\n\n"


def test_files_are_quoted_by_their_names_and_long_texts_are_cut(talk: Conversation, bob: Any) -> None:
    files = [Attachment.from_upload(name, ContentFile(b"x")) for name in ("a.txt", "b.txt")]
    sent = actions.post_message(content="", conversation=talk, agent=bob, attachments=files)
    assert quoting.quote(sent) == "> 📎 a.txt\n> 📎 b.txt\n\n"
    long = quoting.quote(Message(content="word " * 4000))
    assert len(long) < quoting.MAX_QUOTE + 10
    assert long.endswith("word…\n\n")


def test_a_message_that_was_taken_back_is_not_quoted(talk: Conversation, bob: Any, bobs: Page) -> None:
    number = answer(talk, bobs, "secret")
    actions.take_back(conversation=Conversation.objects.get(pk=talk.pk), pk=number, by=bob)
    assert "quote=" not in menu(bobs, talk, number)
    assert typed(bobs.get(f"/inbox/{talk.pk}/?quote={number}&write=1").content.decode()) == ""


def test_a_note_is_quoted_only_in_notes(talk: Conversation, bobs: Page) -> None:
    bobs.post(f"/inbox/{talk.pk}/notes/", {"content": "She is a VIP"}, headers=HTMX)
    number = DeskEntry.objects.get(kind="note").pk
    [link] = re.findall(r'href="([^"]*quote=[^"]*)"', menu(bobs, talk, number))
    page = bobs.get(unescape(link)).content.decode()
    assert typed(page) == "> She is a VIP\n\n"
    assert f'action="/inbox/{talk.pk}/notes/"' in page
    assert typed(bobs.get(f"/inbox/{talk.pk}/?quote={number}&write=1").content.decode()) == ""
    assert "Take back" not in menu(bobs, talk, number)


def test_nothing_of_other_conversations_is_quoted(talk: Conversation, bobs: Page) -> None:
    other = actions.post_message(content="private").conversation
    assert typed(bobs.get(f"/inbox/{talk.pk}/?quote={other.last_message_id}&write=1").content.decode()) == ""
    assert typed(bobs.get(f"/inbox/{talk.pk}/?quote={2**62}&write=1").content.decode()) == ""
    assert bobs.get(f"/inbox/{talk.pk}/messages/{other.last_message_id}/").status_code == 404

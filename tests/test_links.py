"""Links in messages: which addresses are found, and that no text is slow."""

import html
import random
import re
import time

import pytest
from django.utils.html import escape
from hypothesis import given
from hypothesis.strategies import lists, sampled_from

from conversations.models import Conversation, Message
from conversations.models.links import IN_ADDRESSES, MAX_LINKS, addresses, linkify
from conversations.models.visible_text import INVISIBLE
from tests.conftest import Page

LONGEST = 20_480


def hrefs(text: str) -> list[str]:
    """Where the links of a text lead, as a browser reads the HTML."""
    return [html.unescape(href) for href in re.findall(r'href="([^"]*)"', linkify(text))]


@pytest.mark.parametrize(
    ("text", "link"),
    [
        # Words of the sentence, without a space
        *(
            (f"https://a.example/x{words}", "https://a.example/x")
            for words in ("입니다", "を見て", "ไปที่", "这里", "ကို", "ནས")
        ),
        *(
            (f"https://a.example/{words.replace('_', ' ')}", "https://a.example/")
            for words in (
                "を見て",
                "です",
                "に書いて",
                "からダウンロード",
                "를 보세요",
                "은 좋아요",
                "입니다",
                "에서 확인",
                "的链接",
            )
        ),
        ("https://a.example/docs/를 참고", "https://a.example/docs/"),
        ("https://a.example:8000/を見て", "https://a.example:8000/"),
        ("https://ja.wikipedia.org/wiki/%E6%97%A5%E6%9C%ACを見て", "https://ja.wikipedia.org/wiki/%E6%97%A5%E6%9C%AC"),
        ("https://a.example/?id=1を", "https://a.example/?id=1"),
        ("https://a.example/#topを", "https://a.example/#top"),
        # Words of the address
        *(
            (address, address)
            for address in (
                "https://ja.wikipedia.org/wiki/はじめに",
                "https://ja.wikipedia.org/wiki/のび太",
                "https://ja.wikipedia.org/wiki/お金",
                "https://ja.wikipedia.org/wiki/にほん",
                "https://ja.wikipedia.org/wiki/時をかける少女",
                "https://ja.wikipedia.org/wiki/レオナルド・ダ・ヴィンチ",
                "https://ko.wikipedia.org/wiki/한국어",
                "https://ko.wikipedia.org/wiki/은",
                "https://ko.wikipedia.org/wiki/가나",
                "https://ko.wikipedia.org/wiki/에너지",
                "https://th.wikipedia.org/wiki/ประเทศไทย",
                "https://zh.wikipedia.org/wiki/的士",
                "https://fa.wikipedia.org/wiki/می\u200cشود",
                "https://he.wikipedia.org/wiki/צה״ל",
                "https://ca.wikipedia.org/wiki/Col·lecció",
                "https://a.example/?q=を&r=을#の",
            )
        ),
        # Punctuation of the sentence
        *(
            (f"https://a.example/x{sign}", "https://a.example/x")
            for sign in "。、，．！？：）」』】〉》؟،؛۔।॥၊။།༎។៕๏።፧։՞׃״܀߸෴᠃·…”’»"
        ),
        *((f"https://a.example/{sign}", "https://a.example/") for sign in "。」؟।»"),
        *((f"https://he.example/א{sign}", "https://he.example/א") for sign in "׃״"),
        *((f"http://www.a.example{sign}", "http://www.a.example") for sign in "。」؟।»፡"),
    ],
)
def test_addresses_end_where_the_sentence_goes_on(text: str, link: str) -> None:
    assert hrefs(text) == [link]
    assert hrefs(f"{text} ") == [link]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("https://pay.example/p?order=7&currency=EUR", ["https://pay.example/p?order=7&currency=EUR"]),
        ("https://shop.example/?a=1&region=eu&section=2", ["https://shop.example/?a=1&region=eu&section=2"]),
        ("https://example.com/it's-here", ["https://example.com/it's-here"]),
        ("Link:https://example.com/a", ["https://example.com/a"]),
        ("o’brien@example.com", []),  # part of it would be another person's address
        ("See https://example.com/a.", ["https://example.com/a"]),
        ("http://localhost:8000/x, or so", ["http://localhost:8000/x"]),
        ("https://medium.example/@bob", ["https://medium.example/@bob"]),
        ("(see https://en.wikipedia.org/wiki/A_(b))", ["https://en.wikipedia.org/wiki/A_(b)"]),
        ("[docs](https://example.com/a)now", ["https://example.com/a"]),
        ("“https://example.com/a”", ["https://example.com/a"]),
        ("'https://example.com/a'", ["https://example.com/a"]),
        ("https://example.com/\U0001f642", ["https://example.com/"]),
        ("https://example.com/a\u200bb\u202e", ["https://example.com/a"]),
        ("请看https://example.com/docs，谢谢", ["https://example.com/docs"]),
        ("詳細はhttps://example.com/aをご覧ください", ["https://example.com/a"]),
        ("https://example.com/a、https://example.com/b", ["https://example.com/a", "https://example.com/b"]),
        ("https://ja.wikipedia.org/wiki/サクラ_(曖昧さ回避)", ["https://ja.wikipedia.org/wiki/サクラ_(曖昧さ回避)"]),
        ("https://example.com를 보세요", ["https://example.com"]),
        ("https://例え.jp/", ["https://例え.jp/"]),
        ("https://münchen.example/Straße", ["https://münchen.example/Straße"]),
        ("https://пример.рф/путь?я=1", ["https://пример.рф/путь?я=1"]),
        ("هل هو https://example.com/a؟", ["https://example.com/a"]),
        ("https://hi.wikipedia.org/wiki/भारत।", ["https://hi.wikipedia.org/wiki/भारत"]),
        ("write to o'brien@example.com", ["mailto:o'brien@example.com"]),
        ("'bob@example.com'", ["mailto:bob@example.com"]),
        ("aaa..bbb.cc+tag@docomo.ne.jp", ["mailto:aaa..bbb.cc+tag@docomo.ne.jp"]),
        ("メールはbob@example.comまで", ["mailto:bob@example.com"]),
        ("www.example.de or example.com/a", ["http://www.example.de", "http://example.com/a"]),
        ("e.g. report.txt 1.2.3 foo.comcast ok...", []),
        ("http\u017f://example.com/a", []),  # a long s, which is an s to a regular expression that ignores case
        ("漢www.example.com漢www.example.org", ["http://www.example.com", "http://www.example.org"]),
        ("javascript:alert(1) javascript://example.com/%0aalert(1)", []),
        ("https://shop.example@evil.example/", ["mailto:shop.example@evil.example"]),
    ],
)
def test_addresses_become_links_as_they_are_written(text: str, links: list[str]) -> None:
    assert hrefs(text) == links


def test_invisible_characters_end_an_address() -> None:
    invisible = list(filter(INVISIBLE.match, map(chr, range(0x110000))))
    assert "\u3164" in invisible  # wide as a letter, and ignored by browsers in the name of a host
    for character in invisible:
        assert hrefs(f"https://a.example/x{character}y") == ["https://a.example/x"], ascii(character)
        assert hrefs(f"https://a.example.{character}x.evil.example/") == ["https://a.example"], ascii(character)
        assert hrefs(f"https://{character}") == [], ascii(character)


def test_any_text_stays_the_same_and_every_link_shows_where_it_leads() -> None:
    pieces = [
        "https://",
        "http://",
        "www.",
        "example.com",
        "a@b.example",
        "/",
        "?",
        "#",
        "&",
        "=",
        "'",
        '"',
        "<",
        ">",
        "(",
        ")",
    ]
    pieces += [
        ".",
        ",",
        ":",
        "@",
        " ",
        "\n",
        "ü",
        "я",
        "ع",
        "漢",
        "を",
        "를",
        "·",
        "\U0001f642",
        "\u200b",
        "\u202e",
        "javascript:",
        "data:",
    ]
    rng = random.Random(7)
    for _ in range(3_000):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 30)))
        linked = linkify(text)
        assert re.sub("<a [^>]*>|</a>", "", linked) == escape(text)
        for href, shown in re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', linked):
            assert href in {shown, f"http://{shown}", f"mailto:{shown}"}
            assert href.lower().startswith(("http://", "https://", "mailto:"))
            assert not re.search(r"[\s\u2000-\u206f]", shown)


def test_a_message_has_a_limited_number_of_links() -> None:
    assert len(hrefs("https://example.com/ " * 900)) == MAX_LINKS


def emails() -> str:
    """As many different e-mail addresses as a message can hold."""
    return "".join(f"{number:x}@a.bc " for number in range(2_600))[:LONGEST]


@pytest.mark.parametrize(
    "text",
    [
        emails(),
        *(
            "www.",
            "@",
            ".",
            "(((",
            ")))",
            "'",
            "-",
            "&",
            "a@",
            "a.",
            "a'",
            "a.a@",
            "+a",
            "[",
            " ",
            ".,",
            "漢",
            "a漢",
            "\U0001f642",
        ),
        *(
            "http://",
            "http://[",
            "https://a ",
            "https://a:",
            "https://a,",
            "https://a.",
            "https://a:b@c ",
            "a.com/",
            "www.a ",
        ),
        *("漢www.ü" * 3_000 + "@", "漢https://a漢" * 2_000 + "@"),
        *(
            f"https://a.example/{run}"
            for run in (
                "()" * 9_000,
                ")" * 18_000,
                ".," * 9_000,
                "a漢" * 9_000,
                "/を" * 9_000,
                "/에" * 9_000,
                "·" * 18_000,
                "ی\u200c" * 9_000,
            )
        ),
    ],
    ids=lambda text: text[:24],
)
def test_no_text_is_slow(text: str) -> None:
    text = (text * (LONGEST // len(text) + 1))[:LONGEST]
    before = time.process_time()
    linkify(text)
    assert time.process_time() - before < 0.1  # 3 ms at most on the machine where this was written


@pytest.mark.django_db
def test_a_page_of_the_longest_messages_is_not_slow(alice: Page, talk: Conversation) -> None:
    Message.objects.bulk_create(Message(conversation=talk, author="CUS", content=emails()) for _ in range(50))
    alice.cookies["chat"] = talk.uuid.hex
    before = time.process_time()
    assert alice.get("/chat/").content.count(b'<a href="mailto:') >= MAX_LINKS  # as many messages as fit
    assert time.process_time() - before < 2  # 0.05 s on the machine where this was written


@given(lists(sampled_from(["http://a", "HTTPS://中", "www.é", "a@com", "a.com", ".", ":", "@", "/", " "])).map("".join))
def test_the_quick_check_misses_no_address(text: str) -> None:
    assert IN_ADDRESSES.search(text) or not addresses().search(text)

"""Texts without visible characters count as empty, and names lose characters that change how text is displayed."""

import json
import unicodedata
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from conversations.models import Agent, Conversation, Message, Token, Website
from conversations.models.attachment import clean_name
from conversations.models.validation import check_content, check_email, check_name
from conversations.models.visible_text import is_blank, one_line
from conversations.screen.avatars import Avatar
from conversations.screen.bubbles import EMOJI_ONLY
from tests.conftest import Page

NOTHING = {
    "zero width space": "\u200b",
    "word joiners": "\u2060\u2060",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Hangul fillers": "\u115f\u1160",
    "variation selector": "\ufe0f",
    "Braille without dots": "\u2800",
    "soft hyphen": "\u00ad",
    "byte order mark": "\ufeff",
    "tags": "\U000e0041\U000e007f",
    "joiners and blanks": " \u200d\n\u200c\u00a0\u3000",
    "direction controls": "\u202e\u2066\u200f",
    "grapheme joiner": "\u034f",
    "Mongolian vowel separator": "\u180e",
}
SEEN = ["👩‍👩‍👧", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "می‌خواهم", "❤️", "क्‍ष", ".", "\u0601", "́"]
"""Joiners, tags and selectors that belong to what is seen; an Arabic number sign; an accent alone."""

nothing = pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING)


@nothing
def test_a_message_of_nothing_visible_is_empty_at_every_door(
    talk: Conversation, bob: Agent, alice: Page, bobs: Page, text: str
) -> None:
    before = Message.objects.count()
    assert "The message is empty." in alice.says(text).content.decode()
    assert alice.htmx("/chat/messages/", {"content": text}).status_code == 422
    assert bobs.htmx(f"/inbox/{talk.pk}/messages/", {"content": text}).status_code == 422
    token = {"Authorization": f"Bearer {Token.objects.issue(bob, 'program', 'WRITE')}"}
    body = json.dumps({"content": text, "conversation": str(talk.uuid)})
    for path, headers in (("/api/messages/", {}), (f"/api/conversation/{talk.pk}/messages/", token)):
        assert alice.post(path, body, content_type="application/json", headers=headers).status_code == 422, path
    assert Message.objects.count() == before


@nothing
def test_a_name_of_nothing_visible_is_none(db: None, alice: Page, text: str) -> None:
    alice.says("Hello", name=text)
    assert Conversation.objects.get().customer_name == ""
    user = User.objects.create_user("carol", first_name=text, last_name="Ferrer")
    assert user.get_full_name() == "Ferrer"
    with pytest.raises(ValidationError):
        Website(name=text).full_clean()


@pytest.mark.parametrize("text", SEEN)
def test_what_is_seen_is_kept_as_it_was_written(text: str) -> None:
    assert check_content(text) == text
    assert check_name(text) == text


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("\u202emoc.knab@troppus", "moc.knab@troppus"),
        ("Bob\u200b", "Bob"),
        ("\u2067Bob\u2069 \u200f", "Bob"),
        ("Bob\u2028Carol\u2029\tDan\x00".replace("\x00", ""), "Bob Carol Dan"),
        ("Bo\x07b", "Bob"),
        ("\u3164\u2800Bob \ufe0f Stone \uffa0", "Bob Stone"),
    ],
)
def test_names_have_no_steering_characters_whoever_sets_them(db: None, alice: Page, name: str, clean: str) -> None:
    alice.says("Hello", name=name)
    assert Conversation.objects.get().customer_name == clean
    user = User.objects.create_user("carol", first_name=name)
    assert user.first_name == clean
    website = Website(name=name)
    website.full_clean()
    assert website.name == clean


@pytest.mark.parametrize("name", ["\u3164Bob", "Bob \u115f", "\u3164\uffa0"])
def test_initials_can_be_seen(name: str) -> None:
    """Also of names from before they were cleaned."""
    assert Avatar.of(name).initials in {"B", "?"}


@given(st.text())
def test_a_clean_name_is_one_line_and_stays_as_it_is(name: str) -> None:
    clean = one_line(name)
    assert one_line(clean) == clean
    assert not any(unicodedata.bidirectional(letter) in {"RLO", "LRO", "RLI", "LRI", "PDI", "B"} for letter in clean)
    assert bool(clean) == (not is_blank(name))


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("한글.pdf", "한글.pdf"),
        ("\U0001fae9.txt", "\U0001fae9.txt"),  # newer than the Unicode of some Pythons
        ("می‌خواهم.txt", "می‌خواهم.txt"),
        ("👩‍💻.png", "👩‍💻.png"),
        ("\ue000.txt", "\ue000.txt"),
        ("a\u2028b\u202e.txt", "ab.txt"),
        ("\u200b", "file"),
    ],
)
def test_file_names_lose_only_what_cannot_be_printed_or_steers(name: str, clean: str) -> None:
    assert clean_name(name) == clean


@pytest.mark.parametrize(
    "address",
    [
        "aaa..bbb.cc@docomo.ne.jp",
        ".a.@docomo.ne.jp",
        "o'brien+tag@example.co.uk",
        "jürgen@example.de",
        "用户@例え.jp",
        "alice@localhost",
        "!#$%&'*+/=?^_`{|}~-@example.com",
        "a@" + "x" * 63 + ".example",
    ],
)
def test_addresses_that_browsers_take_are_taken(db: None, alice: Page, address: str) -> None:
    assert check_email(f" {address}\u200b") == address
    alice.says("Hello", email=address)
    assert Conversation.objects.get().customer_email == address


@pytest.mark.parametrize(
    "address",
    [
        *[
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b c",
            "a@-b.de",
            "a@b-.de",
            "a@b..de",
            "a@.de",
            "a@b.",
            "a,b@c",
            '"a"@b',
        ],
        *["a@" + "x" * 64 + ".example", "a@b_c.de", "a\u3000b@c.de", "<a@b.de>", "a@b\r\nBcc: x@y.de", "a@[1.2.3.4]"],
        *[
            "a\u202eb@c.de",
            "a\u200b@c.de",
            "\u3164@c.de",
            "a@\u3164.de",
            "a@" + "ü" * 63 + ".de",
            "a@\u3002.de",
            "a@\ufffe.de",
        ],
    ],
)
def test_other_addresses_are_refused_and_nothing_is_stored(db: None, alice: Page, address: str) -> None:
    response: Any = alice.says("Hello", email=address)
    assert "This does not look like an e-mail address." in response.content.decode()
    assert not Conversation.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        *[
            "1️⃣",
            "#️⃣",
            "*⃣",
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
            "🇩🇪🇯🇵",
            "👩\u200d👩\u200d👧\u200d👦",
            "👩🏽\u200d🚀",
            "🧑🏻\u200d❤️\u200d💋\u200d🧑🏿",
            "👁️\u200d🗨️",
            "👍🏿",
            "☝🏽",
            "❤️",
            "❤️\u200d🔥",
            "☺️",
            "©️",
            "㊙️",
            "🅰️",
            "⌚",
            "🫠",
        ],
        "🙂 🙂\n",
    ],
)
def test_a_few_emoji_alone_are_large(text: str) -> None:
    assert EMOJI_ONLY.fullmatch(text)


@pytest.mark.parametrize(
    "text",
    [
        *["☺︎", "☺", "⌚︎", "→", "─│", "≥", "✓", "12", "1", "#", "©", "①", "🇩", "a️⃣", "々️", "\u200d", "️"],
        " ",
        "Hi 🙂",
        "🙂" * 7,
    ],
)
def test_other_texts_are_not_large(text: str) -> None:
    assert not EMOJI_ONLY.fullmatch(text)

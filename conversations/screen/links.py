"""Links in messages: finds web and e-mail addresses in plain text and returns HTML.

Django's `urlize` changes addresses with an ampersand or an apostrophe in them. linkify-it-py takes Chinese and Japanese
words that follow an address without a space for a part of it.
"""

import re
from itertools import islice

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

MAX_LINKS = 50
"""The most links in one message; further addresses stay text."""

BRACKET = re.compile(r"[()\[\]]")

# Characters of scripts that are written without spaces (Thai to Khmer, Chinese, Japanese, Korean). They belong to an
# address only after a separator: to https://ja.wikipedia.org/wiki/サクラ, but not to https://example.com/aをご覧ください.
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u318f\u31f0-\u31ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
    r"\uff66-\uff9f\U00020000-\U0003ffff"
)
# Punctuation, white space, invisible characters and emoji end an address.
ENDING = (
    r"\x80-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7\u0589\u060c\u061b-\u061f\u066a-\u066d\u06d4\u0964\u0965\u1680"
    r"\u180e\u2000-\u2bff\u2e00-\u2e7f\u3000-\u303f\ud800-\uf8ff\ufe00-\ufe6f\ufeff-\uff20\uff3b-\uff40\uff5b-\uffff"
    r"\U0001f000-\U0001ffff\U000e0000-\U0010ffff"
)
LETTER = rf"[^\x00-\x7f{UNSPACED}{ENDING}]"  # of another script, as ü, я or ع
FIRST = rf"(?:[A-Za-z0-9{UNSPACED}]|{LETTER})"
WORD = rf"(?:[A-Za-z0-9_-]|{LETTER})++"
UNSPACED_WORD = rf"(?<![A-Za-z0-9])[{UNSPACED}]++(?!(?ai:www\.))"
DOMAINS = "com|edu|gov|int|mil|net|org"
HOST = rf"(?={FIRST}) (?:{WORD}|{UNSPACED_WORD}|(?<!\.)\.(?={FIRST}))++ (?::[0-9]{{1,5}})?+"
REST = rf"(?:[/?\#](?:[!\#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]|{LETTER}|{UNSPACED_WORD})*+)?+"
LOCAL = r"A-Za-z0-9.!$'*+_~-"

# Runs in linear time: repetitions are possessive (`++`), and lookbehinds prevent a start in the middle of a run.
ADDRESS = re.compile(
    rf"""
    (?<![A-Za-z0-9]) (?P<url> (?ai:https?://) {HOST} (?![^\s/?\#]*@) {REST} )
    | (?<![’{LOCAL}]) [.!$'*+_~-]*+ (?P<email> [A-Za-z0-9][{LOCAL}]{{0,63}}+ @ {WORD} (?:\.{WORD})++ )
    | (?<![A-Za-z0-9_@./:-]) (?<!{LETTER})
      (?P<host> (?: (?ai:www\.) {HOST} | [A-Za-z0-9-]++ (?:\.[A-Za-z0-9-]++)++ (?<=\.(?ai:{DOMAINS})) )
        (?![@_]|{LETTER}) {REST} )
    """,
    re.VERBOSE,
)


def linkify(text: str) -> SafeString:
    """The text as HTML: escaped, the first MAX_LINKS addresses as links that open in a new tab and send no Referer.

    A link is shown from left to right whatever the text around it: direction controls there cannot make it look like
    another address.
    """
    html: list[str] = []
    end = 0
    for found in islice(ADDRESS.finditer(text), MAX_LINKS):
        kind = found.lastgroup or ""
        address = found[kind] if kind == "email" else _without_punctuation(found[kind])
        html.append(escape(text[end : found.start(kind)]))
        end = found.start(kind) + len(address)
        shown = escape(address)
        href = {"url": "", "email": "mailto:", "host": "http://"}[kind] + shown
        html.append(f'<a href="{href}" dir="ltr" target="_blank" rel="noopener noreferrer nofollow ugc">{shown}</a>')
    html.append(escape(text[end:]))
    return mark_safe("".join(html))  # noqa: S308 (all of it is escaped above)


def _without_punctuation(address: str) -> str:
    """Cut off what belongs to the sentence around an address: a bracket that was not opened in it, and all after it."""
    depth = 0
    for bracket in BRACKET.finditer(address):
        depth += 1 if bracket[0] in "([" else -1
        if depth < 0:
            address = address[: bracket.start()]
            break
    return address.rstrip(".,:;!?'*")

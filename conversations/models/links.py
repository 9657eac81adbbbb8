"""Links in messages: finds web and e-mail addresses in plain text and returns HTML.

Django's `urlize` changes addresses with an ampersand or an apostrophe in them. linkify-it-py takes Chinese and Japanese
words that follow an address without a space for a part of it.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from html import escape
from itertools import islice
from unicodedata import category

from django.utils.safestring import SafeString, mark_safe

MAX_LINKS = 50
"""The most links in one message; further addresses stay text."""

IN_ADDRESSES = re.compile(r"[.:@]\S")
"""What every address has in it. To look for this alone takes 1 µs where `addresses` takes 20."""

BRACKET = re.compile(r"[()\[\]]")

# Characters of scripts that are written without spaces (Thai to Tibetan, Khmer, Chinese, Japanese, Korean, Yi …). They
# belong to an address only after a separator: to https://ja.wikipedia.org/wiki/サクラ, but not to
# https://example.com/aをご覧ください.
UNSPACED = (
    r"\u0e00-\u109f\u1100-\u115e\u1161-\u11ff\u1780-\u17b3\u17b6-\u17ff\u1950-\u1aaf\u1b00-\u1b7f\u2e80-\u2fdf\u3005-\u3007\u3040-\u3163\u3165-\u318f"
    r"\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua9ff\uaa60-\uaadf\uac00-\ud7ff\uf900-\ufaff"
    r"\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f\U00020000-\U0003ffff"
)
# Punctuation that stands in no word, white space, invisible characters and emoji end an address.
ENDING = (
    r"\x80-\xa9\xab-\xb4\xb6\xb8\xb9\xbb-\xbf\xd7\xf7\u034f\u0589\u060c\u061b-\u061f\u066a-\u066d\u06d4\u0964\u0965\u115f\u1160\u1680"
    r"\u17b4\u17b5\u180b-\u180f\u2000-\u2bff\u2e00-\u2e7f\u3000-\u303f\u3164\ud800-\uf8ff\ufe00-\ufe6f\ufeff-\uff20\uff3b-\uff40\uff5b-\uffff"
    r"\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U0001f000-\U0001ffff\U000e0000-\U0010ffff"
)
# Words after a slash that continue the sentence: no path begins with them. Addresses are often copied with a slash at
# their end. Japanese particles before a word; Korean ones that stand alone, and those that are nouns too if Korean
# follows; a Chinese one; Thai ones.
HANGUL = r"\uac00-\ud7a3"
PARTICLE = (
    r"(?:を|で(?:す|した)|(?:[はがにのとへでも]|から|まで|より|には|では|とは|への|からの)(?=[\u30a1-\u30fa\u4e00-\u9fff])"
    rf"|(?:을|를|는|에|에는|에서|에서는|에게|으로|으로는|와|까지|부터|입니다|이에요|예요|이라고|라고|인데)(?![{HANGUL}])"
    rf"|(?:은|이|가|의|로|도|과|만)(?=[ ][{HANGUL}])"
    r"|的(?!士)|吗|ครับ|ค่ะ|นะค)"
)
LETTER = rf"[^\x00-\x7f{UNSPACED}{ENDING}]"  # of another script, as ü, я or ع
FIRST = rf"(?:[A-Za-z0-9{UNSPACED}]|{LETTER})"
WORD = rf"(?:[A-Za-z0-9_-]|{LETTER})++"
UNSPACED_WORD = rf"(?<![A-Za-z0-9])(?!(?<=/){PARTICLE})[{UNSPACED}]++(?!(?ai:www\.))"
# Persian and Indic words have joiners between their letters.
JOINER = r"(?<=[\u0600-\u0dff])[\u200c\u200d](?=[\u0600-\u0dff])"
DOMAINS = "com|edu|gov|int|mil|net|org"
HOST = rf"(?={FIRST}) (?:{WORD}|{UNSPACED_WORD}|(?<!\.)\.(?={FIRST}))++ (?::[0-9]{{1,5}})?+"
REST = rf"(?:[/?\#](?:[!\#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]|{LETTER}|{JOINER}|{UNSPACED_WORD})*+)?+"
LOCAL = r"A-Za-z0-9.!$'*+_~-"


@cache
def addresses() -> re.Pattern[str]:
    """The expression that finds addresses, compiled when it is first used: most commands of manage.py do not."""
    # Runs in linear time: repetitions are possessive (`++`), and lookbehinds prevent a start in the middle of a run.
    return re.compile(
        rf"""
        (?<![A-Za-z0-9]) (?P<url> (?ai:https?://) {HOST} (?![^\s/?\#]*@) {REST} )
        | (?<![’{LOCAL}]) [.!$'*+_~-]*+ (?P<email> [A-Za-z0-9][{LOCAL}]{{0,63}}+ @ {WORD} (?:\.{WORD})++ )
        | (?<![A-Za-z0-9_@./:-]) (?<!{LETTER})
          (?P<host> (?: (?ai:www\.) {HOST} | [A-Za-z0-9-]++ (?:\.[A-Za-z0-9-]++)++ (?<=\.(?ai:{DOMAINS})) )
            (?![@_]|{LETTER}) {REST} )
        """,
        re.VERBOSE,
    )


def linkify(text: str, between: Callable[[str], str] = escape) -> SafeString:
    """The text as HTML: escaped, the first MAX_LINKS addresses as links that open in a new tab and send no Referer.

    A link is shown from left to right whatever the text around it: direction controls there cannot make it look like
    another address.

    between: makes the HTML of the text between the links.
    """
    html: list[str] = []
    end = 0
    for start, until, href in islice(find_addresses(text), MAX_LINKS):
        html += (between(text[end:start]), link(href, escape(text[start:until])))
        end = until
    html.append(between(text[end:]))
    return mark_safe("".join(html))  # noqa: S308 (all of it is escaped above)


def find_addresses(text: str) -> Iterator[tuple[int, int, str]]:
    """The addresses in a text: where each begins and ends, and the address of its link."""
    if not IN_ADDRESSES.search(text):
        return
    for found in addresses().finditer(text):
        kind = found.lastgroup or ""
        address = found[kind] if kind == "email" else _without_punctuation(found[kind])
        start = found.start(kind)
        yield start, start + len(address), {"url": "", "email": "mailto:", "host": "http://"}[kind] + address


def link(href: str, shown: str, direction: str = "ltr") -> str:
    """A link that opens in a new tab and sends no Referer. `shown` is HTML, `href` is not."""
    return (
        f'<a href="{escape(href)}" dir="{direction}" target="_blank" rel="noopener noreferrer nofollow ugc">{shown}</a>'
    )


def _without_punctuation(address: str) -> str:
    """Cut off what belongs to the sentence around an address: a bracket that was not opened in it, and all after it.

    Punctuation of all scripts may stand inside an address, not at its end: https://he.wikipedia.org/wiki/צה״ל
    """
    depth = 0
    for bracket in BRACKET.finditer(address):
        depth += 1 if bracket[0] in "([" else -1
        if depth < 0:
            address = address[: bracket.start()]
            break
    end = len(address)
    while address[end - 1] in ".,:;!?'*" or (address[end - 1] > "\x7f" and category(address[end - 1])[0] == "P"):
        end -= 1
    return address[:end]

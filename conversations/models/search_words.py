"""How texts are cut into the words of the search index, and how words are found again in a text.

The same on all databases, so none of their own parsers is asked: words without case and accents. Chinese, Japanese,
Thai, Lao, Burmese and Khmer put no spaces between words, so every two letters that follow each other are one.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

LONGEST = 32
"""Characters of a word that count."""

MOST_LETTERS = 3 * LONGEST
"""Characters of a word that are looked at: some are taken out. A text may be one word, or one letter and its marks."""


def _ranges(numbers: list[int]) -> str:
    """These code points as a part of a character class."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in found)


MARKS = _ranges([number for number in range(0x300, 0x1EA00) if unicodedata.category(chr(number))[0] == "M"])
DENSE = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3\u2e80-\u2fdf\u3005-\u3007\u3031-\u3035\u3041-\u3096\u309d-\u309f"
    "\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003fffd"
)
"""Letters of languages without spaces between words."""

RUN = re.compile(rf"(?P<dense>[{DENSE}](?:[{DENSE}]|[{MARKS}])*)|(?:(?![{DENSE}])(?:[^\W_]|[{MARKS}]))+")
"""What stands between spaces and punctuation."""

LETTERS = re.compile(r"[^\W_]+(?P<dense>(?!))?")
DENSE_OR_MARK = re.compile(rf"[{DENSE}{MARKS}]")
"""Without any of these in a text, LETTERS finds the same as RUN, in a fraction of the time."""

CLUSTER = re.compile(rf".[{MARKS}\uff9e\uff9f]*")
"""A letter with its marks."""

ASCII = re.compile("[0-9a-z]+")
OTHER = str.maketrans("ıłøđðþ", "iloddt", "ـ\u200c\u200d")
"""Letters that are no other letter with an accent; and those that only stretch or join."""


class Word(NamedTuple):
    """A word of a text, as the index has it, and from where to where it stands there."""

    text: str
    start: int
    end: int


def words(text: str) -> Iterator[Word]:
    """The words of a text, in order."""
    if text.isascii():
        for found in ASCII.finditer(text.lower()):
            yield Word(found[0][:LONGEST], found.start(), found.end())
        return
    for run in _runs(text):
        start, end = run.span()
        if not run["dense"]:
            if folded := _folded(run[0][:MOST_LETTERS]):
                yield Word(folded, start, end)
            continue
        letters = [
            Word(folded, start + each.start(), start + each.end())
            for each in CLUSTER.finditer(run[0])
            if (folded := _folded(each[0][:MOST_LETTERS]))
        ]
        for letter, following in pairwise(letters):
            yield Word(letter.text + following.text, letter.start, following.end)
        if letters:  # so that the last letter is found, too
            yield letters[-1]


def _runs(text: str) -> Iterator[re.Match[str]]:
    """What stands between spaces and punctuation."""
    has_others = DENSE_OR_MARK.search("".join(set(text)))  # each character once, as it is slow
    return (RUN if has_others else LETTERS).finditer(text)


@lru_cache(maxsize=2)
def all_words(text: str) -> list[Word]:
    """The words of a text. Of a long one that takes tens of milliseconds, and several phrases are looked for in it."""
    return list(words(text))


@lru_cache(maxsize=20_000)
def _folded(word: str) -> str:
    return fold(word)[:LONGEST]


def fold(word: str) -> str:
    """A word without case, accents, and vowel signs of Arabic and Hebrew."""
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", word.casefold())
    kept = [char for char in parts if not _is_accent(unicodedata.combining(char))]
    folded = unicodedata.normalize("NFC", "".join(kept)).casefold().translate(OTHER)
    return "".join(char for char in folded if char.isalnum() or unicodedata.category(char)[0] == "M")


def _is_accent(combining_class: int) -> bool:
    return 10 <= combining_class < 40 or combining_class >= 200


class Phrase(NamedTuple):
    """Words that stand next to each other. A single word is one, too."""

    words: tuple[str, ...]
    is_prefix: bool  # whether the last word may go on

    def stands_in(self, text: str) -> bool:
        """Whether it stands in this text."""
        if text.isascii() and (pattern := _ascii_pattern(self)):  # in a tenth of the time
            return pattern.search(text.lower()) is not None
        return next(self.places(all_words(text)), None) is not None

    def matches(self, found: Sequence[Word], at: int) -> bool:
        """Whether it stands at this place of a text."""
        for offset, word in enumerate(self.words, at):
            if offset >= len(found) or found[offset].text != word:
                is_last = offset == at + len(self.words) - 1
                return bool(self.is_prefix and is_last and offset < len(found) and found[offset].text.startswith(word))
        return True

    def places(self, found: Sequence[Word]) -> Iterator[tuple[int, int]]:
        """From where to where it stands in a text, each time."""
        first = self.words[0]
        for at, word in enumerate(found):
            if word.text.startswith(first) and self.matches(found, at):  # few words begin so, and a call takes longer
                yield found[at].start, found[at + len(self.words) - 1].end


@lru_cache(maxsize=100)
def _ascii_pattern(phrase: Phrase) -> re.Pattern[str] | None:
    """What finds a phrase in a text without accents; None if one of its words is too long to tell."""
    if any(len(word) >= LONGEST for word in phrase.words):
        return None
    between, end = "[^0-9a-z]+", "" if phrase.is_prefix else "(?![0-9a-z])"
    return re.compile(f"(?<![0-9a-z]){between.join(map(re.escape, phrase.words))}{end}")


def phrase(text: str, *, is_prefix: bool) -> Phrase | None:
    """What to look for, for one word of a query or what stands in quotes; None if there is no letter in it."""
    found = list(words(text))
    if not found:
        return None
    is_dense = len(found) > 1 and found[-1].start < found[-2].end
    if is_dense:  # the last letter is in the pair before
        found.pop()
    return Phrase(tuple(word.text for word in found), is_prefix)

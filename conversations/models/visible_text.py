"""Invisible characters: whether a text has any visible ones, and removing the invisible ones from names."""

import re
import unicodedata

DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Controls of text direction: https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters"""

# For a character class
_INVISIBLE = (
    r"\s\x00-\x1f\x7f-\x9f\ud800-\udfff"
    # Default_Ignorable_Code_Point (https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt)
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # A Braille pattern without dots, a note without a head
    "\u2800\U0001d159"
)
INVISIBLE = re.compile(f"[{_INVISIBLE}]+")
"""Invisible characters."""

AT_THE_START = re.compile(rf"\A{INVISIBLE.pattern}")

# In a name: what steers its direction or its layout, or only makes it differ from one that looks the same. Joiners,
# variation selectors and tags stay, which Persian, Indic scripts and emoji need.
STEERING = re.compile(f"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u2060-\u206f\ufeff\ufff0-\ufffb{DIRECTION}]")

UNPRINTABLE = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029{DIRECTION}]")


def is_blank(text: str) -> bool:
    """Return whether there is nothing to see in a text."""
    return not text or INVISIBLE.fullmatch(text) is not None


def one_line(name: str) -> str:
    """Return a name on one line, or "" if nothing is visible.

    Characters that steer its direction or layout are left out, and invisible ones at the start of a word, where joiners
    and selectors have no meaning.
    """
    words = STEERING.sub("", " ".join(name.split())).split()
    return " ".join(filter(None, (AT_THE_START.sub("", word) for word in words)))


def file_name(name: str) -> str:
    """Return a file's name, composed (macOS sends letters and their marks apart), without what cannot be printed."""
    name = " ".join(UNPRINTABLE.sub("", unicodedata.normalize("NFC", name)).split())
    return "" if is_blank(name) else name

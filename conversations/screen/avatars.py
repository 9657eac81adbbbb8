"""A person's initials in a circle."""

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from conversations.models.visible_text import one_line


@dataclass(frozen=True)
class Avatar:
    """A person's name, initials and colour."""

    name: str
    initials: str
    hue: int  # 0 to 7

    @classmethod
    @lru_cache(maxsize=1000)
    def of(cls, name: str) -> "Avatar":
        """The avatar for a name; the same name has the same colour everywhere."""
        words = [word for word in one_line(name).split() if word[0].isalnum()]
        ends = words if len(words) < 2 else [words[0], words[-1]]
        initials = "".join(word[0].upper() for word in ends) or "?"
        if words and words[-1].isdecimal():  # tells Visitor 84 from Visitor 85
            initials = words[-1][-2:]
        return cls(name, initials, (crc32(name.encode()) >> 8) % 8)

"""A person in a circle: their picture, or their initials."""

import re
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest
from django.urls import path, reverse
from django.views.decorators.http import require_safe

from conversations.models import AgentProfile
from conversations.models.visible_text import one_line
from conversations.screen.bundles import YEAR
from conversations.screen.files import PICTURE_CSP

NAME = re.compile("[0-9a-f]{32}")
"""The last part of a stored file's path."""


@dataclass(frozen=True)
class Avatar:
    """A person's name, initials and colour, and the URL of their picture, if they have one."""

    name: str
    initials: str
    hue: int  # 0 to 7
    picture: str = ""

    @classmethod
    @lru_cache(maxsize=1000)
    def of(cls, name: str, picture: str = "") -> "Avatar":
        """The avatar for a name; the same name has the same colour everywhere.

        picture: the path of their stored picture, or "".
        """
        words = [word for word in one_line(name).split() if word[0].isalnum()]
        ends = words if len(words) < 2 else [words[0], words[-1]]
        initials = "".join(word[0].upper() for word in ends) or "?"
        if words and words[-1].isdecimal():  # tells Visitor 84 from Visitor 85
            initials = words[-1][-2:]
        return cls(name, initials, (crc32(name.encode()) >> 8) % 8, picture_url(picture) if picture else "")


def picture_url(name: str) -> str:
    """The URL of an agent's stored picture. It is random, as the file's name, and another one for each picture."""
    return reverse("avatars:picture", args=[name.rpartition("/")[2]])


@require_safe
def picture(_request: HttpRequest, name: str) -> FileResponse:
    """An agent's picture, for everybody; 404 if it is nobody's picture any more."""
    stored = f"{name[:2]}/{name}"
    try:
        if not NAME.fullmatch(name) or not AgentProfile.objects.has_picture(stored):
            raise Http404
        content = default_storage.open(stored)
    except FileNotFoundError as error:  # the database was restored from a backup and the files were not
        raise Http404 from error
    response = FileResponse(content, content_type="image/webp")
    response["Cache-Control"] = f"public, max-age={YEAR}, immutable"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = PICTURE_CSP
    response["Cross-Origin-Resource-Policy"] = "cross-origin"  # widgets show it, too
    return response


urls = ([path("avatars/<slug:name>.webp", picture, name="picture")], "avatars")

"""Bundles of scripts and style sheets: minified, compressed and cached by browsers for a year.

They are built from static/ on the first request, so that there is no build step: a page needs one script and one style
sheet, and each script is still one file with one purpose. Each URL contains a digest of the content.
"""

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import brotli
from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe
from rcssmin import cssmin
from rjsmin import jsmin

try:
    import minify
except ImportError:
    HAS_MINIFY = False
else:
    HAS_MINIFY = True
    """Whether the minifier that also shortens names is installed: it has no wheel for some platforms."""

REFUSED = re.compile(r"q=0(\.0*)?")  # the weight of an encoding that the browser does not accept
YEAR = 365 * 24 * 3600  # seconds
HTMX = "django_htmx/htmx-2.min.js"
TIMES = ("known-zone", "local-time")
LATER = "if(!document.querySelector('message-list'))await afterPaint();"
"""How these files begin where the bundle has after-paint.js: a list can be used before its times are the reader's, and
the first use of Intl takes a browser 10 ms. The page of a conversation needs the days of its messages at once."""
BOTH = ("message-list", "chat-composer", "door-bell")
FILES: dict[str, tuple[str, ...]] = {
    "inbox.js": (
        "after-paint",
        "composing-keys",
        "htmx-config",
        "known-zone",
        "unfolded",
        "local-time",
        "writing-modes",
        "agent-answer",
        "format-bar",
        *BOTH,
        "seen-line",
        "typing-line",
        "who-is-here",
        "customer-name",
        "details-form",
        "time-ago",
        "read-mark",
        "activity-folds",
        "new-line",
        "found-message",
        "inbox-list",
        "search-field",
        "desk-notices",
        "pick-bar",
        "choice-menu",
        "quote-link",
        "message-link",
    ),
    "me.js": ("known-zone", "local-time", "notice-settings"),
    "inbox.css": ("chatsite", "select", "inbox", "formatted"),
    "formatted.css": ("formatted",),  # where a customer reads a list, a quote or code
    "card.css": ("chatsite", "card"),
    "replies.css": ("chatsite", "select", "card", "replies"),
    "me.css": ("chatsite", "select", "card", "replies", "me"),
    "shop.css": ("chatsite", "shop"),
}
"""The bundles and the files in them. The chat's has its website's colour: see customer/assets.py."""


@dataclass(frozen=True)
class Asset:
    """A file that browsers cache."""

    content_type: str
    content: bytes

    @cached_property
    def digest(self) -> str:
        """The version in its URL."""
        return hashlib.sha256(self.content).hexdigest()[:12]

    def compressed(self, encoding: str) -> bytes:
        """The content in the encoding `br`, `gzip` or "". The first time takes 0.1 seconds for a script."""
        return _compress(self.content, encoding)

    def response(self, request: HttpRequest, max_age: int) -> HttpResponse:
        """The response, compressed if the browser accepts that, and cached for `max_age` seconds."""
        encoding = accepted_encoding(request)
        response = HttpResponse(self.compressed(encoding), content_type=self.content_type)
        if encoding:
            response["Content-Encoding"] = encoding
        response["Cache-Control"] = f"public, max-age={max_age}" + (", immutable" if max_age == YEAR else "")
        response["X-Content-Type-Options"] = "nosniff"
        patch_vary_headers(response, ["Accept-Encoding"])
        return response

    def version(self, request: HttpRequest, digest: str) -> HttpResponse:
        """The response for a URL with a digest.

        A page that was loaded before an update asks for an old version: it gets the current one, and must not cache it.
        """
        return self.response(request, YEAR if digest == self.digest else 0)


def accepted_encoding(request: HttpRequest) -> str:
    """The best Content-Encoding that the browser accepts (RFC 9110, 12.5.3), or "" for none."""
    choices = [choice.partition(";") for choice in request.headers.get("Accept-Encoding", "").lower().split(",")]
    accepted = {name.strip() for name, _semicolon, weight in choices if not REFUSED.fullmatch(weight.strip())}
    return next((name for name in ("br", "gzip") if name in accepted), "")


@lru_cache(maxsize=500)
def _compress(content: bytes, encoding: str) -> bytes:
    if encoding == "br":
        return bytes(brotli.compress(content, mode=brotli.MODE_FONT))  # the smallest of the three modes, by 0.3 %
    return gzip.compress(content, 9, mtime=0) if encoding else content


def read(name: str) -> str:
    """The text of a static file. Raises FileNotFoundError if it is missing."""
    found = finders.find(name)
    if not found:
        raise FileNotFoundError(f"The static file {name} is missing.")
    return Path(found).read_text()


def minified(script: str) -> str:
    """A script without comments and white space and, if possible, with short local names."""
    return str(minify.string("text/javascript", script) if HAS_MINIFY else jsmin(script))


def javascript(text: str) -> Asset:
    """A script."""
    return Asset("text/javascript; charset=utf-8", text.encode())


def stylesheet(text: str) -> Asset:
    """A style sheet."""
    return Asset("text/css; charset=utf-8", text.encode())


def scripts(names: tuple[str, ...], *, with_htmx: bool = True) -> Asset:
    """A script of htmx, unless a page needs none, then our own scripts.

    Pages load it with `type="module"`, so that it runs before htmx starts. Each is in an async function that runs at
    once: its names stay local, and if it throws, the browser reports that as an unhandled rejection and the others
    still run.
    """
    ours = "".join(_in_function(name, "after-paint" in names) for name in names)
    return javascript(minified(f"{read(HTMX)}\n{ours}" if with_htmx else ours))


def _in_function(name: str, may_wait: bool) -> str:
    text = read(f"js/{name}.js")
    if name == "after-paint":  # its names are for the other files
        return text
    return "(async()=>{" + (LATER if may_wait and name in TIMES else "") + text + "})();"


def styles(names: tuple[str, ...]) -> str:
    """The text of style sheets, minified."""
    return "".join(cssmin(read(f"css/{name}.css")) for name in names)


def bundle(name: str) -> Asset:
    """The bundle of one of the names in FILES."""
    if settings.DEBUG:  # read changed files again
        _bundle.cache_clear()
    return _bundle(name)


@cache
def _bundle(name: str) -> Asset:
    files = FILES[name]
    return scripts(files, with_htmx=name != "me.js") if name.endswith(".js") else stylesheet(styles(files))


def url(name: str) -> str:
    """The URL of a bundle in its current version."""
    stem, _, kind = name.rpartition(".")
    return reverse("bundles:file", args=[stem, bundle(name).digest, kind])


@require_safe
def file(request: HttpRequest, stem: str, digest: str, kind: str) -> HttpResponse:
    """A bundle; 404 for unknown names."""
    name = f"{stem}.{kind}"
    if name not in FILES:
        raise Http404
    return bundle(name).version(request, digest)


urls = ([path("assets/<slug:stem>.<slug:digest>.<slug:kind>", file, name="file")], "bundles")

"""The files that the chat loads: its scripts in one and its style in one, small, and kept by browsers for ever.

They are put together from static/ when they are first asked for, so that there is no build step: each script stays one
file and one behaviour, and the whole chat is still three requests. What few customers ever do is in modules of its own,
which the scripts ask for when somebody does it. The addresses of all change with what is in them.
"""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, wraps
from pathlib import Path
from typing import Any

import brotli
from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from rcssmin import cssmin
from rjsmin import jsmin

from conversations.customer.customer_request import language_of
from conversations.models import Website
from conversations.models.website import ACCENT

try:
    import minify
except ImportError:
    SMALLEST = False
else:
    SMALLEST = True
    """Whether scripts get short names too: what does that is not made for every machine, see requirements/run.in."""

HTMX = "django_htmx/htmx-2.min.js"
SCRIPTS = ("htmx-config", "local-time", "message-list", "door-bell", "chat-keeper", "chat-composer")
MODULES = ("chat-secret", "chat-seldom")
YEAR = 365 * 24 * 3600  # seconds
FIVE_MINUTES = 300  # seconds
SHORT = 6_000  # bytes of a page that has just been opened, without messages or with few


@dataclass(frozen=True)
class Asset:
    """A file as it is sent."""

    kind: str
    plain: bytes

    @property
    def digest(self) -> str:
        """A name for what is in it."""
        return hashlib.sha256(self.plain).hexdigest()[:12]

    def answer(self, request: HttpRequest, seconds: int) -> HttpResponse:
        """Send it, as small as the browser can read it."""
        encoding = _encoding(request)
        response = HttpResponse(_packed(self.plain, encoding), content_type=self.kind)
        if encoding:
            response["Content-Encoding"] = encoding
        response["Cache-Control"] = f"public, max-age={seconds}" + (", immutable" if seconds == YEAR else "")
        response["X-Content-Type-Options"] = "nosniff"
        patch_vary_headers(response, ["Accept-Encoding"])
        return response


def _encoding(request: HttpRequest) -> str:
    """The smallest that the browser can read, "" for none."""
    accepted = request.headers.get("Accept-Encoding", "")
    return next((name for name in ("br", "gzip") if name in accepted), "")


@lru_cache(maxsize=100)
def _packed(content: bytes, encoding: str) -> bytes:
    if encoding == "br":
        return bytes(brotli.compress(content))
    return gzip.compress(content, 9, mtime=0) if encoding else content


def small(view: Callable[..., Any]) -> Callable[..., HttpResponse]:
    """Send a page as small as the browser can read it.

    There is no secret in our pages whose letters could be guessed from its size (https://breachattack.com).
    """

    @wraps(view)
    def packed(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = view(request, *args, **kwargs)
        encoding = _encoding(request)
        if encoding:
            plain = response.content
            quality = 10 if len(plain) < SHORT else 5  # for each request anew: a long page must not take long
            response.content = brotli.compress(plain, quality=quality) if encoding == "br" else gzip.compress(plain, 6)
            response["Content-Encoding"] = encoding
        patch_vary_headers(response, ["Accept-Encoding"])
        return response

    return packed


def _text(name: str) -> str:
    found = finders.find(name)
    if not found:
        raise FileNotFoundError(f"The static file {name} is missing.")
    return Path(found).read_text()


def _small(script: str) -> str:
    """A script without what only people read, and, where we can, with short names for what it keeps to itself."""
    return str(minify.string("text/javascript", script) if SMALLEST else jsmin(script))


def script() -> Asset:
    """htmx, then our own scripts, each a block with names of its own."""
    if settings.DEBUG:  # so that a changed file is seen
        _script.cache_clear()
    return _script()


@cache
def _script() -> Asset:
    ours = _small("".join("{" + _text(f"js/{name}.js") + "}" for name in SCRIPTS))
    return Asset("text/javascript; charset=utf-8", f"{_text(HTMX)}\n{ours}".encode())


def module(name: str, language: str) -> Asset:
    """What a script asks for when it is first needed, with the words that are said then."""
    if settings.DEBUG:
        _module.cache_clear()
    return _module(name, language)


@cache
def _module(name: str, language: str) -> Asset:
    with translation.override(language):
        words = _secret_words() if name == "chat-secret" else _seldom_words()
    text = _small(_text(f"js/{name}.js")).replace("__WORDS__", json.dumps(words, ensure_ascii=False))
    return Asset("text/javascript; charset=utf-8", text.encode())


def _secret_words() -> dict[str, str]:
    return {
        "forgetful": _("Your browser keeps nothing here: this chat will not be remembered."),
        "window": _("Open in a new window"),
    }


def _seldom_words() -> dict[str, str]:
    return {
        "remove": _("Remove {name}"),
        "large": _("“{name}” is larger than %(most)s MB. Please send a smaller file."),
        "empty": _("“%(name)s” is empty. Please choose it again."),
        # Translators: {n} is any number, so choose words that suit them all
        "several": _("A message takes at most {n} files. Please send them in several."),
        # Translators: {n} is any number, so choose words that suit them all
        "long": _("That is {n} characters too long. Please send it in parts of {most}."),
        # Translators: {when} is “in 3 minutes”
        "many": _("Many at once: this one goes {when}"),
        "unsent": _("Not sent."),
        "refused": _("The server did not take it."),
        "edit": _("Edit"),
        "lost": _("The page was left before its files were sent. Please attach them again."),
    }


def style(accent: str) -> Asset:
    """The style of the chat with a website's accent colour."""
    if settings.DEBUG:
        _style.cache_clear()
    return _style(accent.lower())


@lru_cache(maxsize=100)
def _style(accent: str) -> Asset:
    text = cssmin(_text("css/chatsite.css"))
    return Asset("text/css; charset=utf-8", (text + ("" if accent == ACCENT else colours(accent))).encode())


def addresses(website: Website) -> dict[str, str]:
    """Where the script, the modules and the style of a website's chat are."""
    return {
        "script": reverse("assets:script", args=[script().digest]),
        **{name.replace("-", "_"): _module_address(name) for name in MODULES},
        "style": reverse("assets:style", args=[website.accent.lower().removeprefix("#"), style(website.accent).digest]),
    }


def _module_address(name: str) -> str:
    language = translation.get_language() or settings.LANGUAGE_CODE
    return reverse("assets:module", args=[name, language, module(name, language).digest])


@require_safe
def script_file(request: HttpRequest, digest: str) -> HttpResponse:
    """The scripts of the chat."""
    return _kept(request, script(), digest)


@require_safe
def module_file(request: HttpRequest, name: str, language: str, digest: str) -> HttpResponse:
    """A module of the chat in one of its languages; 404 for all else."""
    if name not in MODULES or language not in dict(settings.LANGUAGES):
        raise Http404
    return _kept(request, module(name, language), digest)


@require_safe
def style_file(request: HttpRequest, accent: str, digest: str) -> HttpResponse:
    """The style of the chat in the colour of a website; 404 for every other."""
    if not Website.objects.uses_accent(f"#{accent}"):
        raise Http404
    return _kept(request, style(f"#{accent}"), digest)


def _kept(request: HttpRequest, asset: Asset, digest: str) -> HttpResponse:
    if digest != asset.digest:  # a page of before an update: it gets what there is, and does not keep it
        return asset.answer(request, 0)
    return asset.answer(request, YEAR)


def _ink(accent: str) -> str:
    """What is read on the accent: white, or nearly black on a light one."""
    return "#fff" if contrast(WHITE, _parts(accent)) >= contrast(INK, _parts(accent)) else "#16161d"


@lru_cache(maxsize=100)
def _loader(looks: str, language: str) -> Asset:
    with translation.override(language):
        words = [_("Chat"), _("The chat cannot be reached right now."), _("Close")]
    text = _small(_text("js/loader.js")).replace("__LOOKS__", looks)
    for mark, said in (("__WORDS__", words), ("__STYLE__", cssmin(_text("css/loader.css")))):
        text = text.replace(mark, json.dumps(said, ensure_ascii=False))
    return Asset("text/javascript; charset=utf-8", text.encode())


@require_safe
def loader(request: HttpRequest) -> HttpResponse:
    """The script that a website has in its pages: `<script src="…/chat.js" data-website="KEY" async></script>`.

    It comes with the colours and positions of the websites that the page's origin is listed by, so that the bubble is
    right without asking a second time; the browser names the origin in `Referer`, unless the page forbids it. Its few
    words are in the language that the chat will have, as far as that can be known: `?language=`, else the browser's.
    """
    referer = request.headers.get("Referer", "")
    origin = "/".join(referer.split("/")[:3])
    websites = Website.objects.with_origin(origin)
    looks = {
        website.key: [website.accent, website.position, _ink(website.accent)]
        for website in websites
        if (website.accent, website.position) != (ACCENT, Website.Position.RIGHT)
    }
    if settings.DEBUG:
        _loader.cache_clear()
    language = language_of(request, websites[0].languages.split() if websites else [])
    asset = _loader(json.dumps(looks, separators=(",", ":")), language)
    response = asset.answer(request, FIVE_MINUTES)
    patch_vary_headers(response, ["Referer", "Accept-Language"])
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


WHITE, INK, NIGHT = (255.0, 255.0, 255.0), (22.0, 22.0, 29.0), (24.0, 24.0, 30.0)
READABLE = 4.5
"""The least contrast of text, WCAG 2.2 AA (https://www.w3.org/TR/WCAG22/#contrast-minimum)."""

Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 255."""


def colours(accent: str) -> str:
    """The accent's colours in both modes, each readable where it is used."""
    chosen = _parts(accent)
    on = max((WHITE, INK), key=lambda ink: contrast(ink, chosen))
    pressed = mixed(chosen, INK if on == WHITE else WHITE, 0.15)
    light = {"accent-1": mixed(chosen, WHITE, 0.9), "accent-7": readable(chosen, mixed(chosen, WHITE, 0.9), INK)}
    dark = {"accent-1": mixed(chosen, NIGHT, 0.75), "accent-7": readable(chosen, mixed(chosen, NIGHT, 0.75), WHITE)}
    both = {"accent-5": chosen, "accent-6": pressed, "on-accent": on}
    return f":root{{{_rules(both | light)}}}@media (prefers-color-scheme:dark){{:root{{{_rules(dark | both)}}}}}"


def _rules(named: dict[str, Colour]) -> str:
    return "".join(f"--{name}:rgb({red:.0f} {green:.0f} {blue:.0f});" for name, (red, green, blue) in named.items())


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """A colour with a share (0 to 1) of another one in it."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def readable(colour: Colour, ground: Colour, towards: Colour) -> Colour:
    """The colour, moved towards another one until it can be read on its ground."""
    steps = (mixed(colour, towards, step / 20) for step in range(21))
    return next((step for step in steps if contrast(step, ground) >= READABLE + 0.3), towards)


def contrast(one: Colour, other: Colour) -> float:
    """How well one is read on the other, 1 to 21 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _parts(accent: str) -> Colour:
    return int(accent[1:3], 16), int(accent[3:5], 16), int(accent[5:7], 16)


def _luminance(colour: Colour) -> float:
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

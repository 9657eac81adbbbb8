"""The script and style bundles of the chat and the loader: minified, compressed and cached by browsers for a year.

They are built from static/ on the first request, so that there is no build step: a chat page is three requests, and
each script is still one file with one purpose. Code that few customers need is in modules that are loaded on
demand. Each URL contains a digest of the content.
"""

import gzip
import hashlib
import json
import re
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
from conversations.models.website import ACCENT, DEFAULT

try:
    import minify
except ImportError:
    HAS_MINIFY = False
else:
    HAS_MINIFY = True
    """Whether the minifier that also shortens names is installed: it has no wheel for some platforms."""

HTMX = "django_htmx/htmx-2.min.js"
SCRIPTS = ("composing-keys", "htmx-config", "local-time", "chat-keeper", "door-bell", "message-list", "chat-composer")
MODULES = ("chat-secret", "chat-seldom")
YEAR = 365 * 24 * 3600  # seconds
FIVE_MINUTES = 300  # seconds
SHORT_PAGE = 6_000  # bytes; the chat page with few messages
REFUSED = re.compile(r"q=0(\.0*)?")  # the weight of an encoding that the browser does not accept


@dataclass(frozen=True)
class Asset:
    """A file that browsers cache."""

    content_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """The version in its URL."""
        return hashlib.sha256(self.content).hexdigest()[:12]

    def response(self, request: HttpRequest, max_age: int) -> HttpResponse:
        """The response, compressed if the browser accepts that, and cached for `max_age` seconds."""
        encoding = _encoding(request)
        response = HttpResponse(_compress(self.content, encoding), content_type=self.content_type)
        if encoding:
            response["Content-Encoding"] = encoding
        response["Cache-Control"] = f"public, max-age={max_age}" + (", immutable" if max_age == YEAR else "")
        response["X-Content-Type-Options"] = "nosniff"
        patch_vary_headers(response, ["Accept-Encoding"])
        return response


def _encoding(request: HttpRequest) -> str:
    """The best Content-Encoding that the browser accepts (RFC 9110, 12.5.3), or "" for none."""
    choices = [choice.partition(";") for choice in request.headers.get("Accept-Encoding", "").lower().split(",")]
    accepted = {name.strip() for name, _semicolon, weight in choices if not REFUSED.fullmatch(weight.strip())}
    return next((name for name in ("br", "gzip") if name in accepted), "")


@lru_cache(maxsize=100)
def _compress(content: bytes, encoding: str) -> bytes:
    if encoding == "br":
        return bytes(brotli.compress(content, mode=brotli.MODE_FONT))  # the smallest of the three modes, by 0.3 %
    return gzip.compress(content, 9, mtime=0) if encoding else content


def compressed(view: Callable[..., Any]) -> Callable[..., HttpResponse]:
    """Compress the view's responses if the browser accepts that.

    The compressed size reveals no secret (https://breachattack.com), because a page repeats no part of its query string
    that an attacker can choose: see tests/test_compression.py.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = view(request, *args, **kwargs)
        encoding = _encoding(request)
        if encoding:
            content = response.content
            quality = 10 if len(content) < SHORT_PAGE else 5  # nothing is cached here, so a long page gets a fast level
            response.content = (
                brotli.compress(content, quality=quality) if encoding == "br" else gzip.compress(content, 6)
            )
            response["Content-Encoding"] = encoding
        patch_vary_headers(response, ["Accept-Encoding"])
        return response

    return wrapper


def _read(name: str) -> str:
    found = finders.find(name)
    if not found:
        raise FileNotFoundError(f"The static file {name} is missing.")
    return Path(found).read_text()


def _minify(script: str) -> str:
    """A script without comments and white space and, if possible, with short local names."""
    return str(minify.string("text/javascript", script) if HAS_MINIFY else jsmin(script))


def script() -> Asset:
    """The chat's script: htmx, then our own scripts.

    Each is in an async function that runs at once: its names stay local, and if it throws, the browser reports that as
    an unhandled rejection and the others still run.
    """
    if settings.DEBUG:  # read changed files again
        _script.cache_clear()
    return _script()


@cache
def _script() -> Asset:
    ours = "".join("(async()=>{" + _read(f"js/{name}.js") + "})();" for name in SCRIPTS)
    return Asset("text/javascript; charset=utf-8", _minify(f"{_read(HTMX)}\n{ours}").encode())


def module(name: str, language: str) -> Asset:
    """A script that is loaded on demand, with its texts in a language."""
    if settings.DEBUG:
        _module.cache_clear()
    return _module(name, language)


@cache
def _module(name: str, language: str) -> Asset:
    with translation.override(language):
        texts = _secret_texts() if name == "chat-secret" else _seldom_texts()
    text = _minify(_read(f"js/{name}.js")).replace("__TEXTS__", json.dumps(texts, ensure_ascii=False))
    return Asset("text/javascript; charset=utf-8", text.encode())


def _secret_texts() -> dict[str, str]:
    return {
        "not_remembered": _("Your browser does not store data for this page. The chat is lost when you close it."),
        "window": _("Open in a new window"),
    }


def _seldom_texts() -> dict[str, str]:
    return {
        "remove": _("Remove {name}"),
        "large": _("“{name}” is larger than %(most)s MB. Please send a smaller file."),
        "empty": _("“%(name)s” is empty. Please choose it again."),
        # Translators: {n} is any number, so choose words that suit them all
        "several": _("A message takes at most {n} files. Please send them in several."),
        # Translators: {n} is any number, so choose words that suit them all
        "long": _("That is {n} characters too long. Please send it in parts of {most}."),
        # Translators: {when} is “in 3 minutes”
        "many": _("Too many messages at once. This one will be sent {when}"),
        "unsent": _("Not sent."),
        "refused": _("The server did not accept it."),
        "edit": _("Edit"),
        "restored": _("This message was lost. You can send it again."),
        "lost": _("The page was closed before the files were sent. Please attach them again."),
    }


def style(accent: str) -> Asset:
    """The chat's style sheet with a website's accent colour, `#rrggbb`."""
    if settings.DEBUG:
        _style.cache_clear()
    return _style(accent.lower())


@lru_cache(maxsize=100)
def _style(accent: str) -> Asset:
    text = cssmin(_read("css/chatsite.css"))
    return Asset("text/css; charset=utf-8", (text + ("" if accent == ACCENT else accent_css(accent))).encode())


def urls(website: Website) -> dict[str, str]:
    """The URLs of the script, the modules and the style sheet of a website's chat."""
    return {
        "script": reverse("assets:script", args=[script().digest]),
        **{name.replace("-", "_"): _module_url(name) for name in MODULES},
        "style": reverse("assets:style", args=[website.accent.lower().removeprefix("#"), style(website.accent).digest]),
    }


def _module_url(name: str) -> str:
    language = translation.get_language() or settings.LANGUAGE_CODE
    return reverse("assets:module", args=[name, language, module(name, language).digest])


@require_safe
def script_file(request: HttpRequest, digest: str) -> HttpResponse:
    """The chat's script."""
    return _versioned(request, script(), digest)


@require_safe
def module_file(request: HttpRequest, name: str, language: str, digest: str) -> HttpResponse:
    """A module of the chat in one of our languages; 404 for any other.

    A page that was loaded before an update cannot work with the module of another version: it is reloaded, which keeps
    what is typed and not sent yet. Agents' pages ask for `current` instead of a version.
    """
    if name not in MODULES or language not in dict(settings.LANGUAGES):
        raise Http404
    current = module(name, language)
    if digest not in {current.digest, "current"}:
        return Asset(current.content_type, b"location.reload();").response(request, 0)
    return _versioned(request, current, digest)


@require_safe
def style_file(request: HttpRequest, accent: str, digest: str) -> HttpResponse:
    """The chat's style sheet in the accent colour of some website; 404 for any other colour."""
    if not Website.objects.uses_accent(f"#{accent}"):
        raise Http404
    return _versioned(request, style(f"#{accent}"), digest)


def _versioned(request: HttpRequest, asset: Asset, digest: str) -> HttpResponse:
    # A page that was loaded before an update asks for an old version: it gets the current one, and must not cache it.
    return asset.response(request, YEAR if digest == asset.digest else 0)


def _text_colour(accent: str) -> str:
    """The text colour with the better contrast on the accent colour: white or nearly black."""
    return "#fff" if contrast(WHITE, _rgb(accent)) >= contrast(INK, _rgb(accent)) else "#16161d"


@lru_cache(maxsize=100)
def _loader(appearance: str, key: str, language: str) -> Asset:
    with translation.override(language):
        texts = [_("Chat"), _("The chat cannot be reached right now."), _("Close")]
    style = cssmin(_read("css/loader.css"))
    for placeholder, variable in (("SIDE", "${side}"), ("COLOUR", "${colour}"), ("TEXT", "${textColour}")):
        style = style.replace(placeholder, variable)
    text = _minify(_read("js/loader.js").replace("__STYLE__", style)).replace("__APPEARANCE__", appearance)
    text = text.replace("__KEY__", key)
    text = text.replace("__TEXTS__", json.dumps(texts, separators=(",", ":"), ensure_ascii=False))
    return Asset("text/javascript; charset=utf-8", text.encode())


@require_safe
def loader(request: HttpRequest) -> HttpResponse:
    """The script that a website embeds: `<script src="…/chat.js" data-website="KEY" async></script>`.

    It contains the colours and positions of the websites that list the origin of the page, so that the launcher needs
    no second request to look right. The browser sends that origin in `Referer`, unless the page forbids it. Its texts
    are in the language of `?language=`, else the browser's. `?website=` is the key where there is no attribute.

    A page whose origin no website lists, or not the one of `?website=`, gets a script that says so instead.
    """
    chosen = website.key if (website := Website.objects.by_key(request.GET.get("website", ""))) else ""
    referer = request.headers.get("Referer", "")
    origin = "/".join(referer.split("/")[:3])
    websites = Website.objects.with_origin(origin)
    is_listed = any(website.key == chosen for website in websites) if request.GET.get("website") else bool(websites)
    if origin.startswith(("http://", "https://")) and not is_listed:
        return _refused(request, origin)
    appearance = {
        website.key: [website.accent, website.position, _text_colour(website.accent)]
        for website in websites
        if (website.accent, website.position) != (ACCENT, Website.Position.RIGHT)
    }
    if settings.DEBUG:
        _loader.cache_clear()
    language = language_of(request, websites[0].languages.split() if websites else [])
    asset = _loader(json.dumps(appearance, separators=(",", ":")), json.dumps(chosen or DEFAULT), language)
    response = asset.response(request, FIVE_MINUTES)
    response["Cache-Control"] = f"private, max-age={FIVE_MINUTES}"  # many CDNs ignore Vary
    patch_vary_headers(response, ["Referer", "Accept-Language"])
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def _refused(request: HttpRequest, origin: str) -> HttpResponse:
    """The script for a page whose origin is not listed. It is not cached: the page works once its origin is added."""
    facts = {
        "origin": origin,
        "website": request.GET.get("website", "")[:40] or DEFAULT,
        "admin": request.build_absolute_uri(reverse("admin:conversations_website_changelist")),
    }
    text = _minify(_read("js/loader-refused.js")).replace("__REFUSED__", json.dumps(facts))
    # Not compressed: what anybody may make up would take the place of files that are kept compressed.
    response = HttpResponse(text, content_type="text/javascript; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store, private"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


WHITE, INK, NIGHT = (255.0, 255.0, 255.0), (22.0, 22.0, 29.0), (24.0, 24.0, 30.0)
MIN_CONTRAST = 4.5
"""The minimum contrast of text, WCAG 2.2 AA (https://www.w3.org/TR/WCAG22/#contrast-minimum)."""

Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 255."""


def accent_css(accent: str) -> str:
    """CSS that sets the accent colours in light and dark mode, each with enough contrast where it is used."""
    chosen = _rgb(accent)
    text = max((WHITE, INK), key=lambda colour: contrast(colour, chosen))
    pressed = mix(chosen, INK if text == WHITE else WHITE, 0.15)
    light = {"accent-wash": mix(chosen, WHITE, 0.9), "accent-text": readable(chosen, mix(chosen, WHITE, 0.9), INK)}
    dark = {"accent-wash": mix(chosen, NIGHT, 0.75), "accent-text": readable(chosen, mix(chosen, NIGHT, 0.75), WHITE)}
    both = {"accent": chosen, "accent-strong": pressed, "on-accent": text}
    light_css, dark_css = _properties(both | light), _properties(dark | both)
    return f":root{{{light_css}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark_css}}}}}"


def _properties(named: dict[str, Colour]) -> str:
    return "".join(f"--{name}:rgb({red:.0f} {green:.0f} {blue:.0f});" for name, (red, green, blue) in named.items())


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """A mixture of two colours; `share` (0 to 1) is the part of the other one."""
    red, green, blue = (a + (b - a) * share for a, b in zip(colour, other, strict=True))
    return red, green, blue


def readable(colour: Colour, background: Colour, extreme: Colour) -> Colour:
    """The colour, mixed with the `extreme` one (black or white) until it has enough contrast to the background."""
    steps = (mix(colour, extreme, step / 20) for step in range(21))
    return next((step for step in steps if contrast(step, background) >= MIN_CONTRAST + 0.3), extreme)


def contrast(colour: Colour, other: Colour) -> float:
    """The contrast ratio of two colours, 1 to 21 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio)."""
    lighter, darker = sorted((_luminance(colour), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _rgb(accent: str) -> Colour:
    return int(accent[1:3], 16), int(accent[3:5], 16), int(accent[5:7], 16)


def _luminance(colour: Colour) -> float:
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

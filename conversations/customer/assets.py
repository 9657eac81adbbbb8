"""The chat's script and style sheet, its modules, and the loader: see screen/bundles.py.

A chat page takes three requests. Code that few customers need is in modules that are loaded on demand.
"""

import json
from functools import cache, lru_cache

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from conversations.customer.customer_request import language_of
from conversations.models import Website
from conversations.models.website import ACCENT, DEFAULT
from conversations.screen import bundles
from conversations.screen.bundles import Asset, javascript, minified, read, stylesheet
from conversations.threshold.origin import own_origin

SCRIPTS = ("htmx-config", "chat-keeper", "door-bell", "local-time", "message-list", "chat-composer", "composing-keys")
MODULES = {
    "chat-secret": ("chat-secret",),
    "chat-seldom": ("chat-seldom",),
    "chat-live": ("seen-line", "typing-line", "chat-live"),
    "sounds": ("sounds",),
}
"""The modules, and the scripts that each consists of."""

FIVE_MINUTES = 300  # seconds


def script() -> Asset:
    """The chat's script: htmx, then our own scripts."""
    if settings.DEBUG:  # read changed files again
        _script.cache_clear()
    return _script()


@cache
def _script() -> Asset:
    return bundles.scripts(SCRIPTS)


def module(name: str, language: str) -> Asset:
    """A script that is loaded on demand, with its texts in a language."""
    if settings.DEBUG:
        _module.cache_clear()
    return _module(name, language)


@cache
def _module(name: str, language: str) -> Asset:
    with translation.override(language):
        texts = TEXTS[name]()
    text = minified("".join(read(f"js/{part}.js") for part in MODULES[name])).replace(
        "__TEXTS__", json.dumps(texts, ensure_ascii=False)
    )
    return javascript(text)


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


def _live_texts() -> dict[str, str]:
    # Translators: {name} is an agent
    return {"typing": _("{name} is typing…")}


TEXTS = {"chat-secret": _secret_texts, "chat-seldom": _seldom_texts, "chat-live": _live_texts, "sounds": dict}


def style(accent: str) -> Asset:
    """The chat's style sheet with a website's accent colour, `#rrggbb`."""
    if settings.DEBUG:
        _style.cache_clear()
    return _style(accent.lower())


@lru_cache(maxsize=100)
def _style(accent: str) -> Asset:
    return stylesheet(bundles.styles(("chatsite",)) + ("" if accent == ACCENT else accent_css(accent)))


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
    return script().version(request, digest)


@require_safe
def module_file(request: HttpRequest, name: str, language: str, digest: str) -> HttpResponse:
    """A module of the chat in one of our languages; 404 for any other.

    A page that was loaded before an update cannot use the module of another version, so it is reloaded. Unsent text
    is kept. Agents' pages ask for `current` instead of a version.
    """
    if name not in MODULES or language not in dict(settings.LANGUAGES):
        raise Http404
    current = module(name, language)
    if digest not in {current.digest, "current"}:
        return javascript("location.reload();").response(request, 0)
    return current.version(request, digest)


@require_safe
def style_file(request: HttpRequest, accent: str, digest: str) -> HttpResponse:
    """The chat's style sheet in the accent colour of some website; 404 for any other colour."""
    if not Website.objects.uses_accent(f"#{accent}"):
        raise Http404
    return style(f"#{accent}").version(request, digest)


def _text_colour(accent: str) -> str:
    """The text colour with the better contrast on the accent colour: white or nearly black."""
    return "#fff" if contrast(WHITE, _rgb(accent)) >= contrast(INK, _rgb(accent)) else "#16161d"


def _appearance(website: Website) -> list[str]:
    """The website's colour, position and text colour; empty if they are the defaults."""
    if (website.accent, website.position) == (ACCENT, Website.Position.RIGHT):
        return []
    return [website.accent, website.position, _text_colour(website.accent)]


@lru_cache(maxsize=500)
def _loader(appearance: str, is_complete: bool, key: str, language: str) -> Asset:
    with translation.override(language):
        texts = [_("Chat"), _("The chat cannot be reached right now."), _("Close")]
    style = bundles.styles(("loader",))
    for placeholder, variable in (("SIDE", "${side}"), ("COLOUR", "${colour}"), ("TEXT", "${textColour}")):
        style = style.replace(placeholder, variable)
    text = minified(read("js/loader.js").replace("__STYLE__", style)).replace("__APPEARANCE__", appearance)
    text = text.replace("__OTHER__", "0" if is_complete else "[]")
    text = text.replace("__KEY__", key)
    text = text.replace("__TEXTS__", json.dumps(texts, separators=(",", ":"), ensure_ascii=False))
    return javascript(text)


@require_safe
def loader(request: HttpRequest) -> HttpResponse:
    """The script that a website embeds: `<script src="…/chat.js" data-website="KEY" async></script>`.

    It contains the colours and positions of the websites that list the origin of the page, so that the button needs
    no second request for its colours. The browser sends that origin in `Referer`, unless the page forbids it. The texts
    are in the language of `?language=`, else the browser's. `?website=` is the key if there is no attribute.

    A page whose origin no website lists, or not the one of `?website=`, gets a script that says so instead. The loader
    itself imports that (`?refused=KEY`) where the website of the attribute does not list the page, and where the chat
    does not load in its frame.
    """
    chosen = website.key if (website := Website.objects.by_key(request.GET.get("website", ""))) else ""
    # The browser sends the page's origin in Origin with import(), and not in Referer.
    referer = request.headers.get("Origin" if "refused" in request.GET else "Referer", "")
    origin = "/".join(referer.split("/")[:3])
    websites = Website.objects.with_origin(origin)
    is_listed = any(website.key == chosen for website in websites) if request.GET.get("website") else bool(websites)
    if not origin.startswith(("http://", "https://")) or origin == own_origin(request):
        origin = ""  # unknown, or a page of ours, which needs no list
    if "refused" in request.GET:
        return _refused(request, origin, any(website.key == request.GET["refused"] for website in websites))
    if origin and not is_listed:
        return _refused(request, origin, is_listed)
    appearance = {website.key: _appearance(website) for website in websites}
    if settings.DEBUG:
        _loader.cache_clear()
    language = language_of(request, websites[0].languages.split() if websites else [])
    asset = _loader(
        json.dumps(appearance, separators=(",", ":")), bool(origin), json.dumps(chosen or DEFAULT), language
    )
    response = asset.response(request, FIVE_MINUTES)
    response["Cache-Control"] = f"private, max-age={FIVE_MINUTES}"  # many CDNs ignore Vary
    patch_vary_headers(response, ["Referer", "Accept-Language"])
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def _refused(request: HttpRequest, origin: str, is_listed: bool) -> HttpResponse:
    """The script that says why a page has no chat. It is not cached: the page works once its origin is added."""
    facts = {
        "origin": origin,
        "listed": is_listed,
        "chat": own_origin(request),
        "website": (request.GET.get("refused") or request.GET.get("website") or DEFAULT)[:40],
        "admin": request.build_absolute_uri(reverse("admin:conversations_website_changelist")),
    }
    text = minified(read("js/loader-refused.js")).replace("__REFUSED__", json.dumps(facts))
    # Not compressed: the cache of compressed files is bounded, and anybody could fill it with made-up origins.
    response = HttpResponse(text, content_type="text/javascript; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store, private"
    response["Access-Control-Allow-Origin"] = "*"  # for import()
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

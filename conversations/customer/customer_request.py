"""One request of a customer: to which website's chat, in whose page, in which language, on what authority."""

import uuid
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any
from urllib.parse import unquote, urlencode

from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.http import HttpRequest as DjangoRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.translation.trans_real import parse_accept_lang_header
from django_htmx.middleware import HtmxDetails

from conversations.models import Contact, Conversation, Website
from conversations.models.contact import Claim
from conversations.models.website import DEFAULT, normalize_origin
from conversations.threshold import customer_secret, identity
from conversations.threshold.origin import own_origin, same_origin_only


class HttpRequest(DjangoRequest):
    """A request, and what htmx says of it."""

    htmx: HtmxDetails


class CustomerRequest:
    """What every customer's request says of itself.

    `host` is the origin of the page that has the chat in it, "" where it stands alone. Whoever names a host that the
    website does not list is taken to name none: what may frame the answer is then the website's list.
    """

    def __init__(self, request: HttpRequest, key: str) -> None:
        """`key` is the website's."""
        self.request = request
        self.key = key
        self.by_browser = request.LANGUAGE_CODE  # see chatsite/language.py
        self.host = _origin(request.GET.get("host", ""))
        self.cookie = customer_secret.cookie_name(key, self.host)
        self.header = request.headers.get(customer_secret.HEADER)
        self.secret: uuid.UUID | None = customer_secret.read(request.COOKIES, self.cookie, self.header)

    @cached_property
    def website(self) -> Website:
        """The website. Raises Http404 if there is none with this key."""
        if self.key == DEFAULT:
            return Website.objects.default()
        website = Website.objects.by_key(self.key)
        if website is None:
            raise Http404
        return website

    @cached_property
    def conversation(self) -> Conversation | None:
        """The conversation whose secret the browser shows, if it is one of this website's."""
        website, found = self.website, Conversation.objects.by_uuid(self.secret)
        return found if found and found.website_id == website.pk else None

    @property
    def proof(self) -> str:
        """What is shown to prove who the customer is, "" for nothing. Headers take only ASCII, so it is escaped."""
        return unquote(self.request.headers.get(identity.HEADER, ""))

    @cached_property
    def claim(self) -> Claim | None:
        """Who the website's own server says it is, or None. Raises identity.InvalidProof where it must say so."""
        return identity.verify_or_anonymous(self.website, self.proof)

    def continuable_conversation(self, claim: Claim | None) -> Conversation | None:
        """The conversation to go on with: never one of another verified customer."""
        found = self.conversation
        return None if found and claim and not Contact.objects.may_continue(claim, found) else found

    @cached_property
    def frame_ancestors(self) -> list[str]:
        """Whose pages may have this chat in them: the host's, or where none is named all that the website lists."""
        if self.host == own_origin(self.request):
            return []
        if self.host and self.website.allows_origin(self.host):
            return [self.host]
        return [origin.origin for origin in self.website.origins.all()]

    @cached_property
    def query(self) -> str:
        """What every further request of this page must say again, as a query string."""
        said = {}
        if self.host:
            said["host"] = self.host
        if self.language != self.by_browser:
            said["language"] = self.language
        return f"?{urlencode(said)}" if said else ""

    @property
    def alone(self) -> str:
        """The same for a window of its own, which stands in nobody's page."""
        return "" if self.language == self.by_browser else f"?{urlencode({'language': self.language})}"

    @cached_property
    def language(self) -> str:
        """The customer's language: what the page says, else what the browser does, among those that the website has."""
        return language_of(self.request, self.website.languages.split())

    def activate_language(self) -> None:
        """Speak the customer's language from here on."""
        translation.activate(self.language)
        self.request.LANGUAGE_CODE = self.language

    def send_secret(self, response: HttpResponse, conversation: Conversation) -> None:
        """Let the browser hold the conversation's secret: in a cookie, or in its script's keeping if it asks for it."""
        if self.request.headers.get("X-Keep") or self.header:
            response["X-Secret"] = conversation.uuid.hex
        if not self.header:
            customer_secret.set_cookie(response, conversation, self.cookie, self.host)

    def drop_secret(self, response: HttpResponse) -> None:
        """Let the browser forget it."""
        response["X-Secret"] = ""
        customer_secret.delete_cookie(response, self.cookie, self.host)


def customer_view(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Give the view a CustomerRequest, and speak its language where the page has said which one that is.

    Our own pages alone may write: see same_origin_only.
    """

    @wraps(view)
    def guarded(request: HttpRequest, key: str = DEFAULT, **kwargs: Any) -> HttpResponseBase:
        code = _supported(request.GET.get("language", ""))
        if code:
            translation.activate(code)
        response = view(CustomerRequest(request, key), **kwargs)
        patch_vary_headers(response, ["Cookie", customer_secret.HEADER])
        return response

    return same_origin_only(guarded)


def _origin(text: str) -> str:
    try:
        return normalize_origin(text) if text else ""
    except ValidationError:
        return ""


def language_of(request: DjangoRequest, offered: list[str]) -> str:
    """What the page says, else what the browser does, among the languages that are offered: all, if none is named."""
    said = _supported(request.GET.get("language", ""))
    if not offered:
        return said or request.LANGUAGE_CODE
    spoken = parse_accept_lang_header(request.headers.get("Accept-Language", "").lower())
    wanted = [said, *(_supported(code) for code, _ in spoken)]
    return next((code for code in wanted if code in offered), offered[0])


def _supported(code: str) -> str:
    try:
        return translation.get_supported_language_variant(code) if code else ""
    except LookupError:
        return ""

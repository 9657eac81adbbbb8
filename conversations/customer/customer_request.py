"""A customer's request: its website, the page around the chat, its language, conversation and proof of identity."""

import uuid
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any
from urllib.parse import unquote, urlencode

from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse, QueryDict
from django.http import HttpRequest as DjangoRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.translation.trans_real import parse_accept_lang_header
from django_htmx.middleware import HtmxDetails

from conversations.models import Contact, Conversation, Website
from conversations.models.contact import Claim
from conversations.models.recipients import recipients
from conversations.models.website import DEFAULT, normalize_origin
from conversations.threshold import customer_secret, identity, limits
from conversations.threshold.origin import own_origin, same_origin_only


class HttpRequest(DjangoRequest):
    """A request with the attribute that django-htmx adds."""

    htmx: HtmxDetails


class CustomerRequest:
    """A customer's request to the chat of one website.

    `host` is the origin of the page that embeds the chat, "" if the chat is not embedded. A host that the
    website does not list may not frame the chat: see `frame_ancestors`.
    """

    def __init__(self, request: HttpRequest, key: str) -> None:
        """`key` is the website's key."""
        self.request = request
        self.key = key
        self.browser_language = request.LANGUAGE_CODE  # see chatsite/language.py
        self.host = _origin(request.GET.get("host", ""))
        self.cookie = customer_secret.cookie_name(key, self.host)
        self.header = request.headers.get(customer_secret.HEADER)
        self.secret: uuid.UUID | None = customer_secret.read(request.COOKIES, self.cookie, self.header)

    @cached_property
    def website(self) -> Website:
        """The website. Raises Http404 if there is none with this key."""
        if self._found and self._found.website.key == self.key:
            return self._found.website
        if self.key == DEFAULT:
            return Website.objects.default()
        website = Website.objects.by_key(self.key)
        if website is None:
            where = reverse("admin:conversations_website_changelist")
            raise Http404(f"There is no website with the key “{self.key}”. All websites and their keys are in {where}.")
        return website

    @cached_property
    def conversation(self) -> Conversation | None:
        """The conversation whose secret the browser sends; None if there is none, or if it is of another website."""
        website, found = self.website, self._found
        return found if found and found.website_id == website.pk else None

    @cached_property
    def _found(self) -> Conversation | None:
        """The conversation of any website whose secret the browser sends, with its website, read by one query."""
        return Conversation.objects.by_uuid(self.secret, "website")

    def use_remembered(self) -> None:
        """For writing: take the conversation as it was read for the message before, if it is remembered."""
        if not self.proof and (found := recipients.get(self.secret)):
            self._found = found

    def find(self, secret: uuid.UUID | None) -> Conversation | None:
        """The conversation of this website that has the secret, or None."""
        website, found = self.website, Conversation.objects.by_uuid(secret)
        return found if found and found.website_id == website.pk else None

    @property
    def proof(self) -> str:
        """The proof of identity in the header, or "". Headers take only ASCII, so it comes percent-encoded."""
        return unquote(self.request.headers.get(identity.HEADER, ""))

    @cached_property
    def claim(self) -> Claim | None:
        """Who the customer is, as the website's own server says, or None. Raises InvalidProof where one is required."""
        return identity.verify_or_anonymous(self.website, self.proof)

    @cached_property
    def must_sign_in(self) -> bool:
        """Whether no message can be sent yet, because the website requires a proof of who the customer is.

        A page that embeds the chat sends its proof after the chat has loaded. A customer who was identified before does
        not have to wait for that.
        """
        if not self.website.identity_required:
            return False
        try:
            return self.claim is None
        except identity.InvalidProof:
            was_identified = self.conversation is not None and self.conversation.is_verified
            return bool(self.proof) or not (self.listed_host and was_identified)

    def continuable_conversation(self, claim: Claim | None) -> Conversation | None:
        """The conversation that a message goes to: never one of another verified customer."""
        found = self.conversation
        if claim is None:
            return found
        if found is None:
            found = customer_secret.find_identified(self.secret, self.proof)
            return found if found and found.website_id == self.website.pk else None
        return found if Contact.objects.may_continue(claim, found) else None

    @cached_property
    def earlier(self) -> list[Conversation]:
        """Earlier conversations of the same verified customer, if the request proves that it is from them."""
        found = self.conversation
        if found is None or found.contact_id is None or not self.proof:
            return []
        try:
            claim = identity.verify(self.website, self.proof)
        except identity.InvalidProof:
            return []
        return found.earlier() if claim and Contact.objects.owns(claim, found) else []

    @cached_property
    def listed_host(self) -> str:
        """The host if it is our own origin or the website lists it, else "": other origins may not embed this chat.

        Pages repeat only this one, because text that an attacker has chosen must not be compressed together with
        messages (BREACH).
        """
        is_listed = self.host == own_origin(self.request) or (self.host and self.website.allows_origin(self.host))
        return self.host if is_listed else ""

    @cached_property
    def frame_ancestors(self) -> list[str]:
        """The origins whose pages may embed this chat: the listed host, or without one all origins of the website."""
        if self.host == own_origin(self.request):
            return []
        return [self.listed_host] if self.listed_host else self.website.listed_origins()

    @cached_property
    def query(self) -> str:
        """The query string that all URLs on this page must have: the host and the chosen language."""
        parameters = {}
        if self.listed_host:
            parameters["host"] = self.listed_host
        if self.language != self.browser_language:
            parameters["language"] = self.language
        return f"?{urlencode(parameters)}" if parameters else ""

    @property
    def parameters(self) -> QueryDict:
        """The parameters of `query`, for the template tag `querystring`; by default it would repeat the request's."""
        return QueryDict(self.query[1:])

    def path(self, name: str) -> str:
        """The path of a URL of the customer, on this website. `name` is its name in urls.py."""
        return reverse(f"customer:{name}") if self.key == DEFAULT else reverse(f"website:{name}", args=[self.key])

    def url(self, name: str) -> str:
        """The path with the query string of this host and language."""
        return self.path(name) + self.query

    @property
    def standalone_query(self) -> str:
        """The query string of the chat in a new window, which no page embeds: the language alone."""
        return "" if self.language == self.browser_language else f"?{urlencode({'language': self.language})}"

    @cached_property
    def language(self) -> str:
        """The customer's language: the one that the page asks for, else the browser's, among those of the website."""
        return language_of(self.request, self.website.languages.split())

    def activate_language(self) -> None:
        """Activate the customer's language for the rest of this request."""
        translation.activate(self.language)
        self.request.LANGUAGE_CODE = self.language

    def send_secret(self, response: HttpResponse, conversation: Conversation) -> None:
        """Send the conversation's secret to the browser: in a cookie, or in a header if its script asks for it."""
        if self.request.headers.get("X-Keep") or self.header:
            response["X-Secret"] = conversation.uuid.hex
        if not self.header:
            customer_secret.set_cookie(response, conversation, self.cookie, self.host)

    def drop_secret(self, response: HttpResponse) -> None:
        """Delete the secret in the browser."""
        response["X-Secret"] = ""
        customer_secret.delete_cookie(response, self.cookie, self.host)


def customer_view(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Give the view a CustomerRequest, and activate the language that the page asks for.

    Unsafe requests from pages of other origins are refused: see same_origin_only.
    """

    @wraps(view)
    def guarded(request: HttpRequest, key: str = DEFAULT, **kwargs: Any) -> HttpResponseBase:
        code = _supported_language(request.GET.get("language", ""))
        if code:
            translation.activate(code)
        try:
            response = view(CustomerRequest(request, key), **kwargs)
        except limits.RateLimitExceeded as error:
            response = rate_limited(error)
        patch_vary_headers(response, ["Cookie", customer_secret.HEADER])
        return response

    return same_origin_only(guarded)


def rate_limited(error: limits.RateLimitExceeded) -> HttpResponse:
    """The response when a rate limit is reached."""
    headers = {"Retry-After": str(error.retry_after)}
    return HttpResponse(str(error), status=429, content_type="text/plain; charset=utf-8", headers=headers)


def _origin(text: str) -> str:
    try:
        return normalize_origin(text) if text else ""
    except ValidationError:
        return ""


def language_of(request: DjangoRequest, offered: list[str]) -> str:
    """The language that the page asks for, else the browser's, among the `offered` ones; [] offers all."""
    requested = _supported_language(request.GET.get("language", ""))
    if not offered:
        return requested or request.LANGUAGE_CODE
    spoken = parse_accept_lang_header(request.headers.get("Accept-Language", "").lower())
    wanted = [requested, *(_supported_language(code) for code, _ in spoken)]
    return next((code for code in wanted if code in offered), offered[0])


def _supported_language(code: str) -> str:
    try:
        return translation.get_supported_language_variant(code) if code else ""
    except LookupError:
        return ""

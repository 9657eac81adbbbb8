"""Which language an answer is in."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation

API = "/api/"
ENGLISH = "en"


class LanguageMiddleware(LocaleMiddleware):
    """The reader's own, as far as their browser says; the API speaks English to all."""

    def process_request(self, request: HttpRequest) -> None:
        """Speak it."""
        if not request.path.startswith(API):
            return super().process_request(request)
        translation.activate(ENGLISH)
        request.LANGUAGE_CODE = ENGLISH
        return None

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Say which one it is."""
        if not request.path.startswith(API):
            return super().process_response(request, response)
        response.headers.setdefault("Content-Language", ENGLISH)
        return response

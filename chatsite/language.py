"""The language of responses. A customer's chat may override it: see CustomerRequest.language."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation

API = "/api/"
ENGLISH = "en"


class LanguageMiddleware(LocaleMiddleware):
    """Activates the language that the browser prefers; English under /api/."""

    def process_request(self, request: HttpRequest) -> None:
        """Activate it."""
        if not request.path.startswith(API):
            return super().process_request(request)
        translation.activate(ENGLISH)
        request.LANGUAGE_CODE = ENGLISH
        return None

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Set Content-Language, and Vary where the response may depend on the language.

        One that everybody may cache does not, and many CDNs do not cache by other headers than the address.
        """
        if "public" in response.headers.get("Cache-Control", ""):
            return response
        if not request.path.startswith(API):
            return super().process_response(request, response)
        response.headers.setdefault("Content-Language", ENGLISH)
        return response

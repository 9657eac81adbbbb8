"""Refuses requests with null characters, which PostgreSQL can neither store nor search for."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from chatsite.errors import error_response


class ProhibitNullCharactersMiddleware:
    """400 for a null character in the path or query string. Forms, JSON and headers are checked where they are read."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Django's protocol for middleware."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Refuse the request, or pass it on."""
        if "\x00" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            return error_response(request, 400)
        return self.get_response(request)

"""Refuses requests with null characters, which PostgreSQL can neither store nor search for."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from chatsite.errors import error_response


class ProhibitNullCharactersMiddleware:
    """400 for a null character in the path, the query string or a header. Forms and JSON are checked field by field."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Django's protocol for middleware."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer."""
        headers = "".join(value for name, value in request.META.items() if name.startswith("HTTP_"))
        is_escaped = "%00" in request.META.get("QUERY_STRING", "") or r"\000" in request.META.get("HTTP_COOKIE", "")
        if is_escaped or "\x00" in request.path_info or "\x00" in headers:
            return error_response(request, 400)
        return self.get_response(request)

"""Django's CSRF check, with the origin check that all other pages have."""

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from conversations.threshold.origin import is_cross_origin


class CsrfMiddleware(CsrfViewMiddleware):
    """Django's own, but it believes `Sec-Fetch-Site: same-origin`, which no page can forge.

    A proxy that adds `Referrer-Policy: no-referrer` makes browsers send `Origin: null` with our own forms, and one that
    does not pass on the port makes our origin look like another. The token is required in any case.
    """

    def _origin_verified(self, request: HttpRequest) -> bool:
        return not is_cross_origin(request)


def lacks_csrf_token(request: HttpRequest) -> bool:
    """Return whether an unsafe request has no valid CSRF token. For views that Django's middleware leaves out."""

    def view(_request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    check = CsrfMiddleware(view)
    request.csrf_processing_done = False  # type: ignore[attr-defined]
    check.process_request(request)
    return check.process_view(request, view, (), {}) is not None

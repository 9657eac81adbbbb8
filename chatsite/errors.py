"""What people and programs see when something is wrong: a page that looks like the rest, or JSON under /api/."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _

SENTENCES = {
    400: (_("That request was not understood"), _("Go back, reload the page and try again.")),
    403: (_("You can't go in here"), _("You may have signed in as somebody else, or come from another site.")),
    405: (_("This address does not do that"), _("Look at /api/docs for what it does.")),
    413: (_("That was too large"), _("Send it in smaller parts.")),
    404: (_("There is nothing here"), _("The address may have a typo, or what was here is gone.")),
    500: (_("Something broke on our side"), _("It has been noted. Nothing that you sent before is lost: try again.")),
}


def answer(request: HttpRequest, status: int, sentence: str = "") -> HttpResponse:
    """The error page of a status. `sentence` says more precisely what to do."""
    title, what_to_do = SENTENCES[status]
    if request.path.startswith("/api/"):
        detail = sentence or {404: "Not Found"}.get(status, f"{title}. {what_to_do}")
        return JsonResponse({"detail": detail}, status=status)
    if request.headers.get("HX-Request"):
        return HttpResponse(sentence or f"{title}. {what_to_do}", status=status, content_type="text/plain")
    context = {"title": title, "sentence": sentence or what_to_do, "status": status}
    return render(request, "error.html", context, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400, or 413 for a body over the limit."""
    return answer(request, 413 if isinstance(exception, RequestDataTooBig) else 400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403, with what PermissionDenied says."""
    return answer(request, 403, str(exception))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form without its CSRF token: a page that stood open through a sign-in, or a foreign page's form."""
    return answer(request, 403, str(_("This page was open for too long, or not ours. Reload it and try again.")))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: the same for what does not exist and for what is somebody else's."""
    return answer(request, 404)


def server_error(request: HttpRequest, *args: Any) -> HttpResponse:
    """500."""
    return answer(request, 500)


class ApiMiddleware:
    """What ninja does not do: HEAD is answered wherever GET is, and a method that an address lacks is 405 in JSON."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Django's protocol for middleware."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer."""
        if not request.path.startswith("/api/"):
            return self.get_response(request)
        method = request.method
        if method == "HEAD":
            request.method = "GET"
        response = self.get_response(request)
        request.method = method  # the server leaves out the content
        if response.status_code != 405:
            return response
        refusal = answer(request, 405)
        refusal["Allow"] = response["Allow"]
        return refusal

"""The front page: a demo shop with the chat in it in debug mode, otherwise the chat itself."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """The demo shop in debug mode, otherwise a redirect to the chat."""
    return render(request, "demo/shop.html") if settings.DEBUG else redirect("customer:chat")

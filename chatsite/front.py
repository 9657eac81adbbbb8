"""The first page: while developing a small shop with the chat in it, in earnest the chat itself."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """A demo shop in debug mode, else the way to the chat."""
    return render(request, "demo/shop.html") if settings.DEBUG else redirect("customer:chat")

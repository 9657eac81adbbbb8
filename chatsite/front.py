"""The front page (in debug mode a demo shop, otherwise the chat), and what browsers and robots look for beside it."""

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """The demo shop in debug mode, otherwise a redirect to the chat."""
    return render(request, "demo/shop.html") if settings.DEBUG else redirect("customer:chat")


@require_safe
def favicon(_request: HttpRequest) -> FileResponse:
    """The icon that browsers look for where a page names none."""
    icon = (settings.BASE_DIR / "static" / "favicon.ico").open("rb")
    return FileResponse(icon, content_type="image/x-icon", headers={"Cache-Control": "public, max-age=604800"})


@require_safe
def robots(_request: HttpRequest) -> HttpResponse:
    """What robots may not read. They may read chat.js, which they need to draw the pages of websites."""
    private = ("admin", "api", "chat", "inbox")
    text = "User-agent: *\n" + "".join(f"Disallow: /{name}/\n" for name in private)
    return HttpResponse(text, content_type="text/plain", headers={"Cache-Control": "public, max-age=86400"})

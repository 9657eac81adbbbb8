"""Every address of Chatsite."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from chatsite import front
from chatsite.api import api

urlpatterns = [
    path("", front.page, name="front"),
    path("chat/", include("conversations.customer.urls")),
    path("inbox/", include("conversations.agent.urls")),
    path("api/", api.urls),
    path("admin/login/", RedirectView.as_view(pattern_name="agent:sign-in", query_string=True)),
    path("admin/", admin.site.urls),
]
handler400 = "chatsite.errors.bad_request"
handler403 = "chatsite.errors.forbidden"
handler404 = "chatsite.errors.not_found"
handler500 = "chatsite.errors.server_error"

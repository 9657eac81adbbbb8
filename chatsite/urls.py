"""All URLs of Chatsite."""

from django.contrib import admin
from django.urls import include, path

from chatsite import api, front
from conversations.agent.sign_in import admin_login, admin_password_change
from conversations.customer.urls import files
from conversations.screen import avatars, bundles

urlpatterns = [
    path("", front.page, name="front"),
    path("favicon.ico", front.favicon),
    path("robots.txt", front.robots),
    path("", include(files)),
    path("", include(bundles.urls)),
    path("", include(avatars.urls)),
    path("chat/", include("conversations.customer.urls")),
    path("chat/<slug:key>/", include("conversations.customer.urls", namespace="website")),
    path("inbox/", include("conversations.agent.urls")),
    path("api/", api.urls),
    path("admin/login/", admin_login),
    path("admin/password_change/", admin.site.admin_view(admin_password_change)),
    path("admin/", admin.site.urls),
]
handler400 = "chatsite.errors.bad_request"
handler403 = "chatsite.errors.forbidden"
handler404 = "chatsite.errors.not_found"
handler500 = "chatsite.errors.server_error"

"""URLs of a request that is refused before its view runs: all lead to the error response, which may link to pages."""

from django.conf import settings
from django.urls import include, re_path

from chatsite.errors import refuse

urlpatterns = [re_path("", refuse), re_path("", include(settings.ROOT_URLCONF))]

"""The URLconf of a request that the server refuses (413, 429, 503 or 507): every path is answered by `errors.refuse`.

The usual URLs come second, so that error pages can link to them.
"""

from django.conf import settings
from django.urls import include, re_path

from chatsite.errors import refuse

urlpatterns = [re_path("", refuse), re_path("", include(settings.ROOT_URLCONF))]

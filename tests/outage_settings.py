"""Chatsite's settings as they are, without the need to collect static files first."""

from chatsite.settings import *  # noqa: F403
from chatsite.settings import STORAGES

STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}

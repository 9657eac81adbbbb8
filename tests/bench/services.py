"""The database servers and the Redis of `tests/services.py`, which needs Django's settings."""

import os

import django
from django.apps import apps

if not apps.ready:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()

from tests.services import Service, mariadb, postgresql, redis_server

__all__ = ["Service", "mariadb", "postgresql", "redis_server"]

"""Long tests: what happens if a server, a database, Redis or a connection fails while people chat. See `make soak`."""

import os

import django
from django.apps import apps

if not apps.ready:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()

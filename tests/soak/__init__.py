"""Trials that take long: what happens when a part dies or hangs while many people are there. See `make soak`."""

import os

import django
from django.apps import apps

if not apps.ready:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()

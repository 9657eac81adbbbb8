"""Settings for tests. DATABASE_URL and REDIS_URL choose what the suite runs on."""

import os

os.environ["DEBUG"] = "on"
os.environ.setdefault("DATABASE_URL", "sqlite:///build/test.sqlite3")

from chatsite.settings import *  # noqa: F403
from chatsite.settings import BASE_DIR, DATABASES, STORAGES

DEBUG = False
SECRET_KEY = "tests-only-" + "0123456789" * 5
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
RATE_LIMITS = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
CHANNEL_LAYERS = globals()["CHANNEL_LAYERS"]

MEDIA_ROOT = BASE_DIR / "build" / "test-files"

# A persistent connection of a thread would keep the test database from being dropped.
DATABASES["default"]["CONN_MAX_AGE"] = 0
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    (BASE_DIR / "build").mkdir(exist_ok=True)
    # A file, because each thread has its own connection. One for each run of the suite.
    DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "build" / f"test-{os.getpid()}.sqlite3"}

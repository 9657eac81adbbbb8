"""Settings for tests. DATABASE_URL and REDIS_URL choose what the suite runs on."""

import os
import re

os.environ["DEBUG"] = "on"
os.environ.setdefault("DATABASE_URL", "sqlite:///build/test.sqlite3")
# Each worker of pytest-xdist, with the servers that its tests start, has a Redis database of its own.
os.environ["WORKER"] = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
os.environ["REDIS_URL"] = re.sub(r"/\d*$", f"/{os.environ['WORKER']}", os.environ.get("REDIS_URL", ""))

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

MEDIA_ROOT = BASE_DIR / "build" / f"test-files-{os.environ['WORKER']}"

# A persistent connection of a thread would keep the test database from being dropped.
DATABASES["default"]["CONN_MAX_AGE"] = 0
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    (BASE_DIR / "build").mkdir(exist_ok=True)
    # A file, because each thread has its own connection. One for each run of the suite.
    DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "build" / f"test-{os.getpid()}.sqlite3"}

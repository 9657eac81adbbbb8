"""All of Chatsite's settings. What differs between installations comes from the environment: see .env.example."""

import secrets
import sys
from pathlib import Path
from typing import Any

from whitenoise.compress import Compressor

from chatsite import sentry
from chatsite.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment(BASE_DIR / ".env")

# Security ------------------------------------------------------------------------------------------------------------
DEBUG = env.flag("DEBUG", default=False)
EXAMPLE_SECRET_KEY = "change-me-to-fifty-random-characters"  # noqa: S105 (from .env.example, refused below)
SECRET_KEY = env.text("SECRET_KEY", EXAMPLE_SECRET_KEY)
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS")
AGENT_ORIGINS = env.origins("AGENT_ORIGINS")
# The scheme and host that clients use, behind proxies: conversations/threshold/proxies.py
TRUSTED_PROXIES = env.number("TRUSTED_PROXIES", 0, least=0, most=10)

if not DEBUG:
    if SECRET_KEY == EXAMPLE_SECRET_KEY or len(SECRET_KEY) < 50:
        env.problems.append(
            "SECRET_KEY is missing, too short or the example's: with it anybody could sign in as anybody. "
            f"Here is a fresh one: SECRET_KEY={secrets.token_urlsafe(38)}"
        )
    if not ALLOWED_HOSTS:
        env.problems.append("ALLOWED_HOSTS is empty. Name the hosts that Chatsite answers to, as in chat.example.com")
    if "*" in ALLOWED_HOSTS:
        env.problems.append("ALLOWED_HOSTS is *, which would let any website open a socket here. Name the hosts.")
elif not ALLOWED_HOSTS:
    ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

# Cookies are sent over https only, except in development.
INSECURE_HTTP = env.flag("INSECURE_HTTP", default=DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not INSECURE_HTTP
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = not INSECURE_HTTP
SECURE_HSTS_SECONDS = 0 if INSECURE_HTTP else 365 * 24 * 3600
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.flag("HSTS_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = env.flag("HSTS_PRELOAD", default=False)
if SECURE_HSTS_PRELOAD and not SECURE_HSTS_INCLUDE_SUBDOMAINS:
    env.problems.append("HSTS_PRELOAD is on, but browsers preload only with HSTS_SUBDOMAINS=on.")
SILENCED_SYSTEM_CHECKS = [
    "security.W003",  # our CsrfMiddleware is Django's, which the check does not see
    "security.W005",  # the domain is often shared with websites that are not ours
    "security.W021",  # likewise
    "models.W043",  # MariaDB has no index on an expression, and needs none of ours
]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CORS_URLS_REGEX = r"^/api/"  # which origins: conversations/threshold/origin.py
CORS_EXPOSE_HEADERS = [
    "Retry-After",
    "Content-Disposition",
    "X-Last-Message",
    "X-Request-ID",
]  # which scripts of other origins may read
CSRF_FAILURE_VIEW = "chatsite.errors.csrf_failure"

# Application ---------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    # Before staticfiles: `runserver` then serves WebSockets. It loads Twisted, which most other commands do not need.
    *(["daphne"] if sys.argv[1:2] == ["runserver"] else []),
    "chatsite",
    "conversations",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "corsheaders",
    "django_htmx",
    "ninja",  # for the static files of /api/docs
]
MIDDLEWARE = [
    "chatsite.errors.ApiMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "chatsite.headers.HeadersMiddleware",
    "chatsite.sessions.SessionMiddleware",
    "chatsite.language.LanguageMiddleware",
    "chatsite.null_characters.ProhibitNullCharactersMiddleware",
    "django.middleware.common.CommonMiddleware",
    "conversations.threshold.csrf.CsrfMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "chatsite.urls"
ASGI_APPLICATION = "chatsite.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Data ----------------------------------------------------------------------------------------------------------------
DATABASES = {"default": env.database(default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
DATABASE = DATABASES["default"]
# The threads of chatsite/serving/request_handler.py live as long as the process, and so do their connections.
DATABASE["CONN_MAX_AGE"] = None
if DATABASE["ENGINE"].endswith("sqlite3"):
    # A write takes its lock when the transaction begins (IMMEDIATE); a committed write survives a power cut (FULL).
    # It waits 5 seconds for the lock of another process: a page gives up after 15, and other requests need the thread.
    DATABASE["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    DATABASE["CONN_HEALTH_CHECKS"] = True
# Pages of messages may be read from it: conversations/models/replica.py
REPLICA = env.replica(DATABASE)
if REPLICA:
    DATABASES["replica"] = REPLICA
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.redis()
CHANNEL_LAYERS: dict[str, Any] = {"default": {"BACKEND": "conversations.live.channel_layer.ProcessChannelLayer"}}
# Whether polls that find nothing new are answered again without Django: conversations/poll_cache.py
POLL_CACHE = env.flag("POLL_CACHE", default=True)
CACHES: dict[str, Any] = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},  # the default is 300
    }
}
# Whether messages are acknowledged by Redis Streams and copied into SQL afterwards: docs/log.md
MESSAGE_LOG = env.one_of("MESSAGE_LOG", "sql", "redis") == "redis"
MESSAGE_LOG_REPLICAS = env.number("MESSAGE_LOG_REPLICAS", 0, least=0, most=10)
# What Redis may do, or does without telling: chatsite/log_checks.py
MESSAGE_LOG_FSYNC = env.one_of("MESSAGE_LOG_FSYNC", "always", "everysec")
MESSAGE_LOG_VOUCHED = env.flag("MESSAGE_LOG_VOUCHED", default=False)
# Whether `serve` copies them by itself: chatsite/serving/replicating.py
REPLICATING = env.flag("REPLICATING", default=True)
if REDIS_URL:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "conversations.live.channel_layer.RedisChannelLayer",
        "CONFIG": {"url": REDIS_URL},
    }
    CACHES["default"] = {
        "BACKEND": "chatsite.cache.RedisCache",
        "LOCATION": REDIS_URL,
    }

SESSION_ENGINE = "chatsite.sessions"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # the default is slower

# People --------------------------------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = ["conversations.models.agent.AgentBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "conversations.models.token.RevokeTokensOnPasswordChange"},
]
PASSWORD_RESET_TIMEOUT = 3600  # seconds that a mailed link for a new password is valid
LOGIN_URL = "agent:sign-in"
LOGIN_REDIRECT_URL = "agent:inbox"
LOGOUT_REDIRECT_URL = "agent:sign-in"

# Rate limits: how many, in how many seconds. See conversations/threshold/limits.py -----------------------------------
RATE_LIMITS = env.flag("RATE_LIMITS", default=True)
CONNECTIONS = env.number("CONNECTIONS", 100, least=1, most=100_000)
LIMITS = {
    "messages of one address": (120, 60),
    "messages in one conversation": (40, 60),
    "conversations of one address": (30, 3600),
    "files of one address": (60, 3600),
    "identities of one address": (120, 60),
    "visits of one address": (240, 60),
    "windows of one address": (60, 60),
    "sign-ins of one address": (30, 900),
    "sign-ins as one agent from one address": (6, 900),
    "sign-ins as one agent": (60, 900),
    "sign-ins as an agent under attack from one network": (2, 900),
    "sign-ins as an agent under attack": (1000, 3600),
    "sign-ins as one agent from a known browser": (6, 900),
    "previews of one agent": (300, 60),
    "pictures of one agent": (20, 3600),
    "password changes of one agent": (10, 900),
    "searches of one agent": (120, 60),
    "password mails of one address": (10, 3600),
    "password mails to one account": (3, 3600),
}
# Open WebSockets in each process; pages and widgets beyond them poll. See conversations/live/open_sockets.py
SOCKETS = {"sockets of one address": 100, "sockets of one conversation": 30}
# Bytes of a form or JSON, without files. The longest message is 20,480 characters.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 600  # an agent may select all rows of a list: agent/inbox.py MAX_ROWS
# Bytes of files in one message of any website, and the URLs that take them: see chatsite/serving/http_connection.py.
MAX_UPLOAD = 5 * 100 * 1024 * 1024
UPLOAD_PATHS = (
    r"/chat/([^/]+/)?messages/?|/inbox/(\d+/messages|me/picture)/?|/api/(messages|conversation)/[^/]+/files/?"
)

# Languages and time --------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [
    ("en", "English"),
    ("de", "Deutsch"),
    ("fr", "Français"),
    ("es", "Español"),
    ("pt", "Português"),
    ("it", "Italiano"),
    ("nl", "Nederlands"),
    ("pl", "Polski"),
    ("ja", "日本語"),
    ("zh-hans", "简体中文"),
    ("ar", "العربية"),
    ("he", "עברית"),
]
LOCALE_PATHS = [BASE_DIR / "conversations" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# Mail and files ------------------------------------------------------------------------------------------------------
vars().update(env.email(default="consolemail://"))
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = SERVER_EMAIL = (
    env.text("EMAIL_FROM") or f"Chatsite <chatsite@{[*ALLOWED_HOSTS, ''][0].lstrip('.')}>"
)
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700
MEDIA_ROOT = env.own_directory("FILES", default="files")  # see models/attachment.py
STATIC_URL = "/static/"
STATIC_ROOT = env.directory("STATIC_ROOT", default="build/static")
env.keep_out(
    STATIC_ROOT, [BASE_DIR, MEDIA_ROOT, *([DATABASE["NAME"]] if DATABASE["ENGINE"].endswith("sqlite3") else [])]
)
STATICFILES_DIRS = [BASE_DIR / "static"]
# Source maps, which only developer tools load, are more bytes than all other files.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = (*Compressor.SKIP_COMPRESS_EXTENSIONS, "map")
STORAGES = {
    "default": {"BACKEND": "chatsite.durable_files.DurableFileStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "chatsite.static_files.StaticFilesStorage",
        # No secrets: another user may collect them than the one that serves.
        "OPTIONS": {"file_permissions_mode": 0o644, "directory_permissions_mode": 0o755},
    },
}

# Serving -------------------------------------------------------------------------------------------------------------
HOST = env.listening_host("HOST", default="127.0.0.1")
if HOST.startswith("unix:") and not TRUSTED_PROXIES and not DEBUG:
    env.problems.append("HOST is a Unix socket, so only a proxy can reach it: set TRUSTED_PROXIES=1.")
PORT = env.number("PORT", 8000, least=1, most=65535)
THREADS = env.number("THREADS", 4, least=1, most=256)
MAX_PROCESSES = 256
PROCESSES = env.number("PROCESSES", 1, least=1, most=MAX_PROCESSES)
# Who may read /metrics: chatsite/metrics.py
METRICS_FROM = env.networks("METRICS_FROM", default="127.0.0.0/8 ::1")
# Whether `serve` deletes old conversations by itself: chatsite/serving/cleaning.py
CLEANING = env.flag("CLEANING", default=True)

LOG_FORMAT = env.one_of("LOG_FORMAT", "line", "json")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "chatsite.logs.SecretMaskingFormatter",
            "format": f"{{asctime}} {'[{process}] ' * (PROCESSES > 1)}{{levelname}} {{name}}: {{message}}",
            "style": "{",
        },
        "json": {"()": "chatsite.logs.JsonFormatter"},
    },
    "filters": {"floods": {"()": "chatsite.logs.FloodFilter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["floods"]}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},  # Django's own handlers would not mask secrets
        "django.server": {"handlers": [], "propagate": True},
        "django.channels.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
    },
}
SENTRY_DSN = env.text("SENTRY_DSN")
if SENTRY_DSN:
    if sentry_problem := sentry.find_problem(SENTRY_DSN):
        env.problems.append(sentry_problem)
    LOGGING["filters"]["sentry floods"] = {"()": "chatsite.logs.FloodFilter"}  # each handler counts by itself
    LOGGING["handlers"]["sentry"] = {
        "class": "sentry_sdk.integrations.logging.EventHandler",
        "level": "ERROR",
        "filters": ["sentry floods"],
    }
    LOGGING["root"]["handlers"].append("sentry")

env.verify()

"""Sends errors to Sentry, where SENTRY_DSN is set. Secrets are masked as in the log, and floods are cut off as there.

What the log calls an error is sent, with its traceback. Requests with their bodies and headers, who has sent them, and
the values of variables are not: customers' messages are in them.
"""

from importlib import import_module
from typing import Any

from chatsite import __version__
from chatsite.logs import mask
from chatsite.request_id import current_request

INSTALL = (
    "SENTRY_DSN is set, but the package sentry-sdk is missing. Run: "
    ".venv/bin/python -m pip install -r requirements/sentry.txt"
)

KEPT = {"event_id", "trace_id", "span_id", "timestamp", "modules", "sdk"}
"""Parts of an event that have no secrets. Sentry's ids look like UUIDs."""


def find_problem(dsn: str) -> str:
    """What is wrong with SENTRY_DSN, in a sentence; "" if errors can be sent."""
    try:
        sdk: Any = import_module("sentry_sdk.utils")
    except ImportError:
        return INSTALL
    try:
        sdk.Dsn(dsn)
    except sdk.BadDsn as error:
        return f"SENTRY_DSN is no address of a project, as in https://KEY@sentry.example.com/7: {error}."
    return ""


def start(dsn: str, **options: Any) -> None:
    """From now on, send errors. `options` are further ones of sentry_sdk.init."""
    import sentry_sdk
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration

    sentry_sdk.init(
        dsn=dsn,
        # `send_default_pii` is off unless it is set; the package now warns of the word itself.
        release=f"chatsite@{__version__}",
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        # None of those that change Django: the handler `sentry` in the settings sends what is logged.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[AtexitIntegration(callback=lambda *_: None), ExcepthookIntegration()],
        before_send=without_secrets,
        **options,
    )


def without_secrets(event: Any, _hint: Any) -> Any:
    """An event as it is sent: with secrets masked, and the id of its request."""
    for name in ("extra", "request", "user", "breadcrumbs"):  # Django's records have the request in `extra`
        event.pop(name, None)
    event = masked(event)
    if request := current_request.get():
        event["tags"] = {**dict(event.get("tags") or {}), "request_id": request.id}
    return event


def masked(value: Any) -> Any:
    """A part of an event with secrets masked in all of its texts."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {name: part if name in KEPT else masked(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [masked(part) for part in value]
    return value

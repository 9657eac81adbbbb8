"""`/metrics`, for Prometheus: what this process has counted since it was started, and its CPU time and memory.

Each process answers for itself, so Prometheus asks each of them by its own address, not through the proxy.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from prometheus_client import GCCollector, Info, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from chatsite import __version__
from conversations.metrics import numbers, rate_limited, registry, request_seconds, requests
from conversations.threshold.proxies import exact_address

Scope = Mapping[str, Any]

HANDLERS = {
    "/chat/": "chat",
    "/inbox/": "inbox",
    "/api/messages": "widget_api",
    "/api/website": "widget_api",
    "/api/conversation": "agent_api",
    "/api/agents": "agent_api",
    "/api/me": "agent_api",
}
"""What requests are for, by the beginning of their path, the first one that fits. Everything else is "other"."""

refused_connections = rate_limited.labels("connections of one address")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second number for each, which hardly anybody reads
ProcessCollector(registry=registry)
PlatformCollector(registry=registry)
GCCollector(registry=registry)
Info("chatsite", "The version of Chatsite.", registry=registry).info({"version": __version__})


def may_read(scope: Scope) -> bool:
    """Whether the client is in METRICS_FROM. Everybody else gets the page for unknown addresses."""
    address = exact_address(scope)
    return address is not None and any(address in network for network in settings.METRICS_FROM)


def exposition(scope: Scope) -> tuple[str, str]:
    """The content type that the client accepts, and all metrics in it. Takes 1 to 2 ms of the event loop."""
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    try:
        encode, content_type = choose_encoder(accept.decode("latin1"))
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    return content_type, encode(registry).decode()


def observe_request(scope: Scope, status: int, seconds: float) -> None:
    """Count a request that Django has answered. Called in the event loop."""
    count, observe = of_handler(handler_of(scope["path"]), status)
    count()
    observe(seconds)
    if scope["method"] == "GET" and b"since=" in scope["query_string"]:
        numbers.polls_from_database += 1


@lru_cache
def of_handler(name: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
    """What counts requests of a handler with this status, and their seconds. Labels take as long to look up."""
    return requests.labels(name, status).inc, request_seconds.labels(name).observe


def handler_of(path: str) -> str:
    """What a request is for: one of HANDLERS, or "other" for static files, the admin and everything else."""
    if path.endswith((".js", ".css")) and path.count("/") == 2:  # /chat/script-….js
        return "other"
    return next((name for beginning, name in HANDLERS.items() if path.startswith(beginning)), "other")

"""What a request looks like when it arrives here: for `manage.py doctor --url`, which sends it through the proxies.

Only who knows the SECRET_KEY gets an answer, for a few minutes after signing. Everybody else gets what any unknown path
answers. The answer has nothing but what this one request has brought, and TRUSTED_PROXIES.
"""

import json
import secrets
import time
from typing import Any

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http.request import split_domain_port, validate_host

import chatsite
from conversations.threshold.proxies import PROXY_SIGNS, client_address, hops

PATH, SOCKET_PATH = "/doctor/", "/ws/doctor/"

HEADER = "x-chatsite-doctor"
"""The request header with the signature: access logs do not have it."""

MAX_AGE = 300
"""Seconds in which a signature is valid."""

PADDING = 3000
"""Bytes of spaces, because proxies do not compress short responses."""

Scope = dict[str, Any]


def signer() -> TimestampSigner:
    """Signs with the SECRET_KEY, for nothing else."""
    return TimestampSigner(salt="chatsite.doctor")


def signature() -> str:
    """A value for HEADER."""
    return signer().sign(secrets.token_hex(8))


def is_doctor(scope: Scope) -> bool:
    """Whether a request, http or websocket, has a valid signature and asks what it looks like."""
    if scope["path"] != (PATH if scope["type"] == "http" else SOCKET_PATH):
        return False
    signed = next((value for name, value in scope["headers"] if name == HEADER.encode()), b"")
    try:
        signer().unsign(signed.decode("latin1"), max_age=MAX_AGE)
    except BadSignature:
        return False
    return True


def description(scope: Scope) -> str:
    """What the request looks like, as JSON. `scope` is a resolved one: see conversations/threshold/proxies.py."""
    headers = [(name, value.decode("latin1")) for name, value in scope["headers"]]
    forwarded = [
        hop.decode("latin1") for hop in hops(v.encode("latin1") for n, v in headers if n == b"x-forwarded-for")
    ]
    host = next((value for name, value in headers if name == b"host"), "")
    seen = {
        "scheme": scope["scheme"].replace("ws", "http"),
        "host": host,
        "is_allowed": validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS),
        "client": client_address((scope.get("client") or [None])[0], ", ".join(forwarded)),
        "forwarded_for": forwarded,
        "signs": sorted(name.decode() for name in PROXY_SIGNS.intersection(name for name, _ in headers)),
        "trusted_proxies": settings.TRUSTED_PROXIES,
        "time": time.time(),
        "version": chatsite.__version__,
    }
    return json.dumps(seen) + " " * PADDING


async def answer_socket(scope: Scope, receive: Any, send: Any) -> None:
    """Accept a socket, send what its handshake looks like, and close it."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": description(scope).rstrip()})
    await send({"type": "websocket.close", "code": 1000})

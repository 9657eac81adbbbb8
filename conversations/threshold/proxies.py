"""What our proxies say about a request: the client's address, and the scheme and host that the client has used.

TRUSTED_PROXIES says how many proxies are ours. Each appends to X-Forwarded-For, -Proto and -Host what it has seen, so
these headers are read from the right, where clients cannot write. `Forwarded` (RFC 7239) is not read: hardly any proxy
sets it unless told to, and one that does not set it passes on what the client has made up.
"""

import ipaddress
import logging
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from django.conf import settings

ADDRESS = re.compile(r"\[([^\[\]]+)\](?::\d+)?|([\d.]+)(?::\d+)?|([^\[\]]+)")
"""An IP address as proxies write it: `[IPv6]`, `[IPv6]:port`, `IPv4`, `IPv4:port` or a bare IPv6 address."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

HOST = b"host"
PROTO = b"x-forwarded-proto"
FORWARDED_HOST = b"x-forwarded-host"

PROXY_SIGNS = {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"forwarded", b"via"}
"""Headers with which proxies say that there is one."""

SECURE = {b"https", b"wss"}
"""Values of X-Forwarded-Proto. Some proxies write wss for WebSockets."""

NOT_TRUSTED = (
    "A request has the header X-Forwarded-Proto, so it seems to come through a proxy, but TRUSTED_PROXIES is 0 and the "
    "header is ignored. If the proxy is yours, set TRUSTED_PROXIES to the number of your proxies, usually 1."
)
TOO_FEW = (
    "A request has fewer addresses in X-Forwarded-For than TRUSTED_PROXIES says. It counts by the address of its "
    "connection, and so do all customers behind that. If it did come through your proxies, let each of them set the "
    "header (nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for), or correct TRUSTED_PROXIES."
)
UNKNOWN = (
    "The address of a client is unknown, because the proxy has written none into X-Forwarded-For that can be read. "
    "All such clients share the rate limits of one address. Let the proxy write addresses such as 192.0.2.1 or "
    "[2001:db8::1]:443; behind a Unix socket, set TRUSTED_PROXIES, too."
)

logger = logging.getLogger(__name__)


@cache
def warn_once(sentence: str) -> None:
    """Log a warning, once in the life of the process. `sentence` is one of this module's."""
    logger.warning(sentence)


def hops(values: Iterable[bytes]) -> list[bytes]:
    """The elements of a header that each proxy appends to. `values` are those of all lines with its name."""
    return [hop for hop in (hop.strip() for hop in b",".join(values).split(b",")) if hop]


# The client's address -------------------------------------------------------------------------------------------------


def address_of_scope(scope: Mapping[str, Any]) -> str:
    """Return the client's address of an ASGI scope, http or websocket: see `client_address`. Warns if it is unclear."""
    forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    found = client_address((scope.get("client") or [None])[0], b",".join(forwarded).decode("latin1"))
    if found == "unknown":
        warn_once(UNKNOWN)
    if settings.TRUSTED_PROXIES and sum(1 + value.count(b",") for value in forwarded) < settings.TRUSTED_PROXIES:
        warn_once(TOO_FEW)
    return found


def client_address(peer: str | None, forwarded_for: str | None) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address, which is usually one household.

    `peer` is the address of the TCP connection, `forwarded_for` the X-Forwarded-For header. The header is trusted only
    as far as our own TRUSTED_PROXIES have written it; a client can forge the rest. Returns "unknown" without
    an address, as on a Unix socket.
    """
    written = peer or ""
    if settings.TRUSTED_PROXIES and forwarded_for:
        hops = forwarded_for.split(",")
        written = hops[-settings.TRUSTED_PROXIES] if len(hops) >= settings.TRUSTED_PROXIES else written
    return network(written.strip())


def exact_address(scope: Mapping[str, Any]) -> Address | None:
    """Return the client's own address of an ASGI scope. None if it is unclear, so it may be anybody's.

    It is unclear if a proxy has passed on the request that is not among TRUSTED_PROXIES: then the connection's address
    is the proxy's, usually 127.0.0.1, for all clients. An empty element counts: what is left of it is the client's.
    """
    headers = scope["headers"]
    forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
    written = b",".join(forwarded).split(b",") if forwarded else []
    if settings.TRUSTED_PROXIES and len(written) >= settings.TRUSTED_PROXIES:
        return parse_address(written[-settings.TRUSTED_PROXIES].strip().decode("latin1"))
    if any(name in PROXY_SIGNS for name, _ in headers):
        return None
    return parse_address((scope.get("client") or [""])[0] or "")


@lru_cache(1000)
def network(written: str) -> str:
    """Return `client_address` for the address of a client as it is written."""
    ip = parse_address(written)
    if ip is None:
        return "unknown"
    return str(ip if ip.version == 4 else ipaddress.ip_network((int(ip), 64), strict=False))


def parse_address(written: str) -> Address | None:
    """Return an address as proxies write it, IPv4 also where it is mapped to IPv6; None if it is none."""
    match = ADDRESS.fullmatch(written)
    try:
        ip = ipaddress.ip_address((match[1] or match[2] or match[3]) if match else "")
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


# Scheme and host ------------------------------------------------------------------------------------------------------


def resolve(scope: dict[str, Any]) -> dict[str, Any]:
    """Return an ASGI scope, http or websocket, with the scheme and the Host header that the client has used.

    The first of our proxies has seen them: its values are the ones at TRUSTED_PROXIES from the right. A proxy may also
    set a header anew instead of appending to it; then there are fewer, and the leftmost counts. The usual port is left
    out of the host, as browsers do in `Origin`.
    """
    found: dict[bytes, list[bytes]] = {HOST: [], PROTO: [], FORWARDED_HOST: []}
    for name, value in scope["headers"]:
        if name in found:
            found[name].append(value)
    is_secure = scope.get("scheme") in ("https", "wss")
    host = found[HOST][-1] if found[HOST] else b""
    if settings.TRUSTED_PROXIES:
        is_secure = first_hop(found[PROTO]).lower() in SECURE if found[PROTO] else is_secure
        host = first_hop(found[FORWARDED_HOST]) or host
    elif found[PROTO]:
        warn_once(NOT_TRUSTED)
    host = host.removesuffix(b":443" if is_secure else b":80")
    schemes = ("ws", "wss") if scope["type"] == "websocket" else ("http", "https")
    scope = {**scope, "scheme": schemes[is_secure]}
    if host and found[HOST] != [host]:
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != HOST] + [(HOST, host)]
    return scope


def first_hop(values: list[bytes]) -> bytes:
    """What the first of our proxies has written into a header, "" if there is nothing."""
    written = hops(values)
    return written[-min(settings.TRUSTED_PROXIES, len(written))] if written else b""

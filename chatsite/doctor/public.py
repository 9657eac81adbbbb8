"""Checks through the public address: what the proxies in front of Chatsite do to requests and responses."""

import base64
import http.client
import ipaddress
import json
import secrets
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlencode, urlsplit

from django.core.management.base import CommandError
from django.db import connection

from chatsite.doctor import OK, PROBLEM, WARNING, Check, Finding, mirror
from chatsite.doctor.machine import clock_finding
from chatsite.headers import NOT_FRAMED
from chatsite.startup import reason
from conversations.counted import counted

TIMEOUT = 8
"""Seconds for a connection, and for each part of a response."""

FORGED_ADDRESS, FORGED_HOST = "192.0.2.77", "forged.invalid"
"""What a client may claim to be. Both are reserved for examples (RFC 5737, RFC 2606)."""

SIGN_IN = "/inbox/sign-in/"
"""A page that needs no cookie, and that no other page may embed."""

Seen = dict[str, Any]
"""What a request looked like when it reached Chatsite: see mirror.py."""


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class NotSeen(Exception):
    """Chatsite has not described a request; says why, for the operator."""


def public_checks(url: str) -> list[Check]:
    """The checks of a public address. Raises CommandError if it is none."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        is_address = parts.scheme in ("http", "https") and parts.hostname and not parts.username
        is_address = is_address and (parts.port or True) and parts.path.strip("/") == "" and not parts.query
    except ValueError:
        is_address = False
    if not is_address:
        raise CommandError("--url takes a scheme and a host, as in https://chat.example.com")
    checks = (
        ("proxy", check_proxy),
        ("headers", check_headers),
        ("embedding", check_embedding),
        ("compression", check_compression),
        ("WebSockets", check_socket),
        ("plain http", check_plain_http),
        ("clock", check_clock),
    )
    return [(name, partial(check, parts)) for name, check in checks]


# Requests -------------------------------------------------------------------------------------------------------------


def ask(url: SplitResult, path: str, **headers: str) -> Answer:
    """GET a path. Follows no redirect. Raises OSError and http.client.HTTPException."""
    connect: type[http.client.HTTPConnection] = http.client.HTTPConnection
    if url.scheme == "https":
        connect = http.client.HTTPSConnection
    client = connect(str(url.hostname), url.port, timeout=TIMEOUT)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        client.request("GET", path, headers={"User-Agent": "chatsite-doctor", **names})
        response = client.getresponse()
        return Answer(response.status, response.headers, response.read(1024 * 1024))
    finally:
        client.close()


def look(url: SplitResult, **headers: str) -> tuple[Seen, Answer]:
    """Let Chatsite describe a request. Raises NotSeen."""
    try:
        answer = ask(url, mirror.PATH, **headers, **{mirror.HEADER: mirror.signature()})
    except ssl.SSLError as error:
        raise NotSeen(f"The certificate or TLS does not work: {reason(error)}.") from error
    except (OSError, http.client.HTTPException) as error:
        raise NotSeen(f"{url.geturl()} cannot be reached from here: {reason(error)}.") from error
    if answer.status // 100 == 3:
        raise NotSeen(f"It redirects to {answer.headers.get('Location')}. Name that address, or look at the proxy.")
    if answer.status in (502, 503, 504):
        raise NotSeen(f"The proxy answers {answer.status}: it does not reach Chatsite. Look whether `serve` runs.")
    try:
        seen: Seen = json.loads(answer.body)
        return seen, answer
    except ValueError:
        raise NotSeen(
            f"Something else than this Chatsite answers ({answer.status}): another host, another path, or a `serve` of "
            "another version or with another SECRET_KEY. Start Chatsite again after a change of .env."
        ) from None


# Checks ---------------------------------------------------------------------------------------------------------------


def check_proxy(url: SplitResult) -> Iterable[Finding]:
    """Whether scheme, host and the client's address arrive, and cannot be forged."""
    try:
        seen, _ = look(url)
    except NotSeen as error:
        yield Finding(PROBLEM, str(error))
        return
    yield from scheme_and_host(url, seen)
    if seen["trusted_proxies"] and not seen["signs"]:
        yield unproxied_finding(url)
        return
    scheme = "http" if url.scheme == "https" else "https"
    try:
        forged, _ = look(url, X_Forwarded_For=FORGED_ADDRESS, X_Forwarded_Host=FORGED_HOST, X_Forwarded_Proto=scheme)
    except NotSeen:
        yield Finding(OK, "The proxy refuses requests that forge X-Forwarded-For.")
        forged = seen
    yield address_finding(forged)
    if forged["host"] == FORGED_HOST or (forged["scheme"] == scheme and seen["scheme"] != scheme):
        yield Finding(
            WARNING,
            "The proxy passes on X-Forwarded-Host or X-Forwarded-Proto as a client has made them up. Let it set both "
            "(nginx: proxy_set_header X-Forwarded-Host $http_host, and X-Forwarded-Proto $scheme).",
        )


def scheme_and_host(url: SplitResult, seen: Seen) -> Iterator[Finding]:
    """Whether both arrive as the browser has used them."""
    if seen["scheme"] != url.scheme:
        yield Finding(
            PROBLEM,
            f"The request came by {url.scheme}, but Chatsite takes it for {seen['scheme']}. Let the proxy set "
            "X-Forwarded-Proto (nginx: $scheme), and set TRUSTED_PROXIES to the number of your proxies.",
        )
    usual = ":443" if url.scheme == "https" else ":80"
    host = url.netloc.lower().removesuffix(usual)
    if seen["host"].lower() != host:
        yield Finding(
            PROBLEM,
            f"The host was {host}, but Chatsite takes it for {seen['host']}. Let the proxy pass on Host with its port "
            "(nginx: proxy_set_header Host $http_host).",
        )
    elif not seen["is_allowed"]:
        yield Finding(PROBLEM, f"ALLOWED_HOSTS does not name {url.hostname}, so every page is refused. Add it.")
    elif seen["scheme"] == url.scheme:
        yield Finding(OK, f"Scheme and host arrive: {seen['scheme']}://{seen['host']}")


def unproxied_finding(url: SplitResult) -> Finding:
    """What is to say if Chatsite has proxies, and this address leads around them."""
    if is_this_machine(str(url.hostname)):
        return Finding(
            WARNING,
            "No proxy has passed on this request, so yours was not checked. Name in --url the address that browsers "
            "use. If that is this one, let the proxy append to X-Forwarded-For (nginx: proxy_set_header "
            "X-Forwarded-For $proxy_add_x_forwarded_for).",
        )
    return Finding(
        PROBLEM,
        "No proxy has passed on this request: whoever reaches Chatsite here can claim any address, and so evade the "
        "limits. Let only the proxy reach its port (HOST=127.0.0.1), and name in --url the address that browsers use.",
    )


def is_this_machine(host: str) -> bool:
    """Whether a host is a loopback address, which nobody else can reach."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[0])).is_loopback for *_, address in found)


def address_finding(seen: Seen) -> Finding:
    """Whether the client's address is right. `seen` is a request that has forged X-Forwarded-For, or none."""
    written, trusted = seen["forwarded_for"], seen["trusted_proxies"]
    proxies = len(written) - (written.index(FORGED_ADDRESS) + 1 if FORGED_ADDRESS in written else 0)
    if seen["client"] == FORGED_ADDRESS:
        advice = f"set TRUSTED_PROXIES={proxies}" if proxies else "let the proxy append to X-Forwarded-For"
        return Finding(PROBLEM, f"Every client can claim any address, and so evade the limits: {advice}.")
    if proxies != trusted and proxies:
        return Finding(
            PROBLEM,
            f"{counted(proxies, 'proxy has', 'proxies have')} written X-Forwarded-For, but TRUSTED_PROXIES is "
            f"{trusted}, so many customers share the limits of one address. If these proxies are yours, set "
            f"TRUSTED_PROXIES={proxies}.",
        )
    if trusted and not proxies:
        return Finding(
            PROBLEM,
            f"TRUSTED_PROXIES is {trusted}, but no proxy has written X-Forwarded-For, so all customers share the "
            "limits of one address. Let the proxy append to it (nginx: proxy_set_header X-Forwarded-For "
            "$proxy_add_x_forwarded_for).",
        )
    if seen["client"] == "unknown":
        return Finding(PROBLEM, "The client's address is unknown, so all customers share the limits of one address.")
    return Finding(OK, f"The client's address arrives ({seen['client']}), by {counted(trusted, 'proxy', 'proxies')}.")


def check_headers(url: SplitResult) -> Iterable[Finding]:
    """Whether the proxy removes or adds headers that say who may embed a page."""
    _, bare = look_or_stop(url)
    added = [name for name in ("X-Frame-Options", "Content-Security-Policy") if name in bare.headers]
    for name in added:
        yield Finding(
            PROBLEM,
            f"The proxy adds {name} to responses. Chatsite sets it where it is needed; added everywhere it keeps the "
            "chat from opening on websites. Remove it there.",
        )
    page = ask(url, SIGN_IN)
    if page.status // 100 == 3:
        yield Finding(
            PROBLEM,
            f"The sign-in page {SIGN_IN} redirects to {page.headers.get('Location')}. Name that scheme and host in "
            "--url.",
        )
        return
    if page.status != 200:
        yield Finding(PROBLEM, f"The sign-in page {SIGN_IN} answers {page.status} instead of 200. Look at the log.")
        return
    wanted = {"Content-Security-Policy": NOT_FRAMED, "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"}
    changed = [name for name, value in wanted.items() if page.headers.get_all(name) != [value]]
    for name in set(changed) - set(added):
        what = "changes or repeats" if name in page.headers else "removes"
        yield Finding(PROBLEM, f"The proxy {what} the header {name}, which protects agents. Let it pass unchanged.")
    if not added and not changed:
        yield Finding(OK, "Content-Security-Policy and X-Frame-Options arrive unchanged.")


def check_embedding(url: SplitResult) -> Iterable[Finding]:
    """Whether a website that is listed may embed the chat."""
    from conversations.models import Origin

    try:
        known = Origin.objects.exclude(origin__contains="*").select_related("website").order_by("pk").first()
    finally:
        connection.close()
    if known is None:
        yield Finding(OK, "No website has an origin yet: `manage.py addwebsite` adds one.")
        return
    page = ask(url, f"/chat/{known.website.key}/?{urlencode({'host': known.origin})}")
    policies = page.headers.get_all("Content-Security-Policy") or [""]
    if page.status != 200:
        yield Finding(PROBLEM, f"The chat of {known.website} answers {page.status} instead of 200. Look at the log.")
    elif "X-Frame-Options" in page.headers or not all(known.origin in policy for policy in policies):
        yield Finding(
            PROBLEM, f"The headers that arrive keep {known.origin} from embedding the chat. Look at the proxy."
        )
    else:
        yield Finding(OK, f"{known.origin} may embed the chat.")


def check_compression(url: SplitResult) -> Iterable[Finding]:
    """Whether the proxy compresses or changes what Chatsite does not compress."""
    all_encodings = "gzip, br, zstd"
    bare = ask(url, mirror.PATH, Accept_Encoding=all_encodings, **{mirror.HEADER: mirror.signature()})
    page = ask(url, SIGN_IN, Accept_Encoding=all_encodings)
    if "Content-Encoding" in bare.headers or "Content-Encoding" in page.headers:
        yield Finding(
            PROBLEM,
            "The proxy compresses pages, whose size then betrays secrets in them (BREACH). Switch that off except for "
            "/static/ (nginx: gzip off).",
        )
    else:
        yield Finding(OK, "The proxy does not compress pages.")


def check_plain_http(url: SplitResult) -> Iterable[Finding]:
    """Whether plain http leads to https."""
    if url.scheme != "https" or url.port not in (None, 443):
        yield Finding(
            OK if url.scheme == "https" else WARNING,
            "Not checked, because the port is not 443."
            if url.scheme == "https"
            else "The address is plain http: everybody on the way can read along, and the chat cannot be embedded.",
        )
        return
    try:
        answer = ask(url._replace(scheme="http", netloc=str(url.hostname)), "/chat/")
    except (OSError, http.client.HTTPException):
        yield Finding(WARNING, f"Nothing answers on http://{url.hostname}/. Let the proxy redirect it to https.")
        return
    target = answer.headers.get("Location", "")
    if answer.status // 100 == 3 and target.startswith(f"https://{url.hostname}"):
        yield Finding(OK, "Plain http is redirected to https.")
    else:
        yield Finding(PROBLEM, f"http://{url.hostname}/ answers {answer.status} instead of a redirect to https.")


def check_clock(url: SplitResult) -> Iterable[Finding]:
    """Whether the clocks of the proxy, of the server and of this machine agree."""
    began = time.time()
    seen, answer = look_or_stop(url)
    now = (began + time.time()) / 2
    yield clock_finding("the server", seen["time"] - now)
    if date := answer.headers.get("Date"):
        sent = parsedate_to_datetime(date).timestamp() + 0.5  # it has whole seconds
        yield clock_finding("the proxy", sent - now)


def look_or_stop(url: SplitResult, **headers: str) -> tuple[Seen, Answer]:
    """As `look`, but the sentence is short: `check_proxy` has said more. Raises ConnectionError."""
    try:
        return look(url, **headers)
    except NotSeen:
        raise ConnectionError("Chatsite is not reached, see above") from None


# WebSockets -----------------------------------------------------------------------------------------------------------


def check_socket(url: SplitResult) -> Iterable[Finding]:
    """Whether a WebSocket opens through the proxy, and what is sent on it arrives at once."""
    began = time.monotonic()
    try:
        status, seen = look_by_socket(url)
    except TimeoutError:
        yield Finding(
            PROBLEM, f"A WebSocket does not open, or nothing arrives on it within {TIMEOUT} seconds. Pages only poll."
        )
        return
    if status != 101:
        yield Finding(
            PROBLEM,
            f"The handshake of a WebSocket is answered {status} instead of 101, so pages only poll. Let the proxy pass "
            "on Upgrade and Connection by HTTP/1.1 (nginx: proxy_http_version 1.1; "
            "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade).",
        )
    elif seen["scheme"] != url.scheme:
        yield Finding(PROBLEM, f"WebSockets arrive as {seen['scheme']} instead of {url.scheme}. Look at the proxy.")
    else:
        yield Finding(OK, f"WebSockets work; one took {time.monotonic() - began:.2f} seconds.")


def look_by_socket(url: SplitResult) -> tuple[int, Seen]:
    """Open a WebSocket; returns the status, and what its handshake looked like. Raises OSError.

    Source: RFC 6455, sections 4.1 and 5.2.
    """
    is_secure = url.scheme == "https"
    address = (str(url.hostname), url.port or (443 if is_secure else 80))
    with socket.create_connection(address, TIMEOUT) as plain:
        line = ssl.create_default_context().wrap_socket(plain, server_hostname=address[0]) if is_secure else plain
        with line, line.makefile("rb") as answer:
            head = {
                "Host": url.netloc,
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
                "Origin": f"{url.scheme}://{url.netloc}",
                mirror.HEADER: mirror.signature(),
            }
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            line.sendall(f"GET {mirror.SOCKET_PATH} HTTP/1.1\r\n{lines}\r\n".encode())
            words = answer.readline(1000).split()
            status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            while answer.readline(10_000).strip():
                pass
            return status, json.loads(read_frame(answer)) if status == 101 else {}


def read_frame(answer: Any) -> bytes:
    """The payload of the first frame of a server. Raises ConnectionError if there is none."""
    start = answer.read(2)
    if len(start) < 2:
        raise ConnectionError("The connection was closed before anything arrived on the WebSocket")
    length = start[1] & 127
    if length > 125:
        length = int.from_bytes(answer.read(2 if length == 126 else 8))
    payload: bytes = answer.read(length)
    return payload

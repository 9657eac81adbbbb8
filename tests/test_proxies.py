"""Behind proxies: which scheme, host and address count, and what is said about a proxy that is set up wrongly."""

import http.client
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from conversations.threshold import proxies
from conversations.threshold.csrf import CsrfMiddleware, lacks_csrf_token
from conversations.threshold.origin import own_origin
from conversations.threshold.proxies import address_of_scope, resolve
from tests.conftest import PASSWORD, Server

HOST = "chat.example.com"


def seen(scheme: str = "http", kind: str = "http", **headers: str) -> tuple[str, str]:
    """The scheme and host that count for a request with these headers (X-Forwarded-…)."""
    pairs = [(b"host", b"127.0.0.1:8000"), (b"accept", b"*/*")]
    for name, value in headers.items():
        pairs += [(name.replace("_", "-").encode(), line.encode()) for line in value.split("\n")]
    scope = resolve({"type": kind, "scheme": scheme, "headers": pairs})
    assert dict(scope["headers"])[b"accept"] == b"*/*"
    return scope["scheme"], dict(scope["headers"])[b"host"].decode()


@pytest.mark.parametrize(
    ("count", "proto", "host", "expected"),
    [
        (0, "https", HOST, ("http", "127.0.0.1:8000")),  # made up
        (1, "https", HOST, ("https", HOST)),
        (1, "http, https", f"{HOST}, {HOST}", ("https", HOST)),
        (1, "https, http", f"evil.example, {HOST}", ("http", HOST)),  # the first is made up
        (1, "https\nhttp", f"evil.example\n{HOST}", ("http", HOST)),
        (2, "https, http", f"{HOST}, inner:8080", ("https", HOST)),
        (2, "http, https, http", f"evil.example, {HOST}, inner:8080", ("https", HOST)),
        (2, "https", HOST, ("https", HOST)),  # the second passes on what the first has set
        (1, "HTTPS", f"{HOST}:443", ("https", HOST)),
        (1, "https", f"{HOST}:8443", ("https", f"{HOST}:8443")),
        (1, "http", f"{HOST}:80", ("http", HOST)),
        (1, "http", f"{HOST}:443", ("http", f"{HOST}:443")),
        (1, "https", "[2001:db8::1]:443", ("https", "[2001:db8::1]")),
        (1, "nonsense", " , ", ("http", "127.0.0.1:8000")),
    ],
)
def test_scheme_and_host_are_counted_by_hops_from_the_right(
    settings: Any, count: int, proto: str, host: str, expected: tuple[str, str]
) -> None:
    settings.TRUSTED_PROXIES = count
    assert seen(x_forwarded_proto=proto, x_forwarded_host=host) == expected


def test_a_websocket_behind_https_is_wss(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    for proto in ("https", "wss"):
        assert seen(kind="websocket", x_forwarded_proto=proto)[0] == "wss"
    assert seen(kind="websocket", x_forwarded_proto="http")[0] == "ws"


def test_forwarded_of_rfc_7239_is_not_believed(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    assert seen(forwarded="for=192.0.2.1;proto=https;host=evil.example") == ("http", "127.0.0.1:8000")


def test_a_request_without_a_host_stays_without() -> None:
    assert resolve({"type": "http", "scheme": "http", "headers": []})["headers"] == []


def test_behind_a_unix_socket_the_proxy_names_the_client(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    assert address_of_scope({"client": None, "headers": [(b"x-forwarded-for", b"10.1.1.1, 192.0.2.7")]}) == "192.0.2.7"


def test_what_is_unclear_is_logged_once(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    proxies.warn_once.cache_clear()
    settings.TRUSTED_PROXIES = 0
    for _ in range(3):
        seen(x_forwarded_proto="https")
        assert address_of_scope({"client": None, "headers": []}) == "unknown"
    settings.TRUSTED_PROXIES = 2
    for _ in range(3):
        assert address_of_scope({"client": ["192.0.2.1", 1], "headers": [(b"x-forwarded-for", b"1.2.3.4")]})
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert "set TRUSTED_PROXIES to the number of your proxies, usually 1" in caplog.text
    assert "share the rate limits of one address" in caplog.text
    assert "has fewer addresses in X-Forwarded-For than TRUSTED_PROXIES says" in caplog.text


def test_a_form_whose_origin_a_proxy_hides_is_ours_if_the_browser_says_so() -> None:
    headers = {"Origin": "null", "X-CSRFToken": "x" * 32, "Cookie": f"csrftoken={'x' * 32}"}
    request = RequestFactory().post("/inbox/sign-in/", headers={**headers, "Sec-Fetch-Site": "same-origin"})
    assert not lacks_csrf_token(request)
    for more in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-origin", "X-CSRFToken": "y" * 32}):
        assert lacks_csrf_token(RequestFactory().post("/inbox/sign-in/", headers={**headers, **more}))


def test_the_csrf_middleware_is_ours(settings: Any) -> None:
    assert f"{CsrfMiddleware.__module__}.{CsrfMiddleware.__qualname__}" in settings.MIDDLEWARE


# A real server --------------------------------------------------------------------------------------------------------


def serving(where: Path, migrated: Path, **settings: str) -> Iterator[Server]:
    """A server that demands https, on an own SQLite file."""
    environment = {"DEBUG": "on", "INSECURE_HTTP": "off", "ALLOWED_HOSTS": HOST, "FILES": str(where), **settings}
    server = Server({"DATABASE_URL": f"sqlite:///{where / 'db.sqlite3'}", "REDIS_URL": "", **environment})
    shutil.copy(migrated, where / "db.sqlite3")
    server.manage("createagent", "bob", "--password", PASSWORD)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def behind_one(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Server]:
    """A server behind one proxy."""
    yield from serving(tmp_path_factory.mktemp("behind"), migrated, TRUSTED_PROXIES="1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Server]:
    """A server whose operator has not said that there is a proxy."""
    yield from serving(tmp_path_factory.mktemp("alone"), migrated)


def ask(server: Server, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Any:
    """Send a request as a proxy does; returns the status, the headers and the text of the response."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client.request(method, path, body, {"Host": HOST, "X-Forwarded-For": "192.0.2.7", **named})
    answer = client.getresponse()
    text = answer.read().decode()
    client.close()
    return answer.status, answer.headers, text


def test_a_proxy_that_is_not_trusted_is_explained_and_not_redirected_for_ever(alone: Server) -> None:
    status, headers, text = ask(alone, "/chat/", X_Forwarded_Proto="https")
    assert status == 400
    assert headers["Cache-Control"] == "no-store"
    assert "Set TRUSTED_PROXIES in .env to the number of your proxies, usually 1" in text
    detail = json.loads(ask(alone, "/api/messages/", X_Forwarded_Proto="https")[2])["detail"]
    assert "Set TRUSTED_PROXIES" in detail
    assert ask(alone, "/chat/", X_Forwarded_Proto="http")[1]["Location"] == f"https://{HOST}/chat/"


@pytest.mark.parametrize("headers", [{}, {"X_Forwarded_Proto": "http", "Sec_Fetch_Mode": "navigate"}])
def test_a_proxy_that_hides_https_is_explained(behind_one: Server, headers: dict[str, str]) -> None:
    status, _, text = ask(behind_one, "/chat/", **headers)
    assert status == 400
    assert "proxy_set_header X-Forwarded-Proto $scheme" in text


def test_a_sub_path_is_refused_with_a_sentence(behind_one: Server) -> None:
    status, _, text = ask(behind_one, "/chat/", X_Forwarded_Proto="https", X_Forwarded_Prefix="/support")
    assert status == 400
    assert "cannot be served under a path" in text
    assert ask(behind_one, "/chat/", X_Forwarded_Proto="https", X_Forwarded_Prefix="/")[0] == 200


def test_http_behind_a_proxy_is_redirected_to_https(behind_one: Server) -> None:
    status, headers, _ = ask(behind_one, "/chat/", X_Forwarded_Proto="https, http", X_Forwarded_Host=f"evil, {HOST}")
    assert (status, headers["Location"]) == (301, f"https://{HOST}/chat/")


def test_hsts_is_for_this_host_only(behind_one: Server) -> None:
    assert ask(behind_one, "/chat/", X_Forwarded_Proto="https")[1]["Strict-Transport-Security"] == "max-age=31536000"


def test_a_message_is_taken_behind_proxies_that_append(behind_one: Server) -> None:
    ours = {"X_Forwarded_Proto": "http, https", "X_Forwarded_Host": f"{HOST}:443, {HOST}:443"}
    form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": f"https://{HOST}", **ours}
    assert ask(behind_one, "/chat/messages/", "POST", "content=Hi", **form)[0] == 302


@pytest.mark.parametrize("path", ["/chat/messages/", "/inbox/sign-in/"])
def test_a_lost_port_is_explained_with_both_origins(behind_one: Server, path: str) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded", "X_Forwarded_Proto": "https"}
    status, _, text = ask(behind_one, path, "POST", "content=Hi", Origin=f"https://{HOST}:8443", **form)
    assert status == 403
    assert f"The page is at https://{HOST}:8443, but Chatsite sees https://{HOST}." in text
    assert "proxy_set_header Host $http_host" in text
    stranger = ask(behind_one, path, "POST", "content=Hi", Origin="https://evil.example", **form)
    assert stranger[0] == 403
    assert "evil.example" not in stranger[2]


@pytest.mark.parametrize(
    ("origin", "accepted"), [(f"https://{HOST}", True), (f"http://{HOST}", False), (f"https://{HOST}:8443", False)]
)
def test_websockets_take_the_origin_that_the_customer_sees(behind_one: Server, origin: str, accepted: bool) -> None:
    headers = {"X-Forwarded-Proto": "http, https", "X-Forwarded-Host": f"evil, {HOST}", "X-Forwarded-For": "192.0.2.7"}
    url = f"ws://127.0.0.1:{behind_one.port}/ws/chat/"
    status = 101
    try:
        with connect(url, origin=Origin(origin), additional_headers=headers):
            pass
    except InvalidStatus as refusal:
        status = refusal.response.status_code
    assert status == (101 if accepted else 403)


def test_own_origin_is_the_one_that_browsers_send(settings: Any) -> None:
    settings.ALLOWED_HOSTS = [HOST]
    assert own_origin(RequestFactory().get("/", secure=True, HTTP_HOST=HOST)) == f"https://{HOST}"

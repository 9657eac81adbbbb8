"""`/metrics`: who may read it, and what it counts."""

import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from django.conf import settings
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect
from websockets.typing import Origin

from chatsite import metrics
from chatsite.environment import Environment
from conversations.actions import post_message
from conversations.metrics import registry
from conversations.models import Agent
from conversations.threshold.limits import RateLimitExceeded, enforce
from conversations.threshold.proxies import exact_address
from tests.conftest import Server

Samples = dict[str, float]


def ask(server: Server, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    """The status and text of a response."""
    request = Request(server.url + path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def samples(server: Server) -> Samples:
    """Every number of /metrics, by its name and labels."""
    return samples_of(text_string_to_metric_families(ask(server)[1]))


def samples_of(families: Iterable[Metric]) -> Samples:
    """Every number of these metrics, by its name and labels."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@contextmanager
def counting(server: Server) -> Iterator[Samples]:
    """What is counted in the block: filled when it ends."""
    before = samples(server)
    change: Samples = {}
    yield change
    for name, value in samples(server).items():
        if value != before.get(name, 0):
            change[name] = value - before.get(name, 0)


def write(server: Server, content: str) -> str:
    """Write a message as a widget, and return the uuid of its new conversation."""
    body = f'{{"content": "{content}", "client_id": "{uuid.uuid4()}"}}'.encode()
    request = Request(server.url + "/api/messages/", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as response:
        found = re.search(r'"conversation(?:_uuid|_id)?": ?"([0-9a-f-]{36})"', text := response.read().decode())
    assert found, text
    return found[1]


# Who may read it ------------------------------------------------------------------------------------------------------


def test_prometheus_on_this_machine_may_read_it(server: Server) -> None:
    with urlopen(server.url + "/metrics", timeout=10) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert "chatsite_polls_total" in response.read().decode()
    assert ask(server, Accept="application/openmetrics-text;version=1.0.0")[1].endswith("# EOF\n")
    assert ask(server, Host="10.1.2.3")[0] == 200  # a target is often a bare address


@pytest.mark.parametrize("version", ["abc", "1..", ""])
def test_a_version_that_is_no_number_gets_the_usual_format(server: Server, version: str) -> None:
    for kind in ("application/openmetrics-text", "text/plain"):
        status, text = ask(server, Accept=f"{kind}; version={version}")
        assert status == 200
        assert "chatsite_polls_total" in text


def test_behind_a_proxy_that_is_not_trusted_nobody_may_read_it(server: Server) -> None:
    for header in ("X_Forwarded_For", "X_Real_IP", "Forwarded", "Via", "X_Forwarded_Proto", "X_Forwarded_Host"):
        assert ask(server, **{header: "127.0.0.1"})[0] == 404, header


def test_others_get_the_page_for_unknown_addresses(server: Server) -> None:
    def without_tokens(text: str) -> str:
        return re.sub(r"metrics|unknown", "", text)

    status, text = ask(server, "/unknown", X_Forwarded_For="192.0.2.1")
    assert status == 404
    assert "<html" in text
    assert without_tokens(ask(server, "/metrics", X_Forwarded_For="192.0.2.1")[1]) == without_tokens(text)
    with pytest.raises(HTTPError, match="404"):
        urlopen(Request(server.url + "/metrics", method="POST"), timeout=10)


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "address"),
    [
        (0, "127.0.0.1", "", "127.0.0.1"),
        (0, "::ffff:127.0.0.1", "", "127.0.0.1"),
        (0, "2001:db8::7", "", "2001:db8::7"),
        (0, "127.0.0.1", "127.0.0.1", None),  # a proxy that is not trusted
        (0, None, "", None),  # a Unix socket
        (1, "127.0.0.1", "", "127.0.0.1"),  # past the proxy
        (1, "127.0.0.1", "127.0.0.1, 192.0.2.1", "192.0.2.1"),  # the first is made up
        (1, None, "10.0.0.5", "10.0.0.5"),
        (1, "127.0.0.1", "nonsense", None),
        (1, None, "127.0.0.1, ", None),  # the proxy does not know, and the first is made up
        (1, None, "127.0.0.1,unix:", None),
        (2, "127.0.0.1", "127.0.0.1, , 10.0.0.5", None),
        (2, "127.0.0.1", "10.0.0.5", None),  # it came through one of two proxies, so it may be anybody's
        (2, "127.0.0.1", "10.0.0.5, 127.0.0.1", "10.0.0.5"),
    ],
)
def test_the_clients_own_address_counts(
    settings: Any, proxies: int, peer: str | None, forwarded: str, address: str | None
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    found = exact_address({"client": [peer, 1] if peer else None, "headers": headers})
    assert (str(found) if found else None) == address


def test_metrics_from_names_networks(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 0

    def may_read(peer: str) -> bool:
        return metrics.may_read({"client": [peer, 1], "headers": []})

    assert [may_read(peer) for peer in ("127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "::2")] == [1, 1, 1, 0, 0]
    settings.METRICS_FROM = Environment(settings.BASE_DIR / "none").networks(
        "X", "10.1.0.0/16, 2001:db8::/32 192.0.2.1"
    )
    assert [may_read(peer) for peer in ("10.1.2.3", "2001:db8::1", "192.0.2.1")] == [True] * 3
    assert [may_read(peer) for peer in ("127.0.0.1", "10.2.0.1", "192.0.2.2", "2001:db9::1")] == [False] * 4
    settings.METRICS_FROM = Environment(settings.BASE_DIR / "none").networks("X", "")
    assert not may_read("127.0.0.1")


@pytest.mark.parametrize("value", ["everybody", "10.0.0.0/33", "10.1.2.3/8", "10.0.0.0/8;::1"])
def test_a_wrong_network_is_refused(settings: Any, value: str) -> None:
    env = Environment(settings.BASE_DIR / "none")
    env.networks("METRICS_FROM", value)
    assert value in env.problems[0]
    assert "10.0.0.0/8" in env.problems[0]


# What it counts -------------------------------------------------------------------------------------------------------


def test_polls_from_memory_and_from_the_database(server: Server) -> None:
    path = f"/api/messages/{write(server, 'Hello')}/?since=999999999"
    ask(server, path)  # the cursor is unknown: never kept
    path = f"/api/messages/{write(server, 'Hello')}/"
    last = max(int(number) for number in re.findall(r'"id": ?(\d+)', ask(server, path)[1]))
    with counting(server) as change:
        for _ in range(5):
            assert ask(server, f"{path}?since={last}")[0] == 200
    from_database = 1 if settings.POLL_CACHE else 5
    assert change.get("chatsite_polls_total{answered_from=memory}", 0) == 5 - from_database
    assert change["chatsite_polls_total{answered_from=database}"] == from_database
    assert change["chatsite_http_requests_total{code=200,handler=widget_api}"] == from_database
    assert change["chatsite_http_request_duration_seconds_count{handler=widget_api}"] == from_database
    assert change["chatsite_database_duration_seconds_count{operation=statement}"] >= 1


def test_requests_are_counted_by_handler_and_never_by_path(server: Server) -> None:
    number = uuid.uuid4()
    with counting(server) as change:
        for path in ("/chat/", "/inbox/sign-in/", f"/api/messages/{number}/", "/api/me/", f"/{number}", "/robots.txt"):
            ask(server, path)
    counted = {name: value for name, value in change.items() if name.startswith("chatsite_http_requests_total")}
    assert counted == {
        "chatsite_http_requests_total{code=200,handler=chat}": 1,
        "chatsite_http_requests_total{code=200,handler=inbox}": 1,
        "chatsite_http_requests_total{code=200,handler=widget_api}": 1,
        "chatsite_http_requests_total{code=401,handler=agent_api}": 1,
        "chatsite_http_requests_total{code=404,handler=other}": 1,
        "chatsite_http_requests_total{code=200,handler=other}": 1,
    }
    assert str(number) not in ask(server)[1]


@pytest.mark.parametrize(
    ("path", "handler"),
    [
        ("/chat/shop/messages/", "chat"),
        ("/chat/script-0a1b.js", "other"),
        ("/chat/files/signed/notes.js", "chat"),
        ("/inbox/7/", "inbox"),
        ("/api/messages", "widget_api"),
        ("/api/conversation/7/messages/", "agent_api"),
        ("/static/css/chat.css", "other"),
        ("/admin/", "other"),
        ("/chatter", "other"),
    ],
)
def test_every_path_has_one_of_five_handlers(path: str, handler: str) -> None:
    assert metrics.handler_of(path) == handler


def test_sockets_and_rings(server: Server) -> None:
    number = write(server, "Hello")
    with (
        counting(server) as change,
        connect(f"ws{server.url[4:]}/ws/messages/{number}/", origin=Origin(server.url)) as socket,
    ):
        socket.recv(timeout=5)  # the ring of the opening
        assert samples(server)["chatsite_websockets_open"] >= 1
        with counting(server) as while_open:
            body = f'{{"content": "More", "conversation": "{number}"}}'.encode()
            headers = {"Content-Type": "application/json"}
            with urlopen(Request(server.url + "/api/messages/", body, headers), timeout=10):
                socket.recv(timeout=5)
    assert while_open["chatsite_rings_total"] == 1
    assert change["chatsite_rings_total"] >= 2


def value(name: str, **labels: str) -> float:
    """A number of this process."""
    return registry.get_sample_value(name, labels) or 0


@pytest.mark.django_db(transaction=True)
def test_messages_are_counted_by_author_when_they_are_stored(bob: Agent) -> None:
    before = [value("chatsite_messages_total", author=author) for author in ("customer", "agent")]
    client_id = uuid.uuid4()
    conversation = post_message(content="Hello", client_id=client_id).conversation
    post_message(content="Hello", client_id=client_id)  # a retry stores nothing
    post_message(content="One", conversation=conversation, agent=bob)
    post_message(content="Two", conversation=conversation, agent=bob)
    after = [value("chatsite_messages_total", author=author) for author in ("customer", "agent")]
    assert [new - old for old, new in zip(before, after, strict=True)] == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_the_time_of_commits_is_measured() -> None:
    before = value("chatsite_database_duration_seconds_count", operation="commit")
    seconds = value("chatsite_database_duration_seconds_sum", operation="commit")
    post_message(content="Hello")
    assert value("chatsite_database_duration_seconds_count", operation="commit") == before + 1
    assert value("chatsite_database_duration_seconds_sum", operation="commit") > seconds


def test_what_a_limit_refuses_is_counted_by_the_limit(settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "visits of one address": (1, 60)}
    before = value("chatsite_rate_limited_total", limit="visits of one address")
    enforce("visits of one address", "192.0.2.1")
    with pytest.raises(RateLimitExceeded):
        enforce("visits of one address", "192.0.2.1")
    assert value("chatsite_rate_limited_total", limit="visits of one address") == before + 1


def test_the_time_of_redis_is_measured(settings: Any) -> None:
    if not settings.REDIS_URL:
        pytest.skip("needs Redis")
    before = value("chatsite_redis_duration_seconds_count")
    settings.RATE_LIMITS = True
    enforce("visits of one address", "192.0.2.1")
    assert value("chatsite_redis_duration_seconds_count") > before

"""Every URL answers 4xx to text and numbers that a database cannot store. Run this on PostgreSQL, which is strict."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver

from conversations.models import Agent, Conversation, Website

NUL, SURROGATE, TOO_LARGE, MANY_DIGITS = "de\x00defghij", "\ud800", str(2**63), "9" * 5_000
PARAMETERS = (  # noqa: SIM905
    "action assigned before chosen client_id code content conversation email host identity language last limit name "
    "next o offset p password q rows seen seen_assignee since small state status url username website whose window zone"
).split()
HEADERS = ["Accept-Language", "Authorization", "Origin", "Referer", "User-Agent", "X-Chat", "X-Identity"]
COOKIES = ["sessionid", "csrftoken", "chat", "chat-shop", "django_language"]


def routes(resolver: Any, prefix: str = "") -> Iterator[str]:
    """Every route, as in `chat/<key>/messages/`."""
    for entry in resolver.url_patterns:
        route = prefix + re.sub(r"<\w+:", "<", str(entry.pattern))
        if isinstance(entry, URLPattern):
            yield route
        else:
            yield from routes(entry, route)


def distinct_routes() -> list[str]:
    """Every route but those that lead to the same view: with and without a slash, or the website's key."""
    found = {route for route in routes(get_resolver()) if "(" not in route}
    without_slash = {route for route in found if f"{route}/" in found}
    without_key = {route.replace("<key>/", "", 1) for route in found if "<key>/" in route}
    return sorted(found - without_slash - without_key - {"api/openapi.json/", "api/docs/"})


@pytest.fixture
def client(bob: Agent, talk: Conversation) -> Client:
    """A browser of an agent who is a superuser and has a chat too. Exceptions become 500, as on a server."""
    Website.objects.create(key="shop", name="The shop")
    Agent.objects.filter(pk=bob.pk).update(is_superuser=True, is_staff=True)
    client = Client(raise_request_exception=False)
    client.force_login(bob)
    client.cookies["chat"] = client.cookies["chat-shop"] = talk.uuid.hex
    return client


def requests(route: str, plausible: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths with the arguments of the client's methods."""
    names = re.findall("<(.*?)>", route)

    def path(**values: str) -> str:
        return "/" + re.sub("<(.*?)>", lambda name: values.get(name[1], str(plausible.get(name[1], 1))), route)

    for value in (NUL, SURROGATE, "-1", TOO_LARGE, MANY_DIGITS):
        as_bytes = value.encode(errors="surrogatepass")
        quoted = f"%{as_bytes.hex('%')}" if len(value) < 99 else value
        for name in names:
            yield path(**{name: quoted}), {}
        yield path() + "?" + "&".join(f"{name}={quoted}" for name in PARAMETERS), {}
        if route.startswith("admin/"):
            continue
        raw = as_bytes.decode("latin-1")  # as servers pass it on
        yield path(), {"headers": {**dict.fromkeys(HEADERS, raw), "X-Identity": quoted}}
        cookie = raw.replace("\x00", r"\000")
        yield path(), {"headers": {"Cookie": "; ".join(f'{name}="{cookie}"' for name in COOKIES)}}
        yield path(), {"data": dict.fromkeys(PARAMETERS, raw)}
        yield path(), {"data": json.dumps(dict.fromkeys(PARAMETERS, value)), "content_type": "application/json"}
    if not route.startswith("admin/"):
        for number in (2**63, -1, 10**400, {"id": NUL, "hmac": SURROGATE}):
            body = json.dumps(dict.fromkeys(PARAMETERS, number))
            yield path(), {"data": body, "content_type": "application/json"}


@pytest.mark.django_db
@pytest.mark.parametrize("route", distinct_routes(), ids=lambda route: route or "/")
def test_no_url_fails_on_hostile_input(client: Client, talk: Conversation, route: str) -> None:
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    plausible = {"key": "shop", "id": talk.pk, "pk": talk.pk, "uuid": talk.uuid, "file": uuid4()}
    methods = {"GET"} if route.startswith("admin/") else {"GET", "POST"}
    failed = []
    for path, arguments in requests(route, plausible):
        arguments["headers"] = {"Cookie": cookies, **arguments.get("headers", {})}
        for method in methods & {"POST"} if "data" in arguments else sorted(methods):
            status = (client.get if method == "GET" else client.post)(path, **arguments).status_code
            if status == 405:
                methods = methods - {method}
            if status >= 500:
                failed.append((status, method, path[:99], ascii(arguments)[:200]))
    assert failed == []


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/chat/style-%00-abc.css", "/chat/?host=a%00", "/admin/?q=%00"])
def test_a_null_character_in_an_address_is_answered_with_a_readable_400(path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 400
    assert "The server could not understand this request" in response.content.decode()

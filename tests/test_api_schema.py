"""The API does what its OpenAPI document says, also for generated input."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from conversations.models import Agent, Conversation, Token

# The schema does not say what an e-mail address is, or that a message of blanks is empty: such input is 422.
UNDESCRIBED_RULES = [positive_data_acceptance]
schema = schemathesis.openapi.from_wsgi("/api/openapi.json", get_wsgi_application())
# The document names its type for its readers. The API takes anything: what is no uuid starts a new conversation.
schema.raw_schema["components"]["schemas"]["MessageIn"]["properties"]["conversation"] = {}
no_deadline = settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@pytest.fixture(autouse=True)
def _keep_garbage() -> Iterator[None]:
    """Hypothesis parses source code, where Python before 3.11.8 now and then fails: it counts the depth of recursion
    wrongly if it is interrupted (https://github.com/python/cpython/issues/106905).
    """
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def _keep_connection() -> Iterator[None]:
    """Keep requests from closing the test's database connection, as Django's test client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def token(bob: Agent, talk: Conversation) -> str:
    """A token of an agent. There is a conversation to find."""
    return Token.objects.issue(bob, "schemathesis", "WRITE")


@schema.parametrize()
@no_deadline
def test_calls_of_agents_match_the_schema(case: Any, token: str) -> None:
    case.call_and_validate(excluded_checks=UNDESCRIBED_RULES, headers={"Authorization": f"Bearer {token}"})


@schema.exclude(path_regex="conversation|agents|me/").parametrize()
@no_deadline
def test_calls_of_customers_match_the_schema(case: Any, db: None) -> None:
    case.call_and_validate(excluded_checks=UNDESCRIBED_RULES)


def test_the_docs_page_loads_nothing_from_other_hosts() -> None:
    page = Client().get("/api/docs")
    assert page.status_code == 200
    html = page.content.decode()
    assert "swagger-ui-bundle.js" in html
    assert "//" not in html.replace("http://www.w3.org", "")
    assert "script-src 'self';" in page["Content-Security-Policy"]


def test_every_call_is_in_the_schema_with_its_errors() -> None:
    paths = schema.raw_schema["paths"]
    assert set(paths) == {
        "/api/messages/",
        "/api/messages/{uuid}/",
        "/api/messages/{uuid}/seen",
        "/api/messages/{uuid}/files/",
        "/api/messages/{uuid}/files/{file}/",
        "/api/conversation/",
        "/api/conversation/{id}/",
        "/api/conversation/{id}/seen",
        "/api/conversation/{id}/messages/",
        "/api/conversation/{id}/messages/{message}/",
        "/api/conversation/{id}/files/",
        "/api/conversation/{id}/files/{file}/",
        "/api/conversation/{id}/close",
        "/api/conversation/{id}/open",
        "/api/conversation/{id}/take",
        "/api/conversation/{id}/assign",
        "/api/conversation/{id}/release",
        "/api/conversation/{id}/labels",
        "/api/conversation/{id}/priority",
        "/api/conversation/{id}/snooze",
        "/api/agents/",
        "/api/labels/",
        "/api/me/",
        "/api/website/{key}/",
    }
    assert set(paths["/api/messages/"]["post"]["responses"]) >= {"200", "401", "403", "409", "413", "422", "429"}

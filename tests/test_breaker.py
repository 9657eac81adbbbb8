"""Who waits for a service that hangs."""

import time

import pytest

from conversations.breaker import Breaker


@pytest.fixture
def breaker() -> Breaker:
    """That of a service that hangs: somebody has waited in vain."""
    breaker = Breaker(pause=60, trial=60)
    breaker.failed(time.monotonic())
    return breaker


def test_one_failure_lets_all_others_fail_at_once(breaker: Breaker) -> None:
    assert not breaker.allows()


def test_who_has_waited_since_before_the_end_of_an_outage_begins_no_new_one(breaker: Breaker) -> None:
    since = time.monotonic()
    breaker.succeeded()
    breaker.failed(since)
    assert breaker.allows()


def test_who_asks_in_vain_after_an_outage_begins_a_new_one(breaker: Breaker) -> None:
    breaker.succeeded()
    breaker.failed(time.monotonic())
    assert not breaker.allows()

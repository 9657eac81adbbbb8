"""Pages whose server stops reconnect to another process. The trial with 2,000 pages is tests/soak/storm.py."""

import pytest

from tests.soak import storm


@pytest.mark.parametrize("fault", ["terminate", "kill"])
def test_all_pages_of_a_server_that_ends_come_back_at_another(fault: str) -> None:
    outcome = storm.run(100, fault=fault, spread=2, most=30, debug=True)
    assert outcome.back == outcome.pages, outcome
    assert not outcome.refused, outcome
    assert set(outcome.codes) == {1012 if fault == "terminate" else 1006}, outcome
    assert set(outcome.statuses) <= {200, 204}, outcome
    assert outcome.log < 10_000, outcome

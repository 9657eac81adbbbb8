"""`make flood` in small: processes are replaced while widgets listen, poll and write. And it notices what is wrong."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from tests.flood.__main__ import Plan, run_flood
from tests.flood.client import Client
from tests.flood.typing import LOOKS, TYPES
from tests.flood.widgets import Talk, Widget


def test_widgets_notice_nothing_when_processes_are_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(listeners=20, pollers=4, conversations=4, writers=2, messages=20, pause=0.02, reloads=1, spread=2)
    assert run_flood(plan, processes=2, debug=True), capsys.readouterr().out
    assert "2 processes were replaced in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seen", "fault"),
    [
        ([(1, "anna 1")], "lost"),
        ([(1, "anna 1"), (2, "anna 2"), (2, "anna 2")], "doubled"),
        ([(1, "anna 1"), (2, "anna 2"), (3, "anna 2")], "doubled"),
        ([(2, "anna 2"), (1, "anna 1")], "misordered"),
        ([(1, "anna 1"), (2, "anna 2"), (3, "anna 3")], "invented"),
    ],
)
def test_what_a_widget_shows_wrong_is_counted(seen: list[tuple[int, str]], fault: str) -> None:
    widget = Widget(Talk("", {1: "anna 1", 2: "anna 2"}), Client(0, 1), seen)
    assert widget.faults()[fault], widget.faults()
    widget.seen = [(1, "anna 1"), (2, "anna 2")]
    assert not widget.faults().total()


@pytest.mark.parametrize(("script", "seconds"), [("typing-line.js", TYPES), ("who-is-here.js", LOOKS)])
def test_it_types_and_looks_as_often_as_pages_do(script: str, seconds: int) -> None:
    text = (Path(settings.BASE_DIR) / "static" / "js" / script).read_text()
    [again], [end] = (re.findall(rf"const {name} = (\d+);", text) for name in ("AGAIN", "END"))
    assert int(again) == 1000 * seconds
    assert int(again) + 2000 < int(end), "what is said late still comes before the end"

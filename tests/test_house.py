"""The house is in order: migrations are whole, and numbers that documentation states are those of the code."""

from typing import Any

import pytest
from django.core.management import call_command

from conversations.live import doorbell
from conversations.models import message, writing
from conversations.screen import paging
from tests.conftest import ROOT


@pytest.mark.django_db
def test_every_change_of_a_model_has_its_migration() -> None:
    call_command("makemigrations", "--check", "--dry-run", "--verbosity", "0")


def test_the_longest_message_is_the_same_for_forms_scripts_and_readers() -> None:
    composer = (ROOT / "templates/conversations/_composer.html").read_text()
    assert f'data-most="{message.MAX_LENGTH}"' in composer
    assert f'maxlength="{writing.NAME_LENGTH}"' in (ROOT / "templates/customer/_who.html").read_text()
    assert f"{message.MAX_LENGTH:,} characters" in (ROOT / "docs/api.md").read_text()


def test_the_documented_paces_are_the_real_ones() -> None:
    script = (ROOT / "static/js/door-bell.js").read_text()
    text = (ROOT / "docs/api.md").read_text()
    assert f"every {doorbell.HEARTBEAT} seconds" in text
    assert f"server rings every {doorbell.HEARTBEAT} s" in script


def test_the_documented_limits_are_the_real_ones(settings: Any) -> None:
    text = (ROOT / "docs/running.md").read_text()
    for name, (most, seconds) in settings.LIMITS.items():
        assert f"| {name} | {most} in {seconds} s |" in text


def test_every_setting_is_in_the_example() -> None:
    code = (ROOT / "chatsite/settings.py").read_text() + (ROOT / "chatsite/environment.py").read_text()
    example = (ROOT / ".env.example").read_text()
    import re

    names = set(re.findall(r'(?:env|self)\.(?:text|flag|number|words|origins)\(\s*"([A-Z_]+)"', code))
    assert {"SECRET_KEY", "DATABASE_URL", "PORT"} <= names
    assert {name for name in names if f"\n{name}=" not in example} == set()


def test_a_page_of_messages_is_as_long_as_the_documentation_says() -> None:
    assert f"{paging.PAGE} messages at once" in (ROOT / "conversations/README.md").read_text()

"""Things that must agree: models and migrations; code, templates, scripts and documentation."""

import re
from typing import Any

import pytest
from django.core.management import call_command

from conversations.live import rounds
from conversations.models import message, validation
from conversations.screen import paging
from tests.conftest import ROOT


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", "--check", "--dry-run", "--verbosity", "0")


def test_templates_and_docs_state_the_real_maximum_lengths() -> None:
    composer = (ROOT / "templates/conversations/_composer.html").read_text()
    assert f'data-most="{message.MAX_LENGTH}"' in composer
    assert f'maxlength="{validation.NAME_LENGTH}"' in (ROOT / "templates/customer/_contact_fields.html").read_text()
    assert f"{message.MAX_LENGTH:,} characters" in (ROOT / "docs/api.md").read_text()


def test_scripts_and_docs_state_the_real_heartbeat() -> None:
    script = (ROOT / "static/js/door-bell.js").read_text()
    text = (ROOT / "docs/api.md").read_text()
    assert f"every {rounds.HEARTBEAT} seconds" in text
    assert f"server rings every {rounds.HEARTBEAT} s" in script


def test_the_docs_state_the_real_rate_limits(settings: Any) -> None:
    text = (ROOT / "docs/running.md").read_text()
    for name, (most, seconds) in settings.LIMITS.items():
        assert f"| {name} | {most} in {seconds} s |" in text


def test_every_setting_is_in_the_example_file() -> None:
    code = (ROOT / "chatsite/settings.py").read_text() + (ROOT / "chatsite/environment.py").read_text()
    example = (ROOT / ".env.example").read_text()
    names = set(re.findall(r'(?:env|self)\.(?:text|flag|number|words|origins|networks|one_of)\(\s*"([A-Z_]+)"', code))
    assert {"SECRET_KEY", "DATABASE_URL", "PORT"} <= names
    assert {name for name in names if f"\n{name}=" not in example} == set()


def test_the_map_names_files_and_names_that_exist() -> None:
    text = (ROOT / "conversations/README.md").read_text()
    files = [path for top in ("chatsite", "conversations", "static", "templates") for path in (ROOT / top).rglob("*.*")]
    for line in text.splitlines():
        named = re.findall(r"`([\w/.-]+\.(?:py|js|html|css))`", line.replace("manage.py ", ""))
        found = {name: [path for path in files if path.as_posix().endswith(f"/{name}")] for name in named}
        assert all(found.values()), line
        if line.startswith("| "):
            code = "".join(path.read_text() for paths in found.values() for path in paths)
            assert all(re.search(rf"\b{name}\b", code) for name in re.findall(r"`(\w+)`", line)), line


def test_the_docs_state_the_real_page_size() -> None:
    assert f"{paging.PAGE_SIZE} messages at once" in (ROOT / "conversations/README.md").read_text()

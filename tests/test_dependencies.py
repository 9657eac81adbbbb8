"""pyproject.toml, and the locks that are compiled from it."""

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement

import chatsite
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
LOCKS = {
    "run": PROJECT["project"]["dependencies"],
    "sentry": PROJECT["project"]["dependencies"] + EXTRAS["sentry"],
    "analysis": PROJECT["project"]["dependencies"] + EXTRAS["analysis"],
    "dev": PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"],
}


def pins(name: str) -> dict[str, str]:
    """The versions in the lock by the names of packages. One that has several versions has the last of them."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==([^ ;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_has_every_dependency_in_a_version_that_pyproject_allows(name: str) -> None:
    pinned, wanted = pins(name), [Requirement(line) for line in LOCKS[name]]
    assert {needed.name for needed in wanted} - pinned.keys() == set(), "Run `make lock`."
    assert [str(needed) for needed in wanted if pinned[needed.name] not in needed.specifier] == []


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_has_a_hash_for_every_version_and_names_no_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip(), flags=re.IGNORECASE)
    assert len(entries) >= len(pins(name)) > 30
    assert [entry.splitlines()[0] for entry in entries if not re.match(r"\S+==.*\\\n +--hash=sha256:", entry)] == []
    assert "://" not in text
    assert "index" not in text


def test_all_locks_have_the_same_versions_of_what_runs() -> None:
    for extra in EXTRAS:
        assert pins("run").items() <= pins(extra).items() <= pins("dev").items()


def test_one_version_is_in_the_changelog_the_api_and_the_command(client: Any) -> None:
    assert f"\n## [{chatsite.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert client.get("/api/openapi.json").json()["info"]["version"] == chatsite.__version__
    command = [sys.executable, "manage.py", "version"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert said.stdout.startswith(f"Chatsite {chatsite.__version__} ")

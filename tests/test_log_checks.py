"""With MESSAGE_LOG=redis nothing starts on a Redis that may lose messages, and a sentence says what to do."""

import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from chatsite.log_checks import OPTIONS, find_config_problems, find_log_problems
from chatsite.metrics import LOG
from conversations.actions.replicate import CLAIM
from conversations.message_log import CONVERSATIONS_MARGIN, KEPT, KEPT_SECONDS, MARGIN, RETRY_SECONDS
from conversations.models.remembered import ACCESS, LONGEST
from tests.conftest import ROOT, free_port
from tests.services import Service, redis_server
from tests.test_serve import refusal, serving

RIGHT = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "allkeys-lru"}


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A Redis that keeps everything at once."""
    with redis_server(tmp_path_factory.mktemp("redis")) as service:
        yield service


@pytest.fixture
def log(settings: Any, right: Service) -> Iterator[Any]:
    """The client of a Redis that is right for the message log, which is on. Its configuration is reset afterwards."""
    settings.MESSAGE_LOG, settings.REDIS_URL = True, right.url
    with redis.Redis.from_url(right.url, decode_responses=True) as client:
        yield client
        for name, value in {**RIGHT, "maxmemory-policy": "noeviction"}.items():
            client.config_set(name, value)


def test_a_redis_that_keeps_everything_is_right(log: Any, settings: Any) -> None:
    assert find_log_problems() == []
    log.config_set("maxmemory", "1gb")
    assert find_log_problems() == []
    settings.MESSAGE_LOG, settings.REDIS_URL = False, ""
    assert find_log_problems() == []


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("appendonly", "no", "a restart would lose messages"),
        ("appendfsync", "everysec", "MESSAGE_LOG_FSYNC=everysec says that this is right"),
        ("appendfsync", "no", "a power cut would lose"),
        ("no-appendfsync-on-rewrite", "yes", "while it rewrites its file"),
    ],
)
def test_a_redis_that_may_lose_messages_is_refused(log: Any, option: str, value: str, sentence: str) -> None:
    before = log.config_get(option)[option]
    log.config_set(option, value)
    [said] = find_log_problems()
    assert sentence in said
    log.config_set(option, before)
    assert find_log_problems() == []


def test_a_redis_that_deletes_keys_when_it_is_full_is_refused(log: Any) -> None:
    log.config_set("maxmemory-policy", "volatile-ttl")
    assert find_log_problems() == []
    log.config_set("maxmemory", "1gb")
    assert "maxmemory-policy volatile-ttl" in find_log_problems()[0]


def test_everysec_is_right_only_for_who_says_so(settings: Any) -> None:
    settings.MESSAGE_LOG_FSYNC = "everysec"
    for fsync, problems in (("everysec", 0), ("always", 0), ("no", 1)):
        assert len(list(find_config_problems({**RIGHT, "appendfsync": fsync}))) == problems


def test_where_redis_does_not_tell_its_settings_somebody_vouches_for_them(log: Any, settings: Any) -> None:
    log.acl_setuser("chat", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-config"])
    settings.REDIS_URL = settings.REDIS_URL.replace("redis://", "redis://chat:x@")
    [said] = find_log_problems()
    assert said.startswith("Redis does not say how it keeps messages (")
    assert "MESSAGE_LOG_VOUCHED=on" in said
    settings.MESSAGE_LOG_VOUCHED = True
    assert find_log_problems() == []


def test_an_old_redis_is_refused(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.Redis, "info", lambda *_: {"redis_version": "6.2.14"})
    assert find_log_problems()[0].startswith("The message log needs Redis 7.0 or newer, and this is 6.2.14.")


def test_a_redis_that_is_away_is_a_warning_only(settings: Any) -> None:
    settings.MESSAGE_LOG = True
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        settings.REDIS_URL = f"redis://127.0.0.1:{hanging.getsockname()[1]}/0"
        before = time.monotonic()
        assert find_log_problems() == []
        assert time.monotonic() - before < 5


@pytest.mark.parametrize("command", ["serve", "replicate"])
def test_commands_refuse_in_a_sentence(tmp_path: Path, migrated: Path, command: str) -> None:
    shutil.copy(migrated, tmp_path / "db.sqlite3")
    assert "REDIS_URL is empty" in refusal(tmp_path, command, MESSAGE_LOG="redis")
    with redis_server() as forgetful:
        said = refusal(tmp_path, command, MESSAGE_LOG="redis", REDIS_URL=forgetful.url)
        assert "CONFIG SET appendonly yes" in said
        assert "CONFIG SET appendfsync always" in said


def test_serve_starts_while_redis_is_away(tmp_path: Path, migrated: Path, capfd: Any) -> None:
    with serving(tmp_path, migrated, MESSAGE_LOG="redis", REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
        pass
    assert "Nobody can write messages either" in capfd.readouterr().err


def test_the_docs_state_the_real_settings_and_numbers() -> None:
    text = (ROOT / "docs/log.md").read_text()
    example = (ROOT / ".env.example").read_text()
    names = set(re.findall(r"^(MESSAGE_LOG\w*|REPLICATING)=", example, re.MULTILINE))
    assert len(names) == 5
    assert all(f"| `{name}` |" in text for name in names)
    assert all(f"| `{option}` |" in text for option in OPTIONS if option != "maxmemory")
    assert all(f"`{name}`" in text for name in LOG)
    assert f"{MARGIN:,} of\nmessages and {CONVERSATIONS_MARGIN} of conversations" in text
    assert f"for at most {LONGEST // 60} minutes" in text
    assert f"{KEPT} messages of a conversation stay for an hour" in text
    assert (KEPT_SECONDS, RETRY_SECONDS, ACCESS.seconds, CLAIM) == (3600, 7 * 24 * 3600, 30, 10)  # as it says in words

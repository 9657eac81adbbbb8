"""Checks on the machine itself: settings, database, Redis, disks, permissions, mail."""

import os
import shutil
import smtplib
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.mail import get_connection
from django.db import DatabaseError, NotSupportedError, connection, connections

from chatsite import startup
from chatsite.doctor import OK, PROBLEM, WARNING, Check, Finding
from chatsite.log_checks import find_log_problems, short_client
from chatsite.private_files import OTHERS, private_files
from chatsite.startup import reason
from conversations.counted import counted
from conversations.log_state import GROUP, LogState, log_state
from conversations.message_log import ENTRIES
from conversations.models import Conversation

MAIL_TIMEOUT = 10
"""Seconds for each answer of the mail server."""

SLOW = 0.02
"""Seconds for a trivial query from which on the database counts as slow: a page has several."""

CLOCK_DIFFERENCE, CLOCK_WRONG = 2, 60
"""Seconds that clocks may differ before it is a warning, and a problem: signatures and tokens expire by them."""

LONG_LAG = 60
"""Seconds that a message may wait for the database before there is a warning."""

MANY_UNREAD = 100_000
"""Messages that another reader of the message log may not have read before there is a warning."""

LONG_REPLICA_LAG = 5
"""Seconds that a replica of the database may need for a message before there is a warning."""

IS_REPLICA = {"postgresql": "SELECT pg_is_in_recovery()", "mysql": "SELECT @@read_only"}

LITTLE_ROOM, NO_ROOM = 2 * 1024**3, 256 * 1024**2
"""Free bytes of a disk below which there is a warning, and a problem."""


def problems_or(problems: list[str], sentence: str) -> Iterator[Finding]:
    """The problems, or that everything is right."""
    yield from (Finding(PROBLEM, problem) for problem in problems) if problems else [Finding(OK, sentence)]


def check_settings() -> Iterable[Finding]:
    """Settings that are allowed, but not meant for production. Wrong ones have ended the command already."""
    found = []
    if settings.DEBUG:
        found.append("DEBUG is on: error pages show code and settings to everybody. Set DEBUG=off.")
    if settings.INSECURE_HTTP and not settings.DEBUG:
        found.append("INSECURE_HTTP is on: cookies are sent over plain http, and the chat cannot be embedded.")
    if not settings.RATE_LIMITS:
        found.append("RATE_LIMITS is off: one client can take everything. Set RATE_LIMITS=on.")
    if not settings.REDIS_URL and not connection.settings_dict["ENGINE"].endswith("sqlite3"):
        found.append("REDIS_URL is empty. More than one process needs it.")
    if os.geteuid() == 0:
        found.append(
            "This runs as root, so permissions are not really tested. Run it as the user that runs `manage.py serve`."
        )
    yield from (Finding(WARNING, sentence) for sentence in found) if found else [Finding(OK, "The settings are right.")]


def check_database() -> Iterable[Finding]:
    """Whether the database answers, is migrated, supported and fast, and what time it has."""
    problems = startup.find_database_problems()
    yield from problems_or(problems, "The database answers, can be written and is migrated.")
    if problems:
        return
    try:
        connection.ensure_connection()
        version = ".".join(map(str, connection.get_database_version()))
        yield Finding(OK, f"{connection.display_name} {version}, which answers in {answer_time() * 1000:.1f} ms.")
        if answer_time() > SLOW:
            yield Finding(WARNING, "The database answers slowly. Put it near this machine.")
        yield from check_limits(settings.DATABASES["default"].get("OPTIONS", {}))
        if connection.vendor != "sqlite":
            yield clock_finding("the database", database_time() - time.time())
    except NotSupportedError as error:
        yield Finding(PROBLEM, f"The database is too old: {reason(error)}. Upgrade it.")
    finally:
        connection.close()


def check_replica() -> Iterable[Finding]:
    """Whether the replica of the database answers, follows the primary, and how late it is."""
    if not settings.REPLICA:
        return
    warnings = startup.find_replica_warnings()
    yield from (Finding(WARNING, sentence) for sentence in warnings)
    if warnings:
        return
    replica = connections["replica"]
    try:
        with replica.cursor() as cursor:
            cursor.execute(IS_REPLICA[replica.vendor])
            if not cursor.fetchone()[0]:
                yield Finding(WARNING, "DATABASE_REPLICA_URL names a server that is no replica: it accepts writes.")
        began = time.monotonic()
        wanted = Conversation.objects.last_message_id()
        while Conversation.objects.using("replica").last_message_id() < wanted:
            if time.monotonic() - began > LONG_REPLICA_LAG:
                yield Finding(
                    WARNING,
                    f"The replica lacks messages for more than {LONG_REPLICA_LAG} seconds. Look whether it follows the "
                    "primary. It answers only for conversations of which it lacks nothing.",
                )
                return
            time.sleep(0.01)
        yield Finding(OK, "The replica answers, and has the newest message.")
    except DatabaseError as error:
        yield Finding(WARNING, f"The replica cannot be compared with the primary: {reason(error)}.")
    finally:
        replica.close()
        connection.close()


def answer_time() -> float:
    """The median seconds that a trivial query takes."""
    times = []
    with connection.cursor() as cursor:
        for _ in range(9):
            began = time.perf_counter()
            cursor.execute("SELECT 1")
            cursor.fetchone()
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def database_time() -> float:
    """The time of the database, in seconds since 1970."""
    query = {"postgresql": "extract(epoch from clock_timestamp())", "mysql": "UNIX_TIMESTAMP(NOW(6))"}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {query[connection.vendor]}")
        return float(cursor.fetchone()[0])


def check_limits(options: dict[str, Any]) -> Iterator[Finding]:
    """Time limits of the database that DATABASE_URL has switched off or raised."""
    unlimited = [name for name, value in options.items() if name.endswith(("timeout", "statement_time")) and value == 0]
    if unlimited:
        yield Finding(
            WARNING,
            f"DATABASE_URL switches off {', '.join(unlimited)}, so one slow statement may hold up requests for long.",
        )


def clock_finding(whose: str, seconds: float) -> Finding:
    """What a difference between two clocks means."""
    if abs(seconds) < CLOCK_DIFFERENCE:
        return Finding(OK, f"The clocks of {whose} and of this machine agree.")
    ahead = "ahead" if seconds > 0 else "behind"
    sentence = (
        f"The clock of {whose} is {counted(round(abs(seconds)), 'second')} {ahead} of this machine's. Set both by NTP."
    )
    return Finding(PROBLEM if abs(seconds) > CLOCK_WRONG else WARNING, sentence)


def check_redis() -> Iterable[Finding]:
    """Whether Redis answers, and what it does when its memory is full."""
    yield from (Finding(PROBLEM, sentence) for sentence in startup.find_process_problems(settings.PROCESSES))
    if not settings.REDIS_URL:
        if settings.PROCESSES == 1:
            yield Finding(OK, "Redis is not used, which is right for one process.")
        return
    warnings = startup.find_redis_warnings()
    if warnings:
        yield from (Finding(PROBLEM, sentence) for sentence in warnings)
        return
    limits: dict[str, Any] = {"socket_timeout": startup.REDIS_TIMEOUT, "socket_connect_timeout": startup.REDIS_TIMEOUT}
    with redis.Redis.from_url(settings.REDIS_URL, retry=None, **limits) as client:
        info: Any = client.info()
        seconds, _microseconds = client.time()
        yield clock_finding("Redis", seconds - int(time.time()))
        yield from redis_findings(info)


def redis_findings(info: dict[str, Any]) -> Iterator[Finding]:
    """What the answer to INFO says."""
    kept = "is" if info.get("aof_enabled") else "is not"
    yield Finding(
        OK,
        f"Redis {info.get('redis_version', '?')} answers. What it has {kept} kept on disk (appendonly); "
        f"{'the messages among it may not be lost' if settings.MESSAGE_LOG else 'all of it may be lost'}.",
    )
    if info.get("role") == "slave":
        yield Finding(PROBLEM, "REDIS_URL names a replica, which refuses writes. Name its master.")
    if info.get("maxmemory") and info.get("maxmemory_policy") == "noeviction" and not settings.MESSAGE_LOG:
        yield Finding(
            WARNING,
            "When Redis reaches its maxmemory, it refuses writes (maxmemory-policy noeviction). Set volatile-ttl.",
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok" or info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(PROBLEM, "Redis cannot write to its disk, and may refuse writes. Look at its log and disk.")


def check_log() -> Iterable[Finding]:
    """Whether Redis keeps the messages of the message log, and the database gets them."""
    problems = find_log_problems()
    yield from (Finding(PROBLEM, sentence) for sentence in problems)
    if problems or not settings.MESSAGE_LOG:
        return
    with short_client() as client:
        yield from log_findings(log_state(client))
        for group in client.xinfo_groups(ENTRIES) if client.exists(ENTRIES) else []:
            unread = group["pending"] + (group["lag"] or 0)
            if group["name"] != GROUP and unread > MANY_UNREAD:
                name = group["name"]
                yield Finding(
                    WARNING,
                    f"The reader “{name}” has not read {counted(unread, 'message')}, which stay in Redis' memory until "
                    f"it has. Start it, or run `redis-cli XGROUP DESTROY '{ENTRIES}' {name}` if it will never read "
                    "them.",
                )


def log_findings(state: LogState) -> Iterator[Finding]:
    """What is to say about how far the log is ahead of the database."""
    if state.seconds > LONG_LAG:
        yield Finding(
            WARNING,
            f"The database lacks {counted(state.waiting, 'message')} of the message log, the oldest for "
            f"{counted(round(state.seconds), 'second')}. Look whether the database answers, whether "
            "`manage.py replicate`, or `manage.py serve` with "
            "REPLICATING=on, runs, and into its log.",
        )
    else:
        yield Finding(OK, f"Redis keeps every message of the message log. The database lacks {state.waiting} of them.")
    if state.dead:
        yield Finding(
            WARNING,
            f"The database has refused {counted(state.dead, 'message')}. See `manage.py replicate --dead`, and "
            "docs/log.md.",
        )


def places() -> dict[str, Path]:
    """The directories whose disks need room, by what they are for."""
    found = {"FILES": Path(settings.MEDIA_ROOT), "temporary files": Path(tempfile.gettempdir())}
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        found["the database"] = Path(database["NAME"]).absolute().parent
    return found


def check_disks() -> Iterable[Finding]:
    """Whether there is room for files and for the database."""
    for what, path in places().items():
        existing = next(each for each in [path, *path.absolute().parents] if each.exists())
        free = shutil.disk_usage(existing).free
        sentence = f"The disk of {what} ({path}) has {free / 1024**3:.1f} GB left"
        if free < LITTLE_ROOM:
            yield Finding(PROBLEM if free < NO_ROOM else WARNING, f"{sentence}. Make room, or use a larger one.")
        else:
            yield Finding(OK, f"{sentence}.")


def check_files() -> Iterable[Finding]:
    """Whether files can be stored, and who else may read them."""
    existed = Path(settings.MEDIA_ROOT).exists()
    yield from problems_or(startup.find_file_problems(), "Files that come with messages can be stored.")
    if not existed:  # it was made to try, and would belong to who runs this, not to who runs `serve`
        with suppress(OSError):
            Path(settings.MEDIA_ROOT).rmdir()
    readable = [path for path in private_files() if path.stat().st_mode & OTHERS]
    for path in readable:
        yield Finding(PROBLEM, f"Every user of this machine can read {path}. Run: chmod o= {path}")
    others = [path for path in private_files() if path.stat().st_uid not in (os.geteuid(), 0)]
    for path in others:
        yield Finding(WARNING, f"{path} belongs to another user than {startup.user()}, who runs this.")
    for name, path in (("FILES", settings.MEDIA_ROOT), ("STATIC_ROOT", settings.STATIC_ROOT)):
        if Path(path).is_dir() and Path(path).stat().st_mode & stat.S_IWOTH:
            yield Finding(PROBLEM, f"Every user of this machine can write to {path} ({name}). Run: chmod o-w {path}")
    if not readable:
        yield Finding(OK, "Other users of this machine cannot read the settings, the database and the files.")


def check_static_files() -> Iterable[Finding]:
    """Whether the static files are those of this version."""
    yield from problems_or(startup.find_static_problems(), "The static files are those of this version.")


def check_mail() -> Iterable[Finding]:
    """Whether the mail server lets us in. Nothing is sent."""
    if not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        yield Finding(WARNING, "EMAIL_URL names no mail server, so agents cannot ask for a new password.")
        return
    server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    mail: Any = get_connection(timeout=MAIL_TIMEOUT)
    try:
        mail.open()
    except smtplib.SMTPAuthenticationError as error:
        yield Finding(PROBLEM, f"The mail server {server} refuses the user or the password ({error.smtp_code}).")
    except (OSError, smtplib.SMTPException) as error:
        yield Finding(PROBLEM, f"The mail server {server} cannot be used ({reason(error)}). Look at EMAIL_URL.")
    else:
        yield Finding(OK, f"The mail server {server} lets Chatsite in. `manage.py sendtestemail` sends a mail.")
    finally:
        mail.close()


CHECKS: list[Check] = [
    ("settings", check_settings),
    ("database", check_database),
    ("replica", check_replica),
    ("static files", check_static_files),
    ("files", check_files),
    ("disks", check_disks),
    ("Redis", check_redis),
    ("message log", check_log),
    ("mail", check_mail),
]

"""Checks before Chatsite serves: database, files, static files. Each problem is a sentence."""

import filecmp
import os
import pwd
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage
from django.core import checks
from django.db import OperationalError, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

DATABASE_TIMEOUT = 10
"""Seconds in which the database must answer all questions of a start."""

REDIS_TIMEOUT = 1
"""Seconds in which Redis must answer, before a start goes on without it."""

COLLECT = "Run: manage.py collectstatic --noinput"
MIGRATE = "Run: manage.py migrate"

UNANSWERED = f"The database does not answer within {DATABASE_TIMEOUT} seconds. Look whether it runs, and DATABASE_URL."

Migration = tuple[str, str]
"""App and name of a migration."""


def find_problems() -> list[str]:
    """Everything that keeps Chatsite from serving, one sentence each. Takes DATABASE_TIMEOUT at most."""
    database = result_within(DATABASE_TIMEOUT, find_database_problems, [UNANSWERED])
    return [*database, *find_file_problems(), *find_static_problems()]


def find_process_problems(processes: int) -> list[str]:
    """What keeps Chatsite from serving with this number of processes, one sentence each."""
    if processes == 1:
        return []
    problems = []
    if not settings.REDIS_URL:
        problems.append(
            f"PROCESSES is {processes}, and several processes need Redis, to tell each other of changes. Set "
            "REDIS_URL, or PROCESSES to 1."
        )
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        problems.append(
            f"PROCESSES is {processes}, but on SQLite only one process writes in order. Set DATABASE_URL to PostgreSQL "
            "or MariaDB, or PROCESSES to 1."
        )
    return problems


def find_reload_problems(started_with: str | None) -> list[str]:
    """A sentence if a new process would write beside others that have another MESSAGE_LOG: the one of `started_with`.

    started_with: redis or sql; None for a process without a supervisor.
    """
    message_log = "redis" if settings.MESSAGE_LOG else "sql"
    if started_with in {None, message_log}:
        return []
    return [
        f"MESSAGE_LOG was {started_with} when the others were started, and is {message_log} now. They must not write "
        "side by side. Stop all processes of Chatsite, and follow docs/log.md."
    ]


def find_warnings() -> list[str]:
    """What Chatsite can do without: Redis and a replica of the database."""
    return [*find_redis_warnings(), *find_replica_warnings()]


def find_replica_warnings() -> list[str]:
    """A sentence if the replica of the database does not answer. Closes its connection of this thread."""
    if not settings.REPLICA:
        return []
    replica = connections["replica"]
    try:
        replica.ensure_connection()
    except Exception as error:
        return [
            f"The replica does not answer: {reason(error)}. Look whether it runs, and DATABASE_REPLICA_URL. Until it "
            "answers, the primary answers in its place."
        ]
    finally:
        replica.close()
    return []


def find_redis_warnings() -> list[str]:
    """A sentence if Redis does not answer."""
    if not settings.REDIS_URL:
        return []
    times = {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT}
    try:
        with redis.Redis.from_url(settings.REDIS_URL, retry=None, **times) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        more = " Nobody can write messages either (MESSAGE_LOG=redis)." if settings.MESSAGE_LOG else ""
        return [
            f"Redis does not answer ({reason(error)}). Look whether it runs, and REDIS_URL. Until it answers, each "
            f"process counts for the rate limits by itself, and pages find new messages by polling.{more}"
        ]
    return []


def result_within(seconds: float, function: Callable[[], list[str]], otherwise: list[str]) -> list[str]:
    """The result of a function that may hang. After `seconds` it is left to itself in its thread."""
    results: list[list[str]] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(seconds)
    return results[0] if results else otherwise


def reason(error: Exception) -> str:
    """What a driver says, in one line. None of them repeats a password."""
    lines = str(error.args[-1] if error.args else error).splitlines()
    return lines[0][:300] if lines else type(error).__name__


def user() -> str:
    """The name of the user that this process runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run as a number
        return str(os.geteuid())


# Database -------------------------------------------------------------------------------------------------------------


def explain(error: Exception, migrating: bool) -> str:
    """A sentence instead of the traceback of a command that the database has failed. "" if it is a mistake of the code.

    `migrating`: the command is `migrate`, for which missing migrations explain nothing.
    """
    problems = result_within(DATABASE_TIMEOUT, lambda: find_database_problems(not migrating), [UNANSWERED])
    if not problems and isinstance(error, OperationalError) and not migrating:
        problems = [f"The database did not do this: {reason(error)}. Try again."]
    return "\n".join(problems)


def find_database_problems(with_migrations: bool = True) -> list[str]:
    """What is wrong with the database. Closes the connection of this thread."""
    connection: Any = connections["default"]
    name = settings.DATABASES["default"]["NAME"]
    if is_missing_file(connection):
        if not Path(name).parent.is_dir():
            return [
                f"The directory {Path(name).parent} of the database does not exist. Create it, or look at DATABASE_URL."
            ]
        return [f"The database {name} does not exist yet. {MIGRATE}"]
    try:
        problems = find_write_problem(connection, name) if connection.vendor == "sqlite" else []
        problems = problems or find_encoding_problems(connection)
        if problems or not with_migrations:
            return problems
        return find_migration_problems(MigrationRecorder(connection).applied_migrations())
    except Exception as error:
        return [f"The database does not answer: {reason(error)}. Look whether it runs, and DATABASE_URL."]
    finally:
        connection.close()


def is_missing_file(connection: Any) -> bool:
    """Whether the database is a file that does not exist. SQLite would create it, empty."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or name.startswith(("file:", ":memory:")):
        return False
    try:
        return not Path(name).exists()
    except PermissionError:  # of its directory; SQLite says so, too
        return False


def find_write_problem(connection: Any, name: str) -> list[str]:
    """A sentence if SQLite's file or its directory cannot be written."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 1000")
            cursor.execute("BEGIN IMMEDIATE")  # takes the lock for writing
            cursor.execute("ROLLBACK")
    except OperationalError as error:
        if "locked" not in str(error):  # another process is writing it
            return [
                f"The database {name} cannot be written ({reason(error)}). The user {user()} must be allowed to write "
                f"the file, its -wal and -shm, and to create files in {Path(name).parent}."
            ]
    return []


def find_encoding_problems(connection: Any) -> list[str]:
    """A sentence if the database cannot store every character, such as 😀."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_encoding")
            encoding = cursor.fetchone()[0]
        if encoding == "UTF8":
            return []
        return [
            f"The PostgreSQL database has the encoding {encoding}, which lacks most characters. It cannot be changed: "
            "make a new one with createdb --template=template0 --encoding=UTF8 NAME."
        ]
    if connection.vendor != "mysql":
        return []
    tables = set(connection.introspection.django_table_names(only_existing=True))
    with connection.cursor() as cursor:
        cursor.execute("SELECT DATABASE(), @@character_set_database")
        name, charset = cursor.fetchone()
        cursor.execute(
            "SELECT DISTINCT table_name, character_set_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND character_set_name <> 'utf8mb4'"
            " AND NOT (table_name = 'conversations_searchable' AND column_name = 'words')"  # 0023_search makes it ASCII
        )
        columns = [(table, found) for table, found in cursor.fetchall() if table in tables]
    statements = [f"ALTER TABLE `{table}` CONVERT TO CHARACTER SET utf8mb4;" for table, _ in columns]
    if charset != "utf8mb4":
        statements.insert(0, f"ALTER DATABASE `{name}` CHARACTER SET utf8mb4;")
    if not statements:
        return []
    wrong = charset if charset != "utf8mb4" else columns[0][1]
    return [
        f"The database {name} has the character set {wrong}, which lacks 😀 and many other characters: messages with "
        f"them could not be stored. Chatsite needs utf8mb4. Make a backup, then run in the database: "
        f"{' '.join(statements)}"
    ]


def check_encoding(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[checks.CheckMessage]:
    """`find_encoding_problems` as a Django check, which `manage.py migrate` runs before it creates tables."""
    problems = [problem for alias in databases or () for problem in find_encoding_problems(connections[alias])]
    return [checks.Error(problem, id="chatsite.E001") for problem in problems]


def known_migrations() -> set[Migration]:
    """The migrations of this code."""
    return set(MigrationLoader(None).disk_migrations)


def find_migration_problems(applied: Iterable[Migration]) -> list[str]:
    """A sentence if the database has other tables than this code needs. `applied` are its migrations."""
    known, applied = known_migrations(), set(applied)
    apps = {app for app, _name in known}
    unknown = sorted(f"{app}.{name}" for app, name in applied - known if app in apps)
    if unknown:
        return [
            f"The database is newer than this code, which does not know {', '.join(unknown)}. "
            "Start the newer version, or restore the backup that was made before the upgrade."
        ]
    missing = known - applied
    if not missing:
        return []
    what = "is empty" if not applied else f"lacks {len(missing)} of this version's migrations"
    return [f"The database {what}. {MIGRATE}"]


# Files ----------------------------------------------------------------------------------------------------------------


def find_file_problems() -> list[str]:
    """A sentence if no file can be written to FILES, or no temporary file."""
    where = Path(settings.MEDIA_ROOT)
    problems = []
    try:
        where.mkdir(0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=where, prefix=".try-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        problems.append(
            why_no_directory(where)
            or f"Files that come with messages cannot be written to {where} ({error.strerror}). "
            f"Let the user {user()} write there, or set FILES to another directory."
        )
    try:
        tempfile.gettempdir()
    except OSError:
        problems.append("There is no directory for temporary files. Set TMPDIR to one that can be written.")
    return problems


def why_no_directory(where: Path) -> str:
    """A sentence if FILES cannot be a directory, whichever user runs Chatsite, else ""."""
    try:
        if where.exists() and not where.is_dir():
            return f"FILES is {where}, which is a file. Set it to a directory."
        if where.parent.exists() and not where.parent.is_dir():
            return f"FILES is {where}, but {where.parent} is a file."
        if not where.parent.exists():
            return f"The directory {where.parent} of FILES does not exist. Create it, or look at FILES."
    except OSError:  # no permission to look
        pass
    return ""


def find_static_problems() -> list[str]:
    """A sentence if the collected static files are not those of this code. In debug mode none are collected."""
    storage: Any = staticfiles_storage
    if not isinstance(staticfiles_storage, ManifestFilesMixin):
        return []
    if not storage.hashed_files:
        return [f"The static files are not collected in {settings.STATIC_ROOT}. {COLLECT}"]
    for finder in get_finders():
        for path, source in finder.list(["CVS", ".*", "*~"]):
            name = f"{source.prefix}/{path}" if getattr(source, "prefix", None) else path
            hashed = storage.hashed_files.get(name.replace("\\", "/"), "")
            if not (hashed and storage.exists(hashed) and is_same(source.path(path), storage.path(name))):
                return [f"The static files in {settings.STATIC_ROOT} are of another version ({name}). {COLLECT}"]
    return []


def is_same(one: str, other: str) -> bool:
    """Whether two files have the same content. False if one cannot be read."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False

"""Reads settings from the environment and `.env`, and explains wrong ones in a sentence each."""

import os
import re
from collections.abc import Collection
from contextlib import suppress
from difflib import get_close_matches
from io import StringIO
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import environ
import redis
from django.core.exceptions import ImproperlyConfigured

from conversations.origins import serialize_origin, to_ascii

ON = {"on", "true", "yes", "1"}
OFF = {"off", "false", "no", "0", ""}
DATABASES = {"sqlite", "postgres", "postgresql", "mysql"}
DATABASE_LIMITS = {
    "postgresql": {
        "connect_timeout": 5,  # seconds for each host
        "read_timeout": 10,  # seconds that one request may wait for the database altogether
        "statement_timeout": 8000,  # milliseconds, as the next two
        "lock_timeout": 5000,
        "tcp_user_timeout": 10_000,
        "keepalives": 1,
        "keepalives_idle": 5,  # seconds
        "keepalives_interval": 2,
        "keepalives_count": 3,
    },
    "mysql": {
        "connect_timeout": 5,
        "read_timeout": 10,
        "write_timeout": 10,
        "max_statement_time": 8,
        "innodb_lock_wait_timeout": 5,
        "lock_wait_timeout": 5,
    },
}
"""How long databases on servers may take: see chatsite/databases. DATABASE_URL may say otherwise: ?read_timeout=20."""

REPLICA_LIMITS = {
    "postgresql": {
        **DATABASE_LIMITS["postgresql"],
        "connect_timeout": 2,  # less does not exist
        "read_timeout": 1,
        "statement_timeout": 800,
    },
    "mysql": {"connect_timeout": 1, "read_timeout": 1, "write_timeout": 1},
}
"""The same for a replica, where each statement has its own limits. Then the primary is asked."""

MYSQL_OPTIONS = """
    bind_address charset collation init_command isolation_level max_allowed_packet program_name read_default_file
    read_default_group server_public_key sql_mode ssl_ca ssl_cert ssl_disabled ssl_key ssl_key_password ssl_verify_cert
    ssl_verify_identity unix_socket
"""
"""The options of PyMySQL and of Django's backend that DATABASE_URL may have, besides its time limits."""

OPTION_FLAGS = {"prepared_statements", "ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"}
"""Options of our backend for PostgreSQL, and of PyMySQL, that are on or off: PyMySQL would take any text for true."""

OPTION_FILES = {"ssl_ca", "ssl_cert", "ssl_key", "read_default_file"}
"""Options of PyMySQL that name files."""

NEVER_ZERO = {"connect_timeout", "read_timeout", "write_timeout"}
"""Limits of this process. Those of the servers are switched off by 0."""

EMAILS = {"consolemail", "filemail", "smtp", "smtps", "smtp+tls", "smtp+ssl"}

ASSIGNMENT = re.compile(r"(export )?[A-Za-z_0-9]+=")
"""How a line of `.env` begins that django-environ understands."""

SIMILAR = 0.85
"""How much of a name in `.env` must be that of a setting to count as a misspelled one."""

MAX_SOCKET_PATH = 107
"""Bytes of the path of a Unix socket (sockaddr_un in unix(7))."""

NO_PATH = "Chatsite cannot be served under a path. Give it a host name of its own, as in chat.example.com."


def host_advice(host: str) -> str:
    """What to write instead of `host` in ALLOWED_HOSTS, "" if it is right."""
    bare = host.partition("://")[2] or host
    bare, _, path = bare.partition("/")
    if path:
        return NO_PATH
    if is_ipv6(bare.strip("[]")):
        bare = f"[{bare.strip('[]')}]"
    bare = re.sub(r":\d*$", "", bare) if not bare.endswith("]") else bare
    bare = bare.removeprefix("*") if bare.startswith("*.") else bare
    with suppress(ValueError):
        bare = to_ascii(bare)
    if not is_host(bare):
        return "This is no host name. One looks like chat.example.com; comments need a line of their own."
    return "" if bare == host else f"Write {bare}: a name alone, as browsers send it, without scheme and port."


def is_host(text: str) -> bool:
    """Whether Django may compare this with the hosts of requests."""
    if text.startswith("["):
        return text.endswith("]") and "%" not in text and is_ipv6(text[1:-1])
    return re.fullmatch(r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", text) is not None


def is_ipv6(text: str) -> bool:
    """Whether this is an IPv6 address without brackets."""
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def is_ipv4_and_port(text: str) -> bool:
    """Whether this is an address with a port, which looks like a part of an IPv6 address."""
    return text.count(":") == 1


def known_options(engine: str, limits: Collection[str]) -> set[str]:
    """The options that the query of DATABASE_URL may have. `limits` are those of its time limits."""
    known = set(limits)
    if engine == "postgresql":
        import psycopg  # takes a while

        known |= {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
        known |= {"assume_role", "isolation_level", "prepare_threshold"}  # of Django's backend
        known |= {"prepared_statements"}  # of ours: chatsite/databases/postgresql
    return known | set(MYSQL_OPTIONS.split()) if engine == "mysql" else known


class Environment:
    """Typed access to environment variables. Problems are collected, and `verify()` reports them all at once."""

    def __init__(self, dotenv: Path) -> None:
        """Read the file `dotenv` if it exists. Variables that are already set take precedence."""
        self.problems: list[str] = []
        self.names: set[str] = set()
        self.dotenv = dotenv
        self.lines = self.read_lines() if dotenv.exists() else []
        self.given = dict(os.environ)
        """The variables without those of `.env`, for a process that reads it anew."""
        environ.Env.read_env(StringIO("\n".join(self.lines)))
        self.env = environ.Env()

    def read_lines(self) -> list[str]:
        """The lines of the file that set a variable. Others are reported, without repeating what may be a secret.

        Raises ImproperlyConfigured if the file cannot be read: then every other setting would seem to be missing.
        """
        try:
            text = self.dotenv.read_text("utf-8-sig")
        except OSError as error:
            sentence = f"{self.dotenv} cannot be read ({error.strerror}). Let the user of this process read it."
            raise ImproperlyConfigured(sentence) from error
        except UnicodeDecodeError as error:
            raise ImproperlyConfigured(f"{self.dotenv} is not in UTF-8. Save it as UTF-8.") from error
        lines = []
        for number, line in enumerate(text.splitlines(), 1):
            if ASSIGNMENT.match(line):
                lines.append(line)
            elif line.strip() and not line.startswith("#"):
                self.problems.append(
                    f"Line {number} of {self.dotenv} sets nothing. A line is NAME=value, without spaces before NAME "
                    "and around =; a comment begins with #."
                )
        return lines

    def text(self, name: str, default: str = "") -> str:
        """The variable, without surrounding whitespace."""
        self.names.add(name)
        value: str = self.env.ENVIRON.get(name, default)
        return value.strip()

    def flag(self, name: str, default: bool) -> bool:
        """on/off, true/false, yes/no or 1/0, in any case."""
        value = self.text(name, "on" if default else "off").lower()
        if value not in ON | OFF:
            self.problems.append(f"{name} is “{value}”, but it takes only on or off.")
        return value in ON

    def number(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self.text(name, str(default))
        is_number = value.isascii() and value.isdigit() and len(value) < 20  # int() refuses thousands of digits
        if not is_number or not least <= int(value) <= most:
            self.problems.append(f"{name} is “{value}”, but it takes a whole number from {least} to {most}.")
            return default
        return int(value)

    def one_of(self, name: str, *choices: str) -> str:
        """One of these words, in any case; the first one if the variable is not set."""
        value = self.text(name, choices[0]).lower()
        if value not in choices:
            self.problems.append(f"{name} is “{value}”, but it takes only {' or '.join(choices)}.")
            return choices[0]
        return value

    def words(self, name: str) -> list[str]:
        """A list separated by commas or spaces."""
        return self.text(name).replace(",", " ").split()

    def origins(self, name: str) -> list[str]:
        """A list of origins such as https://shop.example or https://*.shop.example, as browsers send them."""
        origins = []
        for origin in self.words(name):
            scheme, sep, host = origin.partition("://")
            star = "*." if host.startswith("*.") else ""
            try:
                normal = serialize_origin(f"{scheme}{sep}{host.removeprefix('*.')}")
                origins.append(normal.replace("://", f"://{star}"))
            except ValueError:
                self.problems.append(f"{name} has “{origin}”, but an origin looks like https://shop.example.")
        return origins

    def networks(self, name: str, default: str) -> list[IPv4Network | IPv6Network]:
        """A list of IP addresses and networks in CIDR notation, as in 10.0.0.0/8."""
        networks = []
        for word in self.text(name, default).replace(",", " ").split():
            try:
                networks.append(ip_network(word, strict=False))
            except ValueError:
                self.problems.append(f"{name} has “{word}”, but it takes addresses and networks such as 10.0.0.0/8.")
                continue
            if "/" in word and networks[-1].network_address != ip_interface(word).ip:
                self.problems.append(f"{name} has “{word}”. Write {networks[-1]}, or {ip_interface(word).ip} alone.")
        return networks

    def hosts(self, name: str) -> list[str]:
        """A list of host names without scheme, port and path, for ALLOWED_HOSTS."""
        hosts = self.words(name)
        for host in hosts:
            if advice := host_advice(host):
                self.problems.append(f"{name} has “{host}”. {advice}")
        return hosts

    def directory(self, name: str, default: str) -> Path:
        """A directory. Without a full path it is beside `.env`."""
        return self.dotenv.parent / (self.text(name) or default)

    def own_directory(self, name: str, default: str) -> Path:
        """A directory, but not the root of all."""
        path = self.directory(name, default)
        if os.path.realpath(path) == "/":
            self.problems.append(f"{name} is {path}, but it takes a directory of its own.")
        return path

    def keep_out(self, public: Path, private: list[Path]) -> None:
        """Report what is private and in the directory STATIC_ROOT, which is served to everybody."""
        for path in private:
            if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(public)):
                self.problems.append(
                    f"Everybody can read what is in STATIC_ROOT ({public}), and {path} is there. "
                    "Set STATIC_ROOT to a directory of its own."
                )

    def listening_host(self, name: str, default: str) -> str:
        """An address to listen on, or unix:/path of a Unix socket."""
        host = self.text(name) or default
        if host.startswith("unix:"):
            if not host.startswith("unix:/"):
                self.problems.append(
                    f"{name} is “{host}”, but a socket has a full path: unix:/run/chatsite/chatsite.sock"
                )
            elif len(host.removeprefix("unix:").encode()) > MAX_SOCKET_PATH:
                self.problems.append(
                    f"{name} has a path of more than {MAX_SOCKET_PATH} bytes, which no socket can have."
                )
        elif not re.fullmatch(r"[\w.-]+|\[?[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%\w+)?\]?", host) or is_ipv4_and_port(host):
            self.problems.append(
                f"{name} is “{host}”, but it takes an address alone, as in 127.0.0.1. The port is PORT."
            )
        return host

    def database(self, default: str) -> dict[str, Any]:
        """DATABASE_URL as Django's settings of one database. A file without a full path is beside `.env`."""
        url = self.text("DATABASE_URL") or default
        if not self._is_valid_url("DATABASE_URL", url, DATABASES):
            url = default
        return self._database("DATABASE_URL", url, default, DATABASE_LIMITS)

    def replica(self, primary: dict[str, Any]) -> dict[str, Any] | None:
        """DATABASE_REPLICA_URL as Django's settings of one database, or None. `primary` is that of DATABASE_URL."""
        url = self.text("DATABASE_REPLICA_URL")
        if not url or not self._is_valid_url("DATABASE_REPLICA_URL", url, DATABASES):
            return None
        kinds = {"postgresql": "postgres", "mysql": "mysql"}
        kind = kinds.get(primary["ENGINE"].rpartition(".")[2])
        if kind is None or not url.startswith(kind):
            self.problems.append(
                "DATABASE_REPLICA_URL names a replica of DATABASE_URL, so both must be PostgreSQL, or both MariaDB. "
                "SQLite has no replicas."
            )
            return None
        config = self._database("DATABASE_REPLICA_URL", url, url, REPLICA_LIMITS)
        if kind == "postgres":
            config["ENGINE"] = "chatsite.databases.postgresql_replica"
        else:
            config["ENGINE"] = "django.db.backends.mysql"
            config["OPTIONS"]["init_command"] = "SET SESSION TRANSACTION READ ONLY"
        return {**config, "CONN_MAX_AGE": None, "TEST": {"MIRROR": "default"}}

    def _database(self, variable: str, url: str, default: str, all_limits: dict[str, Any]) -> dict[str, Any]:
        if url.startswith("sqlite://") and not url.startswith(("sqlite:///", "sqlite://:memory:")):
            self.problems.append(f"{variable} is {url}, but a file is written with three slashes: sqlite:///db.sqlite3")
            url = default
        config: dict[str, Any] = self.env.db_url_config(url)
        if url.startswith("sqlite:///") and config["NAME"]:
            config["NAME"] = str(self.dotenv.parent / config["NAME"])
        if not config["NAME"]:
            self.problems.append(f"{variable} names no database. Write sqlite:///db.sqlite3 for a file.")
        engine = config["ENGINE"].rpartition(".")[2]
        limits = all_limits.get(engine, {})
        for name, value in config.get("OPTIONS", {}).items():
            self._check_option(variable, engine, name, value, known_options(engine, limits))
        for name in OPTION_FLAGS & config.get("OPTIONS", {}).keys():
            config["OPTIONS"][name] = str(config["OPTIONS"][name]).lower() in ON
        config["ENGINE"] = f"chatsite.databases.{engine}"
        options = config["OPTIONS"] = {**limits, **config.get("OPTIONS", {})}
        for name in limits:
            options[name] = self._limit(variable, name, options[name])
        return config

    def _check_option(self, variable: str, engine: str, name: str, value: Any, known: set[str]) -> None:
        has = f"{variable} has {name}={value}, but"
        if name not in known:
            close = get_close_matches(name.lower(), known, 1, SIMILAR)
            advice = f" Do you mean {close[0]}?" if close else f" It knows {', '.join(sorted(known))}." if known else ""
            self.problems.append(f"{variable} has the option {name}, which {engine} does not know.{advice}")
        elif engine == "mysql" and name == "charset" and value != "utf8mb4":
            self.problems.append(f"{has} Chatsite needs utf8mb4, for 😀 and many other characters. Leave it out.")
        elif name in OPTION_FLAGS and str(value).lower() not in ON | OFF:
            self.problems.append(f"{has} it takes only on or off.")
        elif engine == "mysql" and name in OPTION_FILES and not os.access(str(value), os.R_OK):
            self.problems.append(f"{variable} has {name}={value}, a file that cannot be read.")

    def _limit(self, variable: str, name: str, value: Any) -> float:
        least = "above 0" if name in NEVER_ZERO else "from 0"
        try:
            number = value if isinstance(value, int) else float(value)
        except ValueError:
            number = -1
        if isfinite(number) and (number > 0 or (number == 0 and name not in NEVER_ZERO)):
            return number
        self.problems.append(f"{variable} has {name}={value}, but it takes a number {least}.")
        return 1

    def email(self, default: str) -> dict[str, Any]:
        """EMAIL_URL as Django's EMAIL_* settings."""
        url = self.text("EMAIL_URL") or default
        if not self._is_valid_url("EMAIL_URL", url, EMAILS):
            url = default
        config: dict[str, Any] = self.env.email_url_config(url)
        return config

    def redis(self) -> str:
        """REDIS_URL, or "" without Redis."""
        url = self.text("REDIS_URL")
        if url and self._is_valid_url("REDIS_URL", url, {"redis", "rediss", "unix"}):
            try:
                self._check_redis(url)
            except (ValueError, redis.RedisError) as error:
                self.problems.append(f"REDIS_URL: {error}")
        return url

    def _check_redis(self, url: str) -> None:
        parts = urlsplit(url)
        pool: Any = redis.ConnectionPool.from_url(url)  # does not connect
        [database] = parse_qs(parts.query).get("db") or ["" if parts.scheme == "unix" else parts.path.strip("/")]
        if database and not (database.isascii() and database.isdigit()):
            self.problems.append(
                f"REDIS_URL names the database “{database}”, but it takes a number, as in redis://localhost:6379/0"
            )
        for name in ("socket_timeout", "socket_connect_timeout"):
            value = pool.connection_kwargs.get(name, 1)
            if not (isfinite(value) and value > 0):
                self.problems.append(f"REDIS_URL has {name}={value:g}, but it takes a number above 0.")
        try:
            pool.make_connection()
        except TypeError as error:  # ... got an unexpected keyword argument 'foo'
            name = str(error).rpartition(" ")[2].strip("'")
            self.problems.append(f"REDIS_URL has the option {name}, which does not exist.")

    def verify(self) -> None:
        """Raise ImproperlyConfigured if any variable was wrong or misspelled, with one line for each."""
        for name in sorted({line.removeprefix("export ").partition("=")[0] for line in self.lines} - self.names):
            for meant in get_close_matches(name.upper(), self.names, 1, SIMILAR):
                self.problems.append(f"{name} in {self.dotenv} is no setting. Do you mean {meant}?")
        if "FORCE_SCRIPT_NAME" in self.env.ENVIRON:
            self.problems.append(f"FORCE_SCRIPT_NAME is set, but {NO_PATH}")
        if self.problems:
            lines = "\n".join(f"  - {problem}" for problem in self.problems)
            raise ImproperlyConfigured(f"These settings need your attention:\n{lines}\nSee .env.example.")

    def _is_valid_url(self, name: str, url: str, schemes: set[str]) -> bool:
        # The URL may contain a password: messages name its scheme only.
        scheme = url.partition(":")[0]
        if scheme not in schemes or "://" not in url:
            known = ", ".join(f"{scheme}://" for scheme in sorted(schemes))
            self.problems.append(f"{name} starts with “{scheme}”, but it takes one of {known}")
            return False
        if scheme == "sqlite" or "," in url.partition("://")[2].partition("/")[0]:
            return True  # a file, or several hosts, which only the driver can parse
        try:
            urlsplit(url).port  # noqa: B018 (raises if the port is not a number)
        except ValueError:
            self.problems.append(
                f"{name} looks like {scheme}://user:password@host:port/name, but this host or port is unclear. "
                "If the password has one of @ : / ? # [ ] in it, write that as %40 %3A %2F %3F %23 %5B %5D."
            )
            return False
        return True

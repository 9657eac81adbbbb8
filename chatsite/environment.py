"""Reads settings from the environment and `.env`, and explains wrong ones in a sentence each."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

ON = {"on", "true", "yes", "1"}
OFF = {"off", "false", "no", "0", ""}
DATABASES = {"sqlite", "postgres", "postgresql", "mysql"}
ORIGIN = re.compile(r"https?://(\*\.)?[\w.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?")
EMAILS = {"consolemail", "filemail", "smtp", "smtps", "smtp+tls", "smtp+ssl"}


class Environment:
    """Typed access to environment variables. Problems are collected, and `verify()` reports them all at once."""

    def __init__(self, dotenv: Path) -> None:
        """Read the file `dotenv` if it exists. Variables that are already set take precedence."""
        if dotenv.exists():
            environ.Env.read_env(dotenv)
        self.env = environ.Env()
        self.problems: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """The variable, without surrounding whitespace."""
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
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            self.problems.append(f"{name} is “{value}”, but it takes a whole number from {least} to {most}.")
            return default
        return int(value)

    def words(self, name: str) -> list[str]:
        """A list separated by commas or spaces."""
        return self.text(name).replace(",", " ").split()

    def origins(self, name: str) -> list[str]:
        """A list of origins such as https://shop.example."""
        origins = self.words(name)
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                self.problems.append(f"{name} has “{origin}”, but an origin looks like https://shop.example.")
        return [re.sub(r"(?<=^http)(.*):80$|(?<=^https)(.*):443$", r"\1\2", origin) for origin in origins]

    def database(self, default: str) -> dict[str, Any]:
        """DATABASE_URL as Django's settings of one database."""
        url = self.text("DATABASE_URL") or default
        if not self._is_valid_url("DATABASE_URL", url, DATABASES):
            url = default
        config: dict[str, Any] = self.env.db_url_config(url)
        if not config["NAME"]:
            self.problems.append("DATABASE_URL names no database. Write sqlite:///db.sqlite3 for a file.")
        return config

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
        if url:
            self._is_valid_url("REDIS_URL", url, {"redis", "rediss", "unix"})
        return url

    def verify(self) -> None:
        """Raise ImproperlyConfigured if any variable was wrong, with one line for each."""
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

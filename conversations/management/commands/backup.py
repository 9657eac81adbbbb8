"""`manage.py backup`: one archive of the database and the files, made while Chatsite serves."""

import hmac
import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import redis
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.models import Max

from conversations.actions.switch_log import settle_all
from conversations.counted import counted
from conversations.management import snapshot
from conversations.management.archive import (
    CONTENTS,
    FILES,
    FORMAT,
    MANIFEST,
    TABLES,
    ArchiveWriter,
    every,
    written_whole,
)

REPORT_EVERY = 10
"""Seconds between two lines about how far it is."""

MISSING_NAMES = 1000
"""How many names of missing files the archive has at most."""


def key_digest() -> str:
    """A value by which `restore` sees whether the SECRET_KEY is another one. It does not reveal the key."""
    return hmac.digest(settings.SECRET_KEY.encode(), b"conversations.backup", "sha256").hex()[:32]


def content_of(conversations: int, messages: int, files: int) -> str:
    """What an archive has, for operators."""
    return f"{counted(conversations, 'conversation')}, {counted(messages, 'message')}, {counted(files, 'file')}"


class Command(BaseCommand):
    """Write the database and all files of messages to one archive."""

    help = (
        "Write the database and all files of messages to one archive (tar), also while Chatsite serves. "
        "Everything that was acknowledged before is in it. Keep it secret: it has all messages, the uuids of all "
        "conversations, the identity secrets of websites, and the hashes of passwords and of API tokens. It has no "
        "sessions and no SECRET_KEY: copy .env yourself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add FILE [--force]."""
        parser.add_argument("file", help="a new file, as in backup.tar; - for the standard output")
        parser.add_argument("--force", action="store_true", help="replace the file if it exists")

    def handle(self, *args: Any, file: str, force: bool, **options: Any) -> None:
        """Write the archive. Raises CommandError, and leaves no file, if anything fails."""
        self.report = every(REPORT_EVERY, self.stderr.write)
        if settings.MESSAGE_LOG:
            self.settle()
        try:
            if file == "-":
                self.write(sys.stdout.buffer, None)
                sys.stdout.buffer.flush()
                return
            with written_whole(Path(file), force) as stream:
                self.write(stream, Path(file).parent)
        except FileExistsError as error:
            raise CommandError(f"{file} exists already. Choose another name, or say --force to replace it.") from error
        except BrokenPipeError as error:
            raise CommandError("The program that reads the backup has ended.") from error
        except OSError as error:
            raise CommandError(f"The backup cannot be written: {error.strerror or error}. No file is left.") from error
        self.stdout.write(f"{file}: {self.summary}.")

    def settle(self) -> None:
        """Copy what the message log has into the database first."""
        try:
            settle_all()
        except (redis.RedisError, Error) as error:
            self.stderr.write(
                "Warning: this backup does not have messages that are only in the message log, "
                f"because they cannot be copied into the database: {error}"
            )

    def write(self, stream: IO[bytes], directory: Path | None) -> None:
        """Write the archive to a stream. `directory` is where its file is, for the space that is left."""
        name = connection.settings_dict["NAME"]
        try:
            if connection.vendor == "sqlite" and not Path(name).exists():
                raise CommandError(f"There is no database {name}. Is DATABASE_URL right?")
        except PermissionError as error:
            raise CommandError(f"The database {name} cannot be read. Run this as the user of Chatsite.") from error
        archive = ArchiveWriter(stream)
        with snapshot.one_moment():
            loader = MigrationLoader(connection)
            migrations = snapshot.migrations_of(loader)
            if unknown := snapshot.unknown_migrations(loader, migrations):
                raise CommandError(
                    f"The database is from a newer version of Chatsite than this code: it has the migrations "
                    f"{', '.join(unknown)}. Back it up with that version."
                )
            if not migrations:
                raise CommandError("The database has no tables of Chatsite. Is DATABASE_URL right?")
            models = snapshot.models_at(loader, migrations)
            archive.add(MANIFEST, _json(self.manifest(models, migrations)))
            rows = self.write_tables(archive, models)
            names = self.list_files(models)
        with names:
            if directory:
                self.check_space(names, directory)
            files = self.write_files(archive, names)
        archive.add(CONTENTS, _json({"rows": rows, **files}))
        archive.finish()
        talks, messages = rows.get("conversations.conversation", 0), rows.get("conversations.message", 0)
        self.summary = content_of(talks, messages, files["files"])

    def write_tables(self, archive: ArchiveWriter, models: dict[str, snapshot.Model]) -> dict[str, int]:
        """Write all rows; return how many of each model."""
        rows = dict.fromkeys(models, 0)
        for label, model in models.items():
            for number, (count, part) in enumerate(snapshot.parts_of(model), start=1):
                archive.add(f"{TABLES}{label}/{number:06}.jsonl.gz", part)
                rows[label] += count
                self.report(f"{rows[label]} rows of {label} …")
        return rows

    def list_files(self, models: dict[str, snapshot.Model]) -> IO[str]:
        """Write the names of all stored files to a temporary file, one on each line."""
        names = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (the caller closes it)
        for name in snapshot.file_names(models):
            names.write(f"{name}\n")
        return names

    def check_space(self, names: IO[str], directory: Path) -> None:
        """Raise CommandError if the files do not fit on the disk."""
        names.seek(0)
        needed = sum(_size(line.rstrip("\n")) for line in names)
        free = shutil.disk_usage(directory).free
        if needed > free:
            raise CommandError(
                f"The files need {needed // 10**6} MB, and {directory.resolve()} has {free // 10**6} MB left. "
                "No file is left. Choose another disk, or write to the standard output (-)."
            )

    def write_files(self, archive: ArchiveWriter, names: IO[str]) -> dict[str, Any]:
        """Write the stored files; return how many, and which were missing."""
        count, missing = 0, 0
        examples: list[str] = []
        names.seek(0)
        for line in names:
            name = line.rstrip("\n")
            try:
                with open(default_storage.path(name), "rb") as file:
                    archive.add_file(f"{FILES}{name}", file, os.fstat(file.fileno()).st_size)
                    count += 1
            except FileNotFoundError:
                missing += 1
                if len(examples) < MISSING_NAMES:
                    examples.append(name)
            self.report(f"{count} files …")
        if missing:
            self.stderr.write(
                f"{counted(missing, 'file is', 'files are')} missing in {settings.MEDIA_ROOT}, such as {examples[0]}. "
                "If nobody has deleted their conversations meanwhile, look whether FILES is right."
            )
        return {"files": count, "missing": missing, "missing_names": examples}

    def manifest(self, models: dict[str, snapshot.Model], migrations: list[tuple[str, str]]) -> dict[str, Any]:
        """What can be said before the rows are read."""
        return {
            "format": FORMAT,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "database": connection.vendor,
            "key_digest": key_digest(),
            "migrations": migrations,
            "columns": {label: snapshot.columns(model) for label, model in models.items()},
            "highest_ids": {
                label: model._base_manager.aggregate(highest=Max("pk"))["highest"] or 0
                for label, model in models.items()
            },
        }


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _size(name: str) -> int:
    try:
        return os.stat(default_storage.path(name)).st_size
    except FileNotFoundError:
        return 0

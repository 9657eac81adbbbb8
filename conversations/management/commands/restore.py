"""`manage.py restore`: put the database and the files of a backup in place."""

import os
import pwd
import shutil
import tarfile
import zlib
from collections import Counter
from pathlib import Path
from typing import IO, Any

from django.core.exceptions import SuspiciousFileOperation, ValidationError
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader

from conversations.management import restoring, snapshot
from conversations.management.archive import FILES, FORMAT, TABLES, ArchiveReader, BrokenArchive, every
from conversations.management.commands.backup import REPORT_EVERY, content_of, key_digest
from conversations.management.in_use import InUse, used
from conversations.models import SearchState

OTHER_KEY = (
    "The SECRET_KEY is not the one of the backup. API tokens are invalid until it is: copy it from the old .env. "
    "Browsers that stored a secret only after an identification may also need it."
)


NOT_UNDERSTOOD = (
    ArithmeticError,  # a number that the database cannot store
    AttributeError,
    KeyError,
    RecursionError,  # deeply nested JSON
    TypeError,
    ValidationError,
    ValueError,
    zlib.error,
)
"""What is raised for an archive with right checksums whose contents `manage.py backup` has not written."""


class Command(BaseCommand):
    """Restore a backup into the database and the directory of files."""

    help = (
        "Restore a backup into the database of DATABASE_URL, of whatever kind, and its files into FILES. Stop Chatsite "
        "first. Everybody signs in again afterwards. All is as it was at the backup: conversations that were deleted "
        "since then are back, and so are disabled agents, revoked tokens and renewed uuids."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add FILE [--replace] [--check]."""
        parser.add_argument("file", help="an archive that `manage.py backup` has written")
        parser.add_argument("--replace", action="store_true", help="delete what is in the database")
        parser.add_argument("--check", action="store_true", help="only read the whole archive, and say what is in it")

    def handle(self, *args: Any, file: str, replace: bool, check: bool, **options: Any) -> None:
        """Restore. Raises CommandError, and leaves the database as it was, if anything fails."""
        self.report = every(REPORT_EVERY, self.stderr.write)
        archive = ArchiveReader(Path(file))
        try:
            manifest = archive.manifest()
            migrations = self.check_version(manifest)
            contents = archive.verify()
            rows = contents["rows"]
            content = content_of(rows["conversations.conversation"], rows["conversations.message"], contents["files"])
            what = f"{content}, of {manifest['made_at']}"
            if check:
                self.stdout.write(f"{file} is complete: {what}.")
                return
            self.check_place(archive)
            with used(alone=True):
                self.restore(archive, manifest, migrations, contents, replace)
        except InUse as error:
            raise CommandError(restoring.STILL_USED.format(by=" by `manage.py serve` or `replicate`")) from error
        except (BrokenArchive, restoring.CannotRestore) as error:
            raise CommandError(str(error)) from error
        except tarfile.TarError as error:
            raise CommandError(f"{file} is no backup of Chatsite, or is damaged: {error}.") from error
        except NOT_UNDERSTOOD as error:
            raise CommandError(f"{file} is no backup that this version understands ({error!r}).") from error
        except Error as error:
            raise CommandError(f"The database refuses the backup, and is as it was before: {error}") from error
        except FileNotFoundError as error:
            raise CommandError(f"There is no file {error.filename}. The database is as it was before.") from error
        except OSError as error:
            raise CommandError(f"The backup cannot be restored; the database is as it was before: {error}") from error
        self.stdout.write(f"Restored: {what}. Everybody has to sign in again.")
        if manifest["key_digest"] != key_digest():
            self.stderr.write(OTHER_KEY)

    def check_version(self, manifest: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the migrations of the backup. Raises CommandError if this code is too old for it."""
        migrations = [(str(app), str(name)) for app, name in manifest["migrations"]]
        unknown = snapshot.unknown_migrations(MigrationLoader(None), migrations)
        if manifest["format"] > FORMAT or unknown:
            missing = f" It has the migrations {', '.join(unknown)}." if unknown else ""
            raise CommandError(
                f"The backup is from a newer version of Chatsite than this code. Update Chatsite first.{missing}"
            )
        return migrations

    def check_place(self, archive: ArchiveReader) -> None:
        """Raise CommandError if the files do not fit on the disk, or the user would own what Chatsite cannot open."""
        directory = _existing(Path(default_storage.path("")))
        needed = sum(
            size - _size(path_of_file(name.removeprefix(FILES)))  # an existing file is replaced
            for name, _content, size in archive.members()
            if name.startswith(FILES)
        )
        free = shutil.disk_usage(directory).free
        if needed > free:
            raise CommandError(
                f"The files need {needed // 10**6} MB, and {directory} has {free // 10**6} MB left. "
                "Nothing was changed."
            )
        database = [_existing(Path(connection.settings_dict["NAME"]))] if connection.vendor == "sqlite" else []
        for place in [directory, *database]:
            owner = place.stat().st_uid
            if os.geteuid() == 0 and owner != 0:
                raise CommandError(
                    f"Run this as {_user_name(owner)}, who owns {place}, and not as root. Nothing was changed."
                )

    def restore(
        self,
        archive: ArchiveReader,
        manifest: dict[str, Any],
        migrations: list[tuple[str, str]],
        contents: dict[str, Any],
        replace: bool,
    ) -> None:
        """Restore a verified archive, and delete the files again that are new if anything fails."""
        new_files: list[Path] = []
        try:
            with restoring.database_to_fill(migrations, manifest["highest_ids"], replace) as models:
                with restoring.loading():
                    rows = self.load(archive, models, manifest["columns"], new_files)
                if rows != {label: count for label, count in contents["rows"].items() if count}:
                    raise BrokenArchive("The backup has other rows than it says. The database is as it was before.")
                os.sync()
                restoring.count_on(models)  # migrations write rows, too: a content type for each new model
                call_command("migrate", verbosity=0, interactive=False)
                SearchState.begin_anew()
        except BaseException:
            for path in new_files:
                path.unlink(missing_ok=True)
            raise

    def load(
        self,
        archive: ArchiveReader,
        models: dict[str, snapshot.Model],
        columns: dict[str, list[str]],
        new_files: list[Path],
    ) -> Counter[str]:
        """Write the rows and the files; return how many rows of each model. Paths of new files go to `new_files`."""
        rows: Counter[str] = Counter()
        for name, content, _size in archive.members():
            if name.startswith(TABLES):
                label = name.split("/")[1]
                rows[label] += snapshot.write_part(models[label], columns[label], content.read())
                self.report(f"{rows[label]} rows of {label} …")
            elif name.startswith(FILES):
                self.write_file(name.removeprefix(FILES), content, new_files)
                self.report(f"{len(new_files)} files …")
        return rows

    def write_file(self, name: str, content: IO[bytes], new_files: list[Path]) -> None:
        """Write a file under its name. Raises BrokenArchive for a name outside of the directory."""
        path = path_of_file(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            new_files.append(path)
        part = path.with_name(f"{path.name}.part")
        try:
            with open(part, "wb", opener=lambda target, flags: os.open(target, flags, 0o600)) as file:
                shutil.copyfileobj(content, file, 1024 * 1024)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def path_of_file(name: str) -> Path:
    """The path of a stored file. Raises BrokenArchive for a name outside of the directory."""
    directory = Path(default_storage.path(""))
    try:
        path = Path(default_storage.path(name))
    except SuspiciousFileOperation:
        path = directory
    if path == directory:
        raise BrokenArchive(f"The backup has a file with the name “{name}”.")
    return path


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _existing(path: Path) -> Path:
    """The nearest directory above that exists, or the path itself."""
    path = path.absolute()
    return next(place for place in [path, *path.parents] if place.is_dir())


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"

"""The archive of `manage.py backup`: a tar file with the rows of the database, the files, and their checksums.

Its members, in this order:

- `manifest.json`: what is in it, and which migrations the database had.
- `tables/LABEL/NUMBER.jsonl.gz`: rows of one model. Each line is a JSON array, in the order of the manifest's columns.
- `files/NAME`: the stored files of attachments. Not compressed: nearly all are pictures.
- `contents.json`: how many rows and files there are, and which files were missing.
- `SHA256SUMS`: the checksums of all of these, as sha256sum prints them. An archive that ends without it is incomplete.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

FORMAT = 1
"""The version of this format. Code that reads it refuses greater ones."""

MANIFEST, CONTENTS, SUMS = "manifest.json", "contents.json", "SHA256SUMS"
TABLES, FILES = "tables/", "files/"

SUMS_IN_MEMORY = 8 * 1024 * 1024
"""Bytes of checksums in memory; more of them are in a temporary file."""


MAX_IN_MEMORY = 64 * 1024 * 1024
"""Bytes of the largest member that is read whole, and of a part of a table when it is not compressed any more."""


class BrokenArchive(Exception):
    """The file is not a complete archive, or it was changed. The message is a sentence for the operator."""


class HashingReader:
    """A file whose bytes are hashed while they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes, or all."""
        data = self.file.read(size)
        self.sha256.update(data)
        return data


class LastingFailure:
    """A stream that ignores writes after an error: tarfile writes its buffer again when it is deleted."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.has_failed = False

    def write(self, data: bytes) -> int:
        """Write, unless a write has failed before. Raises OSError."""
        if self.has_failed:
            return len(data)
        try:
            return self.stream.write(data)
        except OSError:
            self.has_failed = True
            raise


class ArchiveWriter:
    """Writes an archive to a stream, which may be a pipe."""

    def __init__(self, stream: IO[bytes]) -> None:
        output: Any = LastingFailure(stream)  # tarfile calls only write()
        self.tar: Any = tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.sums: IO[bytes] = tempfile.SpooledTemporaryFile(SUMS_IN_MEMORY)  # noqa: SIM115

    def add(self, name: str, data: bytes) -> None:
        """Add a member with these bytes."""
        self.add_file(name, io.BytesIO(data), len(data))

    def add_file(self, name: str, file: IO[bytes], size: int) -> None:
        """Add a member with the first `size` bytes of an open file. Raises OSError if it has less."""
        reader = HashingReader(file)
        self.tar.addfile(_member(name, size), reader)  # it calls only read()
        self.tar.members.clear()  # tarfile remembers all, and there may be millions
        self.sums.write(f"{reader.sha256.hexdigest()}  {name}\n".encode())

    def finish(self) -> None:
        """Add the checksums, and end the archive."""
        size = self.sums.tell()
        self.sums.seek(0)
        self.tar.addfile(_member(SUMS, size), self.sums)
        self.tar.close()


class ArchiveReader:
    """Reads an archive from the beginning to the end. Nothing of it is trusted before `verify` has read it once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> Iterator[tuple[str, IO[bytes], int]]:
        """Each member's name, its content and its size in bytes. Read it before the next.

        Raises BrokenArchive; reading, too, raises tarfile.TarError.
        """
        tar: Any  # typeshed lacks `members`
        with tarfile.open(self.path, mode="r|") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile remembers all, and there may be millions
                content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
                if content is None:
                    raise BrokenArchive(f"{self.path} is no backup of Chatsite: it has something else than files.")
                if member.size > MAX_IN_MEMORY and not member.name.startswith((FILES, SUMS)):
                    raise BrokenArchive(f"{self.path} is no backup of Chatsite: {member.name} is too large.")
                yield member.name, content, member.size

    def manifest(self) -> dict[str, Any]:
        """The manifest, not yet verified. Raises BrokenArchive."""
        for name, content, size in self.members():
            if name != MANIFEST or size > 1024 * 1024:
                break
            try:
                manifest = json.load(content)
            except ValueError:
                break
            return manifest if isinstance(manifest, dict) else {}
        raise BrokenArchive(f"{self.path} is no backup of Chatsite: it does not begin with a manifest.")

    def verify(self) -> dict[str, Any]:
        """Read everything, compare the checksums, and return the contents. Raises BrokenArchive."""
        contents: dict[str, Any] = {}
        last = ""
        with tempfile.SpooledTemporaryFile(SUMS_IN_MEMORY) as found:
            for name, content, size in self.members():
                last = name
                if name == SUMS:
                    if size != found.tell():
                        raise BrokenArchive(f"{self.path} is damaged: its checksums do not fit what is in it.")
                    self._compare(found, content)
                    continue
                reader = HashingReader(content)
                if name == CONTENTS:
                    contents = json.loads(reader.read())
                else:
                    while reader.read(1024 * 1024):
                        pass
                found.write(f"{reader.sha256.hexdigest()}  {name}\n".encode())
        if last != SUMS or not contents:
            raise BrokenArchive(f"{self.path} is incomplete: it ends before its checksums.")
        return contents

    def _compare(self, found: IO[bytes], written: IO[bytes]) -> None:
        found.seek(0)
        for line in found:
            if written.readline() != line:
                name = line.decode().strip()[66:]
                raise BrokenArchive(f"{self.path} is damaged: the checksum of {name} does not fit.")


@contextmanager
def written_whole(path: Path, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open a new file, only for this user, that gets its name when it is complete and on the disk.

    Until then it has the name with `.part`; that is deleted if anything fails. Raises FileExistsError if the file
    exists, unless `overwrite`, and IsADirectoryError if it is a directory, a device or a pipe.
    """
    if path.exists() and not path.is_file():
        raise IsADirectoryError(errno.EISDIR, f"{path} is no file, and is not replaced")
    if path.exists() and not overwrite:
        raise FileExistsError(path)
    part = path.with_name(f"{path.name}.part")
    with open(part, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        if not _is_locked(file, part):
            raise BlockingIOError(errno.EAGAIN, f"Another process is writing {part}")
        try:
            os.fchmod(file.fileno(), 0o600)  # one from before may have others
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
            sync_directory(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _is_locked(file: IO[bytes], path: Path) -> bool:
    """Lock an open file until it is closed; False if another process has locked it, or has renamed it meanwhile."""
    try:
        with suppress(OSError):  # some network file systems have no locks
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def sync_directory(directory: Path) -> None:
    """Write a directory's names to the disk, so that a renamed file has its new name after a power cut, too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def every(seconds: float, report: Callable[[str], None]) -> Callable[[str], None]:
    """Return `report`, but called at most once in so many seconds."""
    last = time.monotonic()

    def maybe(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            report(text)

    return maybe


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
    return member

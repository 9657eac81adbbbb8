"""Uploaded files on the disk: once a message with files is accepted, they survive a power cut."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.files.storage import FileSystemStorage


class DurableFileStorage(FileSystemStorage):
    """Django's storage, which calls fsync for the file and its folder before it returns."""

    def _save(self, name: str, content: Any) -> str:
        """Write a file and its folders' entries to the disk. Raises OSError."""
        root = Path(self.location)
        folder = (root / name).parent
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        name = super()._save(name, content)  # type: ignore[misc]  # the stubs lack it
        sync(root / name)
        # Always the root, too: another thread may have made the folder and not have written the root yet.
        for each in {folder, root, *(missing.parent for missing in new)}:
            sync(each)
        return name

    def get_modified_time(self, name: str) -> datetime:
        """When a file was written, or put here: copies such as those of rsync keep the time of the original.

        Otherwise files that are copied before their database would be deleted as old ones without a message.
        """
        status = os.stat(self.path(name))
        return datetime.fromtimestamp(max(status.st_mtime, status.st_ctime), UTC)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot do this for folders
            raise
    finally:
        os.close(descriptor)

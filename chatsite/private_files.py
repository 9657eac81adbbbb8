"""Permissions of the files that contain secrets or messages: other users of the machine may not read them.

Only what Chatsite itself makes loses permissions. The directory FILES may have been there before, such as /srv: others
need it. What comes with messages is in folders that Chatsite makes.
"""

import logging
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from django.conf import settings

logger = logging.getLogger(__name__)

OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IXOTH

FOLDER = re.compile("[0-9a-f]{2}")
"""The folders in FILES: see `random_name` in conversations/models/attachment.py."""


def private_files() -> list[Path]:
    """The settings, the database if it is a file, and the folders of the files that come with messages."""
    paths = [settings.BASE_DIR / ".env"]
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        paths += [Path(f"{database['NAME']}{suffix}") for suffix in ("", "-wal", "-shm")]
    paths = [path for path in paths if path.exists()]
    with suppress(OSError), os.scandir(settings.MEDIA_ROOT) as entries:
        paths += [Path(each) for each in entries if FOLDER.fullmatch(each.name) and each.is_dir(follow_symlinks=False)]
    return paths


def hide_from_others() -> None:
    """Remove the permissions of other users from private files, which older versions created readable."""
    for path in private_files():
        try:
            status = path.stat()
        except FileNotFoundError:  # another process has closed the database, and so deleted its -wal
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & OTHERS:
            try:
                if status.st_uid != os.geteuid():  # root may change it, but it is not ours
                    raise PermissionError
                path.chmod(mode & ~OTHERS)
            except OSError:
                logger.warning("Every user of this machine can read %s. Run: chmod o= %s", path, path)
    files = Path(settings.MEDIA_ROOT)
    if files.is_dir() and files.stat().st_mode & stat.S_IWOTH:
        logger.warning("Every user of this machine can write to %s. Set FILES to a directory of its own.", files)

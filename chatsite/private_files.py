"""Permissions of the files that contain secrets or messages: other users of the machine may not read them."""

import logging
import stat
from pathlib import Path

from django.conf import settings

logger = logging.getLogger(__name__)

OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IXOTH


def private_files() -> list[Path]:
    """The settings, the database if it is a file, and the directory of the files that come with messages."""
    paths = [settings.BASE_DIR / ".env", Path(settings.MEDIA_ROOT)]
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        paths += [Path(f"{database['NAME']}{suffix}") for suffix in ("", "-wal", "-shm")]
    return [path for path in paths if path.exists()]


def hide_from_others() -> None:
    """Remove the permissions of other users from private files, which older versions created readable."""
    for path in private_files():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & OTHERS:
            try:
                path.chmod(mode & ~OTHERS)
            except OSError:
                logger.warning("Every user of this machine can read %s. Run: chmod o= %s", path, path)

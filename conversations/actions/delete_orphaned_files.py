"""Delete stored files that belong to no message."""

import re
from contextlib import suppress
from datetime import timedelta

from django.core.files.storage import default_storage
from django.utils import timezone

from conversations.models import Attachment

MIN_AGE = timedelta(days=1)
"""A file is written before the row of its message. A file that is older than this will get no row any more."""

FOLDER = re.compile("[0-9a-f]{2}")
NAME = re.compile("[0-9a-f]{32}")
"""The names that `random_name` makes. Other files in the folder are left alone."""


def delete_orphaned_files() -> int:
    """Delete the files of messages that were never written because the process was killed; return how many."""
    before = timezone.now() - MIN_AGE
    deleted = 0
    folders = default_storage.listdir("")[0] if default_storage.exists("") else []
    for folder in filter(FOLDER.fullmatch, folders):
        names = {f"{folder}/{name}" for name in default_storage.listdir(folder)[1] if NAME.fullmatch(name)}
        for name in names - Attachment.objects.stored_names(f"{folder}/"):
            with suppress(FileNotFoundError):  # its conversation is being deleted at this moment
                if default_storage.get_modified_time(name) < before:
                    default_storage.delete(name)
                    deleted += 1
    return deleted

"""Files that belong to no message leave the disk."""

import re
from contextlib import suppress
from datetime import timedelta

from django.core.files.storage import default_storage
from django.utils import timezone

from conversations.models import Attachment

AGE = timedelta(days=1)
"""A file is on the disk before its message is written; after a day no message will come for it any more."""

FOLDER = re.compile("[0-9a-f]{2}")
NAME = re.compile("[0-9a-f]{32}")
"""How our files are named. Whatever else lies there is none of ours."""


def forget_files() -> int:
    """Delete the files that a process left on the disk when it was killed while a message came; returns how many."""
    before = timezone.now() - AGE
    forgotten = 0
    folders = default_storage.listdir("")[0] if default_storage.exists("") else []
    for folder in filter(FOLDER.fullmatch, folders):
        names = {f"{folder}/{name}" for name in default_storage.listdir(folder)[1] if NAME.fullmatch(name)}
        for name in names - Attachment.objects.names(f"{folder}/"):
            with suppress(FileNotFoundError):  # its conversation is being deleted at this moment
                if default_storage.get_modified_time(name) < before:
                    default_storage.delete(name)
                    forgotten += 1
    return forgotten

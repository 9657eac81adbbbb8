"""Delete stored files that belong to no message, and are no agent's picture."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.core.files.storage import default_storage
from django.utils import timezone

from conversations import message_log
from conversations.actions import dead_letters
from conversations.log_state import log_state
from conversations.models import AgentProfile, Attachment

MIN_AGE = timedelta(days=1)
"""A file is written before the row of its message. A file that is older than this will get no row any more."""

FOLDER = re.compile("[0-9a-f]{2}")
NAME = re.compile("[0-9a-f]{32}")
"""The names that `random_name` makes. Other files in the folder are left alone."""


def delete_orphaned_files() -> Iterator[Counter[str]]:
    """Delete the files of messages that were never written, or are deleted, because the process was killed meanwhile.

    Yields after each folder how many. It may be interrupted, and run twice at once. Files of dead letters are kept, and
    so are all that are younger than a message that waits in the message log. Raises redis.RedisError if it does not
    answer.
    """
    before = timezone.now() - MIN_AGE
    dead: set[str] = set()
    if settings.MESSAGE_LOG:
        dead = dead_letters.stored_names()
        before -= timedelta(seconds=log_state(message_log.client()).seconds)
    folders = default_storage.listdir("")[0] if default_storage.exists("") else []
    for folder in filter(FOLDER.fullmatch, folders):
        deleted = 0
        names = {f"{folder}/{name}" for name in default_storage.listdir(folder)[1] if NAME.fullmatch(name)}
        if names:
            names -= dead | AgentProfile.objects.stored_names(f"{folder}/")
            names -= Attachment.objects.stored_names(f"{folder}/")
        for name in names:
            with suppress(FileNotFoundError):  # its conversation is being deleted at this moment
                if default_storage.get_modified_time(name) < before:
                    default_storage.delete(name)
                    deleted += 1
        yield Counter({"files that belong to no message": deleted})

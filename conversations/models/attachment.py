"""A file that came with a message."""

import secrets
import unicodedata
import uuid
from functools import partial
from typing import Any

from django.core import signing
from django.core.files.base import ContentFile, File
from django.db import models, transaction
from django.db.models import Q
from django.db.models.signals import post_delete
from django.dispatch import receiver

from conversations.models.conversation import Conversation
from conversations.models.picture import KINDS, SMALL, picture

PLAIN = "application/octet-stream"
"""The kind of everything that is no picture: browsers save it, and look no further."""

NAME_LENGTH = 120

SIGNED_SECONDS = 60
"""How long a signed_id for one file holds."""

SALT = "conversations.file"


def random_name(_attachment: Any, _name: str) -> str:
    """Where a file is kept: what its sender calls it is no part of any path."""
    name = secrets.token_hex(16)
    return f"{name[:2]}/{name}"


ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n"}
"""What browsers write in a form for what would end a name there, and nothing else of it.

https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
"""


def clean_name(name: str) -> str:
    """A file's name as it can be shown: its last part, without characters that steer how text is read."""
    for escaped, letter in ESCAPED.items():
        name = name.replace(escaped, letter)
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(letter for letter in name if unicodedata.category(letter)[0] != "C")
    name = " ".join(name.split()).strip(". ")
    stem, dot, end = name.rpartition(".")
    if len(name) > NAME_LENGTH:  # the end says what it is
        name = f"{stem[: NAME_LENGTH - 20]}{dot}{end}"[:NAME_LENGTH]
    return name or "file"


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    """How attachments are found."""

    def of(self, conversation: Conversation | None, name: uuid.UUID | None) -> "Attachment | None":
        """The attachment with this uuid, if it is one of the conversation's."""
        return self.filter(uuid=name, message__conversation=conversation).first() if conversation and name else None

    def by_signed_id(self, signed_id: str) -> "Attachment | None":
        """The attachment of a signed_id, or None once it is old, and for whatever is none."""
        try:
            return self.filter(uuid=signing.loads(signed_id, salt=SALT, max_age=SIGNED_SECONDS)).first()
        except signing.BadSignature:
            return None

    def names(self, folder: str) -> set[str]:
        """The names in a folder of the disk that belong to any attachment."""
        return {
            name
            for pair in self.filter(Q(file__startswith=folder) | Q(small__startswith=folder)).values_list(
                "file", "small"
            )
            for name in pair
        }


class Attachment(models.Model):
    """A file that came with a message. Whoever may read the message may have it."""

    message = models.ForeignKey("Message", models.CASCADE, related_name="attachments")
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=NAME_LENGTH + 8)
    kind = models.CharField(max_length=40)
    size = models.PositiveBigIntegerField()  # bytes
    width = models.PositiveIntegerField(null=True)  # pixels, of pictures
    height = models.PositiveIntegerField(null=True)
    file = models.FileField(upload_to=random_name)
    small = models.FileField(upload_to=random_name, blank=True)  # WebP, of pictures

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        """Its name."""
        return self.name

    @classmethod
    def of(cls, name: str, file: "File[Any]") -> "Attachment":
        """A file that somebody sends under this name, as it will be kept; neither on disk nor in the database yet.

        Raises ValueError with a sentence for a picture that is too large to be read.
        """
        name = clean_name(name)
        found = picture(file)
        if found is None:
            file.seek(0)
            return cls(name=name, kind=PLAIN, size=file.size, file=File(file, "whole"))
        return cls(
            name=found.named(name),
            kind=KINDS[found.form],
            size=len(found.whole),
            width=found.width,
            height=found.height,
            file=ContentFile(found.whole, "whole"),
            small=ContentFile(found.small, "small"),
        )

    @property
    def is_picture(self) -> bool:
        """Whether it may be looked at in a page; all else is only saved."""
        return self.width is not None

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height at which the thread shows a picture: half the small one's, for screens that are dense."""
        width, height = self.width or 1, self.height or 1
        scale = min(1, SMALL / 2 / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def signed_id(self) -> str:
        """What opens this file, and nothing else, for SIGNED_SECONDS, whoever shows it."""
        return signing.dumps(self.uuid.hex, salt=SALT)

    def store(self) -> None:
        """Write it to the disk."""
        for file in (self.file, self.small):
            if file:
                file.save("", file.file, save=False)

    def erase(self) -> None:
        """Take it from the disk, as far as it is there."""
        _erase([file for file in (self.file, self.small) if getattr(file, "_committed", False)])


def _erase(files: list[Any]) -> None:
    for file in files:
        if file:
            file.storage.delete(file.name)


@receiver(post_delete, sender=Attachment)
def _erase_with_its_row(instance: Attachment, **_more: Any) -> None:
    transaction.on_commit(partial(_erase, [instance.file, instance.small]), robust=True)

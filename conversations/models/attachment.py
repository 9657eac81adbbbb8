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
from conversations.models.picture import CONTENT_TYPES, THUMBNAIL_SIDE, read_picture

OCTET_STREAM = "application/octet-stream"
"""The content type of every file that is no picture: browsers save it and do not guess what is in it."""

NAME_LENGTH = 120

SIGNED_SECONDS = 60
"""Seconds until a signed_id expires."""

SALT = "conversations.file.2"


def random_name(_attachment: Any, _name: str) -> str:
    """A random path to store a file at. No part of it comes from the sender's name for the file."""
    name = secrets.token_hex(16)
    return f"{name[:2]}/{name}"


ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n"}
"""The only characters that browsers escape in the file name of a form.

https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
"""


def clean_name(name: str) -> str:
    """A file name that is safe to show: without folders, control characters and text direction overrides."""
    for escaped, letter in ESCAPED.items():
        name = name.replace(escaped, letter)
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(letter for letter in name if unicodedata.category(letter)[0] != "C")
    name = " ".join(name.split()).strip(". ")
    stem, dot, end = name.rpartition(".")
    if len(name) > NAME_LENGTH:  # keep the extension
        name = f"{stem[: NAME_LENGTH - 20]}{dot}{end}"[:NAME_LENGTH]
    return name or "file"


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    """Queries for attachments."""

    def in_conversation(self, conversation: Conversation | None, uuid: uuid.UUID | None) -> "Attachment | None":
        """The attachment with this uuid in this conversation, or None."""
        return self.filter(uuid=uuid, message__conversation=conversation).first() if conversation and uuid else None

    def by_signed_id(self, signed_id: str) -> "Attachment | None":
        """The attachment of a signed_id, or None if it is invalid or expired, or its conversation's secret renewed."""
        try:
            uuid, secret_digest = signing.loads(signed_id, salt=SALT, max_age=SIGNED_SECONDS)
        except signing.BadSignature:
            return None
        found = self.filter(uuid=uuid).select_related("message__conversation").first()
        return found if found and found.message.conversation.secret_digest == secret_digest else None

    def stored_names(self, folder: str) -> set[str]:
        """The paths of all stored files in a folder that belong to an attachment."""
        return {
            name
            for pair in self.filter(Q(file__startswith=folder) | Q(small__startswith=folder)).values_list(
                "file", "small"
            )
            for name in pair
        }


class Attachment(models.Model):
    """A file that came with a message. Whoever may read the message may read it."""

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
    def from_upload(cls, name: str, file: "File[Any]") -> "Attachment":
        """An unsaved attachment for a file that was sent under this name; its files are not stored yet either.

        Raises ValueError with a sentence for a picture with too many pixels.
        """
        name = clean_name(name)
        picture = read_picture(file)
        if picture is None:
            file.seek(0)
            return cls(name=name, kind=OCTET_STREAM, size=file.size, file=File(file, "full"))
        return cls(
            name=picture.file_name(name),
            kind=CONTENT_TYPES[picture.format],
            size=len(picture.full),
            width=picture.width,
            height=picture.height,
            file=ContentFile(picture.full, "full"),
            small=ContentFile(picture.thumbnail, "thumbnail"),
        )

    @property
    def is_picture(self) -> bool:
        """Whether it may be shown in a page; all other files are only downloaded."""
        return self.width is not None

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height in CSS pixels of a picture in the thread: half its thumbnail's, for high-density screens."""
        width, height = self.width or 1, self.height or 1
        scale = min(1, THUMBNAIL_SIDE / 2 / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def signed_id(self) -> str:
        """A signed value that gives whoever has it access to this file alone, for SIGNED_SECONDS."""
        return signing.dumps([self.uuid.hex, self.message.conversation.secret_digest], salt=SALT)

    def store(self) -> None:
        """Write its files to the storage."""
        for file in (self.file, self.small):
            if file:
                file.save("", file.file, save=False)

    def erase(self) -> None:
        """Delete those of its files that `store` has written."""
        _erase([file for file in (self.file, self.small) if getattr(file, "_committed", False)])


def _erase(files: list[Any]) -> None:
    for file in files:
        if file:
            file.storage.delete(file.name)


@receiver(post_delete, sender=Attachment)
def _erase_after_delete(instance: Attachment, **_more: Any) -> None:
    transaction.on_commit(partial(_erase, [instance.file, instance.small]), robust=True)

"""A file that came with a message."""

import errno
import logging
import secrets
import uuid
from functools import reduce
from operator import or_
from typing import Any

from django.core import signing
from django.core.files.base import File
from django.db import models, transaction
from django.db.models import Q
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils.translation import gettext as _

from conversations.models.conversation import Conversation
from conversations.models.visible_text import file_name, is_blank
from conversations.pictures import THUMBNAIL_SIDE
from conversations.pictures.process import process_picture

logger = logging.getLogger(__name__)

OCTET_STREAM = "application/octet-stream"
"""The content type of every file that is not a picture: browsers save it and do not guess what is in it."""

CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
EXTENSIONS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "GIF": (".gif",), "WEBP": (".webp",)}

NAME_LENGTH = 120

SIGNED_SECONDS = 60
"""Seconds until a signed_id expires."""

SALT = "conversations.file.2"


def random_name(_attachment: Any, _name: str) -> str:
    """A random path to store a file at. It does not depend on the name that the sender gave the file."""
    name = secrets.token_hex(16)
    return f"{name[:2]}/{name}"


ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n"}
"""The only characters that browsers escape in the file name of a form.

https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
"""


def clean_name(name: str) -> str:
    """A file name that is safe to show: without folders, and without what cannot be printed or steers its direction."""
    for escaped, letter in ESCAPED.items():
        name = name.replace(escaped, letter)
    name = name.replace("\\", "/").rpartition("/")[2]
    name = file_name(name).strip(". ")
    stem, dot, end = name.rpartition(".")
    if len(name) > NAME_LENGTH:  # keep the extension
        name = f"{stem[: NAME_LENGTH - 20]}{dot}{end}"[:NAME_LENGTH]
    return "file" if is_blank(name) else name


def with_extension(name: str, file_format: str) -> str:
    """The name, with an extension of this format, a key of EXTENSIONS."""
    return name if name.lower().endswith(EXTENSIONS[file_format]) else name + EXTENSIONS[file_format][0]


FULL = {errno.ENOSPC, errno.EDQUOT}
"""What the system answers if a disk, or the user's share of it, is full."""

FILE_FIELDS = ("file", "thumbnail", "original")
"""The fields of an attachment that name stored files."""


class UploadRefused(Exception):
    """The files of a message are not accepted."""

    def __init__(self, status: int, sentence: str) -> None:
        """`status` is the HTTP status; `sentence` says what the sender can do about it."""
        self.status = status
        super().__init__(sentence)


def not_stored(error: OSError) -> UploadRefused:
    """The refusal for a file that the disk does not take: it is full, read-only or broken. The error is logged."""
    logger.error("A file that came with a message cannot be stored: %s", error)
    sentence = _("The server cannot store files at the moment. You can still send text.")
    if error.errno in FULL:
        sentence = _("The server has no room for files at the moment. You can still send text.")
    return UploadRefused(507, sentence)


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    """Queries for attachments."""

    def in_conversation(self, conversation: Conversation | None, uuid: uuid.UUID | None) -> "Attachment | None":
        """The attachment with this uuid in this conversation, or None."""
        return self.filter(uuid=uuid, message__conversation=conversation).first() if conversation and uuid else None

    def by_signed_id(self, signed_id: str) -> "Attachment | None":
        """The attachment of a signed_id; None if it is invalid or expired, or the conversation's secret was renewed."""
        try:
            uuid, secret_digest = signing.loads(signed_id, salt=SALT, max_age=SIGNED_SECONDS)
        except signing.BadSignature:
            return None
        found = self.filter(uuid=uuid).select_related("message__conversation").first()
        return found if found and found.message.conversation.secret_digest == secret_digest else None

    def stored_names(self, folder: str) -> set[str]:
        """The paths of all stored files in a folder that belong to an attachment."""
        queries = [Q(**{f"{name}__startswith": folder}) for name in FILE_FIELDS]
        rows = self.filter(reduce(or_, queries)).order_by().values_list(*FILE_FIELDS)
        return {path for row in rows for path in row if path}


class Attachment(models.Model):
    """A file that came with a message. Everybody who may read the message may read the file."""

    message = models.ForeignKey("Message", models.CASCADE, related_name="attachments")
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=NAME_LENGTH + 8)
    kind = models.CharField(max_length=40)
    size = models.PositiveBigIntegerField()  # bytes
    width = models.PositiveIntegerField(null=True)  # pixels, of pictures
    height = models.PositiveIntegerField(null=True)
    file = models.FileField(upload_to=random_name)
    thumbnail = models.FileField(upload_to=random_name, blank=True, db_column="small")  # WebP, of pictures
    # What was sent, without metadata, where `file` is a picture with fewer pixels or without the animation.
    original = models.FileField(upload_to=random_name, blank=True, default="", db_default="")
    original_name = models.CharField(max_length=NAME_LENGTH + 8, blank=True, default="", db_default="")
    original_size = models.PositiveBigIntegerField(null=True)  # bytes

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        """Its name."""
        return self.name

    @classmethod
    def from_upload(cls, name: str, file: "File[Any]") -> "Attachment":
        """An unsaved attachment for an uploaded file with this name; call `store` to write its files.

        Pictures are re-encoded. A picture that cannot be decoded is kept as an ordinary file without its metadata.
        Raises DecoderBusy.
        """
        name = clean_name(name)
        picture = process_picture(file)
        if picture is None:
            return cls(name=name, kind=OCTET_STREAM, size=file.size, file=File(file, "file"))
        original, shown = File(picture.original, "original"), picture.rendition
        if shown is None:
            return cls(name=name, kind=OCTET_STREAM, size=original.size, file=original)
        attachment = cls(
            name=with_extension(name, shown.format),
            kind=CONTENT_TYPES[shown.format],
            width=shown.width,
            height=shown.height,
            file=File(picture.full, "file"),
            thumbnail=File(picture.thumbnail, "thumbnail"),
        )
        attachment.size = attachment.file.size
        if shown.is_reduced:
            attachment.original = original
            attachment.original_name = with_extension(name, picture.format)
            attachment.original_size = original.size
        return attachment

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
        """A signed value that gives access to this file alone, for SIGNED_SECONDS."""
        return signing.dumps([self.uuid.hex, self.message.conversation.secret_digest], salt=SALT)

    def store(self) -> None:
        """Write its files to the storage. A file that cannot be written completely is deleted again.

        Raises UploadRefused (507) if the disk does not take them.
        """
        for file in self._files():
            name = random_name(self, "")
            try:
                file.storage.save(name, file.file)
            except BaseException as error:
                delete_stored(file.storage, name)
                if isinstance(error, OSError):
                    raise not_stored(error) from error
                raise
            file.name, file._committed = name, True

    def erase(self) -> None:
        """Delete the files that `store` has written."""
        for file in self._files():
            if file._committed:
                delete_stored(file.storage, file.name)

    def _files(self) -> list[Any]:
        return [file for name in FILE_FIELDS if (file := getattr(self, name))]


def delete_stored(storage: Any, name: str) -> None:
    """Delete a stored file. If that fails it is logged, and left to `delete_orphaned_files`."""
    try:
        storage.delete(name)
    except OSError as error:
        logger.error("A file cannot be deleted: %s. It is tried again at the next cleaning.", error)


@receiver(post_delete, sender=Attachment)
def _erase_after_delete(instance: Attachment, **_more: Any) -> None:
    transaction.on_commit(instance.erase, robust=True)

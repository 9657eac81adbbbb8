"""Uploads: check the size and number of files, and make attachments of them. Downloads: serve an attachment."""

from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import FileResponse, Http404, HttpRequest
from django.utils.translation import gettext as _

from conversations.models import Attachment, Website
from conversations.models.attachment import OCTET_STREAM, clean_name, not_stored
from conversations.models.attachment import UploadRefused as UploadRefused
from conversations.pictures.process import DecoderBusy
from conversations.threshold import limits

MAX_FILES = 5
"""The most files of one message."""

MEGABYTE = 1024 * 1024

FILE_CSP = "default-src 'none'; sandbox"
"""Content-Security-Policy of a file: no script in it runs with the rights of our origin."""

PICTURE_CSP = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""Content-Security-Policy of a picture: browsers themselves use an inline style to fit it into its window."""

PICTURE_CACHE_CONTROL = "private, max-age=31536000, immutable"
"""A picture never changes, and no shared cache may keep it."""


def check_size(request: HttpRequest, website: Website) -> None:
    """Raise RequestDataTooBig, before the form is parsed, if it is larger than any message of this website can be."""
    most = MAX_FILES * website.attachment_megabytes * MEGABYTE
    if int(request.META.get("CONTENT_LENGTH") or 0) > most + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise RequestDataTooBig


def process_uploads(request: HttpRequest, website: Website, *, by_agent: bool) -> list[Attachment]:
    """Check the uploaded files of this request and return them as unsaved attachments.

    Raises UploadRefused: 413 for too large files, 429 if the decoder is busy, 507 if there is no room for temporary
    files, 422 otherwise; also RateLimitExceeded for customers (agents' files are not rate-limited).
    """
    files = request.FILES.getlist("files")
    if files and not website.attachments:
        raise UploadRefused(422, _("You cannot attach files in this chat. Please describe them in a message."))
    if len(files) > MAX_FILES:
        sentence = _("A message takes at most %(most)s files. Please send them in several.")
        raise UploadRefused(422, sentence % {"most": MAX_FILES})
    for file in files:
        name, most = clean_name(file.name or ""), website.attachment_megabytes
        if not file.size:
            raise UploadRefused(422, _("“%(name)s” is empty. Please choose it again.") % {"name": name})
        if file.size > most * MEGABYTE:
            sentence = _("“%(name)s” is larger than %(most)s MB. Please send a smaller file.")
            raise UploadRefused(413, sentence % {"name": name, "most": most})
    if not by_agent:
        limits.reserve(*[("files of one address", limits.address(request))] * len(files))
    try:
        return [Attachment.from_upload(file.name or "", file) for file in files]
    except DecoderBusy as error:
        sentence = _("Many pictures are being uploaded at the moment. Please try again in a minute.")
        raise UploadRefused(429, sentence) from error
    except OSError as error:
        raise not_stored(error) from error


def serve_to_page(request: HttpRequest, attachment: Attachment | None) -> FileResponse:
    """Respond with a file as `serve` does, by `?small` and `?original` in the URL."""
    return serve(attachment, small="small" in request.GET, original="original" in request.GET)


def serve(attachment: Attachment | None, *, small: bool, original: bool) -> FileResponse:
    """Respond with a file, for `small` with a picture's thumbnail, for `original` with the picture as it was sent.

    The caller checks who may read it. Raises Http404 for None, an attachment that does not exist or is hidden from the
    reader.
    """
    if attachment is None:
        raise Http404
    stored: Any = attachment.file
    name, content_type, is_shown = attachment.name, attachment.kind, attachment.is_picture
    if original:
        content_type, is_shown = OCTET_STREAM, False
        if attachment.original:
            stored, name = attachment.original, attachment.original_name
    elif small and is_shown:
        stored, content_type = attachment.thumbnail, "image/webp"
    try:
        content = stored.storage.open(stored.name)
    except FileNotFoundError as error:  # the database was restored from a backup and the files were not
        raise Http404 from error
    response = FileResponse(
        content,
        as_attachment=not is_shown,
        filename=name,
        content_type=content_type,
        headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": FILE_CSP},
    )
    if is_shown:
        response["Content-Security-Policy"] = PICTURE_CSP
        response["Cache-Control"] = PICTURE_CACHE_CONTROL
    return response

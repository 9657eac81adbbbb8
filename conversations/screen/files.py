"""Files: as they come with a message, and as they go to whoever may see it."""

from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import FileResponse, Http404, HttpRequest
from django.utils.translation import gettext as _

from conversations.models import Attachment, Website
from conversations.models.attachment import clean_name
from conversations.threshold import limits

MOST = 5
"""Files of one message."""

MEGABYTE = 1024 * 1024

POLICY = "default-src 'none'; sandbox"
"""What came from somebody is never taken for a page of ours, whatever is in it."""

OF_PICTURES = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""The same; but browsers fit a picture into their window with a style of their own, and this binds that too."""

KEPT = "private, max-age=31536000, immutable"
"""A picture never changes, and only its reader's browser may keep it."""


class Refused(Exception):
    """The files of a message cannot be taken. `status` is 413 if they are too large, 422 otherwise."""

    def __init__(self, status: int, sentence: str) -> None:
        """`sentence` says what to do about it."""
        self.status = status
        super().__init__(sentence)


def check_size(request: HttpRequest, website: Website) -> None:
    """Raise RequestDataTooBig for a form that has more in it than any message of this website, before it is read."""
    most = MOST * website.attachment_megabytes * MEGABYTE
    if int(request.META.get("CONTENT_LENGTH") or 0) > most + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise RequestDataTooBig


def receive(request: HttpRequest, website: Website, *, by_agent: bool) -> list[Attachment]:
    """The files that came with a message, as they are kept. Raises Refused, or RateLimitExceeded for customers."""
    files = request.FILES.getlist("files")
    if files and not website.attachments:
        raise Refused(422, _("This chat takes no files. Please write what is in them."))
    if len(files) > MOST:
        raise Refused(422, _("A message takes at most %(most)s files. Please send them in several.") % {"most": MOST})
    for file in files:
        name, most = clean_name(file.name or ""), website.attachment_megabytes
        if not file.size:
            raise Refused(422, _("“%(name)s” is empty. Please choose it again.") % {"name": name})
        if file.size > most * MEGABYTE:
            sentence = _("“%(name)s” is larger than %(most)s MB. Please send a smaller file.")
            raise Refused(413, sentence % {"name": name, "most": most})
    if not by_agent:
        for _file in files:
            limits.enforce("files of one address", limits.address(request))
    try:
        return [Attachment.of(file.name or "", file) for file in files]
    except ValueError as error:
        raise Refused(422, str(error)) from error


def serve(request: HttpRequest, attachment: Attachment | None) -> FileResponse:
    """A file, or with `?small` its small picture. Raises Http404 for None, which is whatever the reader may not see."""
    if attachment is None:
        raise Http404
    is_small = "small" in request.GET and attachment.is_picture
    stored: Any = attachment.small if is_small else attachment.file
    try:
        content = stored.storage.open(stored.name)
    except FileNotFoundError as error:  # the disk has less than the database, as after a backup of one alone
        raise Http404 from error
    response = FileResponse(
        content,
        as_attachment=not attachment.is_picture,
        filename=attachment.name,
        content_type="image/webp" if is_small else attachment.kind,
        headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": POLICY},
    )
    if attachment.is_picture:
        response["Content-Security-Policy"] = OF_PICTURES
        response["Cache-Control"] = KEPT
    return response

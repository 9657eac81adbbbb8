"""The API's call for what widgets show of a website before the first message. All of it is public."""

from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Path, Router
from ninja.errors import HttpError

from conversations.api.schemas import ErrorOut, WebsiteOut
from conversations.models import Website
from conversations.models.office_hours import DAYS
from conversations.screen.files import MAX_FILES
from conversations.threshold import limits
from conversations.threshold.origin import require_listed_origin

router = Router()


@router.get(
    "{key}/", summary="Read what a widget shows", response={200: WebsiteOut, **dict.fromkeys((403, 404, 429), ErrorOut)}
)
def read_website(request: HttpRequest, key: Path[str]) -> dict[str, Any]:
    """A website's public facts: its texts, colours and hours, and what it asks for with the first message.

    `default` is the key of the website that always exists. Texts are empty where the website has none of its own.
    404 for an unknown key; 403 for a page of an origin that the website does not list.
    """
    limits.enforce("visits of one address", limits.address(request))
    website = Website.objects.by_key(key)
    if website is None:
        raise HttpError(404, "There is no website with this key. The admin has the keys, under Websites.")
    require_listed_origin(request, website)
    now, hours = timezone.now(), website.hours
    return {
        "key": website.key,
        "name": website.name,
        "greeting": website.greeting,
        "away_text": website.away_text,
        "reply_time": website.reply_time,
        "accent": website.accent,
        "position": website.position,
        "languages": website.languages.split(),
        "ask_name": website.ask_name,
        "ask_email": website.ask_email,
        "identity_required": website.identity_required,
        "files": {"most": MAX_FILES, "megabytes": website.attachment_megabytes} if website.attachments else None,
        "hours": {
            "open": hours.are_open(now),
            "next_opening": hours.next_opening(now),
            "time_zone": website.time_zone,
            "spans": [
                {"day": DAYS[day], "start": _clock(start), "end": _clock(end)} for day, start, end in hours.spans
            ],
        },
    }


def _clock(minute: int) -> str:
    """A time of the day, such as 09:00; 24:00 is the end of the day."""
    return f"{minute // 60:02}:{minute % 60:02}"

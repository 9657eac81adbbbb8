"""What the first requests would otherwise have to wait for, up to 0.2 seconds each."""

import logging

from django.conf import settings
from django.template.loader import get_template
from django.urls import reverse

from conversations.customer import assets
from conversations.models import links
from conversations.models.website import ACCENT
from conversations.screen import bundles

logger = logging.getLogger(__name__)


def warm_up() -> None:
    """Compile templates, URLs and the pattern of links; build and compress scripts and style sheets.

    Takes 0.5 seconds of CPU time. A single process does it in a thread beside its first requests, one of several before
    it listens. Does nothing in debug mode, where files may change.
    """
    if settings.DEBUG:
        return
    try:
        reverse("customer:chat")
        links.addresses()
        for directory in settings.TEMPLATES[0]["DIRS"]:
            for path in sorted(directory.rglob("*.html")):
                get_template(str(path.relative_to(directory)))
        for asset in [assets.script(), assets.style(ACCENT), *map(bundles.bundle, bundles.FILES)]:
            asset.compressed("br")
    except Exception:  # the request that needs it will report it, too
        logger.exception("The server could not prepare for requests.")

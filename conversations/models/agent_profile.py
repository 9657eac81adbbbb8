"""What agents choose for themselves: their picture, language and time zone, how the inbox works, notifications."""

from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils.translation import gettext_lazy as _

from conversations.models.attachment import delete_stored, random_name
from conversations.models.prepared import prepared
from conversations.models.remembered import CONTENT


class AgentProfileQuerySet(models.QuerySet["AgentProfile"]):
    """The queries on profiles."""

    def of(self, user: User) -> "AgentProfile":
        """The profile of a user, to change it. It is created if there is none."""
        return self.get_or_create(agent=user)[0]

    def change(self, user: User, **values: Any) -> None:
        """Store these values in a user's profile."""
        self.update_or_create(agent=user, defaults=values)

    def has_picture(self, name: str) -> bool:
        """Return whether the stored file with this name is somebody's picture now."""
        found = prepared(self, "picture", lambda: self.filter(picture="?").only("pk"), {"?": name}, kind=CONTENT)
        return bool(found)

    def stored_names(self, folder: str) -> set[str]:
        """The paths of all pictures in a folder."""
        return set(self.filter(picture__startswith=folder).values_list("picture", flat=True))


class AgentProfile(models.Model):
    """What one agent has chosen. Whoever has chosen nothing has none, and these defaults."""

    class AfterClosing(models.TextChoices):
        STAY = "stay", _("Stay here")
        NEXT = "next", _("Open the next one")
        LIST = "list", _("Go to the list")

    class About(models.TextChoices):
        ALL = "all", _("Every message of a customer")
        MINE = "mine", _("Messages in conversations that are assigned to me or to nobody")
        MENTIONS = "mentions", _("Only when a colleague mentions me")

    class When(models.TextChoices):
        OFF = "off", _("Never")
        HIDDEN = "hidden", _("When the inbox is not in front")
        ALWAYS = "always", _("Always")

    class Sound(models.TextChoices):
        DROP = "drop", _("Drop")
        CHIME = "chime", _("Chime")

    agent = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="profile")
    picture = models.FileField(upload_to=random_name, blank=True, default="", db_index=True)
    language = models.CharField(max_length=10, blank=True, default="")  # "": as the browser says
    time_zone = models.CharField(max_length=64, blank=True, default="")  # "": as the browser says
    # Whether a conversation that nobody has is assigned to them when they answer.
    takes_answered = models.BooleanField(default=True)
    after_closing = models.CharField(max_length=4, choices=AfterClosing, default=AfterClosing.STAY)
    letter_keys = models.BooleanField(default=True)
    about = models.CharField(max_length=8, choices=About, default=About.ALL)
    sound_when = models.CharField(max_length=6, choices=When, default=When.HIDDEN)
    sound = models.CharField(max_length=5, choices=Sound, default=Sound.DROP)
    desktop = models.BooleanField(default=False)
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)

    objects = AgentProfileQuerySet.as_manager()

    def __str__(self) -> str:
        """Whose it is."""
        return str(self.agent)

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone that they have chosen, or None, also if the machine does not know it any more."""
        try:
            return ZoneInfo(self.time_zone) if self.time_zone else None
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return None

    def is_quiet(self, now: datetime) -> bool:
        """Whether `now`, in the agent's time zone, is within their quiet hours, which may go past midnight."""
        start, end = self.quiet_from, self.quiet_until
        if start is None or end is None:
            return False
        at = now.time()
        return start <= at < end if start <= end else at >= start or at < end

    def replace_picture(self, content: Any) -> None:
        """Store a picture, an open file, or none for None; the one before is deleted. Raises OSError."""
        name, storage = random_name(self, "") if content is not None else "", self.picture.storage
        try:
            if name:
                storage.save(name, content)
            with transaction.atomic():
                stored = AgentProfile.objects.filter(pk=self.pk)
                # Not the one that this object has: another request may have replaced it since.
                before = stored.select_for_update().values_list("picture", flat=True).first()
                stored.update(picture=name)
        except BaseException:
            if name:
                delete_stored(storage, name)
            raise
        self.picture = name
        if before:
            delete_stored(storage, before)


def picture_of(user: User | None) -> str:
    """The path of a user's picture, "" for none. It is known only of users who were read with their profile."""
    profile = user._state.fields_cache.get("profile") if user else None
    return profile.picture.name if profile and profile.picture else ""


def with_picture(user: User, picture: str) -> User:
    """The user, of whom nothing is read but who they are and the path of their picture."""
    if picture:
        AgentProfile(agent=user, picture=picture)  # it sets user.profile
    return user


def parse_time(text: str) -> time | None:
    """A time of day such as 22:30, or None for an empty text. Raises ValueError."""
    return time.fromisoformat(text).replace(second=0, microsecond=0, tzinfo=None) if text else None


@receiver(post_delete, sender=AgentProfile)
def _erase_after_delete(instance: AgentProfile, **_more: Any) -> None:
    if instance.picture:
        storage, name = instance.picture.storage, str(instance.picture.name)
        transaction.on_commit(lambda: delete_stored(storage, name), robust=True)

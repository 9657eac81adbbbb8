"""What customers read before they write: office hours, who is there, how long an answer usually takes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import cache
from django.utils import timezone

from conversations.actions import post_message
from conversations.customer.welcome import duration_text
from conversations.models import Agent, Conversation, Website
from conversations.models.office_hours import OfficeHours
from conversations.presence import agents
from tests.conftest import Page

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")
WEEK = OfficeHours.parse("Mon-Fri 9:00-17:30\nSat 10:00–12:00", "Europe/Berlin")


def at(text: str) -> datetime:
    """A moment in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def test_office_hours_are_in_the_time_zone_of_the_website() -> None:
    assert WEEK.are_open(at("2026-11-24 09:00"))
    assert WEEK.are_open(at("2026-11-24 17:29"))
    assert not WEEK.are_open(at("2026-11-24 17:30"))
    assert not WEEK.are_open(at("2026-11-24 08:59"))
    assert WEEK.are_open(at("2026-11-28 11:00"))
    assert not WEEK.are_open(at("2026-11-29 11:00"))
    assert WEEK.are_open(datetime(2026, 11, 24, 16, 0, tzinfo=UTC))  # five in the afternoon in Berlin
    assert not WEEK.are_open(datetime(2026, 11, 24, 17, 0, tzinfo=UTC))


def test_back_is_the_beginning_of_the_next_office_hours() -> None:
    assert WEEK.next_opening(at("2026-11-24 12:00")) is None
    assert WEEK.next_opening(at("2026-11-24 08:00")) == at("2026-11-24 09:00")
    assert WEEK.next_opening(at("2026-11-24 20:00")) == at("2026-11-25 09:00")
    assert WEEK.next_opening(at("2026-11-28 13:00")) == at("2026-11-30 09:00")
    once = OfficeHours.parse("Tue 9:00-10:00", "UTC")
    assert once.next_opening(datetime(2026, 11, 24, 11, 0, tzinfo=UTC)) == datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


def test_office_hours_follow_daylight_saving_time() -> None:
    assert WEEK.next_opening(at("2026-10-25 12:00")) == at("2026-10-26 09:00")
    assert WEEK.next_opening(at("2026-03-29 12:00")) == at("2026-03-30 09:00")


def test_without_office_hours_it_is_always_open() -> None:
    always = OfficeHours.parse("", "UTC")
    assert always.are_open(timezone.now())
    assert always.next_opening(timezone.now()) is None


def test_a_range_of_days_may_wrap_around_the_week() -> None:
    weekend = OfficeHours.parse("Sat-Mon 0:00-24:00", "UTC")
    assert [weekend.are_open(datetime(2026, 11, day, 12, tzinfo=UTC)) for day in (20, 21, 22, 23, 24)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_hours_may_wrap_around_midnight() -> None:
    night = OfficeHours.parse("Sun 22:00-6:00", "UTC")
    assert night.are_open(datetime(2026, 11, 22, 23, tzinfo=UTC))
    assert night.are_open(datetime(2026, 11, 23, 5, tzinfo=UTC))
    assert not night.are_open(datetime(2026, 11, 23, 6, tzinfo=UTC))
    assert (
        night.seconds_between(datetime(2026, 11, 22, 21, tzinfo=UTC), datetime(2026, 11, 23, 12, tzinfo=UTC))
        == 8 * 3600
    )


@pytest.mark.parametrize(
    "wrong", ["always", "Mon", "Mon 9-17", "Mon 9:00-9:00", "Mon 9:00-25:00", "Xyz 9:00-10:00", "Mon 9:60-10:00"]
)
def test_invalid_hours_are_refused_with_the_line(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        OfficeHours.parse(f"Mon-Fri 9:00-17:00\n{wrong}", "UTC")


def test_waiting_time_counts_office_hours_only() -> None:
    assert WEEK.seconds_between(at("2026-11-24 17:00"), at("2026-11-25 09:10")) == (30 + 10) * 60
    assert WEEK.seconds_between(at("2026-11-27 17:00"), at("2026-11-30 09:05")) == (30 + 120 + 5) * 60
    assert WEEK.seconds_between(at("2026-11-24 10:00"), at("2026-11-24 10:07")) == 7 * 60
    assert WEEK.seconds_between(at("2026-11-24 20:00"), at("2026-11-24 22:00")) == 0
    assert OfficeHours.parse("", "UTC").seconds_between(at("2026-11-24 10:00"), at("2026-11-24 10:07")) == 7 * 60
    daily = OfficeHours.parse("Mon-Sun 9:00-17:00", "UTC")
    monday = datetime(2026, 11, 16, 23, tzinfo=UTC)
    assert daily.seconds_between(monday, monday + timedelta(days=7, hours=-6)) == 7 * 8 * 3600
    assert (
        OfficeHours.parse("Mon-Sun 0:00-24:00", "Europe/Berlin").seconds_between(
            at("2026-10-24 12:00"), at("2026-10-26 12:00")
        )
        == 49 * 3600
    )
    assert WEEK.seconds_between(at("2026-11-02 00:00"), at("2026-11-16 00:00")) == 2 * (5 * 8.5 + 2) * 3600


@pytest.mark.parametrize(
    "lines",
    [
        "Mon-Fri 9:00-17:00\nMon 8:00-12:00",
        "Mon 9:00-10:30\nMon 10:30-17:00",
        "Mon 8:00-17:00\nMon 10:15-10:45",
        "Sun 22:00-11:00\nMon 9:00-17:00",
        "Mon 0:00-24:00\nSun-Mon 20:00-12:00",
    ],
)
def test_overlapping_hours_count_once(lines: str) -> None:
    hours = OfficeHours.parse(lines, "Europe/Berlin")
    assert hours.seconds_between(at("2026-11-23 10:00"), at("2026-11-23 11:00")) == 3600  # a Monday
    assert hours.are_open(at("2026-11-23 10:30"))


def test_overlapping_hours_around_midnight_count_once() -> None:
    hours = OfficeHours.parse("Mon-Tue 22:00-2:00\nTue 1:00-3:00\nTue 23:00-24:00", "UTC")
    assert (
        hours.seconds_between(datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2026, 11, 25, 12, tzinfo=UTC))
        == 9 * 3600
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "within a minute"),
        (61, "within 2 minutes"),
        (240, "within 5 minutes"),
        (1700, "within 30 minutes"),
        (3500, "within 1 hour"),
        (3700, "within 2 hours"),
        (90_000, "within 2 days"),
    ],
)
def test_the_usual_reply_time_is_rounded_up(seconds: int, words: str) -> None:
    assert duration_text(seconds) == f"Usually answers {words}"


def answered(website: Website, agent: Agent, after: int) -> None:
    """A conversation whose first answer came after so many seconds."""
    conversation = post_message(content="Hello?", website=website).conversation
    Conversation.objects.filter(pk=conversation.pk).update(created_at=timezone.now() - timedelta(seconds=after))
    post_message(content="Hi!", conversation=conversation, agent=agent)
    post_message(content="Anything else?", conversation=conversation, agent=agent)


def test_the_usual_reply_time_needs_enough_answers(alice: Page, bob: Agent) -> None:
    website = Website.objects.default()
    website.reply_time = "We are a small team"
    website.save()
    for seconds in (30, 100, 110, 170):
        answered(website, bob, seconds)
    assert "We are a small team" in alice.get("/chat/").content.decode()
    answered(website, bob, 4000)
    cache.clear()
    assert "Usually answers within 2 minutes" in alice.get("/chat/").content.decode()


def test_online_agents_are_shown_with_initials(alice: Page, bob: Agent, carol: Agent) -> None:
    assert 'class="avatars"' not in alice.get("/chat/").content.decode()
    agents.mark_online(carol)
    page = alice.get("/chat/").content.decode()
    assert ">C</span>" in page
    assert ">B</span>" not in page
    other = Website.objects.create(key="other", name="Other")
    other.agents.add(carol)
    assert 'class="avatars"' not in alice.get("/chat/").content.decode()
    assert 'class="avatars"' in alice.get("/chat/other/").content.decode()


def test_answers_outside_office_hours_do_not_count_for_the_usual_reply_time(
    alice: Page, bob: Agent, closed_now: Website
) -> None:
    closed_now.reply_time = "We are a small team"
    closed_now.save()
    for _ in range(5):
        answered(closed_now, bob, 20 * 60)  # all of it outside the office hours
    closed_now.office_hours = ""
    closed_now.save()
    assert "We are a small team" in alice.get("/chat/").content.decode()
    for conversation in Conversation.objects.all():  # a second answer within the hours does not count as the first
        post_message(content="Did that help?", conversation=conversation, agent=bob)
    cache.clear()
    assert "We are a small team" in alice.get("/chat/").content.decode()
    for _ in range(5):
        answered(closed_now, bob, 0)  # which a bot may do
    cache.clear()
    assert "Usually answers within a minute" in alice.get("/chat/").content.decode()


def test_a_wait_entirely_outside_office_hours_is_none() -> None:
    assert WEEK.waiting_time(at("2026-11-24 20:00"), at("2026-11-24 22:00")) is None
    assert WEEK.waiting_time(at("2026-11-27 20:00"), at("2026-11-30 09:00")) == 2 * 3600  # of Saturday
    assert WEEK.waiting_time(at("2026-11-24 20:00"), at("2026-11-25 09:00")) == 0  # the first thing in the morning
    assert WEEK.waiting_time(at("2026-11-24 10:00"), at("2026-11-24 10:00")) == 0
    assert WEEK.waiting_time(at("2026-11-24 17:00"), at("2026-11-24 22:00")) == 30 * 60
    assert OfficeHours.parse("", "UTC").waiting_time(at("2026-11-24 22:00"), at("2026-11-24 22:00")) == 0


@pytest.fixture
def closed_now() -> Website:
    """The default website, whose hours were over an hour ago, all week."""
    website = Website.objects.default()
    now = timezone.now()
    before, after = now - timedelta(hours=3), now - timedelta(hours=1)
    spans = (
        [f"{before:%a} {before:%H:%M}-{after:%H:%M}"] if before.date() == after.date() else [f"{now:%a} 23:58-23:59"]
    )
    website.office_hours = "\n".join(spans)
    website.save()
    return website


def test_outside_office_hours_the_page_asks_for_an_email_and_takes_the_message(
    alice: Page, bobs: Page, closed_now: Website
) -> None:
    page = alice.get("/chat/").content.decode()
    assert "We are away at the moment" in page
    assert "We are away at the moment. Leave a message, and we will answer when we are back." in page
    back = closed_now.hours.next_opening(timezone.now())
    assert back is not None
    assert f'datetime="{back.isoformat()}"' in page
    assert "Leave your e-mail address, so that an agent can write to you" in page
    alice.says("I will wait", email="alice@example.com")
    assert "I will wait" in bobs.get("/inbox/").content.decode()
    assert "Leave your e-mail" not in alice.get("/chat/").content.decode()


def test_outside_office_hours_only_the_email_is_asked_again(alice: Page, closed_now: Website) -> None:
    closed_now.ask_name = Website.Ask.REQUIRED
    closed_now.save()
    assert "required></label>" in alice.get("/chat/").content.decode()
    alice.says("I will wait", name="Alice")
    page = alice.get("/chat/?write=1").content.decode()
    assert 'name="name"' not in page  # it is known, so the form does not ask again
    alice.says("Here I am", email="alice@example.com")
    conversation = Conversation.objects.get()
    assert (conversation.customer_name, conversation.customer_email) == ("Alice", "alice@example.com")
    assert 'name="email"' not in alice.get("/chat/?write=1").content.decode()


def test_without_javascript_times_are_in_the_time_zone_of_the_website(alice: Page) -> None:
    website = Website.objects.default()
    now = timezone.now().astimezone(ZoneInfo("America/New_York"))
    day = (now + timedelta(days=2)).strftime("%a")
    website.office_hours, website.time_zone = f"{day} 9:00-9:30", "America/New_York"
    website.save()
    assert "09:00 America/New_York" in alice.get("/chat/").content.decode()


def test_outside_office_hours_an_email_is_asked_where_it_is_off_otherwise(alice: Page, closed_now: Website) -> None:
    closed_now.ask_email = closed_now.ask_name = Website.Ask.OFF
    closed_now.away_text = "Back after the fair."
    closed_now.save()
    page = alice.get("/chat/").content.decode()
    assert "Back after the fair." in page
    assert 'name="email"' in page
    assert 'name="name"' not in page


def test_the_page_works_without_the_cache(alice: Page, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "chatsite.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1"}}
    assert alice.get("/chat/").status_code == 200
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

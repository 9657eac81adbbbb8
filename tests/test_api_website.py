"""The public facts of a website, from which a widget builds its first page."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from conversations.models import Website

pytestmark = pytest.mark.django_db
SHOP = "https://shop.example"
MONDAY = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


@pytest.fixture
def shop() -> Website:
    """A website with its own texts, hours and secrets."""
    website = Website.objects.create(
        key="shop",
        name="The Shop",
        greeting="Welcome!",
        office_hours="Mon-Tue 9:00-17:30\nSat 22:00-24:00",
        time_zone="Europe/Berlin",
        languages="de en",
        ask_name="REQUIRED",
        ask_email="OFF",
        identity_secret="secret of tokens",
        hmac_secret="secret of hmac",
    )
    website.origins.create(origin=SHOP)
    return website


def test_a_widget_learns_what_to_show(shop: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: MONDAY)
    response = Client().get("/api/website/shop/")
    assert response.json() == {
        "key": "shop",
        "name": "The Shop",
        "greeting": "Welcome!",
        "away_text": "",
        "reply_time": "",
        "accent": "#4a51c7",
        "position": "right",
        "languages": ["de", "en"],
        "ask_name": "REQUIRED",
        "ask_email": "OFF",
        "identity_required": False,
        "files": {"most": 5, "megabytes": 10},
        "hours": {
            "open": False,
            "next_opening": "2026-11-23T08:00:00.000Z",
            "time_zone": "Europe/Berlin",
            "spans": [
                {"day": "mon", "start": "09:00", "end": "17:30"},
                {"day": "tue", "start": "09:00", "end": "17:30"},
                {"day": "sat", "start": "22:00", "end": "24:00"},
            ],
        },
    }


def test_nothing_secret_is_told(shop: Website) -> None:
    text = Client().get("/api/website/shop").content.decode()
    assert "secret" not in text
    assert SHOP not in text


def test_a_website_that_is_always_open_and_takes_no_files(db: None) -> None:
    Website.objects.create(key="club", name="Club", attachments=False)
    body = Client().get("/api/website/club/").json()
    assert body["files"] is None
    assert (body["hours"]["open"], body["hours"]["next_opening"], body["hours"]["spans"]) == (True, None, [])
    assert Client().get("/api/website/default/").json()["key"] == "default"


def test_an_unknown_key_is_404(shop: Website) -> None:
    for key in ("unknown", "SHOP", "shop ", "x" * 500):
        assert Client().get(f"/api/website/{key}/").json() == {
            "detail": "There is no website with this key. The admin has the keys, under Websites."
        }


def test_pages_of_listed_origins_may_read_it_and_others_may_not(shop: Website) -> None:
    path = "/api/website/shop/"
    response = Client().get(path, headers={"Origin": SHOP})
    assert (response.status_code, response["Access-Control-Allow-Origin"]) == (200, SHOP)
    response = Client().get(path, headers={"Origin": "https://evil.example"})
    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response
    Website.objects.create(key="club", name="Club").origins.create(origin="https://club.example")
    assert Client().get(path, headers={"Origin": "https://club.example"}).status_code == 403


def test_it_is_rate_limited_as_other_calls_of_strangers(shop: Website, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "visits of one address": (2, 60)}
    answers = [Client().get("/api/website/shop/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1]["Retry-After"]) > 0

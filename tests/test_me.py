"""An agent's own page: name, picture, settings, and where they are signed in."""

import re
from datetime import UTC, datetime, timedelta
from importlib import import_module
from io import BytesIO
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from PIL import Image

from conversations.actions import assign
from conversations.actions.delete_expired_sessions import delete_expired_sessions
from conversations.actions.delete_orphaned_files import delete_orphaned_files
from conversations.agent import me
from conversations.management import snapshot
from conversations.models import Agent, AgentProfile, Conversation, DeskEntry, SignIn
from tests.conftest import PASSWORD, Page

pytestmark = pytest.mark.django_db
ME = "/inbox/me/"
CHOSEN = {"after_closing": "stay", "about": "all", "sound_when": "hidden", "sound": "drop"}
"""What the form of the settings always sends."""


def picture(size: tuple[int, int] = (600, 300), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A picture: red on the left, green in the middle, blue on the right."""
    image, (width, height) = Image.new(mode, size, "green"), size
    image.paste("red", (0, 0, width // 4, height))
    image.paste("blue", (width - width // 4, 0, width, height))
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()


def uploads(page: Page, content: bytes, name: str = "me.png") -> Any:
    """Upload a picture of oneself."""
    return page.post("/inbox/me/picture/", {"picture": SimpleUploadedFile(name, content)})


def chooses(page: Page, **values: Any) -> Any:
    """Save the settings."""
    return page.post(ME, {**CHOSEN, "takes_answered": "on", "letter_keys": "on", "save": "preferences"} | values)


def address(response: Any) -> str:
    """The address of the first agent's picture on a page."""
    found = re.search(r'src="(/avatars/[^"]+)"', response.content.decode())
    return found[1] if found else ""


def stored(name: str) -> bool:
    """Whether the file of a picture with this address exists."""
    key = name.rpartition("/")[2].removesuffix(".webp")
    return default_storage.exists(f"{key[:2]}/{key}")


def test_the_old_address_of_the_account_leads_there(bobs: Page) -> None:
    assert bobs.get("/inbox/account/")["Location"] == ME


def test_customers_read_the_name_that_an_agent_has_chosen(
    alice: Page, bobs: Page, bob: Agent, talk: Conversation
) -> None:
    alice.says("Hello")
    assert bobs.post(ME, {"save": "name", "name": "Bob \u202e from\nBilling"}).status_code == 302
    bobs.answers(Conversation.objects.latest("pk"), "Hi")
    assert "Bob from Billing" in alice.get("/chat/").content.decode()
    assert bobs.post(ME, {"save": "name", "name": "x" * 81}).status_code == 422
    assert Agent.objects.get().get_full_name() == "Bob from Billing"


def test_a_picture_is_cropped_shown_to_customers_and_replaced(alice: Page, bobs: Page, mallory: Page) -> None:
    alice.says("Hello")
    assert uploads(bobs, picture()).status_code == 302
    first = address(bobs.get(ME))
    assert "bob" not in first
    bobs.answers(Conversation.objects.get(), "Hi")
    assert address(alice.get("/chat/")) == first
    poll = alice.htmx("/chat/messages/?since=0")
    assert address(poll) == first
    api = mallory.get(f"/api/messages/{Conversation.objects.get().uuid}/").json()["items"]
    assert [item["agent"] for item in api] == [None, {"name": "Bob", "picture": first}]
    response = mallory.get(first)
    assert (response["Content-Type"], response["Cache-Control"]) == (
        "image/webp",
        "public, max-age=31536000, immutable",
    )
    shown = Image.open(BytesIO(b"".join(response)))
    assert shown.size == (256, 256)
    red, green, blue = shown.convert("RGB").getpixel((5, 128))  # type: ignore[misc]  # a picture in RGB has three numbers
    assert green > red + blue, "the middle of the picture, without its sides"
    assert uploads(bobs, picture(kind="JPEG")).status_code == 302
    second = address(alice.get("/chat/"))
    assert second not in {"", first}
    assert (mallory.get(first).status_code, stored(first), stored(second)) == (404, False, True)
    bobs.post("/inbox/me/picture/", {"remove": "yes"})
    assert address(alice.get("/chat/")) == ""
    assert not stored(second)


def test_the_picture_goes_with_its_agent(bob: Agent, bobs: Page, django_capture_on_commit_callbacks: Any) -> None:
    uploads(bobs, picture())
    name = address(bobs.get(ME))
    with django_capture_on_commit_callbacks(execute=True):
        Agent.objects.get().delete()
    assert not stored(name)
    assert not AgentProfile.objects.exists()
    assert not SignIn.objects.exists()


def test_of_two_pictures_at_once_the_file_of_one_is_kept(bobs: Page, bob: Agent) -> None:
    uploads(bobs, picture())
    one, other = AgentProfile.objects.get(agent=bob), AgentProfile.objects.get(agent=bob)
    names = [str(one.picture.name)]
    for profile in (one, other):
        profile.replace_picture(ContentFile(b"a picture"))
        names.append(str(profile.picture.name))
    storage = one.picture.storage
    assert [storage.exists(name) for name in names] == [False, False, True]
    assert AgentProfile.objects.get(agent=bob).picture.name == names[-1]


def test_the_cleaning_keeps_pictures(bobs: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads(bobs, picture())
    module = import_module("conversations.actions.delete_orphaned_files")  # the package has a function of this name
    monkeypatch.setattr(module, "MIN_AGE", timedelta(0))
    list(delete_orphaned_files())
    assert stored(address(bobs.get(ME)))


def test_a_backup_has_settings_and_pictures_but_nobodys_session(bobs: Page) -> None:
    uploads(bobs, picture())
    loader = MigrationLoader(connection)
    models = snapshot.models_at(loader, snapshot.migrations_of(loader))
    assert "conversations.agentprofile" in models
    assert not {"conversations.signin", "sessions.session"} & set(models)
    [name] = snapshot.file_names(models)
    assert name.rpartition("/")[2] in address(bobs.get(ME))


@pytest.mark.parametrize("size", [(1, 10000), (10000, 1), (1, 1)])
def test_pictures_of_odd_sizes_become_squares(bobs: Page, size: tuple[int, int]) -> None:
    assert uploads(bobs, picture(size)).status_code == 302
    shown = Image.open(BytesIO(b"".join(bobs.get(address(bobs.get(ME))))))
    assert shown.size == (256, 256)


def test_a_transparent_picture_is_shown_on_white(bobs: Page) -> None:
    file = BytesIO()
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(file, "PNG")
    uploads(bobs, file.getvalue())
    shown = Image.open(BytesIO(b"".join(bobs.get(address(bobs.get(ME))))))
    assert shown.mode == "RGB"
    assert min(shown.getpixel((9, 9))) > 250  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 422),
        (b"MZ no picture", 422),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 99, 422),
        (b"", 422),
        (b"\x89PNG\r\n\x1a\n" + bytes(me.MAX_PICTURE), 413),
        (b"\x89PNG\r\n\x1a\n" + bytes(2 * me.MAX_PICTURE), 413),
    ],
    ids=["SVG", "program", "broken", "empty", "too large", "much too large"],
)
def test_what_is_no_picture_changes_nothing(bobs: Page, content: bytes, status: int) -> None:
    uploads(bobs, picture())
    before = address(bobs.get(ME))
    response = uploads(bobs, content)
    assert response.status_code == status
    assert ("larger than 10 MB" in response.content.decode()) == (status == 413)
    assert address(bobs.get(ME)) == before != ""
    assert stored(before)


def test_many_pictures_in_a_row_are_refused_with_a_sentence(bobs: Page, carols: Page, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "pictures of one agent": (2, 3600)}
    responses = [uploads(bobs, content) for content in (picture(), b"no picture", picture())]
    assert [response.status_code for response in responses] == [302, 422, 429]
    assert "Too many attempts. Wait 60 minutes, then try again." in responses[2].content.decode()
    assert 3500 < int(responses[2]["Retry-After"]) <= 3600
    assert bobs.post("/inbox/me/picture/", {"remove": "1"}).status_code == 302
    assert uploads(carols, picture()).status_code == 302


@pytest.mark.parametrize("name", ["0" * 32, "../../db", "x", "A" * 500])
def test_strangers_get_nothing_else_by_the_address_of_pictures(mallory: Page, db: None, name: str) -> None:
    assert mallory.get(f"/avatars/{name}.webp").status_code == 404


def test_files_of_messages_are_not_served_as_pictures(mallory: Page, alice: Page) -> None:
    alice.says("Look", files=SimpleUploadedFile("a.png", picture()))
    path = str(Conversation.objects.get().messages.get().attachments.get().thumbnail)
    assert stored(path)
    assert mallory.get(f"/avatars/{path.rpartition('/')[2]}.webp").status_code == 404


def test_the_pages_are_in_the_language_and_time_zone_of_the_agent(bobs: Page, alice: Page, talk: Conversation) -> None:
    assert chooses(bobs, language="de", time_zone="Asia/Kolkata").status_code == 302
    Conversation.objects.get().messages.update(created_at=datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    page = bobs.get(f"/inbox/{talk.pk}/")
    assert 'lang="de"' in page.content.decode()
    assert page["Content-Language"] == "de"
    assert "17:30 IST" in page.content.decode()
    menu = bobs.htmx(f"/inbox/changes/?menu=snooze&pk={talk.pk}&zone=Europe/Berlin").content.decode()
    assert "T09:00+05:30" in menu
    assert " 09:00</time>" in menu  # not in the zone of the browser
    assert "Asia/Kolkata" in menu
    bobs.htmx("/inbox/changes/", {"pk": talk.pk, "at": "2027-01-02T09:00", "zone": "Europe/Berlin"})
    assert DeskEntry.objects.latest("pk").content == "2027-01-02T03:30:00+00:00"
    chat = alice.get("/chat/").content.decode()
    assert 'lang="en"' in chat
    assert timezone.get_current_timezone_name() == "UTC"


def test_rows_are_not_shared_by_agents_in_other_time_zones(bobs: Page, carols: Page, talk: Conversation) -> None:
    talk.last_message_at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    talk.save_changes("last_message_at")
    chooses(bobs, time_zone="Asia/Kolkata")
    assert "March 1 17:30" in bobs.get("/inbox/").content.decode()
    assert "March 1 12:00" in carols.get("/inbox/").content.decode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"language": "xx"},
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../../etc/passwd"},
        {"time_zone": "localtime"},
        {"after_closing": "explode"},
        {"about": ""},
        {"sound": "siren"},
        {"quiet_from": "25:00", "quiet_until": "07:00"},
        {"quiet_from": "22:00"},
    ],
)
def test_settings_that_make_no_sense_change_nothing(bobs: Page, wrong: dict[str, str]) -> None:
    assert chooses(bobs, **wrong).status_code == 422
    assert not AgentProfile.objects.exists()


def test_the_settings_are_shown_again(bobs: Page) -> None:
    chooses(bobs, quiet_from="22:00", quiet_until="07:30", sound="chime", desktop="on", about="mine")
    page = bobs.get(ME).content.decode()
    for part in (
        'name="quiet_from" value="22:00"',
        'name="quiet_until" value="07:30"',
        '<option value="chime" selected>',
        'name="desktop" checked',
        'value="mine" checked',
    ):
        assert part in page


@pytest.mark.parametrize(
    ("start", "end", "quiet"),
    [("22:00", "07:00", ["22:00", "23:59", "00:00", "06:59"]), ("12:00", "13:00", ["12:00", "12:59"]), ("", "", [])],
)
def test_quiet_hours_may_go_past_midnight(start: str, end: str, quiet: list[str]) -> None:
    values = [datetime.strptime(text, "%H:%M").time() if text else None for text in (start, end)]
    profile = AgentProfile(quiet_from=values[0], quiet_until=values[1])
    moments = ["22:00", "23:59", "00:00", "06:59", "07:00", "12:00", "12:59", "13:00", "21:59"]
    assert [text for text in moments if profile.is_quiet(datetime.fromisoformat(f"2026-03-01T{text}"))] == quiet


def test_whoever_answers_first_gets_the_conversation(bobs: Page, bob: Agent, carols: Page, talk: Conversation) -> None:
    bobs.answers(talk, "Hi")
    carols.answers(talk, "Me too")
    assert Conversation.objects.get().assignee_id == bob.pk


def test_whoever_answers_gets_the_conversation_of_a_colleague_who_has_left(
    bobs: Page, bob: Agent, carol: Agent, talk: Conversation
) -> None:
    assign(conversation=talk, to=carol, by=carol)
    bobs.answers(talk, "I help carol")
    assert Conversation.objects.get().assignee_id == carol.pk
    carol.groups.clear()
    bobs.answers(talk, "Carol has left, and I go on")
    assert Conversation.objects.get().assignee_id == bob.pk


def test_an_answer_assigns_nothing_if_the_agent_does_not_want_it(bobs: Page, talk: Conversation) -> None:
    chooses(bobs, takes_answered="")
    bobs.answers(talk, "Hi")
    assert Conversation.objects.get().assignee_id is None


def test_single_letters_can_be_switched_off(bobs: Page) -> None:
    assert "data-letters" not in bobs.get("/inbox/").content.decode()
    chooses(bobs, letter_keys="")
    assert '<pick-bar data-letters="off"' in bobs.get("/inbox/").content.decode()


def test_what_happens_after_closing_is_the_agents_choice_everywhere(bobs: Page, talk: Conversation) -> None:
    bobs.post("/inbox/after-closing/", {"then": "list"})
    assert '<option value="list" selected>' in bobs.get(ME).content.decode()
    assert bobs.closes(talk) == "/inbox/"


# Sessions ------------------------------------------------------------------------------------------------------------

PHONE = "Mozilla/5.0 (Android 14; Mobile; rv:128.0) Gecko/128.0 Firefox/128.0"


def signs_in(username: str = "bob", user_agent: str = PHONE) -> Page:
    """Another browser, signed in by the form."""
    page = Page(headers={"user-agent": user_agent})
    page.post("/inbox/sign-in/", {"username": username, "password": PASSWORD})
    assert page.get("/inbox/").status_code == 200
    return page


def ids(page: Page) -> list[str]:
    """The sessions that the page lists, without its own."""
    return re.findall(r'name="id" value="(\d+)"', page.get(ME).content.decode())


def test_an_agent_sees_where_they_are_signed_in_and_signs_one_out(bobs: Page) -> None:
    phone = signs_in()
    page = bobs.get(ME).content.decode()
    assert "Firefox Mobile 128, Android" in page or "Firefox 128, Android" in page
    assert page.count(">This browser<") == 1
    [pk] = ids(bobs)
    assert bobs.post("/inbox/me/sign-out/", {"id": pk}).status_code == 302
    assert phone.get("/inbox/").status_code == 302
    assert bobs.get("/inbox/").status_code == 200
    assert ids(bobs) == []


def test_when_an_agent_has_signed_in_is_in_their_time_zone(bobs: Page, bob: Agent) -> None:
    AgentProfile.objects.update_or_create(agent=bob, defaults={"time_zone": "Asia/Tokyo"})
    SignIn.objects.update(created_at=datetime(2026, 11, 27, 20, 15, tzinfo=UTC))
    page = bobs.get("/inbox/me/").content.decode()
    assert "Signed in on Nov. 28, 2026, 5:15 a.m. JST" in re.sub("</?(local-)?time[^>]*>", "", page)
    assert 'data-zone="Asia/Tokyo"' in page  # for the script that shows it in the reader's language
    assert 'datetime="2026-11-28T05:15:00+09:00"' in page


def test_an_agent_signs_out_everywhere_else(bobs: Page, carols: Page) -> None:
    phone, tablet = signs_in(), signs_in()
    SignIn.objects.filter(session_key=tablet.session.session_key).delete()  # a session from before an update
    bobs.post("/inbox/me/sign-out/", {"everywhere": "yes"})
    assert [each.get("/inbox/").status_code for each in (bobs, carols, phone, tablet)] == [200, 200, 302, 302]


def test_mallory_ends_nobody_elses_session(bobs: Page, carols: Page) -> None:
    signs_in()
    [pk] = ids(bobs)
    assert carols.post("/inbox/me/sign-out/", {"id": pk}).status_code == 404
    for value in ("", "x", "-1", "99999999999999999999", "0"):
        assert carols.post("/inbox/me/sign-out/", {"id": value}).status_code == 404
    carols.post("/inbox/me/sign-out/", {"everywhere": "yes"})
    assert ids(bobs) == [pk]
    assert bobs.get("/inbox/me/sign-out/").status_code == 405


def test_the_page_shows_no_secret_of_a_session(bobs: Page) -> None:
    signs_in()
    page = bobs.get(ME).content.decode()
    assert not [session.session_key for session in Session.objects.all() if session.session_key in page]


def test_sessions_that_ended_otherwise_are_not_listed(bobs: Page) -> None:
    phone, tablet, _watch = signs_in(), signs_in(), signs_in()
    phone.post("/inbox/sign-out/")
    Session.objects.filter(session_key=tablet.session.session_key).update(expire_date=timezone.now())
    assert len(ids(bobs)) == 1
    list(delete_expired_sessions())
    assert SignIn.objects.count() == 2
    new = "staple battery horse"
    bobs.post(ME, {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    assert ids(bobs) == []
    assert (SignIn.objects.count(), Session.objects.count()) == (1, 1)


def test_a_session_from_before_an_update_is_listed_when_it_is_used(bobs: Page, bob: Agent) -> None:
    SignIn.objects.all().delete()
    import_module("conversations.models.sign_in")._seen.clear()
    bobs.get("/inbox/")
    assert ">This browser<" in bobs.get(ME).content.decode()


def test_the_day_of_a_session_is_written_once(bobs: Page, django_assert_max_num_queries: Any) -> None:
    SignIn.objects.update(seen_on=timezone.now().date() - timedelta(days=3))
    import_module("conversations.models.sign_in")._seen.clear()
    bobs.get("/inbox/list/")
    assert SignIn.objects.get().seen_on == timezone.now().date()
    with django_assert_max_num_queries(8):  # as tests/test_inbox.py counts them
        bobs.get("/inbox/list/")


def test_many_sign_ins_end_the_oldest_sessions(bob: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("conversations.models.sign_in"), "MOST", 2)
    first, second, third = signs_in(), signs_in(), signs_in()
    assert [each.get("/inbox/").status_code for each in (first, second, third)] == [302, 200, 200]
    assert len(ids(third)) == 1

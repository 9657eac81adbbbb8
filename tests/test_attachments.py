"""Uploaded files: who may read them, how pictures are processed, and what mallory tries with them."""

import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from django.core import signing
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import transaction
from PIL import Image, ImageDraw

from chatsite.durable_files import DurableFileStorage
from conversations.actions import AlreadySent, post_message
from conversations.models import Agent, Attachment, Conversation, Message, News, Token, Website
from conversations.models.attachment import OCTET_STREAM, UploadRefused, clean_name
from conversations.pictures import MAX_FRAMES, process
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db

GPS = 0x8825
ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    """An empty folder for uploaded files."""
    settings.MEDIA_ROOT = tmp_path / "files"
    return tmp_path / "files"


def stored(folder: Path) -> list[Path]:
    """All files in it."""
    return [path for path in folder.rglob("*") if path.is_file()]


def photo(width: int = 40, height: int = 20, form: str = "JPEG", **more: Any) -> bytes:
    """A picture, red on its left half and blue on its right."""
    image = Image.new("RGB", (width, height), "blue")
    ImageDraw.Draw(image).rectangle((0, 0, width // 2 - 1, height), "red")
    file = BytesIO()
    image.save(file, form, **more)
    return file.getvalue()


def camera_photo() -> bytes:
    """A photo with EXIF: rotated, with GPS coordinates, the camera and a comment."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "Secret Camera"
    exif.get_ifd(GPS)[2] = (52.0, 31.0, 12.0)
    return photo(exif=exif, comment=b"a secret remark")


def animated_gif(frames: int = 3) -> bytes:
    """A GIF with a comment."""
    first, *rest = [Image.new("RGB", (30, 30), (number % 256, 0, number % 2)) for number in range(frames)]
    file = BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=100, comment=b"*/alert(1)//")
    return file.getvalue()


def huge_png(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG of a few kB with 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    head = pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_with_text_bomb() -> bytes:
    """A small PNG with a compressed comment of 200 MB."""
    remark = b"Comment\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    chunk = pack(">I", len(remark)) + b"zTXt" + remark + pack(">I", zlib.crc32(b"zTXt" + remark))
    png = photo(form="PNG")
    return png[:33] + chunk + png[33:]


def upload(name: str, content: bytes, kind: str = "text/html") -> SimpleUploadedFile:
    """An uploaded file with the content type that the browser claims."""
    return SimpleUploadedFile(name, content, kind)


def send(page: Page, *files: SimpleUploadedFile, text: str = "", **more: Any) -> Any:
    """Send a message with files from the chat page, as its script does."""
    body = {"content": text, "files": list(files), **more}
    return page.post("/chat/messages/", body, headers={"HX-Request": "true"})


def body(response: Any) -> bytes:
    """The content of a streaming response."""
    return b"".join(response.streaming_content)


def address(attachment: Attachment, small: bool = False) -> str:
    """Its URL for the customer."""
    return f"/chat/files/{attachment.uuid}/" + ("?small" if small else "")


@pytest.fixture
def picture(alice: Page) -> Attachment:
    """A photo that alice has sent."""
    assert send(alice, upload("beach.jpg", camera_photo()), text="Look").status_code == 204
    return Attachment.objects.get()


# Sending and reading -------------------------------------------------------------------------------------------------


def test_a_customer_sends_files_and_both_sides_see_them(alice: Page, bobs: Page, folder: Path) -> None:
    assert send(alice, upload("a.png", photo(form="PNG")), upload("b.pdf", b"%PDF"), text="Two").status_code == 204
    message = Message.objects.get()
    assert message.files == 2
    assert [file.name for file in message.attached] == ["a.png", "b.pdf"]
    assert len(stored(folder)) == 3  # the picture, its small one, the other file
    screens = (alice.get("/chat/"), "/chat/"), (bobs.get(f"/inbox/{message.conversation_id}/"), "/inbox/")
    for screen, start in screens:
        html = screen.content.decode()
        assert texts(screen) == ["Two"]
        assert f'href="{start}' in html
        assert 'alt="a.png" width="40" height="20" loading="lazy"' in html
        assert '<span class="name">b.pdf</span> <span class="size">4\xa0bytes</span>' in html
    assert body(bobs.get(f"/inbox/{message.conversation_id}/files/{message.attached[1].uuid}/")) == b"%PDF"
    assert body(alice.get(address(message.attached[1]))) == b"%PDF"


def test_an_agent_sends_a_file_and_the_customer_gets_it(alice: Page, bobs: Page, talk: Conversation) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    assert bobs.answers(talk, "", files=[upload("offer.pdf", b"%PDF-1.7")]).status_code == 302
    attachment = Attachment.objects.get()
    assert attachment.message.author == "AGE"
    assert address(attachment) in alice.get("/chat/messages/?since=1").content.decode()
    assert body(alice.get(address(attachment))) == b"%PDF-1.7"


def test_a_message_may_have_files_and_no_text_and_the_inbox_lists_their_names(alice: Page, bobs: Page) -> None:
    assert send(alice, upload("photo.jpg", photo()), text=" \r\n ").status_code == 204
    message = Message.objects.get()
    assert message.content == ""
    assert message.conversation.last_line == "📎 photo.jpg"
    assert "📎 photo.jpg" in bobs.get("/inbox/").content.decode()
    assert texts(alice.get("/chat/")) == []
    assert send(alice, text=" ").status_code == 422  # but not nothing at all


def test_files_are_sent_by_the_form_without_javascript(alice: Page) -> None:
    page = alice.get("/chat/").content.decode()
    assert 'enctype="multipart/form-data"' in page
    assert '<input type="file" name="files" multiple' in page
    assert alice.says("Here", files=[upload("a.txt", b"a")]).status_code == 302
    refused = alice.says("What I typed", files=[upload("b.txt", b"")])
    assert refused.status_code == 422
    assert "“b.txt” is empty. Please choose it again." in refused.content.decode()
    assert "What I typed" in refused.content.decode()


def test_a_retry_with_the_same_client_id_stores_nothing(alice: Page, folder: Path) -> None:
    name = str(uuid.uuid4())
    for _ in range(3):
        assert send(alice, upload("a.txt", b"a"), text="once", client_id=name).status_code == 204
    assert Message.objects.count() == Attachment.objects.count() == len(stored(folder)) == 1
    assert send(alice, upload("b.txt", b"b"), text="once", client_id=name).status_code == 409
    assert send(alice, text="once", client_id=name).status_code == 409
    assert Attachment.objects.count() == len(stored(folder)) == 1


def test_a_message_that_cannot_be_saved_leaves_no_file(talk: Conversation, folder: Path, monkeypatch: Any) -> None:
    def fails(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Attachment, "save", fails)
    with pytest.raises(OSError, match="full"), transaction.atomic():
        post_message(content="", conversation=talk, attachments=[Attachment.from_upload("a", ContentFile(b"a"))])
    assert stored(folder) == []


class FullDisk(ContentFile):  # type: ignore[type-arg]
    """A file that is written in part when the disk is full."""

    def chunks(self, chunk_size: int | None = None) -> Any:
        """A first part, and then the error."""
        yield b"part"
        raise OSError("the disk is full")


def test_a_message_whose_second_file_cannot_be_stored_leaves_no_part_of_any(talk: Conversation, folder: Path) -> None:
    first = Attachment.from_upload("a.gif", ContentFile(animated_gif(MAX_FRAMES + 1)))
    second = Attachment(name="b", kind=OCTET_STREAM, size=9, file=FullDisk(b"", "b"))
    with pytest.raises(UploadRefused, match="cannot store files"):
        post_message(content="", conversation=talk, attachments=[first, second])
    assert stored(folder) == []
    assert talk.messages.count() == 1


def test_the_files_of_a_deleted_conversation_are_deleted_after_the_commit(
    picture: Attachment, folder: Path, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    conversation = picture.message.conversation
    with django_capture_on_commit_callbacks(execute=False) as callbacks:
        conversation.delete()
    assert not Attachment.objects.exists()
    assert len(stored(folder)) == 2
    for callback in callbacks:
        callback()
    assert stored(folder) == []


def test_orphaned_files_are_deleted_after_a_day(
    picture: Attachment, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(Page(), upload("a.gif", animated_gif(MAX_FRAMES + 1)))
    belong = stored(folder)
    assert len(belong) == 5
    lost, coming = (Attachment.from_upload("lost.txt", ContentFile(b"lost")) for _ in range(2))
    for attachment in (lost, coming):
        attachment.store()
    (folder / "notes.txt").write_text("somebody else's")
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "ab" / "notes.txt").write_text("somebody else's")
    days = timedelta(days=2)
    written = {str(coming.file.name)}
    find = DurableFileStorage.get_modified_time
    monkeypatch.setattr(
        DurableFileStorage,
        "get_modified_time",
        lambda self, name: find(self, name) - (timedelta() if name in written else days),
    )
    call_command("forgetold")
    theirs = [folder / "notes.txt", folder / "ab" / "notes.txt"]
    assert set(stored(folder)) == {*belong, folder / str(coming.file.name), *theirs}


def test_files_that_are_copied_here_before_their_database_are_kept(folder: Path, settings: Any, tmp_path: Path) -> None:
    attachment = Attachment.from_upload("plan.txt", ContentFile(b"plan"))
    attachment.store()
    [written] = stored(folder)
    os.utime(written, (time.time() - 9 * 24 * 3600,) * 2)
    settings.MEDIA_ROOT = tmp_path / "copy"
    shutil.copytree(folder, settings.MEDIA_ROOT)  # with the times of the originals, like rsync --archive
    call_command("forgetold")
    assert len(stored(settings.MEDIA_ROOT)) == 1


def test_without_any_file_forgetold_creates_no_folder(folder: Path) -> None:
    call_command("forgetold")
    assert not folder.exists()


def test_a_poll_costs_one_query_and_with_files_two(
    talk: Conversation, bob: Agent, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        News.after(talk.uuid, 0, 50)
    with django_assert_num_queries(1):
        [message.attached for message in Message.objects.newest(talk.pk, 50)]
    for number in range(3):
        files = [Attachment.from_upload(f"{number}-{each}.txt", ContentFile(b"x")) for each in range(2)]
        post_message(content="", conversation=talk, agent=bob if number % 2 else None, attachments=files)
    names = [[f"{number}-0.txt", f"{number}-1.txt"] for number in range(3)]
    with django_assert_num_queries(2):
        news = News.after(talk.uuid, 0, 50)
        assert news
        assert [[file.name for file in message.attached] for message in news.messages] == [[], *names]
    with django_assert_num_queries(2):
        found = Message.objects.newest(talk.pk, 50)
        assert [[file.name for file in message.attached] for message in found] == [[], *names]


# Processing of pictures ----------------------------------------------------------------------------------------------


def test_a_photo_is_upright_and_has_neither_gps_nor_camera_data(alice: Page, picture: Attachment) -> None:
    assert (picture.kind, picture.width, picture.height) == ("image/jpeg", 20, 40)
    for small in (False, True):
        content = body(alice.get(address(picture, small)))
        assert b"Secret" not in content
        assert b"secret" not in content
        image = Image.open(BytesIO(content))
        assert dict(image.getexif()) == {}
        assert image.size == (20, 40)
        red, _, blue = image.convert("RGB").getpixel((10, 5))  # type: ignore[misc]
        assert red > 200 > blue  # what was left is above


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "MPO"])
def test_the_content_and_not_the_name_decides_the_content_type(alice: Page, form: str) -> None:
    more: Any = {"save_all": True, "append_images": [Image.new("RGB", (40, 20))]} if form == "MPO" else {}
    send(alice, upload("report.txt", photo(form=form, **more)))
    attachment = Attachment.objects.get()
    kind = {"MPO": "jpeg", "GIF": "png"}.get(form, form.lower())
    assert attachment.kind == f"image/{kind}"
    assert attachment.name == f"report.txt.{'jpg' if kind == 'jpeg' else kind}"
    response = alice.get(address(attachment))
    assert response["Content-Type"] == f"image/{kind}"
    assert Image.open(BytesIO(body(response))).size == (40, 20)


def test_pictures_have_a_thumbnail(alice: Page) -> None:
    send(alice, upload("wide.jpg", photo(5200, 1300)))
    attachment = Attachment.objects.get()
    assert (attachment.width, attachment.height) == (5200, 1300)
    assert Image.open(BytesIO(body(alice.get(address(attachment))))).size == (5200, 1300)
    small = alice.get(address(attachment, small=True))
    assert small["Content-Type"] == "image/webp"
    assert Image.open(BytesIO(body(small))).size == (480, 120)
    page = alice.get("/chat/").content.decode()
    assert 'width="240" height="60"' in page
    assert "?original" not in page


def test_the_original_of_a_reduced_picture_can_be_downloaded(alice: Page, bobs: Page, folder: Path) -> None:
    name = 'a"b.gif'
    send(alice, upload(name, animated_gif(MAX_FRAMES + 1)))
    attachment = Attachment.objects.get()
    assert (attachment.kind, attachment.name) == ("image/png", f"{name}.png")
    talk = attachment.message.conversation
    pages = (alice, "/chat/"), (bobs, f"/inbox/{talk.pk}/")
    for page, start in pages:
        html = page.get(start).content.decode()
        path = f"{start}files/{attachment.uuid}/?original"
        assert f'<a class="original" href="{path}" download="a&quot;b.gif">Original, ' in html
        response = page.get(path)
        content = body(response)
        assert Image.open(BytesIO(content)).n_frames == MAX_FRAMES + 1  # type: ignore[attr-defined]
        assert b"alert" not in content
        assert response["Content-Type"] == OCTET_STREAM
        assert response["Content-Disposition"] == 'attachment; filename="a\\"b.gif"'
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    [shown] = Page().get(f"/api/messages/{talk.uuid}/").json()["items"][0]["attachments"]
    original = {"url": shown["url"] + "?original", "name": name, "size": len(content)}
    assert shown["original"] == original
    assert body(Page().get(original["url"])) == content
    assert len(stored(folder)) == 3


def test_original_of_any_other_file_is_the_file(alice: Page, picture: Attachment) -> None:
    response = alice.get(address(picture) + "?original")
    assert body(response) == body(alice.get(address(picture)))
    assert response["Content-Type"] == OCTET_STREAM
    assert response["Content-Disposition"] == 'attachment; filename="beach.jpg"'


def test_an_animated_gif_stays_animated_and_loses_its_comments(alice: Page) -> None:
    send(alice, upload("cat.gif", animated_gif()))
    attachment = Attachment.objects.get()
    content = body(alice.get(address(attachment)))
    assert attachment.kind == "image/gif"
    assert Image.open(BytesIO(content)).n_frames == 3  # type: ignore[attr-defined]
    assert b"alert" not in content


# What mallory tries --------------------------------------------------------------------------------------------------

HTML = b"<!doctype html><script>alert(document.domain)</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.html", HTML),
        ("page.htm.jpg", HTML),
        ("photo.jpg", HTML),
        ("logo.svg", SVG),
        ("logo.png", SVG),
        ("photo.jpg.exe", b"MZ"),
        ("x.gif", b"GIF89a/*" + b"\x00" * 20 + b"*/=1;alert(1)"),
        ("broken.jpg", photo(400, 400)[:-900]),
        ("page.xhtml", b"<html xmlns='http://www.w3.org/1999/xhtml'/>"),
        ("mail.eml", b"Content-Type: text/html\r\n\r\n" + HTML),
    ],
)
def test_a_file_that_is_not_a_picture_is_only_downloaded(alice: Page, name: str, content: bytes) -> None:
    assert send(alice, upload(name, content, "image/png")).status_code == 204
    attachment = Attachment.objects.get()
    assert attachment.kind == OCTET_STREAM
    for path in (address(attachment), address(attachment, small=True)):
        response = alice.get(path)
        assert body(response) == content
        assert response["Content-Type"] == OCTET_STREAM
        assert response["Content-Disposition"].startswith("attachment")
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert response["Cache-Control"] == "no-store, private, no-transform"
    assert "<img" not in alice.get("/chat/").content.decode()


def test_a_polyglot_of_picture_and_script_is_only_a_picture_afterwards(alice: Page) -> None:
    gif = BytesIO()
    Image.new("P", (0x2F2F, 1)).save(gif, "GIF")
    send(alice, upload("x.gif", gif.getvalue() + b"/*\n=1;alert(1)//*/" + HTML))
    attachment = Attachment.objects.get()
    assert attachment.kind == "image/png"
    response = alice.get(address(attachment))
    assert b"alert" not in body(response)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert response["Cache-Control"] == "private, max-age=31536000, immutable, no-transform"


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\r\nSet-Cookie: x=1\r\n\r\n.txt", "aSet-Cookie: x=1.txt"),
        ("a\x00b.txt", "ab.txt"),
        (".htaccess", "htaccess"),
        ("..", "file"),
        ("", "file"),
        ("x" * 300 + ".pdf", "x" * 100 + ".pdf"),
        ("." + "x" * 300, "x" * 120),
        ("Grüße 你好.txt", "Grüße 你好.txt"),
        ('quo"te;.txt', 'quo"te;.txt'),
        ("Price 3%22 pot.txt", 'Price 3" pot.txt'),
        ("a%0D%0ASet-Cookie: x=1.txt", "aSet-Cookie: x=1.txt"),
        ("100%25 %2e%2e%2Fwool %0d.txt", "100%25 %2e%2e%2Fwool %0d.txt"),
    ],
)
def test_file_names_are_cleaned(talk: Conversation, alice: Page, folder: Path, name: str, clean: str) -> None:
    assert clean_name(name) == clean
    message = post_message(content="", conversation=talk, attachments=[Attachment.from_upload(name, ContentFile(b"x"))])
    alice.cookies["chat"] = talk.uuid.hex
    response = alice.get(address(message.attached[0]))
    assert body(response) == b"x"
    assert "\n" not in response["Content-Disposition"]
    assert [path.parent.parent for path in stored(folder)] == [folder]
    assert all(path.name.isalnum() and len(path.name) == 32 for path in stored(folder))


@pytest.mark.parametrize("name", ["../../evil.txt", "a\r\nb.txt", "x\u202etxt.exe", "<img src=x>.txt"])
def test_file_names_in_a_multipart_form_are_cleaned(alice: Page, folder: Path, name: str) -> None:
    raw = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\nx\r\n--b--\r\n' % name.encode()
    alice.generic("POST", "/chat/messages/", raw, "multipart/form-data; boundary=b")
    for attachment in Attachment.objects.all():
        assert not set("/\\\r\n\u202e") & set(attachment.name)
        assert "<img src=x>" not in alice.get("/chat/").content.decode()
    assert [path.parent.parent for path in stored(folder)] == [folder] * Attachment.objects.count()


@pytest.mark.parametrize(
    ("files", "status", "sentence"),
    [
        ([("a.txt", b"")], 422, "“a.txt” is empty. Please choose it again."),
        ([("a.bin", b"x" * (1024 * 1024 + 1))], 413, "“a.bin” is larger than 1 MB. Please send a smaller file."),
        ([("a.txt", b"x")] * 6, 422, "A message takes at most 5 files. Please send them in several."),
        ([("ok.txt", b"x"), ("b.txt", b"")], 422, "“b.txt” is empty. Please choose it again."),
        ([("a.bin", b"x" * 1024 * 1024)] * 6, 413, "The request is too large. Send it in smaller parts."),
    ],
)
def test_files_that_cannot_be_accepted_are_refused_with_a_sentence(
    alice: Page, bobs: Page, talk: Conversation, folder: Path, files: Any, status: int, sentence: str
) -> None:
    Website.objects.filter(pk=talk.website_id).update(attachment_megabytes=1)
    alice.cookies["chat"] = talk.uuid.hex
    for page, path in ((alice, "/chat/messages/"), (bobs, f"/inbox/{talk.pk}/messages/")):
        response = page.htmx(path, {"content": "", "files": [upload(*file) for file in files]})
        assert response.status_code == status
        assert response["Content-Type"].startswith("text/plain")
        assert sentence in response.content.decode()
    assert talk.messages.count() == 1
    assert stored(folder) == []


def test_a_decompression_bomb_in_a_text_chunk_is_not_decompressed(alice: Page) -> None:
    assert send(alice, upload("a.png", png_with_text_bomb())).status_code == 204
    assert Attachment.objects.get().size < 1000


@pytest.mark.parametrize("content", [huge_png(), camera_photo()[:-20]], ids=["too large", "truncated"])
def test_a_picture_that_cannot_be_decoded_is_a_file_without_its_metadata(alice: Page, content: bytes) -> None:
    assert send(alice, upload("a.png", content)).status_code == 204
    attachment = Attachment.objects.get()
    assert (attachment.kind, attachment.name, attachment.width) == (OCTET_STREAM, "a.png", None)
    stored_content = body(alice.get(address(attachment)))
    assert attachment.size == len(stored_content)
    assert b"Secret" not in stored_content
    assert stored_content[-100:] == content[-100:]


def test_while_other_pictures_are_decoded_a_picture_is_refused_and_a_file_is_not(
    alice: Page, bobs: Page, talk: Conversation, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "WAIT_SECONDS", 0)
    alice.cookies["chat"] = talk.uuid.hex
    sentence = "Many pictures are being uploaded at the moment. Please try again in a minute."
    with process.turn():
        for page, path in ((alice, "/chat/messages/"), (bobs, f"/inbox/{talk.pk}/messages/")):
            refused = page.htmx(path, {"content": "", "files": [upload("a.jpg", photo())]})
            assert (refused.status_code, refused.content.decode()) == (429, sentence)
        api = alice.post(f"/api/messages/{talk.uuid}/files/", {"files": [upload("a.jpg", photo())]})
        assert (api.status_code, api.json()["detail"]) == (429, sentence)
        assert stored(folder) == []
        assert send(alice, upload("a.txt", b"a")).status_code == 204
    assert send(alice, upload("a.jpg", photo())).status_code == 204


def test_a_website_that_takes_no_files_has_no_button_and_refuses_them(alice: Page, talk: Conversation) -> None:
    Website.objects.filter(pk=talk.website_id).update(attachments=False)
    page = alice.get("/chat/").content.decode()
    assert 'type="file"' not in page
    assert "multipart" not in page
    response = send(alice, upload("a.txt", b"a"), text="Hello")
    assert response.status_code == 422
    assert response.content.decode() == "You cannot attach files in this chat. Please describe them in a message."


def test_forms_and_json_without_files_keep_their_size_limit(alice: Page) -> None:
    urlencoded = "application/x-www-form-urlencoded"
    text = "content=" + "x" * 300_000
    assert alice.post("/chat/messages/", text, content_type=urlencoded).status_code == 413
    assert alice.says("x" * 300_000).status_code == 413  # a field of a form with files
    assert alice.post("/api/messages/", json.dumps({"content": text}), "application/json").status_code == 413


def test_the_files_of_one_address_are_rate_limited(alice: Page, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "files of one address": (3, 3600)}
    assert send(alice, *[upload("a.txt", b"a") for _ in range(2)]).status_code == 204
    response = send(alice, *[upload("a.txt", b"a") for _ in range(2)])
    assert response.status_code == 429
    assert int(response["Retry-After"]) > 0
    assert send(alice, text="Words are free.").status_code == 204
    # A refused message counts no file: retries would use up whatever becomes free, and no message would ever be sent.
    assert send(alice, upload("a.txt", b"a")).status_code == 204


# Access --------------------------------------------------------------------------------------------------------------


def test_only_who_may_see_the_conversation_gets_its_files(
    alice: Page, mallory: Page, bobs: Page, carol: Agent, carols: Page, picture: Attachment
) -> None:
    talk = picture.message.conversation
    assert alice.get(address(picture)).status_code == 200
    assert Page().get(address(picture), headers={"X-Chat": talk.uuid.hex}).status_code == 200
    assert bobs.get(f"/inbox/{talk.pk}/files/{picture.uuid}/").status_code == 200
    mallory.says("I am a customer too.")
    unknown = f"/chat/files/{uuid.uuid4()}/"
    other = Conversation.objects.exclude(pk=talk.pk).get()
    elsewhere = Website.objects.create(name="Elsewhere", key="elsewhere")
    elsewhere.agents.add(carol)
    refused = [
        (mallory.get(address(picture)), mallory.get(unknown)),
        (Page().get(address(picture)), Page().get(unknown)),
        (alice.get(f"/chat/elsewhere/files/{picture.uuid}/"), alice.get(f"/chat/elsewhere/files/{uuid.uuid4()}/")),
        (carols.get(f"/inbox/{talk.pk}/files/{picture.uuid}/"), carols.get(f"/inbox/{talk.pk}/files/{uuid.uuid4()}/")),
        (bobs.get(f"/inbox/{other.pk}/files/{picture.uuid}/"), bobs.get(f"/inbox/{other.pk}/files/{uuid.uuid4()}/")),
        (Page().get(f"/api/messages/{other.uuid}/files/{picture.uuid}/"), Page().get("/api/messages/x/files/y/")),
    ]
    for response, of_unknown in refused:
        assert response.status_code == of_unknown.status_code == 404
        assert response.content == of_unknown.content
    assert mallory.get(f"/inbox/{talk.pk}/files/{picture.uuid}/").status_code == 302  # to sign in


def test_a_signed_url_opens_a_picture_without_cookie_or_header(
    mallory: Page, picture: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = picture.message.conversation.uuid.hex
    ask = f"/chat/files/{picture.uuid}/sign/"
    signed = Page().post(ask, headers={"X-Chat": secret}).content.decode()
    assert signed.startswith("/chat/files/")
    assert signed.endswith("/beach.jpg")
    assert secret not in signed.replace("-", "")
    answer = Page().get(signed)
    assert Image.open(BytesIO(body(answer))).size == (20, 40)
    assert answer["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert answer["Cache-Control"] == "private, no-store, no-transform"
    signed_id = signed.split("/")[3]
    for wrong in (signed_id[:-1], "x", str(picture.uuid), signing.dumps(picture.uuid.hex)):
        assert Page().get(signed.replace(signed_id, wrong)).status_code == 404
    # Only who may have the file may have its address signed, and another page may not ask in their name.
    mallory.says("I am a customer too.")
    assert mallory.post(ask).status_code == Page().post(ask).status_code == 404
    assert Page().post(ask, headers={"X-Chat": secret, "Origin": "https://evil.example"}).status_code == 403
    now = time.time()
    for seconds, status in ((55, 200), (65, 404)):
        monkeypatch.setattr(time, "time", lambda later=now + seconds: later)
        response = Page().get(signed)
        assert response.status_code == status
        b"".join(response)


def test_a_signed_url_opens_no_other_file(picture: Attachment) -> None:
    secret = picture.message.conversation.uuid.hex
    page = Page()
    page.cookies["chat"] = secret
    assert send(page, upload('a/b "c"?#.png', photo(form="PNG"))).status_code == 204
    other = Attachment.objects.latest("pk")
    signed = page.post(f"/chat/files/{other.uuid}/sign/").content.decode()
    assert Image.open(BytesIO(body(Page().get(signed)))).size == (40, 20)
    picture.message.conversation.delete()
    assert Page().get(signed).status_code == 404


def test_file_urls_keep_the_website_and_the_host_page(alice: Page) -> None:
    website = Website.objects.create(name="Shop", key="shop")
    website.origins.create(origin="https://shop.example")
    talk = post_message(
        content="", website=website, attachments=[Attachment.from_upload("a.png", ContentFile(photo(form="PNG")))]
    ).conversation
    html = alice.get("/chat/shop/?host=https://shop.example", headers={"X-Chat": talk.uuid.hex}).content.decode()
    attachment = Attachment.objects.get()
    path = f"/chat/shop/files/{attachment.uuid}/?host=https%3A%2F%2Fshop.example"
    assert f'href="{path}"' in html
    assert f'src="{path}&amp;small"' in html
    assert alice.get(path + "&small", headers={"X-Chat": talk.uuid.hex})["Content-Type"] == "image/webp"


def test_a_file_that_is_missing_on_the_disk_is_404(alice: Page, picture: Attachment) -> None:
    picture.erase()
    assert alice.get(address(picture)).status_code == 404
    assert alice.get("/chat/").status_code == 200


# The API -------------------------------------------------------------------------------------------------------------


def test_files_are_sent_and_read_over_the_api(bobs: Page, talk: Conversation) -> None:
    path = f"/api/messages/{talk.uuid}/files/"
    name = str(uuid.uuid4())
    for _ in range(2):
        response = Page().post(path, {"files": [upload("a.jpg", camera_photo())], "client_id": name})
        assert response.status_code == 200
    items = response.json()["items"]
    assert [item["content"] for item in items] == ["Hello, is anybody there?", ""]
    assert items[0]["attachments"] == []
    [attachment] = items[1]["attachments"]
    assert attachment | {"url": "", "size": 0} == {
        "url": "",
        "name": "a.jpg",
        "kind": "image/jpeg",
        "size": 0,
        "width": 20,
        "height": 40,
        "original": None,
    }
    answer = Page().get(attachment["url"])
    assert len(body(answer)) == attachment["size"]
    assert "sandbox" in answer["Content-Security-Policy"]
    assert Page().get(attachment["url"] + "?small")["Content-Type"] == "image/webp"
    assert bobs.get(f"/api/messages/{talk.uuid}/").json()["items"] == items


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ([], 422),
        ([("a.txt", b"")], 422),
        ([("a.txt", b"x" * (10 * 1024 * 1024 + 1))], 413),
    ],
)
def test_the_api_says_what_is_wrong_with_files(talk: Conversation, files: Any, status: int) -> None:
    response = Page().post(f"/api/messages/{talk.uuid}/files/", {"files": [upload(*file) for file in files]})
    assert response.status_code == status
    assert response.json()["detail"]


class Unread:
    """A request body that must not be read."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("The body was read.")

    readline = read


def test_the_api_refuses_too_large_bodies_without_reading_them(talk: Conversation, bobs: Page, bob: Agent) -> None:
    def sends_megabytes(page: Page, megabytes: int, to: object = talk.uuid, **headers: str) -> int:
        body: Any = {
            "CONTENT_TYPE": "multipart/form-data; boundary=b",
            "CONTENT_LENGTH": str(megabytes * 1024 * 1024),
            "wsgi.input": Unread(),
        }
        answer = page.generic("POST", f"/api/messages/{to}/files/", headers=headers, **body)
        assert answer.json()["detail"]
        return int(answer.status_code)

    token = Token.objects.issue(bob, "a script", "WRITE")
    for page, headers in ((Page(), {}), (bobs, {}), (Page(), {"Authorization": f"Bearer {token}"})):
        assert sends_megabytes(page, 400, **headers) == 413
        assert sends_megabytes(page, 51, **headers) == 413
        for unknown in (uuid.uuid4(), "x"):
            assert sends_megabytes(page, 1, unknown, **headers) == 404
            assert sends_megabytes(page, 400, unknown, **headers) == 404
    assert sends_megabytes(Page(), 1, Origin="https://evil.example") == 403
    with pytest.raises(AssertionError, match=r"The body was read\."):  # this one could be right
        sends_megabytes(Page(), 49)


def test_agents_send_files_over_the_api_and_foreign_pages_cannot(bob: Agent, mallory: Page, talk: Conversation) -> None:
    path = f"/api/messages/{talk.uuid}/files/"
    strict = Page(enforce_csrf_checks=True)
    strict.force_login(bob)

    def send(page: Page, path: str = path, **headers: str) -> int:
        return int(page.post(path, {"files": [upload("a.txt", b"a")]}, headers=headers).status_code)

    assert send(strict) == 403
    strict.get("/inbox/")
    assert send(strict, **{"X-CSRFToken": strict.cookies["csrftoken"].value}) == 200
    assert talk.messages.latest("id").author == "AGE"
    assert send(mallory, Origin="https://evil.example") == 403
    assert send(mallory, f"/api/messages/{uuid.uuid4()}/files/") == 404
    assert send(mallory, "/api/messages/x/files/") == 404
    json_as_form = mallory.generic(
        "POST",
        "/api/messages/",
        '{"content": "x"}',
        "multipart/form-data; boundary=b",
        headers={"Origin": "https://x.example"},
    )
    assert json_as_form.status_code == 403
    assert json_as_form.json()["detail"] == "Send this as application/json."


def test_a_page_reads_only_the_files_of_its_own_websites_conversations(mallory: Page) -> None:
    pages = {}
    for key in ("shop", "club"):
        pages[key] = Website.objects.create(name=key, key=key)
        pages[key].origins.create(origin=f"https://{key}.example")
    message = post_message(
        content="", website=pages["shop"], attachments=[Attachment.from_upload("plan.txt", ContentFile(b"a plan"))]
    )
    path = f"/api/messages/{message.conversation.uuid}/files/{message.attached[0].uuid}/"
    theirs = mallory.get(path, headers={"Origin": "https://shop.example"})
    assert body(theirs) == b"a plan"
    assert theirs["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "Content-Disposition" in theirs["Access-Control-Expose-Headers"]
    unknown = path.replace(message.conversation.uuid.hex[:8], "00000000")
    for origin in ("https://club.example", "https://evil.example", "null"):
        refused = mallory.get(path, headers={"Origin": origin})
        assert refused.status_code == 404
        assert refused.content == mallory.get(unknown, headers={"Origin": origin}).content
    # A link and a picture in a widget's page name no origin: the page shows them, and its scripts read nothing of them.
    assert body(mallory.get(path, headers={"Sec-Fetch-Site": "cross-site"})) == b"a plan"
    assert body(mallory.get(path)) == b"a plan"


def test_a_client_id_that_was_used_with_other_files_is_refused(talk: Conversation) -> None:
    name = uuid.uuid4()
    post_message(content="x", conversation=talk, client_id=name)
    with pytest.raises(AlreadySent):
        post_message(
            content="x", conversation=talk, client_id=name, attachments=[Attachment.from_upload("a", ContentFile(b"a"))]
        )

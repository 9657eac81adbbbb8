"""Files that come with messages: who sees them, what becomes of them, and what mallory tries with them."""

import json
import os
import time
import uuid
import zlib
from collections.abc import Callable
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

from conversations.actions import AlreadySent, post_message
from conversations.models import Agent, Attachment, Conversation, Message, News, Token, Website
from conversations.models.attachment import PLAIN, clean_name
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db

GPS = 0x8825
ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    """Where the files are, and nothing else."""
    settings.MEDIA_ROOT = tmp_path / "files"
    return tmp_path / "files"


def kept(folder: Path) -> list[Path]:
    """All files on the disk."""
    return [path for path in folder.rglob("*") if path.is_file()]


def photo(width: int = 40, height: int = 20, form: str = "JPEG", **more: Any) -> bytes:
    """A picture, red on its left half and blue on its right."""
    image = Image.new("RGB", (width, height), "blue")
    ImageDraw.Draw(image).rectangle((0, 0, width // 2 - 1, height), "red")
    file = BytesIO()
    image.save(file, form, **more)
    return file.getvalue()


def from_a_camera() -> bytes:
    """A photo that lies on its side and knows where it was taken."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "Secret Camera"
    exif.get_ifd(GPS)[2] = (52.0, 31.0, 12.0)
    return photo(exif=exif, comment=b"a secret remark")


def moving() -> bytes:
    """A GIF of three pictures, with a remark."""
    first, *rest = [Image.new("RGB", (30, 30), colour) for colour in ("red", "green", "blue")]
    file = BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=100, comment=b"*/alert(1)//")
    return file.getvalue()


def huge_png(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG of a few kB that is 400 million pixels large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    head = pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A small PNG with a remark in it that would be 200 MB."""
    remark = b"Comment\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    chunk = pack(">I", len(remark)) + b"zTXt" + remark + pack(">I", zlib.crc32(b"zTXt" + remark))
    png = photo(form="PNG")
    return png[:33] + chunk + png[33:]


def upload(name: str, content: bytes, kind: str = "text/html") -> SimpleUploadedFile:
    """A file as a browser sends it; what it says of its kind is not to be believed."""
    return SimpleUploadedFile(name, content, kind)


def sends(page: Page, *files: SimpleUploadedFile, text: str = "", **more: Any) -> Any:
    """Send a message with files from the chat page's form, as its script does."""
    body = {"content": text, "files": list(files), **more}
    return page.post("/chat/messages/", body, headers={"HX-Request": "true"})


def body(response: Any) -> bytes:
    """What is in a file's answer."""
    return b"".join(response.streaming_content)


def address(attachment: Attachment, small: bool = False) -> str:
    """Where the customer finds it."""
    return f"/chat/files/{attachment.uuid}/" + ("?small" if small else "")


@pytest.fixture
def picture(alice: Page) -> Attachment:
    """A photo that alice has sent."""
    assert sends(alice, upload("beach.jpg", from_a_camera()), text="Look").status_code == 204
    return Attachment.objects.get()


# Both ways -----------------------------------------------------------------------------------------------------------


def test_a_customer_sends_files_and_both_sides_see_them(alice: Page, bobs: Page, folder: Path) -> None:
    assert sends(alice, upload("a.png", photo(form="PNG")), upload("b.pdf", b"%PDF"), text="Two").status_code == 204
    message = Message.objects.get()
    assert message.files == 2
    assert [file.name for file in message.attached] == ["a.png", "b.pdf"]
    assert len(kept(folder)) == 3  # the picture, its small one, the other file
    screens = (alice.get("/chat/"), "/chat/"), (bobs.get(f"/inbox/{message.conversation_id}/"), "/inbox/")
    for screen, start in screens:
        html = screen.content.decode()
        assert texts(screen) == ["Two"]
        assert f'href="{start}' in html
        assert 'alt="a.png" width="40" height="20" loading="lazy"' in html
        assert '<span class="name">b.pdf</span> <span class="size">4\xa0bytes</span>' in html
    assert body(bobs.get(f"/inbox/{message.conversation_id}/files/{message.attached[1].uuid}/")) == b"%PDF"
    assert body(alice.get(address(message.attached[1]))) == b"%PDF"


def test_an_agent_sends_one_and_the_customer_gets_it(alice: Page, bobs: Page, talk: Conversation) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    assert bobs.answers(talk, "", files=[upload("offer.pdf", b"%PDF-1.7")]).status_code == 302
    attachment = Attachment.objects.get()
    assert attachment.message.author == "AGE"
    assert address(attachment) in alice.get("/chat/messages/?since=1").content.decode()
    assert body(alice.get(address(attachment))) == b"%PDF-1.7"


def test_a_message_may_be_files_alone_and_the_inbox_names_them(alice: Page, bobs: Page) -> None:
    assert sends(alice, upload("photo.jpg", photo()), text=" \r\n ").status_code == 204
    message = Message.objects.get()
    assert message.content == ""
    assert message.conversation.last_line == "📎 photo.jpg"
    assert "📎 photo.jpg" in bobs.get("/inbox/").content.decode()
    assert texts(alice.get("/chat/")) == []
    assert sends(alice, text=" ").status_code == 422  # but not nothing at all


def test_without_script_the_form_does_it(alice: Page) -> None:
    page = alice.get("/chat/").content.decode()
    assert 'enctype="multipart/form-data"' in page
    assert '<input type="file" name="files" multiple' in page
    assert alice.says("Here", files=[upload("a.txt", b"a")]).status_code == 302
    refused = alice.says("What I typed", files=[upload("b.txt", b"")])
    assert refused.status_code == 422
    assert "“b.txt” is empty. Please choose it again." in refused.content.decode()
    assert "What I typed" in refused.content.decode()


def test_sent_again_it_is_the_same_message_and_leaves_nothing_behind(alice: Page, folder: Path) -> None:
    name = str(uuid.uuid4())
    for _ in range(3):
        assert sends(alice, upload("a.txt", b"a"), text="once", client_id=name).status_code == 204
    assert Message.objects.count() == Attachment.objects.count() == len(kept(folder)) == 1
    assert sends(alice, upload("b.txt", b"b"), text="once", client_id=name).status_code == 409
    assert sends(alice, text="once", client_id=name).status_code == 409
    assert Attachment.objects.count() == len(kept(folder)) == 1


def test_a_message_that_fails_leaves_no_file(talk: Conversation, folder: Path, monkeypatch: Any) -> None:
    def fails(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Attachment, "save", fails)
    with pytest.raises(OSError, match="full"), transaction.atomic():
        post_message(content="", conversation=talk, attachments=[Attachment.of("a", ContentFile(b"a"))])
    assert kept(folder) == []


def test_who_deletes_a_conversation_deletes_its_files_once_that_is_certain(
    picture: Attachment, folder: Path, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    conversation = picture.message.conversation
    with django_capture_on_commit_callbacks(execute=False) as callbacks:
        conversation.delete()
    assert not Attachment.objects.exists()
    assert len(kept(folder)) == 2
    for callback in callbacks:
        callback()
    assert kept(folder) == []


def test_files_that_a_killed_process_left_are_swept_after_a_day(picture: Attachment, folder: Path) -> None:
    belong = kept(folder)
    lost, coming = (Attachment.of("lost.txt", ContentFile(b"lost")) for _ in range(2))
    for attachment in (lost, coming):
        attachment.store()
    (folder / "notes.txt").write_text("somebody else's")
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "ab" / "notes.txt").write_text("somebody else's")
    days_ago = time.time() - 2 * 24 * 3600
    for path in kept(folder):
        if path != folder / str(coming.file.name):
            os.utime(path, (days_ago, days_ago))
    call_command("forgetold")
    theirs = [folder / "notes.txt", folder / "ab" / "notes.txt"]
    assert set(kept(folder)) == {*belong, folder / str(coming.file.name), *theirs}


def test_without_any_file_there_is_nothing_to_sweep(folder: Path) -> None:
    call_command("forgetold")
    assert not folder.exists()


def test_a_poll_without_files_costs_one_query_and_with_any_number_two(
    talk: Conversation, bob: Agent, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        News.by_uuid(talk.uuid, 0, 50)
    with django_assert_num_queries(1):
        [message.attached for message in talk.messages.latest_before(None, 50)]
    for number in range(3):
        files = [Attachment.of(f"{number}-{each}.txt", ContentFile(b"x")) for each in range(2)]
        post_message(content="", conversation=talk, agent=bob if number % 2 else None, attachments=files)
    names = [[f"{number}-0.txt", f"{number}-1.txt"] for number in range(3)]
    with django_assert_num_queries(2):
        news = News.by_uuid(talk.uuid, 0, 50)
        assert news
        assert [[file.name for file in message.attached] for message in news.messages] == [[], *names]
    with django_assert_num_queries(2):
        found = talk.messages.latest_before(None, 50)
        assert [[file.name for file in message.attached] for message in found] == [[], *names]


# What becomes of pictures --------------------------------------------------------------------------------------------


def test_a_photo_is_upright_and_tells_neither_place_nor_camera(alice: Page, picture: Attachment) -> None:
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
def test_the_content_decides_what_a_picture_is(alice: Page, form: str) -> None:
    more: Any = {"save_all": True, "append_images": [Image.new("RGB", (40, 20))]} if form == "MPO" else {}
    sends(alice, upload("report.txt", photo(form=form, **more)))
    attachment = Attachment.objects.get()
    kind = {"MPO": "jpeg", "GIF": "png"}.get(form, form.lower())
    assert attachment.kind == f"image/{kind}"
    assert attachment.name == f"report.txt.{'jpg' if kind == 'jpeg' else kind}"
    response = alice.get(address(attachment))
    assert response["Content-Type"] == f"image/{kind}"
    assert Image.open(BytesIO(body(response))).size == (40, 20)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "I;16", "CMYK"])
def test_pictures_of_all_kinds_of_colours_are_taken(mode: str) -> None:
    file = BytesIO()
    Image.new(mode, (8, 8)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    attachment = Attachment.of("a", ContentFile(file.getvalue()))
    assert attachment.is_picture or mode == "I;16"
    if mode in {"LA", "RGBA"}:
        assert Image.open(attachment.file.file).mode == "RGBA"


def test_large_pictures_are_made_smaller_and_shown_smaller_still(alice: Page) -> None:
    sends(alice, upload("wide.jpg", photo(5200, 1300)))
    attachment = Attachment.objects.get()
    assert (attachment.width, attachment.height) == (2560, 640)
    assert Image.open(BytesIO(body(alice.get(address(attachment))))).size == (2560, 640)
    small = alice.get(address(attachment, small=True))
    assert small["Content-Type"] == "image/webp"
    assert Image.open(BytesIO(body(small))).size == (480, 120)
    assert 'width="240" height="60"' in alice.get("/chat/").content.decode()


def test_a_gif_goes_on_moving_without_its_remarks(alice: Page) -> None:
    sends(alice, upload("cat.gif", moving()))
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
def test_what_is_no_picture_is_saved_and_never_shown(alice: Page, name: str, content: bytes) -> None:
    assert sends(alice, upload(name, content, "image/png")).status_code == 204
    attachment = Attachment.objects.get()
    assert attachment.kind == PLAIN
    for path in (address(attachment), address(attachment, small=True)):
        response = alice.get(path)
        assert body(response) == content
        assert response["Content-Type"] == PLAIN
        assert response["Content-Disposition"].startswith("attachment")
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert response["Cache-Control"] == "no-store, private"
    assert "<img" not in alice.get("/chat/").content.decode()


def test_a_picture_that_is_a_script_too_is_only_a_picture_afterwards(alice: Page) -> None:
    gif = BytesIO()
    Image.new("P", (0x2F2F, 1)).save(gif, "GIF")
    sends(alice, upload("x.gif", gif.getvalue() + b"/*\n=1;alert(1)//*/" + HTML))
    attachment = Attachment.objects.get()
    assert attachment.kind == "image/png"
    response = alice.get(address(attachment))
    assert b"alert" not in body(response)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert response["Cache-Control"] == "private, max-age=31536000, immutable"


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
def test_a_name_is_only_ever_a_name(talk: Conversation, alice: Page, folder: Path, name: str, clean: str) -> None:
    assert clean_name(name) == clean
    message = post_message(content="", conversation=talk, attachments=[Attachment.of(name, ContentFile(b"x"))])
    alice.cookies["chat"] = talk.uuid.hex
    response = alice.get(address(message.attached[0]))
    assert body(response) == b"x"
    assert "\n" not in response["Content-Disposition"]
    assert [path.parent.parent for path in kept(folder)] == [folder]
    assert all(path.name.isalnum() and len(path.name) == 32 for path in kept(folder))


@pytest.mark.parametrize("name", ["../../evil.txt", "a\r\nb.txt", "x\u202etxt.exe", "<img src=x>.txt"])
def test_a_name_in_a_real_form_is_as_harmless(alice: Page, folder: Path, name: str) -> None:
    raw = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\nx\r\n--b--\r\n' % name.encode()
    alice.generic("POST", "/chat/messages/", raw, "multipart/form-data; boundary=b")
    for attachment in Attachment.objects.all():
        assert not set("/\\\r\n\u202e") & set(attachment.name)
        assert "<img src=x>" not in alice.get("/chat/").content.decode()
    assert [path.parent.parent for path in kept(folder)] == [folder] * Attachment.objects.count()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # Pillow warns where we refuse
@pytest.mark.parametrize(
    ("files", "status", "sentence"),
    [
        ([("a.txt", b"")], 422, "“a.txt” is empty. Please choose it again."),
        ([("a.bin", b"x" * (1024 * 1024 + 1))], 413, "“a.bin” is larger than 1 MB. Please send a smaller file."),
        ([("a.txt", b"x")] * 6, 422, "A message takes at most 5 files. Please send them in several."),
        ([("a.png", huge_png())], 422, "A picture has more than 40 megapixels. Please make it smaller."),
        ([("ok.txt", b"x"), ("a.gif", huge_png(8000, 8000))], 422, "A picture has more than 40 megapixels."),
        ([("a.bin", b"x" * 1024 * 1024)] * 6, 413, "That was too large. Send it in smaller parts."),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_sentence(
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
    assert kept(folder) == []


def test_a_bomb_of_text_in_a_picture_is_no_picture(alice: Page) -> None:
    assert sends(alice, upload("a.png", text_bomb())).status_code == 204
    assert Attachment.objects.get().kind == PLAIN


def test_a_website_without_files_has_no_button_and_takes_none(alice: Page, talk: Conversation) -> None:
    Website.objects.filter(pk=talk.website_id).update(attachments=False)
    page = alice.get("/chat/").content.decode()
    assert 'type="file"' not in page
    assert "multipart" not in page
    response = sends(alice, upload("a.txt", b"a"), text="Hello")
    assert response.status_code == 422
    assert response.content.decode() == "This chat takes no files. Please write what is in them."


def test_plain_forms_and_json_are_as_small_as_before(alice: Page) -> None:
    urlencoded = "application/x-www-form-urlencoded"
    text = "content=" + "x" * 300_000
    assert alice.post("/chat/messages/", text, content_type=urlencoded).status_code == 413
    assert alice.says("x" * 300_000).status_code == 413  # a field of a form with files
    assert alice.post("/api/messages/", json.dumps({"content": text}), "application/json").status_code == 413


def test_one_address_sends_only_so_many(alice: Page, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "files of one address": (3, 3600)}
    assert sends(alice, *[upload("a.txt", b"a") for _ in range(2)]).status_code == 204
    response = sends(alice, *[upload("a.txt", b"a") for _ in range(2)])
    assert response.status_code == 429
    assert int(response["Retry-After"]) > 0
    assert sends(alice, text="Words are free.").status_code == 204


# Who may have them ---------------------------------------------------------------------------------------------------


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


def test_a_window_without_cookie_or_header_opens_a_picture_by_a_signed_address(
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
    assert answer["Cache-Control"] == "private, no-store"
    ticket = signed.split("/")[3]
    for wrong in (ticket[:-1], "x", str(picture.uuid), signing.dumps(picture.uuid.hex)):
        assert Page().get(signed.replace(ticket, wrong)).status_code == 404
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


def test_a_lent_picture_opens_no_other(picture: Attachment) -> None:
    secret = picture.message.conversation.uuid.hex
    page = Page()
    page.cookies["chat"] = secret
    assert sends(page, upload('a/b "c"?#.png', photo(form="PNG"))).status_code == 204
    other = Attachment.objects.latest("pk")
    signed = page.post(f"/chat/files/{other.uuid}/sign/").content.decode()
    assert Image.open(BytesIO(body(Page().get(signed)))).size == (40, 20)
    picture.message.conversation.delete()
    assert Page().get(signed).status_code == 404


def test_the_chat_of_another_website_and_page_keeps_its_own_addresses(alice: Page) -> None:
    website = Website.objects.create(name="Shop", key="shop")
    website.origins.create(origin="https://shop.example")
    talk = post_message(
        content="", website=website, attachments=[Attachment.of("a.png", ContentFile(photo(form="PNG")))]
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


def test_the_api_takes_and_gives_files(bobs: Page, talk: Conversation) -> None:
    path = f"/api/messages/{talk.uuid}/files/"
    name = str(uuid.uuid4())
    for _ in range(2):
        response = Page().post(path, {"files": [upload("a.jpg", from_a_camera())], "client_id": name})
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
        ([("a.png", huge_png())], 422),
    ],
)
def test_the_api_says_what_is_wrong_with_files(talk: Conversation, files: Any, status: int) -> None:
    response = Page().post(f"/api/messages/{talk.uuid}/files/", {"files": [upload(*file) for file in files]})
    assert response.status_code == status
    assert response.json()["detail"]


class Unread:
    """A body that must not be looked at."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("The body was read.")

    readline = read


def test_the_api_refuses_without_reading_what_no_message_can_have(talk: Conversation, bobs: Page, bob: Agent) -> None:
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


def test_agents_send_files_over_the_api_and_foreign_pages_do_not(bob: Agent, mallory: Page, talk: Conversation) -> None:
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


def test_a_page_reads_the_files_of_its_own_websites_conversations_alone(mallory: Page) -> None:
    pages = {}
    for key in ("shop", "club"):
        pages[key] = Website.objects.create(name=key, key=key)
        pages[key].origins.create(origin=f"https://{key}.example")
    message = post_message(
        content="", website=pages["shop"], attachments=[Attachment.of("plan.txt", ContentFile(b"a plan"))]
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


def test_a_twin_with_other_files_is_told(talk: Conversation) -> None:
    name = uuid.uuid4()
    post_message(content="x", conversation=talk, client_id=name)
    with pytest.raises(AlreadySent):
        post_message(
            content="x", conversation=talk, client_id=name, attachments=[Attachment.of("a", ContentFile(b"a"))]
        )

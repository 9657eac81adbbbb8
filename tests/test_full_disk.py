"""A disk that is full or read-only: nothing half-written stays, the sender is told, and messages without files work."""

import errno
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.files.base import File
from django.core.files.uploadhandler import TemporaryFileUploadHandler

from chatsite import durable_files
from conversations.models import Attachment, Conversation, Message
from conversations.pictures import process
from tests.conftest import Page
from tests.test_attachments import folder, photo, stored, upload  # noqa: F401 (a fixture)
from tests.test_server import own, status  # noqa: F401 (a fixture)

NO_ROOM = "The server has no room for files at the moment"

Send = Callable[..., Any]


@pytest.fixture
def send(request: pytest.FixtureRequest, bobs: Page, talk: Conversation) -> Send:
    """A way to send files: by a page's script, by its plain form, or over the API, as the customer or as an agent."""
    alice = Page()
    alice.cookies["chat"] = talk.uuid.hex
    alice.raise_request_exception = bobs.raise_request_exception = False

    def send(*files: Any, **fields: Any) -> Any:
        form = {"content": "", "files": list(files), **fields}
        ways: dict[str, Callable[[], Any]] = {
            "alice's script": lambda: alice.htmx("/chat/messages/", form),
            "alice's form": lambda: alice.post("/chat/messages/", form),
            "bob's script": lambda: bobs.htmx(f"/inbox/{talk.pk}/messages/", form),
            "bob's form": lambda: bobs.post(f"/inbox/{talk.pk}/messages/", form),
            "a widget": lambda: alice.post(f"/api/messages/{talk.uuid}/files/", form),
            "a bot": lambda: bobs.post(f"/api/conversation/{talk.pk}/files/", form),
        }
        return ways[request.param]()

    return send


everybody = pytest.mark.parametrize(
    "send", ["alice's script", "alice's form", "bob's script", "bob's form", "a widget", "a bot"], indirect=True
)


def says(response: Any) -> str:
    """The sentence in a response: JSON, text or a page."""
    is_json = response["Content-Type"].startswith("application/json")
    return str(response.json()["detail"] if is_json else response.content.decode())


@pytest.mark.django_db
@everybody
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_file_that_does_not_fit_leaves_nothing_behind_and_its_sender_is_told(
    send: Send,
    error: int,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def chunks(file: Any, *_: Any) -> Iterator[bytes]:
        yield b"half"
        [half] = [path for path in stored(folder) if "second" not in path.read_text()]
        assert half.exists()
        raise OSError(error, os.strerror(error))

    before = Message.objects.count()
    name = str(uuid.uuid4())
    with monkeypatch.context() as full:
        full.setattr(File, "chunks", chunks)
        response = send(upload("plan.txt", b"a plan"), client_id=name)
    assert response.status_code == 507
    assert ("cannot store files" if error == errno.EROFS else NO_ROOM) in says(response)
    assert "You can still send text." in says(response)
    assert stored(folder) == []
    assert Message.objects.count() == before
    [line] = [record.getMessage() for record in caplog.records if record.name == "conversations.models.attachment"]
    assert os.strerror(error) in line
    assert not [record for record in caplog.records if record.exc_info]
    assert send(upload("plan.txt", b"a plan"), client_id=name).status_code in {200, 204, 302}
    assert len(stored(folder)) == 1


@pytest.mark.django_db
def test_the_files_before_one_that_does_not_fit_are_deleted_too(
    alice: Page,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    synced: list[Path] = []

    def sync(path: Path) -> None:
        synced.append(path)
        if len(set(stored(folder)) & set(synced)) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")  # as on network disks, which write late

    monkeypatch.setattr(durable_files, "sync", sync)
    assert alice.htmx("/chat/messages/", {"files": [upload("a", b"a"), upload("b", b"b")]}).status_code == 507
    assert stored(folder) == []
    assert not Message.objects.exists()


@pytest.mark.django_db
def test_files_and_their_folders_are_on_the_disk_before_the_message_is(
    alice: Page,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    synced: list[str] = []
    written: list[int] = []
    sync = durable_files.sync

    def watch(path: Path) -> None:
        assert not Message.objects.exists()
        synced.append(str(path))
        sync(path)

    monkeypatch.setattr(durable_files, "sync", watch)
    monkeypatch.setattr(os, "fsync", written.append)
    assert alice.htmx("/chat/messages/", {"files": [upload("a.jpg", photo())]}).status_code == 204
    assert len(written) == len(synced)
    files = stored(folder)
    assert len(files) == 2
    assert {str(path) for path in files} <= set(synced)
    for path in files:
        assert synced.index(str(path)) < synced.index(str(path.parent), synced.index(str(path)))
    assert {str(folder), str(folder.parent)} <= set(synced)


@pytest.mark.django_db
@everybody
def test_no_room_for_the_temporary_file_of_an_upload(
    send: Send,
    folder: Path,  # noqa: F811
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def receive(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 3
    monkeypatch.setattr(TemporaryFileUploadHandler, "receive_data_chunk", receive)
    before = Message.objects.count()
    response = send(upload("plan.txt", b"a plan"))
    assert (response.status_code, Message.objects.count(), stored(folder)) == (507, before, [])
    assert NO_ROOM in says(response)


@pytest.mark.django_db
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="This system has no /dev/full.")
@pytest.mark.parametrize("full", [1, 2, 3, 4], ids=["source", "original", "full", "thumbnail"])
def test_no_room_for_the_temporary_files_of_a_picture(
    alice: Page,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    full: int,
) -> None:
    made = []
    make = tempfile.TemporaryFile

    def temporary_file() -> Any:
        made.append(1)
        return Path("/dev/full").open("r+b", buffering=0) if len(made) == full else make()

    monkeypatch.setattr(process, "TemporaryFile", temporary_file)
    response = alice.htmx("/chat/messages/", {"files": [upload("a.jpg", photo())]})
    assert (response.status_code, Attachment.objects.count(), stored(folder)) == (507, 0, [])
    assert NO_ROOM in says(response)


def test_the_server_refuses_a_body_that_does_not_fit_into_its_temporary_folder(own: Any) -> None:  # noqa: F811
    if not hasattr(psutil, "RLIMIT_FSIZE"):
        pytest.skip("This system does not limit the files of other processes.")
    assert own.post("/digest/", iter([b"x" * 900_000]), 900_000, "application/octet-stream")
    hard = own.process.rlimit(psutil.RLIMIT_FSIZE)[1]
    own.process.rlimit(psutil.RLIMIT_FSIZE, (500_000, hard))
    head = "POST /digest/ HTTP/1.1\r\nHost: localhost\r\nHX-Request: true\r\nContent-Length: {}\r\n\r\n"
    for length in (900_000, 500_001):  # the end of the second one is in Python's buffer until the last moment
        client = own.send(head.format(length))
        client.sendall(b"x" * length)
        answer = client.recv(65536)
        assert answer, (own.process.poll(), own.errors.read_text())
        assert status(answer) == 507
        assert NO_ROOM.encode() in answer
        client.close()
    own.process.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
    assert own.post("/digest/", iter([b"x" * 900_000]), 900_000, "application/octet-stream")
    assert own.counts()["upload_bytes"] == 0
    log = own.errors.read_text()
    assert "The body of a request cannot be stored" in log
    assert "Traceback" not in log

"""Start a process that decodes one picture, and wait for it."""

import errno
import json
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event, Lock
from typing import IO

from conversations.pictures import MAX_SECONDS, NO_ROOM, file_format

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]

ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
"""The variables that the process gets. The others may have secrets: SECRET_KEY, the database's password."""

WAIT_SECONDS = 20
"""Seconds that an upload waits for its turn. Pictures are decoded one after the other, which bounds the memory."""

NO_PICTURE = b"null"

waiting: deque[Event] = deque()  # an event for each upload that waits, of which the first one is set: it has its turn
lock = Lock()  # for `waiting`


class DecoderBusy(Exception):
    """Other pictures were decoded for WAIT_SECONDS, or this one's metadata could not be removed in time."""


@contextmanager
def turn() -> Iterator[None]:
    """Wait until no other thread is here. Raises DecoderBusy after WAIT_SECONDS.

    Threads come in the order in which they asked. With a semaphore, one that sends many pictures would come back before
    the others have woken up.
    """
    mine = Event()
    with lock:
        waiting.append(mine)
        waiting[0].set()
    try:
        if not mine.wait(WAIT_SECONDS):
            raise DecoderBusy
        yield
    finally:
        with lock:
            waiting.remove(mine)
            if waiting:
                waiting[0].set()


@dataclass(frozen=True)
class Rendition:
    """A picture as it is shown: re-encoded, without metadata, and perhaps scaled down."""

    format: str  # JPEG, PNG, GIF or WEBP
    width: int
    height: int
    is_reduced: bool  # whether the sent picture has more pixels, or is animated and this one is not


@dataclass
class Picture:
    """The result of decoding an uploaded picture. Its files are temporary, and deleted when they are closed."""

    format: str  # of the file that was sent
    original: IO[bytes]  # the same file, without metadata
    full: IO[bytes]
    thumbnail: IO[bytes]  # WebP
    rendition: Rendition | None  # None: it is broken or takes too much to decode, and the other two files are of no use


def process_portrait(file: IO[bytes]) -> IO[bytes] | None:
    """A square of PORTRAIT_SIDE pixels from the middle of the picture in a file, as WebP, in a temporary file.

    None if it is no picture, or one that cannot be decoded. Raises as `process_picture` does.
    """
    picture = process_picture(file, "portrait")
    return picture.full if picture and picture.rendition else None


def process_picture(file: IO[bytes], what: str = "picture") -> Picture | None:
    """Decode the picture in a file, or return None for a file that is not a picture.

    Waits WAIT_SECONDS at most for other pictures, then decodes for MAX_SECONDS at most. Raises DecoderBusy if its turn
    does not come in that time, or if not even the metadata is removed, which may say where the picture was taken;
    OSError if there is no room for temporary files.
    """
    sent_format = file_format(file.read(12))
    file.seek(0)
    if sent_format is None:
        return None
    with turn(), ExitStack() as failed, TemporaryFile() as source:
        while part := file.read(64 * 1024):
            source.write(part)
        file.seek(0)
        source.seek(0)
        original, full, thumbnail = (failed.enter_context(TemporaryFile()) for _ in range(3))
        lines = _run(what, source, [original, full, thumbnail])
        failed.pop_all()
    picture = Picture(sent_format, original, full, thumbnail, None)
    if not lines:
        raise DecoderBusy
    if lines == [NO_PICTURE]:
        return None
    if len(lines) == 2:
        picture.rendition = Rendition(**json.loads(lines[1]))
    return picture


def _run(what: str, source: IO[bytes], targets: list[IO[bytes]]) -> list[bytes]:
    """Run decoder.py, kill it after MAX_SECONDS, and return the lines that it has printed."""
    descriptors = [target.fileno() for target in targets]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "conversations.pictures.decoder", what, *map(str, descriptors)],
        stdin=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        cwd=ROOT,
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        start_new_session=True,  # Ctrl-C lets requests finish
    )
    try:
        output, errors = process.communicate(timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
    if process.returncode == NO_ROOM:
        raise OSError(errno.ENOSPC, "There is no room for temporary files")
    if process.returncode:
        reason = errors.decode(errors="replace").strip()[-200:]
        logger.info("A picture could not be decoded (exit status %s): %s", process.returncode, reason)
    for target in targets:
        target.seek(0)
    return output.splitlines()

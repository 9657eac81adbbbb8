"""Remove the metadata of JPEG, PNG, GIF and WebP files without re-encoding the picture.

It keeps what decoders need to show the picture: its data, how often it repeats, its colour profile (of at most
MAX_PROFILE bytes), and the EXIF orientation, in an EXIF block with nothing else. All other blocks (EXIF with
GPS and camera, XMP, IPTC, comments, thumbnails, extensions of applications) are dropped, as is all that follows the end
of the picture (previews and videos that phones append, archives).
"""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from mmap import mmap
from typing import IO

from PIL import Image

from conversations.pictures import MAX_PROFILE, file_format

Data = bytes | mmap

ORIENTATION = 0x0112


def strip_metadata(data: Data, out: IO[bytes]) -> tuple[str, int]:
    """Write the picture without its metadata to `out`, an empty file; return its format and number of frames.

    A truncated picture stays truncated. Raises ValueError for a file that is not a picture.
    """
    name = file_format(data[:12])
    if name is None:
        raise ValueError("This is no picture.")
    frames = 0
    for frame_count, block in BLOCKS[name](data):
        frames += frame_count
        out.write(block)
    if name == "WEBP":
        _repair_webp(out)
    if not frames:
        raise ValueError("There is no picture in it.")
    return name, frames


Blocks = Iterator[tuple[int, bytes]]
"""Blocks of the stripped file, each with the number of frames that begin with it."""


def _orientation(exif: bytes) -> bytes:
    """EXIF with nothing but the orientation of this one; empty if the picture is upright or the EXIF is broken."""
    minimal = Image.Exif()
    with suppress(Exception):  # Pillow raises exceptions of many types for broken EXIF
        found = Image.Exif()
        found.load(exif)
        if found.get(ORIENTATION) in range(2, 9):
            minimal[ORIENTATION] = found[ORIENTATION]
    return minimal.tobytes() if minimal else b""


# JPEG: segments (https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B) -----------------------------------------------

MARKER = re.compile(rb"\xff[^\x00\xff]")
MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
APP0, APP1, APP2, APP14, APP15, COM, SOS, EOI = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE, 0xDA, 0xD9


def _jpeg(data: Data) -> Blocks:
    yield 1, data[:2]
    at, profile = 2, bytearray()
    while marker := MARKER.search(data, at):  # decoders skip data between segments
        at, kind = marker.end() - 2, data[marker.end() - 1]
        end = at + 2 + (int.from_bytes(data[at + 2 : at + 4]) if kind != EOI else 0)
        segment = data[at:end]
        if kind == APP2 and segment[4:].startswith(b"ICC_PROFILE\x00"):
            profile += segment if len(profile) <= MAX_PROFILE else b""
        elif APP0 <= kind <= APP15 or kind == COM:
            yield 0, _application_data(kind, segment[4:])
        else:
            yield 0, bytes(profile) if len(profile) <= MAX_PROFILE else b""
            yield 0, segment
            profile.clear()
        if kind == EOI:
            return
        at = end
        if kind == SOS:
            after = MARKER_AFTER_SCAN.search(data, at)
            end = after.start() if after else len(data)
            yield 0, data[at:end]
            at = end


def _application_data(kind: int, body: bytes) -> bytes:
    """The part of this segment that is kept; empty for most."""
    if kind == APP0 and body.startswith(b"JFIF\x00"):
        kept = body[:12] + b"\x00\x00"  # without its thumbnail
    elif kind == APP1 and body.startswith(b"Exif\x00\x00"):
        kept = _orientation(body)
    elif kind == APP14 and body.startswith(b"Adobe"):
        kept = body[:12]  # how its colours are encoded
    else:
        kept = b""
    return struct.pack(">BBH", 0xFF, kind, len(kept) + 2) + kept if kept else b""


# PNG: chunks (https://www.w3.org/TR/png-3/) ---------------------------------------------------------------------------

PNG_CHUNKS = frozenset(b"IHDR PLTE IDAT IEND tRNS cHRM gAMA sBIT sRGB cICP mDCV cLLI bKGD pHYs acTL fcTL fdAT".split())


def _png(data: Data) -> Blocks:
    yield 0, data[:8]
    at, frames = 8, 0
    while header := data[at : at + 8]:
        end = at + 12 + int.from_bytes(header[:4])
        kind, size = header[4:], end - at
        if kind in PNG_CHUNKS:
            # A frame begins with a control chunk, except a still picture, which may come before an animation.
            is_frame = kind == b"fcTL" or (kind == b"IDAT" and not frames)
            frames += is_frame
            yield int(is_frame), data[at:end]
        elif kind == b"iCCP" and size <= MAX_PROFILE and _is_png_profile(data[at + 8 : end - 4]):
            yield 0, data[at:end]
        elif kind == b"eXIf" and (exif := _orientation(data[at + 8 : end - 4]).removeprefix(b"Exif\x00\x00")):
            yield 0, struct.pack(">I", len(exif)) + kind + exif + struct.pack(">I", zlib.crc32(kind + exif))
        at = end
        if kind == b"IEND":
            return


def _is_png_profile(body: bytes) -> bool:
    """Whether a compressed profile is whole and not too large; a small chunk may hold gigabytes."""
    decompressor = zlib.decompressobj()
    with suppress(zlib.error):
        decompressor.decompress(body.partition(b"\x00")[2][1:], MAX_PROFILE)
    return decompressor.eof


# GIF: blocks (https://www.w3.org/Graphics/GIF/spec-gif89a.txt) --------------------------------------------------------

LOOPS = (b"\x21\xff\x0bNETSCAPE2.0\x03\x01", b"\x21\xff\x0bANIMEXTS1.0\x03\x01")
"""The beginnings of an extension that says how often an animation repeats, and nothing else."""

EXTENSION, IMAGE, TRAILER, GRAPHIC_CONTROL = 0x21, 0x2C, 0x3B, 0xF9


def _gif(data: Data) -> Blocks:
    at = 13 + _colour_table(data[10])
    yield 0, data[:at]
    with suppress(IndexError):  # it is truncated
        while (kind := data[at]) != TRAILER:
            start = at
            if kind not in {EXTENSION, IMAGE}:
                at += 1  # decoders skip data between blocks
            elif kind == EXTENSION:
                at = _end_of_blocks(data, start + 2)
                if data[start + 1] == GRAPHIC_CONTROL or (data[start : start + 16] in LOOPS and at == start + 19):
                    yield 0, data[start:at]
            else:
                at = _end_of_blocks(data, start + 11 + _colour_table(data[start + 9]))
                yield 1, data[start:at]
    yield 0, bytes([TRAILER])


def _colour_table(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0


def _end_of_blocks(data: Data, at: int) -> int:
    """Where the sub-blocks that begin here end."""
    while size := data[at]:
        at += size + 1
    return at + 1


# WebP: chunks (https://www.rfc-editor.org/rfc/rfc9649) ----------------------------------------------------------------

WEBP_CHUNKS = frozenset([b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM"])
WEBP_FRAME_CHUNKS = frozenset([b"VP8 ", b"VP8L", b"ALPH"])
ICC_FLAG, EXIF_FLAG, XMP_FLAG = 0x20, 0x08, 0x04


def _webp(data: Data) -> Blocks:
    yield 0, data[:12]
    for kind, body in _chunks(data[12 : 8 + int.from_bytes(data[4:8], "little")]):
        if kind in WEBP_CHUNKS:
            yield int(kind in {b"VP8 ", b"VP8L"}), _chunk(kind, body)
        elif kind == b"ANMF":
            frame = b"".join(_chunk(*part) for part in _chunks(body[16:]) if part[0] in WEBP_FRAME_CHUNKS)
            yield 1, _chunk(kind, body[:16] + frame)
        elif kind == b"ICCP" and len(body) <= MAX_PROFILE:
            yield 0, _chunk(kind, body)
        elif kind == b"EXIF" and (exif := _orientation(body).removeprefix(b"Exif\x00\x00")):
            yield 0, _chunk(kind, exif)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while header := data[at : at + 8]:
        size = int.from_bytes(header[4:], "little")
        yield header[:4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\x00" * (len(body) % 2)


def _repair_webp(out: IO[bytes]) -> None:
    """Write the size of the whole and the flags of the chunks that are left."""
    size = out.tell()
    out.seek(0)
    head = out.read(12)
    kinds = {kind for kind, _ in _chunks(out.read())}
    out.seek(0)
    out.write(head[:4] + struct.pack("<I", size - 8) + head[8:])
    out.seek(12)
    if out.read(4) == b"VP8X":
        out.seek(20)
        flags = out.read(1)[0] & ~(ICC_FLAG | EXIF_FLAG | XMP_FLAG)
        flags |= ICC_FLAG * (b"ICCP" in kinds) | EXIF_FLAG * (b"EXIF" in kinds)
        out.seek(20)
        out.write(bytes([flags]))
    out.seek(0, 2)


BLOCKS = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "WEBP": _webp}

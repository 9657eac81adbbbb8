"""Pictures: what is removed from them, how they are shown, and what mallory sends to keep the server busy."""

import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from struct import pack
from typing import IO, Any
from unittest import mock

import pytest
from PIL import Image, ImageCms, ImageSequence, PngImagePlugin

from conversations.pictures import MAX_FRAMES, MAX_GROWTH, MAX_GROWTH_BYTES, MAX_PROFILE, process
from conversations.pictures.metadata import strip_metadata
from conversations.pictures.process import DecoderBusy, Picture, process_picture
from tests.conftest import ROOT

ORIENTATION = 0x0112
SECRET = b"52.5163 N 13.3777 E"


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The bytes of a picture."""
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def decoded(content: bytes) -> Picture:
    """The picture in a file that begins like one."""
    picture = process_picture(BytesIO(content))
    assert picture is not None
    return picture


def shown(content: bytes) -> Any:
    """A picture as it is shown."""
    return Image.open(decoded(content).full)


def stripped(content: bytes) -> bytes:
    """A file without its metadata."""
    out = BytesIO()
    strip_metadata(content, out)
    return out.getvalue()


def frames(colours: str = "red green blue", size: tuple[int, int] = (30, 20)) -> list[Image.Image]:
    """The frames of an animation."""
    return [Image.new("RGB", size, colour) for colour in colours.split()]


def animation(file_format: str, images: list[Image.Image] | None = None, **options: Any) -> bytes:
    """An animation that repeats three times, with 100, 200 and 300 milliseconds for its frames."""
    first, *rest = images or frames()
    options = {"duration": [100, 200, 300], "loop": 3, "lossless": True, **options}
    return encode(first, file_format, save_all=True, append_images=rest, **options)


def gif_of_tiny_frames(count: int) -> bytes:
    """A GIF of one pixel with so many frames of 23 bytes."""
    frame = b"\x21\xf9\x04\x00\x01\x00\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00"
    return b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff" + frame * count + b";"


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a WebP file."""
    return kind + pack("<I", len(content)) + content + b"\x00" * (len(content) % 2)


# Metadata ------------------------------------------------------------------------------------------------------------


def exif() -> Image.Exif:
    """EXIF of a camera that was held sideways."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = SECRET.decode()
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    return exif


def jpeg_with_metadata() -> bytes:
    """A JPEG with EXIF, XMP, IPTC, a comment, a thumbnail and a ZIP file behind it."""
    content = encode(
        Image.effect_noise((40, 20), 50), "JPEG", exif=exif(), comment=SECRET, xmp=SECRET, progressive=True
    )
    iptc, jfxx = (pack(">HH", kind, len(SECRET) + 7) + b"JFXX\x00" + SECRET for kind in (0xFFED, 0xFFE0))
    return content[:2] + iptc + jfxx + content[2:] + b"PK\x03\x04" + SECRET


def png_with_metadata() -> bytes:
    """A PNG with EXIF, three kinds of text, a time, a private chunk and something behind it."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Place", SECRET.decode())
    text.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    text.add(b"prVt", SECRET)
    text.add(b"tIME", SECRET[:7])
    content = encode(Image.effect_noise((40, 20), 50), "PNG", exif=exif(), pnginfo=text)
    return content + SECRET


def webp_with_metadata() -> bytes:
    """A WebP file with EXIF, XMP, an unknown chunk and something behind it."""
    content = encode(Image.effect_noise((40, 20), 50), "WEBP", exif=exif(), xmp=SECRET) + webp_chunk(b"prVt", SECRET)
    return content[:4] + pack("<I", len(content) - 8) + content[8:] + SECRET


def gif_with_metadata() -> bytes:
    """A GIF with a comment, XMP and something behind it."""
    content = encode(Image.effect_noise((40, 20), 50), "GIF", comment=SECRET)
    xmp = b"\x21\xff\x0bXMP DataXMP" + bytes([len(SECRET)]) + SECRET + b"\x00"
    return content[:-1] + xmp + b";" + SECRET


METADATA = [jpeg_with_metadata, png_with_metadata, webp_with_metadata, gif_with_metadata]


@pytest.mark.parametrize("make", METADATA)
def test_metadata_is_removed_and_no_pixel_changes(make: Callable[[], bytes]) -> None:
    content = make()
    assert SECRET[:7] in content
    clean = stripped(content)
    assert SECRET[:7] not in clean
    before, after = Image.open(BytesIO(content)), Image.open(BytesIO(clean))
    assert before.tobytes() == after.tobytes()
    is_gif = after.format == "GIF"
    assert dict(after.getexif()) == ({} if is_gif else {ORIENTATION: 6})
    assert not {"xmp", "comment", "photoshop", "XML:com.adobe.xmp", "Place"} & set(after.info)
    assert stripped(clean) == clean


@pytest.mark.parametrize("make", METADATA)
def test_a_truncated_picture_loses_its_metadata_too(make: Callable[[], bytes]) -> None:
    whole = make()
    for end in range(20, len(whole), 97):
        out = BytesIO()
        try:
            strip_metadata(whole[:end], out)
        except (ValueError, IndexError):
            continue
        assert SECRET not in out.getvalue()


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_stripped_frame_by_frame(file_format: str) -> None:
    content = animation(file_format)
    if file_format == "WEBP":
        at = content.index(b"ANMF")
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        private = webp_chunk(b"prVt", SECRET)
        frame = webp_chunk(b"ANMF", content[at + 8 : at + 8 + size] + private)
        content = content[:at] + frame + content[at + 8 + size + size % 2 :]
        content = content[:4] + pack("<I", len(content) - 8) + content[8:]
    clean = stripped(content)
    assert SECRET not in clean
    assert Image.open(BytesIO(clean)).n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [jpeg_with_metadata, gif_with_metadata])
def test_data_between_blocks_is_removed(make: Callable[[], bytes]) -> None:
    clean = stripped(make())
    at = 20 if clean.startswith(b"\xff\xd8") else 13 + 3 * 256  # after the first segment, and the colour table
    assert stripped(clean[:at] + b"\x01\x02" + clean[at:]) == clean


# How pictures are shown ----------------------------------------------------------------------------------------------


def profile(swapped: bool = True) -> bytes:
    """A colour profile that calls sRGB's green red, and its red green."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_colours_are_converted_to_srgb_and_the_profile_is_dropped(file_format: str, mode: str) -> None:
    mode = "RGB" if file_format == "JPEG" else mode
    colour = (255, 0, 0, 100)[: len(mode)]
    picture = decoded(encode(Image.new(mode, (8, 8), colour), file_format, icc_profile=profile()))
    for file in (picture.full, picture.thumbnail):
        image = Image.open(file)
        assert "icc_profile" not in image.info
        red, green, blue, *alpha = image.convert(mode).getpixel((4, 4))  # type: ignore[misc]
        assert green > 200
        assert max(red, blue) < 60
        assert not alpha or abs(alpha[0] - 100) < 4


@pytest.mark.parametrize("broken", [b"<script>alert(1)</script>", b"<script>" * MAX_PROFILE, profile()[:300]])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_broken_or_huge_profile_is_ignored(file_format: str, broken: bytes) -> None:
    if file_format == "JPEG":
        broken = broken[:9_000_000]  # a JPEG has no room for more
    picture = decoded(encode(Image.new("RGB", (8, 8), "red"), file_format, icc_profile=broken))
    for file in (picture.full, picture.thumbnail):
        content = file.read()
        assert len(content) < 1000
        assert b"script" not in content
        assert Image.open(BytesIO(content)).convert("RGB").getpixel((4, 4))[0] > 240  # type: ignore[index]
    if len(broken) > MAX_PROFILE:
        assert len(picture.original.read()) < 1000


def test_a_compressed_profile_of_gigabytes_is_not_decompressed() -> None:
    png = encode(Image.new("RGB", (8, 8), "red"), "PNG")
    bomb = png_chunk(b"iCCP", b"x\x00\x00" + zlib.compress(bytes(300_000_000), 9))
    assert Image.open(BytesIO(stripped(png[:33] + bomb + png[33:]))).info == {}


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 128, (128, 128, 128)),
        ("LA", (128, 100), (128, 128, 128, 100)),
        ("I;16", 128 * 257, (128, 128, 128)),
        ("I;16", 0xFFFF, (255, 255, 255)),
        ("RGB", (255, 0, 0), (255, 0, 0)),
        ("RGBA", (255, 0, 0, 100), (255, 0, 0, 100)),
        ("CMYK", (0, 255, 255, 0), (254, 0, 0)),
    ],
)
def test_all_colour_modes_keep_their_colours(mode: str, colour: Any, expected: tuple[int, ...]) -> None:
    content = encode(Image.new(mode, (8, 8), colour), "JPEG" if mode == "CMYK" else "PNG")
    assert shown(content).getpixel((4, 4)) == pytest.approx(expected, abs=2)


def test_the_transparent_colour_of_a_palette_stays_transparent() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 0)
    image = shown(encode(image, "PNG", transparency=0))
    assert image.getpixel((0, 0))[3] == 0
    assert image.getpixel((4, 4)) == (255, 0, 0, 255)


def test_16_bit_grey_with_a_transparent_value_is_shown() -> None:
    png = encode(Image.new("I;16", (8, 8), 128 * 257), "PNG")
    image = shown(png[:33] + png_chunk(b"tRNS", b"\x12\x34") + png[33:])
    assert image.getpixel((4, 4)) == pytest.approx((128, 128, 128), abs=2)


@pytest.mark.parametrize("size", [(1080, 12_000), (12_000, 1080), (4032, 3024)])
def test_a_tall_screenshot_and_a_photo_of_12_megapixels_are_not_scaled(size: tuple[int, int]) -> None:
    picture = decoded(encode(Image.new("L", size), "JPEG"))
    assert picture.rendition is not None
    assert not picture.rendition.is_reduced
    assert Image.open(picture.full).size == size
    assert max(Image.open(picture.thumbnail).size) == 480


@pytest.mark.parametrize(
    ("size", "expected"),
    [((5600, 4200), (4163, 3122)), ((8000, 6000), (4000, 3000)), ((16_320, 12_240), (4080, 3060))],
)
def test_a_photo_of_more_megapixels_is_scaled_down_and_the_original_is_kept(
    size: tuple[int, int], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    picture = decoded(encode(Image.new("L", size), "JPEG", exif=exif()))
    assert picture.rendition is not None
    assert picture.rendition.is_reduced
    assert (picture.rendition.height, picture.rendition.width) == expected  # it was held sideways
    assert Image.open(picture.full).size == expected[::-1]
    original = picture.original.read()
    assert SECRET not in original
    image = Image.open(BytesIO(original))
    assert image.size == size
    assert dict(image.getexif()) == {ORIENTATION: 6}


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_animations_stay_animated(file_format: str) -> None:
    picture = decoded(animation(file_format))
    assert picture.rendition is not None
    assert (picture.rendition.format, picture.rendition.is_reduced) == (file_format, False)
    image = Image.open(picture.full)
    found = [
        (frame.convert("RGB").getpixel((15, 10)), frame.info["duration"])
        for frame in ImageSequence.Iterator(image)
        if frame.load()
    ]
    assert [duration for _, duration in found] == [100, 200, 300]
    colours = [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert [colour for colour, _ in found] == [pytest.approx(colour, abs=6) for colour in colours]
    assert image.info["loop"] == 3
    assert Image.open(picture.thumbnail).size == (30, 20)


def test_an_animation_with_another_picture_for_old_browsers_stays_animated() -> None:
    picture = decoded(animation("PNG", [Image.new("RGB", (30, 20)), *frames()], default_image=True))
    image = Image.open(picture.full)
    found = [frame.convert("RGB").getpixel((15, 10)) for frame in ImageSequence.Iterator(image)]
    assert found[-3:] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


@pytest.mark.parametrize(
    "content",
    [
        gif_of_tiny_frames(MAX_FRAMES + 1),
        animation("WEBP", frames("red green blue white", (3500, 3500)), duration=100),
    ],
    ids=["too many frames", "too many pixels"],
)
def test_a_too_large_animation_is_shown_as_a_still_and_its_original_is_kept(content: bytes) -> None:
    picture = decoded(content)
    assert picture.rendition is not None
    assert picture.rendition.is_reduced
    assert getattr(Image.open(picture.full), "n_frames", 1) == 1
    assert picture.original.read() == content


# What mallory sends --------------------------------------------------------------------------------------------------


def test_a_gif_of_60000_frames_is_a_still_picture() -> None:
    picture = decoded(gif_of_tiny_frames(60_000))
    assert picture.rendition is not None
    assert picture.rendition.format == "PNG"


@pytest.mark.parametrize(
    ("file_format", "size"), [("WEBP", (6300, 6300)), ("PNG", (5100, 5000)), ("WEBP", (5000, 4900))]
)
def test_a_picture_that_takes_too_much_memory_is_not_decoded(file_format: str, size: tuple[int, int]) -> None:
    image = Image.new("L", size)
    content = encode(image, file_format, lossless=True)
    picture = decoded(content)
    assert picture.rendition is None
    assert picture.original.read() == content


def test_an_animation_that_grows_too_much_when_it_is_reencoded_is_not_shown() -> None:
    side, count = 300, 100
    noise = random.Random(1).randbytes(side * side * 4)
    clear = bytes(side * side * 4 - 8)  # all but two corners, so the noise stays
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    content += png_chunk(b"acTL", pack(">II", count, 0))
    for number in range(count):
        pixels = noise if number == 0 else bytes([number, 0, 0, 255]) + clear + bytes([number, 0, 0, 255])
        rows = b"".join(b"\0" + pixels[at : at + side * 4] for at in range(0, len(pixels), side * 4))
        control = pack(">IIIIIHHBB", max(0, 2 * number - 1), side, side, 0, 0, 1, 10, 0, 1)
        kind, sequence = (b"fdAT", pack(">I", 2 * number)) if number else (b"IDAT", b"")
        content += png_chunk(b"fcTL", control) + png_chunk(kind, sequence + zlib.compress(rows))
    content += png_chunk(b"IEND", b"")
    picture = decoded(content)
    assert picture.rendition is None
    assert len(picture.full.read()) <= MAX_GROWTH * len(content) + MAX_GROWTH_BYTES
    assert picture.original.read() == content


def test_a_decoder_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_SECONDS", 0)
    with pytest.raises(DecoderBusy):  # its metadata is still in it
        process_picture(BytesIO(gif_of_tiny_frames(1)))
    monkeypatch.undo()
    assert decoded(gif_of_tiny_frames(1)).rendition is not None


@pytest.mark.parametrize(
    ("limit", "loop", "by"),
    [("MAX_SECONDS = 0.1", "import time; time.sleep(60)", signal.SIGALRM), ("MAX_CPU_SECONDS = 1", "", signal.SIGKILL)],
)
def test_a_decoder_without_a_parent_ends_by_itself(limit: str, loop: str, by: signal.Signals) -> None:
    code = (
        f"from conversations.pictures import decoder as d; d.{limit}; d.limit_process()\n{loop or 'while True: pass'}"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert -ended.returncode in {by, signal.SIGXCPU}


def test_the_decoder_gets_no_secrets_and_does_not_know_django(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "secret")
    with mock.patch("subprocess.Popen", wraps=subprocess.Popen) as popen:
        assert decoded(gif_of_tiny_frames(1)).rendition is not None
    assert "SECRET_KEY" not in popen.call_args.kwargs["env"]
    code = "import sys, conversations.pictures.decoder; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_upload_does_not_wait_long_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WAIT_SECONDS", 0)
    with process.turn(), pytest.raises(DecoderBusy):
        process_picture(BytesIO(gif_of_tiny_frames(1)))
    assert decoded(gif_of_tiny_frames(1)).rendition is not None


def test_pictures_are_decoded_in_the_order_in_which_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def run(what: str, source: IO[bytes], targets: list[IO[bytes]]) -> list[bytes]:
        order.append(threading.current_thread().name)
        while len(order) == 1 and len(process.waiting) < 2:
            time.sleep(0.001)
        return [process.NO_PICTURE]

    def send(pictures: int) -> None:
        for _ in range(pictures):
            process_picture(BytesIO(gif_of_tiny_frames(1)))

    monkeypatch.setattr(process, "_run", run)
    mallory = threading.Thread(target=send, args=[5], name="mallory")
    alice = threading.Thread(target=send, args=[1], name="alice")
    mallory.start()
    while not order:
        time.sleep(0.001)
    alice.start()
    mallory.join()
    alice.join()
    assert order == ["mallory", "alice", *["mallory"] * 4]


def test_a_file_of_markers_alone_is_read_in_linear_time() -> None:
    before = time.process_time()
    assert stripped(b"\xff\xd8" + b"\xff" * 1_000_000) == b"\xff\xd8"
    assert time.process_time() - before < 1  # 1 ms on the machine where this was written


def test_what_only_begins_like_a_picture_is_kept_as_it_is() -> None:
    for content in (b"GIF89a", b"GIF89a = 1; // a script", b"\x89PNG\r\n\x1a\n", b"RIFF....WEBP"):
        assert process_picture(BytesIO(content)) is None

"""`python -m conversations.pictures.decoder WHAT ORIGINAL FULL THUMBNAIL`: decode one picture; started by process.py.

WHAT is `picture`; `portrait` writes a square from its middle instead of the picture as it is shown, and no thumbnail.

Reads a file from standard input and writes to three others, each given by its file descriptor: the same file without
metadata, the picture as it is shown, and its thumbnail. Prints JSON, a line each: `{}` once the first is complete, the
fields of Rendition once the others are; or only `null` if it is no picture. If anything else fails or takes too much,
the process ends without them; with the exit status NO_ROOM if the disk is full.
"""

import errno
import json
import math
import mmap
import os
import signal
import sys
import warnings
from contextlib import suppress
from io import BytesIO
from typing import IO, Any

from PIL import Image, ImageCms, ImageOps

from conversations.pictures import (
    MAX_ANIMATION_PIXELS,
    MAX_CPU_SECONDS,
    MAX_DECODED_PIXELS,
    MAX_FRAMES,
    MAX_GROWTH,
    MAX_GROWTH_BYTES,
    MAX_MEMORY,
    MAX_PIXELS,
    MAX_SECONDS,
    NO_ROOM,
    PORTRAIT_SIDE,
    THUMBNAIL_SIDE,
)
from conversations.pictures.metadata import strip_metadata

PORTRAIT = "portrait"

WAYS_TO_SAVE: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 85},
    "PNG": {"compress_level": 3},  # twice as fast as the default, and a tenth larger at most
    "GIF": {},
    "WEBP": {"quality": 85, "method": 2},
}


def limit_process() -> None:
    """Bound time, memory and files, so that the process ends even if the one that started it was killed."""
    warnings.simplefilter("ignore")  # Pillow warns of broken files
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    with suppress(ImportError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
        most = os.fstat(sys.stdin.fileno()).st_size * MAX_GROWTH + MAX_GROWTH_BYTES
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        with suppress(ValueError, OSError):  # macOS does not bound memory
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def main(what: str, original: IO[bytes], full: IO[bytes], thumbnail: IO[bytes]) -> None:
    """Decode the picture in standard input. Raises ValueError, MemoryError or Pillow's exceptions if it cannot."""
    with mmap.mmap(sys.stdin.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            name, frames = strip_metadata(data, original)
        except (ValueError, IndexError):
            print("null", flush=True)
            return
    original.flush()
    print("{}", flush=True)
    original.seek(0)
    if what == PORTRAIT:
        rendition = render_portrait(name, original, full)
    else:
        rendition = render(name, frames, original, full, thumbnail)
    full.flush()
    thumbnail.flush()
    print(json.dumps(rendition), flush=True)


def render(name: str, frames: int, file: IO[bytes], full: IO[bytes], thumbnail: IO[bytes]) -> dict[str, Any]:
    """Re-encode a picture of this format and its thumbnail; return the fields of Rendition."""
    image, width, height = open_image(name, file)
    pixels = width * height
    is_animated = 1 < frames <= MAX_FRAMES and frames * pixels <= MAX_ANIMATION_PIXELS and pixels <= MAX_PIXELS
    if is_animated:
        save_animation(image, full)
        image.seek(0)
    elif name == "GIF":
        name = "PNG"
    still = upright_rgb(image, MAX_PIXELS)
    del image
    if not is_animated:
        still.save(full, name, **WAYS_TO_SAVE[name])
        width, height = still.size
    is_reduced = width * height < pixels or (frames > 1 and not is_animated)
    still.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    still.save(thumbnail, "WEBP", **WAYS_TO_SAVE["WEBP"])
    return {"format": name, "width": width, "height": height, "is_reduced": is_reduced}


def render_portrait(name: str, file: IO[bytes], full: IO[bytes]) -> dict[str, Any]:
    """Write the middle of a picture as a square in WebP, on white where it is transparent; return as `render` does."""
    image, _width, _height = open_image(name, file)
    still = ImageOps.fit(upright_rgb(image, MAX_PIXELS), (PORTRAIT_SIDE, PORTRAIT_SIDE))
    if still.mode == "RGBA":
        white = Image.new("RGB", still.size, "white")
        white.paste(still, mask=still.getchannel("A"))
        still = white
    still.save(full, "WEBP", **WAYS_TO_SAVE["WEBP"])
    return {"format": "WEBP", "width": PORTRAIT_SIDE, "height": PORTRAIT_SIDE, "is_reduced": True}


def open_image(name: str, file: IO[bytes]) -> tuple[Any, int, int]:
    """Open a picture of this format; return it with its width and height. Raises ValueError if it has too many pixels.

    A JPEG may have more, and is opened at a fraction of its size.
    """
    warnings.simplefilter("error", Image.DecompressionBombWarning)  # else it may have twice as many pixels
    Image.MAX_IMAGE_PIXELS = None if name == "JPEG" else MAX_DECODED_PIXELS
    image: Any = Image.open(file, formats=[name])
    width, height = image.size
    if name == "JPEG":
        fraction = next((part for part in (1, 2, 4) if width * height <= MAX_DECODED_PIXELS * part**2), 8)
        image.draft(None, (-(-width // fraction), -(-height // fraction)))
        if image.width * image.height > MAX_DECODED_PIXELS:
            raise ValueError("It has too many pixels.")
    return image, width, height


def save_animation(image: Any, full: IO[bytes]) -> None:
    """Re-encode all frames of an animation."""
    options = WAYS_TO_SAVE[image.format]
    if image.format == "WEBP":  # Pillow takes the time of each frame from a list, and not from the frames
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            image.load()
            durations.append(image.info["duration"])
        options = {**options, "duration": durations, "loop": image.info["loop"], "method": 0}
    image.info.pop("icc_profile", None)
    image.info.pop("default_image", None)  # else Pillow saves this one, and not the animation
    image.save(full, image.format, save_all=True, **options)


def upright_rgb(image: Any, max_pixels: int) -> Any:
    """The picture as RGB or RGBA in the sRGB colour space, upright, of at most so many pixels, without metadata."""
    image.load()
    profile, orientation = image.info.get("icc_profile"), image.getexif()
    image = image._new(image.im)  # noqa: SLF001 (without what decoded it, which is as large for WebP)
    if image.mode.startswith(("I", "F")):  # 16 bits of grey, which Pillow would clip at 255
        image.info.pop("transparency", None)
        image = image.point(lambda value: value / 256).convert("L")
    if image.mode not in {"RGB", "RGBA", "L", "CMYK"} or "transparency" in image.info:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    scale = math.sqrt(max_pixels / (image.width * image.height))
    if scale < 1:
        image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))), reducing_gap=2)
    image = to_srgb(image, profile)
    image.info = {"exif": orientation.tobytes()} if orientation else {}
    ImageOps.exif_transpose(image, in_place=True)
    image.info = {}
    return image


def to_srgb(image: Any, profile: bytes | None) -> Any:
    """The picture with its colours converted by its profile, which is ignored if it is broken."""
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, ValueError):
            source, target = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
            in_place = image.mode == mode
            converted = ImageCms.profileToProfile(image, source, target, outputMode=mode, inPlace=in_place)
            return image if converted is None else converted
    return image if image.mode == mode else image.convert(mode)


if __name__ == "__main__":
    limit_process()
    try:
        main(sys.argv[1], *(os.fdopen(int(descriptor), "w+b") for descriptor in sys.argv[2:]))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(NO_ROOM)
        sys.exit(f"{type(error).__name__}: {error}")

"""Re-encode pictures: recognised by their content, without metadata, scaled down, with a thumbnail."""

from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import IO, Any

from django.utils.translation import gettext as _
from PIL import Image, ImageOps

MAX_PIXELS = 40_000_000
"""Pixels of the largest picture that is decoded. The file's header tells them before any of them is in memory."""

MAX_SIDE = 2560
"""Pixels of the longer side of a picture that is stored; larger pictures are scaled down."""

THUMBNAIL_SIDE = 480
"""Pixels of the longer side of a thumbnail."""

CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
EXTENSIONS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "GIF": (".gif",), "WEBP": (".webp",)}

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow itself refuses twice as many, wherever in a file they are announced

decoder_lock = Lock()  # pictures are decoded one after the other, which bounds the memory


@dataclass(frozen=True)
class Picture:
    """A re-encoded picture."""

    format: str  # a key of CONTENT_TYPES
    full: bytes
    thumbnail: bytes  # WebP
    width: int
    height: int

    def file_name(self, name: str) -> str:
        """The name, with an extension of the picture's format."""
        return name if name.lower().endswith(EXTENSIONS[self.format]) else name + EXTENSIONS[self.format][0]


def read_picture(file: IO[bytes]) -> Picture | None:
    """The picture in a file, upright and without EXIF, or None if the file is no picture or is broken.

    GIFs stay animated unless they are too large; of other animations the first frame is kept. Raises ValueError with a
    sentence for a picture of more than MAX_PIXELS.
    """
    with decoder_lock:
        try:
            return _decode(file)
        except Image.DecompressionBombError as error:
            sentence = _("A picture has more than %(most)s megapixels. Please make it smaller.")
            raise ValueError(sentence % {"most": MAX_PIXELS // 1_000_000}) from error
        except Exception:  # Pillow raises exceptions of many types for files that are no pictures
            return None


def _decode(file: IO[bytes]) -> Picture:
    image: Any = Image.open(file, formats=tuple(CONTENT_TYPES))
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise Image.DecompressionBombError
    file_format = "JPEG" if image.format == "MPO" else image.format  # several JPEGs in one file, from phones
    if file_format == "GIF":
        if image.n_frames > 1 and image.n_frames * pixels <= MAX_PIXELS and max(image.size) <= MAX_SIDE:
            return _animation(image)
        file_format = "PNG"
    still = _still(image)
    full = _encode(still, file_format, still.info.get("icc_profile"))
    return Picture(file_format, full, _thumbnail(still), still.width, still.height)


def _animation(image: Any) -> Picture:
    image.info.pop("comment", None)
    full = BytesIO()
    image.save(full, "GIF", save_all=True)
    image.seek(0)
    return Picture("GIF", full.getvalue(), _thumbnail(_still(image)), image.width, image.height)


def _still(image: Any) -> Any:
    """The picture upright and no larger than MAX_SIDE, without metadata except its colour profile."""
    image.draft(None, (MAX_SIDE, MAX_SIDE))  # decodes a large JPEG at a fraction of its size
    profile = image.info.get("icc_profile") if image.mode in {"RGB", "RGBA"} else None
    image = ImageOps.exif_transpose(image)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    image.info = {"icc_profile": profile}
    return image


def _thumbnail(image: Any) -> bytes:
    thumbnail = image.copy()
    thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return _encode(thumbnail, "WEBP", image.info.get("icc_profile"))


def _encode(image: Any, file_format: str, profile: bytes | None) -> bytes:
    file = BytesIO()
    image.save(file, file_format, quality=85, icc_profile=profile)
    return file.getvalue()

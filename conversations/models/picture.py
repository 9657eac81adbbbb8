"""Pictures as they are kept: told by what is in them, written anew without what cameras add, and not too large."""

from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import IO, Any

from django.utils.translation import gettext as _
from PIL import Image, ImageOps

MOST_PIXELS = 40_000_000
"""Of a picture that is read at all: its head says how many there are before any of them is in memory."""

SIDE = 2560
"""Pixels of the longer side; larger ones are scaled down."""

SMALL = 480
"""The same, of the small picture that the thread shows."""

KINDS = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
ENDS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "GIF": (".gif",), "WEBP": (".webp",)}

Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # Pillow itself refuses twice as many, wherever in a file they are announced

one_at_a_time = Lock()  # so that no number of requests fills the memory


@dataclass(frozen=True)
class Picture:
    """A picture, written anew."""

    form: str  # of KINDS
    whole: bytes
    small: bytes  # WebP
    width: int
    height: int

    def named(self, name: str) -> str:
        """The name, with the ending that such a picture has."""
        return name if name.lower().endswith(ENDS[self.form]) else name + ENDS[self.form][0]


def picture(file: IO[bytes]) -> Picture | None:
    """The picture in a file, upright and without its EXIF, or None if it is none, or is broken.

    GIFs go on moving, unless they are too large for it; of other moving pictures the first one is kept. Raises
    ValueError with a sentence for one of more than MOST_PIXELS.
    """
    with one_at_a_time:
        try:
            return _read(file)
        except Image.DecompressionBombError as error:
            sentence = _("A picture has more than %(most)s megapixels. Please make it smaller.")
            raise ValueError(sentence % {"most": MOST_PIXELS // 1_000_000}) from error
        except Exception:  # there is no end to what Pillow raises for files that are no pictures
            return None


def _read(file: IO[bytes]) -> Picture:
    image: Any = Image.open(file, formats=tuple(KINDS))
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise Image.DecompressionBombError
    form = "JPEG" if image.format == "MPO" else image.format  # what many phones write: more than one JPEG
    if form == "GIF":
        if image.n_frames > 1 and image.n_frames * pixels <= MOST_PIXELS and max(image.size) <= SIDE:
            return _moving(image)
        form = "PNG"
    still = _still(image)
    return Picture(form, _written(still, form, still.info.get("icc_profile")), _small(still), still.width, still.height)


def _moving(image: Any) -> Picture:
    image.info.pop("comment", None)
    whole = BytesIO()
    image.save(whole, "GIF", save_all=True)
    image.seek(0)
    return Picture("GIF", whole.getvalue(), _small(_still(image)), image.width, image.height)


def _still(image: Any) -> Any:
    """The picture upright and no larger than SIDE; of what its file says besides, only how its colours are meant."""
    image.draft(None, (SIDE, SIDE))  # a large JPEG need not be read in full
    profile = image.info.get("icc_profile") if image.mode in {"RGB", "RGBA"} else None
    image = ImageOps.exif_transpose(image)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((SIDE, SIDE))
    image.info = {"icc_profile": profile}
    return image


def _small(image: Any) -> bytes:
    small = image.copy()
    small.thumbnail((SMALL, SMALL))
    return _written(small, "WEBP", image.info.get("icc_profile"))


def _written(image: Any, form: str, profile: bytes | None) -> bytes:
    file = BytesIO()
    image.save(file, form, quality=85, icc_profile=profile)
    return file.getvalue()

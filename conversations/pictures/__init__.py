"""Pictures in uploaded files: stripped of metadata, re-encoded and scaled, in a separate process.

The sender of a picture decides how much work it is to decode. So no thread that answers requests decodes one:
`process.py` starts `decoder.py` for each, bounded in time and memory. That process imports only Pillow and
`metadata.py`, and gets neither Django nor the environment with its secrets.
"""

import re

SIGNATURES = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
}

MAX_PIXELS = 13_000_000
"""Pixels of a picture as it is shown: a photo of 12 megapixels or a tall screenshot is not scaled down."""

MAX_DECODED_PIXELS = 25_000_000
"""Pixels that are decoded at once. JPEGs can be decoded at a half, quarter or eighth of their size, others cannot."""

MAX_FRAMES = 400
MAX_ANIMATION_PIXELS = 40_000_000
"""The most frames, and frames times pixels, of an animated picture. Above them it is shown as a still picture."""

MAX_PROFILE = 2 * 1024 * 1024
"""Bytes of a colour profile that is considered; those of print shops have up to 2 MB, those of cameras 1 kB."""

THUMBNAIL_SIDE = 480
"""Pixels of the longer side of a thumbnail."""

PORTRAIT_SIDE = 256
"""Pixels of each side of an agent's picture."""

MAX_SECONDS = 10
MAX_CPU_SECONDS = 5
MAX_MEMORY = 256 * 1024 * 1024
"""Bounds of the process that decodes one picture: seconds, seconds of processor time, bytes of address space."""

NO_ROOM = 28
"""The exit status of that process if there is no room for the files that it writes."""

MAX_GROWTH = 4
MAX_GROWTH_BYTES = 4 * 1024 * 1024
"""The largest file that it may write: MAX_GROWTH times the size of the uploaded file, plus MAX_GROWTH_BYTES.

Re-encoding can make an animation larger: frames that store only changed pixels may be stored whole.
"""


def file_format(head: bytes) -> str | None:
    """The format, a key of SIGNATURES, of a file that begins with these 12 bytes, or None for any other file."""
    return next((name for name, signature in SIGNATURES.items() if signature.match(head)), None)

"""The storage of static files in production: `manage.py collectstatic` copies, names and compresses them."""

from collections.abc import Iterator
from typing import Any

import brotli
from whitenoise.compress import Compressor
from whitenoise.storage import CompressedManifestStaticFilesStorage

LARGE = 50_000
"""Bytes from which on a file is compressed with LARGE_QUALITY. Our own scripts and style sheets are smaller."""

LARGE_QUALITY = 7
"""Brotli's quality for large files: Swagger's scripts, the admin's jQuery. The best is 11.

For all of them together, 7 takes 0.3 s and 11 takes 10 s, for files that are a tenth smaller.
"""


class QuickCompressor(Compressor):
    """Whitenoise's, with brotli's best quality only for files that are not large."""

    @staticmethod
    def compress_brotli(data: bytes) -> bytes:
        """The compressed content of a file."""
        return bytes(brotli.compress(data, quality=LARGE_QUALITY if len(data) >= LARGE else 11))


class StaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Whitenoise's, but only files with a digest in their name are compressed: pages load no others."""

    def create_compressor(self, **options: Any) -> Compressor:
        """The compressor of collected files."""
        return QuickCompressor(**options)

    def compress_files(self, paths: set[str]) -> Iterator[tuple[str, str]]:
        """Compress the files with a digest in their name.

        Delete compressed files of those without a digest: an earlier version of Chatsite may have made them.
        """
        hashed = paths & set(self.hashed_files.values())
        self.delete_files(f"{path}{suffix}" for path in paths - hashed for suffix in (".br", ".gz"))
        yield from super().compress_files(hashed)

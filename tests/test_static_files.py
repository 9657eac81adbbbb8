"""What `manage.py collectstatic` makes of the files in static/, in production."""

import gzip
import random
from pathlib import Path
from typing import Any

import brotli
import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command

from chatsite.static_files import LARGE

SCRIPT = "function greet() { alert('Hello, Alice!') }\n" * 20


@pytest.fixture
def source(settings: Any, tmp_path: Path) -> Path:
    """The directory that files are collected from."""
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATICFILES_DIRS = [tmp_path / "source"]
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "chatsite.static_files.StaticFilesStorage"},
    }
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def collect(source: Path) -> dict[str, bytes]:
    """Collect; returns the content of each file."""
    call_command("collectstatic", "--noinput", "--verbosity", "0")
    return {path.name: path.read_bytes() for path in (source.parent / "static").iterdir()}


def test_the_name_that_pages_load_is_compressed_at_best(source: Path) -> None:
    (source / "chat.js").write_text(SCRIPT)
    files = collect(source)
    name = staticfiles_storage.url("chat.js").rpartition("/")[2]
    assert name != "chat.js"
    assert files[f"{name}.br"] == brotli.compress(SCRIPT.encode(), quality=11)
    assert gzip.decompress(files[f"{name}.gz"]) == files["chat.js"] == files[name] == SCRIPT.encode()
    assert set(files) == {"chat.js", name, f"{name}.br", f"{name}.gz", "staticfiles.json"}


def test_a_large_file_is_compressed_too(source: Path) -> None:
    words = ["greet", "alert", "Alice", "Bob", "return", "function"]
    text = " ".join(random.Random(1).choices(words, k=LARGE // 4))
    (source / "library.js").write_text(text)
    files = collect(source)
    [compressed] = [content for name, content in files.items() if name.endswith(".br")]
    assert brotli.decompress(compressed) == text.encode()
    assert len(compressed) < len(text) / 3


def test_no_compressed_file_of_an_earlier_version_is_left(source: Path) -> None:
    (source / "chat.js").write_text(SCRIPT)
    collect(source)
    for suffix in ("br", "gz"):  # as earlier versions of Chatsite have made them
        (source.parent / f"static/chat.js.{suffix}").write_bytes(b"an old version")
    (source / "chat.js").write_text(SCRIPT + "greet()")
    assert not {"chat.js.br", "chat.js.gz"} & set(collect(source))

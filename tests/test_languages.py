"""Translations: each language is complete and compiled, and pages and the API choose the right one."""

import ast
import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from gettext import GNUTranslations
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from django.utils.translation import to_locale

from conversations.models import Conversation
from tests.conftest import ROOT, Page

LOCALES = [to_locale(code) for code, _ in settings.LANGUAGES if code != "en"]

# A translation must have the same placeholders and HTML characters as the original: some are in attributes.
FIXED = re.compile(r'%\(\w+\)s|\{\w+\}|[<>"]')

Entry = dict[str, str]
"""An entry of a .po file: msgid and msgstr, perhaps msgctxt, or msgid_plural and msgstr[0] to msgstr[n]."""


def catalogue(locale: str) -> Path:
    """The .po file of a locale."""
    return ROOT / "conversations" / "locale" / locale / "LC_MESSAGES" / "django.po"


def entries(po: Path) -> Iterator[Entry]:
    """The entries of a .po file; the first one, with an empty msgid, is its header."""
    for block in po.read_text(encoding="utf-8").split("\n\n"):
        entry: Entry = {}
        field = ""
        for name, quoted in re.findall(r'^(?:(msg\S+) )?(".*")$', block, re.MULTILINE):
            field = name or field
            entry[field] = entry.get(field, "") + ast.literal_eval(quoted)
        if entry:
            yield entry


def key(entry: Entry) -> str:
    """The key of an entry in a .mo file: its context, if it has one, and its msgid."""
    return f"{entry['msgctxt']}\x04{entry['msgid']}" if "msgctxt" in entry else entry["msgid"]


def keys(po: Path) -> set[tuple[str, str | None]]:
    """The keys and plurals of all entries of a .po file."""
    return {(key(entry), entry.get("msgid_plural")) for entry in entries(po)}


def translations(entry: Entry) -> list[str]:
    """The translations of an entry, in all plural forms."""
    return [text for name, text in entry.items() if name.startswith("msgstr")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pot file of all strings in the code."""
    if shutil.which("xgettext") is None and os.environ.get("CI") == "true":
        pytest.fail("CI must check translations, which needs xgettext. Install the package gettext.")
    if shutil.which("xgettext") is None:
        pytest.skip("Checking translations needs xgettext. Install the package gettext.")
    copy = tmp_path_factory.mktemp("code")
    for part in ("chatsite", "conversations", "templates"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("locale", "__pycache__"))
    locale = copy / "conversations" / "locale"
    with contextlib.chdir(copy), override_settings(LOCALE_PATHS=[locale]):
        call_command("makemessages", locale=["de"], keep_pot=True, verbosity=0)
    return locale / "django.pot"


@pytest.mark.parametrize("locale", LOCALES)
def test_every_string_in_the_code_is_translated_and_no_other(locale: str, template: Path) -> None:
    assert keys(catalogue(locale)) == keys(template)


@pytest.mark.parametrize("locale", LOCALES)
def test_every_translation_is_complete(locale: str) -> None:
    text = catalogue(locale).read_text(encoding="utf-8")
    assert "#~" not in text
    assert not re.search("^#,.*fuzzy", text, re.MULTILINE)
    header, *rest = entries(catalogue(locale))
    found = re.search(r"nplurals=(\d)", header["msgstr"])
    assert found
    for entry in rest:
        assert len(translations(entry)) == (int(found[1]) if "msgid_plural" in entry else 1), entry
        for translation in translations(entry):
            assert translation.strip(), entry
            assert sorted(FIXED.findall(translation)) == sorted(FIXED.findall(entry["msgid"])), entry


@pytest.mark.parametrize("locale", LOCALES)
def test_compiled_translations_are_up_to_date(locale: str) -> None:
    written: dict[Any, str] = {}
    for entry in entries(catalogue(locale)):
        for number, translation in enumerate(translations(entry)):
            written[(key(entry), number) if "msgid_plural" in entry else key(entry)] = translation
    with catalogue(locale).with_suffix(".mo").open("rb") as file:
        compiled: Any = GNUTranslations(file)
    assert compiled._catalog | {"": ""} == written | {"": ""}  # msgfmt leaves the date out of the header


def test_the_makefile_lists_all_languages() -> None:
    assert f"LANGUAGES := {' '.join(LOCALES)}\n" in (ROOT / "Makefile").read_text()


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/chat/", "/inbox/sign-in/"])
@pytest.mark.parametrize(
    ("wanted", "lang", "direction"),
    [
        ("", "en", "ltr"),
        ("de-AT,de;q=0.9,en;q=0.5", "de", "ltr"),
        ("zh-CN", "zh-hans", "ltr"),
        ("ar", "ar", "rtl"),
        ("tlh, he;q=0.8", "he", "rtl"),
        ("tlh", "en", "ltr"),
    ],
)
def test_a_page_declares_its_language_and_direction(
    alice: Page, path: str, wanted: str, lang: str, direction: str
) -> None:
    page = alice.get(path, headers={"Accept-Language": wanted})
    assert f'<html lang="{lang}" dir="{direction}">' in page.content.decode()


def test_the_api_answers_in_english(alice: Page, talk: Conversation) -> None:
    german = {"Accept-Language": "de"}
    for path in (f"/api/messages/?conversation={talk.uuid}", "/api/nothing/", "/api/docs"):
        assert alice.get(path, headers=german)["Content-Language"] == "en"


def test_inbox_rows_are_cached_per_language(bobs: Page, talk: Conversation) -> None:
    english, german = [bobs.get("/inbox/list/", headers={"Accept-Language": code}).content for code in ("en", "de")]
    assert f"{talk.last_message_at:%-d}. " in german.decode()
    assert f"{talk.last_message_at:%-d}. " not in english.decode()

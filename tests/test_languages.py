"""Everybody reads Chatsite in their own language, as far as somebody has translated it: wholly, or the suite fails."""

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

# What a translation must have in common with what it translates. Templates put it into HTML, and into attributes.
FIXED = re.compile(r'%\(\w+\)s|\{\w+\}|[<>"]')

Entry = dict[str, str]
"""A message in a .po file: its msgid and msgstr, maybe msgctxt, or msgid_plural and msgstr[0] to msgstr[n]."""


def catalogue(locale: str) -> Path:
    """The .po file of a language."""
    return ROOT / "conversations" / "locale" / locale / "LC_MESSAGES" / "django.po"


def entries(po: Path) -> Iterator[Entry]:
    """All that is in a .po file; the first one, with an empty msgid, is its head."""
    for block in po.read_text(encoding="utf-8").split("\n\n"):
        entry: Entry = {}
        field = ""
        for name, quoted in re.findall(r'^(?:(msg\S+) )?(".*")$', block, re.MULTILINE):
            field = name or field
            entry[field] = entry.get(field, "") + ast.literal_eval(quoted)
        if entry:
            yield entry


def key(entry: Entry) -> str:
    """What a message is found by: its context, if it has one, and its English."""
    return f"{entry['msgctxt']}\x04{entry['msgid']}" if "msgctxt" in entry else entry["msgid"]


def keys(po: Path) -> set[tuple[str, str | None]]:
    """What there is to translate in a file, with plurals."""
    return {(key(entry), entry.get("msgid_plural")) for entry in entries(po)}


def translations(entry: Entry) -> list[str]:
    """The translation, in all its plural forms."""
    return [text for name, text in entry.items() if name.startswith("msgstr")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that there is to translate in the code of today."""
    if shutil.which("xgettext") is None and os.environ.get("CI") == "true":
        pytest.fail("CI must look for words that are not translated, and needs xgettext. Install the package gettext.")
    if shutil.which("xgettext") is None:
        pytest.skip("Words that are not translated are found with xgettext. Install the package gettext.")
    copy = tmp_path_factory.mktemp("code")
    for part in ("chatsite", "conversations", "templates"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("locale", "__pycache__"))
    locale = copy / "conversations" / "locale"
    with contextlib.chdir(copy), override_settings(LOCALE_PATHS=[locale]):
        call_command("makemessages", locale=["de"], keep_pot=True, verbosity=0)
    return locale / "django.pot"


@pytest.mark.parametrize("locale", LOCALES)
def test_every_word_in_the_code_has_its_translation_and_no_other_has(locale: str, template: Path) -> None:
    assert keys(catalogue(locale)) == keys(template)


@pytest.mark.parametrize("locale", LOCALES)
def test_every_translation_is_whole(locale: str) -> None:
    text = catalogue(locale).read_text(encoding="utf-8")
    assert "#~" not in text
    assert not re.search("^#,.*fuzzy", text, re.MULTILINE)
    head, *rest = entries(catalogue(locale))
    found = re.search(r"nplurals=(\d)", head["msgstr"])
    assert found
    for entry in rest:
        assert len(translations(entry)) == (int(found[1]) if "msgid_plural" in entry else 1), entry
        for translation in translations(entry):
            assert translation.strip(), entry
            assert sorted(FIXED.findall(translation)) == sorted(FIXED.findall(entry["msgid"])), entry


@pytest.mark.parametrize("locale", LOCALES)
def test_django_reads_what_the_translators_wrote_last(locale: str) -> None:
    written: dict[Any, str] = {}
    for entry in entries(catalogue(locale)):
        for number, translation in enumerate(translations(entry)):
            written[(key(entry), number) if "msgid_plural" in entry else key(entry)] = translation
    with catalogue(locale).with_suffix(".mo").open("rb") as file:
        compiled: Any = GNUTranslations(file)
    assert compiled._catalog | {"": ""} == written | {"": ""}  # msgfmt leaves the date out of the head


def test_make_messages_knows_all_languages() -> None:
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
def test_a_page_says_its_language_and_its_direction(
    alice: Page, path: str, wanted: str, lang: str, direction: str
) -> None:
    page = alice.get(path, headers={"Accept-Language": wanted})
    assert f'<html lang="{lang}" dir="{direction}">' in page.content.decode()


def test_the_api_speaks_english(alice: Page, talk: Conversation) -> None:
    german = {"Accept-Language": "de"}
    for path in (f"/api/messages/?conversation={talk.uuid}", "/api/nothing/", "/api/docs"):
        assert alice.get(path, headers=german)["Content-Language"] == "en"


def test_rows_of_the_inbox_are_kept_for_each_language(bobs: Page, talk: Conversation) -> None:
    english, german = [bobs.get("/inbox/list/", headers={"Accept-Language": code}).content for code in ("en", "de")]
    assert f"{talk.last_message_at:%-d}. " in german.decode()
    assert f"{talk.last_message_at:%-d}. " not in english.decode()

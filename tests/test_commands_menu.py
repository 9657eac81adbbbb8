"""The menu of all commands and the map of the keys, without scripts."""

import re
from io import StringIO

import pytest
from django.core.management import call_command

from conversations.models import Conversation
from tests.conftest import Page

pytestmark = pytest.mark.django_db


def links(html: str) -> list[str]:
    """Where the options lead."""
    return re.findall(r'class="option"[^>]* href="([^"]+)"', html)


def test_each_command_without_scripts_is_a_link_that_works(bobs: Page, talk: Conversation) -> None:
    page = bobs.get("/inbox/commands/").content.decode()
    found = links(page)
    assert "/inbox/?whose=mine" in found
    assert "/inbox/keys/" in found
    assert [bobs.get(link).status_code for link in found] == [200] * len(found)
    assert "Write a reply" not in page  # it needs a script


def test_the_open_conversation_has_commands(bobs: Page, talk: Conversation) -> None:
    assert "Write a reply" in bobs.htmx(f"/inbox/commands/?chosen={talk.pk}").content.decode()
    assert "Write a reply" not in bobs.htmx("/inbox/commands/").content.decode()


def test_only_agents_get_the_menus(mallory: Page) -> None:
    assert mallory.get("/inbox/commands/").status_code == 302
    assert mallory.get("/inbox/keys/").status_code == 302


def test_conversations_are_found_by_the_beginnings_of_names(bobs: Page, talk: Conversation) -> None:
    Conversation.objects.filter(pk=talk.pk).update(customer_name="Alice Müller")
    call_command("reindex", "--fast", stdout=StringIO())
    assert "Alice Müller" in bobs.htmx("/inbox/commands/?q=mul+AL").content.decode()
    for query in ("bob", "", "%25", "a" * 500):
        assert f"/inbox/{talk.pk}/" not in bobs.htmx(f"/inbox/commands/?q={query}").content.decode()

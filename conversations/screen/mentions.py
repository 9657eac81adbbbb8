"""Names in notes, as their readers see them."""

from collections.abc import Mapping
from functools import partial
from html import escape

from django.utils.safestring import SafeString

from conversations.models.desk_entry import DeskEntry
from conversations.models.mention import named_in, read_names
from conversations.screen.links import linkify


def note_html(note: DeskEntry, reader_id: int) -> SafeString:
    """The text of a note as HTML, with links and the agents whom it mentions."""
    names = read_names(note.mentions)
    if not names:
        return linkify(note.content)
    return linkify(note.content, partial(mark_names, names=names, reader_id=reader_id))


def mark_names(text: str, *, names: Mapping[str, int], reader_id: int) -> str:
    """A text without markup as HTML: escaped, with the names that mention somebody, by folded username, marked."""
    html: list[str] = []
    end = 0
    for named in named_in(text, names):
        kind = "mention to-you" if named.agent_id == reader_id else "mention"
        before, name = text[end : named.start], text[named.start : named.end]
        html.append(f'{escape(before)}<span class="{kind}">{escape(name)}</span>')
        end = named.end
    return "".join([*html, escape(text[end:])])

"""Names in notes, as their readers see them."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from html import escape, unescape

from django.utils.safestring import SafeString, mark_safe

from conversations.models.desk_entry import DeskEntry
from conversations.models.formatted import Formatted, render, typed
from conversations.models.mention import named_in, read_names

TAG = re.compile(r"(<[^>]*>)")


def show_note(note: DeskEntry, reader_id: int) -> Formatted:
    """The text of a note as HTML, with links and the agents whom it mentions."""
    names = read_names(note.mentions)
    mark = partial(mark_names, names=names, reader_id=reader_id)
    if not note.is_formatted:
        return typed(note.content, mark) if names else typed(note.content)
    shown = render(note.content)
    return shown._replace(html=_mark_in_html(shown.html, mark)) if names else shown


def _mark_in_html(html: str, mark: Callable[[str], str]) -> SafeString:
    """Apply `mark` to the text between the tags, except in links and code."""
    parts = TAG.split(html)
    inside = 0
    for index, part in enumerate(parts):
        if index % 2:  # a tag
            inside += part.startswith(("<a ", "<code")) - part.startswith(("</a>", "</code"))
        elif part and not inside:
            parts[index] = mark(unescape(part))
    return mark_safe("".join(parts))  # noqa: S308 (`mark` escapes what is not a tag)


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

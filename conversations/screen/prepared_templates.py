"""Prepared templates: rendered once for each kind of what they show, as the ORM's queries are compiled once.

A row of a list has many texts and numbers, and few decisions. Django takes 0.2 to 0.4 ms to render one, filling in its
values takes 0.01 ms (docs/performance.md).
"""

from collections.abc import Hashable
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language

PLACEHOLDER = "\ue000{}\ue001"
"""In place of a value. Templates and translations have no characters for private use."""


class PreparedTemplate:
    """A template with the context `kind`, on which its tags decide, and `value`, which it only prints."""

    def __init__(self, template_name: str, *names: str) -> None:
        """`names` are those of the values."""
        self.template_name = template_name
        self.placeholders = {name: mark_safe(PLACEHOLDER.format(name)) for name in names}  # noqa: S308 (no HTML)
        self.rendered: dict[Hashable, str] = {}

    def render(self, kind: Hashable, values: dict[str, Any]) -> SafeString:
        """Render it in the active language. Values are escaped, as in any template.

        There must be few kinds, because what was rendered for each is kept: no text of a user may be part of one.
        """
        key = (get_language(), kind)
        pattern = self.rendered.get(key)
        if pattern is None or settings.DEBUG:  # the template may have been edited
            pattern = self.rendered[key] = self._pattern(kind)
        return mark_safe(pattern % {name: conditional_escape(value) for name, value in values.items()})  # noqa: S308

    def _pattern(self, kind: Hashable) -> str:
        """The template as a format string, with `%(name)s` for each value."""
        html = render_to_string(self.template_name, {"kind": kind, "value": self.placeholders}).replace("%", "%%")
        for name, placeholder in self.placeholders.items():
            html = html.replace(placeholder, f"%({name})s")
        return html

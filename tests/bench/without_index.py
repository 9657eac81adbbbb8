"""Settings of a server without a search index, to compare with: DJANGO_SETTINGS_MODULE=tests.bench.without_index."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from django.apps import AppConfig

from chatsite.settings import *  # noqa: F403
from chatsite.settings import INSTALLED_APPS as APPS


class WithoutIndex(AppConfig):
    """Switches the index off as soon as the models are loaded."""

    name = "tests.bench"

    def ready(self) -> None:
        """Write no words."""
        self.switch = no_words()  # kept: it ends when it is garbage
        self.switch.__enter__()


@contextmanager
def no_words() -> Iterator[None]:
    """Write no words meanwhile."""

    def nothing(*_values: Any) -> Any:
        return []

    with (
        patch("conversations.models.searchable.SearchableQuerySet.add", nothing),
        patch("conversations.models.one_statement.different_words", nothing),
    ):
        yield


INSTALLED_APPS = [*APPS, "tests.bench.without_index.WithoutIndex"]

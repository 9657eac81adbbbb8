"""Defaults in the database, with which a server of an earlier version can insert rows into tables with new columns."""

import copy
from typing import Any

from django.db import transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import NOT_PROVIDED, Field, Model


def with_default(field: "Field[Any, Any]", value: Any = NOT_PROVIDED, *, null: bool = False) -> "Field[Any, Any]":
    """A copy of the field of a model, with this default in the database and this null."""
    changed = copy.copy(field)
    changed.__dict__.pop("_db_default_expression", None)  # cached
    changed.db_default, changed.null = value, null
    return changed


def set_default(editor: BaseDatabaseSchemaEditor, model: type[Model], name: str, value: Any) -> None:
    """Let the database fill the column, which is NOT NULL, where an INSERT does not name it. May be repeated.

    It does nothing if the column has a default already: SQLite has to copy the table for it.
    """
    field: Any = model._meta.get_field(name)
    table = model._meta.db_table
    with editor.connection.cursor() as cursor:
        columns = {
            column.name: column for column in editor.connection.introspection.get_table_description(cursor, table)
        }
    if columns[field.column].default is not None:
        return
    if editor.connection.vendor == "sqlite":
        with transaction.atomic(editor.connection.alias):
            editor.alter_field(model, with_default(field), with_default(field, value))
    else:  # what alter_field does, without dropping and checking a foreign key
        column = editor.quote_name(field.column)
        editor.execute(
            f"ALTER TABLE {editor.quote_name(table)} ALTER COLUMN {column} SET DEFAULT {editor.quote_value(value)}"
        )

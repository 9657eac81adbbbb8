"""Operations for migrations while servers write: repeatable where the database does not undo what failed half-way."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from django.db import migrations, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import NOT_PROVIDED, Field, Model


class AddField(migrations.AddField):
    """Django's AddField in a transaction of its own, which does nothing if the column exists.

    A migration with `atomic = False` locks one table at a time with it: PostgreSQL finds a deadlock between a
    transaction that locks two tables and a server that uses them in another order.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Add the column."""
        field = to_state.apps.get_model(app_label, self.model_name)._meta.get_field(self.name)
        with transaction_of(schema_editor):
            if field.column not in columns_of(schema_editor, field.model):
                super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddIndex(migrations.AddIndex):
    """Django's AddIndex in a transaction of its own, which does nothing if the index exists."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Create the index."""
        connection = schema_editor.connection
        table = to_state.apps.get_model(app_label, self.model_name)._meta.db_table
        with connection.cursor() as cursor:
            known = connection.introspection.get_constraints(cursor, table)
        if self.index.name not in known:
            with transaction_of(schema_editor):
                super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddIndexWhileWriting(AddIndex):
    """AddIndex without a lock against writing, however many rows there are.

    PostgreSQL needs CONCURRENTLY for that. If it fails, an index stays that is not valid: it is dropped first.
    InnoDB lets others write anyway. On SQLite only one writes at a time.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Create the index."""
        connection = schema_editor.connection
        if not can_work_concurrently(connection):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        with without_time_limits(connection) as cursor:
            cursor.execute(
                "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
                [connection.ops.quote_name(self.index.name)],
            )
            is_valid = next((row[0] for row in cursor.fetchall()), None)
            if is_valid is False:
                schema_editor.remove_index(model, self.index, concurrently=True)
            if not is_valid:
                schema_editor.add_index(model, self.index, concurrently=True)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Drop the index."""
        if not can_work_concurrently(schema_editor.connection):
            super().database_backwards(app_label, schema_editor, from_state, to_state)
            return
        with without_time_limits(schema_editor.connection):
            model = from_state.apps.get_model(app_label, self.model_name)
            schema_editor.remove_index(model, self.index, concurrently=True)


class AddConstraint(migrations.AddConstraint):
    """Django's AddConstraint in a transaction of its own, which does nothing if the constraint exists."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Create the constraint."""
        if self.constraint.name not in constraints_of(schema_editor, to_state, app_label, self.model_name):
            with transaction_of(schema_editor):
                super().database_forwards(app_label, schema_editor, from_state, to_state)


class RemoveConstraint(migrations.RemoveConstraint):
    """Django's RemoveConstraint in a transaction of its own, which does nothing if there is no such constraint."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Drop the constraint."""
        if self.name in constraints_of(schema_editor, to_state, app_label, self.model_name):
            with transaction_of(schema_editor):
                super().database_forwards(app_label, schema_editor, from_state, to_state)


class DropIndexOfField(migrations.AlterField):
    """Drop the index of a foreign key that now has `db_index=False`, in a transaction of its own, if there is one.

    Django's AlterField would copy the whole table on SQLite, without the defaults that only the database knows. InnoDB
    has no such index where another one begins with the same column.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Drop the index of this column alone."""
        model = to_state.apps.get_model(app_label, self.model_name)
        connection, column = schema_editor.connection, model._meta.get_field(self.name).column
        with connection.cursor() as cursor:
            known = connection.introspection.get_constraints(cursor, model._meta.db_table)
        for name, found in known.items():
            if found["columns"] == [column] and found["index"] and not found["unique"] and not found["primary_key"]:
                with transaction_of(schema_editor):
                    schema_editor.execute(schema_editor._delete_index_sql(model, name))

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Create the index again."""
        model = to_state.apps.get_model(app_label, self.model_name)
        for statement in schema_editor._field_indexes_sql(model, model._meta.get_field(self.name)):
            with transaction_of(schema_editor):
                schema_editor.execute(statement)


class CreateModel(migrations.CreateModel):
    """Django's CreateModel, which replaces a table without rows: an earlier attempt may have failed half-way."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Create the table. Raises the database's error if it exists and has rows."""
        model = to_state.apps.get_model(app_label, self.name)
        connection = schema_editor.connection
        if model._meta.db_table in connection.introspection.table_names():
            if not model._default_manager.using(connection.alias).exists():
                # A table that was created after it may refer to it: MariaDB would not drop it.
                with connection.constraint_checks_disabled():
                    schema_editor.delete_model(model)
        super().database_forwards(app_label, schema_editor, from_state, to_state)


def can_work_concurrently(connection: Any) -> bool:
    """Whether PostgreSQL may use CONCURRENTLY: not in a transaction, as that of `manage.py restore`."""
    return connection.vendor == "postgresql" and not connection.in_atomic_block


@contextmanager
def without_time_limits(connection: Any) -> Iterator[Any]:
    """A cursor of PostgreSQL, whose session may work for long, and wait for long transactions of others."""
    with connection.cursor() as cursor:
        names = ("statement_timeout", "lock_timeout")
        for name in names:
            cursor.execute(f"SET {name} = 0")
        try:
            yield cursor
        finally:
            for name in names:
                cursor.execute(f"RESET {name}")


def transaction_of(editor: BaseDatabaseSchemaEditor) -> AbstractContextManager[Any]:
    """A transaction where the database can undo changes of the schema. MariaDB cannot."""
    connection = editor.connection
    return transaction.atomic(connection.alias) if connection.features.can_rollback_ddl else nullcontext()


def constraints_of(editor: Any, state: Any, app_label: str, model_name: str) -> Any:
    """The constraints and indexes of a model's table, by name."""
    table = state.apps.get_model(app_label, model_name)._meta.db_table
    with editor.connection.cursor() as cursor:
        return editor.connection.introspection.get_constraints(cursor, table)


def columns_of(editor: BaseDatabaseSchemaEditor, model: type[Model]) -> dict[str, Any]:
    """The columns in the database by name, each with its `default` in SQL, or None."""
    with editor.connection.cursor() as cursor:
        found = editor.connection.introspection.get_table_description(cursor, model._meta.db_table)
    return {column.name: column for column in found}


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
    if columns_of(editor, model)[field.column].default is not None:
        return
    if editor.connection.vendor == "sqlite":
        with transaction_of(editor):
            editor.alter_field(model, with_default(field), with_default(field, value))
    else:  # what alter_field does, without dropping and checking a foreign key
        table, column = editor.quote_name(model._meta.db_table), editor.quote_name(field.column)
        editor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {editor.quote_value(value)}")

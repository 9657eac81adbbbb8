from typing import Any

from django.db import migrations, models

from conversations.migrations._operations import CreateModel

SQLITE = [
    # The words are in the table; FTS5 only has where they are. Its parser cuts at what is ASCII and no letter, so it
    # leaves the words as they are.
    """
    CREATE VIRTUAL TABLE IF NOT EXISTS conversations_searchindex USING fts5(
        words, content='conversations_searchable', content_rowid='id', tokenize="ascii tokenchars '_'",
        detail=none, columnsize=0
    )
    """,
    # Rows above `indexed` are added later, many at once.
    """
    CREATE TRIGGER IF NOT EXISTS conversations_searchable_inserted AFTER INSERT ON conversations_searchable
    WHEN new.id <= (SELECT indexed FROM conversations_searchstate WHERE id = 1) BEGIN
        INSERT INTO conversations_searchindex (rowid, words) VALUES (new.id, new.words);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS conversations_searchable_deleted AFTER DELETE ON conversations_searchable
    WHEN old.id <= (SELECT indexed FROM conversations_searchstate WHERE id = 1) BEGIN
        INSERT INTO conversations_searchindex (conversations_searchindex, rowid, words)
        VALUES ('delete', old.id, old.words);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS conversations_searchable_indexed AFTER UPDATE OF indexed ON conversations_searchstate
    WHEN new.indexed > old.indexed BEGIN
        INSERT INTO conversations_searchindex (rowid, words)
        SELECT id, words FROM conversations_searchable
        WHERE id > old.indexed AND id <= new.indexed ORDER BY id;
    END
    """,
]
POSTGRESQL = [
    # Without the list of what is pending, which each search would have to read.
    """
    CREATE INDEX IF NOT EXISTS conversations_searchindex ON conversations_searchable
    USING gin (array_to_tsvector(string_to_array(words, ' '))) WITH (fastupdate = off)
    """
]
MYSQL = [
    "ALTER TABLE conversations_searchable MODIFY words MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL",
    "CREATE FULLTEXT INDEX IF NOT EXISTS conversations_searchindex ON conversations_searchable (words)",
]


def create_index(_apps: Any, editor: Any) -> None:
    """The full-text index of this database."""
    for statement in {"sqlite": SQLITE, "postgresql": POSTGRESQL, "mysql": MYSQL}[editor.connection.vendor]:
        editor.execute(statement)


def drop_index(_apps: Any, editor: Any) -> None:
    """What does not go with the table."""
    if editor.connection.vendor == "sqlite":
        editor.execute("DROP TRIGGER IF EXISTS conversations_searchable_indexed")
        editor.execute("DROP TRIGGER IF EXISTS conversations_searchable_inserted")
        editor.execute("DROP TRIGGER IF EXISTS conversations_searchable_deleted")
        editor.execute("DROP TABLE IF EXISTS conversations_searchindex")


def note_what_is_missing(apps: Any, _editor: Any) -> None:
    """All that was written before. `serve` adds it bit by bit, or `manage.py reindex`."""
    state = apps.get_model("conversations", "SearchState").objects
    newest = [
        apps.get_model("conversations", name).objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        for name in ("Message", "DeskEntry", "Conversation")
    ]
    last = max(newest[:2])
    state.get_or_create(pk=1, defaults={"missing": last, "missing_names": newest[2], "indexed": last})


def forget_what_is_missing(_apps: Any, editor: Any) -> None:
    """An earlier attempt may have noted it and failed after that: the table is replaced if it has no rows."""
    if "conversations_searchstate" in editor.connection.introspection.table_names():
        editor.execute("DELETE FROM conversations_searchstate")


class Migration(migrations.Migration):
    """The search index, empty: filling it would take long."""

    atomic = False

    dependencies = [("conversations", "0022_agent_profiles")]

    operations = [
        migrations.RunPython(forget_what_is_missing, migrations.RunPython.noop),
        CreateModel(
            name="Searchable",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("conversation_id", models.BigIntegerField()),
                ("words", models.TextField()),
            ],
        ),
        CreateModel(
            name="SearchState",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("missing", models.BigIntegerField(default=0)),
                ("missing_names", models.BigIntegerField(default=0)),
                ("indexed", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.RunPython(create_index, drop_index),
        migrations.RunPython(note_what_is_missing, migrations.RunPython.noop),
    ]

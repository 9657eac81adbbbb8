"""Every conversation has a website, also those that begin while this runs.

A server that knows no websites yet may begin conversations before, during and after this migration. So the column first
gets a default, then the conversations without a website get theirs, then NULL is forbidden: alter_field does it in this
order, on PostgreSQL and SQLite in one transaction. On MariaDB, which undoes nothing, all of it may be repeated.

The default is only in the database: it is a primary key, which differs between installations.
"""

import django.db.models.deletion
from django.db import migrations, models

from conversations.migrations._operations import with_default


def require_website(apps, schema_editor):
    websites = apps.get_model("conversations", "Website").objects.using(schema_editor.connection.alias)
    website, _ = websites.get_or_create(key="default", defaults={"name": "Chat with us"})
    conversation = apps.get_model("conversations", "Conversation")
    field = conversation._meta.get_field("website")
    schema_editor.alter_field(conversation, with_default(field, null=True), with_default(field, website.pk))


def allow_none(apps, schema_editor):
    conversation = apps.get_model("conversations", "Conversation")
    field = conversation._meta.get_field("website")
    schema_editor.alter_field(conversation, with_default(field, 0), with_default(field, null=True))


class Migration(migrations.Migration):

    dependencies = [
        ('conversations', '0003_default_website'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(require_website, allow_none)],
            state_operations=[
                migrations.AlterField(
                    model_name='conversation',
                    name='website',
                    field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='conversations', to='conversations.website'),
                ),
            ],
        ),
    ]

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from conversations.migrations._operations import AddField, CreateModel


class Migration(migrations.Migration):
    """Mentions in notes. The new column may be NULL, so no database copies the table."""

    atomic = False

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("conversations", "0017_formatted_messages"),
    ]

    operations = [
        AddField("deskentry", "mentions", models.TextField(editable=False, null=True)),
        CreateModel(
            name="Mention",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("entry_id", models.BigIntegerField()),
                ("unread", models.BooleanField(default=True)),
                (
                    "agent",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="mentions",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="mentions",
                        to="conversations.conversation",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("agent", "conversation"), name="one_mention_each"),
                ],
                "indexes": [
                    models.Index(fields=["agent", "-entry_id"], name="inbox_mentions"),
                    models.Index(fields=["agent", "unread"], name="unread_mentions"),
                ],
            },
        ),
    ]

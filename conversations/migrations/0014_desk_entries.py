import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from conversations.migrations._operations import AddField, CreateModel


class Migration(migrations.Migration):
    """Notes and activities. The new column may be NULL, so no database copies the table."""

    atomic = False

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("conversations", "0013_canned_replies"),
    ]

    operations = [
        AddField("conversation", "last_entry_id", models.BigIntegerField(editable=False, null=True)),
        CreateModel(
            name="DeskEntry",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("note", "note"),
                            ("assigned", "assigned"),
                            ("unassigned", "unassigned"),
                            ("closed", "closed"),
                            ("reopened", "reopened"),
                        ],
                        max_length=12,
                    ),
                ),
                ("content", models.TextField(blank=True, max_length=20480)),
                ("client_id", models.UUIDField(editable=False, null=True, unique=True)),
                (
                    "about",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "agent",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="desk_entries",
                        to="conversations.conversation",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "desk entries",
                "indexes": [models.Index(fields=["conversation", "id"], name="desk_entry_order")],
            },
        ),
    ]

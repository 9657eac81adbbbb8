import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import F

from conversations.migrations._operations import AddField, AddIndex, CreateModel


def find_who_waits(apps, schema_editor):
    """Earlier versions have not stored since when a customer waits: their last message is near enough."""
    known = apps.get_model("conversations", "Conversation").objects.using(schema_editor.connection.alias)
    waiting = known.filter(status="OPEN", waiting_since=None, customer_messages__gt=F("answered_messages"))
    waiting.update(waiting_since=F("last_message_at"))


class Migration(migrations.Migration):
    """Labels, priority, snoozing and saved views.

    The columns of conversations may be NULL: so no database copies the table, and servers of earlier versions go on.
    """

    atomic = False

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("conversations", "0011_one_index_for_each_column"),
    ]

    operations = [
        CreateModel(
            name="Label",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=40, verbose_name="name")),
                ("folded", models.CharField(editable=False, max_length=120, unique=True)),
                (
                    "colour",
                    models.CharField(
                        choices=[
                            ("red", "red"),
                            ("orange", "orange"),
                            ("amber", "amber"),
                            ("lime", "lime"),
                            ("green", "green"),
                            ("teal", "teal"),
                            ("cyan", "cyan"),
                            ("blue", "blue"),
                            ("indigo", "indigo"),
                            ("purple", "purple"),
                            ("pink", "pink"),
                            ("grey", "grey"),
                        ],
                        default="grey",
                        max_length=7,
                        verbose_name="colour",
                    ),
                ),
            ],
            options={"ordering": ("folded",)},
        ),
        CreateModel(
            name="SavedView",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=60, verbose_name="name")),
                ("query", models.CharField(max_length=300, verbose_name="query")),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
        ),
        AddField(
            model_name="conversation",
            name="label_ids",
            field=models.CharField(editable=False, max_length=500, null=True),
        ),
        AddField(
            model_name="conversation",
            name="priority",
            field=models.SmallIntegerField(
                choices=[(1, "low"), (2, "medium"), (3, "high"), (4, "urgent")], editable=False, null=True
            ),
        ),
        AddField(
            model_name="conversation",
            name="snoozed_until",
            field=models.DateTimeField(editable=False, null=True),
        ),
        AddField(
            model_name="conversation",
            name="waiting_since",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.RunPython(find_who_waits, migrations.RunPython.noop),
        AddIndex(
            model_name="conversation",
            index=models.Index(fields=["status", "waiting_since", "id"], name="inbox_waiting"),
        ),
        AddIndex(
            model_name="conversation",
            index=models.Index(fields=["snoozed_until", "id"], name="inbox_snoozed"),
        ),
        AddIndex(
            model_name="conversation",
            index=models.Index(fields=["priority", "status", "-last_message_id"], name="inbox_priority"),
        ),
        CreateModel(
            name="ConversationLabel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("status", models.CharField(max_length=6)),
                ("last_message_id", models.BigIntegerField()),
                (
                    "conversation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="labelled",
                        to="conversations.conversation",
                    ),
                ),
                (
                    "label",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="labelled",
                        to="conversations.label",
                    ),
                ),
            ],
            options={
                "constraints": (models.UniqueConstraint(fields=("conversation", "label"), name="label_once"),),
                "indexes": [models.Index(fields=["label", "status", "-last_message_id"], name="inbox_label")],
            },
        ),
    ]

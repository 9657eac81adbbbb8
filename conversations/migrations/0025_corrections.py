from django.db import migrations, models

from conversations.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    """What agents have corrected, and conversations by e-mail address. The new column may be NULL."""

    atomic = False

    dependencies = [
        ("conversations", "0024_receipts"),
    ]

    operations = [
        AddField("conversation", "corrected", models.CharField(editable=False, max_length=10, null=True)),
        migrations.AlterField(
            "deskentry",
            "kind",
            models.CharField(
                choices=[
                    ("note", "note"),
                    ("assigned", "assigned"),
                    ("unassigned", "unassigned"),
                    ("closed", "closed"),
                    ("reopened", "reopened"),
                    ("labelled", "labelled"),
                    ("unlabelled", "unlabelled"),
                    ("prioritized", "prioritized"),
                    ("snoozed", "snoozed"),
                    ("unsnoozed", "no longer snoozed"),
                    ("corrected", "corrected"),
                ],
                max_length=12,
            ),
        ),
        AddIndex("conversation", models.Index(fields=["customer_email", "-id"], name="conversation_email")),
    ]

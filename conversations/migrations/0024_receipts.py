from django.db import migrations, models

from conversations.migrations._operations import AddField


class Migration(migrations.Migration):
    """Read receipts. The new columns of conversations may be NULL, so no database copies the table."""

    atomic = False

    dependencies = [
        ("conversations", "0023_search"),
    ]

    operations = [
        AddField("conversation", "seen_at", models.DateTimeField(editable=False, null=True)),
        AddField("conversation", "seen_id", models.BigIntegerField(editable=False, null=True)),
        AddField(
            "website",
            "receipts",
            models.BooleanField(
                db_default=False,
                default=False,
                help_text="Customers and agents see when the other side has seen their last message.",
                verbose_name="read receipts",
            ),
        ),
    ]

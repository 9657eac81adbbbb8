from django.db import migrations, models

from conversations.migrations._operations import AddIndexWhileWriting


class Migration(migrations.Migration):
    """Who waits for an answer of one agent, or of nobody, the longest first."""

    atomic = False

    dependencies = [
        ("conversations", "0027_email_in_any_case"),
    ]

    operations = [
        AddIndexWhileWriting(
            "conversation",
            models.Index(fields=["status", "assignee", "waiting_since", "id"], name="inbox_assignee_waiting"),
        ),
    ]

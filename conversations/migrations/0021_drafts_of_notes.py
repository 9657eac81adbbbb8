from django.conf import settings
from django.db import migrations, models

from conversations.migrations._operations import AddConstraint, AddField, RemoveConstraint


class Migration(migrations.Migration):
    """Drafts of notes. The new constraint comes first: the foreign key of the agent has its index."""

    atomic = False

    dependencies = [
        ("conversations", "0020_messages_taken_back"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddField("draft", "is_note", models.BooleanField(db_default=False, default=False)),
        AddConstraint(
            "draft",
            models.UniqueConstraint(fields=("agent", "conversation", "is_note"), name="one_draft_of_each"),
        ),
        RemoveConstraint("draft", "one_draft_each"),
    ]

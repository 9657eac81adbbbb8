import django.db.models.deletion
from django.db import migrations, models

from conversations.migrations._operations import DropIndexOfField


class Migration(migrations.Migration):
    """Drop indexes of foreign keys whose column another index begins with: each makes every message dearer."""

    atomic = False

    dependencies = [("conversations", "0010_conversation_updated_at")]

    operations = [
        DropIndexOfField(
            model_name="message",
            name="conversation",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="messages",
                to="conversations.conversation",
            ),
        ),
        DropIndexOfField(
            model_name="conversation",
            name="website",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="conversations",
                to="conversations.website",
            ),
        ),
        DropIndexOfField(
            model_name="conversation",
            name="contact",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="conversations",
                to="conversations.contact",
            ),
        ),
        DropIndexOfField(
            model_name="reading",
            name="conversation",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="readings",
                to="conversations.conversation",
            ),
        ),
    ]

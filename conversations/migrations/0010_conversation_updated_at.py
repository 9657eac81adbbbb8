from django.db import migrations, models

from conversations.migrations._operations import AddField, AddIndex


class Migration(migrations.Migration):
    """When a conversation changed last.

    The column may be NULL: so no database copies the table, and SQLite keeps the default that 0004 gave to `website`.
    """

    atomic = False

    dependencies = [("conversations", "0009_texts_of_websites")]

    operations = [
        AddField(
            model_name="conversation",
            name="updated_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        AddIndex(
            model_name="conversation",
            index=models.Index(fields=["updated_at"], name="conversation_updated"),
        ),
    ]

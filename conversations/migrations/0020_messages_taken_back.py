from django.db import migrations, models

from conversations.migrations._operations import AddField


class Migration(migrations.Migration):
    """Messages that were taken back. The column may be NULL, so no database copies the table."""

    atomic = False

    dependencies = [("conversations", "0019_peek")]

    operations = [AddField("message", "removed_id", models.BigIntegerField(editable=False, null=True))]

from django.db import migrations, models

from conversations.migrations._operations import AddField


class Migration(migrations.Migration):
    """Nullable columns without a default: no database copies the table for them."""

    dependencies = [("conversations", "0016_kinds_of_activities")]

    atomic = False  # each in a transaction of its own

    operations = [
        AddField("message", "is_formatted", models.BooleanField(editable=False, null=True)),
        AddField("deskentry", "is_formatted", models.BooleanField(editable=False, null=True)),
    ]

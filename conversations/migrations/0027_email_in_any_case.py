from django.db import migrations, models
from django.db.models.functions import Lower

from conversations.migrations._operations import AddIndex


class Migration(migrations.Migration):
    """Conversations by e-mail address, in upper or lower case. MariaDB has no such index and needs none."""

    atomic = False

    dependencies = [
        ("conversations", "0026_sounds"),
    ]

    operations = [
        AddIndex(
            "conversation",
            models.Index(Lower("customer_email"), models.F("id").desc(), name="conversation_email_any_case"),
        ),
    ]

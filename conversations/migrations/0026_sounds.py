from django.db import migrations, models

from conversations.migrations._operations import AddField


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("conversations", "0025_corrections"),
    ]

    operations = [
        AddField(
            "website",
            "sounds",
            models.BooleanField(
                db_default=False,
                default=False,
                help_text="Customers hear a short sound when you answer while their chat is closed or hidden.",
                verbose_name="sound",
            ),
        ),
    ]

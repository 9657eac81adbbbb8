from django.db import migrations, models

from conversations.migrations._operations import AddField


class Migration(migrations.Migration):
    """Whether agents see what customers type."""

    atomic = False

    dependencies = [
        ("conversations", "0018_mentions"),
    ]

    operations = [
        AddField(
            model_name="website",
            name="peek",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Agents who have the conversation open see it before it is sent. The chat tells customers so.",
                verbose_name="show what customers type",
            ),
        ),
    ]

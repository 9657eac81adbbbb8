import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from conversations.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("conversations", "0012_labels_and_views"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="CannedReply",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=40)),
                ("content", models.TextField(max_length=20480)),
                (
                    "agent",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="canned_replies",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "website",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="canned_replies",
                        to="conversations.website",
                    ),
                ),
            ],
            options={"verbose_name_plural": "canned replies"},
        ),
    ]

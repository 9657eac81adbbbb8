import conversations.models.attachment
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from conversations.migrations._operations import CreateModel


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("conversations", "0021_drafts_of_notes"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="AgentProfile",
            fields=[
                (
                    "agent",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="profile",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "picture",
                    models.FileField(
                        blank=True, db_index=True, default="", upload_to=conversations.models.attachment.random_name
                    ),
                ),
                ("language", models.CharField(blank=True, default="", max_length=10)),
                ("time_zone", models.CharField(blank=True, default="", max_length=64)),
                ("takes_answered", models.BooleanField(default=True)),
                (
                    "after_closing",
                    models.CharField(
                        choices=[("stay", "Stay here"), ("next", "Open the next one"), ("list", "Go to the list")],
                        default="stay",
                        max_length=4,
                    ),
                ),
                ("letter_keys", models.BooleanField(default=True)),
                (
                    "about",
                    models.CharField(
                        choices=[
                            ("all", "Every message of a customer"),
                            ("mine", "Messages in conversations that are assigned to me or to nobody"),
                            ("mentions", "Only when a colleague mentions me"),
                        ],
                        default="all",
                        max_length=8,
                    ),
                ),
                (
                    "sound_when",
                    models.CharField(
                        choices=[("off", "Never"), ("hidden", "When the inbox is not in front"), ("always", "Always")],
                        default="hidden",
                        max_length=6,
                    ),
                ),
                (
                    "sound",
                    models.CharField(choices=[("drop", "Drop"), ("chime", "Chime")], default="drop", max_length=5),
                ),
                ("desktop", models.BooleanField(default=False)),
                ("quiet_from", models.TimeField(blank=True, null=True)),
                ("quiet_until", models.TimeField(blank=True, null=True)),
            ],
        ),
        CreateModel(
            name="SignIn",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("session_key", models.CharField(max_length=40, unique=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("seen_on", models.DateField()),
                ("user_agent", models.CharField(blank=True, max_length=300)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sign_ins",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
    ]

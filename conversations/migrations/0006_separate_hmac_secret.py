"""Give HMAC proofs a secret of their own. Websites that have a secret accept both kinds of proof with it, as before."""

from django.db import migrations, models
from django.db.models import F

from conversations.migrations._operations import AddField


def keep_both_kinds(apps, schema_editor):
    websites = apps.get_model("conversations", "Website").objects.using(schema_editor.connection.alias)
    changed = websites.exclude(identity_secret="", identity_secret_before="").update(
        accepts_hmac=True, hmac_secret=F("identity_secret"), hmac_secret_before=F("identity_secret_before")
    )
    if changed:
        print(f"\n  {changed} websites accept tokens and HMAC with one secret. Please choose: see docs/embedding.md.", end="")


def keep_hmac(apps, schema_editor):
    websites = apps.get_model("conversations", "Website").objects.using(schema_editor.connection.alias)
    websites.filter(identity_secret="", identity_secret_before="").update(
        identity_secret=F("hmac_secret"), identity_secret_before=F("hmac_secret_before")
    )


class Migration(migrations.Migration):
    dependencies = [("conversations", "0005_attachments")]

    operations = [
        AddField(
            model_name="website",
            name="accepts_tokens",
            field=models.BooleanField(db_default=True, default=True, verbose_name="signed tokens"),
        ),
        AddField(
            model_name="website",
            name="accepts_hmac",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Weaker than signed tokens: it never expires.",
                verbose_name="HMAC of the user id",
            ),
        ),
        AddField(
            model_name="website",
            name="hmac_secret",
            field=models.CharField(blank=True, db_default="", default="", max_length=64, verbose_name="HMAC secret"),
        ),
        AddField(
            model_name="website",
            name="hmac_secret_before",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=64, verbose_name="previous HMAC secret"
            ),
        ),
        migrations.AlterField(
            model_name="website",
            name="identity_secret_before",
            field=models.CharField(blank=True, max_length=64, verbose_name="previous identity secret"),
        ),
        migrations.RunPython(keep_both_kinds, keep_hmac),
    ]

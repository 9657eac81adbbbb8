"""The website of everything that there was before there were websites."""

from django.db import migrations


def make(apps, schema_editor):
    alias = schema_editor.connection.alias
    website, _ = (
        apps.get_model("conversations", "Website")
        .objects.using(alias)
        .get_or_create(key="default", defaults={"name": "Chat with us"})
    )
    apps.get_model("conversations", "Conversation").objects.using(alias).filter(website=None).update(website=website)


class Migration(migrations.Migration):
    dependencies = [("conversations", "0002_websites")]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]

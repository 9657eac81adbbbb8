"""Give columns the defaults that 0004, 0005 and 0006 had not set before version 0.2.

With them, servers of earlier versions go on inserting rows until they are restarted. Each column is changed on
its own: a transaction that locks several tables could find a deadlock with a server. All of it may be repeated.
"""

from django.db import migrations

from conversations.migrations._operations import set_default

WEBSITE = {
    "attachment_megabytes": 10,
    "attachments": True,
    "accepts_tokens": True,
    "accepts_hmac": False,
    "hmac_secret": "",
    "hmac_secret_before": "",
}


def set_defaults_of_websites(apps, schema_editor):
    for name, value in WEBSITE.items():
        set_default(schema_editor, apps.get_model("conversations", "Website"), name, value)


def set_default_of_conversations(apps, schema_editor):
    # The default website may have been deleted where no server needs it any more.
    websites = apps.get_model("conversations", "Website").objects.using(schema_editor.connection.alias)
    website = websites.filter(key="default").first()
    if website:
        set_default(schema_editor, apps.get_model("conversations", "Conversation"), "website", website.pk)


def set_default_of_messages(apps, schema_editor):
    set_default(schema_editor, apps.get_model("conversations", "Message"), "files", 0)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("conversations", "0007_original_files")]

    operations = [
        migrations.RunPython(change, migrations.RunPython.noop)
        for change in (set_defaults_of_websites, set_default_of_conversations, set_default_of_messages)
    ]

import conversations.models.attachment
from django.db import migrations, models

from conversations.migrations._operations import AddField


class Migration(migrations.Migration):

    dependencies = [
        ('conversations', '0006_separate_hmac_secret'),
    ]

    operations = [
        migrations.AlterField(
            model_name='attachment',
            name='small',
            field=models.FileField(blank=True, db_column='small', upload_to=conversations.models.attachment.random_name),
        ),
        migrations.RenameField(
            model_name='attachment',
            old_name='small',
            new_name='thumbnail',
        ),
        AddField(
            model_name='attachment',
            name='original',
            field=models.FileField(blank=True, db_default='', default='', upload_to=conversations.models.attachment.random_name),
        ),
        AddField(
            model_name='attachment',
            name='original_name',
            field=models.CharField(blank=True, db_default='', default='', max_length=128),
        ),
        AddField(
            model_name='attachment',
            name='original_size',
            field=models.PositiveBigIntegerField(null=True),
        ),
    ]

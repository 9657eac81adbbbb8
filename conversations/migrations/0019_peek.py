from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('conversations', '0018_mentions'),
    ]

    operations = [
        migrations.AddField(
            model_name='website',
            name='peek',
            field=models.BooleanField(db_default=False, default=False, help_text='Agents who have the conversation open see it before it is sent. The chat tells customers so.', verbose_name='show what customers type'),
        ),
    ]

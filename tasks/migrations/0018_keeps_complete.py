"""Whether a task that is to run again keeps what its earlier answers made and is complete."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("crew", "0017_chores")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="keeps_complete",
            field=models.BooleanField(editable=False, null=True),
        ),
    ]

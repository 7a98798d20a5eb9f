"""Only tasks that follow another of their key are in the index."""

from django.db import migrations, models

from ._beside import AddIndexBeside


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("crew", "0010_transcripts")]

    operations = [
        AddIndexBeside(
            model_name="task",
            index=models.Index(
                fields=["merged_into"],
                name="crew_task_followers",
                condition=models.Q(is_complete=False, merged_into__isnull=False),
            ),
        ),
    ]

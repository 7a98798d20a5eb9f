"""Only tasks that an answer made are in the index, but all tasks are read to make it."""

from django.db import migrations, models

from ._beside import AddIndexBeside


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("crew", "0018_keeps_complete")]

    operations = [
        AddIndexBeside(
            model_name="task",
            index=models.Index(
                condition=models.Q(("created_by", ""), _negated=True),
                fields=["created_by"],
                name="crew_task_made",
            ),
        ),
    ]

"""Only tasks that refer to a shared output are in the index."""

from django.db import migrations, models

from ._beside import AddIndexBeside


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("crew", "0012_shared_outputs")]

    operations = [
        AddIndexBeside(
            model_name="task",
            index=models.Index(
                condition=models.Q(("shared_output__isnull", False)),
                fields=["shared_output"],
                name="crew_task_shared_output",
            ),
        ),
    ]

"""Two small indexes for the page of failures: only the tasks without attempts left are in them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("crew", "0003_access")]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                fields=["run_after", "id"],
                name="crew_task_failed",
                condition=models.Q(
                    is_complete=False,
                    leased_by__isnull=True,
                    merged_into__isnull=True,
                    remaining_attempts=0,
                ),
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                fields=["group", "run_after", "id"],
                name="crew_task_failed_of_group",
                condition=models.Q(
                    is_complete=False,
                    leased_by__isnull=True,
                    merged_into__isnull=True,
                    remaining_attempts=0,
                ),
            ),
        ),
    ]

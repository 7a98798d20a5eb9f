import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("crew", "0013_shared_outputs_index")]

    operations = [
        migrations.CreateModel(
            name="CutCall",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("task_id", models.CharField(max_length=200)),
                ("attempt", models.IntegerField()),
                ("scheduler", models.CharField(max_length=36)),
                ("worker", models.CharField(max_length=200)),
                ("group_id", models.CharField(max_length=200)),
                ("key", models.CharField(blank=True, default="", max_length=200)),
                (
                    "since",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("until", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["worker"], name="crew_cutcall_worker"),
                    models.Index(
                        condition=models.Q(("key", ""), _negated=True),
                        fields=["group_id", "key"],
                        name="crew_cutcall_key",
                    ),
                    models.Index(fields=["scheduler"], name="crew_cutcall_scheduler"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("task_id", "attempt", "scheduler"), name="crew_cutcall_once"
                    )
                ],
            },
        ),
    ]

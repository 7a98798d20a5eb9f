"""Room for the word "interrupted". PostgreSQL only records it; SQLite never minded the length, and
would write the whole table again.
"""

from django.db import migrations, models

OUTCOMES = [
    ("completed", "Completed"),
    ("failed", "Failed"),
    ("held", "Held"),
    ("abandoned", "Abandoned"),
    ("cancelled", "Cancelled"),
    ("interrupted", "Interrupted"),
]


def widen(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE crew_attempt ALTER COLUMN outcome TYPE varchar(12),"
            " ALTER COLUMN late_outcome TYPE varchar(12)"
        )


class Migration(migrations.Migration):
    dependencies = [("crew", "0014_cutcall")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(widen, migrations.RunPython.noop)],
            state_operations=[
                migrations.AlterField(
                    model_name="attempt",
                    name="outcome",
                    field=models.CharField(choices=OUTCOMES, max_length=12),
                ),
                migrations.AlterField(
                    model_name="attempt",
                    name="late_outcome",
                    field=models.CharField(
                        blank=True, choices=OUTCOMES, default="", max_length=12
                    ),
                ),
            ],
        )
    ]

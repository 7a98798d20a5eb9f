"""Where a long output stands that the duplicates of a key have in common. The new column is null
everywhere, so nothing is rewritten; its index is a migration of its own, for it takes longer.
"""

import uuid

import django.db.models.deletion
from django.db import migrations, models


def give_back(apps, schema_editor):
    """On the way back each task gets what it shares for its own."""
    schema_editor.execute("""
        UPDATE crew_task SET output = (
            SELECT value FROM crew_sharedoutput
            WHERE crew_sharedoutput.id = crew_task.shared_output_id)
        WHERE shared_output_id IS NOT NULL AND output IS NULL
    """)


class Migration(migrations.Migration):
    dependencies = [("crew", "0011_followers")]

    operations = [
        migrations.CreateModel(
            name="SharedOutput",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("value", models.JSONField()),
            ],
            options={"verbose_name": "shared output", "default_permissions": ()},
        ),
        migrations.AddField(
            model_name="task",
            name="shared_output",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="crew.sharedoutput",
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, give_back),
    ]

"""Where a long output stands that the duplicates of a key have in common. The new column is null
everywhere, so nothing is rewritten; its index is a migration of its own, for it takes longer.
"""

import uuid

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("crew", "0010_transcripts")]

    operations = [
        migrations.CreateModel(
            name="SharedOutput",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("value", models.JSONField()),
            ],
            options={"verbose_name": "shared output"},
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
    ]

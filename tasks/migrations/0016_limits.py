"""How workers are treated that failed. Rows are written at each settle while one is ill: half of
each page is left free for their next versions.
"""

from django.db import migrations, models


def give_room(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE crew_limit SET (fillfactor = 50)")


class Migration(migrations.Migration):
    dependencies = [
        ("crew", "0015_interrupted"),
    ]

    operations = [
        migrations.CreateModel(
            name="Limit",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "kind",
                        "name",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("kind", models.CharField(max_length=20)),
                ("name", models.CharField(max_length=200)),
                ("fails", models.IntegerField(default=0)),
                ("rests", models.IntegerField(default=0)),
                ("ramp", models.FloatField(null=True)),
                ("held_until", models.DateTimeField(null=True)),
                ("held_since", models.DateTimeField(null=True)),
                ("held_why", models.CharField(blank=True, default="", max_length=500)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("fails__gte", 0), ("rests__gte", 0)),
                        name="crew_limit_not_negative",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("held_until__isnull", True), ("rests", 0)),
                            models.Q(
                                ("held_since__isnull", False),
                                ("held_until__isnull", False),
                                ("rests__gt", 0),
                            ),
                            _connector="OR",
                        ),
                        name="crew_limit_rest_whole",
                    ),
                ],
            },
        ),
        migrations.RunPython(give_room, migrations.RunPython.noop),
    ]

"""A ticket ends with its session; a password of the settings is given once.

The default of the column stays in the database: older code inserts without it.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("crew", "0021_audit_seal_index"),
    ]

    operations = [
        migrations.AddField(
            model_name="token",
            name="session",
            field=models.TextField(db_default="", default="", editable=False),
        ),
        migrations.CreateModel(
            name="OperatorPassword",
            fields=[
                (
                    "username",
                    models.CharField(max_length=200, primary_key=True, serialize=False),
                ),
                ("hash", models.CharField(max_length=200)),
            ],
        ),
    ]

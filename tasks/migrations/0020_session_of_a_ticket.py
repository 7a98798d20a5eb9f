"""A ticket ends with the session that it was asked for in. The default stays: older code inserts."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("crew", "0019_made_index"),
    ]

    operations = [
        migrations.AddField(
            model_name="token",
            name="session",
            field=models.TextField(db_default="", default="", editable=False),
        ),
    ]

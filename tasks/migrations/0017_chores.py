"""When what clears away of one kind last had nothing left to do. A few rows."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("crew", "0016_limits"),
    ]

    operations = [
        migrations.CreateModel(
            name="Chore",
            fields=[
                ("name", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("done_at", models.DateTimeField()),
            ],
        ),
    ]

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("crew", "0019_made_index")]

    operations = [
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("previous", models.CharField(max_length=64)),
                ("digest", models.CharField(max_length=64)),
                ("count", models.PositiveIntegerField()),
                ("newest_at", models.DateTimeField()),
                ("is_pruned", models.BooleanField(db_default=False, default=False)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.AddField(
            model_name="auditentry",
            name="is_imported",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="auditentry",
            name="seal",
            field=models.BigIntegerField(editable=False, null=True),
        ),
    ]

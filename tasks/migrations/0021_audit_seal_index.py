"""The entries of a year and more are read to make it."""

from django.db import migrations, models

from ._beside import AddIndexBeside


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("crew", "0020_audit_seal")]

    operations = [
        AddIndexBeside(
            model_name="auditentry",
            index=models.Index(fields=["seal", "id"], name="crew_audit_seal"),
        ),
    ]

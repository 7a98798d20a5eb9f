"""Changes are read by snapshots (`live/change_reader.py`): none needs to carry its transaction."""

from django.db import migrations


def drop_xid(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE crew_change DROP COLUMN xid")


def add_xid(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE crew_change ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()"
        )


class Migration(migrations.Migration):
    dependencies = [("crew", "0004_failed_tasks")]

    operations = [migrations.RunPython(drop_xid, add_xid)]

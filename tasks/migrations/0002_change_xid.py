"""PostgreSQL shows ids out of order: a change carries the transaction that wrote it."""

from django.db import migrations


def add_xid(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE crew_change ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()"
        )


def drop_xid(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE crew_change DROP COLUMN xid")


class Migration(migrations.Migration):
    dependencies = [("crew", "0001_initial")]

    operations = [migrations.RunPython(add_xid, drop_xid)]

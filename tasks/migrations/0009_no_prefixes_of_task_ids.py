"""Django gives a text key of PostgreSQL a second index, for LIKE 'prefix%'. Nobody asks for tasks
so, and every version of every task was entered there: of the largest table's four full indexes
it was one.
"""

from django.db import migrations


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX IF EXISTS {_name(apps, schema_editor)}")


def create(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            f"CREATE INDEX {_name(apps, schema_editor)} ON crew_task (id varchar_pattern_ops)"
        )


def _name(apps, schema_editor):
    table = apps.get_model("crew", "Task")._meta.db_table
    return schema_editor.quote_name(schema_editor._create_index_name(table, ["id"], "_like"))


class Migration(migrations.Migration):
    dependencies = [("crew", "0008_table_settings")]

    operations = [migrations.RunPython(drop, create)]

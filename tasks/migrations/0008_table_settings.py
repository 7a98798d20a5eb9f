"""How PostgreSQL keeps the tables that grow. Nothing is rewritten, and nobody is kept waiting:
each takes a lock that lets reads and writes through, and new pages follow the settings.
"""

from django.db import migrations

SETTINGS = {
    # Each task is written three times: created, leased, settled. With half of each page free the
    # later versions find room beside the first, where the space of the dead ones is taken again
    # without a vacuum: 100,000 tasks leave 43 MB instead of 56, and a tenth less WAL.
    # By default a vacuum waits until a fifth of the table is dead: of ten million finished tasks
    # that is a million settled ones, over whose dead entries every page of a list walks.
    "crew_task": {
        "fillfactor": 50,
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_threshold": 10_000,
        "autovacuum_analyze_scale_factor": 0.05,
    },
    # Written once, or nearly, and deleted with old groups: what a chunk of those leaves is to be
    # filled by the next day's, not after a fifth of all there are.
    "crew_attempt": {
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_threshold": 10_000,
    },
    "crew_parentedge": {
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_threshold": 10_000,
    },
    # Rows live for ten minutes. Their number says nothing about how many died.
    "crew_change": {
        "autovacuum_vacuum_scale_factor": 0,
        "autovacuum_vacuum_threshold": 5_000,
    },
    # Every create counts its tasks into the group's row: room for it beside the row, so that no
    # index is touched.
    "crew_taskgroup": {
        "fillfactor": 70,
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_threshold": 1_000,
    },
}


def give(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table, settings in SETTINGS.items():
            words = ", ".join(f"{name} = {value}" for name, value in settings.items())
            schema_editor.execute(f"ALTER TABLE {table} SET ({words})")


def take_back(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table, settings in SETTINGS.items():
            schema_editor.execute(f"ALTER TABLE {table} RESET ({', '.join(settings)})")


class Migration(migrations.Migration):
    dependencies = [("crew", "0007_late_answers")]

    operations = [migrations.RunPython(give, take_back)]

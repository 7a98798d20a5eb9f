"""Whether this code knows the tables it works on: their migrations are the version of both."""

import functools

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from ..sql import on_postgres

LABEL = "crew"
ASK_WITHIN = 3  # seconds for a connection


def newer() -> list[str]:
    """Migrations the database has and this code does not: it was made for older tables."""
    return sorted(_applied() - _known())


def missing() -> list[str]:
    """Migrations this code has and the database does not: `migrate` was not run."""
    return sorted(_own() - _applied())


def too_old(names: list[str]) -> str:
    return (
        f"The database is newer than this version of Crew, which does not know {', '.join(names)}:"
        " start the version that it was migrated with."
    )


def not_migrated(names: list[str]) -> str:
    return f"The database lacks {', '.join(names)}: run `manage.py migrate` first."


def encoding() -> str:
    """In which a PostgreSQL server keeps its texts; "" where nobody can be asked, or it is SQLite.

    By a connection of its own, that ends here: whoever asks may be about to fork.
    """
    if not on_postgres():
        return ""
    own = connection.copy()
    options = {
        name: value for name, value in own.settings_dict["OPTIONS"].items() if name != "pool"
    }
    own.settings_dict["OPTIONS"] = options | {"connect_timeout": ASK_WITHIN}
    try:
        with own.cursor() as cursor:
            cursor.execute("SHOW server_encoding")
            return str(cursor.fetchone()[0])
    except Exception:  # noqa: BLE001  who is away, or cannot be used, is reported by whoever needs it
        return ""
    finally:
        own.close()


def _applied() -> set[str]:
    recorder = MigrationRecorder(connection)
    return set(recorder.migration_qs.filter(app=LABEL).values_list("name", flat=True))


@functools.cache
def _own() -> frozenset[str]:
    loader = MigrationLoader(None)
    return frozenset(name for label, name in loader.disk_migrations if label == LABEL)


@functools.cache
def _known() -> frozenset[str]:
    """Those on disk, and those that squashed ones stand for."""
    loader = MigrationLoader(None)
    replaced = {
        name
        for migration in loader.disk_migrations.values()
        for label, name in migration.replaces
        if label == LABEL
    }
    return _own() | replaced

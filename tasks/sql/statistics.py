"""What PostgreSQL's planner knows of the tables, where it would hear of their growth too late.

A table that was empty when it was analyzed, as after a retention, is taken for empty until
autovacuum comes by, a minute later: any way through it seems to cost the same, and a claim may
walk an index whole for each task. An ANALYZE takes tens of milliseconds.
"""

from collections.abc import Iterable

from django.db import connection

from ..rules.jsonio import dump
from . import on_postgres, run, statement

TABLES = ("crew_taskgroup", "crew_task", "crew_parentedge", "crew_attempt")

# Those of which far more rows were written since than there were.
OUTGROWN = statement(
    postgresql="""
        SELECT c.relname FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
        WHERE c.oid IN (SELECT to_regclass(jsonb_array_elements_text(%(tables)s::jsonb)))
          AND s.n_mod_since_analyze > greatest(%(most)s, 10 * c.reltuples)
    """,
    sqlite="SELECT 1 WHERE false",
)
FEW = 1_000  # rows: until then it matters little


def renew() -> list[str]:
    """Analyze what was outgrown; return which tables. SQLite's planner needs no such thing."""
    outgrown = [name for (name,) in run(OUTGROWN, {"tables": dump(TABLES), "most": FEW})]
    analyze(outgrown)
    return outgrown


def analyze(tables: Iterable[str] = TABLES) -> None:
    """On PostgreSQL: let the planner look at these tables, unless somebody else does right now.

    In a transaction it sees what that has written. Who may not analyze them is only warned.
    """
    names = ", ".join(tables)
    if names and on_postgres():
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE (SKIP_LOCKED) {names}")

"""Statements about keys of tasks that are created."""

from . import statement
from .duplicates import REACH
from .probes import IDS, TASK, TO_PARENTS

LOOKED_AT = 1_000  # tasks of a key

# The workers of these keys, as far as the first of their incomplete tasks tell.
WORKERS = statement(
    postgresql=f"""
        SELECT DISTINCT k.key, t.worker
        FROM jsonb_array_elements_text(%(keys)s::jsonb) AS k(key) CROSS JOIN LATERAL (
            SELECT worker FROM crew_task
            WHERE group_id = %(group)s AND crew_task.key = k.key AND crew_task.key <> ''
              AND NOT is_complete LIMIT {LOOKED_AT}) t
    """,
    sqlite=f"""
        SELECT DISTINCT k.value, t.worker FROM json_each(%(keys)s) k JOIN crew_task t
          ON t.rowid IN (SELECT rowid FROM crew_task
            WHERE group_id = %(group)s AND crew_task.key = k.value AND crew_task.key <> ''
              AND NOT is_complete LIMIT {LOOKED_AT})
    """,
)

# A task of the key at or above these, if the first that are looked at hold one.
ABOVE = statement(
    postgresql=f"""
        WITH RECURSIVE up(id) AS (
            SELECT k.id FROM {IDS}
            UNION SELECT e.parent_id FROM up CROSS JOIN LATERAL {TO_PARENTS.format("up.id")} e
        )
        SELECT t.id FROM (SELECT * FROM up LIMIT {REACH}) up
        CROSS JOIN LATERAL {TASK.format("up.id")} t
        WHERE t.group_id = %(group)s AND t.key = %(key)s LIMIT 1
    """,
    sqlite=f"""
        WITH RECURSIVE up(id) AS (
            SELECT value FROM json_each(%(ids)s)
            UNION SELECT e.parent_id FROM up JOIN crew_parentedge e ON e.child_id = up.id
            LIMIT {REACH}
        )
        SELECT t.id FROM up JOIN crew_task t ON t.id = up.id
        WHERE t.group_id = %(group)s AND t.key = %(key)s LIMIT 1
    """,
)

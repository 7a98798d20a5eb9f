"""Statements of what goes when it has had its time."""

from . import statement
from .probes import IDS

# Whether it is this transaction's turn to clear away of one kind: one at a time does.
TURN = statement(
    postgresql="SELECT pg_try_advisory_xact_lock(hashtextextended('crew prune ' || %(name)s, 0))",
    sqlite="SELECT 1",
)

AGO = {
    "postgresql": "statement_timestamp() - make_interval(secs => %(age)s)",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-' || %(age)s || ' seconds')",
}


def _old_groups(cutoff: str, created: str, behind: str, lock: str) -> str:
    return f"""
        SELECT g.id, {created}, g.task_count FROM crew_taskgroup g
        WHERE g.created_at < {cutoff} AND g.task_count > 0 {behind}
          AND NOT EXISTS (SELECT 1 FROM crew_task t WHERE t.group_id = g.id AND NOT t.is_complete)
        ORDER BY g.created_at, g.id LIMIT %(most)s {lock}
    """


_BEHIND = "AND (g.created_at, g.id) > (%(at)s, %(id)s)"
# SQLite compares letters, and a time that was read and given back may have more of them.
_AS_STORED = "g.created_at || ''"
_LOCK = "FOR UPDATE OF g SKIP LOCKED"

# Old groups of which nothing is left to do, oldest first; locked, and without those that are.
FIRST_GROUPS = statement(
    postgresql=_old_groups(AGO["postgresql"], "g.created_at", "", _LOCK),
    sqlite=_old_groups(AGO["sqlite"], _AS_STORED, "", ""),
)
# The same, behind a group.
NEXT_GROUPS = statement(
    postgresql=_old_groups(AGO["postgresql"], "g.created_at", _BEHIND, _LOCK),
    sqlite=_old_groups(AGO["sqlite"], _AS_STORED, _BEHIND, ""),
)

# All tasks of these groups, and whether each was completed so long ago.
TASKS = statement(
    postgresql=f"""
        SELECT t.group_id, t.id,
               t.is_complete AND coalesce(t.completed_at < {AGO["postgresql"]}, false)
        FROM {IDS} CROSS JOIN LATERAL (
            SELECT * FROM crew_task WHERE crew_task.group_id >= k.id AND crew_task.group_id <= k.id
            ORDER BY crew_task.group_id, crew_task.created_at, crew_task.id OFFSET 0) t
    """,
    sqlite=f"""
        SELECT t.group_id, t.id,
               t.is_complete AND coalesce(t.completed_at < {AGO["sqlite"]}, false)
        FROM json_each(%(ids)s) k JOIN crew_task t ON t.group_id = k.value
    """,
)

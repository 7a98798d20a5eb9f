"""Statements of what people do."""

from . import Statement, statement

# Every task of the group, locked in id order: the order in which settles lock theirs.
LOCK_TASKS = statement(
    postgresql="""
        SELECT count(*) FROM (SELECT t.id FROM crew_task t
            WHERE t.group_id = %(group)s AND (%(ids)s::jsonb IS NULL
               OR t.id IN (SELECT jsonb_array_elements_text(%(ids)s::jsonb)))
            ORDER BY t.id FOR NO KEY UPDATE) locked
    """,
    sqlite="SELECT 0",
)

# The group, if nobody has its row just now.
GROUP_FREE = statement(
    postgresql="""
        SELECT id FROM crew_taskgroup WHERE id = %(group)s FOR NO KEY UPDATE SKIP LOCKED
    """,
    sqlite="SELECT %(group)s",
)

# End the open attempts of these tasks (all of the group when ids is null) without an outcome.
CANCEL_ATTEMPTS = statement(
    postgresql="""
        INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, error, note,
                                  started_at, finished_at, late_outcome, late_error)
        SELECT t.id, t.attempt, t.worker, t.leased_by, 'cancelled', %(why)s, '', t.leased_at,
               {now}, '', ''
        FROM crew_task t WHERE t.group_id = %(group)s AND t.leased_by IS NOT NULL
         AND (%(ids)s::jsonb IS NULL
              OR t.id IN (SELECT jsonb_array_elements_text(%(ids)s::jsonb)))
    """,
    sqlite="""
        INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, error, note,
                                  started_at, finished_at, late_outcome, late_error)
        SELECT t.id, t.attempt, t.worker, t.leased_by, 'cancelled', %(why)s, '', t.leased_at,
               {now}, '', ''
        FROM crew_task t WHERE t.group_id = %(group)s AND t.leased_by IS NOT NULL
         AND (%(ids)s IS NULL OR t.id IN (SELECT value FROM json_each(%(ids)s)))
    """,
)

_PENDING = """(
            SELECT count(*) FROM crew_parentedge e
            CROSS JOIN LATERAL (SELECT is_complete FROM crew_task WHERE id = e.parent_id LIMIT 1) p
            WHERE e.child_id = t.id AND NOT p.is_complete)"""

# Count the pending parents of these tasks (all of the group when ids is null) from the edges. On
# PostgreSQL without a join: with statistics of a time when the tables were empty, it would read
# them whole for each task.
RECOUNT = statement(
    postgresql=f"""
        UPDATE crew_task t SET pending_parents = {_PENDING}
        WHERE t.group_id = %(group)s AND t.pending_parents <> {_PENDING}
         AND (%(ids)s::jsonb IS NULL
              OR t.id = ANY (ARRAY(SELECT jsonb_array_elements_text(%(ids)s::jsonb))))
    """,
    sqlite="""
        UPDATE crew_task AS t SET pending_parents = counted.n
        FROM (SELECT c.id, count(p.id) FILTER (WHERE NOT p.is_complete) AS n
              FROM crew_task c LEFT JOIN crew_parentedge e ON e.child_id = c.id
              LEFT JOIN crew_task p ON p.id = e.parent_id
              WHERE c.group_id = %(group)s AND (%(ids)s IS NULL
                 OR c.id IN (SELECT value FROM json_each(%(ids)s)))
              GROUP BY c.id) counted
        WHERE t.id = counted.id AND t.pending_parents <> counted.n
    """,
)

# What refers to the tasks of a group. The ids as an array, so that PostgreSQL probes for each; as a
# join, with statistics of empty tables, it compares all with all.
_DROP = "DELETE FROM {} WHERE {} (SELECT id FROM crew_task WHERE group_id = %(group)s){}"


def _drop(table: str, column: str) -> Statement:
    return statement(
        postgresql=_DROP.format(table, f"{column} = ANY (ARRAY", ")"),
        sqlite=_DROP.format(table, f"{column} IN", ""),
    )


DROP_EDGES = _drop("crew_parentedge", "child_id")
DROP_ATTEMPTS = _drop("crew_attempt", "task_id")

# Tasks that lose their last parent when these go: the next round of a deletion.
ORPHANS = statement(
    postgresql="""
        SELECT DISTINCT e.child_id FROM crew_parentedge e
        WHERE e.parent_id IN (SELECT jsonb_array_elements_text(%(ids)s::jsonb))
          AND NOT EXISTS (
            SELECT FROM crew_parentedge other WHERE other.child_id = e.child_id
             AND other.parent_id NOT IN (SELECT jsonb_array_elements_text(%(going)s::jsonb)))
    """,
    sqlite="""
        SELECT DISTINCT e.child_id FROM crew_parentedge e
        WHERE e.parent_id IN (SELECT value FROM json_each(%(ids)s))
          AND NOT EXISTS (
            SELECT 1 FROM crew_parentedge other WHERE other.child_id = e.child_id
             AND other.parent_id NOT IN (SELECT value FROM json_each(%(going)s)))
    """,
)

# All ancestors of these tasks, each once.
ANCESTORS = statement(
    postgresql="""
        WITH RECURSIVE up AS (
            SELECT jsonb_array_elements_text(%(ids)s::jsonb) AS id
            UNION SELECT e.parent_id FROM up JOIN crew_parentedge e ON e.child_id = up.id
        ) SELECT id FROM up
    """,
    sqlite="""
        WITH RECURSIVE up(id) AS (
            SELECT value FROM json_each(%(ids)s)
            UNION SELECT e.parent_id FROM up JOIN crew_parentedge e ON e.child_id = up.id
        ) SELECT id FROM up
    """,
)

# Whether it is this transaction's turn to delete finished groups: one at a time does.
PRUNE_TURN = statement(
    postgresql="SELECT pg_try_advisory_xact_lock(hashtextextended('crew prune', 0))",
    sqlite="SELECT 1",
)

"""Statements of what people do. Each takes ids, some thousands at a time (`probes.sliced`)."""

from . import ERRORS, on_postgres, statement
from .probes import IDS, TASK, TO_CHILDREN, TO_PARENTS

# These tasks of the group, locked in id order: the order in which settles lock theirs. All at
# once, for that order. The group is asked for in words that no index knows.
LOCK_TASKS = statement(
    postgresql=f"""
        SELECT count(*) FROM (
            SELECT t.id FROM (SELECT DISTINCT k.id FROM {IDS} ORDER BY k.id) k
            CROSS JOIN LATERAL (
                SELECT id FROM crew_task WHERE id >= k.id AND id <= k.id
                 AND group_id || '' = %(group)s ORDER BY id FOR NO KEY UPDATE) t
        ) locked
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

# The task, in the same way.
TASK_FREE = statement(
    postgresql="SELECT id FROM crew_task WHERE id = %(task)s FOR NO KEY UPDATE SKIP LOCKED",
    sqlite="SELECT %(task)s",
)

# End the open attempts of these tasks without an outcome.
CANCEL_ATTEMPTS = statement(
    postgresql=f"""
        INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, error, note,
                                  started_at, finished_at, late_outcome, late_error)
        SELECT t.id, t.attempt, t.worker, t.leased_by, 'cancelled', %(why)s, '', t.leased_at,
               {{now}}, '', ''
        FROM {IDS} CROSS JOIN LATERAL {TASK.format("k.id")} t
        WHERE t.group_id = %(group)s AND t.leased_by IS NOT NULL
    """,
    sqlite="""
        INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, error, note,
                                  started_at, finished_at, late_outcome, late_error)
        SELECT t.id, t.attempt, t.worker, t.leased_by, 'cancelled', %(why)s, '', t.leased_at,
               {now}, '', ''
        FROM crew_task t WHERE t.group_id = %(group)s AND t.leased_by IS NOT NULL
         AND t.id IN (SELECT value FROM json_each(%(ids)s))
    """,
)

_PENDING = f"""(
            SELECT count(*) FROM {TO_PARENTS.format("t.id")} e
            CROSS JOIN LATERAL {TASK.format("e.parent_id")} p WHERE NOT p.is_complete)"""

# Count the pending parents of these tasks, which are locked, from the edges.
RECOUNT = statement(
    postgresql=f"""
        UPDATE crew_task t SET pending_parents = {_PENDING}
        WHERE t.ctid = ANY (ARRAY(
            SELECT f.ctid FROM {IDS} CROSS JOIN LATERAL {TASK.format("k.id")} f))
          AND t.pending_parents <> {_PENDING}
    """,
    sqlite="""
        UPDATE crew_task AS t SET pending_parents = counted.n
        FROM (SELECT c.id, count(p.id) FILTER (WHERE NOT p.is_complete) AS n
              FROM crew_task c LEFT JOIN crew_parentedge e ON e.child_id = c.id
              LEFT JOIN crew_task p ON p.id = e.parent_id
              WHERE c.id IN (SELECT value FROM json_each(%(ids)s))
              GROUP BY c.id) counted
        WHERE t.id = counted.id AND t.pending_parents <> counted.n
    """,
)

_PARENTS = {
    True: f"(SELECT count(*) FROM {TO_PARENTS.format('crew_task.id')} e)",
    False: "(SELECT count(*) FROM crew_parentedge e WHERE e.child_id = crew_task.id)",
}


def parents() -> str:
    """How many parents the task has that a statement of Django's updates."""
    return _PARENTS[on_postgres()]


def _cancel(vendor: str) -> str:
    is_reported = {
        "postgresql": "t.errors -> -1 IS NOT DISTINCT FROM to_jsonb(%(why)s::text)",
        "sqlite": "t.errors ->> '$[#-1]' IS %(why)s",
    }[vendor]
    return f"""
        UPDATE crew_task AS t SET remaining_attempts = 0, leased_by = NULL, leased_at = NULL,
            merged_into = NULL,
            run_after = CASE WHEN t.leased_by IS NULL THEN t.run_after ELSE {{now}} END,
            errors = CASE WHEN t.remaining_attempts = 0 OR {is_reported}
                THEN t.errors ELSE {ERRORS[vendor].format("%(why)s")} END
    """


# No attempts for these tasks, which are locked, and why in words where they had any. As a reset
# does, those that run are due now: a claim that began before the lease was given does not see that
# its call is being ended. What is due only after its beginning it does not take.
CANCEL = statement(
    postgresql=f"""
        {_cancel("postgresql")} WHERE t.ctid = ANY (ARRAY(
            SELECT f.ctid FROM {IDS} CROSS JOIN LATERAL {TASK.format("k.id")} f))
    """,
    sqlite=f"{_cancel('sqlite')} WHERE t.id IN (SELECT value FROM json_each(%(ids)s))",
)

# The children of these tasks, each once.
CHILDREN = statement(
    postgresql=f"""
        SELECT DISTINCT e.child_id FROM {IDS} CROSS JOIN LATERAL {TO_CHILDREN.format("k.id")} e
    """,
    sqlite="""
        SELECT DISTINCT child_id FROM crew_parentedge
        WHERE parent_id IN (SELECT value FROM json_each(%(ids)s))
    """,
)

# The tasks that wait for one of these, as it runs for them.
FOLLOWERS = statement(
    postgresql=f"""
        SELECT f.id FROM {IDS} CROSS JOIN LATERAL (
            SELECT id FROM crew_task WHERE merged_into >= k.id AND merged_into <= k.id
             AND NOT is_complete ORDER BY merged_into OFFSET 0) f
    """,
    sqlite="""
        SELECT id FROM crew_task WHERE NOT is_complete
         AND merged_into IN (SELECT value FROM json_each(%(ids)s))
    """,
)

# How many edges and attempts hang on the tasks of a group, about; no further than `most`.
WEIGHT = statement(
    postgresql=f"""
        SELECT (SELECT count(*) FROM (
                SELECT FROM (SELECT id FROM crew_task WHERE group_id = %(group)s OFFSET 0) t
                CROSS JOIN LATERAL {TO_PARENTS.format("t.id")} e LIMIT %(most)s) edge)
            + (SELECT coalesce(sum(attempt), 0) FROM crew_task WHERE group_id = %(group)s)
    """,
    sqlite="""
        SELECT (SELECT count(*) FROM (
                SELECT 1 FROM crew_task t CROSS JOIN crew_parentedge e ON e.child_id = t.id
                WHERE t.group_id = %(group)s LIMIT %(most)s))
            + (SELECT coalesce(sum(attempt), 0) FROM crew_task WHERE group_id = %(group)s)
    """,
)

# The edges above these tasks and above their children.
AROUND = statement(
    postgresql=f"""
        WITH near(id) AS MATERIALIZED (
            SELECT k.id FROM {IDS}
            UNION SELECT e.child_id FROM {IDS} CROSS JOIN LATERAL {TO_CHILDREN.format("k.id")} e
        ) SELECT e.child_id, e.parent_id FROM near
            CROSS JOIN LATERAL {TO_PARENTS.format("near.id")} e
    """,
    sqlite="""
        WITH near(id) AS MATERIALIZED (
            SELECT value FROM json_each(%(ids)s)
            UNION SELECT e.child_id FROM json_each(%(ids)s) k
                CROSS JOIN crew_parentedge e ON e.parent_id = k.value
        ) SELECT e.child_id, e.parent_id FROM near
            CROSS JOIN crew_parentedge e ON e.child_id = near.id
    """,
)

# What the answers of these tasks made.
MADE = statement(
    postgresql=f"""
        SELECT m.id FROM {IDS} CROSS JOIN LATERAL (
            SELECT id FROM crew_task WHERE created_by >= k.id AND created_by <= k.id
             AND NOT (created_by = '') ORDER BY created_by OFFSET 0) m
    """,
    sqlite="""
        SELECT id FROM crew_task WHERE NOT (created_by = '')
         AND created_by IN (SELECT value FROM json_each(%(ids)s))
    """,
)

# These tasks and all that descend from them, each once; the end of it is for who uses it.
_DOWN = f"""
        WITH RECURSIVE down(id) AS (
            SELECT k.id FROM {IDS}
            UNION SELECT e.child_id FROM down
                CROSS JOIN LATERAL {TO_CHILDREN.format("down.id")} e
        )"""
_DOWN_ON_SQLITE = """
        WITH RECURSIVE down(id) AS (
            SELECT value FROM json_each(%(ids)s)
            UNION SELECT e.child_id FROM down JOIN crew_parentedge e ON e.parent_id = down.id"""

# All edges above the tasks that descend from these, and above these.
BELOW = statement(
    postgresql=f"""{_DOWN}
        SELECT e.child_id, e.parent_id FROM down
            CROSS JOIN LATERAL {TO_PARENTS.format("down.id")} e
    """,
    sqlite=f"""{_DOWN_ON_SQLITE}
        ) SELECT e.child_id, e.parent_id FROM down JOIN crew_parentedge e ON e.child_id = down.id
    """,
)

# How many tasks descend from these, themselves too; no further than `most`.
COUNT_BELOW = statement(
    postgresql=f"""{_DOWN}
        SELECT count(*) FROM (SELECT FROM down LIMIT %(most)s) first_of_them
    """,
    sqlite=f"""{_DOWN_ON_SQLITE}
            LIMIT %(most)s
        ) SELECT count(*) FROM down
    """,
)

# All ancestors of these tasks, each once.
ANCESTORS = statement(
    postgresql=f"""
        WITH RECURSIVE up(id) AS (
            SELECT k.id FROM {IDS}
            UNION SELECT e.parent_id FROM up CROSS JOIN LATERAL {TO_PARENTS.format("up.id")} e
        ) SELECT id FROM up
    """,
    sqlite="""
        WITH RECURSIVE up(id) AS (
            SELECT value FROM json_each(%(ids)s)
            UNION SELECT e.parent_id FROM up JOIN crew_parentedge e ON e.child_id = up.id
        ) SELECT id FROM up
    """,
)

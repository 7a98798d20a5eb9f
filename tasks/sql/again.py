"""Statements about tasks that run again: what their earlier answers made."""

from . import AFTER, PROBED, statement
from .probes import IDS, TASK
from .task_columns import RECORD, child_set

# Whether an earlier answer to the task made children that are still there; asked only of a task
# that had an attempt before. `{0}` is the task's alias, `{1}` that it had one.
HAS_MADE = """
    CASE WHEN {1} THEN (
        SELECT 1 FROM crew_task made
        WHERE made.created_by = {0}.id AND NOT (made.created_by = '') LIMIT 1
    ) IS NOT NULL ELSE false END"""

_HANGS = """(SELECT 1 FROM crew_parentedge e
             WHERE e.child_id = c.id AND e.parent_id = c.created_by) IS NOT NULL"""

# What the answers of these tasks made: whether it is complete, a seed, still a child of its
# maker, and whether its maker is to keep what is complete.
MADE = statement(
    postgresql=f"""
        SELECT c.id, c.is_complete, c.is_seed, {_HANGS},
               coalesce(m.keeps_complete, false)
        FROM {IDS} CROSS JOIN LATERAL {TASK.format("k.id")} m
        CROSS JOIN LATERAL (
            SELECT * FROM crew_task
            WHERE created_by >= k.id AND created_by <= k.id AND NOT (created_by = '')
            ORDER BY created_by OFFSET 0) c
        WHERE c.group_id = m.group_id
    """,
    sqlite=f"""
        SELECT c.id, c.is_complete, c.is_seed, {_HANGS},
               coalesce(m.keeps_complete, false)
        FROM json_each(%(ids)s) k JOIN crew_task m ON m.id = k.value
        JOIN crew_task c
            ON c.created_by = m.id AND NOT (c.created_by = '') AND c.group_id = m.group_id
    """,
)

# Of these tasks: who made them, in which group, the key of the maker if that could still be
# completed by another of its key, and whether it is still one of their parents.
MAKERS = statement(
    postgresql=f"""
        SELECT c.id, c.group_id, c.created_by,
               CASE WHEN NOT m.is_complete AND m.leased_by IS NULL THEN m.key ELSE '' END,
               {_HANGS}
        FROM {IDS} CROSS JOIN LATERAL {TASK.format("k.id")} c
        CROSS JOIN LATERAL {TASK.format("c.created_by")} m
    """,
    sqlite=f"""
        SELECT c.id, c.group_id, c.created_by,
               CASE WHEN NOT m.is_complete AND m.leased_by IS NULL THEN m.key ELSE '' END,
               {_HANGS}
        FROM crew_task c JOIN crew_task m ON m.id = c.created_by
        WHERE c.id IN (SELECT value FROM json_each(%(ids)s))
    """,
)

# What a new answer says of children that are there, which are locked and as if they had never
# run. A person's pause stays.
ADOPT = statement(
    postgresql=f"""
        UPDATE crew_task t SET {child_set("postgresql")},
            is_paused = t.is_paused OR n.is_paused, pending_parents = n.pending,
            created_by = n.created_by, run_after = CASE WHEN n.delay > 0
                THEN greatest(n.run_after, {AFTER["postgresql"].format("n.delay")})
                ELSE coalesce(n.run_after, {{now}}) END
        FROM jsonb_to_recordset(%(tasks)s::jsonb) AS n(
            {RECORD}, id text, is_paused bool, run_after timestamptz, pending int,
            created_by text, delay float)
        WHERE t.id{PROBED.format("n.id")}
    """,
    sqlite=f"""
        UPDATE crew_task AS t SET {child_set("sqlite")},
            is_paused = t.is_paused OR v ->> 'is_paused', pending_parents = v ->> 'pending',
            created_by = v ->> 'created_by', run_after = CASE WHEN v ->> 'delay' > 0
                THEN max(coalesce(v ->> 'run_after', ''),
                         {AFTER["sqlite"].format("(v ->> 'delay')")})
                ELSE coalesce(v ->> 'run_after', {{now}}) END
        FROM (SELECT value AS v FROM json_each(%(tasks)s)) n
        WHERE t.id = n.v ->> 'id'
    """,
)

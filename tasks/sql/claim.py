"""Statements of the claim."""

from . import PROBED, statement
from .again import HAS_MADE
from .cuts import CUT_OF_KEY, TAKES
from .payloads import INPUT

# Whether the task has parents. Not EXISTS: for that the planner may read every edge into a hash.
_IS_CHILD = "(SELECT 1 FROM crew_parentedge e WHERE e.child_id = {} LIMIT 1) IS NOT NULL"


# Of the attempt that begins: the first of a task is no second answer.
_HAS_MADE = {
    "postgresql": HAS_MADE.format("t", "t.attempt > 1"),
    "sqlite": HAS_MADE.format("crew_task", "attempt > 1"),
}


# No call of this task, or of its key, is still being ended. While none at all is, the first line
# says so once for the whole statement.
_FREE = f"""
    ((SELECT 1 FROM crew_cutcall LIMIT 1) IS NULL
     OR (SELECT 1 FROM crew_cutcall c WHERE c.task_id = t.id AND {TAKES} LIMIT 1) IS NULL
        AND ({CUT_OF_KEY}) IS NULL)
"""


def _claim(which: str = "") -> str:
    return f"""
        WITH lane AS (
            SELECT l.* FROM jsonb_to_recordset(%(lanes)s::jsonb)
                AS l(worker text, workgroup text, priority int, n int)
            WHERE NOT EXISTS (SELECT FROM crew_workgroup h
                              WHERE h.name = l.workgroup AND h.held_until > {{now}})
        ), picked AS MATERIALIZED (
            SELECT taken.* FROM lane CROSS JOIN LATERAL (
                SELECT t.id, t.key, t.group_id FROM crew_task t
                WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
                  AND t.priority = lane.priority AND t.run_after <= {{now}} AND {{ready}} {which}
                  AND {_FREE}
                ORDER BY t.run_after LIMIT lane.n
                FOR NO KEY UPDATE SKIP LOCKED
            ) taken
        ), leased AS (
            UPDATE crew_task t
            SET attempt = t.attempt + 1, leased_by = %(me)s, leased_at = {{now}}
            FROM picked WHERE t.id{PROBED.format("picked.id")} AND picked.key = ''
            RETURNING t.id, t.attempt, t.group_id, t.worker, t.workgroup, t.key,
                      {INPUT["postgresql"]}, {_IS_CHILD.format("t.id")} AS is_child,
                      t.error_delay_in_seconds, {_HAS_MADE["postgresql"]}
        )
        SELECT * FROM leased
        UNION ALL
        SELECT id, NULL, group_id, NULL, NULL, key, NULL, NULL, NULL, NULL, NULL
        FROM picked WHERE key <> ''
    """


# Take up to `n` due tasks of each lane. Tasks without a key are leased; those with one come back
# unleased (attempt NULL), locked, for KEYED to decide. MATERIALIZED keeps the planner from
# running the picking twice, which takes more than was asked for. The hold is read here once
# more: nothing of a workgroup goes out after its hold was committed.
CLAIM = statement(
    postgresql=_claim(),
    sqlite="",  # SQLite has no UPDATE inside WITH: PICK and LEASE do it, alone in the database
)

_NOT_BARRED = {
    "postgresql": "NOT t.id = ANY (ARRAY(SELECT jsonb_array_elements_text(%(barred)s::jsonb)))",
    "sqlite": "t.id NOT IN (SELECT value FROM json_each(%(barred)s))",
}

# The same, past the tasks of some groups, whose answers could not be written for now, and past
# tasks that the database does not let be leased.
CLAIM_BESIDE = statement(
    postgresql=_claim(
        "AND NOT t.group_id = ANY (ARRAY(SELECT jsonb_array_elements_text(%(groups)s::jsonb)))"
        f" AND {_NOT_BARRED['postgresql']}"
    ),
    sqlite="",
)


def _first(vendor: str) -> str:
    return f"""
        SELECT t.id FROM crew_task t
        WHERE t.worker = %(worker)s AND t.workgroup = %(workgroup)s
          AND t.priority = %(priority)s AND t.run_after <= {{now}} AND {{ready}}
          AND {_NOT_BARRED[vendor]}
        ORDER BY t.run_after LIMIT %(n)s
    """


# What comes first in a lane.
FIRST = statement(postgresql=_first("postgresql"), sqlite=_first("sqlite"))

PICK = statement(
    postgresql="",
    sqlite=f"""
        SELECT t.id, t.key, t.group_id FROM crew_task t
        WHERE t.worker = %(worker)s AND t.workgroup = %(workgroup)s
          AND t.priority = %(priority)s AND t.run_after <= {{now}} AND {{ready}}
          AND {_FREE} AND {_NOT_BARRED["sqlite"]}
          AND NOT EXISTS (SELECT 1 FROM crew_workgroup h
                          WHERE h.name = t.workgroup AND h.held_until > {{now}})
        ORDER BY t.run_after LIMIT %(n)s
    """,
)

LEASE = statement(
    postgresql=f"""
        UPDATE crew_task t SET attempt = t.attempt + 1, leased_by = %(me)s, leased_at = {{now}}
        FROM jsonb_array_elements_text(%(ids)s::jsonb) AS one(id)
        CROSS JOIN LATERAL (
            SELECT t.id FROM (
                SELECT * FROM crew_task WHERE crew_task.id = one.id LIMIT 1 FOR NO KEY UPDATE
            ) t WHERE {{ready}}
        ) locked
        WHERE t.id{PROBED.format("locked.id")}
        RETURNING t.id, t.attempt, t.group_id, t.worker, t.workgroup, t.key,
                  {INPUT["postgresql"]}, {_IS_CHILD.format("t.id")}, t.error_delay_in_seconds,
                  {_HAS_MADE["postgresql"]}
    """,
    sqlite=f"""
        UPDATE crew_task AS t SET attempt = attempt + 1, leased_by = %(me)s, leased_at = {{now}}
        WHERE t.id IN (SELECT value FROM json_each(%(ids)s)) AND {{ready}}
        RETURNING id, attempt, group_id, worker, workgroup, key,
                  {INPUT["sqlite"]}, {_IS_CHILD.format("id")}, error_delay_in_seconds,
                  {_HAS_MADE["sqlite"]}
    """,
)

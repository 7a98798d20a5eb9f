"""Statements that give the outcome of a task to the other tasks of its key."""

from ..rules.states import State
from . import AFTER, ERRORS, GREATEST, PROBED, statement
from .again import HAS_MADE
from .duplicates import BELOW, FOLLOWS, HANGS
from .states import none_of


def _shared(vendor: str) -> str:
    """What the outcome `a` of its leader makes of the columns of a duplicate `t`.

    `a.workgroup` is the one whose hold the outcome is, if any: that keeps its duplicates too.
    """
    after, greatest = AFTER[vendor], GREATEST[vendor]
    longest = f"{greatest}(t.error_delay_in_seconds, a.wait)"
    return f"""
        is_complete = a.outcome = 'completed',
        completed_at = CASE WHEN a.outcome = 'completed' THEN {{now}} END,
        merged_into = CASE WHEN a.outcome = 'completed' THEN a.leader END,
        output = CASE WHEN a.outcome = 'completed' THEN a.output ELSE t.output END,
        shared_output_id = CASE WHEN a.outcome = 'completed' THEN a.shared
                                ELSE t.shared_output_id END,
        errors = CASE WHEN a.outcome = 'failed' THEN {ERRORS[vendor].format("a.error")}
                      ELSE t.errors END,
        remaining_attempts = CASE WHEN a.outcome = 'failed'
                                  THEN {greatest}(0, t.remaining_attempts - 1)
                                  ELSE t.remaining_attempts END,
        run_after = CASE a.outcome
            WHEN 'failed' THEN {after.format(longest)}
            WHEN 'held' THEN CASE WHEN t.workgroup = a.workgroup THEN t.run_after
                                  ELSE {greatest}(t.run_after, {after.format("a.wait")}) END
            ELSE t.run_after END
    """


_WAITS = none_of(State.COMPLETE, State.EXECUTING)


# The leader of a duplicate that is completed and whose own earlier answers made children.
def _ran_before(table: str) -> str:
    has_made = HAS_MADE.format(table, f"{table}.is_complete AND {table}.attempt > 0")
    return f"CASE WHEN {has_made} THEN {table}.merged_into END"


_SHARING = """
            FROM jsonb_to_recordset(%(rows)s::jsonb)
                AS d(id text, outcome text, error text, wait float, workgroup text, shared uuid)
            CROSS JOIN LATERAL (SELECT * FROM crew_task WHERE crew_task.id = d.id LIMIT 1) l
"""

_FOUND = """
            SELECT s.id, l.group_id, l.key, l.id AS leader, d.outcome, d.error, d.wait, d.workgroup,
                   d.shared,
                   CASE WHEN d.shared IS NULL THEN l.output END AS output
"""

# Some of the other tasks of the keys, and which of them follow.
_TWINS = f"""
        twin AS MATERIALIZED (
            {_FOUND}, s.hangs, s.pending_parents
            {_SHARING} CROSS JOIN LATERAL (
                SELECT t.id, t.pending_parents, {HANGS} AS hangs FROM crew_task t
                WHERE t.group_id = l.group_id AND t.key = l.key AND t.key <> ''
                  AND t.id <> l.id AND {_WAITS} OFFSET 0
            ) s
            WHERE s.id || '' > %(after)s ORDER BY s.id LIMIT %(most)s
        ), {BELOW["postgresql"]}
"""

_FOLLOWS = FOLLOWS["postgresql"]


def _merge(found: str) -> str:
    return f"""
        WITH RECURSIVE {found}, duplicate AS MATERIALIZED (
            SELECT found.* FROM (SELECT * FROM found ORDER BY id) found CROSS JOIN LATERAL (
                SELECT FROM crew_task t
                WHERE t.id = found.id AND t.group_id = found.group_id AND t.key = found.key
                  AND {_WAITS} FOR NO KEY UPDATE
            ) locked
        ), in_common AS (
            INSERT INTO crew_sharedoutput (id, value)
            SELECT u.shared, l.output
            FROM (SELECT DISTINCT leader, shared FROM duplicate WHERE shared IS NOT NULL) u
            CROSS JOIN LATERAL (SELECT * FROM crew_task WHERE crew_task.id = u.leader LIMIT 1) l
            ON CONFLICT DO NOTHING
        ), done AS (
            UPDATE crew_task t SET {_shared("postgresql")}
            FROM duplicate a WHERE t.id{PROBED.format("a.id")}
            RETURNING t.id, t.group_id, t.is_complete, {_ran_before("t")} AS ran_before
        )
        SELECT id, group_id, is_complete, ran_before FROM done
    """


# The other tasks of a key share its outcome (contract part 3). A completed one leaves with the
# output, one row of which stands for all of them where `shared` names it; a failed one costs each
# an attempt; otherwise they are only let go. The last column is `_ran_before`.
# PostgreSQL takes `most` of them, by id, behind `after`: however many there are, no statement runs
# into its timeout. A last row without a group says that more may be left, and after which one.
DUPLICATES = statement(
    postgresql=f"""
        {_merge(f"{_TWINS}, found AS MATERIALIZED (SELECT * FROM twin WHERE {_FOLLOWS})")}
        UNION ALL SELECT max(id), NULL, NULL, NULL FROM twin HAVING count(*) >= %(most)s
    """,
    sqlite=f"""
        WITH RECURSIVE leader AS MATERIALIZED (
            SELECT l.id AS leader, l.group_id, l.key, d.value ->> 'outcome' AS outcome,
                   CASE WHEN d.value ->> 'shared' IS NULL THEN l.output END AS output,
                   d.value ->> 'error' AS error, d.value ->> 'wait' AS wait,
                   d.value ->> 'workgroup' AS workgroup, d.value ->> 'shared' AS shared
            FROM json_each(%(rows)s) d JOIN crew_task l ON l.id = d.value ->> 'id'
        ), twin AS MATERIALIZED (
            SELECT leader.leader, t.id, t.pending_parents, {HANGS} AS hangs
            FROM leader JOIN crew_task t ON t.group_id = leader.group_id AND t.key = leader.key
            WHERE t.key <> '' AND t.id <> leader.leader AND {_WAITS}
        ), {BELOW["sqlite"]}
        UPDATE crew_task AS t SET {_shared("sqlite")}
        FROM twin JOIN leader a ON a.leader = twin.leader
        WHERE t.id = twin.id AND {FOLLOWS["sqlite"]}
        RETURNING id, group_id, is_complete, {_ran_before("crew_task")}
    """,
)

# Those that are left, found at once, without a leader if they do not follow; and some of one
# leader's: to look for them again for each part would cost the square of their number.
DUPLICATES_LEFT = statement(
    postgresql=f"""
        WITH RECURSIVE {_TWINS}
        SELECT twin.id, CASE WHEN {_FOLLOWS} THEN twin.leader END FROM twin ORDER BY twin.id
    """,
    sqlite="",
)

DUPLICATES_SOME = statement(
    postgresql=_merge(f"""
        found AS MATERIALIZED (
            {_FOUND} {_SHARING} CROSS JOIN jsonb_array_elements_text(%(ids)s::jsonb) AS s(id))
    """),
    sqlite="",
)

# Before the duplicates, as SQLite writes nothing inside WITH.
IN_COMMON = statement(
    postgresql="",
    sqlite=f"""
        INSERT INTO crew_sharedoutput (id, value)
        SELECT d.value ->> 'shared', l.output
        FROM json_each(%(rows)s) d JOIN crew_task l ON l.id = d.value ->> 'id'
        WHERE d.value ->> 'shared' IS NOT NULL AND l.key <> '' AND EXISTS (
            SELECT 1 FROM crew_task t WHERE t.key = l.key AND t.group_id = l.group_id
              AND t.key <> '' AND t.id <> l.id AND {_WAITS})
    """,
)

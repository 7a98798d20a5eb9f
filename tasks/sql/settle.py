"""Statements of the settle."""

from . import AFTER, ERRORS, PROBED, statement
from .again import HAS_MADE
from .duplicates import BELOW, FOLLOWS, HANGS

# Keep the groups from being reset, paused or deleted while their answers are written: one after
# the other in id order. A probe for each: a plan that was kept from when there was one group would
# read all groups for each of these.
GROUPS = statement(
    postgresql="""
        SELECT g.id, g.is_paused
        FROM (SELECT jsonb_array_elements_text(%(groups)s::jsonb) AS id ORDER BY 1) AS k
        CROSS JOIN LATERAL (
            SELECT * FROM crew_taskgroup WHERE crew_taskgroup.id = k.id FOR KEY SHARE) AS g
    """,
    sqlite="""
        SELECT id, is_paused FROM crew_taskgroup
        WHERE id IN (SELECT value FROM json_each(%(groups)s))
    """,
)

# The same for whoever does not wait: one row, a JSON object of those that could be had at once. It
# is kept for OUTCOMES_AT_ONCE, which comes in the same round trip and writes for these alone.
GROUPS_AT_ONCE = statement(
    postgresql="""
        WITH kept AS MATERIALIZED (
            SELECT g.id, g.is_paused
            FROM (SELECT jsonb_array_elements_text(%(groups)s::jsonb) AS id) AS k
            CROSS JOIN LATERAL (
                SELECT * FROM crew_taskgroup WHERE crew_taskgroup.id = k.id
                FOR KEY SHARE SKIP LOCKED) AS g
        )
        SELECT set_config('crew.kept', coalesce(jsonb_object_agg(id, is_paused), '{}')::text, true)
        FROM kept
    """,
    sqlite="",  # SQLite has one writer, and no rows that are locked
)

# The groups alone, for answers that change more of them than their own tasks and what is below.
GROUPS_ALONE = statement(
    postgresql=GROUPS.postgresql.replace("FOR KEY SHARE", "FOR UPDATE"), sqlite=GROUPS.sqlite
)
GROUPS_ALONE_AT_ONCE = statement(
    postgresql=GROUPS_AT_ONCE.postgresql.replace("FOR KEY SHARE", "FOR UPDATE"), sqlite=""
)

# Decide alone, for each of these groups, which task of a key leads and which follow.
KEY_LOCKS = statement(
    postgresql="""
        SELECT count(pg_advisory_xact_lock(hashtextextended('crew key ' || g.id, 0)))
        FROM (SELECT jsonb_array_elements_text(%(groups)s::jsonb) AS id ORDER BY 1) AS g
    """,
    sqlite="SELECT 0",
)

# A hold beyond the hundredth in a row uses up an attempt, if it is not spared (decision 8).
_COSTS = "(a.outcome = 'held' AND t.held_count >= 100 AND NOT a.spared)"
_LAST_LOSS = "(a.outcome = 'abandoned' AND t.rescues >= 2)"
# What the answer `a` says to whoever wants to know why task `t` has fewer attempts left.
_ERROR = f"""CASE
        WHEN {_COSTS} THEN 'held back ' || (t.held_count + 1) || ' times in a row, which uses up'
            || ' an attempt from the 101st time on: ' || a.error
        WHEN {_LAST_LOSS} THEN a.error || ', the third in a row: it is tried no more'
        ELSE a.error END"""
_GREATEST = {"postgresql": "greatest", "sqlite": "max"}
_LEAST = {"postgresql": "least", "sqlite": "min"}


def _outcome(vendor: str) -> str:
    """What the answer `a` makes of the columns of its task `t`.

    A task that was held 100 times in a row uses up attempts after all (decision 8). The third
    lost lease in a row leaves none: the task may be what kills its schedulers. What was interrupted
    says nothing about the task, nor about its worker.
    """
    after, greatest = AFTER[vendor], _GREATEST[vendor]
    longest = f"""CASE WHEN a.soon THEN {_LEAST[vendor]}(t.error_delay_in_seconds, 1)
                       ELSE {greatest}(t.error_delay_in_seconds, a.wait) END"""
    errors = ERRORS[vendor].format(_ERROR)
    return f"""
        leased_by = NULL,
        leased_at = NULL,
        is_complete = a.outcome = 'completed',
        completed_at = CASE WHEN a.outcome = 'completed' THEN {{now}} END,
        output = CASE WHEN a.outcome IN ('completed', 'failed') THEN a.output ELSE t.output END,
        shared_output_id = CASE WHEN a.outcome IN ('completed', 'failed') THEN NULL
                                ELSE t.shared_output_id END,
        errors = CASE WHEN a.outcome IN ('failed', 'abandoned') OR {_COSTS} THEN {errors}
                      ELSE t.errors END,
        remaining_attempts = {greatest}(0, t.remaining_attempts - CASE a.outcome
            WHEN 'returned' THEN 0
            WHEN 'interrupted' THEN 0
            WHEN 'held' THEN CASE WHEN {_COSTS} THEN 1 ELSE 0 END
            WHEN 'abandoned' THEN CASE WHEN {_LAST_LOSS} THEN t.remaining_attempts ELSE 1 END
            ELSE 1 END),
        held_count = CASE WHEN a.spared OR a.outcome IN ('returned', 'interrupted')
                          THEN t.held_count
                          WHEN a.outcome = 'held' THEN t.held_count + 1 ELSE 0 END,
        rescues = CASE a.outcome WHEN 'abandoned' THEN t.rescues + 1
                                 WHEN 'returned' THEN t.rescues
                                 WHEN 'interrupted' THEN t.rescues ELSE 0 END,
        run_after = CASE
            WHEN a.outcome = 'failed' THEN {after.format(longest)}
            WHEN a.outcome IN ('held', 'returned') OR a.outcome = 'abandoned' AND t.rescues > 0
                THEN {after.format("a.wait")}
            ELSE t.run_after END
    """


# `leased_by` is compared by IS NOT DISTINCT FROM on purpose: with `=` the planner may walk all
# leases of the scheduler through the index crew_task_leases instead of probing the id.
# A table that was empty when it was analyzed looks so small to the planner that it would compare
# all rows with all answers, and a kept plan stays like that while the table grows. So LATERAL
# and PROBED, here and below.
_LIVE = """
    SELECT a.*, held.leased_at, held.worker FROM (SELECT * FROM answer ORDER BY id) a
    CROSS JOIN LATERAL (
        SELECT t.leased_at, t.worker FROM crew_task t
        WHERE t.id = a.id
          AND t.attempt = a.attempt AND t.leased_by IS NOT DISTINCT FROM a.leased_by
        FOR NO KEY UPDATE
    ) held
"""

_HISTORY = """
    INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, status, error, note,
                              request, answer, started_at, finished_at, late_outcome, late_error)
    SELECT a.id, a.attempt, a.worker, a.leased_by, a.outcome, a.status, a.error, a.note,
           a.request, a.answer, a.leased_at, {now}, '', ''
    FROM live a WHERE a.outcome <> 'returned'
"""

# A scalar subquery, not EXISTS: for that the planner may read every edge there is into a hash.
_FRUITFUL = """
    SELECT a.id, a.attempt,
           (SELECT 1 FROM crew_parentedge e WHERE e.parent_id = a.id LIMIT 1) IS NOT NULL
    FROM live a
"""


def _outcomes(live: str, which: str = "") -> str:
    return f"""
        WITH answer AS (
            SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS a(
                id text, "group" text, attempt int, leased_by text, outcome text, output jsonb,
                error text, note text, status int, request text, answer text, wait float,
                spared boolean, soon boolean)
            {which}
        ), live AS MATERIALIZED ({live}), done AS (
            UPDATE crew_task t SET {_outcome("postgresql")} FROM live a
            WHERE t.id{PROBED.format("a.id")}
        ), history AS ({_HISTORY})
        {_FRUITFUL}
    """


# Write the outcomes of the leases that still hold, and an attempt for each. `returned` puts a
# task back that was never sent. Returns the ids that were live, and whether they have children.
OUTCOMES = statement(
    postgresql=_outcomes(_LIVE),
    sqlite="",  # LIVE, HISTORY and WRITE: SQLite writes nothing inside WITH
)

# The same for the groups that GROUPS_AT_ONCE could have, without their tasks that others hold.
OUTCOMES_AT_ONCE = statement(
    postgresql=_outcomes(
        _LIVE.replace("FOR NO KEY UPDATE", "FOR NO KEY UPDATE SKIP LOCKED"),
        """WHERE (SELECT current_setting('crew.kept')::jsonb) ? a."group" """,
    ),
    sqlite="",
)

# Of answers that were not written: those whose lease is held nevertheless. Somebody else has the
# task's row, or its group's.
STILL_HELD = statement(
    postgresql="""
        SELECT a.id, a.attempt, a.leased_by
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS a(id text, attempt int, leased_by text)
        CROSS JOIN LATERAL (SELECT * FROM crew_task WHERE crew_task.id = a.id LIMIT 1) t
        WHERE (t.attempt, t.leased_by) = (a.attempt, a.leased_by)
    """,
    sqlite="",
)

_LIVE_SQLITE = """
    WITH answer AS (
        SELECT v ->> 'id' AS id, v ->> 'attempt' AS attempt, v ->> 'leased_by' AS leased_by,
               v ->> 'outcome' AS outcome, nullif(v -> 'output', 'null') AS output,
               v ->> 'error' AS error, v ->> 'note' AS note, v ->> 'status' AS status,
               v ->> 'request' AS request, v ->> 'answer' AS answer, v ->> 'wait' AS wait,
               v ->> 'spared' AS spared, v ->> 'soon' AS soon
        FROM (SELECT value AS v FROM json_each(%(rows)s))
    ), live AS (
        SELECT a.*, t.leased_at, t.worker FROM answer a JOIN crew_task t ON t.id = a.id
        WHERE t.attempt = a.attempt AND t.leased_by = a.leased_by
    )
"""

LIVE = statement(postgresql="", sqlite=_LIVE_SQLITE + _FRUITFUL)

HISTORY = statement(postgresql="", sqlite=_LIVE_SQLITE + _HISTORY)

WRITE = statement(
    postgresql="",
    sqlite=f"""
        {_LIVE_SQLITE}
        UPDATE crew_task AS t SET {_outcome("sqlite")} FROM live a WHERE t.id = a.id
    """,
)


def _shared(vendor: str) -> str:
    """What the outcome `a` of its leader makes of the columns of a duplicate `t`.

    `a.workgroup` is the one whose hold the outcome is, if any: that keeps its duplicates too.
    """
    after, greatest = AFTER[vendor], _GREATEST[vendor]
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


_WAITS = "NOT t.is_complete AND t.leased_by IS NULL"


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
            ) held
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
# into its timeout. A last row without a group says that more may be left, and behind whom.
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


def _freed(vendor: str) -> str:
    return f"""
        pending_parents = t.pending_parents - a.done,
        run_after = CASE WHEN a.wait > 0 AND NOT t.is_complete
                         THEN {_GREATEST[vendor]}(t.run_after, {AFTER[vendor].format("a.wait")})
                         ELSE t.run_after END
    """


_FREE = f"""
        locked AS MATERIALIZED (
            SELECT child.* FROM (SELECT * FROM child ORDER BY id) child
            CROSS JOIN LATERAL (
                SELECT t.id FROM crew_task t WHERE t.id = child.id FOR NO KEY UPDATE
            ) held
        ), freed AS (
            UPDATE crew_task t SET {_freed("postgresql")} FROM locked a
            WHERE t.id{PROBED.format("a.id")}
            RETURNING t.group_id, t.id, t.worker, t.workgroup, t.priority,
                      t.pending_parents = 0 AS is_free,
                      NOT t.is_complete AND (a.wait > 0 OR t.pending_parents = 0) AS is_other
        )
        SELECT id, group_id, '', NULL, NULL FROM freed WHERE is_other
        UNION ALL SELECT DISTINCT NULL, NULL, worker, workgroup, priority FROM freed WHERE is_free
"""
_CHILD = """
            SELECT e.child_id AS id, sum(p.done)::int AS done, max(p.wait) AS wait
            FROM jsonb_to_recordset(%(rows)s::jsonb) AS p(id text, done int, wait float)
            CROSS JOIN LATERAL (
                SELECT child_id FROM crew_parentedge WHERE parent_id = p.id OFFSET 0
            ) e
            WHERE e.child_id || '' > %(after)s
            GROUP BY e.child_id ORDER BY e.child_id LIMIT %(most)s
"""

# What each task's answer does to the children it has: one parent less when it is `done`, and no
# start before now + `wait` (`childrenDelayInSeconds`). Locked in id order, because settles of
# other schedulers touch the same children. Returns those that look otherwise now (they wait for no
# parent any more, or were put off), and the lanes of those that wait for no parent any more; SQLite
# tells of all, with the worker of those that are free.
# PostgreSQL takes `most` of them, by id; a last row without a group says that more may be left.
CHILDREN = statement(
    postgresql=f"""
        WITH child AS MATERIALIZED ({_CHILD}), {_FREE}
        UNION ALL SELECT max(id), NULL, NULL, NULL, NULL FROM child HAVING count(*) >= %(most)s
    """,
    sqlite=f"""
        UPDATE crew_task AS t SET {_freed("sqlite")}
        FROM (SELECT e.child_id AS id, sum(p.value ->> 'done') AS done,
                     max(p.value ->> 'wait') AS wait
              FROM json_each(%(rows)s) p JOIN crew_parentedge e ON e.parent_id = p.value ->> 'id'
              GROUP BY 1) a
        WHERE t.id = a.id
        RETURNING id, group_id, iif(pending_parents = 0, worker, NULL), workgroup, priority
    """,
)

# Those that are left, and some of them, as with duplicates.
CHILDREN_LEFT = statement(postgresql=_CHILD, sqlite="")
CHILDREN_SOME = statement(
    postgresql=f"""
        WITH child AS MATERIALIZED (
            SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS c(id text, done int, wait float)
        ), {_FREE}
    """,
    sqlite="",
)

# `workgroupDelayInSeconds`: one row holds every task of the workgroup, in all groups, those that
# will be created or freed meanwhile included. A hold is never shortened by an answer.
HOLD = statement(
    postgresql=f"""
        INSERT INTO crew_workgroup AS h (name, held_until, held_by)
        SELECT d.name, {AFTER["postgresql"].format("d.wait")}, d.by
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS d(name text, wait float, by text)
        ORDER BY d.name
        ON CONFLICT (name)
        DO UPDATE SET held_until = excluded.held_until, held_by = excluded.held_by
        WHERE h.held_until IS NULL OR h.held_until < excluded.held_until
    """,
    sqlite=f"""
        INSERT INTO crew_workgroup (name, held_until, held_by)
        SELECT value ->> 'name', {AFTER["sqlite"].format("(value ->> 'wait')")}, value ->> 'by'
        FROM json_each(%(rows)s) WHERE true
        ON CONFLICT (name)
        DO UPDATE SET held_until = excluded.held_until, held_by = excluded.held_by
        WHERE held_until IS NULL OR held_until < excluded.held_until
    """,
)

# An answer under a lease that is no longer held: kept beside the attempt, never applied.
LATE = statement(
    postgresql=f"""
        UPDATE crew_attempt h SET late_at = {{now}}, late_outcome = l.outcome,
                                  late_status = l.status, late_error = l.error,
                                  request = l.request, answer = l.answer
        FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS l(id text, attempt int, scheduler text, outcome text, status int, error text,
                 request text, answer text)
        WHERE h.task_id{PROBED.format("l.id")} AND h.number = l.attempt
          AND h.scheduler = l.scheduler
          AND h.late_at IS NULL AND h.outcome IN ('abandoned', 'cancelled')
        RETURNING h.task_id, h.number
    """,
    sqlite="""
        UPDATE crew_attempt AS h SET late_at = {now}, late_outcome = l.value ->> 'outcome',
            late_status = l.value ->> 'status', late_error = l.value ->> 'error',
            request = l.value ->> 'request', answer = l.value ->> 'answer'
        FROM json_each(%(rows)s) l
        WHERE h.task_id = l.value ->> 'id' AND h.number = l.value ->> 'attempt'
          AND h.scheduler = l.value ->> 'scheduler'
          AND h.late_at IS NULL AND h.outcome IN ('abandoned', 'cancelled')
        RETURNING task_id, number
    """,
)

"""Statements of the settle."""

from . import AFTER, ERRORS, GREATEST, PROBED, statement

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
# is kept for OUTCOMES_SKIP_LOCKED, which comes in the same round trip and writes for these alone.
GROUPS_SKIP_LOCKED = statement(
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
GROUPS_ALONE_SKIP_LOCKED = statement(
    postgresql=GROUPS_SKIP_LOCKED.postgresql.replace("FOR KEY SHARE", "FOR UPDATE"), sqlite=""
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
_LEAST = {"postgresql": "least", "sqlite": "min"}


def _outcome(vendor: str) -> str:
    """What the answer `a` makes of the columns of its task `t`.

    A task that was held 100 times in a row uses up attempts after all (decision 8). The third
    lost lease in a row leaves none: the task may be what kills its schedulers. What was interrupted
    says nothing about the task, nor about its worker.
    """
    after, greatest = AFTER[vendor], GREATEST[vendor]
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
    SELECT a.*, locked.leased_at, locked.worker FROM (SELECT * FROM answer ORDER BY id) a
    CROSS JOIN LATERAL (
        SELECT t.leased_at, t.worker FROM crew_task t
        WHERE t.id = a.id
          AND t.attempt = a.attempt AND t.leased_by IS NOT DISTINCT FROM a.leased_by
        FOR NO KEY UPDATE
    ) locked
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

# The same for the groups that GROUPS_SKIP_LOCKED could have, without their tasks that others hold.
OUTCOMES_SKIP_LOCKED = statement(
    postgresql=_outcomes(
        _LIVE.replace("FOR NO KEY UPDATE", "FOR NO KEY UPDATE SKIP LOCKED"),
        """WHERE (SELECT current_setting('crew.kept')::jsonb) ? a."group" """,
    ),
    sqlite="",
)

# Of answers that were not written: those that are leased nevertheless. Somebody else has the
# task's row, or its group's.
STILL_LEASED = statement(
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

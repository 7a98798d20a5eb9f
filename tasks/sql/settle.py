"""Statements of the settle."""

from . import statement

# Keep the groups from being reset, paused or deleted while their answers are written.
GROUPS = statement(
    postgresql="""
        WITH g AS MATERIALIZED (
            SELECT id, is_paused FROM crew_taskgroup
            WHERE id IN (SELECT jsonb_array_elements_text(%(groups)s::jsonb))
            ORDER BY id FOR KEY SHARE
        ) SELECT id, is_paused FROM g
    """,
    sqlite="""
        SELECT id, is_paused FROM crew_taskgroup
        WHERE id IN (SELECT value FROM json_each(%(groups)s))
    """,
)

# Decide alone, for each of these groups, which task of a key leads and which follow.
KEY_LOCKS = statement(
    postgresql="""
        SELECT count(pg_advisory_xact_lock(hashtextextended('crew key ' || g.id, 0)))
        FROM (SELECT jsonb_array_elements_text(%(groups)s::jsonb) AS id ORDER BY 1) AS g
    """,
    sqlite="SELECT 0",
)

# `leased_by` is compared by IS NOT DISTINCT FROM on purpose: with `=` the planner may walk all
# leases of the scheduler through the index crew_task_leases instead of probing the id.
_LIVE = """
    SELECT t.id, t.attempt, t.leased_by, t.leased_at, t.worker
    FROM answer a JOIN crew_task t ON t.id = a.id
    WHERE t.attempt = a.attempt AND t.leased_by IS NOT DISTINCT FROM a.leased_by
    ORDER BY t.id FOR NO KEY UPDATE OF t
"""

# A held task that was held 100 times in a row uses up attempts after all (decision 8). The
# third lost lease in a row leaves none: the task may be what kills its schedulers.
_CHARGED = """(CASE a.outcome WHEN 'returned' THEN 0
                    WHEN 'held' THEN CASE WHEN t.held_count >= 100 THEN 1 ELSE 0 END
                    WHEN 'abandoned' THEN CASE WHEN t.rescues >= 2 THEN t.remaining_attempts
                                               ELSE 1 END
                    ELSE 1 END)"""

# Write the outcomes of the leases that still hold, and an attempt for each. `returned` puts a
# task back that was never sent. Returns the ids that were live.
OUTCOMES = statement(
    postgresql=f"""
        WITH answer AS (
            SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS a(
                id text, attempt int, leased_by text, outcome text, output jsonb, error text,
                note text, status int, wait float)
        ), live AS MATERIALIZED ({_LIVE}), done AS (
            UPDATE crew_task t SET
                leased_by = NULL,
                leased_at = NULL,
                is_complete = a.outcome = 'completed',
                completed_at = CASE WHEN a.outcome = 'completed' THEN {{now}} END,
                output = CASE WHEN a.outcome IN ('completed', 'failed') THEN a.output
                              ELSE t.output END,
                errors = CASE WHEN a.outcome IN ('failed', 'abandoned')
                              THEN CASE WHEN jsonb_array_length(t.errors) >= 50
                                        THEN t.errors - 0 ELSE t.errors END
                                   || to_jsonb(a.error)
                              ELSE t.errors END,
                remaining_attempts = greatest(0, t.remaining_attempts - {_CHARGED}),
                held_count = CASE a.outcome WHEN 'held' THEN t.held_count + 1
                                            WHEN 'returned' THEN t.held_count ELSE 0 END,
                rescues = CASE a.outcome WHEN 'abandoned' THEN t.rescues + 1
                                         WHEN 'returned' THEN t.rescues ELSE 0 END,
                run_after = CASE a.outcome
                    WHEN 'failed' THEN {{now}} + make_interval(secs => t.error_delay_in_seconds)
                    WHEN 'held' THEN {{now}} + make_interval(secs => a.wait)
                    WHEN 'returned' THEN {{now}} + make_interval(secs => a.wait)
                    ELSE t.run_after END
            FROM live JOIN answer a ON a.id = live.id AND a.attempt = live.attempt
            WHERE t.id = live.id
        ), history AS (
            INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, status, error,
                                      note, started_at, finished_at, late_outcome, late_error)
            SELECT live.id, live.attempt, live.worker, live.leased_by, a.outcome, a.status,
                   a.error, a.note, live.leased_at, {{now}}, '', ''
            FROM live JOIN answer a ON a.id = live.id AND a.attempt = live.attempt
            WHERE a.outcome <> 'returned'
        )
        SELECT id, attempt FROM live
    """,
    sqlite="",  # LIVE, HISTORY and WRITE: SQLite writes nothing inside WITH
)

_ANSWERS_SQLITE = """
    SELECT v ->> 'id' AS id, v ->> 'attempt' AS attempt, v ->> 'leased_by' AS leased_by,
           v ->> 'outcome' AS outcome, nullif(v -> 'output', 'null') AS output,
           v ->> 'error' AS error, v ->> 'note' AS note, v ->> 'status' AS status,
           v ->> 'wait' AS wait
    FROM (SELECT value AS v FROM json_each(%(rows)s))
"""

LIVE = statement(
    postgresql="",
    sqlite=f"""
        WITH a AS ({_ANSWERS_SQLITE})
        SELECT t.id, t.attempt FROM a JOIN crew_task t ON t.id = a.id
        WHERE t.attempt = a.attempt AND t.leased_by = a.leased_by
    """,
)

HISTORY = statement(
    postgresql="",
    sqlite=f"""
        WITH a AS ({_ANSWERS_SQLITE})
        INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, status, error,
                                  note, started_at, finished_at, late_outcome, late_error)
        SELECT t.id, t.attempt, t.worker, t.leased_by, a.outcome, a.status, a.error, a.note,
               t.leased_at, {{now}}, '', ''
        FROM a JOIN crew_task t ON t.id = a.id
        WHERE t.attempt = a.attempt AND t.leased_by = a.leased_by AND a.outcome <> 'returned'
    """,
)

_AFTER_SQLITE = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '+' || {} || ' seconds')"

WRITE = statement(
    postgresql="",
    sqlite=f"""
        WITH answer AS ({_ANSWERS_SQLITE})
        UPDATE crew_task AS t SET
            leased_by = NULL,
            leased_at = NULL,
            is_complete = a.outcome = 'completed',
            completed_at = CASE WHEN a.outcome = 'completed' THEN {{now}} END,
            output = CASE WHEN a.outcome IN ('completed', 'failed') THEN a.output
                          ELSE t.output END,
            errors = CASE WHEN a.outcome IN ('failed', 'abandoned')
                          THEN json_insert(CASE WHEN json_array_length(t.errors) >= 50
                                                THEN json_remove(t.errors, '$[0]')
                                                ELSE t.errors END, '$[#]', a.error)
                          ELSE t.errors END,
            remaining_attempts = max(0, t.remaining_attempts - {_CHARGED}),
            held_count = CASE a.outcome WHEN 'held' THEN t.held_count + 1
                                        WHEN 'returned' THEN t.held_count ELSE 0 END,
            rescues = CASE a.outcome WHEN 'abandoned' THEN t.rescues + 1
                                     WHEN 'returned' THEN t.rescues ELSE 0 END,
            run_after = CASE a.outcome
                WHEN 'failed' THEN {_AFTER_SQLITE.format("t.error_delay_in_seconds")}
                WHEN 'held' THEN {_AFTER_SQLITE.format("a.wait")}
                WHEN 'returned' THEN {_AFTER_SQLITE.format("a.wait")}
                ELSE t.run_after END
        FROM answer a
        WHERE t.id = a.id AND t.attempt = a.attempt AND t.leased_by = a.leased_by
    """,
)

# The other tasks of a key share its outcome (contract part 3). A completed one leaves with the
# output; a failed one costs each an attempt; otherwise they are only let go.
DUPLICATES = statement(
    postgresql="""
        WITH leader AS (
            SELECT l.id, l.group_id, l.key, l.output, d.outcome, d.error, d.wait
            FROM jsonb_to_recordset(%(rows)s::jsonb)
                AS d(id text, outcome text, error text, wait float)
            JOIN crew_task l ON l.id = d.id
        ), duplicate AS MATERIALIZED (
            SELECT t.id, leader.id AS leader FROM leader
            JOIN crew_task t ON t.group_id = leader.group_id AND t.key = leader.key
             AND t.key <> '' AND NOT t.is_complete
            WHERE t.leased_by IS NULL AND t.id <> leader.id
            ORDER BY t.id FOR NO KEY UPDATE OF t
        )
        UPDATE crew_task t SET
            is_complete = leader.outcome = 'completed',
            completed_at = CASE WHEN leader.outcome = 'completed' THEN {now} END,
            merged_into = CASE WHEN leader.outcome = 'completed' THEN leader.id END,
            output = CASE WHEN leader.outcome = 'completed' THEN leader.output
                          ELSE t.output END,
            errors = CASE WHEN leader.outcome = 'failed'
                          THEN CASE WHEN jsonb_array_length(t.errors) >= 50
                                    THEN t.errors - 0 ELSE t.errors END
                               || to_jsonb(leader.error)
                          ELSE t.errors END,
            remaining_attempts = CASE WHEN leader.outcome = 'failed'
                                      THEN greatest(0, t.remaining_attempts - 1)
                                      ELSE t.remaining_attempts END,
            run_after = CASE leader.outcome
                WHEN 'failed' THEN {now} + make_interval(secs => t.error_delay_in_seconds)
                WHEN 'held' THEN greatest(t.run_after, {now} + make_interval(secs => leader.wait))
                ELSE t.run_after END
        FROM duplicate JOIN leader ON leader.id = duplicate.leader
        WHERE t.id = duplicate.id
        RETURNING t.id, t.group_id, t.is_complete
    """,
    sqlite=f"""
        WITH leader AS (
            SELECT l.id, l.group_id, l.key, l.output, d.value ->> 'outcome' AS outcome,
                   d.value ->> 'error' AS error, d.value ->> 'wait' AS wait
            FROM json_each(%(rows)s) d JOIN crew_task l ON l.id = d.value ->> 'id'
        )
        UPDATE crew_task AS t SET
            is_complete = leader.outcome = 'completed',
            completed_at = CASE WHEN leader.outcome = 'completed' THEN {{now}} END,
            merged_into = CASE WHEN leader.outcome = 'completed' THEN leader.id END,
            output = CASE WHEN leader.outcome = 'completed' THEN leader.output
                          ELSE t.output END,
            errors = CASE WHEN leader.outcome = 'failed'
                          THEN json_insert(CASE WHEN json_array_length(t.errors) >= 50
                                                THEN json_remove(t.errors, '$[0]')
                                                ELSE t.errors END, '$[#]', leader.error)
                          ELSE t.errors END,
            remaining_attempts = CASE WHEN leader.outcome = 'failed'
                                      THEN max(0, t.remaining_attempts - 1)
                                      ELSE t.remaining_attempts END,
            run_after = CASE leader.outcome
                WHEN 'failed' THEN {_AFTER_SQLITE.format("t.error_delay_in_seconds")}
                WHEN 'held' THEN max(t.run_after, {_AFTER_SQLITE.format("leader.wait")})
                ELSE t.run_after END
        FROM leader
        WHERE t.group_id = leader.group_id AND t.key = leader.key AND t.key <> ''
          AND NOT t.is_complete AND t.leased_by IS NULL AND t.id <> leader.id
        RETURNING id, group_id, is_complete
    """,
)

# One parent less for each child of these completed tasks; locked in id order, because settles of
# other schedulers touch the same children.
FREE_CHILDREN = statement(
    postgresql="""
        WITH parent AS (
            SELECT jsonb_array_elements_text(%(ids)s::jsonb) AS id
        ), child AS MATERIALIZED (
            SELECT e.child_id AS id, count(*) AS n
            FROM parent JOIN crew_parentedge e ON e.parent_id = parent.id GROUP BY e.child_id
        ), locked AS MATERIALIZED (
            SELECT t.id FROM crew_task t WHERE t.id IN (SELECT id FROM child)
            ORDER BY t.id FOR NO KEY UPDATE
        )
        UPDATE crew_task t SET pending_parents = t.pending_parents - child.n
        FROM locked JOIN child ON child.id = locked.id WHERE t.id = locked.id
        RETURNING t.id, t.pending_parents
    """,
    sqlite="""
        UPDATE crew_task AS t SET pending_parents = pending_parents - child.n
        FROM (SELECT e.child_id AS id, count(*) AS n FROM json_each(%(ids)s) p
              JOIN crew_parentedge e ON e.parent_id = p.value GROUP BY e.child_id) child
        WHERE t.id = child.id
        RETURNING id, pending_parents
    """,
)

# `childrenDelayInSeconds`: no child of the task starts before now + wait.
DELAY_CHILDREN = statement(
    postgresql="""
        WITH locked AS MATERIALIZED (
            SELECT t.id, d.wait
            FROM jsonb_to_recordset(%(rows)s::jsonb) AS d(id text, wait float)
            JOIN crew_parentedge e ON e.parent_id = d.id
            JOIN crew_task t ON t.id = e.child_id
            WHERE NOT t.is_complete ORDER BY t.id FOR NO KEY UPDATE OF t
        ), late AS (SELECT id, max(wait) AS wait FROM locked GROUP BY id)
        UPDATE crew_task t
        SET run_after = greatest(t.run_after, {now} + make_interval(secs => late.wait))
        FROM late WHERE t.id = late.id RETURNING t.id, t.group_id
    """,
    sqlite=f"""
        UPDATE crew_task AS t
        SET run_after = max(t.run_after, {_AFTER_SQLITE.format("late.wait")})
        FROM (SELECT e.child_id AS id, max(d.value ->> 'wait') AS wait
              FROM json_each(%(rows)s) d
              JOIN crew_parentedge e ON e.parent_id = d.value ->> 'id' GROUP BY 1) late
        WHERE t.id = late.id AND NOT t.is_complete RETURNING id, group_id
    """,
)

# `workgroupDelayInSeconds`: one row holds every task of the workgroup, in all groups, those that
# will be created or freed meanwhile included. A hold is never shortened by an answer.
HOLD = statement(
    postgresql="""
        INSERT INTO crew_workgroup AS h (name, held_until, held_by)
        SELECT d.name, {now} + make_interval(secs => d.wait), d.by
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS d(name text, wait float, by text)
        ORDER BY d.name
        ON CONFLICT (name)
        DO UPDATE SET held_until = excluded.held_until, held_by = excluded.held_by
        WHERE h.held_until IS NULL OR h.held_until < excluded.held_until
    """,
    sqlite=f"""
        INSERT INTO crew_workgroup (name, held_until, held_by)
        SELECT value ->> 'name', {_AFTER_SQLITE.format("(value ->> 'wait')")}, value ->> 'by'
        FROM json_each(%(rows)s) WHERE true
        ON CONFLICT (name)
        DO UPDATE SET held_until = excluded.held_until, held_by = excluded.held_by
        WHERE held_until IS NULL OR held_until < excluded.held_until
    """,
)

# An answer under a lease that is no longer held: kept beside the attempt, never applied.
LATE = statement(
    postgresql="""
        UPDATE crew_attempt h SET late_at = {now}, late_outcome = l.outcome,
                                  late_status = l.status, late_error = l.error
        FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS l(id text, attempt int, outcome text, status int, error text)
        WHERE h.task_id = l.id AND h.number = l.attempt AND h.late_at IS NULL
          AND h.outcome IN ('abandoned', 'cancelled')
        RETURNING h.task_id
    """,
    sqlite="""
        UPDATE crew_attempt AS h SET late_at = {now}, late_outcome = l.value ->> 'outcome',
            late_status = l.value ->> 'status', late_error = l.value ->> 'error'
        FROM json_each(%(rows)s) l
        WHERE h.task_id = l.value ->> 'id' AND h.number = l.value ->> 'attempt'
          AND h.late_at IS NULL AND h.outcome IN ('abandoned', 'cancelled')
        RETURNING task_id
    """,
)

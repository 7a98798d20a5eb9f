"""Statements of the workers' health: rows of crew_limit, which only a failure makes.

Their locks come before all others of a settle, and nobody waits for them: what somebody else holds
is skipped.
"""

from . import AFTER, PROBED, statement

# A row for each of these workers, to lock.
MAKE = statement(
    postgresql="""
        INSERT INTO crew_limit (kind, name, fails, rests, held_why)
        SELECT 'worker', w.name, 0, 0, '' FROM (
            SELECT jsonb_array_elements_text(%(workers)s::jsonb) AS name ORDER BY 1) AS w
        ON CONFLICT (kind, name) DO NOTHING
    """,
    sqlite="""
        INSERT INTO crew_limit (kind, name, fails, rests, held_why)
        SELECT 'worker', value, 0, 0, '' FROM json_each(%(workers)s) WHERE true
        ON CONFLICT (kind, name) DO NOTHING
    """,
)

_IS_ILL = "(l.fails > 0 OR l.rests > 0 OR l.ramp IS NOT NULL)"


def _health(only: str) -> tuple[str, str]:
    columns = "l.name, l.fails, l.rests, l.ramp, coalesce(l.held_until > {now}, false)"
    return (
        f"""
        SELECT locked.* FROM jsonb_array_elements_text(%(workers)s::jsonb) AS w(name)
        CROSS JOIN LATERAL (
            SELECT {columns} FROM crew_limit l
            WHERE l.kind = 'worker' AND l.name = w.name{only}
            FOR NO KEY UPDATE SKIP LOCKED
        ) locked
        """,
        f"""
        SELECT {columns} FROM json_each(%(workers)s) w
        JOIN crew_limit l ON l.kind = 'worker' AND l.name = w.value{only}
        """,
    )


# How these workers are, their rows locked: of all that have one, or of those that are not well.
HEALTH = statement(postgresql=_health("")[0], sqlite=_health("")[1])
ILL = statement(postgresql=_health(f" AND {_IS_ILL}")[0], sqlite=_health(f" AND {_IS_ILL}")[1])


def _judged(vendor: str) -> str:
    after = AFTER[vendor].format("a.rest")
    return f"""
        fails = a.fails,
        rests = a.rests,
        ramp = a.ramp,
        held_until = CASE WHEN a.rest IS NOT NULL THEN {after}
                          WHEN a.rests > 0 THEN l.held_until END,
        held_since = CASE WHEN a.rests > 0 AND l.rests = 0 THEN {{now}}
                          WHEN a.rests > 0 OR a.ramp IS NOT NULL THEN l.held_since END,
        held_why = CASE WHEN a.why <> '' THEN a.why
                        WHEN a.fails > 0 OR a.rests > 0 OR a.ramp IS NOT NULL THEN l.held_why
                        ELSE '' END
    """


JUDGED = statement(
    postgresql=f"""
        UPDATE crew_limit l SET {_judged("postgresql")}
        FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS a(name text, fails int, rests int, ramp float, rest float, why text)
        WHERE l.kind = 'worker' AND l.name{PROBED.format("a.name")}
    """,
    sqlite=f"""
        UPDATE crew_limit AS l SET {_judged("sqlite")}
        FROM (SELECT value ->> 'name' AS name, value ->> 'fails' AS fails,
                     value ->> 'rests' AS rests, value ->> 'ramp' AS ramp,
                     value ->> 'rest' AS rest, value ->> 'why' AS why
              FROM json_each(%(rows)s)) a
        WHERE l.kind = 'worker' AND l.name = a.name
    """,
)

# How an attempt ends that says nothing of its worker: neither a failure nor an answer.
_SILENT = "('interrupted', 'cancelled', 'abandoned')"
_LAST = 8  # attempts; waits and patience grow no more from there


def _in_a_row(is_fault: str, id_: str, attempt: str) -> str:
    return f"""
        SELECT count(*) FROM (
            SELECT {is_fault}(h.outcome IN ('failed', 'held')
                              AND (h.status IS NULL OR h.status IN (502, 503, 504)))
                       OVER (ORDER BY h.number DESC) AS is_fault
            FROM (SELECT number, outcome, status FROM crew_attempt
                  WHERE task_id = {id_} AND number < {attempt} AND outcome NOT IN {_SILENT}
                  ORDER BY number DESC LIMIT {_LAST}) h
        ) before WHERE before.is_fault
    """


# What the tasks of these attempts wait by themselves, and how many of their last attempts ended
# so without a break. Those that were not delivered count too.
FAILED = statement(
    postgresql=f"""
        SELECT a.id, a.attempt, t.error_delay_in_seconds,
            ({_in_a_row("bool_and", "a.id", "a.attempt")})
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS a(id text, attempt int)
        CROSS JOIN LATERAL (SELECT * FROM crew_task WHERE crew_task.id = a.id LIMIT 1) t
    """,
    sqlite=f"""
        SELECT t.id, a.value ->> 'attempt', t.error_delay_in_seconds,
            ({_in_a_row("min", "t.id", "(a.value ->> 'attempt')")})
        FROM json_each(%(rows)s) a JOIN crew_task t ON t.id = a.value ->> 'id'
    """,
)


def _put_off(latest: str) -> str:
    """Of a task that can run, whether its worker's failure is why it waits, by its last attempt.

    Not a task that a person put off since: it would wait longer than a failure makes it.
    """
    return f"""
        t.worker = %(worker)s AND {{ready}} AND t.run_after > {{now}} AND (
            SELECT (h.outcome = 'failed' OR h.outcome = 'held'
                       AND substr(h.note, 1, length(%(spared)s)) = %(spared)s)
                   AND (h.status IS NULL OR h.status IN (502, 503, 504)) AND {latest}
            FROM crew_attempt h WHERE h.task_id = t.id ORDER BY h.number DESC LIMIT 1)
    """


_PUT_OFF = {
    "postgresql": _put_off(
        "t.run_after <= h.finished_at"
        " + make_interval(secs => t.error_delay_in_seconds + %(most_wait)s)"
    ),
    "sqlite": _put_off(
        "julianday(t.run_after) <= julianday(h.finished_at)"
        " + (t.error_delay_in_seconds + %(most_wait)s) / 86400.0"
    ),
}

# Some of the tasks that wait because this worker failed: they are due, for whoever tries it.
FREE = statement(
    postgresql=f"""
        WITH waiting AS MATERIALIZED (
            SELECT t.id FROM crew_task t WHERE {_PUT_OFF["postgresql"]}
            LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE crew_task t SET run_after = {{now}} FROM waiting
        WHERE t.id{PROBED.format("waiting.id")} RETURNING t.group_id, t.id
    """,
    sqlite=f"""
        UPDATE crew_task SET run_after = {{now}} WHERE id IN (
            SELECT t.id FROM crew_task t WHERE {_PUT_OFF["sqlite"]} LIMIT %(most)s)
        RETURNING group_id, id
    """,
)

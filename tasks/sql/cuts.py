"""Statements about calls whose lease is gone and that may still run."""

from . import AFTER, PROBED, statement
from .probes import IDS, TASK

# A row `c` that takes a slot, and its key, now.
TAKES = "(c.until IS NULL OR c.until > {now})"

# Such a row of the key of a task `t`.
CUT_OF_KEY = f"""
    SELECT 1 FROM crew_cutcall c
    WHERE c.group_id = t.group_id AND c.key = t.key AND c.key <> '' AND {TAKES} LIMIT 1
"""

_GIVE_UP = """
    INSERT INTO crew_cutcall (task_id, attempt, scheduler, worker, group_id, key, since)
    SELECT t.id, t.attempt, t.leased_by, t.worker, t.group_id, t.key, {{now}}
    FROM {} WHERE t.leased_by IS NOT NULL {}
    ON CONFLICT DO NOTHING
"""

# The leases on these tasks, which are locked, by a verb that takes them away.
GIVE_UP = statement(
    postgresql=_GIVE_UP.format(f"{IDS} CROSS JOIN LATERAL {TASK.format('k.id')} t", ""),
    sqlite=_GIVE_UP.format("crew_task t", "AND t.id IN (SELECT value FROM json_each(%(ids)s))"),
)

_GIVEN_UP = """
    SELECT c.task_id, c.attempt FROM crew_cutcall c
    WHERE c.scheduler = %(me)s AND c.until IS NULL
"""
GIVEN_UP = statement(postgresql=_GIVEN_UP, sqlite=_GIVEN_UP)

# These calls have ended.
ENDED = statement(
    postgresql=f"""
        DELETE FROM crew_cutcall c
        USING jsonb_to_recordset(%(rows)s::jsonb) AS r(id text, attempt int, scheduler text)
        WHERE c.task_id{PROBED.format("r.id")} AND c.attempt = r.attempt
          AND c.scheduler = r.scheduler
    """,
    sqlite="""
        DELETE FROM crew_cutcall WHERE (task_id, attempt, scheduler) IN (
            SELECT value ->> 'id', value ->> 'attempt', value ->> 'scheduler'
            FROM json_each(%(rows)s))
    """,
)


def _kept(vendor: str, rows: str) -> str:
    return f"""
        INSERT INTO crew_cutcall (task_id, attempt, scheduler, worker, group_id, key, since, until)
        SELECT {rows}
        ON CONFLICT (task_id, attempt, scheduler) DO UPDATE SET until = excluded.until
    """


# Their connections are gone; what their workers still do nobody knows.
KEPT = statement(
    postgresql=_kept(
        "postgresql",
        f"""r.id, r.attempt, r.scheduler, r.worker, r."group", r.key, {{now}},
            {AFTER["postgresql"].format("%(seconds)s::float")}
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
            id text, attempt int, scheduler text, worker text, "group" text, key text)
        ORDER BY 1, 2, 3""",
    ),
    sqlite=_kept(
        "sqlite",
        f"""value ->> 'id', value ->> 'attempt', value ->> 'scheduler', value ->> 'worker',
            value ->> 'group', value ->> 'key', {{now}}, {AFTER["sqlite"].format("%(seconds)s")}
        FROM json_each(%(rows)s) WHERE true""",
    ),
)

_ORPHANED = """
    UPDATE crew_cutcall SET until = {}
    WHERE until IS NULL
      AND NOT EXISTS (SELECT 1 FROM crew_schedulerprocess s WHERE s.id = crew_cutcall.scheduler)
"""

# Calls of a scheduler that is gone: its connections went with it.
ORPHANED = statement(
    postgresql=_ORPHANED.format(AFTER["postgresql"].format("%(seconds)s::float")),
    sqlite=_ORPHANED.format(AFTER["sqlite"].format("%(seconds)s")),
)

OVER = statement(
    postgresql="DELETE FROM crew_cutcall WHERE until <= {now}",
    sqlite="DELETE FROM crew_cutcall WHERE until <= {now}",
)

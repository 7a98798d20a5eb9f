"""Statements that say how many calls a worker may have in flight, and how many it has."""

from . import statement
from .cuts import TAKES

# The limits of these workers, and whether the rows are ours. On PostgreSQL they are locked, so
# that no other scheduler counts until this one has claimed; those that somebody else has are not
# waited for.
_LIMITED = """
            w.name IN (SELECT jsonb_array_elements_text(%(workers)s::jsonb))
              AND (w.max_concurrency IS NOT NULL OR %(default)s::int IS NOT NULL)"""

WORKERS = statement(
    postgresql=f"""
        WITH worker AS MATERIALIZED (
            SELECT w.name, w.max_concurrency FROM crew_worker w
            WHERE {_LIMITED} FOR NO KEY UPDATE SKIP LOCKED
        )
        SELECT name, max_concurrency, true FROM worker
        UNION ALL
        SELECT w.name, NULL, false FROM crew_worker w
        WHERE {_LIMITED} AND w.name <> ALL (ARRAY(SELECT name FROM worker))
    """,
    sqlite="""
        SELECT w.name, w.max_concurrency, true FROM crew_worker w
        WHERE w.name IN (SELECT value FROM json_each(%(workers)s))
          AND (w.max_concurrency IS NOT NULL OR %(default)s IS NOT NULL)
    """,
)

# A statement of its own: it must see what was committed while the one above waited. A verb turns
# a lease into a cut call in one commit, so that nobody sees neither.
IN_FLIGHT = statement(
    postgresql=f"""
        SELECT name.worker, (SELECT count(*) FROM crew_task t
                             WHERE t.worker = name.worker AND t.leased_by IS NOT NULL)
                          + (SELECT count(*) FROM crew_cutcall c
                             WHERE c.worker = name.worker AND {TAKES})
        FROM jsonb_array_elements_text(%(workers)s::jsonb) AS name(worker)
    """,
    sqlite=f"""
        SELECT value, (SELECT count(*) FROM crew_task t
                       WHERE t.worker = value AND t.leased_by IS NOT NULL)
                    + (SELECT count(*) FROM crew_cutcall c WHERE c.worker = value AND {TAKES})
        FROM json_each(%(workers)s)
    """,
)

# How many attempts of these workers may be in flight that began since `held_since`: none while
# one rests, then one that tries it, then as many as its ramp says; NULL for any. Rows that
# somebody else holds are left out: a settle may hold them, and waits for tasks. Those in flight
# are counted by TRYING, a statement of its own as above.
_ALLOWED = """
    l.name, CASE WHEN l.held_until > {now} THEN 0 WHEN l.rests > 0 THEN 1 ELSE l.ramp END
"""

TRIED = statement(
    postgresql=f"""
        SELECT locked.* FROM jsonb_array_elements_text(%(workers)s::jsonb) AS w(name)
        CROSS JOIN LATERAL (
            SELECT {_ALLOWED} FROM crew_limit l WHERE l.kind = 'worker' AND l.name = w.name
            FOR NO KEY UPDATE SKIP LOCKED
        ) locked
    """,
    sqlite=f"""
        SELECT {_ALLOWED} FROM json_each(%(workers)s) w
        JOIN crew_limit l ON l.kind = 'worker' AND l.name = w.value
    """,
)


def _trying(since: str) -> str:
    return f"""
        SELECT l.name, (SELECT count(*) FROM crew_task t
                        WHERE t.worker = l.name AND t.leased_by IS NOT NULL
                          AND t.leased_at >= {since})
                     + (SELECT count(*) FROM crew_cutcall c
                        WHERE c.worker = l.name AND c.until IS NULL AND c.since >= {since})
    """


# With those that were given up and are not cut yet.
TRYING = statement(
    postgresql=f"""
        {_trying("coalesce(l.held_since, '-infinity')")}
        FROM jsonb_array_elements_text(%(workers)s::jsonb) AS w(name)
        CROSS JOIN LATERAL (
            SELECT * FROM crew_limit WHERE kind = 'worker' AND crew_limit.name = w.name LIMIT 1
        ) l
    """,
    sqlite=f"""
        {_trying("coalesce(l.held_since, '')")}
        FROM json_each(%(workers)s) w
        JOIN crew_limit l ON l.kind = 'worker' AND l.name = w.value
    """,
)

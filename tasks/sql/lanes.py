"""Statements that look at lanes: which have tasks, and how many of them are due."""

from . import statement

# What keeps a lane of `walked` back: its hold, its worker's limit, a rest of that.
_KEEPS_BACK = """
            worker.max_concurrency, ill.name IS NOT NULL
        FROM walked LEFT JOIN crew_workgroup hold
          ON hold.name = walked.workgroup AND hold.held_until > {now}
        LEFT JOIN crew_worker worker ON worker.name = walked.worker
        LEFT JOIN crew_limit ill ON ill.kind = 'worker' AND ill.name = walked.worker
          AND (ill.rests > 0 OR ill.ramp IS NOT NULL)
"""

# How a lane of `walked` is now. `due` counts to `most` and no further; a held workgroup has none
# due, nor has a worker that rests. `wait` is the seconds until its hold ends, or else its first
# task is due, `max_concurrency` what its worker's row says, to see whether WORKERS must be asked;
# the last column whether TRIED must be.
_SEEN = {
    "postgresql": """
        SELECT walked.worker, walked.workgroup, walked.priority,
            CASE WHEN hold.held_until IS NULL AND NOT coalesce(ill.held_until > {now}, false)
            THEN (
                SELECT count(*) FROM (
                    SELECT FROM crew_task t
                    WHERE t.worker = walked.worker AND t.workgroup = walked.workgroup
                      AND t.priority = walked.priority AND t.run_after <= {now} AND {ready}
                    LIMIT %(most)s
                ) seen
            ) ELSE 0 END,
            extract(epoch FROM CASE WHEN hold.held_until IS NOT NULL
            THEN greatest(hold.held_until, ill.held_until)
            ELSE greatest(ill.held_until, (
                SELECT t.run_after FROM crew_task t
                WHERE t.worker = walked.worker AND t.workgroup = walked.workgroup
                  AND t.priority = walked.priority AND {ready}
                ORDER BY t.run_after LIMIT 1
            )) END - {now})::float,"""
    + _KEEPS_BACK,
    "sqlite": """
        SELECT walked.worker, walked.workgroup, walked.priority,
            CASE WHEN hold.held_until IS NULL AND NOT coalesce(ill.held_until > {now}, false)
            THEN (
                SELECT count(*) FROM (
                    SELECT 1 FROM crew_task t
                    WHERE t.worker = walked.worker AND t.workgroup = walked.workgroup
                      AND t.priority = walked.priority AND t.run_after <= {now} AND {ready}
                    LIMIT %(most)s
                )
            ) ELSE 0 END,
            (julianday(CASE WHEN hold.held_until IS NOT NULL
            THEN max(hold.held_until, coalesce(ill.held_until, ''))
            ELSE max(coalesce(ill.held_until, ''), (
                SELECT t.run_after FROM crew_task t
                WHERE t.worker = walked.worker AND t.workgroup = walked.workgroup
                  AND t.priority = walked.priority AND {ready}
                ORDER BY t.run_after LIMIT 1
            )) END) - julianday({now})) * 86400.0,"""
    + _KEEPS_BACK,
}

# The lanes that have tasks, due or not, by a loose walk over the index crew_task_ready: one probe
# for a lane, whatever waits in it.
LANES = statement(
    postgresql=f"""
        WITH RECURSIVE lane AS (
            (SELECT t.worker, t.workgroup, t.priority FROM crew_task t
             WHERE {{ready}}
               AND (t.worker, t.workgroup, t.priority)
                   > (%(worker)s, %(workgroup)s, %(priority)s)
             ORDER BY t.worker, t.workgroup, t.priority LIMIT 1)
            UNION ALL
            SELECT following.* FROM lane, LATERAL (
                SELECT t.worker, t.workgroup, t.priority FROM crew_task t
                WHERE {{ready}}
                  AND (t.worker, t.workgroup, t.priority)
                      > (lane.worker, lane.workgroup, lane.priority)
                ORDER BY t.worker, t.workgroup, t.priority LIMIT 1
            ) following
        ), walked AS (SELECT * FROM lane LIMIT %(lanes)s)
        {_SEEN["postgresql"]}
    """,
    sqlite=f"""
        WITH RECURSIVE lane AS (
            SELECT * FROM (
                SELECT t.worker, t.workgroup, t.priority FROM crew_task t
                WHERE {{ready}}
                  AND (t.worker, t.workgroup, t.priority)
                      > (%(worker)s, %(workgroup)s, %(priority)s)
                ORDER BY t.worker, t.workgroup, t.priority LIMIT 1)
            UNION ALL
            SELECT following.worker, following.workgroup, following.priority
            -- Three probes: SQLite uses only the first column of a row comparison with `lane`.
            FROM lane JOIN crew_task following ON following.rowid = coalesce(
                (SELECT t.rowid FROM crew_task t
                 WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
                   AND t.priority > lane.priority AND {{ready}}
                 ORDER BY t.priority LIMIT 1),
                (SELECT t.rowid FROM crew_task t
                 WHERE t.worker = lane.worker AND t.workgroup > lane.workgroup AND {{ready}}
                 ORDER BY t.workgroup, t.priority LIMIT 1),
                (SELECT t.rowid FROM crew_task t
                 WHERE t.worker > lane.worker AND {{ready}}
                 ORDER BY t.worker, t.workgroup, t.priority LIMIT 1))
            LIMIT %(lanes)s
        ), walked AS (SELECT * FROM lane)
        {_SEEN["sqlite"]}
    """,
)

# The same of lanes that are known by name, each a list of worker, workgroup and priority.
KNOWN_LANES = statement(
    postgresql=f"""
        WITH walked AS MATERIALIZED (
            SELECT l ->> 0 AS worker, l ->> 1 AS workgroup, (l ->> 2)::int AS priority
            FROM jsonb_array_elements(%(known)s::jsonb) l
        )
        {_SEEN["postgresql"]}
    """,
    sqlite=f"""
        WITH walked AS MATERIALIZED (
            SELECT value ->> 0 AS worker, value ->> 1 AS workgroup, value ->> 2 AS priority
            FROM json_each(%(known)s)
        )
        {_SEEN["sqlite"]}
    """,
)

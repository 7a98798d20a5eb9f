"""Statements of the pages of one worker and of one workgroup. They read what these show."""

from . import statement
from .overview import LOOK, PICKED

# The lanes of one worker, like LANES of the claim: one probe for each.
LANES = statement(
    postgresql="""
        WITH RECURSIVE lane AS (
            (SELECT t.workgroup, t.priority FROM crew_task t
             WHERE t.worker = %(worker)s AND {ready}
             ORDER BY t.workgroup, t.priority LIMIT 1)
            UNION ALL
            SELECT following.* FROM lane, LATERAL (
                SELECT t.workgroup, t.priority FROM crew_task t
                WHERE t.worker = %(worker)s AND {ready}
                  AND (t.workgroup, t.priority) > (lane.workgroup, lane.priority)
                ORDER BY t.workgroup, t.priority LIMIT 1
            ) following
        ) SELECT workgroup, priority FROM lane LIMIT %(lanes)s
    """,
    sqlite="""
        WITH RECURSIVE lane AS (
            SELECT * FROM (
                SELECT t.workgroup, t.priority FROM crew_task t
                WHERE t.worker = %(worker)s AND {ready}
                ORDER BY t.workgroup, t.priority LIMIT 1)
            UNION ALL
            SELECT following.workgroup, following.priority
            -- Two probes: SQLite uses only the first column of a row comparison with `lane`.
            FROM lane JOIN crew_task following ON following.rowid = coalesce(
                (SELECT t.rowid FROM crew_task t
                 WHERE t.worker = %(worker)s AND t.workgroup = lane.workgroup
                   AND t.priority > lane.priority AND {ready}
                 ORDER BY t.priority LIMIT 1),
                (SELECT t.rowid FROM crew_task t
                 WHERE t.worker = %(worker)s AND t.workgroup > lane.workgroup AND {ready}
                 ORDER BY t.workgroup, t.priority LIMIT 1))
            LIMIT %(lanes)s
        ) SELECT workgroup, priority FROM lane
    """,
)

# The first tasks of these lanes, due or not: when the lane goes on, these are next.
NEXT = statement(
    postgresql="""
        SELECT first.id FROM jsonb_to_recordset(%(lanes)s::jsonb)
            AS lane(worker text, workgroup text, priority int)
        CROSS JOIN LATERAL (
            SELECT t.id FROM crew_task t
            WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
              AND t.priority = lane.priority AND {ready}
            ORDER BY t.run_after LIMIT %(most)s
        ) first
    """,
    sqlite="""
        SELECT first.id FROM json_each(%(lanes)s) lane
        JOIN crew_task first ON first.rowid IN (
            SELECT t.rowid FROM crew_task t
            WHERE t.worker = lane.value ->> 'worker'
              AND t.workgroup = lane.value ->> 'workgroup'
              AND t.priority = lane.value ->> 'priority' AND {ready}
            ORDER BY t.run_after LIMIT %(most)s)
    """,
)

# How long the last answers of a worker took, in seconds, among the attempts that were looked at.
SECONDS = statement(
    postgresql=f"""
        SELECT extract(epoch FROM h.finished_at - h.started_at)::float
        FROM generate_series((%(last)s - %(first)s) / %(step)s, 0::bigint, -1) AS look(n)
        JOIN crew_attempt h ON h.id = {PICKED}
        WHERE h.worker = %(worker)s AND h.finished_at >= %(since)s
          AND h.outcome IN ('completed', 'failed', 'held') AND h.status IS NOT NULL
        LIMIT %(most)s
    """,
    sqlite=f"""
        {LOOK}
        SELECT (julianday(h.finished_at) - julianday(h.started_at)) * 86400.0
        FROM crew_attempt h
        WHERE h.id IN (SELECT {PICKED} FROM look) AND h.finished_at >= %(since)s
          AND h.worker = %(worker)s AND h.outcome IN ('completed', 'failed', 'held')
          AND h.status IS NOT NULL
        ORDER BY h.id DESC LIMIT %(most)s
    """,
)

# The last answers of tasks of a workgroup that asked to wait, among the attempts looked at.
HELD = statement(
    postgresql=f"""
        SELECT h.id
        FROM generate_series((%(last)s - %(first)s) / %(step)s, 0::bigint, -1) AS look(n)
        JOIN crew_attempt h ON h.id = {PICKED}
        WHERE h.outcome = 'held' AND h.finished_at >= %(since)s
          AND NOT starts_with(h.note, %(spared)s::text)
          AND (SELECT t.workgroup FROM crew_task t WHERE t.id = h.task_id) = %(workgroup)s
        LIMIT %(most)s
    """,
    sqlite=f"""
        {LOOK}
        SELECT h.id FROM crew_attempt h
        WHERE h.id IN (SELECT {PICKED} FROM look) AND h.finished_at >= %(since)s
          AND h.outcome = 'held' AND substr(h.note, 1, length(%(spared)s)) <> %(spared)s
          AND (SELECT t.workgroup FROM crew_task t WHERE t.id = h.task_id) = %(workgroup)s
        ORDER BY h.id DESC LIMIT %(most)s
    """,
)

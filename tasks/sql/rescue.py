"""Statements that find what dead schedulers left."""

from . import statement

# `passed` are schedulers, or below tasks, that this sweep could do nothing about.

# Leases whose scheduler has not been heard of for the length of a lease. The process row is
# locked, and its beat read again under the lock, so that a heartbeat that comes now either
# waits for the rescue or stops it.
LOST = statement(
    postgresql="""
        SELECT s.id FROM crew_schedulerprocess s
        WHERE s.beat_at < {now} - make_interval(secs => %(lease)s)
          AND s.id <> ALL (ARRAY(SELECT jsonb_array_elements_text(%(passed)s::jsonb)))
        ORDER BY s.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    """,
    sqlite="""
        SELECT s.id FROM crew_schedulerprocess s
        WHERE s.beat_at < strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-' || %(lease)s || ' seconds')
          AND s.id NOT IN (SELECT value FROM json_each(%(passed)s))
        ORDER BY s.id LIMIT 1
    """,
)

# A row, long silent, for each scheduler that has leases and none: a process that was rescued
# while its machine stood still may claim before it notices, and end before it beats. One probe
# of the index crew_task_leases for each scheduler.
_ADOPT = """
    WITH RECURSIVE holder(id) AS (
        SELECT min(t.leased_by) FROM crew_task t WHERE t.leased_by IS NOT NULL
        UNION ALL
        SELECT (SELECT min(t.leased_by) FROM crew_task t WHERE t.leased_by > holder.id)
        FROM holder WHERE holder.id IS NOT NULL
    )
    INSERT INTO crew_schedulerprocess (id, host, pid, slots, started_at, beat_at)
    SELECT h.id, '', 0, 0, '2000-01-01 00:00:00+00:00', '2000-01-01 00:00:00+00:00'
    FROM holder h WHERE h.id IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM crew_schedulerprocess s WHERE s.id = h.id)
    ON CONFLICT (id) DO NOTHING
"""
ADOPT = statement(postgresql=_ADOPT, sqlite=_ADOPT.replace("+00:00", ".000"))

_LEASES_OF = """
    SELECT t.id, t.attempt, t.group_id, t.worker, t.workgroup, t.key FROM crew_task t
    WHERE t.leased_by = %(process)s AND {} LIMIT %(most)s
"""
LEASES_OF = statement(
    postgresql=_LEASES_OF.format(
        "t.id <> ALL (ARRAY(SELECT jsonb_array_elements_text(%(passed)s::jsonb)))"
    ),
    sqlite=_LEASES_OF.format("t.id NOT IN (SELECT value FROM json_each(%(passed)s))"),
)

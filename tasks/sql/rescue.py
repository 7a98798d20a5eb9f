"""Statements that find what dead schedulers left."""

from . import statement

# Leases whose scheduler has not been heard of for the length of a lease. The process row is
# locked, and its beat read again under the lock, so that a heartbeat that comes now either
# waits for the rescue or stops it.
LOST = statement(
    postgresql="""
        SELECT s.id FROM crew_schedulerprocess s
        WHERE s.beat_at < {now} - make_interval(secs => %(lease)s)
        ORDER BY s.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    """,
    sqlite="""
        SELECT s.id FROM crew_schedulerprocess s
        WHERE s.beat_at < strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-' || %(lease)s || ' seconds')
        ORDER BY s.id LIMIT 1
    """,
)

_LEASES_OF = """
    SELECT t.id, t.attempt, t.group_id, t.worker, t.workgroup, t.key FROM crew_task t
    WHERE t.leased_by = %(process)s LIMIT %(most)s
"""
LEASES_OF = statement(postgresql=_LEASES_OF, sqlite=_LEASES_OF)

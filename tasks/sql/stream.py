"""Statements of the stream: what was committed since the last look."""

from . import statement

# One statement, so one snapshot: what is read and what may still come are told apart exactly.
# The first three columns come even when there is no change.
CHANGES = statement(
    postgresql="""
        SELECT s.low, s.high, s.most, c.id, c.group_id, c.created, c.updated, c.deleted,
            c.group_event, c.workgroup
        FROM (
            SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS low,
                pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS high,
                (SELECT coalesce(max(id), 0) FROM crew_change) AS most
        ) AS s
        LEFT JOIN crew_change AS c ON c.id > %(safe)s
            AND (c.group_id = ANY(%(groups)s::text[]) OR c.workgroup <> '')
            AND c.id <> ALL(%(seen)s::bigint[])
        ORDER BY c.id
    """,
    sqlite="""
        SELECT 0, 0, s.most, c.id, c.group_id, c.created, c.updated, c.deleted,
            c.group_event, c.workgroup
        FROM (SELECT coalesce(max(id), 0) AS most FROM crew_change) AS s
        LEFT JOIN crew_change AS c ON c.id > %(safe)s
            AND (c.group_id IN (SELECT value FROM json_each(%(groups)s)) OR c.workgroup <> '')
        ORDER BY c.id
    """,
)

# The same, but only which there are: nothing that they say is read.
_NAMES = "c.group_id, c.created, c.updated, c.deleted,\n            c.group_event, c.workgroup"
UNREAD = statement(
    postgresql=CHANGES.postgresql.replace(f", {_NAMES}", ""),
    sqlite=CHANGES.sqlite.replace(f", {_NAMES}", ""),
)

# The newest change, and whether those up to `since` are still there, or were never there.
REACH = statement(
    postgresql="""
        SELECT coalesce(max(id), 0), coalesce(bool_or(id <= %(since)s), false)
        FROM (
            (SELECT id FROM crew_change ORDER BY id DESC LIMIT 1)
            UNION ALL
            (SELECT id FROM crew_change ORDER BY id LIMIT 1)
        ) AS ends
    """,
    sqlite="""
        SELECT coalesce(max(id), 0), coalesce(min(id) <= %(since)s, false) FROM crew_change
    """,
)

# What a socket missed that comes back.
MISSED = statement(
    postgresql="""
        SELECT id, group_id, created, updated, deleted, group_event, workgroup
        FROM crew_change
        WHERE id > %(since)s AND (group_id = %(group)s OR workgroup <> '')
        ORDER BY id LIMIT %(most)s
    """,
    sqlite="""
        SELECT id, group_id, created, updated, deleted, group_event, workgroup
        FROM crew_change
        WHERE id > %(since)s AND (group_id = %(group)s OR workgroup <> '')
        ORDER BY id LIMIT %(most)s
    """,
)

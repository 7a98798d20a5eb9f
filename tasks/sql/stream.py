"""Statements of the stream: what was committed since the last look."""

from . import statement

# Of one look, about: what is beyond is told as "load it again", and its lists are not read.
MOST_BYTES = 4 * 1024 * 1024

# How a database weighs the lists of a change.
_SIZE = {
    "postgresql": "(CASE WHEN pg_column_compression(c.{0}) IS NULL THEN pg_column_size(c.{0})"
    " ELSE octet_length(c.{0}::text) END)",
    "sqlite": "length(c.{0})",
}
_LISTS = ("created", "updated", "deleted")


def _weighed(vendor: str) -> str:
    """The columns of changes `c`, and whether each still fits into what a look may read."""
    size = " + ".join(_SIZE[vendor].format(name) for name in _LISTS)
    return (
        f"c.*, (sum({size}) OVER (ORDER BY c.id) <= {MOST_BYTES}"
        " OR c.group_event <> '' OR c.workgroup <> '') AS fits"
    )


_LISTS_THAT_FIT = ", ".join(f"CASE WHEN c.fits THEN c.{name} ELSE '[]' END" for name in _LISTS)
_TOLD = (
    f"c.id, c.group_id, {_LISTS_THAT_FIT},"
    " CASE WHEN c.fits THEN c.group_event ELSE 'reload' END, c.workgroup"
)

# One statement, so one snapshot: what is read and what may still come are exactly distinguished.
# The first three columns come even when there is no change.
CHANGES = statement(
    postgresql=f"""
        SELECT s.low, s.high, s.most, {_TOLD}
        FROM (
            SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS low,
                pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS high,
                (SELECT coalesce(max(id), 0) FROM crew_change) AS most
        ) AS s
        LEFT JOIN (
            SELECT {_weighed("postgresql")} FROM crew_change AS c
            WHERE c.id > %(safe)s
              AND (c.group_id = ANY(%(groups)s::text[]) OR c.workgroup <> '')
              AND c.id <> ALL(%(seen)s::bigint[])
        ) AS c ON true
        ORDER BY c.id
    """,
    sqlite=f"""
        SELECT 0, 0, s.most, {_TOLD}
        FROM (SELECT coalesce(max(id), 0) AS most FROM crew_change) AS s
        LEFT JOIN (
            SELECT {_weighed("sqlite")} FROM crew_change AS c
            WHERE c.id > %(safe)s
              AND (c.group_id IN (SELECT value FROM json_each(%(groups)s)) OR c.workgroup <> '')
        ) AS c ON true
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
_MISSED = """
    SELECT {told}
    FROM (
        SELECT {weighed} FROM (
            SELECT * FROM crew_change
            WHERE id > %(since)s AND (group_id = %(group)s OR workgroup <> '')
            ORDER BY id LIMIT %(most)s
        ) AS c
    ) AS c
    ORDER BY c.id
"""
MISSED = statement(
    postgresql=_MISSED.format(told=_TOLD, weighed=_weighed("postgresql")),
    sqlite=_MISSED.format(told=_TOLD, weighed=_weighed("sqlite")),
)

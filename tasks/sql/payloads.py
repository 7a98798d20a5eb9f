"""Statements that read what calls bring: inputs, and the parents' inputs and outputs."""

from . import OUTPUT, PROBED, statement

# The most bytes of an input that a claim reads at once; a budget is asked for heavier ones.
LIGHT = 16 * 1024

AROUND = 100  # bytes of a body around each parent, about
_BYTES = "length(CAST({} AS BLOB))"  # for SQLite

# Compressed to less than 1,000 bytes, a value had at most 91,000 (or by lz4 255,000).
_LIGHT = {
    "postgresql": f"(pg_column_size({{0}}) < 1000 OR pg_column_size({{0}}) < {LIGHT}"
    " AND pg_column_compression({0}) IS NULL)",
    "sqlite": f"{_BYTES} < {LIGHT}",
}


def _input(vendor: str, column: str, text: str) -> str:
    """The text of a light input, and whether there is a heavy one, which is left to TEXTS."""
    light = _LIGHT[vendor].format(column)
    return f"CASE WHEN {light} THEN {text} END AS input, NOT {light} AS is_heavy"


INPUT = {
    "postgresql": _input("postgresql", "t.input", "t.input::text"),
    "sqlite": _input("sqlite", "input", "input"),
}

# What the parents of these tasks bring. A row for each parent, however many children name it: its
# texts as long as all together are within `most`, else NULL and its size, about. And a row for
# each child (the worker is NULL): its parents with their places, as JSON. At most `edges` edges
# are looked at, child by child in the order given.
_NAMED = """named AS MATERIALIZED (
            SELECT c.id AS child, c.place, e.parent_id, e.position FROM {}
            ORDER BY c.place LIMIT %(edges)s
        )"""

_NAMED_POSTGRESQL = _NAMED.format("""
                jsonb_array_elements_text(%(ids)s::jsonb) WITH ORDINALITY AS c(id, place)
                CROSS JOIN LATERAL (
                    SELECT * FROM crew_parentedge WHERE child_id = c.id OFFSET 0) e""")

_NAMED_SQLITE = _NAMED.format("""
                (SELECT key AS place, value AS id FROM json_each(%(ids)s)) c
                JOIN crew_parentedge e ON e.child_id = c.id""")

# Of a compressed value only its stored size is known unread. pglz makes nothing smaller than a
# 91st, lz4 than a 255th; and no value is larger than `largest`.
_ABOUT = """coalesce(CASE WHEN pg_column_compression({0}) IS NULL THEN pg_column_size({0})
                            ELSE least(%(largest)s, 255 * pg_column_size({0})) END, 4)"""

PARENTS = statement(
    postgresql=f"""
        WITH {_NAMED_POSTGRESQL}, parent AS (
            SELECT p.id, p.worker, p.input, own.output, one.place,
                   {_ABOUT.format("p.input")} + {_ABOUT.format("own.output")} + {AROUND} AS size
            FROM (SELECT parent_id, min(place) AS place FROM named GROUP BY parent_id) one
            JOIN crew_task p ON p.id{PROBED.format("one.parent_id")}
            CROSS JOIN LATERAL (SELECT {OUTPUT.format("p")} AS output OFFSET 0) own
        ), counted AS (
            SELECT *, sum(size) OVER (ORDER BY place, id ROWS UNBOUNDED PRECEDING) AS total
            FROM parent
        )
        SELECT id, worker, CASE WHEN total <= %(most)s THEN input::text END,
               CASE WHEN total <= %(most)s THEN output::text END,
               CASE WHEN total > %(most)s THEN size END, NULL FROM counted
        UNION ALL
        SELECT child, NULL, NULL, NULL, NULL,
               json_agg(json_build_array(position, parent_id))::text
        FROM named GROUP BY child
    """,
    # SQLite knows a size only by reading: so one after the other, until it is enough.
    sqlite=f"""
        WITH RECURSIVE {_NAMED_SQLITE}, one AS MATERIALIZED (
            SELECT parent_id, row_number() OVER (ORDER BY min(place), parent_id) AS n
            FROM named GROUP BY parent_id
        ), walk(n, id, total) AS (
            SELECT 0, NULL, 0
            UNION ALL
            SELECT one.n, one.parent_id, walk.total + {AROUND} + coalesce((
                SELECT {_BYTES.format("coalesce(p.input, '')")}
                     + {_BYTES.format(f"coalesce({OUTPUT.format('p')}, '')")}
                FROM crew_task p WHERE p.id = one.parent_id), 0)
            FROM walk JOIN one ON one.n = walk.n + 1 WHERE walk.total <= %(most)s
        )
        SELECT p.id, p.worker, p.input, {OUTPUT.format("p")}, NULL, NULL
        FROM walk JOIN crew_task p ON p.id = walk.id WHERE walk.total <= %(most)s
        UNION ALL
        SELECT p.id, p.worker, NULL, NULL, %(largest)s, NULL
        FROM one JOIN crew_task p ON p.id = one.parent_id
        WHERE one.n > (SELECT max(n) FROM walk WHERE total <= %(most)s)
        UNION ALL
        SELECT child, NULL, NULL, NULL, NULL, json_group_array(json_array(position, parent_id))
        FROM named GROUP BY child
    """,
)

# The texts of these tasks: inputs, and outputs too when these are asked for.
TEXTS = statement(
    postgresql=f"""
        SELECT t.id, t.worker, t.input::text,
               CASE WHEN %(outputs)s THEN {OUTPUT.format("t")}::text END
        FROM jsonb_array_elements_text(%(ids)s::jsonb) AS c(id)
        CROSS JOIN LATERAL (SELECT * FROM crew_task WHERE crew_task.id = c.id LIMIT 1) t
    """,
    sqlite=f"""
        SELECT t.id, t.worker, t.input, CASE WHEN %(outputs)s THEN {OUTPUT.format("t")} END
        FROM json_each(%(ids)s) c JOIN crew_task t ON t.id = c.value
    """,
)

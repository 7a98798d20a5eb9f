"""Statements of the claim."""

from . import OUTPUT, PROBED, statement
from .again import HAS_MADE
from .cuts import TAKES
from .duplicates import BELOW, FOLLOWS, HANGS

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
            )) END - {now})::float,
            worker.max_concurrency, ill.name IS NOT NULL
        FROM walked LEFT JOIN crew_workgroup hold
          ON hold.name = walked.workgroup AND hold.held_until > {now}
        LEFT JOIN crew_worker worker ON worker.name = walked.worker
        LEFT JOIN crew_limit ill ON ill.kind = 'worker' AND ill.name = walked.worker
          AND (ill.rests > 0 OR ill.ramp IS NOT NULL)
    """,
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
            )) END) - julianday({now})) * 86400.0,
            worker.max_concurrency, ill.name IS NOT NULL
        FROM walked LEFT JOIN crew_workgroup hold
          ON hold.name = walked.workgroup AND hold.held_until > {now}
        LEFT JOIN crew_worker worker ON worker.name = walked.worker
        LEFT JOIN crew_limit ill ON ill.kind = 'worker' AND ill.name = walked.worker
          AND (ill.rests > 0 OR ill.ramp IS NOT NULL)
    """,
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
        SELECT held.* FROM jsonb_array_elements_text(%(workers)s::jsonb) AS w(name)
        CROSS JOIN LATERAL (
            SELECT {_ALLOWED} FROM crew_limit l WHERE l.kind = 'worker' AND l.name = w.name
            FOR NO KEY UPDATE SKIP LOCKED
        ) held
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

# Whether the task has parents. Not EXISTS: for that the planner may read every edge into a hash.
_IS_CHILD = "(SELECT 1 FROM crew_parentedge e WHERE e.child_id = {} LIMIT 1) IS NOT NULL"

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


_INPUT = {
    "postgresql": _input("postgresql", "t.input", "t.input::text"),
    "sqlite": _input("sqlite", "input", "input"),
}

# Of the attempt that begins: the first of a task is no second answer.
_HAS_MADE = {
    "postgresql": HAS_MADE.format("t", "t.attempt > 1"),
    "sqlite": HAS_MADE.format("crew_task", "attempt > 1"),
}

_CUT_OF_KEY = f"""
    SELECT 1 FROM crew_cutcall c
    WHERE c.group_id = t.group_id AND c.key = t.key AND c.key <> '' AND {TAKES} LIMIT 1
"""

# No call of this task, or of its key, is still being ended. While none at all is, the first line
# says so once for the whole statement.
_FREE = f"""
    ((SELECT 1 FROM crew_cutcall LIMIT 1) IS NULL
     OR (SELECT 1 FROM crew_cutcall c WHERE c.task_id = t.id AND {TAKES} LIMIT 1) IS NULL
        AND ({_CUT_OF_KEY}) IS NULL)
"""


def _claim(which: str = "") -> str:
    return f"""
        WITH lane AS (
            SELECT l.* FROM jsonb_to_recordset(%(lanes)s::jsonb)
                AS l(worker text, workgroup text, priority int, n int)
            WHERE NOT EXISTS (SELECT FROM crew_workgroup h
                              WHERE h.name = l.workgroup AND h.held_until > {{now}})
        ), picked AS MATERIALIZED (
            SELECT taken.* FROM lane CROSS JOIN LATERAL (
                SELECT t.id, t.key, t.group_id FROM crew_task t
                WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
                  AND t.priority = lane.priority AND t.run_after <= {{now}} AND {{ready}} {which}
                  AND {_FREE}
                ORDER BY t.run_after LIMIT lane.n
                FOR NO KEY UPDATE SKIP LOCKED
            ) taken
        ), leased AS (
            UPDATE crew_task t
            SET attempt = t.attempt + 1, leased_by = %(me)s, leased_at = {{now}}
            FROM picked WHERE t.id{PROBED.format("picked.id")} AND picked.key = ''
            RETURNING t.id, t.attempt, t.group_id, t.worker, t.workgroup, t.key,
                      {_INPUT["postgresql"]}, {_IS_CHILD.format("t.id")} AS is_child,
                      t.error_delay_in_seconds, {_HAS_MADE["postgresql"]}
        )
        SELECT * FROM leased
        UNION ALL
        SELECT id, NULL, group_id, NULL, NULL, key, NULL, NULL, NULL, NULL, NULL
        FROM picked WHERE key <> ''
    """


# Take up to `n` due tasks of each lane. Tasks without a key are leased; those with one come back
# unleased (attempt NULL), locked, for KEYED to decide. MATERIALIZED keeps the planner from
# running the picking twice, which takes more than was asked for. The hold is read here once
# more: nothing of a workgroup goes out after its hold was committed.
CLAIM = statement(
    postgresql=_claim(),
    sqlite="",  # SQLite has no UPDATE inside WITH: PICK and LEASE do it, alone in the database
)

_NOT_BARRED = {
    "postgresql": "NOT t.id = ANY (ARRAY(SELECT jsonb_array_elements_text(%(barred)s::jsonb)))",
    "sqlite": "t.id NOT IN (SELECT value FROM json_each(%(barred)s))",
}

# The same, past the tasks of some groups, whose answers could not be written for now, and past
# tasks that the database does not let be leased.
CLAIM_BESIDE = statement(
    postgresql=_claim(
        "AND NOT t.group_id = ANY (ARRAY(SELECT jsonb_array_elements_text(%(groups)s::jsonb)))"
        f" AND {_NOT_BARRED['postgresql']}"
    ),
    sqlite="",
)


def _first(vendor: str) -> str:
    return f"""
        SELECT t.id FROM crew_task t
        WHERE t.worker = %(worker)s AND t.workgroup = %(workgroup)s
          AND t.priority = %(priority)s AND t.run_after <= {{now}} AND {{ready}}
          AND {_NOT_BARRED[vendor]}
        ORDER BY t.run_after LIMIT %(n)s
    """


# What comes first in a lane.
FIRST = statement(postgresql=_first("postgresql"), sqlite=_first("sqlite"))

PICK = statement(
    postgresql="",
    sqlite=f"""
        SELECT t.id, t.key, t.group_id FROM crew_task t
        WHERE t.worker = %(worker)s AND t.workgroup = %(workgroup)s
          AND t.priority = %(priority)s AND t.run_after <= {{now}} AND {{ready}}
          AND {_FREE} AND {_NOT_BARRED["sqlite"]}
          AND NOT EXISTS (SELECT 1 FROM crew_workgroup h
                          WHERE h.name = t.workgroup AND h.held_until > {{now}})
        ORDER BY t.run_after LIMIT %(n)s
    """,
)

LEASE = statement(
    postgresql=f"""
        UPDATE crew_task t SET attempt = t.attempt + 1, leased_by = %(me)s, leased_at = {{now}}
        FROM jsonb_array_elements_text(%(ids)s::jsonb) AS one(id)
        CROSS JOIN LATERAL (
            SELECT t.id FROM (
                SELECT * FROM crew_task WHERE crew_task.id = one.id LIMIT 1 FOR NO KEY UPDATE
            ) t WHERE {{ready}}
        ) held
        WHERE t.id{PROBED.format("held.id")}
        RETURNING t.id, t.attempt, t.group_id, t.worker, t.workgroup, t.key,
                  {_INPUT["postgresql"]}, {_IS_CHILD.format("t.id")}, t.error_delay_in_seconds,
                  {_HAS_MADE["postgresql"]}
    """,
    sqlite=f"""
        UPDATE crew_task AS t SET attempt = attempt + 1, leased_by = %(me)s, leased_at = {{now}}
        WHERE t.id IN (SELECT value FROM json_each(%(ids)s)) AND {{ready}}
        RETURNING id, attempt, group_id, worker, workgroup, key,
                  {_INPUT["sqlite"]}, {_IS_CHILD.format("id")}, error_delay_in_seconds,
                  {_HAS_MADE["sqlite"]}
    """,
)

# Of the groups whose keys these tasks carry, those nobody else is deciding keys of right now.
KEY_LOCKS = statement(
    postgresql="""
        SELECT g.id FROM jsonb_array_elements_text(%(groups)s::jsonb) AS g(id)
        WHERE pg_try_advisory_xact_lock(hashtextextended('crew key ' || g.id, 0))
    """,
    sqlite="SELECT value FROM json_each(%(groups)s)",
)

# Of the tasks with a key that were picked: the first of each key that no running task leads, and
# no call is still being ended of.
LEADERS = statement(
    postgresql=f"""
        SELECT DISTINCT ON (t.group_id, t.key) t.id
        FROM jsonb_array_elements_text(%(ids)s::jsonb) AS one(id)
        CROSS JOIN LATERAL (SELECT * FROM crew_task WHERE crew_task.id = one.id LIMIT 1) t
        WHERE (SELECT l.id FROM crew_task l
               WHERE l.group_id = t.group_id AND l.key = t.key AND l.key <> ''
                 AND l.leased_by IS NOT NULL LIMIT 1) IS NULL
          AND ({_CUT_OF_KEY}) IS NULL
        ORDER BY t.group_id, t.key, t.run_after, t.id
    """,
    sqlite=f"""
        SELECT id FROM (
            SELECT t.id, row_number() OVER (
                PARTITION BY t.group_id, t.key ORDER BY t.run_after, t.id) AS place
            FROM crew_task t
            WHERE t.id IN (SELECT value FROM json_each(%(ids)s))
              AND NOT EXISTS (SELECT 1 FROM crew_task l
                              WHERE l.group_id = t.group_id AND l.key = t.key AND l.key <> ''
                                AND l.leased_by IS NOT NULL)
              AND ({_CUT_OF_KEY}) IS NULL
        ) WHERE place = 1
    """,
)

_IS_FREE = "NOT t.is_complete AND t.leased_by IS NULL AND t.merged_into IS NULL"

# All other tasks of these keys follow the one that runs. Rows that somebody else holds are
# skipped, and so are those beyond what one statement should write: they are met again when they
# come to be claimed.
FOLLOW = statement(
    postgresql=f"""
        WITH RECURSIVE twin AS MATERIALIZED (
            SELECT s.id, leader.id AS leader, s.hangs, s.pending_parents
            FROM jsonb_to_recordset(%(keys)s::jsonb) AS k(group_id text, key text)
            CROSS JOIN LATERAL (
                SELECT l.id FROM crew_task l
                WHERE l.group_id = k.group_id AND l.key = k.key AND l.key <> ''
                  AND l.leased_by IS NOT NULL LIMIT 1
            ) leader
            CROSS JOIN LATERAL (
                SELECT t.id, t.pending_parents, {HANGS} AS hangs FROM crew_task t
                WHERE t.group_id = k.group_id AND t.key = k.key AND t.key <> '' AND {_IS_FREE}
                OFFSET 0
            ) s
            LIMIT 2000
        ), {BELOW["postgresql"]}, duplicate AS MATERIALIZED (
            SELECT twin.id, twin.leader FROM twin CROSS JOIN LATERAL (
                SELECT FROM crew_task t WHERE t.id >= twin.id AND t.id <= twin.id AND {_IS_FREE}
                ORDER BY t.id FOR NO KEY UPDATE SKIP LOCKED
            ) free
            WHERE {FOLLOWS["postgresql"]}
        )
        UPDATE crew_task t SET merged_into = duplicate.leader
        FROM duplicate WHERE t.id{PROBED.format("duplicate.id")}
        RETURNING t.id, t.group_id
    """,
    sqlite=f"""
        WITH RECURSIVE twin AS MATERIALIZED (
            SELECT t.id, leader.id AS leader, t.pending_parents, {HANGS} AS hangs
            FROM json_each(%(keys)s) k JOIN crew_task leader
              ON leader.group_id = k.value ->> 'group_id' AND leader.key = k.value ->> 'key'
             AND leader.key <> '' AND leader.leased_by IS NOT NULL
            JOIN crew_task t ON t.group_id = leader.group_id AND t.key = leader.key
            WHERE t.key <> '' AND {_IS_FREE}
        ), {BELOW["sqlite"]}
        UPDATE crew_task AS t SET merged_into = twin.leader FROM twin
        WHERE t.id = twin.id AND {FOLLOWS["sqlite"]}
        RETURNING id, group_id
    """,
)


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

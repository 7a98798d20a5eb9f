"""Statements of the claim."""

from . import OUTPUT, PROBED, statement
from .cuts import TAKES

# The lanes that have due tasks, by a loose walk over the index crew_task_ready: one probe for a
# lane, whatever waits in it. `due` counts to `most` and no further; a held workgroup has none
# due, nor has a worker that rests. `wait` is the seconds until the lane's first task is due,
# `max_concurrency` what its worker's row says, to see whether WORKERS must be asked; the last
# column whether TRIED must be.
LANES = statement(
    postgresql="""
        WITH RECURSIVE lane AS (
            (SELECT t.worker, t.workgroup, t.priority FROM crew_task t
             WHERE {ready}
               AND (t.worker, t.workgroup, t.priority)
                   > (%(worker)s, %(workgroup)s, %(priority)s)
             ORDER BY t.worker, t.workgroup, t.priority LIMIT 1)
            UNION ALL
            SELECT following.* FROM lane, LATERAL (
                SELECT t.worker, t.workgroup, t.priority FROM crew_task t
                WHERE {ready}
                  AND (t.worker, t.workgroup, t.priority)
                      > (lane.worker, lane.workgroup, lane.priority)
                ORDER BY t.worker, t.workgroup, t.priority LIMIT 1
            ) following
        ), walked AS (SELECT * FROM lane LIMIT %(lanes)s)
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
            extract(epoch FROM greatest(hold.held_until, ill.held_until, (
                SELECT t.run_after FROM crew_task t
                WHERE t.worker = walked.worker AND t.workgroup = walked.workgroup
                  AND t.priority = walked.priority AND {ready}
                ORDER BY t.run_after LIMIT 1
            )) - {now})::float,
            worker.max_concurrency, ill.name IS NOT NULL
        FROM walked LEFT JOIN crew_workgroup hold
          ON hold.name = walked.workgroup AND hold.held_until > {now}
        LEFT JOIN crew_worker worker ON worker.name = walked.worker
        LEFT JOIN crew_limit ill ON ill.kind = 'worker' AND ill.name = walked.worker
          AND (ill.rests > 0 OR ill.ramp IS NOT NULL)
    """,
    sqlite="""
        WITH RECURSIVE lane AS (
            SELECT * FROM (
                SELECT t.worker, t.workgroup, t.priority FROM crew_task t
                WHERE {ready}
                  AND (t.worker, t.workgroup, t.priority)
                      > (%(worker)s, %(workgroup)s, %(priority)s)
                ORDER BY t.worker, t.workgroup, t.priority LIMIT 1)
            UNION ALL
            SELECT following.worker, following.workgroup, following.priority
            -- Three probes: SQLite uses only the first column of a row comparison with `lane`.
            FROM lane JOIN crew_task following ON following.rowid = coalesce(
                (SELECT t.rowid FROM crew_task t
                 WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
                   AND t.priority > lane.priority AND {ready}
                 ORDER BY t.priority LIMIT 1),
                (SELECT t.rowid FROM crew_task t
                 WHERE t.worker = lane.worker AND t.workgroup > lane.workgroup AND {ready}
                 ORDER BY t.workgroup, t.priority LIMIT 1),
                (SELECT t.rowid FROM crew_task t
                 WHERE t.worker > lane.worker AND {ready}
                 ORDER BY t.worker, t.workgroup, t.priority LIMIT 1))
            LIMIT %(lanes)s
        )
        SELECT lane.worker, lane.workgroup, lane.priority,
            CASE WHEN hold.held_until IS NULL AND NOT coalesce(ill.held_until > {now}, false)
            THEN (
                SELECT count(*) FROM (
                    SELECT 1 FROM crew_task t
                    WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
                      AND t.priority = lane.priority AND t.run_after <= {now} AND {ready}
                    LIMIT %(most)s
                )
            ) ELSE 0 END,
            (julianday(max(coalesce(hold.held_until, ''), coalesce(ill.held_until, ''), (
                SELECT t.run_after FROM crew_task t
                WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
                  AND t.priority = lane.priority AND {ready}
                ORDER BY t.run_after LIMIT 1
            ))) - julianday({now})) * 86400.0,
            worker.max_concurrency, ill.name IS NOT NULL
        FROM lane LEFT JOIN crew_workgroup hold
          ON hold.name = lane.workgroup AND hold.held_until > {now}
        LEFT JOIN crew_worker worker ON worker.name = lane.worker
        LEFT JOIN crew_limit ill ON ill.kind = 'worker' AND ill.name = lane.worker
          AND (ill.rests > 0 OR ill.ramp IS NOT NULL)
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

TRYING = statement(
    postgresql="""
        SELECT l.name, (SELECT count(*) FROM crew_task t
                        WHERE t.worker = l.name AND t.leased_by IS NOT NULL
                          AND t.leased_at >= coalesce(l.held_since, '-infinity'))
        FROM jsonb_array_elements_text(%(workers)s::jsonb) AS w(name)
        CROSS JOIN LATERAL (
            SELECT * FROM crew_limit WHERE kind = 'worker' AND crew_limit.name = w.name LIMIT 1
        ) l
    """,
    sqlite="""
        SELECT l.name, (SELECT count(*) FROM crew_task t
                        WHERE t.worker = l.name AND t.leased_by IS NOT NULL
                          AND t.leased_at >= coalesce(l.held_since, ''))
        FROM json_each(%(workers)s) w
        JOIN crew_limit l ON l.kind = 'worker' AND l.name = w.value
    """,
)

# Whether the task has parents. Not EXISTS: for that the planner may read every edge into a hash.
_IS_CHILD = "(SELECT 1 FROM crew_parentedge e WHERE e.child_id = {} LIMIT 1) IS NOT NULL"


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
                      t.input::text AS input, {_IS_CHILD.format("t.id")} AS is_child,
                      t.error_delay_in_seconds
        )
        SELECT * FROM leased
        UNION ALL
        SELECT id, NULL, group_id, NULL, NULL, key, NULL, NULL, NULL FROM picked WHERE key <> ''
    """


# Take up to `n` due tasks of each lane. Tasks without a key are leased; those with one come back
# unleased (attempt NULL), locked, for KEYED to decide. MATERIALIZED keeps the planner from
# running the picking twice, which takes more than was asked for. The hold is read here once
# more: nothing of a workgroup goes out after its hold was committed.
CLAIM = statement(
    postgresql=_claim(),
    sqlite="",  # SQLite has no UPDATE inside WITH: PICK and LEASE do it, alone in the database
)

# The same, past the tasks of some groups: their answers could not be written for now.
CLAIM_BESIDE = statement(
    postgresql=_claim(
        "AND NOT t.group_id = ANY (ARRAY(SELECT jsonb_array_elements_text(%(groups)s::jsonb)))"
    ),
    sqlite="",
)

PICK = statement(
    postgresql="",
    sqlite=f"""
        SELECT t.id, t.key, t.group_id FROM crew_task t
        WHERE t.worker = %(worker)s AND t.workgroup = %(workgroup)s
          AND t.priority = %(priority)s AND t.run_after <= {{now}} AND {{ready}}
          AND {_FREE}
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
        RETURNING t.id, t.attempt, t.group_id, t.worker, t.workgroup, t.key, t.input::text,
                  {_IS_CHILD.format("t.id")}, t.error_delay_in_seconds
    """,
    sqlite=f"""
        UPDATE crew_task AS t SET attempt = attempt + 1, leased_by = %(me)s, leased_at = {{now}}
        WHERE t.id IN (SELECT value FROM json_each(%(ids)s)) AND {{ready}}
        RETURNING id, attempt, group_id, worker, workgroup, key, input,
                  {_IS_CHILD.format("id")}, error_delay_in_seconds
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

# All other tasks of these keys follow the one that runs. Rows that somebody else holds are
# skipped, and so are those beyond what one statement should write: they are met again when they
# come to be claimed.
FOLLOW = statement(
    postgresql=f"""
        WITH duplicate AS MATERIALIZED (
            SELECT t.id, leader.id AS leader
            FROM jsonb_to_recordset(%(keys)s::jsonb) AS k(group_id text, key text)
            CROSS JOIN LATERAL (
                SELECT l.id FROM crew_task l
                WHERE l.group_id = k.group_id AND l.key = k.key AND l.key <> ''
                  AND l.leased_by IS NOT NULL LIMIT 1
            ) leader
            CROSS JOIN LATERAL (
                SELECT s.id FROM crew_task s
                WHERE s.group_id = k.group_id AND s.key = k.key AND s.key <> ''
                  AND NOT s.is_complete AND s.leased_by IS NULL AND s.merged_into IS NULL
                FOR NO KEY UPDATE SKIP LOCKED
            ) t
            LIMIT 2000
        )
        UPDATE crew_task t SET merged_into = duplicate.leader
        FROM duplicate WHERE t.id{PROBED.format("duplicate.id")}
        RETURNING t.id, t.group_id
    """,
    sqlite="""
        UPDATE crew_task AS t SET merged_into = leader.id
        FROM json_each(%(keys)s) k JOIN crew_task leader
          ON leader.group_id = k.value ->> 'group_id' AND leader.key = k.value ->> 'key'
         AND leader.key <> '' AND leader.leased_by IS NOT NULL
        WHERE t.group_id = leader.group_id AND t.key = leader.key AND t.key <> ''
          AND NOT t.is_complete AND t.leased_by IS NULL AND t.merged_into IS NULL
        RETURNING id, group_id
    """,
)


# What the parents of each task bring, in their order, and how many bytes it is; of those that
# bring more than `most` only that. A subquery for each task: the planner may then not read all
# the edges there are.
def _parents(*, ids: str, json: str, size: str, one: str) -> str:
    """`json` gives a column's text, `size` its bytes; `one` compares with an id."""
    input_, output = "p.input", OUTPUT.format("p")
    bytes_ = " + ".join(f"coalesce({size.format(it)}, 4)" for it in (input_, output))
    return f"""
        WITH child AS MATERIALIZED (
            SELECT c.id, (
                SELECT sum({bytes_} + 100)
                FROM crew_parentedge e JOIN crew_task p ON p.id{one.format("e.parent_id")}
                WHERE e.child_id = c.id) AS size
            FROM {ids}
        )
        SELECT child.id, child.size, p.id, p.worker, {json.format(input_)}, {json.format(output)}
        FROM child
        LEFT JOIN crew_parentedge e ON e.child_id = child.id AND child.size <= %(most)s
        LEFT JOIN crew_task p ON p.id{one.format("e.parent_id")}
        WHERE child.size IS NOT NULL ORDER BY child.id, e.position
    """


PARENTS = statement(
    postgresql=_parents(
        ids="jsonb_array_elements_text(%(ids)s::jsonb) AS c(id)",
        json="{}::text",
        size="octet_length({}::text)",
        one=PROBED,
    ),
    sqlite=_parents(
        ids="(SELECT value AS id FROM json_each(%(ids)s)) c",
        json="{}",
        size="length(CAST({} AS BLOB))",
        one=" = {}",
    ),
)

"""Statements that tell children of their parents' answers: one parent less, a later start."""

from . import AFTER, GREATEST, PROBED, statement


def _freed(vendor: str) -> str:
    return f"""
        pending_parents = t.pending_parents - a.done,
        run_after = CASE WHEN a.wait > 0 AND NOT t.is_complete
                         THEN {GREATEST[vendor]}(t.run_after, {AFTER[vendor].format("a.wait")})
                         ELSE t.run_after END
    """


_FREE = f"""
        locked AS MATERIALIZED (
            SELECT child.* FROM (SELECT * FROM child ORDER BY id) child
            CROSS JOIN LATERAL (
                SELECT t.id FROM crew_task t WHERE t.id = child.id FOR NO KEY UPDATE
            ) locked
        ), freed AS (
            UPDATE crew_task t SET {_freed("postgresql")} FROM locked a
            WHERE t.id{PROBED.format("a.id")}
            RETURNING t.group_id, t.id, t.worker, t.workgroup, t.priority,
                      t.pending_parents = 0 AS is_free,
                      NOT t.is_complete AND (a.wait > 0 OR t.pending_parents = 0) AS is_other
        )
        SELECT id, group_id, '', NULL, NULL FROM freed WHERE is_other
        UNION ALL SELECT DISTINCT NULL, NULL, worker, workgroup, priority FROM freed WHERE is_free
"""

_CHILD = """
            SELECT e.child_id AS id, sum(p.done)::int AS done, max(p.wait) AS wait
            FROM jsonb_to_recordset(%(rows)s::jsonb) AS p(id text, done int, wait float)
            CROSS JOIN LATERAL (
                SELECT child_id FROM crew_parentedge WHERE parent_id = p.id OFFSET 0
            ) e
            WHERE e.child_id || '' > %(after)s
            GROUP BY e.child_id ORDER BY e.child_id LIMIT %(most)s
"""

# What each task's answer does to the children it has: one parent less when it is `done`, and no
# start before now + `wait` (`childrenDelayInSeconds`). Locked in id order, because settles of
# other schedulers touch the same children. Returns those that look otherwise now (they wait for no
# parent any more, or were put off), and the lanes of those that wait for no parent any more; SQLite
# tells of all, with the worker of those that are free.
# PostgreSQL takes `most` of them, by id; a last row without a group says that more may be left.
CHILDREN = statement(
    postgresql=f"""
        WITH child AS MATERIALIZED ({_CHILD}), {_FREE}
        UNION ALL SELECT max(id), NULL, NULL, NULL, NULL FROM child HAVING count(*) >= %(most)s
    """,
    sqlite=f"""
        UPDATE crew_task AS t SET {_freed("sqlite")}
        FROM (SELECT e.child_id AS id, sum(p.value ->> 'done') AS done,
                     max(p.value ->> 'wait') AS wait
              FROM json_each(%(rows)s) p JOIN crew_parentedge e ON e.parent_id = p.value ->> 'id'
              GROUP BY 1) a
        WHERE t.id = a.id
        RETURNING id, group_id, iif(pending_parents = 0, worker, NULL), workgroup, priority
    """,
)

# Those that are left, and some of them, as with duplicates.
CHILDREN_LEFT = statement(postgresql=_CHILD, sqlite="")

CHILDREN_SOME = statement(
    postgresql=f"""
        WITH child AS MATERIALIZED (
            SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS c(id text, done int, wait float)
        ), {_FREE}
    """,
    sqlite="",
)

"""Which tasks of a key follow the one that runs: all but those that descend from it.

In a chain of one key each runs: the output of an ancestor is what a task works with, not what it
does. Only duplicates that have parents make the walk down from their leader necessary, and it
ends after so many tasks, however large the graph. Of what it did not reach then, those follow that
wait for no parent: the others have their turn when they do.
"""

from .probes import TO_CHILDREN

REACH = 20_000  # tasks below all leaders of one statement

# Whether the task `t` has parents.
HANGS = (
    "(SELECT 1 FROM crew_parentedge e WHERE e.child_id >= t.id AND e.child_id <= t.id"
    " ORDER BY e.child_id, e.parent_id LIMIT 1) IS NOT NULL"
)

# Behind a `twin(leader, id, hangs, pending_parents)`, in a WITH RECURSIVE. The ids are one value,
# looked into by a binary search: a batch is never joined to another.
BELOW = {
    "postgresql": f"""
        below(leader, id) AS (
            SELECT DISTINCT twin.leader, twin.leader FROM twin WHERE twin.hangs
            UNION
            SELECT below.leader, e.child_id
            FROM below CROSS JOIN LATERAL {TO_CHILDREN.format("below.id")} e
        ), seen AS MATERIALIZED (
            SELECT jsonb_object_agg(b.leader || chr(1) || b.id, true) AS ids,
                   count(*) >= {REACH} AS is_cut
            FROM (SELECT * FROM below LIMIT {REACH}) b
        )""",
    "sqlite": f"""
        below(leader, id) AS (
            SELECT DISTINCT twin.leader, twin.leader FROM twin WHERE twin.hangs
            UNION
            SELECT below.leader, e.child_id
            FROM below JOIN crew_parentedge e ON e.parent_id = below.id
            LIMIT {REACH}
        )""",
}
FOLLOWS = {
    "postgresql": """(
            NOT coalesce((SELECT ids FROM seen) ? (twin.leader || chr(1) || twin.id), false)
            AND (twin.pending_parents = 0 OR NOT twin.hangs OR NOT (SELECT is_cut FROM seen)))""",
    "sqlite": f"""(
            twin.leader || char(1) || twin.id NOT IN (
                SELECT leader || char(1) || id FROM below)
            AND (twin.pending_parents = 0 OR NOT twin.hangs
                 OR (SELECT count(*) FROM below) < {REACH}))""",
}

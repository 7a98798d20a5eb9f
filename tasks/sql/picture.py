"""Statements of the picture: a whole group as one text each, many times cheaper than as rows.

Neither an id nor a worker's name can hold a comma (`rules/names.py`).
"""

from . import statement

# "id,worker,id,worker,...", oldest first.
TASKS = statement(
    postgresql="""
        SELECT string_agg(t.id || ',' || t.worker, ',' ORDER BY t.created_at, t.id)
        FROM crew_task AS t
        WHERE t.group_id = %(group)s
    """,
    sqlite="""
        SELECT group_concat(t.id || ',' || t.worker, ',')
        FROM (
            SELECT id, worker FROM crew_task WHERE group_id = %(group)s ORDER BY created_at, id
        ) AS t
    """,
)

# "parent,child,parent,child,..." and how many pairs, in no order; no more than `most`.
_EDGES = """
    SELECT {join}(e.parent_id || ',' || e.child_id, ','), count(*)
    FROM (
        SELECT e.parent_id, e.child_id
        FROM crew_task AS t
        JOIN crew_parentedge AS e ON e.child_id = t.id
        WHERE t.group_id = %(group)s
        LIMIT %(most)s
    ) AS e
"""
EDGES = statement(
    postgresql=_EDGES.replace("{join}", "string_agg"),
    sqlite=_EDGES.replace("{join}", "group_concat"),
)

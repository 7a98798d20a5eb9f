"""Statements of the publish."""

from . import statement

# The changes of one transaction.
CHANGES = statement(
    postgresql="""
        INSERT INTO crew_change (group_id, created, updated, deleted, group_event, workgroup)
        SELECT c.group_id, c.created, c.updated, '[]', c.group_event, ''
        FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS c(group_id text, created jsonb, updated jsonb, group_event text)
    """,
    sqlite="""
        INSERT INTO crew_change (group_id, created, updated, deleted, group_event, workgroup)
        SELECT v ->> 'group_id', v -> 'created', v -> 'updated', '[]', v ->> 'group_event', ''
        FROM (SELECT value AS v FROM json_each(%(rows)s))
    """,
)

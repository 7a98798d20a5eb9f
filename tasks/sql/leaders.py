"""Statements that decide which task of a key runs, and let the others follow it."""

from ..rules.states import State
from . import PROBED, statement
from .cuts import CUT_OF_KEY
from .duplicates import BELOW, FOLLOWS, HANGS
from .states import none_of

# Decide alone, for each of these groups, which task of a key leads and which follow.
KEY_LOCKS = statement(
    postgresql="""
        SELECT count(pg_advisory_xact_lock(hashtextextended('crew key ' || g.id, 0)))
        FROM (SELECT jsonb_array_elements_text(%(groups)s::jsonb) AS id ORDER BY 1) AS g
    """,
    sqlite="SELECT 0",
)

# Of the groups whose keys these tasks carry, those nobody else is deciding keys of right now.
KEY_LOCKS_SKIP_LOCKED = statement(
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
          AND ({CUT_OF_KEY}) IS NULL
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
              AND ({CUT_OF_KEY}) IS NULL
        ) WHERE place = 1
    """,
)

_IS_FREE = none_of(State.COMPLETE, State.EXECUTING, State.FOLLOWING)

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

"""Statements of the create."""

from ..rules.spec import PAYLOADS
from . import AFTER, PROBED, Statement, statement
from .task_columns import COLUMNS, RECORD, given

_COLUMNS = f"""{COLUMNS}, id, group_id, errors, is_paused, run_after, created_at, completed_at,
    pending_parents, created_by, attempt, held_count, rescues"""

_TASKS = Statement(
    postgresql=f"""
        INSERT INTO crew_task ({_COLUMNS})
        SELECT {given("postgresql")}, n.id, n."group", n.errors, n.is_paused,
            CASE WHEN n.delay > 0
                 THEN greatest(n.run_after, {AFTER["postgresql"].format("n.delay")})
                 ELSE coalesce(n.run_after, {{now}}) END,
            coalesce(n.created_at, {{now}} + n.place * interval '1 microsecond'),
            CASE WHEN n.is_complete THEN {{now}} END, n.pending, n.created_by, 0, 0, 0
        FROM jsonb_to_recordset(%(tasks)s::jsonb) AS n(
            {RECORD}, id text, "group" text, errors jsonb, is_paused bool, run_after timestamptz,
            created_at timestamptz, pending int, created_by text, delay float, place int)
    """,
    sqlite=f"""
        INSERT INTO crew_task ({_COLUMNS})
        SELECT {given("sqlite")}, v ->> 'id', v ->> 'group', v -> 'errors', v ->> 'is_paused',
            CASE WHEN v ->> 'delay' > 0
                 THEN max(coalesce(v ->> 'run_after', ''),
                          {AFTER["sqlite"].format("(v ->> 'delay')")})
                 ELSE coalesce(v ->> 'run_after', {{now}}) END,
            coalesce(v ->> 'created_at',
                strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now',
                         '+' || ((v ->> 'place') / 1000 / 1000.0) || ' seconds')
                || printf('%%03d', (v ->> 'place') %% 1000)),
            CASE WHEN v ->> 'is_complete' THEN {{now}} END, v ->> 'pending',
            v ->> 'created_by', 0, 0, 0
        FROM (SELECT value AS v FROM json_each(%(tasks)s)) WHERE true
    """,
)
_MADE = ("created_at", "run_after", "is_paused", "pending_parents")
_RETURNING = f"RETURNING {', '.join((*_MADE, *(field.column for field in PAYLOADS)))}"

# All tasks of one call. Those without a createdAt get the time of now, a microsecond apart, in
# the order in which they were given. With a `delay` none starts before it has passed.
TASKS = statement(postgresql=_TASKS.postgresql, sqlite=_TASKS.sqlite)
# The same; what the database made of them comes back.
TASKS_RETURNING = statement(
    postgresql=f"{_TASKS.postgresql} {_RETURNING}", sqlite=f"{_TASKS.sqlite} {_RETURNING}"
)

# The same columns as values, for `put`.
_PLACES = ", ".join("%s" for _ in _COLUMNS.split(","))
TASK_ROWS = Statement(
    postgresql=f"COPY crew_task ({_COLUMNS}) FROM STDIN",
    sqlite=f"INSERT INTO crew_task ({_COLUMNS}) VALUES ({_PLACES})",
)
EDGE_ROWS = Statement(
    postgresql="COPY crew_parentedge (child_id, parent_id, position) FROM STDIN",
    sqlite="INSERT INTO crew_parentedge (child_id, parent_id, position) VALUES (%s, %s, %s)",
)
CLOCK = statement(postgresql="SELECT {now}", sqlite="SELECT {now}")

EDGES = statement(
    postgresql="""
        INSERT INTO crew_parentedge (child_id, parent_id, position)
        SELECT e ->> 0, e ->> 1, (e ->> 2)::int FROM jsonb_array_elements(%(edges)s::jsonb) AS e
    """,
    sqlite="""
        INSERT INTO crew_parentedge (child_id, parent_id, position)
        SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(%(edges)s)
    """,
)

WORKERS = statement(
    postgresql="""
        INSERT INTO crew_worker (name)
        SELECT w FROM jsonb_array_elements_text(%(workers)s::jsonb) AS w
        WHERE NOT EXISTS (SELECT FROM crew_worker known WHERE known.name = w)
        ON CONFLICT DO NOTHING
    """,
    sqlite="""
        INSERT OR IGNORE INTO crew_worker (name)
        SELECT value FROM json_each(%(workers)s) WHERE true
    """,
)

# Count the new tasks into their groups, in id order; only the groups with room come back. Each is
# kept from being deleted, paused or reset, and from other counts, until this transaction ends.
COUNT_IN = statement(
    postgresql=f"""
        WITH locked AS MATERIALIZED (
            SELECT g.id, c.n FROM (
                SELECT * FROM jsonb_to_recordset(%(counts)s::jsonb) AS c(id text, n int) ORDER BY id
            ) c
            CROSS JOIN LATERAL (
                SELECT id FROM crew_taskgroup WHERE crew_taskgroup.id = c.id FOR NO KEY UPDATE
            ) g
        )
        UPDATE crew_taskgroup g SET task_count = g.task_count + locked.n
        FROM locked
        WHERE g.id{PROBED.format("locked.id")} AND g.task_count + locked.n <= %(most)s
        RETURNING g.id, g.is_paused
    """,
    sqlite="""
        UPDATE crew_taskgroup AS g SET task_count = g.task_count + (c.value ->> 'n')
        FROM json_each(%(counts)s) c
        WHERE g.id = c.value ->> 'id' AND g.task_count + (c.value ->> 'n') <= %(most)s
        RETURNING id, is_paused
    """,
)

# The group, kept from everything, running attempts' settles included, until this transaction
# ends.
GROUP_ALONE = statement(
    postgresql="SELECT id, is_paused FROM crew_taskgroup WHERE id = %(group)s FOR UPDATE",
    sqlite="SELECT id, is_paused FROM crew_taskgroup WHERE id = %(group)s",
)

# A probe for each id: with statistics of an emptied table, a join walks all ids for every task.
KNOWN = statement(
    postgresql="""
        SELECT t.id, t.group_id, t.is_complete
        FROM jsonb_array_elements_text(%(ids)s::jsonb) AS k(id) CROSS JOIN LATERAL (
            SELECT * FROM crew_task WHERE crew_task.id = k.id LIMIT 1) t
    """,
    sqlite="""
        SELECT t.id, t.group_id, t.is_complete FROM crew_task t
        WHERE t.id IN (SELECT value FROM json_each(%(ids)s))
    """,
)

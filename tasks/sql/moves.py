"""Statements of what leaves the store and what comes into it (`moves`).

What leaves is ordered by bytes, whatever the collation: the same group is the same file.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import repeat
from typing import Any, NamedTuple

from django.db import connection

from ..rules.spec import PLAIN
from . import STORED, Statement, on_postgres, run, statement, steer
from .task_columns import COLUMNS, RECORD, given, shown

_GROUPS = """
    SELECT g.id, g.name, g.is_paused, g.created_at FROM crew_taskgroup g {} ORDER BY g.id {}
"""
GROUPS = statement(
    postgresql=_GROUPS.format("", 'COLLATE "C"'), sqlite=_GROUPS.format("", "COLLATE BINARY")
)
GROUPS_NAMED = statement(
    postgresql=_GROUPS.format(
        "WHERE g.id IN (SELECT jsonb_array_elements_text(%(ids)s::jsonb))", 'COLLATE "C"'
    ),
    sqlite=_GROUPS.format("WHERE g.id IN (SELECT value FROM json_each(%(ids)s))", ""),
)

# A follower whose leader still runs waits by itself again. A leader that is gone says nothing, nor
# does a task that was made since under its id.
_LEADER = """
    (SELECT l.id FROM crew_task l
     WHERE l.id = t.merged_into AND l.group_id = t.group_id AND t.is_complete
      AND l.created_at <= t.completed_at)
"""
_TASKS = """
    SELECT {columns}, t.id, {errors}, t.is_paused, t.run_after, t.created_at, t.completed_at,
        t.attempt, t.pending_parents, {leader}, t.created_by, t.held_count, t.rescues, {parents},
        t.shared_output_id, t.keeps_complete
    FROM crew_task t WHERE t.group_id = %(group)s ORDER BY t.created_at, t.id {bytes}
"""
TASKS_OUT = statement(
    postgresql=_TASKS.format(
        columns=shown("postgresql"),
        errors="t.errors::text",
        leader=_LEADER,
        parents="""(SELECT json_agg(e.parent_id ORDER BY e.position)::text
            FROM crew_parentedge e WHERE e.child_id = t.id)""",
        bytes='COLLATE "C"',
    ),
    sqlite=_TASKS.format(
        columns=shown("sqlite"),
        errors="t.errors",
        leader=_LEADER,
        parents="""(SELECT json_group_array(ordered.parent_id) FROM (SELECT e.parent_id
            FROM crew_parentedge e WHERE e.child_id = t.id ORDER BY e.position) ordered)""",
        bytes="",
    ),
)


class TaskOut(NamedTuple):
    """What TASKS_OUT says of a task behind its plain columns."""

    id: str
    errors: Any
    is_paused: bool
    run_after: datetime
    created_at: datetime
    completed_at: datetime | None
    attempt: int
    pending_parents: int
    merged_into: str | None
    created_by: str
    held_count: int
    rescues: int
    parent_ids: Any
    shared_output_id: Any
    keeps_complete: bool | None


def task_out(row: tuple[Any, ...]) -> tuple[dict[str, Any], TaskOut]:
    """A row of TASKS_OUT: the plain columns by name, and the rest."""
    plain = dict(zip((field.column for field in PLAIN), row, strict=False))
    return plain, TaskOut(*row[len(PLAIN) :])


# About how many bytes the payloads of each are, in the same order; PostgreSQL alone is asked.
_WEIGHTS = f"""
    SELECT coalesce({STORED.format("t.input")}, 0) + coalesce({STORED.format("t.output")}, 0)
        + {STORED.format("t.errors")}
    FROM crew_task t WHERE t.group_id = %(group)s ORDER BY t.created_at, t.id COLLATE "C"
"""
WEIGHTS_OUT = Statement(postgresql=_WEIGHTS, sqlite="")

# Tasks that have an output in common: it stands once in the file, before the first of them.
_OUTPUT_OUT = "SELECT value{} FROM crew_sharedoutput WHERE id = %(id)s"
OUTPUT_OUT = statement(postgresql=_OUTPUT_OUT.format("::text"), sqlite=_OUTPUT_OUT.format(""))
OUTPUTS_IN = statement(
    postgresql="""
        INSERT INTO crew_sharedoutput (id, value)
        SELECT n.id, n.value FROM jsonb_to_recordset(%(rows)s::jsonb) AS n(id uuid, value jsonb)
    """,
    sqlite="""
        INSERT INTO crew_sharedoutput (id, value)
        SELECT value ->> 'id', value -> 'value' FROM json_each(%(rows)s) WHERE true
    """,
)


class AttemptOut(NamedTuple):
    """A row of ATTEMPTS_OUT and of RUNNING_OUT."""

    task_created_at: datetime
    task_id: str
    number: int
    worker: str
    scheduler: str
    outcome: str
    status: int | None
    error: str
    note: str
    started_at: datetime
    finished_at: datetime | None
    late_at: datetime | None
    late_outcome: str
    late_status: int | None
    late_error: str
    request: str | None
    answer: str | None


_ATTEMPTS = """
    SELECT t.created_at, t.id, a.number, a.worker, a.scheduler, a.outcome, a.status, a.error,
        a.note, a.started_at, a.finished_at, a.late_at, a.late_outcome, a.late_status, a.late_error,
        a.request, a.answer
    FROM crew_task t JOIN crew_attempt a ON a.task_id = t.id WHERE t.group_id = %(group)s
    ORDER BY t.created_at, t.id {}, a.number
"""
ATTEMPTS_OUT = statement(
    postgresql=_ATTEMPTS.format('COLLATE "C"'), sqlite=_ATTEMPTS.format("COLLATE BINARY")
)

# Those that run: on the way they end.
_RUNNING = """
    SELECT t.created_at, t.id, t.attempt, t.worker, t.leased_by, 'abandoned', NULL, %(why)s,
        '', t.leased_at, NULL, NULL, '', NULL, '', NULL, NULL
    FROM crew_task t WHERE t.group_id = %(group)s AND t.leased_by IS NOT NULL
    ORDER BY t.created_at, t.id {}
"""
RUNNING_OUT = statement(
    postgresql=_RUNNING.format('COLLATE "C"'), sqlite=_RUNNING.format("COLLATE BINARY")
)

_COLUMNS_IN = f"""{COLUMNS}, id, group_id, errors, is_paused, run_after, created_at, completed_at,
    attempt, pending_parents, merged_into, created_by, held_count, rescues, shared_output_id,
    keeps_complete"""
TASKS_IN = statement(
    postgresql=f"""
        INSERT INTO crew_task ({_COLUMNS_IN})
        SELECT {given("postgresql")}, n.id, n."group", n.errors, n.is_paused,
            coalesce(n.run_after, {{now}}), coalesce(n.created_at, {{now}}),
            CASE WHEN n.is_complete THEN coalesce(n.completed_at, {{now}}) END, n.attempt,
            n.pending, n.merged_into, n.created_by, n.held_count, n.rescues, n.shared_output,
            n.keeps_complete
        FROM jsonb_to_recordset(%(tasks)s::jsonb) AS n(
            {RECORD}, id text, "group" text, errors jsonb, is_paused bool, run_after timestamptz,
            created_at timestamptz, completed_at timestamptz, attempt int, pending int,
            merged_into text, created_by text, held_count int, rescues int, shared_output uuid,
            keeps_complete bool)
    """,
    sqlite=f"""
        INSERT INTO crew_task ({_COLUMNS_IN})
        SELECT {given("sqlite")}, v ->> 'id', v ->> 'group', v -> 'errors', v ->> 'is_paused',
            coalesce(v ->> 'run_after', {{now}}), coalesce(v ->> 'created_at', {{now}}),
            CASE WHEN v ->> 'is_complete' THEN coalesce(v ->> 'completed_at', {{now}}) END,
            v ->> 'attempt', v ->> 'pending', v ->> 'merged_into', v ->> 'created_by',
            v ->> 'held_count', v ->> 'rescues', v ->> 'shared_output', v ->> 'keeps_complete'
        FROM (SELECT value AS v FROM json_each(%(tasks)s)) WHERE true
    """,
)

# Of tasks of the group, with numbers that were handed out; those written come back. A probe for
# each: the other way round all tasks of the group would be walked for every row.
ATTEMPTS_IN = statement(
    postgresql="""
        INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, status, error, note,
            started_at, finished_at, late_at, late_outcome, late_status, late_error, request,
            answer)
        SELECT t.id, n.number, n.worker, n.scheduler, n.outcome, n.status, n.error, n.note,
            n.started_at, n.finished_at, n.late_at, n.late_outcome, n.late_status, n.late_error,
            n.request, n.answer
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS n(
            task_id text, number int, worker text, scheduler text, outcome text, status int,
            error text, note text, started_at timestamptz, finished_at timestamptz,
            late_at timestamptz, late_outcome text, late_status int, late_error text,
            request text, answer text)
        CROSS JOIN LATERAL (SELECT * FROM crew_task WHERE crew_task.id = n.task_id LIMIT 1) t
        WHERE t.group_id = %(group)s AND t.attempt >= n.number
        RETURNING task_id, number
    """,
    sqlite="""
        INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, status, error, note,
            started_at, finished_at, late_at, late_outcome, late_status, late_error, request,
            answer)
        SELECT t.id, n.v ->> 'number', n.v ->> 'worker', n.v ->> 'scheduler', n.v ->> 'outcome',
            n.v ->> 'status', n.v ->> 'error', n.v ->> 'note', n.v ->> 'started_at',
            n.v ->> 'finished_at', n.v ->> 'late_at', n.v ->> 'late_outcome',
            n.v ->> 'late_status', n.v ->> 'late_error',
            n.v ->> 'request', n.v ->> 'answer'
        FROM (SELECT value AS v FROM json_each(%(rows)s)) n
        CROSS JOIN crew_task t ON t.id = n.v ->> 'task_id'
        WHERE +t.group_id = %(group)s AND t.attempt >= n.v ->> 'number'
        RETURNING task_id, number
    """,
)

# Those that the store knows stay as they are.
WORKERS_IN = statement(
    postgresql="""
        INSERT INTO crew_worker (name, max_concurrency)
        SELECT n.name, n.most FROM jsonb_to_recordset(%(rows)s::jsonb) AS n(name text, most int)
        ON CONFLICT DO NOTHING
    """,
    sqlite="""
        INSERT OR IGNORE INTO crew_worker (name, max_concurrency)
        SELECT value ->> 'name', value ->> 'most' FROM json_each(%(rows)s) WHERE true
    """,
)
# What a hold stopped comes with it: it takes the place of one that is over, but neither of one that
# is not, nor of one that a person has opened.
_NEW_HOLD = """
        ON CONFLICT (name) DO UPDATE
        SET held_until = excluded.held_until, held_by = excluded.held_by
        WHERE crew_workgroup.held_until <= {now} AND excluded.held_until > {now} RETURNING name
"""
WORKGROUPS_IN = statement(
    postgresql=f"""
        INSERT INTO crew_workgroup (name, held_until, held_by)
        SELECT n.name, n.held_until, n.held_by FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS n(name text, held_until timestamptz, held_by text) ORDER BY n.name
        {_NEW_HOLD}
    """,
    sqlite=f"""
        INSERT INTO crew_workgroup (name, held_until, held_by)
        SELECT value ->> 'name', value ->> 'held_until', value ->> 'held_by'
        FROM json_each(%(rows)s) WHERE true
        {_NEW_HOLD}
    """,
)

# Entries outlive their group: those that are here still do not come twice.
ENTRIES_IN = statement(
    postgresql="""
        INSERT INTO crew_auditentry (at, who, address, verb, kind, target, group_id, count, ids,
            detail, is_imported)
        SELECT n.at, n.who, n.address, n.verb, n.kind, n.target, %(group)s, n.count, n.ids,
            n.detail, true
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS n(at timestamptz, who text, address text,
            verb text, kind text, target text, count int, ids text, detail jsonb, place int)
        WHERE NOT EXISTS (
            SELECT FROM crew_auditentry k WHERE k.group_id = %(group)s AND k.at = n.at
              AND k.who = n.who AND k.verb = n.verb AND k.target = n.target)
        ORDER BY n.place
    """,
    sqlite="""
        INSERT INTO crew_auditentry (at, who, address, verb, kind, target, group_id, count, ids,
            detail, is_imported)
        SELECT n.v ->> 'at', n.v ->> 'who', n.v ->> 'address', n.v ->> 'verb', n.v ->> 'kind',
            n.v ->> 'target', %(group)s, n.v ->> 'count', n.v ->> 'ids', n.v -> 'detail', 1
        FROM (SELECT value AS v FROM json_each(%(rows)s)) n
        WHERE NOT EXISTS (
            SELECT 1 FROM crew_auditentry k WHERE k.group_id = %(group)s
              AND strftime('%%s %%f', k.at) = strftime('%%s %%f', n.v ->> 'at')
              AND k.who = n.v ->> 'who' AND k.verb = n.v ->> 'verb'
              AND k.target = n.v ->> 'target')
        ORDER BY n.v ->> 'place'
    """,
)

# From the group's tasks to their edges to the parents, by one probe each: the planner knows
# nothing of rows that this very transaction wrote, and was seen to compare all with all.
_TO_PARENTS = """
    FROM crew_task c
    CROSS JOIN LATERAL (SELECT * FROM crew_parentedge WHERE child_id = c.id OFFSET 0) e
    LEFT JOIN LATERAL (SELECT * FROM crew_task WHERE crew_task.id = e.parent_id LIMIT 1) p ON true
"""
_TO_PARENTS_SQLITE = """
    FROM crew_task c CROSS JOIN crew_parentedge e ON e.child_id = c.id
    LEFT JOIN crew_task p ON p.id = e.parent_id
"""
_LOOSE = """
    SELECT e.child_id, e.parent_id {} WHERE c.group_id = %(group)s
     AND (p.id IS NULL OR p.group_id <> c.group_id) LIMIT 1
"""
LOOSE = statement(postgresql=_LOOSE.format(_TO_PARENTS), sqlite=_LOOSE.format(_TO_PARENTS_SQLITE))

# Without such an edge there is no cycle.
_BACKWARD = """
    SELECT 1 {} WHERE c.group_id = %(group)s AND (p.created_at > c.created_at
        OR p.created_at = c.created_at AND p.id > c.id) LIMIT 1
"""
BACKWARD = statement(
    postgresql=_BACKWARD.format(_TO_PARENTS), sqlite=_BACKWARD.format(_TO_PARENTS_SQLITE)
)
_EDGES = """
    SELECT e.parent_id, e.child_id FROM crew_task c JOIN crew_parentedge e ON e.child_id = c.id
    WHERE c.group_id = %(group)s
"""
EDGES = statement(postgresql=_EDGES, sqlite=_EDGES)

# The invariant "merged", within one group.
_MERGED = """
    SELECT t.id FROM crew_task t {} WHERE t.group_id = %(group)s AND t.merged_into IS NOT NULL
     AND (l.id IS NULL OR l.group_id <> t.group_id OR NOT l.is_complete
      AND NOT EXISTS (SELECT 1 FROM crew_attempt a
        WHERE a.task_id = l.id AND a.outcome = 'completed')) LIMIT 1
"""
MERGED_WRONG = statement(
    postgresql=_MERGED.format(
        """LEFT JOIN LATERAL
        (SELECT * FROM crew_task WHERE crew_task.id = t.merged_into LIMIT 1) l ON true"""
    ),
    sqlite=_MERGED.format("LEFT JOIN crew_task l ON l.id = t.merged_into"),
)

# The numbers that a group's attempts have reached, while the group is replaced.
_REACHED = """
    CREATE TEMPORARY TABLE crew_reached (id varchar(200) PRIMARY KEY, attempt integer NOT NULL)
"""
MAKE_REACHED = statement(postgresql=_REACHED, sqlite=_REACHED)
_KEEP = """
    INSERT INTO crew_reached
    SELECT id, attempt FROM crew_task WHERE group_id = %(group)s AND attempt > 0
"""
KEEP_REACHED = statement(postgresql=_KEEP, sqlite=_KEEP)
_RAISE = """
    UPDATE crew_task SET attempt = crew_reached.attempt FROM crew_reached
    WHERE crew_task.id = crew_reached.id AND crew_task.group_id = %(group)s
      AND crew_task.attempt < crew_reached.attempt
"""
RAISE_REACHED = statement(postgresql=_RAISE, sqlite=_RAISE)
DROP_REACHED = statement(postgresql="DROP TABLE crew_reached", sqlite="DROP TABLE crew_reached")


# A file may come through a slow pipe, or go into one: `steer` alone allows some seconds.
PATIENCE = 600  # seconds that a transaction may wait for its file
_WAIT = statement(
    postgresql="SELECT set_config('idle_in_transaction_session_timeout', %(most)s, true)",
    sqlite="SELECT 1",
)


def steer_patiently() -> None:
    """Probe by indexes, as `steer` does, in a transaction that waits for a file."""
    if on_postgres():
        steer()
        run(_WAIT, {"most": str(PATIENCE * 1_000)})


def stream(what: Statement, params: Mapping[str, Any], most: int) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement, in the running transaction, `most` of them in memory."""
    yield from fetched(what, params, repeat(most))


def fetched(
    what: Statement, params: Mapping[str, Any], numbers: Iterable[int]
) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement, as many at once as these numbers say, in turn."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(getattr(what, connection.vendor), params)
        for number in numbers:
            rows = cursor.fetchmany(number)
            yield from rows
            if len(rows) < number:
                return

"""Statements of the operator's pages. They read, and none reads a table whole."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from ..rules.states import State
from . import Statement, on_postgres, run, statement, steer
from .states import case, in_state

_WALK = statement(
    postgresql="SELECT set_config('enable_bitmapscan', 'off', true)", sqlite="SELECT 1"
)


@contextmanager
def steered() -> Iterator[None]:
    """Have PostgreSQL walk an index in its order and stop, whatever its statistics say.

    It would gather and sort all that matches where they lag behind. The settings last for a
    transaction; SQLite, where one would keep every writer waiting, needs neither.
    """
    if not on_postgres():
        yield
        return
    with transaction.atomic():
        steer()
        run(_WALK, {})
        yield


# PostgreSQL is steered to an index and takes the smallest. SQLite must be steered: its statistics,
# if there are any, may speak for one that holds the complete tasks too.
_INCOMPLETE = {
    "postgresql": "crew_task t",
    "sqlite": "crew_task t INDEXED BY crew_task_incomplete",
}


# The ids sent, as rows of `g`.
_VALUE = {"postgresql": "id", "sqlite": "value"}
_GROUPS = {
    "postgresql": "jsonb_array_elements_text(%(groups)s::jsonb) AS g(id)",
    "sqlite": "json_each(%(groups)s) g",
}


def _open_groups(vendor: str) -> str:
    return f"""
        WITH RECURSIVE open(id) AS (
            SELECT (SELECT t.group_id FROM {_INCOMPLETE[vendor]} WHERE NOT t.is_complete
                    ORDER BY t.group_id DESC LIMIT 1)
            UNION ALL
            SELECT (SELECT t.group_id FROM {_INCOMPLETE[vendor]}
                    WHERE NOT t.is_complete AND t.group_id < open.id
                    ORDER BY t.group_id DESC LIMIT 1)
            FROM open WHERE open.id IS NOT NULL
        ) SELECT id FROM open WHERE id IS NOT NULL LIMIT %(most)s
    """


# Groups with something left to do, the highest ids first, by a loose walk: one probe for each.
OPEN_GROUPS = statement(postgresql=_open_groups("postgresql"), sqlite=_open_groups("sqlite"))


def _open_among(vendor: str) -> str:
    return f"""
        SELECT g.{_VALUE[vendor]} FROM {_GROUPS[vendor]}
        WHERE (SELECT 1 FROM {_INCOMPLETE[vendor]}
               WHERE t.group_id = g.{_VALUE[vendor]} AND NOT t.is_complete LIMIT 1) IS NOT NULL
    """


# Those of these groups that have something left to do.
OPEN_AMONG = statement(postgresql=_open_among("postgresql"), sqlite=_open_among("sqlite"))


# The tasks `t` that are left of each group `g`, in the order of the index, `most` and no more.
_LEFT = {
    "postgresql": """
        CROSS JOIN LATERAL (
            SELECT t.* FROM crew_task t WHERE t.group_id = g.id AND NOT t.is_complete
            ORDER BY t.created_at, t.id LIMIT %(most)s
        ) t
    """,
    "sqlite": """
        CROSS JOIN crew_task t ON t.rowid IN (
            SELECT t.rowid FROM crew_task t INDEXED BY crew_task_incomplete
            WHERE t.group_id = g.value AND NOT t.is_complete LIMIT %(most)s)
    """,
}


def _left(vendor: str) -> str:
    return f"""
        SELECT t.group_id,
            {case("{now}")},
            count(*)
        FROM {_GROUPS[vendor]} {_LEFT[vendor]}
        GROUP BY 1, 2
    """


# What is left of these groups, by its state, of the first `most` of each.
LEFT = statement(postgresql=_left("postgresql"), sqlite=_left("sqlite"))


def _count_left(vendor: str) -> str:
    return f"""
        SELECT g.{_VALUE[vendor]}, (
            SELECT count(*) FROM {_INCOMPLETE[vendor]}
            WHERE t.group_id = g.{_VALUE[vendor]} AND NOT t.is_complete)
        FROM {_GROUPS[vendor]}
    """


# How much is left of these groups, from the index alone.
COUNT_LEFT = statement(postgresql=_count_left("postgresql"), sqlite=_count_left("sqlite"))


def _count_in_lanes(when: str) -> Statement:
    return statement(
        postgresql=f"""
            SELECT lane.worker, lane.workgroup, (SELECT count(*) FROM (
                SELECT FROM crew_task t
                WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
                  AND t.priority = lane.priority AND t.run_after {when} {{now}} AND {{ready}}
                LIMIT %(most)s) seen)
            FROM jsonb_to_recordset(%(lanes)s::jsonb)
                AS lane(worker text, workgroup text, priority int)
        """,
        sqlite=f"""
            SELECT lane.value ->> 'worker', lane.value ->> 'workgroup', (SELECT count(*) FROM (
                SELECT 1 FROM crew_task t
                WHERE t.worker = lane.value ->> 'worker'
                  AND t.workgroup = lane.value ->> 'workgroup'
                  AND t.priority = lane.value ->> 'priority'
                  AND t.run_after {when} {{now}} AND {{ready}}
                LIMIT %(most)s))
            FROM json_each(%(lanes)s) lane
        """,
    )


# How many tasks of these lanes are due, and how many are due later; each lane is counted to `most`
# and no further.
WAITING = _count_in_lanes("<=")
LATER = _count_in_lanes(">")

# How long the first due tasks of these lanes have waited at most, in seconds.
LAG = statement(
    postgresql="""
        SELECT max(extract(epoch FROM {now} - greatest(due.run_after, (
            SELECT max(p.completed_at) FROM crew_parentedge e
            JOIN crew_task p ON p.id = e.parent_id WHERE e.child_id = due.id))))::float
        FROM jsonb_to_recordset(%(lanes)s::jsonb)
            AS lane(worker text, workgroup text, priority int)
        CROSS JOIN LATERAL (
            SELECT t.id, t.run_after FROM crew_task t
            WHERE t.worker = lane.worker AND t.workgroup = lane.workgroup
              AND t.priority = lane.priority AND t.run_after <= {now} AND {ready}
            ORDER BY t.run_after LIMIT 5
        ) due
    """,
    sqlite="""
        SELECT max((julianday({now}) - julianday(max(due.run_after, coalesce((
            SELECT max(p.completed_at) FROM crew_parentedge e
            JOIN crew_task p ON p.id = e.parent_id WHERE e.child_id = due.id), '')))) * 86400.0)
        FROM json_each(%(lanes)s) lane
        JOIN crew_task due ON due.rowid IN (
            SELECT t.rowid FROM crew_task t
            WHERE t.worker = lane.value ->> 'worker'
              AND t.workgroup = lane.value ->> 'workgroup'
              AND t.priority = lane.value ->> 'priority' AND t.run_after <= {now} AND {ready}
            ORDER BY t.run_after LIMIT 5)
    """,
)

# The first and the last id of the attempts that ended since then. Attempts are written when they
# end, so their ids follow the time: halving finds the first by some thirty probes, and the hot
# path keeps no index for it. Attempts written at the same moment may stand a little out of order;
# ATTEMPTS looks at the time itself.
_IS_OLD = """
    (SELECT h.finished_at FROM crew_attempt h WHERE h.id >= (low + high) / 2
     ORDER BY h.id LIMIT 1) < %(since)s
"""
_SINCE = f"""
    WITH RECURSIVE last(id) AS (SELECT max(id) FROM crew_attempt),
    span(low, high) AS (
        SELECT (SELECT min(id) FROM crew_attempt), last.id + 1 FROM last
        UNION ALL
        SELECT CASE WHEN {_IS_OLD} THEN (low + high) / 2 + 1 ELSE low END,
               CASE WHEN {_IS_OLD} THEN high ELSE (low + high) / 2 END
        FROM span WHERE low < high
    ) SELECT span.low, last.id FROM span, last WHERE span.low = span.high
"""
SINCE = statement(postgresql=_SINCE, sqlite=_SINCE)

# One attempt of each `step` ids, from somewhere among them: of every `step`-th, workers that take
# turns would show all or nothing.
PICKED = "%(first)s + n * %(step)s + n * 1103515245 %% 2147483648 / 65536 %% %(step)s"
# The places of all of them, for SQLite, which has no generate_series.
LOOK = """WITH RECURSIVE look(n) AS (
            SELECT 0
            UNION ALL SELECT n + 1 FROM look WHERE n < (%(last)s - %(first)s) / %(step)s
        )"""

# Attempts of these ids, counted by worker, minute (of the epoch) and outcome; with the last id.
ATTEMPTS = statement(
    postgresql=f"""
        SELECT h.worker, floor(extract(epoch FROM h.finished_at) / 60)::bigint, h.outcome,
               count(*), max(h.id)
        FROM generate_series(0::bigint, (%(last)s - %(first)s) / %(step)s) AS look(n)
        JOIN crew_attempt h ON h.id = {PICKED}
        WHERE h.finished_at >= %(since)s
        GROUP BY 1, 2, 3
    """,
    sqlite=f"""
        {LOOK}
        SELECT worker, CAST(strftime('%%s', minute || ':00') AS INTEGER) / 60, outcome, n, last
        FROM (
            SELECT h.worker, substr(h.finished_at, 1, 16) AS minute, h.outcome, count(*) AS n,
                   max(h.id) AS last
            FROM crew_attempt h
            -- Not a join: for that SQLite may read the table whole into a filter.
            WHERE h.id IN (SELECT {PICKED} FROM look) AND h.finished_at >= %(since)s
            GROUP BY 1, 2, 3
        )
    """,
)

# From the task of a group that completed last back through the parent that completed last, and so
# on: what the group took its time for. Among the `near` tasks created last, at most `most` long.
_CRITICAL_PATH = """
    WITH RECURSIVE path(id, depth) AS (
        SELECT * FROM (SELECT id, 1 FROM (
            SELECT t.id, t.is_complete, t.completed_at FROM crew_task t
            WHERE t.group_id = %(group)s
            ORDER BY t.created_at DESC, t.id DESC LIMIT %(near)s) newest
        WHERE is_complete ORDER BY completed_at DESC, id DESC LIMIT 1) final
        UNION ALL
        SELECT (SELECT p.id FROM crew_parentedge e JOIN crew_task p ON p.id = e.parent_id
                WHERE e.child_id = path.id AND p.is_complete
                ORDER BY p.completed_at DESC, p.id DESC LIMIT 1), path.depth + 1
        FROM path WHERE path.id IS NOT NULL AND path.depth < %(most)s
    ) SELECT id FROM path WHERE id IS NOT NULL ORDER BY depth DESC
"""
CRITICAL_PATH = statement(postgresql=_CRITICAL_PATH, sqlite=_CRITICAL_PATH)

_FAILED = in_state(State.FAILED)


def _failed(vendor: str, columns: str, *, of_groups: bool, order: str = "") -> str:
    """The tasks without attempts left, from one of the indexes that hold nothing else."""
    if not of_groups:
        hint = "INDEXED BY crew_task_failed" if vendor == "sqlite" else ""
        return f"SELECT {columns} FROM crew_task t {hint} WHERE {_FAILED} {order} LIMIT %(most)s"
    if vendor == "sqlite":
        return f"""
            SELECT {columns} FROM {_GROUPS[vendor]}
            CROSS JOIN crew_task t INDEXED BY crew_task_failed_of_group
            WHERE t.group_id = g.value AND {_FAILED} {order} LIMIT %(most)s
        """
    return f"""
        SELECT {columns} FROM {_GROUPS[vendor]} CROSS JOIN LATERAL (
            SELECT t.id, t.run_after FROM crew_task t WHERE t.group_id = g.id AND {_FAILED}
            ORDER BY t.run_after DESC, t.id DESC LIMIT %(most)s
        ) t {order} LIMIT %(most)s
    """


def _newest(vendor: str, of_groups: bool) -> str:
    order = "ORDER BY t.run_after DESC, t.id DESC"
    return _failed(vendor, "t.id", of_groups=of_groups, order=order)


def _count(vendor: str, of_groups: bool) -> str:
    return f"SELECT count(*) FROM ({_failed(vendor, '1', of_groups=of_groups)}) seen"


# The newest failed tasks, by when they would have been tried again; how many there are, counted
# to `most`. Everywhere, or of these groups.
FAILED = statement(postgresql=_newest("postgresql", False), sqlite=_newest("sqlite", False))
FAILED_OF = statement(postgresql=_newest("postgresql", True), sqlite=_newest("sqlite", True))
COUNT_FAILED = statement(postgresql=_count("postgresql", False), sqlite=_count("sqlite", False))
COUNT_FAILED_OF = statement(postgresql=_count("postgresql", True), sqlite=_count("sqlite", True))

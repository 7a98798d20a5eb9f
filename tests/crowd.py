"""Tables full of rows, and how much of them a call reads."""

import json
import re
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from django.db import connection

from tasks.models import TaskGroup, Worker

TABLES = ("crew_task", "crew_attempt", "crew_parentedge")
ALIASES = ("t", "h", "e", "p")  # what our statements call them; others are lists and batches


def fill(*, done: int = 100_000, failed: int = 0) -> None:
    """A hundred groups, each a chain, of `done` complete tasks and then `failed` ones.

    Each task has an attempt of the last three hours; the errors are of ten kinds.
    """
    TaskGroup.objects.bulk_create(TaskGroup(pk=f"crowd{n}", name="crowd") for n in range(100))
    Worker.objects.bulk_create([Worker(name=f"crowd{n}") for n in range(10)])
    true, false, array, series, ago = _words()
    rows = done + failed
    is_failed = f"n >= {done}"
    at = ago.format(f"({rows} - n) * 10800.0 / {rows}")
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO crew_task (id, group_id, name, worker, workgroup, key, input, output,
                errors, remaining_attempts, is_paused, is_complete, is_seed, run_after,
                error_delay_in_seconds, priority, created_at, completed_at, attempt,
                pending_parents, created_by, held_count, rescues)
            SELECT 'c' || n, 'crowd' || (n % 100), '', 'crowd' || (n % 10), '', '', 'null', 'null',
                {array}, CASE WHEN {is_failed} THEN 0 ELSE 5 END, {false},
                CASE WHEN {is_failed} THEN {false} ELSE {true} END, {false}, {at}, 60, 0, {at},
                CASE WHEN {is_failed} THEN NULL ELSE {at} END, 1, 0, '', 0, 0
            FROM {series.format(rows - 1)}"""  # noqa: S608
        )
        cursor.execute(
            f"""INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, status,
                error, note, started_at, finished_at, late_outcome, late_error)
            SELECT 'c' || n, 1, 'crowd' || (n % 10), 's1',
                CASE WHEN {is_failed} THEN 'failed' ELSE 'completed' END, 200,
                CASE WHEN {is_failed} THEN 'order ' || n || ' is lost' ELSE '' END, '', {at}, {at},
                '', ''
            FROM {series.format(rows - 1)} ORDER BY n"""  # noqa: S608
        )
        cursor.execute(
            f"""INSERT INTO crew_parentedge (child_id, parent_id, position)
            SELECT 'c' || n, 'c' || (n - 100), 0 FROM {series.format(rows - 1)} WHERE n >= 100"""  # noqa: S608
        )
        cursor.execute("ANALYZE")


def fill_groups(count: int) -> None:
    """So many groups without tasks, a second apart."""
    _, false, _, series, ago = _words()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO crew_taskgroup (id, name, is_paused, task_count, created_at)
            SELECT 'g' || n, 'group ' || n, {false}, 0, {ago.format(f"{count} - n")}
            FROM {series.format(count - 1)}"""  # noqa: S608
        )
        cursor.execute("ANALYZE")


def _words() -> tuple[str, str, str, str, str]:
    if connection.vendor == "postgresql":
        ago = "now() - make_interval(secs => {})"
        return "true", "false", "'[]'::jsonb", "generate_series(0, {}) AS s(n)", ago
    series = """(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {})
                 SELECT n FROM s)"""
    ago = "strftime('%Y-%m-%d %H:%M:%f', 'now', (-({})) || ' seconds')"
    return "1", "0", "'[]'", series, ago


def rows_read(call: Callable[[], Any]) -> int:
    """How many rows of tasks, attempts and edges the call's queries look at, index entries too.

    On SQLite, which does not say, a twentieth of the steps of its machine: to look at a row
    takes some twenty. Fails when a table is read whole.
    """
    if connection.vendor == "sqlite":
        return _steps(call) // 20
    read = 0

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal read
        if any(table in sql for table in TABLES):
            with connection.cursor() as cursor:
                # The plain cursor: a wrapper would be asked again.
                cursor.cursor.execute("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + sql, params)
                (plan,) = cursor.cursor.fetchone()
            plan = json.loads(plan) if isinstance(plan, str) else plan
            read += _rows(plan[0]["Plan"])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        call()
    return read


def _rows(plan: dict[str, Any]) -> int:
    read = sum(_rows(below) for below in plan.get("Plans", ()))
    if plan.get("Relation Name") in TABLES or "Bitmap Index" in plan["Node Type"]:
        assert plan["Node Type"] != "Seq Scan", plan
        looked_at = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        read += int(looked_at * plan["Actual Loops"])
    return read


def _steps(call: Callable[[], Any]) -> int:
    plans: list[str] = []

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if any(table in sql for table in TABLES):
            with connection.cursor() as cursor:
                cursor.cursor.execute("EXPLAIN QUERY PLAN " + sql, params)
                plans.extend(row[3] for row in cursor.cursor.fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        call()
    for line in plans:
        assert "BLOOM" not in line and "AUTOMATIC" not in line, plans
        # Another statement's alias for the tables above.
        scan = line.removeprefix("SCAN ").split(" ")[0] if line.startswith("SCAN ") else ""
        assert scan not in {*TABLES, *ALIASES} or "crew_task_failed" in line, plans
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 100
        return 0

    with _progress(count):
        call()
    return steps


@contextmanager
def _progress(count: Callable[[], int]) -> Any:
    connection.ensure_connection()
    connection.connection.set_progress_handler(count, 100)
    try:
        yield
    finally:
        connection.connection.set_progress_handler(None, 0)


def assert_probes(call: Callable[[], Any]) -> int:
    """Fail when a statement of the call, writes too, reads a whole table of tasks, attempts or
    edges; return how many were looked at.
    """
    asked = 0

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal asked
        if any(table in sql for table in TABLES):
            asked += 1
            _refuse_scans(sql, params)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        call()
    return asked


def _refuse_scans(sql: str, params: Any) -> None:
    words = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.cursor.execute(words + sql, params)
        lines = [row[-1] for row in cursor.cursor.fetchall()]
    plan = "\n".join(lines)
    assert "AUTOMATIC" not in plan, f"{sql}\n{plan}"
    scanned = set(re.findall(r"Seq Scan on (\w+)", plan))
    assert not scanned & set(TABLES), f"{sql}\n{plan}"
    for line in lines:
        is_scan = line.startswith("SCAN ") and "VIRTUAL TABLE" not in line
        name = line.split(" ")[1] if is_scan else ""
        assert name not in {*TABLES, *_aliases(sql)}, f"{sql}\n{plan}"


def _aliases(sql: str) -> set[str]:
    """What the statement calls the tables."""
    tables = "|".join(TABLES)
    return set(re.findall(rf'\b(?:{tables})"?\s+(?:AS\s+)?(\w+)', sql))

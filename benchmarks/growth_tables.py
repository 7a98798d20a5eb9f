"""What many tasks leave in the tables, dead rows and indexes; and how a claim and settle run."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .growth_server import run
from .growth_store import RUN, SLOTS, WORK, add_ready, fill, tidy

WATCHED = ("crew_task", "crew_attempt", "crew_change", "crew_taskgroup", "crew_schedulerprocess")
EVERY = 2.0  # seconds between two looks


def churn(tasks: int, windows: int = 10) -> list[dict[str, Any]]:
    """Run a group of so many tasks to its end; a row for each tenth of them, and two for the sizes:
    as the run leaves the tables, and as they are when everything was rebuilt.
    """
    tidy()
    add_ready(tasks)
    tidy()
    rows = [{"window": "before"} | _sizes()]
    (first,) = run("SELECT coalesce(max(id), 0) FROM crew_attempt")[0]
    with _scheduler() as scheduler:
        started, done = time.monotonic(), 0
        for window in range(1, windows + 1):
            dead: dict[str, int] = {}
            while (now_done := _ended(first)) < tasks * window // windows:
                assert scheduler.poll() is None, "the scheduler has ended"
                dead = {name: max(dead.get(name, 0), count) for name, count in _dead().items()}
                time.sleep(EVERY)
            now = time.monotonic()
            rate = (now_done - done) / (now - started)
            started, done = now, now_done
            rows.append({"window": f"{window}/{windows}", "rate": rate, "dead": dead} | _sizes())
            print(f"  {rows[-1]}", flush=True)
    run("VACUUM FULL ANALYZE")
    return [*rows, {"window": "rebuilt"} | _sizes()]


@contextmanager
def _scheduler() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*RUN, "--slots", str(SLOTS)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _ended(first: int) -> int:
    return int(run("SELECT last_value FROM crew_attempt_id_seq")[0][0]) - first


def _dead() -> dict[str, int]:
    rows = run("SELECT relname, n_dead_tup FROM pg_stat_user_tables")
    return {name: count for name, count in rows if name in WATCHED}


def _sizes() -> dict[str, Any]:
    """Bytes of tables and indexes, and how often each table was vacuumed."""
    bytes_ = dict(
        run(
            """SELECT relname, pg_relation_size(oid) FROM pg_class
            WHERE relname LIKE 'crew_task%' OR relname LIKE 'crew_attempt%'
               OR relname LIKE 'crew_change%'"""
        )
    )
    vacuums = dict(run("SELECT relname, autovacuum_count FROM pg_stat_user_tables"))
    return {
        "bytes": {name: size for name, size in bytes_.items() if not name.endswith("_seq")},
        "vacuums": {name: vacuums[name] for name in WATCHED},
    }


# --- Retention ----------------------------------------------------------------------------------


def prune(tasks: int) -> list[dict[str, Any]]:
    """Delete so many finished tasks, in many groups and in one; a row for each."""
    from tasks.upkeep import finished_groups

    rows = []
    for groups in (max(1, tasks // 1_000), 1):
        fill(finished=0, beside=0, groups=groups, in_group=0, of_each=tasks // groups)
        started = time.monotonic()
        gone = finished_groups.prune_groups(0, seconds=600)
        assert gone == (groups, tasks), gone
        rows.append({"groups": groups, "rate": tasks / (time.monotonic() - started)})
    return rows


# --- Plans --------------------------------------------------------------------------------------


def plans(count: int = 500) -> list[str]:
    """EXPLAIN (ANALYZE, BUFFERS) of every statement of a claim and of its settle; nothing stays."""
    from django.db import transaction

    from tasks.engine import claim
    from tasks.engine.settle import settle
    from tasks.engine.settlement import Settlement
    from tasks.models import SchedulerProcess
    from tasks.rules.decide import Completed

    found: list[str] = []
    add_ready(count)
    with transaction.atomic():
        SchedulerProcess.objects.create(pk="plans", host="h", pid=1, slots=count)
        with _explained(found):
            leases = claim.claim("plans", slots=count, total=count, busy={}).leases
            settle([Settlement(lease, Completed("1"), 200) for lease in leases])
        transaction.set_rollback(True)
    run("DELETE FROM crew_task WHERE group_id = %s AND NOT is_complete", WORK)
    return found


@contextmanager
def _explained(found: list[str]) -> Iterator[None]:
    from django.db import connection

    def explain(execute: Callable[..., Any], sql: str, params: Any, *rest: Any) -> Any:
        if "crew_" in sql:
            run("SAVEPOINT plans")
            with connection.cursor() as cursor:
                # The plain cursor: a wrapper would be asked again.
                cursor.cursor.execute("EXPLAIN (ANALYZE, BUFFERS) " + sql, params)
                lines = "\n".join(line for (line,) in cursor.cursor.fetchall())
            run("ROLLBACK TO plans")
            found.append(" ".join(sql.split())[:100] + "…\n" + lines)
        return execute(sql, params, *rest)

    with connection.execute_wrapper(explain):
        yield

"""One store of the growth benchmark: filled by set-based SQL, worked on by a real scheduler.

Everything here runs in a process of its own for each store: Django knows one database in its life.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise

from .growth_server import database_cpu, others, process_cpu, run, wal_bytes
from .stage import ROOT

ENVIRONMENT = {
    "DEBUG": "0",
    "SECRET_KEY": "for a benchmark on this machine only",
    "DJANGO_SETTINGS_MODULE": "crewsite.settings",
    "LOG_LEVEL": "WARNING",
    "CREW_MAX_TASKS_PER_CALL": "100000",
    "CREW_MAX_GROUP_TASKS": "10000000",
}
TABLES = "crew_task, crew_attempt, crew_parentedge, crew_taskgroup, crew_change, crew_worker"
SLOTS = 500
RUN = [sys.executable, str(ROOT / "manage.py"), "runscheduler"]
WORK = "work"  # the group of what is measured, where it is one
COLUMNS = """id, group_id, name, worker, workgroup, key, input, errors, remaining_attempts,
    is_paused, is_complete, is_seed, run_after, error_delay_in_seconds, priority, created_at,
    attempt, pending_parents, created_by, held_count, rescues, completed_at"""


@dataclass(frozen=True, slots=True)
class Round:
    """What `tasks` no-op tasks cost. Seconds are per task but for `seconds`; None = unknown."""

    tasks: int
    seconds: float  # from the first claim to the last settle
    create: float | None  # of the one that creates
    create_cpu: float | None  # of the database
    create_wal: float | None  # bytes
    scheduler_cpu: float
    database_cpu: float | None
    wal: float | None  # bytes
    connections: int | None


def open_store(url: str, base: str) -> None:
    """The first call in a process."""
    os.environ |= ENVIRONMENT | {"DATABASE_URL": url, "CREW_WORKER_BASE_URL": base}
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


# --- What lies in the tables --------------------------------------------------------------------


def fill(*, finished: int, beside: int, groups: int, in_group: int, of_each: int = 10) -> None:
    """Finished tasks in a hundred chains; `beside` blocked and as many scheduled ones in the very
    lane that is measured; groups of a few finished tasks; finished tasks in the measured group.
    """
    from tests import crowd

    if finished:
        crowd.fill(done=finished)
    if beside:
        _insert("b", beside, group="'beside'", pending="CASE WHEN n % 1000 = 0 THEN 0 ELSE 1 END",
                paused="n % 1000 = 0")  # fmt: skip
        run(
            f"""INSERT INTO crew_parentedge (child_id, parent_id, position)
            SELECT 'b' || n, 'b' || (n - n % 1000), 0 FROM {_series(beside)} WHERE n % 1000 > 0"""
        )
        _insert("s", beside, group="'beside'", due=_from_now(86_400))
    if groups:
        _insert("g", of_each * groups, group=f"'g' || (n % {groups})", done=True)
    if in_group:
        _insert("w", in_group, group=f"'{WORK}'", done=True)
    tidy()


def tidy() -> None:
    """What the database does by itself before long."""
    from django.db import connection

    if connection.vendor == "postgresql":
        run("VACUUM ANALYZE")
        run("CHECKPOINT")
    else:
        run("ANALYZE")


def empty() -> None:
    from django.db import connection

    if connection.vendor == "postgresql":
        run(f"TRUNCATE {TABLES} CASCADE")
        return
    for table in TABLES.split(", "):
        run(f"DELETE FROM {table}")


def add_ready(count: int, groups: int = 1) -> None:
    """So many due tasks, in the measured group or in turn in the groups of `fill`."""
    group = f"'{WORK}'" if groups == 1 else f"'g' || (n % {groups})"
    _insert(f"r{time.time_ns()}-", count, group=group)


def add_finished(first: int, groups: int, of_each: int) -> None:
    """Finished groups, numbered from `first` on."""
    group = f"'p' || ({first} + n / {of_each})"
    _insert(f"p{first}-", groups * of_each, group=group, done=True)


def _insert(prefix: str, count: int, *, group: str, pending: str = "0", paused: str = "n < 0",
            due: str = "", done: bool = False) -> None:  # fmt: skip
    now = _from_now(0)
    run(
        f"""INSERT INTO crew_taskgroup (id, name, is_paused, task_count, created_at)
        SELECT {group}, '', n < 0, count(*), {now} FROM {_series(count)}
        WHERE true GROUP BY 1, 2, 3
        ON CONFLICT (id) DO UPDATE
        SET task_count = crew_taskgroup.task_count + excluded.task_count"""
    )
    run("INSERT INTO crew_worker (name) VALUES ('noop') ON CONFLICT DO NOTHING")
    run(
        f"""INSERT INTO crew_task ({COLUMNS})
        SELECT '{prefix}' || n, {group}, 'a task', 'noop', '', '', '{{"n": 1}}', '[]', 5, {paused},
            {"n >= 0" if done else "n < 0"}, n < 0, {due or now}, 60, 0, {now},
            {int(done)}, {pending}, '', 0, 0, {now if done else "NULL"}
        FROM {_series(count)}"""
    )
    if done:
        run(
            f"""INSERT INTO crew_attempt (task_id, number, worker, scheduler, outcome, status,
                error, note, started_at, finished_at, late_outcome, late_error)
            SELECT '{prefix}' || n, 1, 'noop', 's1', 'completed', 200, '', '', {now}, {now}, '', ''
            FROM {_series(count)}"""
        )


def _series(count: int) -> str:
    from django.db import connection

    if connection.vendor == "postgresql":
        return f"generate_series(0, {count - 1}) AS s(n)"
    last = count - 1
    return (
        f"(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {last})"
        " SELECT n FROM s)"
    )


def _from_now(seconds: int) -> str:
    from django.db import connection

    if connection.vendor == "postgresql":
        return f"now() + make_interval(secs => {seconds})"
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', '+{seconds} seconds')"


# --- One round ----------------------------------------------------------------------------------


def measure(tasks: int, *, groups: int = 1) -> Round:
    """Create so many tasks and let one scheduler process run them."""
    before = database_cpu(), wal_bytes()
    created = _create(tasks) if groups == 1 else None
    if groups > 1:
        add_ready(tasks, groups)
    (first,) = run("SELECT coalesce(max(id), 0) FROM crew_attempt")[0]
    ready = database_cpu(), wal_bytes()
    scheduler, connections = run_scheduler()
    after = database_cpu(), wal_bytes()
    seconds, done = _span(first)
    assert done == tasks, f"{done} of {tasks} tasks were done"
    return Round(
        tasks,
        float(seconds),
        created and created / tasks,
        _each(before[0], ready[0], tasks),
        _each(before[1], ready[1], tasks),
        scheduler / tasks,
        _each(ready[0], after[0], tasks),
        _each(ready[1], after[1], tasks),
        connections,
    )


def measure_chain(length: int) -> float:
    """Seconds that one scheduler process takes for a chain, from its first claim on."""
    from tasks import create
    from tasks.models import TaskGroup

    TaskGroup.objects.get_or_create(pk=WORK)
    (first,) = run("SELECT coalesce(max(id), 0) FROM crew_attempt")[0]
    ids = [f"chain-{time.time_ns()}-{n}" for n in range(length)]
    links = [{"id": id_, "worker": "noop", "parentIds": [above]} for above, id_ in pairwise(ids)]
    create.create_tasks(WORK, [{"id": ids[0], "worker": "noop"}, *links])
    run_scheduler()
    seconds, done = _span(first)
    assert done == length, f"{done} of {length} tasks were done"
    return seconds


def _each(before: float | None, after: float | None, tasks: int) -> float | None:
    return None if before is None or after is None else (after - before) / tasks


def _span(first: int) -> tuple[float, int]:
    """Seconds from the first claim to the last settle after that attempt, and how many ended."""
    from django.db.models import Count, Max, Min

    from tasks.models import Attempt

    found = Attempt.objects.filter(pk__gt=first).aggregate(
        began=Min("started_at"), ended=Max("finished_at"), count=Count("pk")
    )
    return (found["ended"] - found["began"]).total_seconds(), found["count"]


def _create(tasks: int) -> float:
    from tasks import create
    from tasks.models import TaskGroup

    TaskGroup.objects.get_or_create(pk=WORK)
    started = time.perf_counter()
    for _ in range(0, tasks, 5_000):
        some = [{"worker": "noop", "input": {"n": 1}}] * min(5_000, tasks)
        create.create_tasks(WORK, some)
    return time.perf_counter() - started


def measure_many(tasks: int, schedulers: int) -> Round:
    """The same by many scheduler processes, which all run before the first task is there."""
    from tasks.models import Attempt, SchedulerProcess

    (first,) = run("SELECT coalesce(max(id), 0) FROM crew_attempt")[0]
    command = [*RUN, "--slots", str(SLOTS)]
    running = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(schedulers)]
    try:
        while SchedulerProcess.objects.alive().count() < schedulers:
            time.sleep(0.5)
        cpu = sum(process_cpu(process.pid) for process in running)
        before, connections = (database_cpu(), wal_bytes()), others()
        add_ready(tasks)
        ready = database_cpu(), wal_bytes()
        while Attempt.objects.filter(pk__gt=first).count() < tasks:
            assert all(process.poll() is None for process in running)
            time.sleep(0.2)
        cpu = sum(process_cpu(process.pid) for process in running) - cpu
        after = database_cpu(), wal_bytes()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)
    seconds, done = _span(first)
    assert done == tasks
    return Round(
        tasks,
        seconds,
        None,
        _each(before[0], ready[0], tasks),
        _each(before[1], ready[1], tasks),
        cpu / tasks,
        _each(ready[0], after[0], tasks),
        _each(ready[1], after[1], tasks),
        connections,
    )


def run_scheduler() -> tuple[float, int | None]:
    """Run one until nothing is left; its CPU seconds, and how many connections it had."""
    command = [*RUN, "--once", "--slots", str(SLOTS)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    connections = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        connections = max(connections, others())
        time.sleep(0.2)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    log = process.stderr.read()
    assert process.returncode == 0, log
    return usage.ru_utime + usage.ru_stime, connections or None

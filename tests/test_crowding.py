"""Much at once: who waits behind others, and what a scheduler does when there is too little."""

import subprocess
import time

import pytest
from django.db import connection

from tasks import control, create, limits_and_holds
from tasks.models import Attempt, SchedulerProcess, Task

from .processes import scheduler, sink, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def completed(worker: str) -> int:
    return Task.objects.filter(worker=worker, is_complete=True).count()


def test_of_20_000_resumed_tasks_no_more_run_than_the_limit_allows(tmp_path):
    """F16: nothing breaks out when everything may start at once."""
    groups = [
        create.create_group(is_paused=True, tasks=[{"worker": "noop"}] * 10_000) for _ in range(2)
    ]
    limits_and_holds.limit_worker("noop", 20)

    with sink(tmp_path) as worker, scheduler(worker.url, "--slots", "200"):
        wait_until(lambda: SchedulerProcess.objects.exists())
        for group in groups:
            control.resume_group(group.pk)
        wait_until(lambda: worker.stats()["calls"] > 2_000, 60)
        stats = worker.stats()

    assert 0 < stats["max_in_flight"] <= 20
    leased = Task.objects.filter(leased_by__isnull=False).count()
    assert leased <= 20


def test_a_stuck_worker_with_5_000_tasks_keeps_nobody_waiting(tmp_path):
    """F17: it leaves an eighth of the slots to the others, which so start several at a time."""
    create.create_group(tasks=[{"worker": "sleep", "input": {"seconds": 600}}] * 5_000)

    with sink(tmp_path) as worker, scheduler(worker.url, "--slots", "40"):
        wait_until(lambda: worker.stats()["in_flight"] == 35)
        create.create_group(tasks=[{"worker": "noop"}] * 100)
        wait_until(lambda: completed("noop") == 100)

        assert worker.stats()["in_flight"] == 35
        starts = Attempt.objects.filter(worker="noop").values_list("task__created_at", "started_at")
        waits = sorted((started - created).total_seconds() for created, started in starts)
        claims = len({started for _, started in starts})
    print(f"p95 from created to start: {waits[94]:.2f} s, in {claims} claims")
    assert len(waits) == 100
    assert claims < 60  # one by one they were a hundred
    assert waits[94] < 5.0
    assert completed("sleep") == 0


@pytest.mark.parametrize("hanging", [2, 8])
def test_any_number_of_stuck_workers_keeps_nobody_waiting(tmp_path, hanging):
    """Two stopped everything: each left the last eighth to the other."""
    stuck = [f"sleep/{n}" for n in range(hanging)]
    tasks = [{"worker": name, "input": {"seconds": 600}} for name in stuck for _ in range(500)]
    create.create_group(tasks=tasks)

    with sink(tmp_path) as worker, scheduler(worker.url, "--slots", "500"):
        wait_until(lambda: worker.stats()["in_flight"] > 450, 60)
        create.create_group(tasks=[{"worker": "noop"}] * 1_000)
        wait_until(lambda: completed("noop") == 1_000, 60)
        leased = Task.objects.filter(leased_by__isnull=False).count()

    assert 450 < leased < 500
    assert Task.objects.filter(is_complete=True).count() == 1_000


def test_of_60_tenants_on_10_slots_each_has_its_turn(tmp_path):
    """33 of them got not one call in 20 s."""
    tenants = [f"tenant-{n}" for n in range(60)]
    task = {"worker": "sleep", "input": {"seconds": 0.02}}
    create.create_group(tasks=[task | {"workgroup": name} for name in tenants for _ in range(160)])

    def served() -> int:
        done = Task.objects.filter(is_complete=True)
        return done.order_by().values("workgroup").distinct().count()

    with sink(tmp_path) as worker, scheduler(worker.url, "--slots", "10"):
        wait_until(lambda: served() == 60, 60)
        done = Task.objects.filter(is_complete=True).count()
    assert done < 60 * 80, "each long before one is done"


@pytest.mark.postgres
def test_no_transaction_is_open_while_calls_are_out(tmp_path):
    """F19."""
    create.create_group(tasks=[{"worker": "sleep", "input": {"seconds": 3}}] * 30)

    with sink(tmp_path) as worker, scheduler(worker.url, CREW_LEASE_SECONDS="30"):
        wait_until(lambda: worker.stats()["in_flight"] == 30)
        open_for = []
        while worker.stats()["in_flight"] == 30:
            open_for.append(longest_open_transaction())
            time.sleep(0.05)

    assert len(open_for) > 10
    assert max(open_for) < 1.0


def longest_open_transaction() -> float:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)"
            " FROM pg_stat_activity WHERE datname = current_database()"
            " AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
        )
        return float(cursor.fetchone()[0])


@pytest.mark.postgres
def test_without_notify_a_task_starts_within_the_poll(tmp_path):
    """F23: a NOTIFY is only a hint; here none comes, and the schedulers look every second."""
    with sink(tmp_path) as worker, scheduler(worker.url, CREW_NOTIFY="0"):
        wait_until(lambda: SchedulerProcess.objects.exists())
        seconds = []
        for n in range(5):
            started = time.monotonic()
            create.create_group(tasks=[{"worker": "noop"}])
            wait_until(lambda n=n: completed("noop") == n + 1)
            seconds.append(time.monotonic() - started)

    print(f"created to complete without NOTIFY: {sorted(seconds)[2]:.2f} s")
    assert sorted(seconds)[2] < 2.5


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_with_few_file_descriptors_there_are_few_slots(tmp_path, deliverer):
    """F34: calls never take those that the database needs."""
    create.create_group(tasks=[{"worker": "sleep", "input": {"seconds": 0.2}}] * 100)

    with sink(tmp_path) as worker, scheduler(worker.url, CREW_DELIVERER=deliverer) as process:
        limit_files(process.pid, 64)
        said = next(line for line in process.stderr if "open files" in line)
        wait_until(lambda: completed("sleep") == 100, 60)
        most = worker.stats()["max_in_flight"]
        process.terminate()
        assert process.wait(20) == 0

    assert "Only 64 open files are allowed: 24 slots are used" in said
    assert 0 < most <= 24
    assert not Attempt.objects.exclude(outcome="completed")


def test_with_too_few_file_descriptors_a_scheduler_does_not_start():
    with scheduler("http://127.0.0.1:1/") as process:
        limit_files(process.pid, 32)
        assert process.wait(30) == 1
        assert "32 open files are too few" in process.stderr.read()


def limit_files(pid: int, count: int) -> None:
    """Before the process, which has only just begun, looks at its limit."""
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={count}:{count}"], check=True)

"""Real schedulers, a real worker process, real signals."""

import os
import signal
import subprocess
import sys
import time

import pytest
from django.core.management import call_command

from tasks import create
from tasks.models import Attempt, SchedulerProcess, Task

from .processes import ROOT, scheduler, scheduler_env, sink, wait_until
from .stub_worker import StubWorker, Watched

pytestmark = pytest.mark.django_db(transaction=True)


def running() -> int:
    return SchedulerProcess.objects.count()


def completed() -> int:
    return Task.objects.filter(is_complete=True).count()


def test_a_scheduler_process_runs_a_group_to_its_end(tmp_path):
    create.create_group(
        tasks=[
            {"id": "c", "worker": "echo", "parentIds": ["a", "b"]},
            {"id": "a", "worker": "ok"},
            {"id": "b", "worker": "tree", "input": {"depth": 4}},
        ]
    )

    with sink(tmp_path) as worker, scheduler(worker.url, "--once") as process:
        assert process.wait(30) == 0

    assert Task.objects.filter(is_complete=False).count() == 0
    assert Task.objects.count() == 17
    assert [parent["taskId"] for parent in Task.objects.get(pk="c").output["parents"]] == ["a", "b"]
    assert running() == 0


@pytest.mark.notify
def test_a_running_scheduler_starts_new_work_at_once(tmp_path):
    with sink(tmp_path) as worker, scheduler(worker.url):
        wait_until(lambda: running() == 1)
        # The scheduler sleeps for a second at most; a hint wakes it much sooner.
        latencies = []
        for _ in range(5):
            started = time.monotonic()
            before = completed()
            create.create_group(tasks=[{"worker": "noop"}])
            wait_until(lambda before=before: completed() == before + 1)
            latencies.append(time.monotonic() - started)

    assert sorted(latencies)[2] < 0.5


def test_sigterm_lets_running_calls_finish_and_claims_no_more(tmp_path):
    tasks = [{"worker": "sleep", "input": {"seconds": 1}}] * 10
    create.create_group(tasks=[*tasks, {"worker": "noop", "runAfter": "2090-01-01T00:00:00Z"}])

    with sink(tmp_path) as worker, scheduler(worker.url) as process:
        wait_until(lambda: worker.stats()["in_flight"] == 10)
        process.send_signal(signal.SIGTERM)
        create.create_group(tasks=[{"worker": "noop"}])

        assert process.wait(10) == 0

    assert completed() == 10
    assert running() == 0


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_deploys_cost_calls_that_outlast_the_drain_no_attempt(deliverer):
    create.create_group(tasks=[{"id": f"t{n}", "worker": "w", "key": f"{n}"} for n in range(3)])
    work = Watched()

    with StubWorker(work) as worker:
        for n in range(1, 5):
            settings = {"CREW_DRAIN_SECONDS": "0.2", "CREW_DELIVERER": deliverer}
            with scheduler(worker.url, **settings) as process:
                wait_until(lambda: work.now == 3)
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            assert _interrupted() == {(f"t{i}", k + 1) for i in range(3) for k in range(n)}
            assert running() == 0
            wait_until(lambda n=n: len(work.cut) == 3 * n)
        work.released.set()
        with scheduler(worker.url, "--once") as process:
            assert process.wait(30) == 0

    left = set(Task.objects.values_list("is_complete", "remaining_attempts", "rescues", "attempt"))
    assert left == {(True, 4, 0, 5)}
    assert work.most == 3
    call_command("crewcheck")


def _interrupted() -> set[tuple[str, int]]:
    ended = Attempt.objects.filter(outcome="interrupted", status=None, scheduler__gt="")
    assert not Task.objects.filter(leased_by__isnull=False).exists()
    assert not Task.objects.exclude(errors=[]).exists()
    return set(ended.values_list("task_id", "number"))


def test_a_second_signal_cuts_what_runs_and_settles_it(tmp_path):
    create.create_group(tasks=[{"worker": "sleep", "input": {"seconds": 60}}])

    with sink(tmp_path) as worker, scheduler(worker.url) as process:
        wait_until(lambda: worker.stats()["in_flight"] == 1)
        # Of two of the same the kernel may make one.
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 1

    task = Task.objects.get()
    assert (task.leased_by, task.remaining_attempts, task.rescues) == (None, 5, 0)
    assert list(Attempt.objects.values_list("outcome", flat=True)) == ["interrupted"]


def test_a_third_signal_exits_at_once(tmp_path):
    create.create_group(tasks=[{"worker": "sleep", "input": {"seconds": 60}}])

    with sink(tmp_path) as worker, scheduler(worker.url) as process:
        wait_until(lambda: worker.stats()["in_flight"] == 1)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: _second_signal_ends(process))

    assert process.returncode == 1


def _second_signal_ends(process) -> bool:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    return process.poll() is not None


@pytest.mark.sqlite
def test_a_second_scheduler_on_sqlite_is_refused_in_one_line(tmp_path):
    with sink(tmp_path) as worker, scheduler(worker.url):
        wait_until(lambda: running() == 1)
        with scheduler(worker.url) as second:
            assert second.wait(20) == 1
            lines = [line for line in second.stderr.read().splitlines() if line]

    assert len(lines) == 1
    assert "already running on this SQLite database" in lines[0]


def test_the_tasks_of_a_killed_scheduler_run_again(tmp_path):
    create.create_group(tasks=[{"id": "t", "worker": "sleep", "input": {"seconds": 4}}])

    with sink(tmp_path) as worker:
        with scheduler(worker.url) as first:
            wait_until(lambda: worker.stats()["in_flight"] == 1)
            first.kill()
        with scheduler(worker.url):
            wait_until(lambda: completed() == 1)

    task = Task.objects.get()
    outcomes = list(Attempt.objects.order_by("number").values_list("number", "outcome"))
    assert outcomes == [(1, "abandoned"), (2, "completed")]
    assert task.remaining_attempts == 3


@pytest.mark.postgres
def test_two_schedulers_one_killed_in_the_middle_complete_everything_once(tmp_path):
    total = 20_000
    for part in range(2):
        create.create_group(
            tasks=[{"id": f"{part}-{i}", "worker": "noop"} for i in range(total // 2)]
        )

    with sink(tmp_path) as worker, scheduler(worker.url) as first, scheduler(worker.url):
        wait_until(lambda: completed() > total // 4, 60)
        first.kill()
        wait_until(lambda: completed() == total, 60)

    calls = worker.calls()
    assert len(calls) == len(set(calls))
    assert {id_ for id_, _ in calls} == set(Task.objects.values_list("id", flat=True))
    assert Attempt.objects.filter(outcome="completed").count() == total
    closed = set(Attempt.objects.values_list("task_id", "number"))
    assert set(calls) <= closed
    SchedulerProcess.objects.all().delete()
    call_command("crewcheck")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_in_the_middle_of_claims_loses_nothing(tmp_path, number):
    create.create_group(tasks=[{"worker": "noop"}] * 10_000)

    with sink(tmp_path) as worker, scheduler(worker.url) as process:
        wait_until(lambda: worker.stats()["calls"] > 500)
        process.send_signal(number)
        assert process.wait(20) == 0

    calls = worker.calls()
    assert 500 < len(calls) < 10_000
    assert completed() == len(calls)
    assert Attempt.objects.count() == len(calls)
    assert Task.objects.filter(leased_by__isnull=False).count() == 0
    assert running() == 0


def test_a_scheduler_outlives_the_shell_that_started_it(tmp_path):
    """It belongs to whoever started the shell, and stops when it is asked to."""
    with sink(tmp_path) as worker:
        env = scheduler_env(worker.url)
        shell = subprocess.run(
            ["sh", "-c", f'"{sys.executable}" manage.py runscheduler >/dev/null 2>&1 & echo $!'],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            close_fds=True,
        )
        pid = int(shell.stdout)
        try:
            create.create_group(tasks=[{"worker": "noop"}])
            wait_until(lambda: completed() == 1)
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: running() == 0)

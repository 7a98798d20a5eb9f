"""The side loops of a scheduler: one that fails takes nobody with it (F27)."""

import threading
import time

import pytest

from tasks.engine import heartbeat, rescue
from tasks.engine.scheduler import Scheduler
from tasks.models import SchedulerProcess, Task
from tasks.sql import statistics
from tasks.store import changes
from tasks.upkeep import chores, finished_groups

from .factories import make_group, make_task, wire
from .processes import wait_until
from .stub_worker import StubWorker

pytestmark = pytest.mark.django_db(transaction=True)


def failing(calls):
    def fail(*args, **kwargs):
        calls.append(threading.current_thread().name)
        raise RuntimeError("a bug of ours")

    return fail


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (rescue, "sweep_once"),
        (heartbeat.Heart, "_beat_once"),
        (changes, "prune"),
        (finished_groups, "steps"),
        (statistics, "renew"),
        pytest.param(heartbeat.Heart, "_listen", marks=[pytest.mark.postgres, pytest.mark.notify]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_deliveries_go_on_while_a_side_loop_fails(where, name, monkeypatch, settings, caplog):
    settings.CREW_LEASE_SECONDS = 8.0
    settings.CREW_SWEEP_SECONDS = 0.05
    settings.CREW_KEEP_DAYS = 30.0
    monkeypatch.setattr(heartbeat, "FIRST_CHORES", 0.0)
    monkeypatch.setattr(chores, "EVERY", 0.05)
    monkeypatch.setattr(heartbeat, "FAILING_REST", 0.05)
    calls: list[str] = []
    monkeypatch.setattr(where, name, failing(calls))
    make_group(tasks=[wire() for _ in range(20)])

    with StubWorker() as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        scheduler = Scheduler()
        watcher = threading.Thread(
            target=lambda: (wait_until(lambda: len(calls) > 3), scheduler.stop())
        )
        watcher.start()
        scheduler.run()
        watcher.join()
        assert len(worker.requests) == 20

    assert Task.objects.filter(is_complete=True).count() == 20
    assert sum("a bug of ours; trying again" in line for line in caplog.messages) == 1


def test_old_groups_are_looked_at_though_other_old_rows_cannot_go(monkeypatch, settings):
    settings.CREW_KEEP_DAYS = 30.0
    monkeypatch.setattr(heartbeat, "FIRST_CHORES", 0.0)
    monkeypatch.setattr(chores, "EVERY", 0.02)
    calls: list[str] = []
    monkeypatch.setattr(changes, "prune", failing([]))
    monkeypatch.setattr(finished_groups, "steps", lambda days: iter([calls.append("looked")]))
    side = heartbeat.Heart("s1", slots=1, wake=threading.Event())

    side.start()
    wait_until(lambda: calls)
    side.stop(gone=True)

    assert not SchedulerProcess.objects.exists()


def test_leases_are_counted_on_for_less_than_they_last(settings):
    settings.CREW_LEASE_SECONDS = 3_000.0
    side = heartbeat.Heart("s1", slots=1, wake=threading.Event())

    side._beat_at = time.monotonic() - 1_500.0
    assert side.is_beating and side.may_claim
    side._beat_at = time.monotonic() - 2_900.0
    assert not side.is_beating and not side.may_claim


def test_a_scheduler_ends_though_its_row_cannot_go(monkeypatch):
    make_task(worker="")
    side = heartbeat.Heart("s1", slots=1, wake=threading.Event())
    side.start()

    def lost(*args, **kwargs):
        raise heartbeat.Error("the database is away")

    monkeypatch.setattr(SchedulerProcess.objects, "filter", lost)
    side.stop(gone=True)
    monkeypatch.undo()

    assert SchedulerProcess.objects.filter(pk="s1").exists()

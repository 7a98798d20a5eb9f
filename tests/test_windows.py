"""What happens between two steps: each test holds or fails a scheduler there, never by luck."""

import threading
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now

from tasks import control, failpoints, heart
from tasks.models import Attempt, AuditEntry, SchedulerProcess, Task
from tasks.scheduler import Scheduler

from .factories import (
    claim_all,
    claim_one,
    complete,
    fail,
    in_threads,
    make_group,
    make_task,
    row,
    wire,
)
from .processes import wait_until
from .stub_worker import Barrier, StubWorker
from .test_rescue import die

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def at(monkeypatch):
    """`at(point, do)`: do it when the point is reached the first time."""

    def arm(point, do):
        def once():
            if failpoints.armed.pop(point, None):
                do()

        monkeypatch.setitem(failpoints.armed, point, once)

    return arm


@pytest.fixture
def worker(settings):
    with StubWorker() as stub:
        settings.CREW_WORKER_BASE_URL = stub.url
        yield stub


def lose_the_connection():
    raise OperationalError("the connection was lost")


# --- The claim ---


def test_a_claim_whose_commit_was_not_answered_is_taken_back(worker, at):
    at("after_claim", lose_the_connection)
    make_group(tasks=[wire(id="a"), wire(id="b", key="k"), wire(id="c", key="k")])

    Scheduler(once=True).run()

    assert Task.objects.filter(is_complete=True).count() == 3
    assert Task.objects.get(pk="a").remaining_attempts == 4
    assert len(worker.requests) == 2
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {"completed"}
    call_command("crewcheck")


def test_a_drain_takes_back_a_claim_whose_commit_was_not_answered(worker, at):
    scheduler = Scheduler()

    def stop_and_lose():
        scheduler.stop()
        lose_the_connection()

    at("after_claim", stop_and_lose)
    task = make_task()

    scheduler.run()

    assert (row(task)["leased_by"], row(task)["remaining_attempts"]) == (None, 5)
    assert SchedulerProcess.objects.count() == 0


class Moody:
    """A throttler with a bug: it breaks once, at the second task it is asked about."""

    asked = 0

    def push(self, task_id, worker):
        type(self).asked += 1
        if self.asked == 2:
            raise RuntimeError("a bug")
        return 0.0

    def pop(self, task_id, worker):
        pass


def test_a_throttler_that_breaks_loses_no_task(worker, settings):
    Moody.asked = 0
    settings.CREW_THROTTLER = f"{__name__}.Moody"
    make_group(tasks=[wire(), wire(), wire()])

    Scheduler(once=True).run()

    assert Task.objects.filter(is_complete=True, remaining_attempts=4).count() == 3
    assert len(worker.requests) == 3


def test_f25_leases_of_a_scheduler_without_a_row_are_given_back():
    task = make_task()
    claim_one("thawed")
    make_task(id="other")
    claim_one("alive")
    SchedulerProcess.objects.filter(pk="thawed").delete()

    count = heart.sweep_once()

    assert count == 1
    assert row(task)["leased_by"] is None
    assert Task.objects.get(pk="other").leased_by == "alive"
    assert list(SchedulerProcess.objects.values_list("id", flat=True)) == ["alive"]


# --- The call ---


@pytest.fixture
def barrier(worker):
    worker.behaviour = Barrier()
    return worker.behaviour


@contextmanager
def running(scheduler):
    thread = threading.Thread(target=in_threads, args=[lambda each: each.run(), [scheduler]])
    thread.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_f3_a_task_made_anew_does_not_take_the_answer_to_the_one_that_was_deleted(barrier):
    group = make_group(id="g", tasks=[wire(id="t", input="old")])
    with running(Scheduler()):
        old = barrier.call(1)
        control.delete_tasks("g", ["t"])
        make_task(group, id="t", input="new")
        new = barrier.call(2)
        old.release({"output": "old", "children": [{"id": "ghost", "worker": "w"}]})
        wait_until(lambda: AuditEntry.objects.filter(verb="late").count() == 1)
        is_running = row(Task(pk="t"))["leased_by"] is not None
        new.release({"output": "new"})
        wait_until(lambda: Task.objects.get(pk="t").is_complete)

    assert (old.payload["input"], new.payload["input"]) == ("old", "new")
    assert is_running
    assert Task.objects.get().output == "new"
    assert list(Attempt.objects.values_list("number", "outcome")) == [(2, "completed")]


# --- The rescue ---


def aside(work):
    """By a connection of its own; on SQLite, where one transaction runs at a time, within it."""
    return in_threads(lambda _: work(), [None]) if connection.vendor == "postgresql" else work()


@pytest.mark.parametrize("settling", [complete, fail])
def test_f4_a_settle_between_a_rescues_look_and_its_write_wins(at, settling):
    task = make_task()
    lease = claim_one()
    die()
    settled = []
    at("after_lost", lambda: aside(lambda: settled.append((settling(lease), row(task)))))

    count = heart.sweep_once()

    ((written, after),) = settled
    assert (written.live, count) == (1, 0)
    assert row(task) == after
    (attempt,) = Attempt.objects.all()
    assert attempt.outcome in ("completed", "failed")
    assert attempt.late_at is None


@pytest.mark.parametrize("verb", [control.reset_group, control.cancel_group, control.delete_group])
def test_f4_a_verb_between_a_rescues_look_and_its_write_wins(at, verb):
    task = make_task()
    claim_one()
    die()
    after = []
    at("after_lost", lambda: aside(lambda: after.extend([verb(task.group_id), row(task)])))

    count = heart.sweep_once()

    assert count == 0
    assert row(task) == after[1]
    assert not Attempt.objects.exclude(late_at=None).exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.postgres
def test_f4_a_heartbeat_between_a_rescues_look_and_its_write_waits(at):
    """The row stays locked: whoever wakes up beats again only when its leases are gone."""
    task = make_task()
    claim_one()
    die()
    refused = []

    def beat():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '50ms'")
            SchedulerProcess.objects.filter(pk="s1").update(beat_at=Now())

    def try_to_beat():
        with pytest.raises(OperationalError, match="lock timeout"):
            beat()
        refused.append(True)

    at("after_lost", lambda: aside(try_to_beat))

    assert heart.sweep_once() == 1
    assert refused == [True]
    assert row(task)["leased_by"] is None


@pytest.mark.postgres
def test_f26_two_sweeps_at_once_give_each_task_back_once(at):
    make_group(tasks=[wire() for _ in range(250)])
    claim_all("s1", slots=250)
    die()
    counts = []
    at("after_lost", lambda: aside(lambda: counts.append(heart.sweep_once())))

    counts.append(heart.sweep_once())

    assert counts == [0, 250]
    assert Attempt.objects.filter(outcome="abandoned").count() == 250
    assert Task.objects.filter(remaining_attempts=4, rescues=1).count() == 250


# --- The settle ---


def stand_still():
    """Until the server ends the session."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', '1', true)")
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    in_threads(lambda _: wait_until(lambda: is_gone(pid)), [None])


def only_read():
    """As a server does that was the first one until a fail-over."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")


@pytest.mark.postgres
@pytest.mark.parametrize("happens", [stand_still, only_read])
def test_f6_a_server_that_takes_no_settle_fails_no_task(worker, at, happens):
    at("mid_settle", happens)
    task = make_task()

    Scheduler(once=True).run()

    assert (row(task)["is_complete"], row(task)["errors"]) == (True, [])
    assert len(worker.requests) == 1


def is_gone(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid])
        return cursor.fetchone() == (0,)

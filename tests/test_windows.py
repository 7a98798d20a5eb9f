"""What happens between two steps: each test holds or fails a scheduler there, never by luck."""

import json
import random
import threading
from contextlib import contextmanager, suppress

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection

from tasks import control, create, limits_and_holds
from tasks.delivery.event_loop import AsyncioDeliverer
from tasks.edit import edit_task
from tasks.engine import failpoints, rescue
from tasks.engine.heartbeat import Heart
from tasks.engine.scheduler import Scheduler
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.errors import ConflictError
from tasks.models import (
    Attempt,
    AuditEntry,
    ParentEdge,
    SchedulerProcess,
    Task,
    TaskGroup,
    Workgroup,
)
from tasks.rules.decide import Completed
from tasks.sql import on_postgres

from .factories import (
    claim_all,
    claim_ids,
    claim_one,
    complete,
    fail,
    in_threads,
    make_due,
    make_group,
    make_scheduler,
    make_task,
    row,
    wire,
)
from .processes import wait_until
from .stub_worker import Barrier, StubWorker, answer, by_task, in_turn
from .test_rescue import die
from .threads import running

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
        settings.CREW_NOTIFY = False  # whose listener takes up to a second to stop
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

    count = rescue.sweep_once()

    assert count == 1
    assert row(task)["leased_by"] is None
    assert Task.objects.get(pk="other").leased_by == "alive"
    assert list(SchedulerProcess.objects.values_list("id", flat=True)) == ["alive"]


# --- The call ---


@pytest.fixture
def barrier(worker):
    worker.behaviour = Barrier()
    return worker.behaviour


def test_f3_a_task_recreated_does_not_take_the_answer_to_the_one_that_was_deleted(
    barrier, monkeypatch
):
    monkeypatch.setattr(AsyncioDeliverer, "cut", lambda *_: None)  # it is answered before
    group = make_group(id="g", tasks=[wire(id="t", input="old")])
    with running():
        old = barrier.call(1)
        control.delete_tasks("g", ["t"])
        make_task(group, id="t", input="new")
        is_waiting = row(Task(pk="t"))["leased_by"] is None
        old.release({"output": "old", "children": [{"id": "ghost", "worker": "w"}]})
        new = barrier.call(2)
        late = AuditEntry.objects.filter(verb="late").count()
        new.release({"output": "new"})
        wait_until(lambda: Task.objects.get(pk="t").is_complete)

    assert (old.payload["input"], new.payload["input"]) == ("old", "new")
    assert (is_waiting, late) == (True, 1)
    assert Task.objects.get().output == "new"
    assert list(Attempt.objects.values_list("number", "outcome")) == [(1, "completed")]


# --- The rescue ---


def aside(work):
    """By a connection of its own; on SQLite, where one transaction runs at a time, within it."""
    return in_threads(lambda _: work(), [None]) if on_postgres() else work()


@pytest.mark.parametrize("settling", [complete, fail])
def test_f4_a_settle_between_a_rescues_look_and_its_write_wins(at, settling):
    task = make_task()
    lease = claim_one()
    die()
    settled = []
    at("after_lost", lambda: aside(lambda: settled.append((settling(lease), row(task)))))

    count = rescue.sweep_once()

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

    count = rescue.sweep_once()

    assert count == 0
    assert row(task) == after[1]
    assert not Attempt.objects.exclude(late_at=None).exists()
    assert not AuditEntry.objects.exists()


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


ANSWERS = {
    "complete": (200, {"output": 1}),
    "retry": (500, {"error": "boom", "output": "so far"}),
    "children": (200, {"children": [{"id": "x", "worker": "w"}, {"id": "y", "worker": "w"}]}),
    "delays": (200, {"workgroupDelayInSeconds": 600, "childrenDelayInSeconds": 600}),
    "held": (429, {"workgroupDelayInSeconds": 600}),
}

TIMELESS = (
    "id",
    "is_complete",
    "remaining_attempts",
    "held_count",
    "pending_parents",
    "merged_into",
    "created_by",
    "leased_by",
)


@pytest.mark.parametrize("kind", ANSWERS)
def test_f6_a_settle_whose_connection_is_lost_takes_effect_once(worker, at, kind):
    """Before the commit, and behind it, where nobody knows whether it was done."""
    status, reply = ANSWERS[kind]
    clean = outcome_of(worker, status, reply)
    for point in ("mid_settle", "before_commit", "after_commit", "after_publish"):
        at(point, lose_the_connection)

        lossy = outcome_of(worker, status, reply)

        assert point not in failpoints.armed
        assert (point, lossy) == (point, clean)
    call_command("crewcheck")


def outcome_of(worker, status, reply):
    """All that the answer makes of a group, without times."""
    made = answer(status, json.dumps(reply).encode())
    worker.behaviour = in_turn(made, answer(200, b"{}"))
    make_group(
        id="g",
        tasks=[
            wire(id="t", key="k", workgroup="shop"),
            wire(id="twin", key="k", run_after="2090-01-01T00:00:00Z"),
            wire(id="child", parent_ids=["t", "twin"]),
        ],
    )
    called = len(worker.requests)
    Scheduler(once=True).run()
    result = [
        len(worker.requests) - called,
        sorted(Task.objects.values_list(*TIMELESS)),
        # Not their numbers: a claim in the same transaction is taken back, and leaves a gap.
        sorted(Attempt.objects.values_list("task", "outcome", "status", "late_outcome")),
        sorted(ParentEdge.objects.values_list("parent", "child")),
        sorted(Workgroup.objects.values_list("name", "held_by")),
        AuditEntry.objects.count(),
    ]
    control.delete_group("g")
    Workgroup.objects.all().delete()
    return result


# --- What people do meanwhile ---


def pause():
    control.pause_tasks("g", ["t"])


def reset():
    control.reset_group("g")


def delete():
    control.delete_tasks("g", ["t"], children="detach")


def edit():
    with suppress(ConflictError):
        edit_task("g", "t", {"worker": "worker-b"})


def cancel():
    control.cancel_group("g")


def delete_group():
    control.delete_group("g")


# Before it is leased, while its attempt runs, after its settle: the attempts of t and how they
# ended, how often it was called, whether it is complete (None: it is gone), late answers.
DONE = (1, "completed")
GIVEN_UP = (1, "cancelled")
OPERATIONS = {
    pause: [([], 0, False, 0), ([DONE], 1, True, 0), ([DONE], 1, True, 0)],
    reset: [
        ([DONE], 1, True, 0),
        ([GIVEN_UP, (2, "completed")], 2, True, 1),
        ([DONE, (2, "completed")], 2, True, 0),
    ],
    delete: [([], 0, None, 0), ([], 1, None, 1), ([], 1, None, 0)],
    edit: [([DONE], 1, True, 0), ([DONE], 1, True, 0), ([DONE], 1, True, 0)],
    cancel: [([], 0, False, 0), ([GIVEN_UP], 1, False, 1), ([DONE], 1, True, 0)],
    delete_group: [([], 0, None, 0), ([], 1, None, 1), ([], 1, None, 0)],
}
PHASES = {
    "after_select": 0,
    "after_claim": 1,
    "after_send": 1,
    "after_answer": 1,
    "before_commit": 2,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_f30_whatever_is_done_at_any_point_of_a_delivery_is_done_whole(
    worker, at, operation, monkeypatch
):
    # It is answered before it is cut, or chance would say which; for the cut see `test_cuts.py`.
    monkeypatch.setattr(AsyncioDeliverer, "cut", lambda *_: None)
    for point, phase in PHASES.items():
        # On SQLite a claim has the store for itself from its first look: the verb comes behind it.
        comes_behind = point == "after_select" and not on_postgres()
        phase = 1 if comes_behind else phase
        made_by = answer(200, b'{"output":1,"children":[{"worker":"worker-b"}]}')
        worker.behaviour = by_task({"t": made_by}, answer(200, b"{}"))
        make_group(id="g", tasks=[wire(id="t"), wire(id="child", parent_ids=["t"])])
        calls = len(worker.requests)
        with meanwhile(operation) as begin:
            at(point, begin)
            if comes_behind:
                at("after_claim", begin)
            Scheduler(once=True).run()
        Scheduler(once=True).run()

        assert point not in failpoints.armed
        result = (point, *what_became_of_t(worker.requests[calls:]))
        assert result == (point, *OPERATIONS[operation][phase])
        call_command("crewcheck")
        Task.objects.filter(group="g").exists() and control.delete_group("g")
        TaskGroup.objects.all().delete()
        AuditEntry.objects.all().delete()


def what_became_of_t(requests):
    task = Task.objects.filter(pk="t").first()
    attempts = Attempt.objects.filter(task="t").order_by("number")
    late = attempts.exclude(late_at=None).count()
    late += AuditEntry.objects.filter(verb="late", target="t").count()
    ended = list(attempts.values_list("number", "outcome"))
    if task:
        # The child of the last answer that took effect (decision 13), and the one that was there.
        made = Task.objects.filter(created_by="t", worker="worker-b").count()
        assert made == any(outcome == "completed" for _, outcome in ended)
        assert task.is_complete or not Task.objects.get(pk="child").is_complete
    called = [json.loads(request.body)["taskId"] for request in requests]
    return ended, called.count("t"), task and task.is_complete, late


@contextmanager
def meanwhile(work):
    """`begin()` starts it by a connection of its own: it is done, or waits for a lock.

    SQLite does not say who waits. There `begin()` is for after the transaction, once more: it is
    done then.
    """
    threads = []
    done = threading.Event()

    def begin():
        if not threads:
            threads.append(threading.Thread(target=in_threads, args=[run, [done]]))
            threads[0].start()
        if on_postgres() or not connection.in_atomic_block:
            in_threads(lambda _: wait_until(lambda: done.is_set() or a_lock_is_waited_for()), [0])

    def run(done):
        work()
        done.set()

    yield begin
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def a_lock_is_waited_for():
    if not on_postgres():
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone() != (0,)


# --- The claim, and others ---


def test_f31_a_hold_set_between_a_claims_look_and_its_leases_counts(at):
    held, free = make_task(workgroup="shop"), make_task(workgroup="other")
    at("after_select", lambda: aside(lambda: limits_and_holds.hold_workgroup("shop", seconds=600)))

    leases = claim_all()

    assert [lease.task_id for lease in leases] == [free.pk]
    assert row(held)["leased_by"] is None


@pytest.mark.parametrize("key", ["", "k"])
def test_f10_two_schedulers_that_looked_at_the_same_tasks_share_them(at, key):
    """Each leases up to half of what both have counted; of a key only one runs."""
    make_group(tasks=[wire(id=f"t{n}", key=key) for n in range(10)])
    make_scheduler("s2")
    seconds = []
    at("after_select", lambda: aside(lambda: seconds.extend(claim_all("s2", slots=5))))

    firsts = claim_all("s1", slots=10)

    taken = [lease.task_id for lease in [*firsts, *seconds]]
    assert len(taken) == len(set(taken)) == (1 if key else 10)
    assert len(seconds) == (1 if key else 5)
    assert Task.objects.filter(attempt__gt=1).count() == 0
    call_command("crewcheck")


def test_f29_of_two_same_key_answers_at_once_one_wins_and_each_child_is_freed_once(at):
    """The first leader was lost; while its twin's answer is written, its own one comes."""
    group = make_group(
        id="g",
        tasks=[
            wire(id="a", key="k"),
            wire(id="b", key="k", run_after="2090-01-01T00:00:00Z"),
            wire(id="child-of-a", parent_ids=["a"]),
            wire(id="child-of-b", parent_ids=["b"]),
            wire(id="child-of-both", parent_ids=["a", "b"]),
        ],
    )
    lost = claim_one("s1")
    die("s1")
    rescue.sweep_once()
    Task.objects.filter(pk="a").update(run_after="2090-01-01T00:00:00Z")
    make_due(Task(pk="b"))
    leads = claim_one("s2")
    follower = Task.objects.get(pk="a").merged_into
    late = []
    with meanwhile(lambda: late.append(complete(lost, "of a"))) as begin:
        at("mid_settle", begin)
        complete(leads, "of b")

    assert (lost.task_id, leads.task_id, follower) == ("a", "b", "b")
    assert (late[0].live, late[0].late) == (0, 1)
    assert list(Task.objects.filter(key="k").values_list("output", flat=True)) == ["of b", "of b"]
    assert set(Task.objects.filter(key="").values_list("pending_parents", flat=True)) == {0}
    assert Attempt.objects.get(task="a").late_outcome == "completed"
    assert Task.objects.filter(group=group).count() == 5
    call_command("crewcheck")


def test_f29_a_duplicate_made_while_its_twin_is_settled_runs_by_itself(at):
    """It is not there yet when the twins are completed, so it may not be taken for one of them."""
    make_group(id="g", tasks=[wire(id="a", key="k")])
    lease = claim_one()
    made = wire(id="b", key="k")
    with meanwhile(lambda: create.create_tasks("g", [made])) as begin:
        at("before_commit", begin)
        complete(lease, "of a")

    b = row(Task(pk="b"))
    assert (b["is_complete"], b["merged_into"]) == (False, None)
    assert claim_ids() == ["b"]
    call_command("crewcheck")


@pytest.mark.postgres
def test_f11_parents_settled_at_once_in_any_order_never_deadlock():
    """100 parents of the same 100 children, by eight settlers in batches of their own order."""
    parents, children = [f"p{n:03}" for n in range(96)], [f"c{n:03}" for n in range(100)]
    make_group(
        tasks=[
            *(wire(id=id_) for id_ in parents),
            *(wire(id=id_, parent_ids=parents, worker="worker-b") for id_ in children),
        ]
    )
    leases = claim_all(slots=96)
    random.Random(1).shuffle(leases)
    before = deadlocks()

    def settle_some(number):
        for start in range(number * 12, number * 12 + 12, 4):
            settle([Settlement(lease, Completed()) for lease in leases[start : start + 4]])

    in_threads(settle_some, range(8))

    assert Task.objects.filter(pending_parents=0).count() == 196
    assert deadlocks() == before
    call_command("crewcheck")


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]


# --- The heartbeat ---


def test_f5_a_scheduler_that_cannot_beat_cuts_its_calls_and_claims_no_more(
    barrier, settings, monkeypatch
):
    settings.CREW_LEASE_SECONDS = 1.0
    beat = Heart._beat
    first = make_task(id="first", error_delay_in_seconds=3_600)
    with running() as scheduler:
        barrier.call(1)
        monkeypatch.setattr(Heart, "_beat", lambda _: lose_the_connection())
        wait_until(lambda: row(first)["leased_by"] is None)
        was_beating, cut = scheduler._heart.is_beating, row(first)
        second = make_task(id="second")
        turns = count_turns(scheduler, monkeypatch)
        wait_until(lambda: len(turns) >= 3)
        before = row(second)
        monkeypatch.setattr(Heart, "_beat", beat)
        for number in (2, 3):
            barrier.call(number).release({"output": 1})
        wait_until(lambda: not Task.objects.incomplete().exists())

    assert not was_beating
    assert (before["attempt"], before["leased_by"]) == (0, None)
    assert (cut["errors"], cut["remaining_attempts"], cut["rescues"]) == ([], 5, 0)
    ended = Attempt.objects.filter(task=first).order_by("number").values_list("number", "outcome")
    assert list(ended) == [(1, "interrupted"), (2, "completed")]
    call_command("crewcheck")


def count_turns(scheduler, monkeypatch):
    """Turns that went to their end."""
    turns, tick = [], scheduler.tick

    def counted():
        wait = tick()
        turns.append(wait)
        scheduler._wake.set()
        return wait

    monkeypatch.setattr(scheduler, "tick", counted)
    return turns

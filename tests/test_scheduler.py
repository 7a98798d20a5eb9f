"""The whole loop in this process, against a real worker on loopback."""

import json
import re
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import DataError, OperationalError, connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.delivery.calls import Delivery
from tasks.engine import claim, lane_walk, settle
from tasks.engine import scheduler as scheduling
from tasks.engine.lease import Lease
from tasks.engine.scheduler import Scheduler
from tasks.models import Attempt, Change, Limit, SchedulerProcess, Task, Worker
from tasks.rules.decide import Answer, Completed
from tasks.sql import prepared

from .factories import in_an_hour, make_due, make_group, make_task, wire
from .stub_worker import StubWorker, Watched, answer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(settings):
    with StubWorker() as stub:
        settings.CREW_WORKER_BASE_URL = stub.url
        yield stub


def run_once(**options):
    Scheduler(once=True, **options).run()


def run_until(scheduler, condition, seconds=20.0):
    """Run it here, and stop it as soon as the condition, which reads no database, holds."""
    met = []

    def watch():
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not met:
            if condition():
                met.append(True)
            time.sleep(0.005)
        scheduler.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    scheduler.run()
    watcher.join()
    assert met, f"not within {seconds} s"


def called(stub):
    return [json.loads(request.body)["taskId"] for request in stub.requests]


def replying(reply):
    """A behaviour that answers what `reply(payload)` gives."""

    def behave(exchange):
        payload = json.loads(exchange.request.body)
        answer(200, json.dumps(reply(payload)).encode())(exchange)

    return behave


DIAMOND = [
    wire(id="d", parent_ids=["b", "c"]),
    wire(id="b", parent_ids=["a"], worker="team/b"),
    wire(id="c", parent_ids=["a"]),
    wire(id="a", input={"n": 12345678901234567890}),
]


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_a_diamond_runs_to_its_end(worker, settings, deliverer):
    settings.CREW_DELIVERER = deliverer
    worker.behaviour = replying(lambda payload: {"output": {"from": payload["taskId"]}})
    make_group(tasks=DIAMOND)

    run_once()

    order = called(worker)
    first, last = json.loads(worker.requests[0].body), json.loads(worker.requests[-1].body)
    assert (order[0], sorted(order[1:3]), order[3:]) == ("a", ["b", "c"], ["d"])
    assert first == {
        "input": {"n": 12345678901234567890},
        "worker": "worker-a",
        "parents": [],
        "taskId": "a",
    }
    assert last["parents"] == [
        {"taskId": "b", "worker": "team/b", "input": None, "output": {"from": "b"}},
        {"taskId": "c", "worker": "worker-a", "input": None, "output": {"from": "c"}},
    ]
    assert Counter(request.path for request in worker.requests) == {"/worker-a": 3, "/team/b": 1}
    assert Task.objects.filter(is_complete=True, remaining_attempts=4).count() == 4
    assert Attempt.objects.filter(outcome="completed", status=200).count() == 4
    assert SchedulerProcess.objects.count() == 0


def test_a_tree_of_continuations_runs_to_its_end(worker):
    def tree(payload):
        depth = (payload["input"] or {}).get("depth", 0)
        if not depth:
            return {"output": 1}
        child = {"worker": "tree", "input": {"depth": depth - 1}}
        return {"output": depth, "children": [child, child]}

    worker.behaviour = replying(tree)
    group = make_group(tasks=[wire(worker="tree", input={"depth": 4})])

    run_once()

    group.refresh_from_db()
    assert group.task_count == 31
    assert Task.objects.incomplete().count() == 0
    assert len(called(worker)) == len(set(called(worker))) == 31


def test_a_failing_task_uses_up_its_attempts(worker):
    worker.behaviour = answer(500, b'{"error": "no"}')
    task = make_task(remaining_attempts=3, error_delay_in_seconds=0)

    run_once()

    task.refresh_from_db()
    assert (task.remaining_attempts, task.is_complete) == (0, False)
    assert task.errors == ["HTTP 500: no"] * 3
    assert len(worker.requests) == 3


def test_a_worker_that_is_not_there_is_a_failure(settings):
    settings.CREW_WORKER_BASE_URL = "http://127.0.0.1:9/"
    task = make_task(remaining_attempts=1)

    run_once()

    task.refresh_from_db()
    assert (task.remaining_attempts, len(task.errors)) == (0, 1)
    assert Attempt.objects.get().status is None


def test_a_workers_limit_is_never_exceeded(worker):
    lock, flying, most = threading.Lock(), 0, 0

    def behave(exchange):
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        exchange.stopping.wait(0.02)  # the time the work takes
        with lock:
            flying -= 1
        answer()(exchange)

    worker.behaviour = behave
    make_group(tasks=[wire()] * 8)
    Worker.objects.update(max_concurrency=2)

    run_once()

    assert most == 2
    assert Task.objects.filter(is_complete=True).count() == 8


def test_never_more_calls_than_slots(worker):
    lock, flying, most = threading.Lock(), 0, 0

    def behave(exchange):
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        exchange.stopping.wait(0.1)  # longer than a turn
        with lock:
            flying -= 1
        answer()(exchange)

    worker.behaviour = behave
    make_group(tasks=[wire(worker=f"worker-{n % 3}") for n in range(12)])

    run_once(slots=3)

    assert most == 3
    assert Task.objects.filter(is_complete=True).count() == 12


def test_a_key_is_called_once(worker):
    make_group(tasks=[wire(id=f"t{n}", key="k") for n in range(20)])

    run_once()

    assert len(worker.requests) == 1
    assert Task.objects.filter(is_complete=True, output=1).count() == 20


def test_too_large_parents_fail_unsent(worker, settings):
    settings.CREW_MAX_PAYLOAD_BYTES = 1_000
    group = make_group()
    parent = make_task(group, is_complete=True, output="x" * 2_000)
    child = make_task(group, parents=[parent])

    run_once()

    child.refresh_from_db()
    assert worker.requests == []
    assert "not sent" in child.errors[0]
    assert child.remaining_attempts == 4


# --- The throttler ---


class Recorder:
    """Keeps the task `back` back once, and remembers what it was asked."""

    calls: list[tuple[str, str, str]] = []  # noqa: RUF012
    held: set[str] = set()  # noqa: RUF012

    def push(self, task_id, worker):
        self.calls.append(("push", task_id, worker))
        if task_id == "back" and task_id not in self.held:
            self.held.add(task_id)
            return 0.05
        return 0.0

    def pop(self, task_id, worker):
        self.calls.append(("pop", task_id, worker))


@pytest.fixture
def recorder(settings):
    settings.CREW_THROTTLER = f"{__name__}.Recorder"
    Recorder.calls, Recorder.held = [], set()
    return Recorder


def test_the_throttler_is_asked_before_and_informed_after_each_call(worker, recorder):
    make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"], worker="worker-b")])

    run_once()

    assert recorder.calls == [
        ("push", "a", "worker-a"),
        ("pop", "a", "worker-a"),
        ("push", "b", "worker-b"),
        ("pop", "b", "worker-b"),
    ]


def test_a_task_that_is_kept_back_comes_later_and_uses_no_attempt(worker, recorder):
    make_group(tasks=[wire(id="back"), wire(id="free")])

    run_until(Scheduler(), lambda: len(worker.requests) == 2)

    back = Task.objects.get(pk="back")
    asked = [name for name, task_id, _ in recorder.calls if task_id == "back"]
    assert called(worker) == ["free", "back"]
    assert asked == ["push", "push", "pop"]
    assert (back.is_complete, back.remaining_attempts, back.errors) == (True, 4, [])
    assert Attempt.objects.filter(task="back").count() == 1


# --- Stop and trouble ---


def test_stop_lets_running_calls_finish_and_claims_no_more(worker):
    stopped = threading.Event()

    def behave(exchange):
        stopped.wait(10)
        answer()(exchange)

    worker.behaviour = behave
    make_group(tasks=[wire(id="first"), wire(id="second", parent_ids=["first"])])
    scheduler = Scheduler()
    stop = scheduler.stop

    def stop_and_go():
        stop()
        stopped.set()

    scheduler.stop = stop_and_go
    run_until(scheduler, lambda: len(worker.requests) == 1)

    complete = dict(Task.objects.values_list("id", "is_complete"))
    assert complete == {"first": True, "second": False}
    assert SchedulerProcess.objects.count() == 0


def test_the_drain_has_a_limit(worker, settings):
    settings.CREW_DRAIN_SECONDS = 0.2
    worker.behaviour = lambda exchange: exchange.stopping.wait()
    task = make_task()
    started = time.monotonic()

    run_until(Scheduler(), lambda: len(worker.requests) == 1)

    task.refresh_from_db()
    assert time.monotonic() - started < 10
    assert (task.is_complete, task.leased_by, task.remaining_attempts) == (False, None, 5)
    assert Attempt.objects.get().outcome == "interrupted"
    assert SchedulerProcess.objects.count() == 0


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_an_answer_at_the_moment_of_the_cut_is_an_answer(worker, settings, deliverer):
    """Each call is one or the other, whole: what the worker did counts, or it is done again."""
    settings.CREW_DELIVERER = deliverer
    settings.CREW_DRAIN_SECONDS = 0.0
    worker.behaviour = Watched()
    make_group(tasks=[wire() for _ in range(20)])
    scheduler = Scheduler()

    def answered_and_stopped():
        if len(worker.requests) < 20:
            return False
        worker.behaviour.released.set()
        return True

    run_until(scheduler, answered_and_stopped)

    outcomes = Counter(Attempt.objects.values_list("outcome", flat=True))
    left = Counter(Task.objects.values_list("is_complete", "remaining_attempts", "leased_by"))
    assert outcomes.total() == 20
    assert left[True, 4, None] == outcomes["completed"]
    assert left[False, 5, None] == outcomes["interrupted"]
    assert not Limit.objects.exists()


def test_what_the_drain_cuts_is_left_to_the_lease_only_while_it_cannot_be_written(
    worker, settings, monkeypatch
):
    settings.CREW_DRAIN_SECONDS = 0.0
    monkeypatch.setattr(scheduling, "CUT_SETTLES_WITHIN", 0.2)
    worker.behaviour = Watched()
    make_task()

    def away(*_):
        raise OperationalError("the database is away")

    monkeypatch.setattr(settle, "settle_within", away)
    run_until(Scheduler(), lambda: len(worker.requests) == 1)

    assert Task.objects.get().leased_by is not None
    assert SchedulerProcess.objects.count() == 1


def test_a_scheduled_task_is_not_waited_for(worker):
    make_task(id="due")
    make_task(id="later", run_after=timezone.now() + timedelta(days=9))

    run_until(Scheduler(), lambda: len(worker.requests) == 1)

    assert called(worker) == ["due"]


def test_a_settle_that_fails_is_tried_again(worker, monkeypatch):
    real, tries = settle.settle_within, []

    def flaky(settlements, note):
        tries.append(len(settlements))
        if len(tries) < 3:
            raise OperationalError("the database is away")
        return real(settlements, note)

    monkeypatch.setattr(settle, "settle_within", flaky)
    task = make_task()

    run_once()

    task.refresh_from_db()
    assert tries == [1, 1, 1]
    assert (task.is_complete, task.remaining_attempts) == (True, 4)
    assert len(worker.requests) == 1


def test_an_answer_nobody_understands_fails_its_task_only(worker, monkeypatch):
    real = scheduling.decide

    def broken(came, **given):
        if came.body == b"bad":
            raise RuntimeError("a bug")
        return real(came, **given)

    def behave(exchange):
        bad = json.loads(exchange.request.body)["taskId"] == "bad"
        answer(200, b"bad" if bad else b"{}")(exchange)

    monkeypatch.setattr(scheduling, "decide", broken)
    worker.behaviour = behave
    make_group(tasks=[wire(id="bad"), wire(id="good")])

    run_once()

    assert Task.objects.get(pk="good").is_complete
    assert "a bug" in Task.objects.get(pk="bad").errors[0]


def test_a_second_run_goes_on_where_the_first_ended(worker):
    worker.behaviour = answer(503, b"busy", {"Retry-After": "600"})
    task = make_task()
    run_once()
    task.refresh_from_db()
    held = (task.remaining_attempts, task.held_count)
    worker.behaviour = answer()
    make_due()

    run_once()

    task.refresh_from_db()
    assert held == (5, 1)
    assert (task.is_complete, task.remaining_attempts) == (True, 4)


def test_an_answer_the_database_refuses_harms_no_other_and_no_claim(worker, monkeypatch):
    real = settle.settle_within

    def refusing(settlements, note):
        if any(s.lease.task_id == "bad" and isinstance(s.outcome, Completed) for s in settlements):
            raise DataError("such a value is not stored")
        return real(settlements, note)

    monkeypatch.setattr(settle, "settle_within", refusing)
    group = make_group()
    make_task(group, id="bad", remaining_attempts=1)
    make_task(group, id="good")
    make_task(group, id="child", parent_ids=["good"])

    run_once()

    done = Task.objects.filter(is_complete=True).order_by("id")
    assert [task.pk for task in done] == ["child", "good"]
    assert "could not be stored: such a value" in Task.objects.get(pk="bad").errors[0]


def test_what_is_settled_and_what_is_claimed_then_is_one_commit(worker, monkeypatch):
    group = make_group()
    make_task(group, id="first")
    make_task(group, id="second", parent_ids=["first"])
    scheduler = Scheduler()
    scheduler._heart._beat()
    sent = []
    monkeypatch.setattr(scheduler._deliverer, "send", sent.extend)
    scheduler.tick()
    scheduler._on_answer(sent[0], Answer(200, b"{}"))

    with CaptureQueriesContext(connection) as queries:
        scheduler.tick()

    assert [delivery.task_id for delivery in sent] == ["first", "second"]
    commits = [q["sql"] for q in queries if re.match("COMMIT|RELEASE", q["sql"])]
    assert len(commits) == 1, commits


@pytest.mark.postgres
@pytest.mark.own_session
def test_a_hop_of_a_chain_asks_the_database_five_times_and_commits_once(worker, monkeypatch):
    """It keeps the group and writes the outcome, creates, looks, leases, tells what changed."""
    real, asked = prepared.run, []

    def counting(*statements):
        asked.append(statements)
        return real(*statements)

    scheduler = Scheduler()
    scheduler._heart._beat()
    sent = []
    monkeypatch.setattr(scheduler._deliverer, "send", sent.extend)
    make_task(id="first")
    scheduler.tick()
    scheduler._on_answer(sent[0], Answer(200, b'{"children": [{"worker": "worker-b"}]}'))
    monkeypatch.setattr(prepared, "run", counting)
    Change.objects.all().delete()

    with prepared.prepared():
        scheduler.tick()

    assert [parent["taskId"] for parent in json.loads(sent[1].body)["parents"]] == ["first"]
    assert len(asked) == 5
    (change,) = Change.objects.all()
    assert change.created == [sent[1].task_id]
    assert set(change.updated) == {"first", sent[1].task_id}


def test_leases_of_a_claim_that_is_committed_after_its_connection_broke_are_given_back(
    worker, monkeypatch, settings
):
    """The database may still be at a COMMIT when the scheduler is back and has looked already."""
    settings.CREW_LEASE_SECONDS = 5
    real, claims = claim.claim, []
    task = make_task()

    def slow(me, **kwargs):
        claims.append(me)
        if len(claims) == 1:
            raise OperationalError("the connection broke at COMMIT")
        if len(claims) == 2:
            leased = {"leased_by": me, "leased_at": Now(), "attempt": 1}
            Task.objects.filter(pk=task.pk).update(**leased)  # only now it is done
        return real(me, **kwargs)

    monkeypatch.setattr(claim, "claim", slow)

    run_until(Scheduler(), lambda: len(worker.requests) == 1)

    task.refresh_from_db()
    assert (task.is_complete, task.remaining_attempts) == (True, 4)
    assert [request.headers["x-crew-attempt"] for request in worker.requests] == ["2"]


def test_answers_that_are_large_together_are_not_settled_at_once(settings):
    settings.CREW_WORKER_BASE_URL = "http://127.0.0.1:9/"
    scheduler = Scheduler(slots=40)
    large = Answer(200, b'{"output":"' + b"x" * 1_000_000 + b'"}')
    for n in range(40):
        lease = Lease(f"t{n}", 1, "g", "w", "", "", scheduler.me)
        scheduler._in_flight[lease.task_id, 1] = lease
        scheduler._on_answer(Delivery(lease.task_id, 1, "w", b""), large)

    for _ in range(3):  # also not when the database was away in between
        scheduler._take_answers()

    assert 2 <= len(scheduler._unsettled) <= 8
    assert len(scheduler._unsettled) + len(scheduler._answers) == 40


@pytest.mark.parametrize("other", ["a", "z"])
def test_a_turn_that_sends_a_task_rests_until_the_next_is_due(worker, monkeypatch, other):
    monkeypatch.setattr(scheduling, "POLL", 600.0)
    group = make_group()
    make_task(group, worker="m")
    make_task(group, worker=other, run_after=timezone.now() + timedelta(seconds=60))
    scheduler = Scheduler(slots=9)
    scheduler._heart._beat()
    scheduler._deliverer.start(lambda delivery, answer: None)

    try:
        rest = scheduler.tick()

        assert len(scheduler._in_flight) == 1
        assert rest < 61
    finally:
        scheduler._deliverer.stop()


def test_a_due_task_behind_many_lanes_of_scheduled_ones_is_found(worker, monkeypatch):
    monkeypatch.setattr(lane_walk, "PAGE", 2)
    group = make_group()
    for name in ("a", "b", "c", "d"):
        make_task(group, worker=name, run_after=in_an_hour())
    due = make_task(group, worker="z")

    run_once()

    assert called(worker) == [due.pk]

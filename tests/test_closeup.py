"""The page of a worker, and of a workgroup, says what runs, what waits and why."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tasks import audit, create, limits_and_holds
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.errors import NotFoundError
from tasks.insight.fleet import backlog, detail, last_hour
from tasks.insight.fleet.backlog import Waiting
from tasks.models import Attempt, Limit, SchedulerProcess, Task, Worker, Workgroup
from tasks.rules.decide import Failed
from tasks.rules.outages import Fault

from . import crowd
from .factories import (
    answer,
    claim,
    claim_one,
    complete,
    fail,
    from_now,
    make_due,
    make_group,
    make_task,
    wire,
)

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
A = "worker-a"


def later(task: Task) -> Task:
    Task.objects.filter(pk=task.pk).update(run_after=Now() + HOUR)
    return task


# --- A worker ---


def test_a_worker_without_work_shows_its_limit_and_nothing_else(settings):
    settings.CREW_WORKER_MAX_CONCURRENCY = 9
    limits_and_holds.limit_worker("a/b", None)

    seen = detail.worker("a/b")

    assert (seen.line.name, seen.line.limit, seen.own_limit, seen.default_limit) == (
        "a/b",
        9,
        None,
        9,
    )
    assert (seen.line.in_flight, seen.line.ready, seen.line.held, seen.line.why) == (0, 0, 0, "")
    assert (seen.running, seen.next, seen.groups, seen.lanes) == ((), (), (), ())
    assert seen.latency is None and len(seen.minutes) == 60


def test_what_is_not_there_is_not_found():
    with pytest.raises(NotFoundError):
        detail.worker("nobody")
    with pytest.raises(NotFoundError):
        detail.workgroup("nothing")


def test_a_worker_shows_what_runs_longest_first_and_of_which_groups():
    one, two = make_group(name="one"), make_group(name="two")
    young, old = make_task(one, name="young"), make_task(two, name="old", workgroup="shop")
    make_task(worker="worker-b")
    claim(slots=10)
    Task.objects.filter(pk=old.pk).update(leased_at=Now() - timedelta(seconds=90))
    waits = make_task(one, name="waits")

    seen = detail.worker(A)

    assert [(task.id, task.group_id, task.workgroup) for task in seen.running] == [
        (old.pk, two.pk, "shop"),
        (young.pk, one.pk, ""),
    ]
    assert -120 < from_now(seen.running[0].since) < -80 < from_now(seen.running[1].since)
    assert [task.id for task in seen.next] == [waits.pk]
    assert {(group.name, group.running) for group in seen.groups} == {("one", 1), ("two", 1)}
    assert seen.line.in_flight == 2


def test_what_waits_for_a_worker_is_shown_by_workgroup_and_by_time():
    make_task()
    make_task(priority=3)
    later(make_task())
    make_task(workgroup="shop")
    make_task(workgroup="shop", worker="worker-b")
    make_task(is_paused=True)
    limits_and_holds.hold_workgroup("shop", seconds=60)

    seen = detail.worker(A)

    lanes = {lane.workgroup: (lane.due.count, lane.later.count) for lane in seen.lanes}
    assert lanes == {"": (2, 1), "shop": (1, 0)}
    held_until = {lane.workgroup: lane.held_until for lane in seen.lanes}
    assert held_until[""] is None and 50 < from_now(held_until["shop"]) <= 60
    assert (seen.line.ready, seen.line.held) == (2, 1)


def test_what_is_next_comes_in_the_order_of_the_claim():
    second, first = make_task(), make_task(priority=5)
    third = later(make_task())
    make_task(worker="worker-b", priority=9)
    held = make_task(workgroup="shop", priority=9)
    limits_and_holds.hold_workgroup("shop", seconds=60)

    following = [task.id for task in detail.worker(A).next]

    assert following == [first.pk, second.pk, third.pk, held.pk]


def test_a_worker_shows_its_own_hour_and_its_latency():
    for _ in range(3):
        make_task()
        complete(claim_one())
    make_task(worker="worker-b")
    fail(claim_one())
    broken = make_task()
    fail(claim_one(), "out of paper")
    for n, attempt in enumerate(Attempt.objects.filter(worker=A).order_by("id"), start=1):
        Attempt.objects.filter(pk=attempt.pk).update(
            started_at=attempt.finished_at - timedelta(seconds=n)
        )

    seen = detail.worker(A)

    assert sum(minute.completed for minute in seen.minutes) == 3
    assert sum(minute.failed for minute in seen.minutes) == 1
    assert (seen.line.hour.error, seen.line.hour.error_task) == ("out of paper", broken.pk)
    assert seen.latency.answers == 4
    assert seen.latency.median == pytest.approx(3, abs=0.01)
    assert seen.latency.p95 == pytest.approx(4, abs=0.01)


# --- Why ---


@pytest.mark.parametrize(
    ("ready", "held", "in_flight", "limit", "free", "word"),
    [
        (0, 0, 0, 0, None, ""),
        (1, 0, 0, None, None, "no_scheduler"),
        (0, 1, 0, None, None, "no_scheduler"),
        (1, 1, 0, 0, 5, "worker_closed"),
        (0, 4, 0, 3, 5, "held"),
        (1, 4, 3, 3, 5, "worker_full"),
        (1, 0, 3, None, 0, "no_slot"),
        (1, 0, 2, 3, 5, ""),
    ],
)
def test_the_first_thing_that_keeps_all_is_named(ready, held, in_flight, limit, free, word):
    said = backlog.why(ready=ready, held=held, in_flight=in_flight, limit=limit, free=free)

    assert said == word
    kept = backlog.why(
        ready=ready, held=held, in_flight=in_flight, limit=limit, free=free, kept=True
    )
    assert kept == (word or ("slots_kept" if ready else ""))


def test_why_looks_at_limit_hold_and_schedulers_as_they_are():
    make_task(workgroup="shop")
    assert detail.worker(A).line.why == "no_scheduler"

    claim(slots=0)  # brings a scheduler
    assert detail.worker(A).line.why == ""
    limits_and_holds.hold_workgroup("shop", seconds=60)
    assert detail.worker(A).line.why == "held"
    make_task()
    limits_and_holds.limit_worker(A, 0)
    assert detail.worker(A).line.why == "worker_closed"
    limits_and_holds.limit_worker(A, 1)
    claim()
    make_task()
    assert detail.worker(A).line.why == "worker_full"
    limits_and_holds.limit_worker(A, 5)
    SchedulerProcess.objects.update(slots=2)
    assert detail.worker(A).line.why == "slots_kept"
    SchedulerProcess.objects.update(slots=1)
    assert detail.worker(A).line.why == "no_slot"


# --- A workgroup ---


def test_a_held_workgroup_says_until_when_by_whom_and_what_it_keeps():
    group = make_group(name="G")
    by = make_task(group, name="The one that asked", workgroup="a/b", is_paused=True)
    for worker in (A, A, "worker-b"):
        make_task(group, workgroup="a/b", worker=worker)
    later(make_task(group, workgroup="a/b"))
    make_task(group)
    limits_and_holds.hold_workgroup("a/b", seconds=60)
    Workgroup.objects.update(held_by=by.pk)

    seen = detail.workgroup("a/b")

    assert 50 < from_now(seen.held_until) <= 60
    assert (seen.held_by, seen.held_by_name) == (by.pk, "The one that asked")
    assert (seen.due, seen.later) == (Waiting(3), Waiting(1))
    lanes = {lane.worker: (lane.due.count, lane.later.count) for lane in seen.lanes}
    assert lanes == {A: (2, 1), "worker-b": (1, 0)}
    assert len(seen.next) == 4 and {group.name for group in seen.groups} == {"G"}
    assert seen.are_all_lanes


def test_an_open_workgroup_says_what_runs_in_it():
    limits_and_holds.hold_workgroup("shop", seconds=0)
    runs = make_task(workgroup="shop")
    make_task()
    claim(slots=10)

    seen = detail.workgroup("shop")

    assert (seen.held_until, seen.held_by) == (None, "")
    assert [task.id for task in seen.running] == [runs.pk]
    assert (seen.in_flight, seen.due) == (1, Waiting(0))


def test_the_last_answers_that_asked_to_wait_are_named():
    other = make_task(workgroup="other")
    answer(claim_one(), 429, retry_after="30")
    asked = make_task(workgroup="shop")
    answer(claim_one(), 429, retry_after="30")
    make_task(workgroup="shop", worker="worker-b")

    (said,) = detail.workgroup("shop").recent

    assert (said.task_id, said.worker, said.error) == (asked.pk, A, "HTTP 429: null")
    assert -60 < from_now(said.at) <= 0 and other.pk != said.task_id


def test_what_a_failing_worker_left_is_no_answer():
    make_task(workgroup="shop", remaining_attempts=9)
    Workgroup.objects.create(pk="shop")
    Limit.objects.create(kind="worker", name=A, ramp=9.0)
    for status in (None, 502, 503):
        make_due()
        settle([Settlement(claim_one(), Failed("gone"), status, fault=Fault.REFUSED)])

    assert [*Attempt.objects.values_list("outcome", flat=True)] == ["held"] * 3
    assert detail.workgroup("shop").recent == ()
    assert detail.worker(A).latency.answers == 2


def test_what_people_did_is_shown_newest_first():
    with audit.by("user:ann"):
        limits_and_holds.hold_workgroup("shop", seconds=60)
        limits_and_holds.limit_worker("shop", 3)
        limits_and_holds.hold_workgroup("shop", seconds=0)
    limits_and_holds.hold_workgroup("other", seconds=60)

    acts = detail.workgroup("shop").acts
    (limited,) = detail.worker("shop").acts

    assert [(act.who, act.verb) for act in acts] == [("user:ann", "open"), ("user:ann", "hold")]
    assert acts[1].detail["seconds"] == 60
    assert (limited.verb, limited.detail) == ("limit", {"maxConcurrency": 3})


# --- What it costs ---


def test_a_lane_is_counted_so_far_and_no_further(monkeypatch):
    monkeypatch.setattr(backlog, "COUNTED", 2)
    for _ in range(3):
        make_task()

    (lane,) = detail.worker(A).lanes

    assert lane.due == Waiting(2, is_more=True)


@pytest.fixture
def busy_store(fresh_tables, monkeypatch):
    """100,000 tasks done, and 3,000 that wait in a lane of a worker and of a workgroup."""
    monkeypatch.setattr(last_hour, "SAMPLE", 1_000)
    crowd.fill(done=100_000)
    group = make_group()
    create.create_tasks(group.pk, [wire(worker="crowd1", workgroup="shop")] * 3_000)
    for n in range(5):
        make_task(worker=f"other{n}")
    claim(slots=20)
    limits_and_holds.hold_workgroup("shop", seconds=60)


def test_no_table_is_read_whole(busy_store):
    by_worker = crowd.rows_read(lambda: detail.worker("crowd1"))
    by_workgroup = crowd.rows_read(lambda: detail.workgroup("shop"))

    seen = detail.worker("crowd1")
    assert seen.lanes[0].due == Waiting(1_000, is_more=True)
    assert sum(minute.completed for minute in seen.minutes) == pytest.approx(3_333, rel=0.4)
    assert by_worker < 12_000
    assert by_workgroup < 12_000


def test_to_look_changes_nothing():
    make_task(workgroup="shop")
    limits_and_holds.hold_workgroup("shop", seconds=60)
    before = [list(model.objects.values()) for model in (Task, Worker, Workgroup)]

    detail.worker(A)
    detail.workgroup("shop")

    assert [list(model.objects.values()) for model in (Task, Worker, Workgroup)] == before

"""The overview shows what there is to do first, and reads no more than it shows."""

import random
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from tasks import limits_and_holds
from tasks.insight import overview as room
from tasks.insight.failures import failures
from tasks.insight.fleet import backlog, last_hour
from tasks.insight.fleet import now as fleet_now
from tasks.insight.overview import overview
from tasks.insight.timeline import timeline
from tasks.models import Attempt, SchedulerProcess, Task, TaskGroup, Worker, Workgroup
from tasks.store.states import progress

from . import crowd
from .factories import (
    claim_all,
    claim_one,
    complete,
    fail,
    from_now,
    hold,
    make_group,
    make_scheduler,
    make_task,
)

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def ids() -> list[str]:
    return [group.id for group in overview().groups]


def aged(group: TaskGroup, minutes: int) -> TaskGroup:
    TaskGroup.objects.filter(pk=group.pk).update(created_at=Now() - minutes * MINUTE)
    return group


def worker_line(name: str = "worker-a") -> fleet_now.WorkerLine:
    (line,) = (line for line in overview().fleet.workers if line.name == name)
    return line


# --- Groups ---


def test_of_an_empty_database_there_is_nothing_to_say():
    seen = overview()

    assert (seen.groups, seen.is_exact) == ((), True)
    assert (seen.fleet.schedulers, seen.fleet.holds, seen.fleet.workers) == ((), (), ())
    assert seen.fleet.lag_seconds is None
    assert len(seen.fleet.minutes) == 60
    assert {(m.completed, m.failed, m.held) for m in seen.fleet.minutes} == {(0, 0, 0)}


def test_groups_with_something_left_come_first_then_the_newest_finished():
    finished, old, new = (aged(make_group(), age) for age in (1, 30, 20))
    older = aged(make_group(), 10)
    make_task(old)
    make_task(new, remaining_attempts=0)
    make_task(finished, is_complete=True)

    assert ids() == [new.pk, old.pk, finished.pk, older.pk]


@pytest.mark.parametrize("seed", range(3))
def test_the_counts_are_those_of_each_groups_progress(seed):
    chance = random.Random(seed)
    groups = [make_group() for _ in range(3)]
    made = []
    for _ in range(40):
        group = chance.choice(groups)
        parents = [task for task in made if task.group_id == group.pk and chance.random() < 0.1]
        made.append(
            make_task(
                group,
                parents=parents,
                key=chance.choice(["", "", "k"]),
                worker=chance.choice(["worker-a", ""]),
                remaining_attempts=chance.choice([0, 5, 5]),
                is_paused=chance.random() < 0.2,
                is_complete=chance.random() < 0.3,
            )
        )
    later = [task.pk for task in made if chance.random() < 0.2]
    Task.objects.filter(pk__in=later).update(run_after=Now() + HOUR)
    claim_all(slots=4)

    shown = {group.id: group.progress for group in overview().groups}

    assert shown == {group.pk: progress(group.pk) for group in groups}


def test_of_a_group_with_very_much_left_the_rest_is_given_as_one_number(monkeypatch):
    monkeypatch.setattr(room, "LEFT_COUNTED", 3)
    big, small = make_group(), make_group()
    for _ in range(5):
        make_task(big)
    make_task(big, is_complete=True)
    make_task(small)

    shown = {group.id: group for group in overview().groups}

    assert shown[big.pk].uncounted == 2
    assert (shown[big.pk].progress.ready, shown[big.pk].progress.complete) == (3, 1)
    assert shown[big.pk].progress.total == 4
    assert (shown[small.pk].uncounted, shown[small.pk].progress.total) == (0, 1)


def test_an_old_group_with_something_left_is_found_behind_many_finished(monkeypatch):
    monkeypatch.setattr(room, "LOOKED_AT", 5)
    old = aged(make_group(), 60)
    make_task(old)
    newer = [make_group() for _ in range(6)]

    seen = overview()

    assert seen.groups[0].id == old.pk and seen.is_exact
    assert len(seen.groups) == 6  # the newest that were looked at
    assert {group.id for group in seen.groups[1:]} == {group.pk for group in newer[1:]}


def test_it_says_when_groups_may_be_missing(monkeypatch):
    monkeypatch.setattr(room, "LOOKED_AT", 3)
    for _ in range(4):
        make_task(aged(make_group(), 60))
    for _ in range(3):
        make_group()

    assert not overview().is_exact


def test_no_more_groups_than_asked_for_and_one_query_for_the_counts_of_all(monkeypatch):
    make_task()
    with CaptureQueriesContext(connection) as few:
        overview()
    for _ in range(room.GROUPS):
        make_task()

    with CaptureQueriesContext(connection) as many:
        shown = ids()

    assert len(shown) == room.GROUPS
    assert len(many) == len(few)


def test_who_may_see_some_groups_sees_these_and_nothing_of_the_fleet():
    mine, other = make_group(), make_group()
    make_task(mine)
    make_task(other)

    seen = overview(frozenset({mine.pk, "gone"}))

    assert [group.id for group in seen.groups] == [mine.pk]
    assert seen.fleet is None
    assert overview([]).groups == ()


# --- The fleet ---


def test_schedulers_that_live_show_their_slots_and_what_is_busy():
    make_scheduler("s1", slots=7)
    make_scheduler("dead")
    SchedulerProcess.objects.filter(pk="dead").update(beat_at=Now() - HOUR)
    SchedulerProcess.objects.filter(pk="s1").update(beat_at=Now() - timedelta(seconds=3))
    make_task()
    make_task()
    claim_all("s1")

    (line,) = overview().fleet.schedulers

    assert (line.id, line.host, line.pid, line.slots, line.busy) == ("s1", "test", 1, 7, 2)
    assert 2 < line.beat_seconds < 30


def test_holds_say_until_when_by_whom_and_how_many_tasks_wait():
    limits_and_holds.hold_workgroup("shop", seconds=600)
    limits_and_holds.hold_workgroup("open", seconds=0)
    for worker in ("worker-a", "worker-a", "worker-b"):
        make_task(workgroup="shop", worker=worker)
    later = make_task(workgroup="shop")
    Task.objects.filter(pk=later.pk).update(run_after=Now() + HOUR)
    make_task(workgroup="shop", is_paused=True)
    make_task()
    Workgroup.objects.filter(pk="shop").update(held_by="t9")

    (line,) = overview().fleet.holds

    assert (line.workgroup, line.held_by, line.waiting, line.is_more) == ("shop", "t9", 3, False)
    assert 500 < from_now(line.until) <= 600


def test_what_a_hold_keeps_is_counted_so_far_and_no_further(monkeypatch):
    monkeypatch.setattr(backlog, "COUNTED", 2)
    limits_and_holds.hold_workgroup("shop", seconds=600)
    for _ in range(3):
        make_task(workgroup="shop")

    (line,) = overview().fleet.holds

    assert (line.waiting, line.is_more) == (2, True)


def test_workers_show_what_runs_their_limit_and_their_last_hour(settings):
    settings.CREW_WORKER_MAX_CONCURRENCY = 9
    limits_and_holds.limit_worker("idle", 3)
    make_task()
    complete(claim_one())
    task = make_task(remaining_attempts=1)
    fail(claim_one(), "first")
    last = make_task(remaining_attempts=1)
    fail(claim_one(), "out of paper " + "x" * 1_000)
    make_task()
    claim_one()

    line, idle = worker_line(), worker_line("idle")

    assert (line.in_flight, line.limit) == (1, 9)
    assert (line.hour.attempts, line.hour.failures) == (3, 2)
    assert line.hour.error.startswith("out of paper") and len(line.hour.error) == 300
    assert line.hour.error_task == last.pk != task.pk
    assert -60 < from_now(line.hour.error_at) <= 0
    assert (idle.in_flight, idle.limit, idle.hour) == (0, 3, last_hour.IDLE)


def test_of_too_many_workers_those_that_do_something_are_shown(monkeypatch):
    monkeypatch.setattr(fleet_now, "WORKERS", 2)
    for name in ("a", "b", "z"):
        limits_and_holds.limit_worker(name, None)
    make_task(worker="z")
    claim_one()

    seen = overview().fleet

    assert [line.name for line in seen.workers] == ["a", "z"]
    assert not seen.are_all_workers
    Worker.objects.filter(pk="b").delete()
    assert overview().fleet.are_all_workers


# --- The last hour ---


def test_attempts_are_counted_in_the_minute_in_which_they_ended():
    for outcome in (complete, fail, hold):
        make_task()
        outcome(claim_one())
    ended = list(Attempt.objects.order_by("id"))
    ages = (125, 5, 0)  # minutes; ids follow the time
    for attempt, age in zip(ended, ages, strict=True):
        Attempt.objects.filter(pk=attempt.pk).update(finished_at=Now() - age * MINUTE)

    seen = overview()

    minutes = seen.fleet.minutes
    counts = {n: (m.completed, m.failed, m.held) for n, m in enumerate(minutes)}
    assert {n: c for n, c in counts.items() if any(c)} == {54: (0, 1, 0), 59: (0, 0, 1)}
    assert minutes[59].at <= seen.at < minutes[59].at + MINUTE
    assert minutes[0].at == minutes[59].at - 59 * MINUTE
    assert seen.fleet.step == 1


def test_a_lost_lease_counts_as_failed():
    make_task()
    complete(claim_one())
    Attempt.objects.update(outcome="abandoned")

    assert sum(minute.failed for minute in overview().fleet.minutes) == 1


def test_of_very_many_attempts_a_part_stands_for_all_even_if_workers_take_turns(monkeypatch):
    monkeypatch.setattr(last_hour, "SAMPLE", 2_000)
    now = overview().at
    Attempt.objects.bulk_create(
        Attempt(
            task_id=f"t{n}",
            number=1,
            worker=f"w{n % 4}",
            outcome="failed" if n % 2 else "completed",
            started_at=now,
            finished_at=now - timedelta(seconds=(16_000 - n) * 0.1),
        )
        for n in range(16_000)
    )

    seen = overview().fleet

    assert seen.step == 8
    assert [line.name for line in seen.workers] == ["w0", "w1", "w2", "w3"]
    for line in seen.workers:
        assert line.hour.attempts == pytest.approx(4_000, rel=0.2)
    failed = sum(minute.failed for minute in seen.minutes)
    done = sum(minute.completed for minute in seen.minutes)
    assert failed == pytest.approx(8_000, rel=0.1) and done == pytest.approx(8_000, rel=0.1)


# --- Lag ---


def test_the_lag_is_how_long_the_oldest_due_task_has_waited():
    make_task()
    old, held, later = make_task(), make_task(workgroup="shop"), make_task(worker="worker-b")
    limits_and_holds.hold_workgroup("shop", seconds=600)
    Task.objects.filter(pk=old.pk).update(run_after=Now() - 5 * MINUTE)
    Task.objects.filter(pk=held.pk).update(run_after=Now() - HOUR)
    Task.objects.filter(pk=later.pk).update(run_after=Now() + HOUR)

    assert overview().fleet.lag_seconds == pytest.approx(300, abs=30)


def test_a_child_waits_since_its_parents_are_complete():
    group = make_group()
    parent = make_task(group)
    child = make_task(group, parents=[parent])
    Task.objects.filter(pk=child.pk).update(run_after=Now() - HOUR)
    complete(claim_one())

    assert overview().fleet.lag_seconds < 30


def test_without_anything_due_there_is_no_lag():
    task = make_task()
    Task.objects.filter(pk=task.pk).update(run_after=Now() + HOUR)
    make_task(is_paused=True)

    assert overview().fleet.lag_seconds is None


# --- What it costs ---


def test_no_table_is_read_whole(fresh_tables, monkeypatch):
    monkeypatch.setattr(last_hour, "SAMPLE", 1_000)
    crowd.fill(done=100_000)
    group = make_group()
    for _ in range(5):
        make_task(group, workgroup="shop")
    limits_and_holds.hold_workgroup("shop", seconds=600)
    make_task(worker="worker-b")
    claim_all(slots=1)

    read = crowd.rows_read(overview)

    seen = overview()
    assert seen.groups[0].progress.total in (1, 5)
    assert sum(minute.completed for minute in seen.fleet.minutes) == pytest.approx(33_333, rel=0.2)
    assert read < 10_000


def test_what_is_complete_in_a_group_that_is_shown_costs_nothing(fresh_tables):
    crowd.fill(done=100_000)
    Task.objects.filter(pk__in=["c1", "c5"]).update(is_complete=False, completed_at=None)

    read = crowd.rows_read(lambda: overview(["crowd1", "crowd5"]))

    assert read < 2_000


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_to_look_keeps_no_writer_waiting():
    group = make_group()

    with CaptureQueriesContext(connection) as queries:
        overview()
        failures()
        timeline(group.pk)

    assert not [query["sql"] for query in queries if query["sql"].startswith("BEGIN")]


def test_the_overview_changes_nothing():
    make_task()
    claim_all()
    before = list(Task.objects.values())

    overview()

    assert list(Task.objects.values()) == before

"""The timeline tells for each attempt how long it waited and how long it ran."""

import json
from datetime import datetime, timedelta

import pytest
from django.db.models.functions import Now

from tasks import control
from tasks.engine.settle import settle
from tasks.engine.settlement import Returned, Settlement
from tasks.errors import NotFoundError
from tasks.insight import timeline as room
from tasks.insight.timeline import timeline
from tasks.models import Attempt, Task, TaskGroup

from . import crowd
from .factories import claim_all, claim_one, complete, fail, hold, make_due, make_group, make_task

pytestmark = pytest.mark.django_db


def ago(seconds: float):
    return Now() - timedelta(seconds=seconds)


def ran(task: Task, *, due: float, start: float, end: float) -> Task:
    """The task was complete at the first try, `end` seconds ago, and so on."""
    Task.objects.filter(pk=task.pk).update(
        attempt=1,
        is_complete=True,
        created_at=ago(due),
        run_after=ago(due),
        completed_at=ago(end),
        pending_parents=0,
    )
    Attempt.objects.create(
        task=task,
        number=1,
        worker=task.worker,
        scheduler="s1",
        outcome="completed",
        status=200,
        started_at=ago(start),
        finished_at=ago(end),
    )
    return task


def shown(group: TaskGroup, **options) -> dict[str, dict]:
    return {task["id"]: task for task in timeline(group.pk, **options)["tasks"]}


def near(value: float | None, seconds: float) -> bool:
    return value == pytest.approx(seconds, abs=1.0)


def test_a_group_that_is_not_there_is_an_error():
    with pytest.raises(NotFoundError):
        timeline("none")


def test_an_empty_group_has_neither_start_nor_end():
    result = timeline(make_group().pk)

    assert (result["tasks"], result["criticalPath"], result["leftOut"]) == ([], [], 0)
    assert (result["startedAt"], result["finishedAt"]) == (None, None)


def test_each_attempt_has_its_wait_and_its_run():
    group = make_group()
    task = ran(make_task(group), due=100, start=70, end=10)

    (result,) = timeline(group.pk)["tasks"]

    (bar,) = result["attempts"]
    assert (result["id"], result["worker"], result["state"]) == (task.pk, "worker-a", "complete")
    assert (bar["number"], bar["outcome"], bar["status"]) == (1, "completed", 200)
    assert near(bar["queuedSeconds"], 30) and near(bar["ranSeconds"], 60)
    assert result["attemptsLeftOut"] == 0


def test_a_child_waits_since_its_last_parent_completed():
    group = make_group()
    first = ran(make_task(group), due=100, start=100, end=80)
    second = ran(make_task(group), due=100, start=100, end=60)
    child = ran(make_task(group, parents=[first, second]), due=100, start=50, end=20)

    (bar,) = shown(group)[child.pk]["attempts"]

    assert near(bar["queuedSeconds"], 10)


def test_tasks_come_in_the_order_of_their_start_and_the_waiting_last():
    group = make_group()
    waiting = make_task(group)
    late = ran(make_task(group), due=100, start=40, end=30)
    early = ran(make_task(group), due=100, start=90, end=20)

    result = timeline(group.pk)

    assert [task["id"] for task in result["tasks"]] == [early.pk, late.pk, waiting.pk]
    assert result["tasks"][2]["attempts"] == [] and result["tasks"][2]["dueAt"]


def test_a_running_attempt_is_open_ended():
    group = make_group()
    task = make_task(group)
    claim_one()
    Task.objects.filter(pk=task.pk).update(created_at=ago(50), run_after=ago(50), leased_at=ago(20))

    result = timeline(group.pk)

    (bar,) = result["tasks"][0]["attempts"]
    assert (bar["outcome"], bar["finishedAt"]) == ("executing", None)
    assert near(bar["queuedSeconds"], 30) and near(bar["ranSeconds"], 20)
    assert result["finishedAt"] is None and result["startedAt"] == bar["startedAt"]


def test_retries_are_bars_of_their_own_and_wait_after_the_delay():
    group = make_group()
    task = make_task(group, error_delay_in_seconds=10)
    for outcome in (fail, hold, complete):
        outcome(claim_one())
        make_due()
    times = ((200, 190), (170, 160), (100, 90))
    for number, (start, end) in enumerate(times, 1):
        Attempt.objects.filter(number=number).update(started_at=ago(start), finished_at=ago(end))
    Task.objects.filter(pk=task.pk).update(created_at=ago(230), run_after=ago(130))

    bars = shown(group)[task.pk]["attempts"]

    assert [bar["outcome"] for bar in bars] == ["failed", "held", "completed"]
    assert near(bars[0]["queuedSeconds"], 30)
    assert near(bars[1]["queuedSeconds"], 10)  # ten more were the delay
    assert near(bars[2]["queuedSeconds"], 30)  # the row knows when the last was due


def test_where_nothing_tells_since_when_an_attempt_was_due_it_says_nothing():
    group = make_group()
    task = make_task(group)
    for outcome in (hold, hold, complete):
        outcome(claim_one())
        make_due()

    bars = shown(group)[task.pk]["attempts"]

    assert [bar["dueAt"] is None for bar in bars] == [False, True, False]
    assert bars[1]["queuedSeconds"] is None


def test_a_task_that_was_reset_did_not_wait_for_what_came_later():
    group = make_group()
    task = make_task(group)
    complete(claim_one())
    control.reset_tasks(group.pk, [task.pk])
    Task.objects.filter(pk=task.pk).update(created_at=Now() + timedelta(hours=1))

    (bar,) = shown(group)[task.pk]["attempts"]

    assert bar["queuedSeconds"] == 0


def test_an_attempt_that_was_never_sent_is_not_shown():
    group = make_group()
    task = make_task(group)
    settle([Settlement(claim_one(), Returned())])
    make_due()
    fail(claim_one())
    Task.objects.filter(pk=task.pk).update(created_at=ago(60))

    result = shown(group)[task.pk]

    (bar,) = result["attempts"]
    assert bar["number"] == 2 and near(bar["queuedSeconds"], 60)
    assert result["attemptsLeftOut"] == 0


def test_of_many_attempts_the_last_are_shown_and_the_rest_counted(monkeypatch):
    monkeypatch.setattr(room, "ATTEMPTS", 2)
    group = make_group()
    task = make_task(group)
    for _ in range(4):
        fail(claim_one())
        make_due()

    result = shown(group)[task.pk]

    assert [bar["number"] for bar in result["attempts"]] == [3, 4]
    assert result["attemptsLeftOut"] == 2


def test_a_task_that_followed_another_names_it():
    group = make_group()
    first, second = make_task(group, key="k"), make_task(group, key="k")
    lease = claim_one()
    complete(lease)
    leader, follower = (first, second) if lease.task_id == first.pk else (second, first)

    result = shown(group)

    assert result[follower.pk]["follows"] == leader.pk
    assert result[follower.pk]["attempts"] == [] and result[follower.pk]["completedAt"]


def test_a_finished_group_has_a_start_and_an_end():
    group = make_group()
    ran(make_task(group), due=100, start=90, end=50)
    ran(make_task(group), due=100, start=80, end=20)

    result = timeline(group.pk)

    start, end = (datetime.fromisoformat(result[name]) for name in ("startedAt", "finishedAt"))
    assert near((end - start).total_seconds(), 70)


def test_the_critical_path_leads_back_from_the_last_through_the_last_parents():
    group = make_group()
    top = ran(make_task(group), due=100, start=100, end=90)
    short = ran(make_task(group), due=100, start=100, end=95)
    slow = ran(make_task(group, parents=[top]), due=100, start=85, end=40)
    fast = ran(make_task(group, parents=[short]), due=100, start=85, end=80)
    last = ran(make_task(group, parents=[fast, slow]), due=100, start=30, end=10)
    ran(make_task(group), due=100, start=100, end=11)
    make_task(group, parents=[last])

    result = timeline(group.pk)

    assert result["criticalPath"] == [top.pk, slow.pk, last.pk]
    assert result["isCriticalPathExact"]


def test_of_a_big_group_a_part_is_shown_with_the_critical_path():
    group = make_group()
    for _ in range(6):
        make_task(group)
    parent = ran(make_task(group), due=100, start=100, end=90)
    last = ran(make_task(group, parents=[parent]), due=100, start=80, end=70)
    Task.objects.filter(pk__in=[parent.pk, last.pk]).update(created_at=Now())

    result = timeline(group.pk, most=4)

    assert (result["taskCount"], len(result["tasks"]), result["leftOut"]) == (8, 4, 4)
    assert result["criticalPath"] == [parent.pk, last.pk]
    assert {parent.pk, last.pk} <= {task["id"] for task in result["tasks"]}


def test_it_says_when_the_critical_path_may_be_another(monkeypatch):
    group = make_group()
    parent = ran(make_task(group), due=100, start=100, end=90)
    ran(make_task(group, parents=[parent]), due=100, start=80, end=70)

    assert not timeline(group.pk, most=1)["isCriticalPathExact"]
    monkeypatch.setattr(room, "NEAR_END", 1)
    assert not timeline(group.pk)["isCriticalPathExact"]


def test_beyond_a_number_of_edges_nothing_is_said_of_parents(monkeypatch):
    monkeypatch.setattr(room, "EDGES", 1)
    group = make_group()
    parents = [ran(make_task(group), due=100, start=99, end=90) for _ in range(2)]
    child = ran(make_task(group, parents=parents), due=100, start=80, end=70)

    (bar,) = shown(group)[child.pk]["attempts"]

    assert bar["dueAt"] is None and bar["queuedSeconds"] is None


def test_the_timeline_is_json():
    group = make_group()
    make_task(group)
    make_task(group)
    fail(claim_all()[0])

    assert json.loads(json.dumps(timeline(group.pk)))["groupId"] == group.pk


def test_the_cost_grows_with_what_is_shown(fresh_tables, monkeypatch):
    crowd.fill(done=100_000)
    Task.objects.filter(pk__lt="c9").update(group="crowd1")
    TaskGroup.objects.filter(pk="crowd1").update(task_count=90_000)
    monkeypatch.setattr(room, "NEAR_END", 1_000)

    result = timeline("crowd1", most=200)

    assert (len(result["tasks"]), result["leftOut"]) == (200, 89_800)
    assert len(result["criticalPath"]) == 200 and not result["isCriticalPathExact"]
    assert crowd.rows_read(lambda: timeline("crowd1", most=200)) < 8_000
    assert crowd.rows_read(lambda: timeline("crowd2", most=200)) < 8_000


def test_what_ran_before_a_reset_is_not_said_to_have_waited_for_its_parent():
    group = make_group()
    parent = make_task(group)
    child = make_task(group, parents=[parent])
    complete(claim_one())
    complete(claim_one())
    Task.objects.filter(group=group).update(created_at=ago(600))

    control.reset_group(group.pk)

    (bar,) = shown(group)[child.pk]["attempts"]
    assert (bar["dueAt"], bar["queuedSeconds"]) == (None, None)

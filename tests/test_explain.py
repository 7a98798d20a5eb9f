"""Explain names every gate, and agrees with the claim."""

import random
from collections import Counter
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from tasks import control, limits_and_holds
from tasks.insight import find
from tasks.insight.explain import explain
from tasks.models import Limit, SchedulerProcess, Task
from tasks.rules.jsonio import dump
from tasks.rules.states import State
from tasks.sql import run
from tasks.sql.overview import LEFT
from tasks.store.states import STATE, state_of

from .factories import (
    claim,
    claim_ids,
    claim_one,
    complete,
    fail,
    make_group,
    make_scheduler,
    make_task,
    wire,
)

pytestmark = pytest.mark.django_db

FAR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def alive():
    make_scheduler()


def codes(task) -> list[str]:
    return [gate.code for gate in explain(task.pk).gates]


def test_there_is_nothing_to_say_of_a_task_that_is_gone():
    assert explain("none") is None


def test_a_ready_task_waits_for_nothing_and_starts_itself():
    result = explain(make_task().pk)

    assert (result.state, result.gates, result.starts_itself) == ("ready", (), True)


def test_a_running_and_a_complete_task_have_no_gates():
    task = make_task()
    lease = claim_one()
    assert explain(task.pk).state == "executing"
    complete(lease)

    result = explain(task.pk)

    assert (result.state, result.gates, result.starts_itself) == ("complete", (), False)


def test_pauses_of_group_and_task_are_distinguished():
    group = make_group()
    task, other = make_task(group), make_task(make_group(), is_paused=True)
    control.pause_group(group.pk)

    assert codes(task) == ["group_paused"]
    assert codes(other) == ["paused"]
    assert not explain(other.pk).starts_itself


def test_parents_are_named_and_so_is_who_keeps_them_for_good():
    group = make_group(
        tasks=[
            wire(id="top", remaining_attempts=0),
            wire(id="middle", parent_ids=["top"]),
            wire(id="leaf", parent_ids=["middle"]),
            wire(id="free"),
            wire(id="child", parent_ids=["free"]),
        ]
    )
    (gate,) = explain("leaf").gates

    assert (gate.code, gate.tasks, gate.count, gate.opens_itself) == (
        "parents",
        ("middle",),
        1,
        False,
    )
    assert "top" in gate.text
    assert explain("child").starts_itself
    assert group.pk


def test_a_later_time_a_hold_and_a_full_worker_open_by_themselves_and_say_when():
    full = make_task(worker="full")
    limits_and_holds.limit_worker("full", 1)
    running = claim_one()
    task = make_task(workgroup="shop", worker="full")
    Task.objects.filter(pk=task.pk).update(run_after=Now() + FAR)
    limits_and_holds.hold_workgroup("shop", seconds=600)

    result = explain(task.pk)

    assert [gate.code for gate in result.gates] == ["scheduled", "held", "worker_full"]
    assert result.gates[0].until is not None and result.gates[1].until is not None
    assert (result.gates[2].tasks, result.gates[2].worker) == ((full.pk,), "full")
    assert running.task_id == full.pk
    assert result.starts_itself


def test_a_worker_that_may_run_nothing_does_not_open_by_itself():
    task = make_task(worker="shut")
    limits_and_holds.limit_worker("shut", 0)

    assert codes(task) == ["worker_full"]
    assert not explain(task.pk).starts_itself


def test_a_duplicate_names_the_task_that_runs_for_it():
    group = make_group()
    leader, twin = make_task(group, key="k"), make_task(group, key="k")
    lease = claim_one()
    leader, twin = (leader, twin) if lease.task_id == leader.pk else (twin, leader)

    (gate,) = explain(twin.pk).gates
    assert (gate.code, gate.tasks) == ("duplicate", (leader.pk,))

    late = make_task(group, key="k")
    assert codes(late) == ["duplicate"]


def test_a_key_is_one_in_its_group_only():
    make_task(key="k")
    claim_one()
    other = make_task(make_group(), key="k")

    assert "duplicate" not in codes(other)


def test_no_attempts_left_comes_with_the_last_error():
    task = make_task(remaining_attempts=1, error_delay_in_seconds=0)
    fail(claim_one(), "out of paper")

    (gate,) = explain(task.pk).gates

    assert gate.code == "exhausted" and "out of paper" in gate.text
    assert not explain(task.pk).starts_itself


def test_a_task_without_a_worker_or_a_scheduler_says_so():
    task = make_task(worker="")
    SchedulerProcess.objects.update(beat_at=Now() - FAR)

    assert codes(task) == ["no_worker", "no_scheduler"]


def test_a_worker_that_rests_is_named_until_when_and_why():
    task = make_task()
    row = Limit.objects.create(
        kind="worker",
        name="worker-a",
        fails=23,
        rests=2,
        held_since=Now(),
        held_until=Now() + FAR,
        held_why="no connection to http://w/",
    )

    (gate,) = explain(task.pk).gates
    assert (gate.code, gate.worker, gate.opens_itself) == ("worker_rests", "worker-a", True)
    assert gate.until is not None
    assert "23 times in a row" in gate.text and "no connection to http://w/" in gate.text
    assert claim_ids() == []

    Limit.objects.update(held_until=Now())
    assert codes(task) == []  # it may be the one that tries
    assert claim_ids() == [task.pk]
    other = make_task()
    (gate,) = explain(other.pk).gates
    assert (gate.code, gate.until) == ("worker_rests", None)
    assert "one call tries it" in gate.text
    assert row.pk == ("worker", "worker-a")


def test_a_worker_that_recovers_is_named_when_it_has_what_it_may_have():
    Limit.objects.create(kind="worker", name="worker-a", ramp=2.9, held_since=Now())
    for _ in range(2):
        assert codes(make_task()) == []
        claim_one()

    (gate,) = explain(make_task().pk).gates

    assert (gate.code, gate.count, gate.opens_itself) == ("worker_ramp", 2, True)


def test_no_free_slot_is_named_and_opens_by_itself():
    SchedulerProcess.objects.update(slots=2)
    make_scheduler("s2", slots=1)
    for scheduler in ("s1", "s1", "s2"):
        assert codes(make_task(worker="worker-b")) == []
        claim_one(scheduler)
    task = make_task()

    (gate,) = explain(task.pk).gates
    assert (gate.code, gate.count, gate.opens_itself) == ("no_slot", 3, True)
    assert "3 attempts" in gate.text


def test_slots_of_a_dead_scheduler_are_none():
    SchedulerProcess.objects.update(slots=1)
    make_task()
    claim_one()
    make_scheduler("dead")
    SchedulerProcess.objects.filter(pk="dead").update(beat_at=Now() - FAR)

    assert codes(make_task()) == ["no_slot"]


def test_a_worker_that_holds_most_slots_is_named():
    SchedulerProcess.objects.update(slots=20)
    for _ in range(18):
        make_task()
    claim_ids()
    task, other = make_task(), make_task(worker="worker-b")

    (gate,) = explain(task.pk).gates
    assert (gate.code, gate.count, gate.worker) == ("slots_kept", 18, "worker-a")
    assert gate.opens_itself and "18 of 20 slots" in gate.text
    assert codes(other) == []
    claimed = claim("s1", 2, total=20, busy={"worker-a": 18})
    assert [lease.task_id for lease in claimed.leases] == [other.pk]


@pytest.mark.parametrize("seed", range(12))
def test_explain_and_claim_agree(seed):
    """Whatever a group looks like: the claim takes exactly the tasks that nothing keeps."""
    chance = random.Random(seed)
    groups = [make_group() for _ in range(3)]
    for name in ("full", "shut", "open"):
        limits_and_holds.limit_worker(name, {"full": 1, "shut": 0, "open": None}[name])
    made = []
    for _ in range(40):
        group = chance.choice(groups)
        parents = [task for task in made if task.group_id == group.pk and chance.random() < 0.1]
        task = make_task(
            group,
            parents=parents,
            worker=chance.choice(["full", "shut", "open", "open", ""]),
            workgroup=chance.choice(["", "", "shop", "bank"]),
            remaining_attempts=chance.choice([0, 1, 5, 5]),
            is_paused=chance.random() < 0.15,
            is_complete=chance.random() < 0.2,
        )
        made.append(task)
    late = [task.pk for task in made if chance.random() < 0.2]
    Task.objects.filter(pk__in=late).update(run_after=Now() + FAR)
    limits_and_holds.hold_workgroup("shop", seconds=600)
    claim_ids(slots=chance.choice([1, 3]))  # some run, and may have filled their worker
    free = {task.pk for task in made if explain(task.pk) and waits_for_nothing(task)}

    taken = set(claim_ids(slots=1_000))

    # A limited worker takes as many of its free tasks as it has room for.
    one_of = {pk for pk in free if Task.objects.get(pk=pk).worker == "full"}
    assert taken - one_of == free - one_of
    assert len(taken & one_of) == min(1, len(one_of))


def waits_for_nothing(task) -> bool:
    result = explain(task.pk)
    return result.state not in ("complete", "executing") and not result.gates


def test_the_state_of_a_row_is_the_state_of_the_query():
    """One rule in four languages: of a query, a row, a filter, and the overview's statement."""
    group = make_group()
    done, running = make_task(group), make_task(group)
    (first, second) = claim_ids(slots=2)
    rows = [
        make_task(group, is_complete=True),
        make_task(group, remaining_attempts=0),
        make_task(group, is_paused=True, worker=""),
        make_task(group, worker=""),
        make_task(group, parents=[running], is_paused=True),
        make_task(group, parents=[done]),
        make_task(group, run_after=timezone.now() + FAR),
        make_task(group, merged_into=first),
        make_task(group),
        make_task(group, workgroup="held"),
        make_task(group, workgroup="open"),
    ]
    assert {first, second} == {done.pk, running.pk}
    limits_and_holds.hold_workgroup("held", seconds=60)
    limits_and_holds.hold_workgroup("open", seconds=0)

    result = {
        task.pk: (task.state, state_of(task, timezone.now(), {"held"}).value)
        for task in Task.objects.annotate(state=STATE)
    }

    assert all(ours == theirs for ours, theirs in result.values())
    assert {ours for ours, _ in result.values()} == {state.value for state in State}
    assert len(rows) == 11
    assert [result[row.pk][0] for row in rows[-2:]] == ["scheduled", "ready"]
    for state in State:
        found = find.ids(group.pk, find.TaskFilter(states=(state.value,)))
        assert set(found) == {pk for pk, (ours, _) in result.items() if ours == state}
    left = {(state, n) for _, state, n in run(LEFT, {"groups": dump([group.pk]), "most": 99})}
    assert left == set(Counter(ours for ours, _ in result.values() if ours != "complete").items())

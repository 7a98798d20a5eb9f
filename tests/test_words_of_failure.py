"""A task that ran out of attempts says why: in its errors, and where it is explained."""

import pytest

from tasks import control, edit
from tasks.engine.settle import settle
from tasks.engine.settlement import Abandoned, Settlement
from tasks.insight.explain import explain
from tasks.models import Attempt, Task, TaskGroup

from .factories import claim_one, end_calls, fail, hold, make_due, make_group, make_task, row

pytestmark = pytest.mark.django_db


def exhausted(id_: str) -> str:
    """What the gate of a task without attempts says."""
    (gate,) = [gate for gate in explain(id_).gates if gate.code == "exhausted"]
    return gate.text


def lose(lease):
    return settle([Settlement(lease, Abandoned())])


def test_holds_that_use_up_attempts_leave_words():
    task = make_task(id="t", remaining_attempts=2, held_count=99)
    for _ in range(3):
        hold(claim_one())
        make_due(task)

    first = (
        "held back 101 times in a row, which uses up an attempt from the 101st time on: slow down"
    )
    assert row(task)["remaining_attempts"] == 0
    assert row(task)["errors"] == [first, first.replace("101 times", "102 times")]
    assert "held back 102 times in a row" in exhausted("t")
    assert list(Attempt.objects.values_list("error", flat=True)) == ["slow down"] * 3


def test_a_hold_that_costs_nothing_leaves_none():
    task = make_task(id="t", held_count=98)

    hold(claim_one())
    make_due(task)
    hold(claim_one())

    assert (row(task)["remaining_attempts"], row(task)["errors"]) == (5, [])


def test_words_of_holds_are_kept_to_the_last_fifty():
    task = make_task(id="t", errors=[f"e{n}" for n in range(50)], held_count=100)

    hold(claim_one())

    assert len(row(task)["errors"]) == 50
    assert row(task)["errors"][0] == "e1"
    assert row(task)["errors"][-1].startswith("held back 101 times")


def test_the_third_lost_lease_says_that_it_is_the_last():
    task = make_task(id="t")
    for _ in range(3):
        lose(claim_one())
        make_due(task)

    assert row(task)["remaining_attempts"] == 0
    assert row(task)["errors"][-1].endswith("died, the third in a row: it is tried no more")
    assert not row(task)["errors"][-2].endswith("no more")


def test_a_cancelled_group_leaves_words_on_all_that_it_stopped():
    group = make_group()
    ran = make_task(group, id="ran", worker="w", error_delay_in_seconds=0)
    fail(claim_one())
    make_task(group, id="waits", parents=[ran])
    make_task(group, id="none", remaining_attempts=0)
    make_task(group, id="done", is_complete=True)
    claim_one()

    control.cancel_group(group.pk)
    control.cancel_group(group.pk)

    word = "cancelled: the group was cancelled"
    errors = dict(Task.objects.values_list("id", "errors"))
    assert errors == {"ran": ["boom", word], "waits": [word], "none": [], "done": []}
    assert word in exhausted("waits")


def test_a_retry_after_a_cancel_leaves_a_scheduled_task_its_time():
    later = make_task(id="later", run_after="2090-01-01T00:00:00Z")
    control.cancel_group(later.group_id)

    control.retry_group(later.group_id)

    assert row(later)["run_after"].year == 2090
    assert row(later)["remaining_attempts"] == 5


@pytest.mark.parametrize("way", ["made", "reset", "retry", "edited"])
def test_who_was_given_no_attempts_is_reported(way):
    task = make_task(id="t", remaining_attempts=0 if way == "made" else 5)
    group = task.group_id
    if way == "reset":
        control.reset_tasks(group, ["t"], remaining_attempts=0)
    elif way == "retry":
        control.retry_tasks(group, ["t"], remaining_attempts=0)
    elif way == "edited":
        edit.edit_task(group, "t", {"remaining_attempts": 0})

    assert exhausted("t") == "It has no attempts left. It was given none."


def test_where_the_errors_were_emptied_the_last_attempt_tells():
    task = make_task(id="t", remaining_attempts=1)
    fail(claim_one(), "boom")
    edit.edit_task(task.group_id, "t", {"errors": []})

    assert exhausted("t") == "It has no attempts left. Its last attempt was failed: boom"


def test_a_task_stopped_by_a_cancel_while_it_ran_tells_so():
    task = make_task(id="t")
    claim_one()
    control.cancel_group(TaskGroup.objects.get().pk)
    end_calls()

    assert row(task)["errors"] == ["cancelled: the group was cancelled"]
    assert Attempt.objects.get().outcome == "cancelled"

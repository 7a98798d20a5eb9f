"""An answer that comes after its lease was lost changes nothing, and is on record.

Each arrangement is what happened between the call and its answer; each is tried with a success
that makes children and delays, and with a failure that asks for a hold.
"""

import re
from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from tasks import control, edit
from tasks.engine import rescue, settle
from tasks.engine.lease import Lease
from tasks.engine.settlement import Abandoned, Settlement
from tasks.models import (
    Attempt,
    AuditEntry,
    ParentEdge,
    SchedulerProcess,
    Task,
    TaskGroup,
    Workgroup,
)
from tasks.rules.decide import Delays, Failed
from tasks.sql import Statement
from tasks.sql import settle as sql

from .factories import (
    claim,
    complete,
    completed,
    end_calls,
    fail,
    hold,
    make_due,
    make_group,
    make_task,
    wire,
)

pytestmark = pytest.mark.django_db

LATE = {"late_at", "late_outcome", "late_status", "late_error", "request", "answer"}


def running() -> Lease:
    """Task t of group g runs, first of its key; its twin follows it, and two children wait."""
    make_group(
        id="g",
        tasks=[
            wire(id="t", key="k", workgroup="w", input={"n": 1}),
            wire(id="child", parent_ids=["t"]),
            wire(id="twin", key="k", workgroup="w", run_after="2090-01-01T00:00:00Z"),
            wire(id="child-of-twin", parent_ids=["twin"]),
        ],
    )
    return take("t", "s1")


def take(id_: str, me: str) -> Lease:
    make_due(Task(pk=id_))
    end_calls()  # of some an answer is still under way
    return next(lease for lease in claim(me).leases if lease.task_id == id_)


def lose(me: str = "s1") -> None:
    SchedulerProcess.objects.filter(pk=me).update(beat_at=Now() - timedelta(days=1))
    rescue.sweep_once()


def second_attempt(then=lambda lease: None):
    def happen():
        lose()
        then(take("t", "s2"))

    return happen


def losing(then):
    def happen():
        lose()
        then()

    return happen


def third_attempt():
    lose()
    take("t", "s2")
    lose("s2")
    take("t", "s3")


def twin_runs():
    lose()
    Task.objects.filter(pk="t").update(run_after="2090-01-01T00:00:00Z")
    take("twin", "s2")


def twin_completes():
    lose()
    Task.objects.filter(pk="t").update(run_after="2090-01-01T00:00:00Z")
    complete(take("twin", "s2"), "of the twin")


def recreated():
    control.delete_tasks("g", ["t"])
    make_task(TaskGroup(pk="g"), id="t", key="k", workgroup="w")


def recreated_and_runs():
    recreated()
    take("t", "s2")


def recreated_and_lost():
    recreated_and_runs()
    lose("s2")


def group_recreated():
    control.delete_group("g")
    make_group(id="g", tasks=[wire(id="t", workgroup="w")])
    take("t", "s2")


def reset_with_seeds():
    Task.objects.filter(pk="twin").update(is_seed=True)
    control.reset_group("g")


ARRANGEMENTS = {
    "rescued": lose,
    "second attempt runs": second_attempt(),
    "second attempt completed": second_attempt(lambda lease: complete(lease, "of the second")),
    "second attempt failed": second_attempt(lambda lease: fail(lease, "of the second")),
    "second attempt held": second_attempt(hold),
    "third attempt runs": third_attempt,
    "paused": losing(lambda: control.pause_tasks("g", ["t"])),
    "group paused": losing(lambda: control.pause_group("g")),
    "group paused while the second runs": second_attempt(lambda _: control.pause_group("g")),
    "reset": losing(lambda: control.reset_tasks("g", ["t"])),
    "group reset": lambda: control.reset_group("g"),
    "group reset and it runs": lambda: (control.reset_group("g"), take("t", "s1")),
    "reset with seeds": reset_with_seeds,
    "group cancelled": lambda: control.cancel_group("g"),
    "group cancelled and retried": lambda: (
        control.cancel_group("g"),
        control.retry_group("g"),
        take("t", "s1"),
    ),
    "completed by hand": losing(lambda: edit.complete_task("g", "t", output="by hand")),
    "edited": losing(lambda: edit.edit_task("g", "t", {"worker": "worker-b", "key": "other"})),
    "rerun": losing(lambda: edit.rerun_task("g", "t", {"input": {"n": 2}})),
    "its twin runs": twin_runs,
    "its twin completed": twin_completes,
    "deleted": lambda: control.delete_tasks("g", ["t"]),
    "deleted after its rescue": losing(lambda: control.delete_tasks("g", ["t"])),
    "deleted with its group": lambda: control.delete_group("g"),
    "recreated": recreated,
    "recreated and it runs": recreated_and_runs,
    "recreated and it was lost": recreated_and_lost,
    "group recreated and it runs": group_recreated,
}
ANSWERS = {
    "success": completed(
        "late", [{"id": "ghost"}, {"worker": "x"}], children_delay=600, workgroup_delay=600
    ),
    "failure": Failed("late", None, Delays(600, 600)),
}


# Where the attempt went with its task.
GONE = {name for name in ARRANGEMENTS if name.startswith("deleted") or "recreated" in name}
GONE.add("reset with seeds")


def state() -> dict:
    """Everything a late answer must leave alone."""
    attempts = Attempt.objects.order_by("task_id", "number").values()
    return {
        "attempts": [{k: v for k, v in each.items() if k not in LATE} for each in attempts],
        **{
            model.__name__: list(model.objects.order_by("pk").values())
            for model in (Task, TaskGroup, ParentEdge, Workgroup, SchedulerProcess)
        },
    }


def on_record() -> list[tuple]:
    """The late answers that are kept beside their attempts: task, attempt, outcome, status."""
    late = Attempt.objects.exclude(late_at=None)
    return list(late.values_list("task_id", "number", "late_outcome", "late_status"))


def in_history() -> list[tuple]:
    """Those whose attempt is gone."""
    entries = AuditEntry.objects.filter(verb="late", who="worker:worker-a", group_id="g")
    result = entries.values_list("target", "detail")
    return [(id_, d["attempt"], d["outcome"], d["status"]) for id_, d in result]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_f3_a_late_answer_changes_nothing_and_is_recorded(arrangement, answer):
    lease = running()
    ARRANGEMENTS[arrangement]()
    before = state()

    settled = settle.settle([Settlement(lease, ANSWERS[answer], 200)])

    assert (settled.live, settled.late) == (0, 1)
    assert state() == before
    kept = [("t", 1, "completed" if answer == "success" else "failed", 200)]
    assert (on_record(), in_history()) == (([], kept) if arrangement in GONE else (kept, []))


@pytest.mark.parametrize("arrangement", ["rescued", "deleted", "recreated and it was lost"])
def test_a_late_answer_that_is_written_twice_is_on_record_once(arrangement):
    lease = running()
    ARRANGEMENTS[arrangement]()
    settle.settle([Settlement(lease, ANSWERS["success"], 200)])

    settle.settle([Settlement(lease, ANSWERS["success"], 200)])

    assert on_record() + in_history() == [("t", 1, "completed", 200)]


WRONG_FENCES = {
    "none": "true",
    "by attempt": "t.attempt = a.attempt",
    "by scheduler": "t.leased_by = a.leased_by",
    "by state": "t.leased_by IS NOT NULL",
}


@pytest.mark.parametrize("wrong", WRONG_FENCES)
def test_f3_a_wrong_fence_is_found_by_one_of_the_arrangements(monkeypatch, wrong):
    for name in ("OUTCOMES", "LIVE", "HISTORY", "WRITE"):
        monkeypatch.setattr(sql, name, with_fence(getattr(sql, name), WRONG_FENCES[wrong]))

    assert not all(is_refused(arrangement) for arrangement in ARRANGEMENTS.values())


def with_fence(statement: Statement, wrong: str) -> Statement:
    right = r"t\.attempt = a\.attempt AND t\.leased_by (=|IS NOT DISTINCT FROM) a\.leased_by"
    texts = (statement.postgresql, statement.sqlite)
    changed = [re.sub(right, wrong, text) for text in texts]
    assert changed != list(texts)
    return Statement(*changed)


def is_refused(arrangement) -> bool:
    with transaction.atomic():
        lease = running()
        arrangement()
        before = state()
        try:
            with transaction.atomic():
                settle.settle([Settlement(lease, ANSWERS["success"], 200)])
            refused = state() == before
        except DatabaseError:  # one of the constraints
            refused = False
        transaction.set_rollback(True)
    return refused


def test_a_late_answer_with_children_is_on_record_as_what_it_was():
    """The next attempt had the same children: their ids are in use by now."""
    make_group(id="g", tasks=[wire(id="t")])
    first = take("t", "s1")
    settle.settle([Settlement(first, Abandoned())])
    second = take("t", "s2")
    same = completed(1, [{"id": "kid", "worker": "w"}])

    settle.settle([Settlement(second, same, 200)])
    settle.settle([Settlement(first, same, 200)])

    attempt = Attempt.objects.get(task="t", number=1)
    assert (attempt.late_outcome, attempt.late_error) == ("completed", "")

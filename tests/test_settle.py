"""Outcomes on real rows: what they change, and what they leave alone."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import DatabaseError, InternalError, connection
from django.utils import timezone

from tasks import control
from tasks.engine.rescue import rescue
from tasks.engine.settle import settle, settle_each
from tasks.engine.settlement import Abandoned, Returned, Settlement
from tasks.models import Attempt, Change, ParentEdge, Task, TaskGroup, Workgroup
from tasks.rules.decide import Completed, Failed, Held, Interrupted
from tasks.rules.transcript import Transcript
from tasks.sql import children, shared_outcomes, steer
from tasks.sql import settle as sql
from tasks.store.rows import known

from .factories import (
    answer,
    claim_all,
    claim_ids,
    claim_one,
    complete,
    completed,
    end_calls,
    fail,
    from_now,
    hold,
    in_threads,
    make_due,
    make_group,
    make_task,
    row,
    wire,
)

pytestmark = pytest.mark.django_db

FREE = {"leased_by": None, "leased_at": None}


def changed(before, after):
    return {name: after[name] for name in after if after[name] != before[name]}


# --- The five outcomes, column by column ---


def test_success_completes_the_task_and_uses_an_attempt():
    task = make_task(errors=["an old one"], is_seed=True)
    lease = claim_one()
    before = row(task)

    settled = complete(lease, {"n": 12345678901234567890})

    after = changed(before, row(task))
    assert settled.live == 1
    assert after.pop("completed_at") is not None
    assert after == FREE | {
        "is_complete": True,
        "output": {"n": 12345678901234567890},
        "remaining_attempts": 4,
    }


def test_failure_adds_the_error_and_waits_the_error_delay():
    task = make_task(errors=["an old one"], error_delay_in_seconds=300)
    lease = claim_one()
    before = row(task)

    settle([Settlement(lease, Failed("boom", '{"part": 1}'), 500)])

    after = changed(before, row(task))
    assert from_now(after.pop("run_after")) == pytest.approx(300, abs=10)
    assert after == FREE | {
        "errors": ["an old one", "boom"],
        "output": {"part": 1},
        "remaining_attempts": 4,
    }


def test_failure_without_an_output_clears_the_old_one():
    task = make_task(output={"old": 1})

    fail(claim_one())

    assert row(task)["output"] is None


def test_an_error_delay_of_zero_retries_at_once():
    make_task(id="t", error_delay_in_seconds=0)

    fail(claim_one())

    assert claim_ids() == ["t"]


def test_the_last_attempt_leaves_the_task_exhausted():
    task = make_task(remaining_attempts=1, error_delay_in_seconds=0)

    fail(claim_one())

    assert row(task)["remaining_attempts"] == 0
    assert list(Task.objects.exhausted()) == [task]
    assert claim_ids() == []


def test_a_held_answer_uses_no_attempt_and_adds_no_error():
    task = make_task(output=[1])
    lease = claim_one()
    before = row(task)

    hold(lease, 600)

    after = changed(before, row(task))
    assert from_now(after.pop("run_after")) == pytest.approx(600, abs=10)
    assert after == FREE | {"held_count": 1}


def test_the_hundred_and_first_hold_in_a_row_uses_an_attempt():
    task = make_task(held_count=99)
    hold(claim_one(), 0)
    at_hundred = row(task)["remaining_attempts"]
    make_due()

    hold(claim_one(), 0)

    assert at_hundred == 5
    assert row(task)["remaining_attempts"] == 4


def test_any_other_answer_ends_the_row_of_holds():
    task = make_task(held_count=50, rescues=1)

    fail(claim_one())

    assert row(task)["held_count"] == 0
    assert row(task)["rescues"] == 0


def test_abandoned_counts_the_attempt_and_is_due_again():
    task = make_task(id="t")
    lease = claim_one()
    before = row(task)

    settle([Settlement(lease, Abandoned())])

    assert changed(before, row(task)) == FREE | {
        "errors": [Abandoned().error],
        "remaining_attempts": 4,
        "rescues": 1,
    }
    assert claim_ids("s2") == ["t"]


def test_interrupted_costs_nothing_and_is_due_at_once():
    task = make_task(id="t", held_count=3, rescues=2, error_delay_in_seconds=3_600)
    twin = make_task(task.group, id="twin", key="k")
    leader = make_task(task.group, id="leader", key="k")
    leases = claim_all()
    before = row(task)

    settle([Settlement(lease, Interrupted(), None, may_run=True) for lease in leases])

    assert changed(before, row(task)) == FREE
    assert (row(twin)["merged_into"], row(leader)["merged_into"]) == (None, None)
    assert {lease.task_id: lease.attempt for lease in claim_all("s2")}["t"] == 2


def test_an_interrupted_attempt_that_was_rescued_before_changes_nothing():
    task = make_task()
    lease = claim_one()
    settle([Settlement(lease, Abandoned())])
    before = row(task)

    settled = settle([Settlement(lease, Interrupted(), None, may_run=True)])

    assert (settled.live, settled.late) == (0, 1)
    assert row(task) == before
    assert Attempt.objects.get().late_at is None


def test_returned_leaves_everything_but_the_time():
    task = make_task(held_count=3, rescues=1)
    lease = claim_one()
    before = row(task)

    settle([Settlement(lease, Returned(60))])

    after = changed(before, row(task))
    assert from_now(after.pop("run_after")) == pytest.approx(60, abs=10)
    assert after == FREE
    assert not Attempt.objects.exists()


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Completed("1", note="repaired"), "completed"),
        (Failed("boom", note="repaired"), "failed"),
        (Held(5, "slow down", note="repaired"), "held"),
        (Abandoned(), "abandoned"),
        (Interrupted(), "interrupted"),
    ],
)
def test_an_attempt_is_written_when_it_ends(outcome, kind):
    task = make_task()
    lease = claim_one()
    while_running = Attempt.objects.count()

    kept = Transcript("POST é\n\n{}", "HTTP 200\n\n\"'<")
    settle([Settlement(lease, outcome, 200, kept)])

    attempt = Attempt.objects.get()
    assert while_running == 0
    assert (attempt.task_id, attempt.number, attempt.outcome) == (task.pk, 1, kind)
    assert (attempt.worker, attempt.scheduler, attempt.status) == ("worker-a", "s1", 200)
    assert (attempt.request, attempt.answer) == ("POST é\n\n{}", "HTTP 200\n\n\"'<")
    assert attempt.error == getattr(outcome, "error", "")
    assert attempt.note == getattr(outcome, "note", "")
    assert attempt.started_at <= attempt.finished_at
    assert attempt.late_at is None


def test_only_the_last_fifty_errors_are_kept():
    task = make_task(errors=[f"e{n}" for n in range(50)])

    fail(claim_one(), "the newest")

    errors = row(task)["errors"]
    assert len(errors) == 50
    assert errors[0] == "e1"
    assert errors[-1] == "the newest"


def test_other_tasks_are_left_alone():
    others = [make_task(is_paused=True), make_task(worker="worker-z", run_after=later())]
    before = [row(other) for other in others]
    make_task()

    complete(claim_one(), 1)

    assert [row(other) for other in others] == before


def test_a_settle_writes_the_change():
    task = make_task()
    lease = claim_one()
    Change.objects.all().delete()

    complete(lease)

    assert [(c.group_id, c.updated) for c in Change.objects.all()] == [(task.group_id, [task.pk])]


# --- Fences ---


def test_a_second_settle_of_a_lease_changes_nothing():
    task = make_task()
    lease = claim_one()
    complete(lease, 1)
    before, attempt = row(task), Attempt.objects.values().get()

    settled = complete(lease, 2, [{"id": "child"}])

    assert (settled.live, settled.late) == (0, 1)
    assert row(task) == before
    assert Attempt.objects.values().get() == attempt
    assert not Task.objects.filter(pk="child").exists()


@pytest.mark.parametrize("wrong", [{"attempt": 2}, {"attempt": 0}, {"leased_by": "s2"}])
def test_a_wrong_fence_changes_nothing(wrong):
    task = make_task(workgroup="w")
    child = make_task(TaskGroup.objects.get(), parents=[task])
    lease = replace(claim_one(), **wrong)
    before, child_before = row(task), row(child)

    settled = complete(lease, 1, [{"id": "x"}], children_delay=60, workgroup_delay=60)

    assert (settled.live, settled.late) == (0, 1)
    assert (row(task), row(child)) == (before, child_before)
    assert Task.objects.count() == 2
    assert not Attempt.objects.exists()
    assert not Workgroup.objects.exists()


def test_an_answer_after_a_group_reset_is_recorded_and_dropped():
    task = make_task()
    lease = claim_one()
    control.reset_group(task.group_id, remaining_attempts=9)
    before = row(task)

    settled = complete(lease, "late", [{"id": "x"}])

    attempt = Attempt.objects.get()
    assert settled.late == 1
    assert row(task) == before
    assert not Task.objects.filter(pk="x").exists()
    assert (attempt.outcome, attempt.late_outcome) == ("cancelled", "completed")
    assert attempt.late_status == 200
    assert attempt.late_at is not None


def test_an_answer_after_a_rescue_is_recorded_and_dropped():
    task = make_task()
    old = claim_one()
    settle([Settlement(old, Abandoned())])
    new = claim_one("s2")
    before = row(task)

    kept = Transcript("POST http://w/x", "HTTP 500")
    settled = settle([Settlement(old, Failed("too late"), 500, kept)])

    attempt = Attempt.objects.get()
    assert settled.late == 1
    assert row(task) == before
    assert (attempt.outcome, attempt.late_outcome) == ("abandoned", "failed")
    assert attempt.late_error == "too late"
    assert (attempt.request, attempt.answer) == ("POST http://w/x", "HTTP 500")
    assert complete(new).live == 1


def test_an_answer_after_a_delete_creates_nothing():
    task = make_task()
    lease = claim_one()
    control.delete_tasks(task.group_id, [task.pk])

    settled = complete(lease, 1, [{"id": "x"}])

    assert settled.late == 1
    assert not Task.objects.exists()
    assert not Attempt.objects.exists()
    assert TaskGroup.objects.get().task_count == 0


def test_an_answer_after_the_group_is_gone_creates_nothing():
    task = make_task(workgroup="w", key="k")
    lease = claim_one()
    control.delete_group(task.group_id)

    settled = complete(lease, 1, [{"id": "x"}], children_delay=9, workgroup_delay=9)

    assert settled.late == 1
    assert not Task.objects.exists()
    assert not Workgroup.objects.exists()


def test_late_and_live_answers_share_a_batch():
    group = make_group()
    make_task(group, id="a")
    (late,) = claim_all()
    control.reset_group(group.pk)
    end_calls()
    make_task(group, id="b")
    live = claim_all("s2")

    settled = settle([Settlement(lease, completed(1), 200) for lease in [late, *live]])

    assert (settled.live, settled.late) == (2, 1)
    assert Task.objects.filter(is_complete=True).count() == 2


def test_a_late_answer_does_not_take_the_child_ids_of_the_live_one():
    task = make_task()
    old = claim_one()
    control.reset_group(task.group_id)
    end_calls()
    new = claim_one()

    settled = settle([Settlement(lease, completed(1, [{"id": "x"}])) for lease in (old, new)])

    assert (settled.live, settled.late) == (1, 1)
    assert row(task)["is_complete"] is True
    assert Task.objects.filter(pk="x").exists()


# --- Children ---


def test_children_come_in_any_order_with_their_maker_as_last_parent():
    maker = make_task()

    complete(
        claim_one(),
        1,
        [
            {"id": "d", "parentIds": ["b", "c"]},
            {"id": "b", "parentIds": ["a"]},
            {"id": "c", "parentIds": ["a"]},
            {"id": "a", "name": "A", "input": {"x": 1}},
        ],
    )

    parents = {
        id_: list(
            ParentEdge.objects.filter(child=id_)
            .order_by("position")
            .values_list("parent_id", flat=True)
        )
        for id_ in "abcd"
    }
    assert parents == {
        "a": [maker.pk],
        "b": ["a", maker.pk],
        "c": ["a", maker.pk],
        "d": ["b", "c", maker.pk],
    }
    pending = dict(Task.objects.exclude(pk=maker.pk).values_list("id", "pending_parents"))
    assert pending == {"a": 0, "b": 1, "c": 1, "d": 2}
    assert set(Task.objects.filter(pk__in="abcd").values_list("created_by", "group_id")) == {
        (maker.pk, maker.group_id)
    }
    assert TaskGroup.objects.get().task_count == 5
    assert claim_ids() == ["a"]


def test_children_keep_the_order_of_the_answer():
    make_task()

    complete(claim_one(), 1, [{"id": id_} for id_ in ("z", "m", "a")])

    made = Task.objects.exclude(created_by="").order_by("created_at", "id")
    assert [task.pk for task in made] == ["z", "m", "a"]


def test_a_child_id_in_use_fails_the_attempt_and_leaves_the_other_task_alone():
    foreign = make_task(id="taken", worker="worker-z", is_paused=True)
    before = row(foreign)
    maker = make_task()
    waiting = make_task(TaskGroup.objects.get(pk=maker.group_id), parents=[maker])

    complete(claim_one(), {"kept": False}, [{"id": "fresh"}, {"id": "taken"}])

    assert row(foreign) == before
    assert not Task.objects.filter(pk="fresh").exists()
    assert row(maker)["is_complete"] is False
    assert row(maker)["remaining_attempts"] == 4
    assert "'taken' is in use" in row(maker)["errors"][0]
    assert row(waiting)["pending_parents"] == 1


def test_the_first_of_two_answers_with_the_same_child_id_wins():
    group = make_group()
    tasks = [make_task(group), make_task(group)]
    leases = claim_all()

    settle([Settlement(lease, completed(1, [{"id": "x"}])) for lease in leases])

    assert [row(task)["is_complete"] for task in tasks] == [True, False]
    assert Task.objects.filter(pk="x").get().created_by == leases[0].task_id


def test_children_in_a_paused_group_are_paused():
    task = make_task()
    lease = claim_one()
    control.pause_group(task.group_id)

    complete(lease, 1, [{"id": "x"}])

    assert row(Task(pk="x"))["is_paused"] is True
    assert claim_ids() == []


def test_a_full_group_refuses_all_children(settings):
    settings.CREW_MAX_GROUP_TASKS = 2
    task = make_task()
    lease = claim_one()

    settle_each([Settlement(lease, completed(1, [{"id": "x"}, {"id": "y"}]), 200)])

    assert Task.objects.count() == 1
    assert TaskGroup.objects.get().task_count == 1
    assert row(task)["is_complete"] is False
    assert "at most 2 tasks" in row(task)["errors"][0]


def test_of_many_makers_only_the_one_whose_child_id_is_taken_fails():
    make_task(id="taken", worker="worker-z", is_paused=True)
    groups = [make_group(), make_group()]
    makers = [make_task(groups[n % 2]) for n in range(6)]
    place = {maker.pk: n for n, maker in enumerate(makers)}
    Change.objects.all().delete()

    settled = settle(
        [
            Settlement(lease, completed(n, children_of(n, third="taken" if n == 3 else "")), 200)
            for lease in claim_all()
            for n in [place[lease.task_id]]
        ]
    )

    assert settled.live == 6
    assert [row(maker)["is_complete"] for maker in makers] == [n != 3 for n in range(6)]
    assert row(makers[3])["errors"] == ["child id 'taken' is in use already"]
    made = Task.objects.exclude(created_by="")
    assert {(task.pk, task.created_by, task.group_id) for task in made} == {
        (f"{name}{n}", makers[n].pk, groups[n % 2].pk) for n in (0, 1, 2, 4, 5) for name in "abc"
    }
    assert dict(made.values_list("id", "pending_parents"))["c0"] == 1
    assert [TaskGroup.objects.get(pk=group.pk).task_count for group in groups] == [12, 9]


def test_only_ids_of_somebody_s_choice_are_looked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "tasks.engine.children.known", lambda ids: asked.append(list(ids)) or known(ids)
    )
    make_task(id="first")
    make_task(id="second", run_after="2090-01-01T00:00:00Z")

    complete(claim_one(), children=[{"worker": "w"}, {"worker": "w", "id": ""}])
    assert asked == []
    assert Task.objects.filter(created_by="first").count() == 2

    Task.objects.exclude(pk="second").delete()
    make_due(Task(pk="second"))
    complete(claim_one(), children=[{"worker": "w"}, {"worker": "w", "id": "chosen"}])
    assert asked == [["chosen"]]


def children_of(n, third=""):
    return [
        {"id": f"a{n}"},
        {"id": f"b{n}"},
        {"id": third or f"c{n}", "parentIds": [f"a{n}"]},
    ]


def test_only_the_answers_that_a_full_group_has_no_room_for_fail(settings):
    group = make_group()
    makers = [make_task(group) for _ in range(3)]
    leases = claim_all()
    settings.CREW_MAX_GROUP_TASKS = 8

    settled = settle_each(
        [Settlement(lease, completed(1, [{}, {}]), 200) for lease in leases],
    )

    assert settled.live == 3
    assert sorted(row(maker)["is_complete"] for maker in makers) == [False, True, True]
    assert TaskGroup.objects.get().task_count == Task.objects.count() == 7


def test_makers_and_their_children_cost_as_many_queries_as_one(django_assert_max_num_queries):
    groups = [make_group() for _ in range(3)]
    for n in range(60):
        make_task(groups[n % 3])
    leases = claim_all()

    with django_assert_max_num_queries(12):
        settle([Settlement(lease, completed(1, [{}, {}]), 200) for lease in leases])

    assert Task.objects.count() == 180


def test_a_batch_writes_one_change_for_a_group():
    group = make_group()
    makers = [make_task(group), make_task(group)]
    leases = claim_all()
    Change.objects.all().delete()

    settle([Settlement(lease, completed(1, [{"id": f"of-{lease.task_id}"}])) for lease in leases])

    (change,) = Change.objects.all()
    assert change.group_id == group.pk
    assert sorted(change.updated) == sorted(maker.pk for maker in makers)
    assert sorted(change.created) == sorted(f"of-{maker.pk}" for maker in makers)


def test_completion_frees_a_child_only_of_its_last_parent():
    group = make_group()
    first, second = make_task(group), make_task(group)
    make_task(group, id="child", parents=[first, second])
    leases = {lease.task_id: lease for lease in claim_all()}

    complete(leases[first.pk])
    between = claim_ids()
    complete(leases[second.pk])

    assert between == []
    assert claim_ids() == ["child"]


def test_failure_frees_no_child():
    task = make_task()
    child = make_task(TaskGroup.objects.get(), parents=[task])

    fail(claim_one())

    assert row(child)["pending_parents"] == 1


def test_parents_of_one_child_complete_in_one_batch():
    group = make_group()
    parents = [make_task(group) for _ in range(20)]
    child = make_task(group, parents=parents)
    leases = claim_all()

    settle([Settlement(lease, completed(1)) for lease in leases[:10]])
    half = row(child)["pending_parents"]
    settle([Settlement(lease, completed(1)) for lease in leases[10:]])

    assert half == 10
    assert row(child)["pending_parents"] == 0
    assert claim_ids() == [child.pk]


# --- Delays ---


def test_a_children_delay_holds_new_and_old_children():
    group = make_group()
    task = make_task(group)
    old = make_task(group, parents=[task])
    far = make_task(group, parents=[task], run_after=later(days=9))
    other = make_task(group, is_paused=True)
    before = row(other)

    complete(claim_one(), 1, [{"id": "new"}], children_delay=600)

    assert from_now(row(old)["run_after"]) == pytest.approx(600, abs=10)
    assert from_now(row(Task(pk="new"))["run_after"]) == pytest.approx(600, abs=10)
    assert from_now(row(far)["run_after"]) > 8 * 86_400
    assert row(other) == before
    assert claim_ids() == []


def test_a_children_delay_is_that_of_the_childs_own_maker():
    group = make_group()
    make_task(group, id="slow")
    make_task(group, id="fast")
    leases = {lease.task_id: lease for lease in claim_all()}

    settle(
        [
            Settlement(leases["slow"], completed(1, [{"id": "later"}], children_delay=600), 200),
            Settlement(leases["fast"], completed(1, [{"id": "now"}]), 200),
        ]
    )

    assert from_now(row(Task(pk="later"))["run_after"]) == pytest.approx(600, abs=10)
    assert claim_ids() == ["now"]


def test_a_children_delay_comes_with_a_failure_too():
    task = make_task()
    child = make_task(TaskGroup.objects.get(), parents=[task])

    answer(claim_one(), 500, {"error": "no", "childrenDelayInSeconds": 600})

    assert from_now(row(child)["run_after"]) == pytest.approx(600, abs=10)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"output": 1, "workgroupDelayInSeconds": 600}),
        (200, {"error": "busy", "workgroupDelayInSeconds": 600}),
        (500, {"error": "busy", "workgroupDelayInSeconds": "600"}),
        (429, {"workgroupDelayInSeconds": 600.5}),
    ],
)
def test_a_workgroup_delay_holds_the_workgroup_in_every_group(status, body):
    task = make_task(workgroup="w")
    lease = claim_one()
    make_task(workgroup="w")
    make_task(id="free", workgroup="v")
    make_task(id="none")

    answer(lease, status, body)
    make_task(workgroup="w")  # also what comes later

    hold = Workgroup.objects.get()
    assert (hold.name, hold.held_by) == ("w", task.pk)
    assert from_now(hold.held_until) == pytest.approx(600, abs=10)
    assert sorted(claim_ids()) == ["free", "none"]


def test_children_of_the_held_workgroup_wait_with_it():
    make_task(workgroup="w")

    complete(claim_one(), 1, [{"id": "in", "workgroup": "w"}, {"id": "out"}], workgroup_delay=600)

    assert claim_ids() == ["out"]


def test_retry_after_holds_the_workgroup_and_uses_no_attempt():
    task = make_task(workgroup="w")

    answer(claim_one(), 429, body=b"slow down", retry_after="120")

    assert row(task)["remaining_attempts"] == 5
    assert row(task)["errors"] == []
    assert from_now(Workgroup.objects.get().held_until) == pytest.approx(120, abs=10)


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ("600.0", 600),
        ("10m0s", 600),
        ("600, 600", 600),
        ("0", 1),
        ("Tue, 24 Nov 2020 05:00:00 GMT", 1),
        ("9999999999", 86_400),
        ("soon", 700),
        ("", 700),
    ],
)
def test_any_retry_after_uses_no_attempt(value, held):
    alone = make_task(error_delay_in_seconds=700)
    together = make_task(workgroup="w", error_delay_in_seconds=700)

    for lease in claim_all():
        answer(lease, 503, body=b"slow down", retry_after=value)

    for task in (alone, together):
        assert (row(task)["remaining_attempts"], row(task)["errors"]) == (5, [])
    assert from_now(row(alone)["run_after"]) == pytest.approx(held, abs=10)
    assert from_now(row(together)["run_after"]) <= 0  # its workgroup keeps it
    assert from_now(Workgroup.objects.get().held_until) == pytest.approx(held, abs=10)
    assert {attempt.outcome for attempt in Attempt.objects.all()} == {"held"}


def test_the_first_of_a_key_waits_for_its_own_error_delay():
    """A lease of a task with a key comes from another statement."""
    task = make_task(key="k", error_delay_in_seconds=700)

    answer(claim_one(), 429, retry_after="soon")

    assert from_now(row(task)["run_after"]) == pytest.approx(700, abs=10)


def test_a_delay_without_a_workgroup_holds_nobody():
    task = make_task()
    other = make_task(is_paused=True)
    before = row(other)

    answer(claim_one(), 500, {"error": "no", "workgroupDelayInSeconds": 600})

    assert not Workgroup.objects.exists()
    assert row(other) == before
    assert row(task)["remaining_attempts"] == 4


def test_a_hold_is_never_shortened_by_an_answer():
    make_task(workgroup="w")
    make_task(workgroup="w")
    first, second = claim_all()
    complete(first, workgroup_delay=600)

    complete(second, workgroup_delay=10)

    assert from_now(Workgroup.objects.get().held_until) == pytest.approx(600, abs=10)


def test_the_longest_hold_of_a_batch_counts():
    for _ in range(3):
        make_task(workgroup="w")
    delays = [10, 900, 60]

    settle(
        [
            Settlement(lease, completed(workgroup_delay=delay))
            for lease, delay in zip(claim_all(), delays, strict=True)
        ]
    )

    assert from_now(Workgroup.objects.get().held_until) == pytest.approx(900, abs=10)


# --- Keys ---


def keyed(**fields):
    """A leader's lease, two followers (one paused, one with an open parent) and strangers."""
    group = make_group()
    leader = make_task(group, id="leader", key="k", **fields)
    blocker = make_task(group, id="blocker", is_paused=True)
    paused = make_task(group, id="paused", key="k", is_paused=True)
    blocked = make_task(group, id="blocked", key="k", parents=[blocker])
    make_task(group, id="child", parents=[paused])
    make_task(group, id="done", key="k", is_complete=True, output="mine")
    make_task(id="stranger", key="k", is_paused=True)
    (lease,) = claim_all()
    assert lease.task_id == leader.pk
    return lease, paused, blocked


def test_duplicates_complete_with_the_same_output_and_free_their_children():
    lease, paused, blocked = keyed()
    strangers = [row(Task(pk=id_)) for id_ in ("done", "stranger", "blocker")]

    complete(lease, {"n": 1}, [{"id": "made"}])

    for duplicate in (paused, blocked):
        after = row(duplicate)
        assert after["is_complete"] is True
        assert after["completed_at"] is not None
        assert after["output"] == {"n": 1}
        assert after["remaining_attempts"] == 5
        assert after["merged_into"] == "leader"
    assert [row(Task(pk=id_)) for id_ in ("done", "stranger", "blocker")] == strangers
    assert ParentEdge.objects.filter(child="made").get().parent_id == "leader"
    assert sorted(claim_ids()) == ["child", "made"]


def test_duplicates_get_the_same_error_and_lose_an_attempt():
    lease, paused, blocked = keyed(error_delay_in_seconds=10)

    fail(lease, "boom")

    for duplicate in (paused, blocked):
        after = row(duplicate)
        assert (after["is_complete"], after["merged_into"]) == (False, None)
        assert after["errors"] == ["boom"]
        assert after["remaining_attempts"] == 4
        assert from_now(after["run_after"]) == pytest.approx(60, abs=10)
    assert row(Task(pk="child"))["pending_parents"] == 1


@pytest.mark.parametrize(
    "outcome", [Held(600, "slow down"), Abandoned(), Returned()], ids=["held", "lost", "returned"]
)
def test_duplicates_are_let_go_without_a_loss(outcome):
    lease, paused, blocked = keyed()

    settle([Settlement(lease, outcome)])

    for duplicate in (paused, blocked):
        after = row(duplicate)
        assert (after["is_complete"], after["merged_into"]) == (False, None)
        assert (after["errors"], after["remaining_attempts"]) == ([], 5)


def test_duplicates_wait_with_a_held_leader():
    lease, paused, _ = keyed()

    hold(lease, 600)

    assert from_now(row(paused)["run_after"]) == pytest.approx(600, abs=10)


def test_a_duplicate_that_came_while_the_leader_ran_completes_too():
    lease, *_ = keyed()
    late_comer = make_task(TaskGroup.objects.get(pk=lease.group_id), key="k")

    complete(lease, 7)

    assert row(late_comer)["is_complete"] is True
    assert row(late_comer)["output"] == 7


def test_a_duplicate_made_after_its_twin_completed_runs_again():
    lease, *_ = keyed()
    complete(lease, 7)

    make_task(TaskGroup.objects.get(pk=lease.group_id), id="again", key="k")

    assert "again" in claim_ids()


def test_errors_of_duplicates_are_bounded_too():
    group = make_group()
    make_task(group, key="k")
    duplicate = make_task(
        group, key="k", is_paused=True, errors=[str(n) for n in range(50)], remaining_attempts=0
    )

    fail(claim_one(), "boom")

    assert len(row(duplicate)["errors"]) == 50
    assert row(duplicate)["errors"][-1] == "boom"
    assert row(duplicate)["remaining_attempts"] == 0


# --- Batches ---


def test_a_batch_is_written_whole_or_not_at_all():
    first, second = make_task(), make_task()
    leases = claim_all()
    before = row(first), row(second)
    poisoned = Settlement(leases[1], poison(), 200)

    with pytest.raises(DatabaseError):
        settle([Settlement(leases[0], completed(1)), poisoned])

    assert (row(first), row(second)) == before
    assert not Task.objects.filter(pk="twice").exists()
    assert not Attempt.objects.exists()


def test_a_poisoned_settlement_does_not_block_the_others():
    tasks = [make_task() for _ in range(5)]
    leases = claim_all()
    batch = [Settlement(lease, completed(1), 200) for lease in leases]
    batch[3] = Settlement(leases[3], poison(), 200)

    settled = settle_each(batch)

    assert settled.live == 5
    assert [row(task)["is_complete"] for task in tasks] == [True, True, True, False, True]
    assert "could not be stored" in row(tasks[3])["errors"][0]
    assert row(tasks[3])["remaining_attempts"] == 4


def test_an_answer_twice_in_one_batch_has_one_effect():
    task = make_task()
    lease = claim_one()

    settled = settle_each([Settlement(lease, completed(n), 200) for n in (1, 2)])

    assert (settled.live, settled.late) == (1, 1)
    assert row(task)["output"] == 1
    assert row(task)["remaining_attempts"] == 4


def test_the_number_of_queries_does_not_grow_with_the_batch(django_assert_max_num_queries):
    group = make_group()
    parents = [make_task(group, workgroup="w") for _ in range(60)]
    make_task(group, parents=parents)
    leases = claim_all()

    with django_assert_max_num_queries(20):
        settle(
            [
                Settlement(lease, completed(1, children_delay=1, workgroup_delay=1))
                for lease in leases
            ]
        )


@pytest.mark.django_db(transaction=True)
def test_settles_at_once_count_each_parent_once():
    group = make_group(tasks=[wire(id=f"p{n:03}") for n in range(100)])
    parents = list(Task.objects.all())
    children = [make_task(group, id=f"c{n}", parents=parents) for n in range(3)]
    leases = claim_all()
    shares = [leases[n::4][::-1] if n % 2 else leases[n::4] for n in range(4)]

    in_threads(settle_in_tens, shares)

    assert [row(child)["pending_parents"] for child in children] == [0, 0, 0]
    assert Task.objects.filter(is_complete=True).count() == 100


def settle_in_tens(leases):
    for n in range(0, len(leases), 10):
        settle([Settlement(lease, completed(1), 200) for lease in leases[n : n + 10]])


@pytest.mark.django_db(transaction=True)
def test_children_created_while_their_parents_complete_are_never_stuck():
    group = make_group(tasks=[wire(id=f"p{n}") for n in range(30)])
    leases = claim_all()

    in_threads(
        lambda work: work(),
        [
            lambda: [complete(lease) for lease in leases],
            lambda: [make_task(group, parent_ids=[f"p{n}"]) for n in range(30)],
        ],
    )

    assert set(Task.objects.values_list("pending_parents", flat=True)) == {0}
    assert len(claim_all()) == 30


def test_an_empty_batch_and_an_idle_rescue_do_nothing():
    assert settle([]).live == 0
    assert rescue(lease_seconds=30) == -1


def poison():
    """Nothing that `decide` lets through: the same child twice, which the database refuses."""
    return completed(1, [{"id": "twice"}, {"id": "twice"}])


def later(days: int = 1):
    return timezone.now() + timedelta(days=days)


def test_browsers_are_told_of_a_child_that_is_free_though_nobody_claims_it():
    group = make_group(tasks=[wire(id="a"), wire(id="b")])
    make_task(group, id="free", worker="", parent_ids=["a"])
    make_task(group, id="waits", worker="", parent_ids=["a", "b"])
    first, _ = claim_all()
    Change.objects.all().delete()

    settle([Settlement(first, completed(1))])

    told = {id_ for change in Change.objects.all() for id_ in change.updated}
    assert told == {"a", "free"}


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("statement", "params"),
    [
        (
            sql.OUTCOMES,
            {
                "rows": '[{"id": "t1", "attempt": 1, "leased_by": "s1", "outcome": "completed",'
                ' "output": null, "error": "", "note": "", "status": 200, "wait": 0}]'
            },
        ),
        (
            children.CHILDREN,
            {"rows": '[{"id": "t1", "done": 1, "wait": 5}]', "after": "", "most": 10_000},
        ),
        (
            shared_outcomes.DUPLICATES,
            {
                "rows": '[{"id": "t1", "outcome": "failed", "error": "e", "wait": 0}]',
                "after": "",
                "most": 10_000,
            },
        ),
    ],
)
def test_a_settle_never_reads_a_whole_table(fresh_tables, statement, params):
    group = make_group()
    Task.objects.bulk_create(Task(group=group, id=f"t{n}") for n in range(4_000))
    ParentEdge.objects.bulk_create(
        ParentEdge(child_id=f"t{n}", parent_id=f"t{n - 1}", position=0) for n in range(1, 4_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE crew_task")
        cursor.execute("ANALYZE crew_parentedge")
        steer()  # as the settle does
        cursor.execute("EXPLAIN " + statement.postgresql, params)
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "Seq Scan on crew_task " not in plan
    assert "Seq Scan on crew_parentedge" not in plan


def test_a_good_answer_survives_a_database_that_was_read_only_for_a_moment(monkeypatch):
    task = make_task()
    batch = [Settlement(claim_one(), completed(1), 200)]
    tried = []

    def refuse_once(settlements):
        tried.append(settlements)
        if len(tried) == 1:
            raise InternalError("cannot execute UPDATE") from ReadOnly()
        return settle(settlements)

    monkeypatch.setattr("tasks.engine.settle.settle", refuse_once)

    with pytest.raises(InternalError):
        settle_each(batch)
    assert row(task)["leased_by"] is not None
    settled = settle_each(batch)

    assert settled.live == 1
    assert row(task)["output"] == 1


class ReadOnly(Exception):
    sqlstate = "25006"

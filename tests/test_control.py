"""What people do to groups and tasks, and what follows from it."""

import pytest
from django.db.models import Count, F, Q

from tasks import control, create, edit, limits_and_holds
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.errors import ConflictError, InvalidInputError, NotFoundError
from tasks.models import Attempt, Change, ParentEdge, Task, TaskGroup, Workgroup
from tasks.rules.decide import Interrupted

from .factories import (
    claim_all,
    claim_ids,
    claim_one,
    complete,
    diamond,
    fail,
    from_now,
    in_an_hour,
    in_threads,
    make_due,
    make_group,
    make_task,
    pending,
    row,
    wire,
)

pytestmark = pytest.mark.django_db


def ids():
    return set(Task.objects.values_list("id", flat=True))


def run_all():
    while leases := claim_all():
        for lease in leases:
            complete(lease, lease.task_id)


# --- Pause and resume ---


def test_a_paused_group_starts_nothing():
    group = make_group(tasks=[wire(), wire(is_paused=True), wire(is_complete=True)])

    count = control.pause_group(group.pk)

    group.refresh_from_db()
    assert (count, group.is_paused) == (2, True)
    assert Task.objects.filter(is_paused=True).count() == 3
    assert claim_ids() == []


def test_a_running_attempt_outlives_the_pause():
    task = make_task()
    lease = claim_one()

    control.pause_group(task.group_id)

    assert complete(lease, 1).live == 1
    assert row(task)["is_complete"] is True


def test_resume_clears_the_pause_of_group_and_tasks():
    group = make_group(is_paused=True, tasks=[wire(id="a"), wire(id="b", is_paused=True)])
    other = make_task(is_paused=True)

    count = control.resume_group(group.pk)

    group.refresh_from_db()
    assert (count, group.is_paused) == (2, False)
    assert sorted(claim_ids()) == ["a", "b"]
    assert row(other)["is_paused"] is True


def test_single_tasks_are_paused_and_resumed():
    group = make_group(tasks=[wire(id="a"), wire(id="b")])

    paused = control.pause_tasks(group.pk, ["a"])
    first = claim_ids()
    resumed = control.resume_tasks(group.pk, ["a", "b"])

    assert (paused, resumed) == (1, 1)
    assert (first, claim_ids()) == (["b"], ["a"])


# --- Reset ---


def test_a_reset_group_is_as_if_it_had_never_run():
    group = diamond()
    run_all()
    make_task(group, id="seen", errors=["e"], remaining_attempts=0, is_paused=True, held_count=3)

    gone = control.reset_group(group.pk, remaining_attempts=7)

    assert gone == 0
    for task in Task.objects.all():
        assert (task.is_complete, task.completed_at, task.output) == (False, None, None)
        assert (task.errors, task.remaining_attempts, task.held_count) == ([], 7, 0)
        assert abs(from_now(task.run_after)) < 10
    assert pending() == {"a": 0, "b": 1, "c": 1, "d": 2, "seen": 0}
    assert row(Task(pk="seen"))["is_paused"] is True
    assert claim_ids() == ["a"]


def test_a_reset_with_seeds_keeps_only_them():
    group = make_group(
        tasks=[
            wire(id="seed", is_seed=True),
            wire(id="plain", parent_ids=["seed"]),
            wire(id="second", is_seed=True, parent_ids=["plain", "seed"]),
        ]
    )
    lease = claim_one()
    complete(lease, 1, [{"id": "made"}])
    Change.objects.all().delete()

    gone = control.reset_group(group.pk)

    group.refresh_from_db()
    assert (gone, group.task_count) == (2, 2)
    assert pending() == {"seed": 0, "second": 1}
    assert set(ParentEdge.objects.values_list("child_id", "parent_id")) == {("second", "seed")}
    deleted = {task["id"] for change in Change.objects.all() for task in change.deleted}
    updated = {id_ for change in Change.objects.all() for id_ in change.updated}
    assert (deleted, updated) == ({"plain", "made"}, {"seed", "second"})
    assert claim_ids() == ["seed"]


def test_a_reset_group_takes_running_attempts_their_lease():
    group = make_group(tasks=[wire(id="a", key="k"), wire(id="b", key="k")])
    lease = claim_one()

    control.reset_group(group.pk)

    ended = list(Attempt.objects.values_list("number", "outcome", "error"))
    assert ended == [(1, "cancelled", "the group was reset")]
    assert set(Task.objects.values_list("leased_by", flat=True)) == {None}
    assert complete(lease, "late").late == 1
    assert not Task.objects.filter(merged_into__isnull=False).exists()
    assert claim_one("s2").attempt == 2


def test_a_cancelled_group_is_tried_no_more_and_its_running_attempts_end():
    group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])
    lease = claim_one()

    count = control.cancel_group(group.pk)

    ended = list(Attempt.objects.values_list("task", "number", "outcome", "error"))
    assert count == 2
    assert ended == [("a", 1, "cancelled", "the group was cancelled")]
    assert complete(lease, "late").late == 1
    assert claim_ids("s2") == []
    control.retry_group(group.pk)
    assert claim_one("s2").attempt == 2


def test_a_reset_task_runs_again_and_holds_its_children():
    group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])
    complete(claim_one(), 1)

    count = control.reset_tasks(group.pk, ["a"], remaining_attempts=2)

    after = row(Task(pk="a"))
    assert count == 1
    assert (after["is_complete"], after["output"], after["remaining_attempts"]) == (False, None, 2)
    assert pending() == {"a": 0, "b": 1}
    assert claim_ids() == ["a"]


def test_a_complete_child_of_a_reset_task_stays_complete():
    group = diamond()
    run_all()

    control.reset_tasks(group.pk, ["a"])

    assert set(Task.objects.incomplete().values_list("id", flat=True)) == {"a"}
    run_all()
    assert set(pending().values()) == {0}


def test_a_running_task_is_not_reset():
    task = make_task()
    claim_one()
    before = row(task)

    with pytest.raises(ConflictError, match="is executing"):
        control.reset_tasks(task.group_id, [task.pk])

    assert row(task) == before


# --- Retry ---


def test_retry_gives_incomplete_tasks_their_attempts_back():
    group = make_group()
    failed = make_task(group, id="failed", remaining_attempts=1)
    fail(claim_one(), "boom")
    done = make_task(group, is_complete=True, remaining_attempts=1)
    scheduled = make_task(group, run_after=in_an_hour())
    before = row(done)

    count = control.retry_group(group.pk, remaining_attempts=3)

    assert count == 2
    assert (row(failed)["remaining_attempts"], row(failed)["errors"]) == (3, ["boom"])
    assert row(done) == before
    assert from_now(row(scheduled)["run_after"]) > 3_000
    assert claim_ids() == ["failed"]


def test_retry_of_a_task_pulls_its_error_delay_to_now():
    group = make_group()
    make_task(group, id="one", error_delay_in_seconds=3_600)
    make_task(group, id="two", error_delay_in_seconds=3_600)
    for lease in claim_all():
        fail(lease)

    count = control.retry_tasks(group.pk, ["one"])

    assert count == 1
    assert claim_ids() == ["one"]
    assert row(Task(pk="two"))["remaining_attempts"] == 4


def test_retry_leaves_running_and_complete_tasks_running_and_complete():
    group = make_group()
    done = make_task(group, is_complete=True, output=1)
    running = make_task(group)
    lease = claim_one()
    before = row(done)

    control.retry_tasks(group.pk, [done.pk, running.pk], remaining_attempts=9)

    assert row(done) == before
    assert row(running)["leased_by"] == "s1"
    assert complete(lease).live == 1
    assert row(running)["remaining_attempts"] == 8


# --- Delete ---


def test_a_deleted_group_takes_everything_along():
    group = make_group(tasks=[wire(id=f"t{n}", key="k") for n in range(100)])
    other = make_task(id="other")
    fail(claim_all()[0])
    Change.objects.all().delete()

    count = control.delete_group(group.pk)

    assert count == 100
    assert ids() == {"other"}
    assert not ParentEdge.objects.exists()
    assert not Attempt.objects.exclude(task=other).exists()
    assert not TaskGroup.objects.filter(pk=group.pk).exists()
    assert [(c.group_id, c.group_event) for c in Change.objects.all()] == [(group.pk, "delete")]


def test_delete_cascades_to_descendants_left_without_a_parent():
    group = diamond()
    make_task(group, id="e", parent_ids=["c"])
    keeper = make_task(group, id="keeper")
    make_task(group, id="both", parents=[Task(pk="d"), keeper])
    Change.objects.all().delete()

    gone = control.delete_tasks(group.pk, ["a"])

    group.refresh_from_db()
    assert set(gone) == {"a", "b", "c", "d", "e"}
    assert ids() == {"keeper", "both"}
    assert group.task_count == 2
    assert pending()["both"] == 1
    assert set(ParentEdge.objects.values_list("child_id", "parent_id")) == {("both", "keeper")}
    assert {task["id"] for change in Change.objects.all() for task in change.deleted} == set(gone)


def test_delete_can_detach_the_children():
    group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])

    gone = control.delete_tasks(group.pk, ["a"], children="detach")

    assert gone == ["a"]
    assert pending() == {"b": 0}
    assert claim_ids() == ["b"]


def test_delete_can_refuse_when_there_are_children():
    group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])

    with pytest.raises(ConflictError, match="cannot delete tasks with children"):
        control.delete_tasks(group.pk, ["a"], children="refuse")

    assert ids() == {"a", "b"}
    assert control.delete_tasks(group.pk, ["b"], children="refuse") == ["b"]


def test_delete_refuses_nothing_when_the_children_go_too():
    group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])

    gone = control.delete_tasks(group.pk, ["a", "b"], children="refuse")

    assert set(gone) == {"a", "b"}
    assert ids() == set()


def test_a_deleted_leader_lets_its_followers_go():
    group = make_group()
    make_task(group, id="leader", key="k")
    make_task(group, id="follower", key="k")
    lease = claim_one()
    follower = ({"leader", "follower"} - {lease.task_id}).pop()

    control.delete_tasks(group.pk, [lease.task_id])
    before = claim_ids("s2")
    settle([Settlement(lease, Interrupted())])

    assert (before, claim_ids("s2")) == ([], [follower])


@pytest.mark.parametrize(
    "verb",
    [
        control.delete_tasks,
        control.reset_tasks,
        lambda group, ids: edit.edit_task(group, ids[0], {"name": "x"}),
        lambda group, ids: edit.complete_task(group, ids[0]),
    ],
)
def test_a_task_of_another_group_is_not_found(verb):
    group, task = make_group(), make_task()
    before = row(task)

    with pytest.raises(NotFoundError, match="task not found"):
        verb(group.pk, [task.pk])

    assert row(task) == before


@pytest.mark.parametrize(
    "verb",
    [
        control.pause_group,
        control.resume_group,
        control.reset_group,
        control.retry_group,
        control.delete_group,
    ],
)
def test_an_unknown_group_is_not_found(verb):
    with pytest.raises(NotFoundError, match="task group not found"):
        verb("nope")


# --- The rest ---


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "verb",
    [
        control.reset_group,
        control.pause_group,
        control.retry_group,
        lambda group: control.delete_tasks(group, ["p0"]),
        control.delete_group,
    ],
    ids=["reset", "pause", "retry", "delete", "delete-group"],
)
def test_verbs_and_settles_at_once_leave_the_counts_true(verb):
    group = make_group(
        tasks=[wire(id=f"p{n}", key=f"k{n % 9}") for n in range(30)]
        + [wire(id=f"c{n}", parent_ids=["p0", f"p{n + 1}"]) for n in range(20)]
    )
    leases = claim_all()

    def settle_all():
        for lease in leases:
            complete(lease, 1, [{}])

    in_threads(lambda work: work(), [settle_all, lambda: verb(group.pk)])

    undone = Count("parent_edges", filter=Q(parent_edges__parent__is_complete=False))
    counted = Task.objects.annotate(counted=undone)
    assert not counted.exclude(pending_parents=F("counted")).exists()
    assert all(g.task_count == g.tasks.count() for g in TaskGroup.objects.all())


def test_a_child_of_a_complete_parent_starts_at_once():
    group = make_group(tasks=[wire(id="a", is_complete=True)])

    create.create_tasks(group.pk, [wire(id="b", parent_ids=["a"])])

    assert claim_ids() == ["b"]


def test_an_operator_holds_and_opens_a_workgroup():
    make_task(id="t", workgroup="w")

    limits_and_holds.hold_workgroup("w", seconds=600)
    held = claim_ids()
    until = Workgroup.objects.get().held_until
    limits_and_holds.hold_workgroup("w", seconds=0)

    assert held == []
    assert from_now(until) == pytest.approx(600, abs=10)
    assert Workgroup.objects.get().held_by == ""
    assert claim_ids() == ["t"]


def test_no_workgroup_is_not_a_workgroup_that_can_be_held():
    make_task(id="t")

    with pytest.raises(InvalidInputError, match="workgroup"):
        limits_and_holds.hold_workgroup("", seconds=600)

    assert claim_ids() == ["t"]


def test_a_group_is_renamed():
    group = make_group(name="old")

    control.rename_group(group.pk, name="new")

    group.refresh_from_db()
    assert group.name == "new"


@pytest.mark.parametrize(
    ("verb", "updated"),
    [
        (lambda group: control.pause_group(group), {"a", "b"}),
        (lambda group: control.reset_group(group), {"a", "b"}),
        (lambda group: control.retry_group(group), {"a", "b"}),
        (lambda group: control.reset_tasks(group, ["a"]), {"a"}),
        (lambda group: edit.edit_task(group, "b", {"name": "x"}), {"b"}),
    ],
)
def test_every_verb_records_what_it_changed(verb, updated):
    group = make_group(tasks=[wire(id="a"), wire(id="b")])
    Change.objects.all().delete()

    verb(group.pk)

    assert {id_ for change in Change.objects.all() for id_ in change.updated} == updated


def test_verbs_take_more_ids_than_a_database_takes_parameters():
    group = make_group(tasks=[wire(id=f"t{n}") for n in range(10_000)])
    more = [f"m{n}" for n in range(30_000)]

    count = control.pause_tasks(group.pk, [f"t{n}" for n in range(10_000)] + more)

    assert count == 10_000


def test_a_task_is_not_saved_whole():
    task = make_task()

    with pytest.raises(TypeError, match="update_fields"):
        task.save()

    make_due(task)
    assert claim_ids() == [task.pk]


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "seconds"), [("", 1), ("x" * 201, 1), ("x", -1), ("x", 1e12)])
def test_a_hold_that_cannot_be_is_refused(name, seconds):
    with pytest.raises(InvalidInputError):
        limits_and_holds.hold_workgroup(name, seconds=seconds)

    assert not Workgroup.objects.exists()


@pytest.mark.django_db
def test_a_name_too_long_is_refused_for_a_group():
    group = make_group(name="before")

    with pytest.raises(InvalidInputError):
        control.rename_group(group.id, name="x" * 201)

    group.refresh_from_db()
    assert group.name == "before"


@pytest.mark.parametrize(
    ("children", "updated"), [("cascade", {"both"}), ("detach", {"both", "only"})]
)
def test_who_loses_a_parent_by_a_deletion_is_told(children, updated):
    group = make_group(
        tasks=[
            wire(id="a"),
            wire(id="b"),
            wire(id="both", parent_ids=["a", "b"]),
            wire(id="only", parent_ids=["a"]),
        ]
    )
    Change.objects.all().delete()

    control.delete_tasks(group.pk, ["a"], children=children)

    assert {id_ for change in Change.objects.all() for id_ in change.updated} == updated


def test_the_followers_of_a_deleted_leader_are_told():
    group = make_group(tasks=[wire(id="a", key="k"), wire(id="b", key="k")])
    (leader,) = claim_ids()
    Change.objects.all().delete()

    control.delete_tasks(group.pk, [leader])

    updated = {id_ for change in Change.objects.all() for id_ in change.updated}
    assert updated == {"a", "b"} - {leader}

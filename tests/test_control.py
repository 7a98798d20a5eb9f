"""What people do to groups and tasks, and what follows from it."""

from datetime import timedelta

import pytest
from django.db.models import Count, F, Q
from django.utils import timezone

from tasks import control, create, edit, fleet
from tasks.errors import ConflictError, InvalidInputError, NotFoundError
from tasks.models import Attempt, Change, ParentEdge, Task, TaskGroup, Worker, Workgroup

from .factories import (
    claim_all,
    claim_ids,
    claim_one,
    complete,
    fail,
    from_now,
    in_threads,
    make_due,
    make_group,
    make_task,
    row,
    wire,
)

pytestmark = pytest.mark.django_db


def in_an_hour():
    return timezone.now() + timedelta(hours=1)


def diamond():
    """a -> b, c -> d"""
    return make_group(
        tasks=[
            wire(id="a"),
            wire(id="b", parent_ids=["a"]),
            wire(id="c", parent_ids=["a"]),
            wire(id="d", parent_ids=["b", "c"]),
        ]
    )


def ids():
    return set(Task.objects.values_list("id", flat=True))


def pending():
    return dict(Task.objects.values_list("id", "pending_parents"))


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

    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.error) == ("cancelled", "the group was reset")
    assert complete(lease, "late").late == 1
    assert not Task.objects.filter(merged_into__isnull=False).exists()
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

    assert claim_ids("s2") == [follower]


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


# --- Edit ---


def test_an_edit_writes_only_its_fields():
    task = make_task(name="old", input={"x": 1})
    before = row(task)

    edit.edit_task(task.group_id, task.pk, {"name": "new", "input": [2]})

    assert row(task) == before | {"name": "new", "input": [2]}


def test_a_running_task_takes_nothing_but_the_pause():
    task = make_task()
    lease = claim_one()

    edit.edit_task(task.group_id, task.pk, {"is_paused": True})
    with pytest.raises(ConflictError, match="is executing"):
        edit.edit_task(task.group_id, task.pk, {"is_paused": False, "name": "x"})

    assert row(task)["is_paused"] is True
    assert row(task)["leased_by"] == lease.leased_by


def test_clearing_the_due_time_means_now():
    task = make_task(run_after=in_an_hour())

    edit.edit_task(task.group_id, task.pk, {"run_after": None})

    assert claim_ids() == [task.pk]


def test_a_new_due_time_is_kept():
    task = make_task()

    edit.edit_task(task.group_id, task.pk, {"run_after": in_an_hour()})

    assert from_now(row(task)["run_after"]) == pytest.approx(3_600, abs=10)
    assert claim_ids() == []


def test_a_worker_that_comes_later_starts_the_task():
    task = make_task(worker="")

    edit.edit_task(task.group_id, task.pk, {"worker": "new"})

    assert Worker.objects.filter(pk="new").exists()
    assert claim_ids() == [task.pk]


def test_completing_by_hand_frees_the_children():
    group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])

    edit.complete_task(group.pk, "a", output={"by": "hand"})

    after = row(Task(pk="a"))
    assert (after["is_complete"], after["output"]) == (True, {"by": "hand"})
    assert after["completed_at"] is not None
    assert after["remaining_attempts"] == 5
    (lease,) = claim_all()
    assert lease.task_id == "b"
    assert lease.parents[0].output_json.replace(" ", "") == '{"by":"hand"}'


def test_completing_twice_frees_only_once():
    group = make_group(tasks=[wire(id="a"), wire(id="x"), wire(id="b", parent_ids=["a", "x"])])

    edit.complete_task(group.pk, "a", output=1)
    edit.complete_task(group.pk, "a", output=2)

    assert pending()["b"] == 1
    assert row(Task(pk="a"))["output"] == 2


def test_a_task_that_runs_is_not_completed_by_hand():
    task = make_task()
    claim_one()

    with pytest.raises(ConflictError):
        edit.complete_task(task.group_id, task.pk)


def test_uncompleting_makes_the_task_run_again_and_holds_its_children():
    group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])
    complete(claim_one(), 1)

    edit.edit_task(group.pk, "a", {"is_complete": False})

    assert row(Task(pk="a"))["completed_at"] is None
    assert pending()["b"] == 1
    assert claim_ids() == ["a"]


def test_new_parents_replace_the_old_ones_in_order():
    group = diamond()

    edit.edit_task(group.pk, "d", {"parent_ids": ["c", "a"]})

    edges = ParentEdge.objects.filter(child="d").order_by("position")
    assert list(edges.values_list("parent_id", flat=True)) == ["c", "a"]
    assert pending()["d"] == 2


def test_parents_that_are_complete_are_not_pending():
    group = diamond()
    complete(claim_one())

    edit.edit_task(group.pk, "d", {"parent_ids": ["a"]})

    assert pending()["d"] == 0


def test_parents_can_be_taken_away():
    group = make_group(tasks=[wire(id="a", is_paused=True), wire(id="b", parent_ids=["a"])])

    edit.edit_task(group.pk, "b", {"parent_ids": []})

    assert claim_ids() == ["b"]


@pytest.mark.parametrize(
    ("parent_ids", "error", "match"),
    [
        (["d"], ConflictError, "cycle"),
        (["a"], ConflictError, "cycle"),
        (["nope"], InvalidInputError, "cannot find all parents"),
        (["elsewhere"], InvalidInputError, "cannot find all parents"),
    ],
)
def test_parents_that_can_not_be_are_refused_and_nothing_changes(parent_ids, error, match):
    group = diamond()
    make_task(id="elsewhere")
    before = set(ParentEdge.objects.values_list("child_id", "parent_id", "position"))
    task = row(Task(pk="a"))

    with pytest.raises(error, match=match):
        edit.edit_task(group.pk, "a", {"parent_ids": parent_ids, "name": "half"})

    assert set(ParentEdge.objects.values_list("child_id", "parent_id", "position")) == before
    assert row(Task(pk="a")) == task


def test_an_edit_keeps_to_the_limit_of_parents(settings):
    settings.CREW_MAX_PARENTS = 2
    group = make_group(tasks=[wire(id=id_) for id_ in "abcd"])
    edit.edit_task(group.pk, "d", {"parent_ids": ["a", "b"]})

    with pytest.raises(InvalidInputError, match="more than 2 parents"):
        edit.edit_task(group.pk, "d", {"parent_ids": ["a", "b", "c"]})

    assert pending()["d"] == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_edges_that_close_a_cycle_one_is_refused():
    group = make_group(tasks=[wire(id="a"), wire(id="b")])

    def become_child(pair):
        child, parent = pair
        try:
            edit.edit_task(group.pk, child, {"parent_ids": [parent]})
        except ConflictError:
            return "refused"
        return "taken"

    assert sorted(in_threads(become_child, ["ab", "ba"])) == ["refused", "taken"]
    assert ParentEdge.objects.count() == 1


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


def test_a_complete_task_gets_no_new_parents():
    group = make_group(tasks=[wire(id="a"), wire(id="b", is_complete=True)])

    with pytest.raises(ConflictError, match="is complete"):
        edit.edit_task(group.pk, "b", {"parent_ids": ["a"]})


def test_a_child_of_a_complete_parent_starts_at_once():
    group = make_group(tasks=[wire(id="a", is_complete=True)])

    create.create_tasks(group.pk, [wire(id="b", parent_ids=["a"])])

    assert claim_ids() == ["b"]


# --- The rest ---


def test_an_operator_holds_and_opens_a_workgroup():
    make_task(id="t", workgroup="w")

    fleet.hold_workgroup("w", seconds=600)
    held = claim_ids()
    until = Workgroup.objects.get().held_until
    fleet.hold_workgroup("w", seconds=0)

    assert held == []
    assert from_now(until) == pytest.approx(600, abs=10)
    assert Workgroup.objects.get().held_by == ""
    assert claim_ids() == ["t"]


def test_no_workgroup_is_not_a_workgroup_that_can_be_held():
    make_task(id="t")

    with pytest.raises(InvalidInputError, match="workgroup"):
        fleet.hold_workgroup("", seconds=600)

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
def test_every_verb_notes_what_it_changed(verb, updated):
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
def test_a_hold_that_can_not_be_is_refused(name, seconds):
    with pytest.raises(InvalidInputError):
        fleet.hold_workgroup(name, seconds=seconds)

    assert not Workgroup.objects.exists()


@pytest.mark.django_db
def test_a_name_too_long_is_refused_for_a_group():
    group = make_group(name="before")

    with pytest.raises(InvalidInputError):
        control.rename_group(group.id, name="x" * 201)

    group.refresh_from_db()
    assert group.name == "before"


def test_a_parent_named_twice_in_an_edit_is_one_edge():
    group = make_group(tasks=[wire(id="a"), wire(id="b")])

    edit.edit_task(group.id, "b", {"parent_ids": ["a", "a"]})

    assert list(ParentEdge.objects.values_list("child_id", "parent_id")) == [("b", "a")]
    assert Task.objects.get(pk="b").pending_parents == 1

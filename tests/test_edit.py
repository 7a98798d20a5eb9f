"""What people change of a task, and what follows from it."""

import pytest

from tasks import edit
from tasks.errors import ConflictError, InvalidInputError
from tasks.models import ParentEdge, Task, Worker

from .factories import (
    claim_all,
    claim_ids,
    claim_one,
    complete,
    diamond,
    from_now,
    in_an_hour,
    in_threads,
    make_group,
    make_task,
    pending,
    row,
    wire,
)

pytestmark = pytest.mark.django_db


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
def test_parents_that_cannot_be_are_refused_and_nothing_changes(parent_ids, error, match):
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


def test_a_complete_task_gets_no_new_parents():
    group = make_group(tasks=[wire(id="a"), wire(id="b", is_complete=True)])

    with pytest.raises(ConflictError, match="is complete"):
        edit.edit_task(group.pk, "b", {"parent_ids": ["a"]})


def test_a_parent_named_twice_in_an_edit_is_one_edge():
    group = make_group(tasks=[wire(id="a"), wire(id="b")])

    edit.edit_task(group.id, "b", {"parent_ids": ["a", "a"]})

    assert list(ParentEdge.objects.values_list("child_id", "parent_id")) == [("b", "a")]
    assert Task.objects.get(pk="b").pending_parents == 1

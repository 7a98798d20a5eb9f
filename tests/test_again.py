"""A task that ran before answers again: what its earlier answers made comes back, goes or stays."""

import threading
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from crewsite.management.commands.demo import start_demo_group
from tasks import control, create, edit
from tasks.engine import rescue, set_aside
from tasks.engine.haste import hastily
from tasks.engine.lease import Lease
from tasks.engine.settle import settle, settle_each
from tasks.engine.settlement import Settlement, Why
from tasks.models import Attempt, CutCall, ParentEdge, SchedulerProcess, Task, TaskGroup
from tasks.upkeep.invariants import INVARIANTS
from tasks.verbs import deleting, earlier_children, slices
from workers_demo import workers

from .factories import (
    answer,
    claim_all,
    complete,
    completed,
    end_calls,
    fail,
    in_threads,
    make_due,
    make_group,
    make_task,
    row,
    wire,
)
from .processes import database_url

pytestmark = pytest.mark.django_db


@pytest.fixture
def maker():
    """A task that has answered once, with the children c0 and c1."""
    task = make_task(id="x")
    complete(lease_of("x"), 1, children("c0", "c1"))
    return task


def children(*ids, **fields):
    return [{"id": id_} | fields for id_ in ids]


def lease_of(id_: str) -> Lease:
    """Of this task; what else is ready is leased beside it."""
    return next(lease for lease in claim_all() if lease.task_id == id_)


def reset(*ids, **choice):
    return control.reset_tasks(Task.objects.get(pk=ids[0]).group_id, ids, **choice)


def reset_group_and_end_calls():
    control.reset_group(Task.objects.get(pk="x").group_id)
    end_calls()


def in_group() -> set[str]:
    return set(Task.objects.values_list("id", flat=True))


def states(*ids):
    rows = Task.objects.in_bulk(ids)
    return {id_: (rows[id_].is_complete, rows[id_].pending_parents) for id_ in ids}


def parents(id_):
    edges = ParentEdge.objects.filter(child=id_).order_by("position")
    return list(edges.values_list("parent_id", flat=True))


@pytest.fixture(autouse=True)
def nothing_is_broken():
    yield
    broken = {i.name: list(i.search()) for i in INVARIANTS if i.name not in ("lease", "cut_call")}
    assert {name: ids for name, ids in broken.items() if ids} == {}


# --- Children that the new answer names ---


def test_a_child_of_the_same_id_and_maker_is_the_same_child(maker):
    complete(lease_of("c0"), "old")
    reset("x")

    complete(lease_of("x"), 2, children("c0", "c1", name="new", input={"n": 2}))

    assert in_group() == {"x", "c0", "c1"}
    assert TaskGroup.objects.get().task_count == 3
    child = row(Task(pk="c0"))
    assert (child["is_complete"], child["output"], child["errors"]) == (False, None, [])
    assert (child["name"], child["input"], child["created_by"]) == ("new", {"n": 2}, "x")
    assert (child["remaining_attempts"], child["attempt"]) == (5, 1)
    assert lease_of("c0").attempt == 2


def test_a_group_without_seeds_runs_again_to_the_same_end(maker):
    for lease in claim_all():
        complete(lease)
    control.reset_group(maker.group_id)

    complete(lease_of("x"), 2, children("c0", "c1"))
    for lease in claim_all():
        complete(lease)

    assert in_group() == {"x", "c0", "c1"}
    assert all(Task.objects.values_list("is_complete", flat=True))


def test_what_a_person_changed_of_a_child_is_as_the_new_answer_says_but_for_its_pause(maker):
    group = maker.group_id
    edit.edit_task(group, "c0", {"worker": "other", "is_seed": True, "is_paused": True})
    reset("x")

    complete(lease_of("x"), 2, children("c0"))

    child = row(Task(pk="c0"))
    assert (child["worker"], child["is_seed"], child["is_paused"]) == ("worker-b", True, True)


def test_the_edges_among_children_are_those_of_the_new_answer(maker):
    reset("x")
    second = [{"id": "c1", "parentIds": ["c0", "c2"]}, {"id": "c0"}, {"id": "c2"}]

    complete(lease_of("x"), 2, second)

    assert parents("c1") == ["c0", "c2", "x"]
    assert states("c0", "c1", "c2") == {"c0": (False, 0), "c1": (False, 2), "c2": (False, 0)}


def test_a_child_that_runs_right_now_is_cut(maker):
    running = lease_of("c0")
    reset("x")

    complete(lease_of("x"), 2, children("c0", "c1"))

    assert row(Task(pk="c0"))["leased_by"] is None
    assert Attempt.objects.get(task="c0").outcome == "cancelled"
    assert CutCall.objects.filter(task_id="c0", attempt=running.attempt).exists()
    settle([Settlement(running, completed("late"), 200)])
    assert row(Task(pk="c0"))["is_complete"] is False
    assert Attempt.objects.get(task="c0").late_outcome == "completed"


def test_what_hangs_below_a_child_waits_for_it_again(maker):
    group = TaskGroup.objects.get()
    below = make_task(group, id="below", parents=[Task(pk="c0")])
    complete(lease_of("c0"))
    running = lease_of("below")
    reset("x")

    complete(lease_of("x"), 2, children("c0", "c1"))

    assert row(below)["pending_parents"] == 1
    assert row(below)["leased_by"] == running.leased_by  # as with the reset of one task


def test_followers_of_a_child_that_runs_are_let_go(maker):
    edit.edit_task(maker.group_id, "c0", {"key": "k"})
    claim_all()
    follower = make_task(TaskGroup.objects.get(), id="f", key="k", merged_into="c0")
    reset("x")

    complete(lease_of("x"), 2, children("c0", "c1"))

    assert row(follower)["merged_into"] is None


def test_a_delay_of_the_children_and_a_paused_group_hold_for_those_that_come_back(maker):
    reset("x")
    lease = lease_of("x")
    control.pause_group(maker.group_id)

    complete(lease, 2, children("c0", "c2"), children_delay=500.0)

    rows = [row(Task(pk=id_)) for id_ in ("c0", "c2")]
    assert [child["is_paused"] for child in rows] == [True, True]
    due = {child["run_after"] for child in rows}
    assert max(due) - min(due) < max(due) - row(maker)["completed_at"]


# --- Children that it does not name ---


@pytest.mark.parametrize("second", [[], [{}, {}], children("other", "c1")])
def test_what_is_not_named_goes_with_what_is_left_without_parents(maker, second):
    group = TaskGroup.objects.get()
    make_task(group, id="orphan", parents=[Task(pk="c0")])
    other = make_task(group, id="stands", is_paused=True)
    make_task(group, id="stays", parents=[Task(pk="c0"), other])
    reset("x")

    complete(lease_of("x"), 2, second)

    named = {spec["id"] for spec in second if spec}
    unnamed = len([spec for spec in second if not spec])
    assert {"c0", "orphan"}.isdisjoint(in_group())
    assert in_group() >= {"x", "stands", "stays"} | named
    assert Task.objects.count() == 3 + len(named) + unnamed == TaskGroup.objects.get().task_count
    assert parents("stays") == ["stands"]
    assert row(Task(pk="stays"))["pending_parents"] == 1


def test_an_answer_without_any_children_takes_away_those_of_before(maker):
    make_task(TaskGroup.objects.get(), id="mine", is_paused=True)
    reset("x")

    settled = complete(lease_of("x"), 2)

    assert settled.live == 1
    assert in_group() == {"x", "mine"}


def test_a_child_that_runs_and_goes_is_cut_and_its_followers_run(maker):
    running = lease_of("c0")
    reset("x")

    complete(lease_of("x"), 2)

    assert in_group() == {"x"}
    assert CutCall.objects.filter(task_id="c0", attempt=running.attempt).exists()


def test_a_seed_stays(maker):
    edit.edit_task(maker.group_id, "c0", {"is_seed": True})
    seed = make_task(TaskGroup.objects.get(), id="s", is_seed=True, parents=[Task(pk="c1")])
    reset("x")

    complete(lease_of("x"), 2)

    assert in_group() == {"x", "c0", "s"}
    assert parents("s") == []
    assert row(seed)["pending_parents"] == 0


def test_what_is_complete_stays_if_it_was_chosen_so(maker):
    complete(lease_of("c0"), "kept")
    reset("x", keep_complete=True)

    complete(lease_of("x"), 2, [{"id": "c0"}, {"id": "c2", "parentIds": ["c0"]}])

    assert in_group() == {"x", "c0", "c2"}
    assert (row(Task(pk="c0"))["is_complete"], row(Task(pk="c0"))["output"]) == (True, "kept")
    assert states("c2") == {"c2": (False, 0)}


def test_the_choice_holds_for_one_answer(maker):
    complete(lease_of("c0"), "kept")
    reset("x", keep_complete=True)
    complete(lease_of("x"), 2)
    assert in_group() == {"x", "c0"}
    reset("x")

    complete(lease_of("x"), 3)

    assert in_group() == {"x"}


def test_complete_descendants_stay_too_if_it_was_chosen_so(maker):
    group = TaskGroup.objects.get()
    below = make_task(group, id="below", parents=[Task(pk="c0")])
    edit.complete_task(group.pk, "below", output=1)
    reset("x", keep_complete=True)

    complete(lease_of("x"), 2)

    assert in_group() == {"x", "below"}
    assert row(below)["output"] == 1


# --- All ways to run again ---


def test_an_attempt_that_failed_with_children_made_none(maker):
    lone = make_task(id="y", error_delay_in_seconds=0)
    answer(lease_of("y"), 200, {"error": "boom", "children": [{"id": "d", "worker": "w"}]})
    make_due(lone)

    complete(lease_of("y"), 1, children("d"))

    assert row(Task(pk="d"))["created_by"] == "y"


def test_a_failed_attempt_of_a_rerun_leaves_the_earlier_children(maker):
    reset("x")
    fail(lease_of("x"))

    assert in_group() == {"x", "c0", "c1"}


def test_a_task_completed_by_hand_keeps_its_children(maker):
    reset("x")
    edit.complete_task(maker.group_id, "x", output=1)

    assert in_group() == {"x", "c0", "c1"}


@pytest.mark.parametrize("way", ["rerun", "uncomplete", "reset_group"])
def test_every_way_to_run_again_takes_the_same_children(maker, way):
    group = maker.group_id
    if way == "rerun":
        edit.rerun_task(group, "x", {"input": 1})
    elif way == "uncomplete":
        edit.edit_task(group, "x", {"is_complete": False})
    else:
        control.reset_group(group)

    complete(lease_of("x"), 2, children("c0", "c1"))

    assert in_group() == {"x", "c0", "c1"}
    assert row(Task(pk="x"))["errors"] == []


def test_a_late_answer_changes_nothing_of_the_children(maker):
    reset("x")
    late = lease_of("x")
    reset_group_and_end_calls()
    complete(lease_of("x"), 2, children("c0", "c1"))

    settled = settle([Settlement(late, completed(3, children("c0", "other")), 200)])

    assert (settled.live, settled.late) == (0, 1)
    assert in_group() == {"x", "c0", "c1"}


def test_late_and_current_answers_in_one_batch(maker):
    reset("x")
    late = lease_of("x")
    reset_group_and_end_calls()
    current = lease_of("x")

    settle_each(
        [
            Settlement(late, completed(3, children("c0", "other")), 200),
            Settlement(current, completed(2, children("c0")), 200),
        ]
    )

    assert in_group() == {"x", "c0"}
    assert row(Task(pk="x"))["output"] == 2


def test_a_child_answers_in_the_batch_in_which_its_maker_answers_again(maker):
    """What the child did counts, and then its maker's answer takes it back."""
    running = lease_of("c0")
    reset("x")
    again = lease_of("x")

    settled = settle_each(
        [
            Settlement(again, completed(2, children("c0")), 200),
            Settlement(running, completed(1, children("d")), 200),
        ]
    )

    assert (settled.live, settled.late, settled.left) == (2, 0, ())
    assert in_group() == {"x", "c0", "d"}
    assert states("c0", "d") == {"c0": (False, 0), "d": (False, 1)}


def test_grandchildren_are_dealt_with_by_their_own_maker(maker):
    complete(lease_of("c0"), 1, children("d0", "d1"))
    for lease in claim_all():
        complete(lease)
    control.reset_group(maker.group_id)

    complete(lease_of("x"), 2, children("c0", "c1"))
    assert in_group() == {"x", "c0", "c1", "d0", "d1"}
    assert states("d0") == {"d0": (False, 1)}
    complete(lease_of("c0"), 2, children("d1"))

    assert in_group() == {"x", "c0", "c1", "d1"}


def test_a_rescued_rerun_takes_the_same_children(maker):
    reset("x")
    claim_all()
    SchedulerProcess.objects.update(beat_at=Now() - timedelta(hours=1))
    while rescue.rescue(lease_seconds=30) >= 0:
        pass
    end_calls()
    make_due()

    complete(lease_of("x"), 2, children("c0", "c1"))

    assert in_group() == {"x", "c0", "c1"}


def run_demo() -> int:
    """Run all that is ready until nothing is, with the demo's own workers; return how many ran."""
    ran = 0
    while leases := claim_all():
        for lease in leases:
            called = workers.answer(lease.worker, workers.Call(), now=timezone.now())
            answer(lease, called.status, called.body)
            ran += 1
    return ran


def test_the_demo_group_has_as_many_tasks_after_each_run():
    group = start_demo_group()
    assert run_demo() == 5
    first = in_group()

    for _ in range(2):
        control.reset_group(group.pk)
        assert in_group() == first
        assert run_demo() == 5
        assert Task.objects.filter(is_complete=True).count() == len(in_group()) == 5
        assert TaskGroup.objects.get().task_count == 5
        assert len(in_group() & first) == 1  # worker-c gives its children other ids each time
        first = in_group()


# --- A question before ---


def test_a_preview_tells_what_the_next_answer_replaces(maker):
    group = TaskGroup.objects.get()
    make_task(group, id="orphan", parents=[Task(pk="c0")])
    make_task(group, id="stays", parents=[Task(pk="c1"), make_task(group, id="other")])
    edit.edit_task(group.pk, "c1", {"is_seed": True})
    complete(lease_of("c0"))

    assert set(control.would_replace(["x"])) == {"c0", "orphan"}
    assert control.would_replace(["x"], keep_complete=True) == []
    assert set(control.would_replace(["x", "c0"], keep_complete=True)) == {"c0", "orphan"}
    assert control.would_replace(["other", "orphan"]) == []


# --- Keys ---


def test_what_a_task_made_goes_when_another_of_its_key_completes_it():
    group = make_group()
    make_task(group, id="a", key="k")
    complete(lease_of("a"), 1, children("c0"))
    make_task(group, id="b", key="k")
    reset("a")
    Task.objects.filter(pk="a").update(remaining_attempts=0)  # so that b runs for both

    complete(lease_of("b"), 2, children("c1"))

    assert in_group() == {"a", "b", "c1"}
    assert row(Task(pk="a"))["merged_into"] == "b"


def test_children_pass_to_the_task_of_the_key_that_runs_for_their_maker():
    group = make_group()
    make_task(group, id="a", key="k")
    complete(lease_of("a"), 1, children("c0", "c1"))
    make_task(group, id="b", key="k")
    reset("a")
    Task.objects.filter(pk="a").update(remaining_attempts=0)

    complete(lease_of("b"), 2, children("c0"))

    assert in_group() == {"a", "b", "c0"}
    assert row(Task(pk="c0"))["created_by"] == "b"
    assert parents("c0") == ["b"]


def test_a_batch_with_such_a_key_is_written_whole():
    group = make_group()
    make_task(group, id="a", key="k")
    complete(lease_of("a"), 1, children("c0"))
    make_task(group, id="b", key="k")
    make_task(group, id="other")
    reset("a")
    Task.objects.filter(pk="a").update(remaining_attempts=0)
    leases = [lease for lease in claim_all() if lease.task_id in ("b", "other")]

    settled = settle_each([Settlement(lease, completed(2), 200) for lease in leases])

    assert (settled.live, settled.late, settled.left) == (2, 0, ())
    assert in_group() == {"a", "b", "other"}


# --- Tasks that are not its own ---


def test_a_task_of_a_person_is_no_child_and_the_error_says_so(maker):
    make_task(TaskGroup.objects.get(), id="mine", is_paused=True)
    reset("x")

    complete(lease_of("x"), 2, children("c0", "mine"))

    assert in_group() == {"x", "c0", "c1", "mine"}
    assert row(maker)["is_complete"] is False
    (error,) = row(maker)["errors"]
    assert error == "child id 'mine' is in use already, by a task that no answer to this one made"


@pytest.mark.parametrize("where", ["same", "other"])
def test_a_child_of_another_task_is_no_child_of_this(maker, where):
    group = TaskGroup.objects.get() if where == "same" else make_group()
    make_task(group, id="y")
    complete(lease_of("y"), 1, children("d"))
    reset("x")

    complete(lease_of("x"), 2, children("d"))

    assert "'d' is in use already" in row(maker)["errors"][0]
    assert row(Task(pk="d"))["created_by"] == "y"


def test_a_task_recreated_under_its_makers_id_is_another_maker(maker):
    group = TaskGroup.objects.get()
    control.delete_tasks(group.pk, ["x"], children="detach")
    make_task(group, id="x", error_delay_in_seconds=0)
    fail(lease_of("x"))
    make_due(Task(pk="x"))

    complete(lease_of("x"), 1, children("c0"))

    assert in_group() == {"x", "c0", "c1"}
    assert "'c0' is in use already" in row(Task(pk="x"))["errors"][-1]


def test_a_child_whose_edge_was_cut_is_still_its_own(maker):
    edit.edit_task(maker.group_id, "c0", {"parent_ids": []})
    edit.edit_task(maker.group_id, "c1", {"parent_ids": []})
    reset("x")

    complete(lease_of("x"), 2, children("c0"))

    assert in_group() == {"x", "c0"}
    assert parents("c0") == ["x"]


def test_a_child_that_its_maker_waits_for_is_left_alone(maker):
    group = maker.group_id
    edit.edit_task(group, "c0", {"parent_ids": []})
    reset("x")
    edit.edit_task(group, "x", {"parent_ids": ["c0"]})
    complete(lease_of("c0"))

    complete(lease_of("x"), 2, children("c1"))
    assert in_group() == {"x", "c0", "c1"}
    reset("x")
    complete(lease_of("x"), 2, children("c0"))

    assert row(maker)["is_complete"] is False
    assert "'c0' is in use already" in row(maker)["errors"][0]


def test_an_answer_that_names_its_own_children_looks_no_further(maker, monkeypatch):
    """A chain whose links make each other would cost the square of its length."""
    reset("x")
    lease = lease_of("x")

    with CaptureQueriesContext(connection) as queries:
        complete(lease, 2, children("c0", "c1"))

    assert in_group() == {"x", "c0", "c1"}
    assert not [query for query in queries if "RECURSIVE" in query["sql"]]


# --- Much that earlier answers made ---


@pytest.fixture
def much(maker, monkeypatch):
    """More below the maker than goes in one transaction: c0, c1, two of each, and one below all."""
    monkeypatch.setattr(earlier_children, "MOST_BELOW", 3)
    monkeypatch.setattr(slices, "FIRST", 2)
    below = [wire(id=f"{c}.{n}", parent_ids=[c]) for c in ("c0", "c1") for n in range(2)]
    last = wire(id="last", parent_ids=[task["id"] for task in below])
    create.create_tasks(maker.group_id, [*below, last])
    reset("x")
    return Settlement(lease_of("x"), completed(2, children("new")), 200)


def cleared(settlement, *, seconds=60.0):
    named = [child.id for child in settlement.outcome.children]
    return earlier_children.clear(
        settlement.lease, named, within=set_aside.CLEARED.within, seconds=seconds
    )


def test_what_is_too_much_for_a_turn_is_left_and_changes_nothing(much):
    before = in_group()

    with hastily(set_aside.IN_TURN):
        (left,) = settle_each([much]).left

    assert (left.why, in_group()) == (Why.MUCH, before)
    assert row(Task(pk="x"))["is_complete"] is False


def test_it_is_cleared_away_in_slices_children_first(much, monkeypatch):
    told = []
    take_away = deleting.take_away

    def note(group_id, going, **kwargs):
        told.append(list(going))
        take_away(group_id, going, **kwargs)

    monkeypatch.setattr(deleting, "take_away", note)

    assert cleared(much)

    assert in_group() == {"x"}
    assert "last" in told[0]
    assert {"c0", "c1"} <= {*told[-1], *told[-2]}
    with hastily(set_aside.IN_TURN):
        assert settle_each([much]).live == 1
    assert in_group() == {"x", "new"}
    assert TaskGroup.objects.get().task_count == 2


def test_it_goes_on_where_its_time_was_over(much):
    assert not cleared(much, seconds=0)
    assert "last" in in_group()

    assert cleared(much)


def test_nothing_is_cleared_away_for_an_answer_that_came_too_late(much):
    Task.objects.filter(pk="x").update(leased_by="another")

    assert not cleared(much)

    assert {"c0", "last"} <= in_group()


def test_seeds_and_what_is_named_again_stay_where_much_goes(much):
    Task.objects.filter(pk="c1.0").update(is_seed=True)
    again = replace(much, outcome=completed(2, children("c0")))

    assert cleared(again)

    assert in_group() == {"x", "c0", "c0.0", "c0.1", "c1.0", "last"}


def test_what_is_made_meanwhile_goes_too(much, monkeypatch):
    take_away = deleting.take_away

    def make_one(group_id, going, **kwargs):
        take_away(group_id, going, **kwargs)
        if "c1" in in_group() and "late" not in in_group():
            create.create_tasks(group_id, [wire(id="late", parent_ids=["c1"])])

    monkeypatch.setattr(deleting, "take_away", make_one)

    assert cleared(much)

    assert in_group() == {"x"}


# --- Others meanwhile ---


@pytest.mark.django_db(transaction=True)
def test_it_waits_for_whoever_has_the_group():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer")
    group = make_group()
    make_task(group, id="x")
    complete(lease_of("x"), 1, children("c0"))
    reset("x")
    lease = lease_of("x")
    held, done = threading.Event(), threading.Event()

    def hold():
        with control.alone(group.pk):
            held.set()
            done.wait(10)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    threading.Timer(0.2, done.set).start()
    complete(lease, 2, children("c0"))
    holder.join()

    assert in_group() == {"x", "c0"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgres
def test_no_other_answer_of_its_group_is_written_beside_it():
    group = make_group()
    make_task(group, id="x")
    make_task(group, id="other")
    first = {lease.task_id: lease for lease in claim_all()}
    complete(first["x"], 1, children("c0"))
    reset("x")
    again = Settlement(lease_of("x"), completed(2, children("c1")), 200)
    meant = Settlement(first["other"], completed(1), 200)

    def settled(settlement):
        with hastily(set_aside.IN_TURN):
            return settle_each([settlement])

    with psycopg.connect(database_url()) as session:  # as an ordinary answer holds it
        session.execute(f"SELECT FROM crew_taskgroup WHERE id = '{group.pk}' FOR KEY SHARE")
        (left,) = settled(again).left
    with transaction.atomic():
        assert settled(again).live == 1
        (beside,) = in_threads(settled, [meant])

    assert left.why is Why.GROUP
    assert [each.why for each in beside.left] == [Why.GROUP]
    assert settled(meant).live == 1


def test_a_full_group_runs_again(maker, settings):
    settings.CREW_MAX_GROUP_TASKS = 3
    reset("x")

    complete(lease_of("x"), 2, children("d0", "d1"))

    assert in_group() == {"x", "d0", "d1"}


def test_an_attempt_knows_whether_earlier_ones_made_children(maker):
    make_task(TaskGroup.objects.get(), id="failed", error_delay_in_seconds=0)
    leases = {lease.task_id: lease for lease in claim_all()}
    fail(leases["failed"])
    make_due(Task(pk="failed"))
    reset("x")

    again = {lease.task_id: lease for lease in claim_all()}

    assert {id_: lease.has_made for id_, lease in (leases | again).items()} == {
        "c0": False,
        "c1": False,
        "failed": False,
        "x": True,
    }

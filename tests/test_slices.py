"""Verbs on very many tasks: in slices, between which the group is sound and nothing starts."""

import contextlib
import random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks import audit, control
from tasks.errors import ConflictError, NotFoundError
from tasks.models import AuditEntry, ParentEdge, Task, TaskGroup
from tasks.rules import graph
from tasks.store import edges
from tasks.upkeep import invariants
from tasks.verbs import slices

from .api_client import TASKS
from .factories import (
    claim_all,
    claim_ids,
    claim_one,
    complete,
    make_group,
    make_scheduler,
    make_task,
    pending,
    wire,
)
from .test_control import *  # noqa: F403  all that is said of verbs holds in slices too

# Many, one by one, take long.
del test_verbs_take_more_ids_than_a_database_takes_parameters  # noqa: F821
# Of many that went, watchers are told to load the group again.
del test_a_reset_with_seeds_keeps_only_them  # noqa: F821
del test_a_deleted_group_takes_everything_along  # noqa: F821
del test_delete_cascades_to_descendants_left_without_a_parent  # noqa: F821

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A group of two tasks is a large one, and a slice is of one task."""
    monkeypatch.setattr(slices, "WHOLE", 1)
    monkeypatch.setattr(slices, "LIGHT", 1)
    for name in ("FIRST", "FEWEST", "MOST"):
        monkeypatch.setattr(slices, name, 1)


@pytest.fixture
def between(monkeypatch):
    """What is called between two slices; it may be given more to do."""
    calls = []
    monkeypatch.setattr(slices, "_give_way", lambda: [call() for call in calls])
    return calls


def sound():
    for invariant in invariants.INVARIANTS:
        assert invariant.find() == [], invariant.name


def family(**fields):
    """A seed, a chain below it, a diamond below that, and duplicates of a key."""
    tasks = [
        wire(id="a", is_seed=fields.get("seeds", False)),
        wire(id="b", parent_ids=["a"]),
        wire(id="c", parent_ids=["b"]),
        wire(id="d", parent_ids=["b"]),
        wire(id="e", parent_ids=["c", "d"]),
        wire(id="k1", key="k"),
        wire(id="k2", key="k"),
        wire(id="k3", key="k", parent_ids=["a"]),
    ]
    return make_group(id="g", tasks=tasks)


def run_some(dice):
    for lease in claim_all():
        if dice.random() < 0.7:
            complete(lease, 1, [{"worker": "w"}] * dice.randint(0, 1))


VERBS = {
    "pause": lambda: control.pause_group("g"),
    "resume": lambda: control.resume_group("g"),
    "reset": lambda: control.reset_group("g"),
    "cancel": lambda: control.cancel_group("g"),
    "retry": lambda: control.retry_group("g"),
    "delete": lambda: control.delete_group("g"),
    "delete the head": lambda: control.delete_tasks("g", ["a"]),
    "detach": lambda: control.delete_tasks("g", ["b", "a"], children="detach"),
    "delete all": lambda: control.delete_tasks("g", edges.ids_in("g")),
    "reset tasks": lambda: control.reset_tasks("g", edges.ids_in("g")),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seeds", [False, True])
@pytest.mark.parametrize("verb", VERBS)
def test_the_store_is_sound_between_any_two_slices(between, verb, seeds, seed):
    """While others claim and answer, as they do."""
    dice = random.Random(f"{verb} {seed}")
    make_scheduler()
    family(seeds=seeds)
    run_some(dice)
    run_some(dice)
    between += [sound, lambda: run_some(dice), sound]

    with contextlib.suppress(ConflictError):
        VERBS[verb]()

    sound()


def all_complete():
    for _ in range(9):
        for lease in claim_all():
            complete(lease, 1)
    assert not Task.objects.incomplete().exists()


@pytest.mark.parametrize(
    "verb", [lambda: control.reset_group("g"), lambda: control.reset_tasks("g", list("edcba"))]
)
def test_no_task_of_a_reset_starts_before_its_parents_are_reset(between, verb):
    group = chain("abcde", id="g")
    make_scheduler()
    all_complete()
    started = []
    between.append(lambda: started.extend(claim_ids()))

    verb()
    started += claim_ids()

    assert started == ["a"]
    assert pending() == {"a": 0, "b": 1, "c": 1, "d": 1, "e": 1}
    assert set(group.tasks.values_list("remaining_attempts", flat=True)) == {5}


def test_nothing_of_a_group_that_is_deleted_starts_for_that(between):
    """`late` is older than its parent, and so outlives it for a slice."""
    make_group(id="g", tasks=[wire(id="late"), wire(id="a"), wire(id="b")])
    ParentEdge.objects.create(child_id="late", parent_id="b", position=0)
    Task.objects.filter(pk="late").update(pending_parents=1)
    make_scheduler()
    started = []
    between.append(lambda: started.extend(claim_ids()))

    assert control.delete_group("g") == 3

    assert "late" not in started
    assert not TaskGroup.objects.exists()


@pytest.mark.parametrize("children", ["cascade", "detach", "refuse"])
def test_a_slice_of_a_delete_takes_no_more_than_its_tasks(between, children):
    chain("abcde", id="g")
    left = []
    between.append(lambda: left.append(Task.objects.count()))

    gone = control.delete_tasks("g", list("cabed"), children=children)

    assert gone == list("edcba")
    assert left == [4, 3, 2, 1]


def test_children_that_are_made_between_slices_go_too(between):
    make_group(id="g", tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])
    lease = claim_one()
    between.append(lambda: complete(lease, 1, [{"id": "new"}]))

    gone = control.delete_tasks("g", ["a"])

    assert sorted(gone) == ["a", "b", "new"]
    assert not Task.objects.exists()


def test_a_cancel_reaches_what_is_made_between_slices(between):
    make_group(id="g", tasks=[wire(id="a"), wire(id="b"), wire(id="c")])
    leases = claim_all()
    last = max(leases, key=lambda lease: lease.task_id)
    between.append(lambda: complete(last, 1, [{"id": "new"}]))

    control.cancel_group("g")

    assert claim_ids() == []


class Killed(Exception):
    pass


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seeds", [False, True])
@pytest.mark.parametrize(
    "verb", ["pause", "reset", "cancel", "delete", "reset tasks", "delete all"]
)
def test_a_verb_that_was_killed_between_slices_is_finished_by_the_next(between, verb, seeds):
    make_scheduler()
    family(seeds=seeds)
    run_some(random.Random(1))
    cuts = []

    def kill():
        cuts.append(1)
        if len(cuts) == 3:
            raise Killed

    between.append(kill)
    with pytest.raises(Killed):
        VERBS[verb]()
    sound()

    VERBS[verb]()

    sound()
    left = Task.objects.filter(group="g")
    if verb in ("delete", "delete all"):
        assert not left.exists()
    elif verb == "pause":
        assert not left.filter(is_paused=False).exists()
    elif verb == "cancel":
        assert not left.filter(is_complete=False, remaining_attempts__gt=0).exists()
    else:
        assert not left.filter(is_complete=True).exists()
        assert set(left.values_list("remaining_attempts", flat=True)) == {5}


def test_a_slice_that_finds_a_task_running_ends_the_reset_and_leaves_no_task_without_attempts(
    between,
):
    make_group(id="g", tasks=[wire(id="a"), wire(id="b"), wire(id="c")])
    between.append(lambda: claim_ids())

    with pytest.raises(ConflictError, match="is executing"):
        control.reset_tasks("g", ["a", "b", "c"])

    assert set(Task.objects.values_list("remaining_attempts", flat=True)) == {5}


@pytest.mark.parametrize("verb", ["reset", "cancel", "delete", "delete the head", "pause"])
def test_a_verb_in_slices_is_one_entry_of_the_history(verb):
    family()

    with audit.by("ann"):
        VERBS[verb]()

    (entry,) = AuditEntry.objects.all()
    assert entry.count == (5 if verb == "delete the head" else 8) or verb == "delete the head"


def test_ids_of_nowhere_are_refused_before_anything_goes():
    family()
    other = make_task(id="foreign")

    for verb in (control.delete_tasks, control.reset_tasks):
        with pytest.raises(NotFoundError):
            verb("g", ["a", "b", other.pk])

    assert Task.objects.count() == 9


@pytest.mark.usefixtures("no_auth")
def test_a_question_before_a_verb_locks_nothing(api):
    family()

    with CaptureQueriesContext(connection) as asked:
        for verb in ("delete", "reset", "pause", "retry"):
            result = api.post(f"{TASKS}/{verb}?all=1&dryRun=1").json
            assert result["count"] == 8

    sql = "\n".join(query["sql"] for query in asked)
    assert "FOR UPDATE" not in sql
    assert "FOR NO KEY" not in sql
    assert connection.vendor == "postgresql" or "SAVEPOINT" not in sql


def chain(ids, **fields):
    parents = [[], *([id_] for id_ in ids)]
    tasks = [wire(id=i, parent_ids=p) for i, p in zip(ids, parents, strict=False)]
    return make_group(tasks=tasks, **fields)


def layers(deep, wide):
    ids = [[f"l{layer}-{n}" for n in range(wide)] for layer in range(deep)]
    tasks = [wire(id="head")]
    for above, row in zip([["head"], *ids[:-1]], ids, strict=True):
        tasks += [wire(id=id_, parent_ids=above) for id_ in row]
    return make_group(tasks=tasks)


def test_what_is_below_costs_one_statement_however_deep():
    chain([f"t{n}" for n in range(300)])
    layers(20, 5)

    with CaptureQueriesContext(connection) as asked:
        assert len(control.would_delete(["t0"])) == 300
        assert len(control.would_delete(["head"])) == 101

    assert sum("RECURSIVE" in query["sql"] for query in asked) == 2
    assert sum("crew_" in query["sql"] for query in asked) == 2


def test_children_come_first():
    edges_ = [("b", "a"), ("c", "b"), ("d", "a"), ("d", "c"), ("d", "out")]

    ordered = graph.children_first(["a", "b", "c", "d"], edges_)

    assert ordered == ["d", "c", "b", "a"]


def test_what_has_another_parent_stays_and_what_is_below_it():
    edges_ = [("b", "a"), ("c", "b"), ("c", "x"), ("d", "c"), ("e", "b")]

    assert sorted(graph.with_orphans(["a"], edges_)) == ["a", "b", "e"]


def test_a_slice_takes_as_many_as_take_a_moment(monkeypatch):
    """As long as `AIM`, and no more than the few or the many that it may be."""
    monkeypatch.undo()
    pace = slices._Pace(1_000)
    sizes = []
    for seconds in (0.1, 0.4, 0.8, 100, 100, 0, 0, 0, 0, 0, 0, 0, 0):
        pace.took(seconds)
        sizes.append(pace.size)

    assert sizes[:4] == [2_000, 2_000, 1_000, 250]
    assert sizes[4:7] == [250, 500, 1_000]
    assert sizes[-1] == 10_000

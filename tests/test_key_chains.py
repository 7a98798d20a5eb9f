"""A task of a key never follows its own ancestor; all others of the key do."""

import pytest

from tasks import control, edit
from tasks.engine.settle import settle, settle_each
from tasks.engine.settlement import Settlement
from tasks.models import Task
from tasks.sql import duplicates, leaders, shared_outcomes
from tasks.upkeep.invariants import INVARIANTS

from .factories import claim_all, claim_ids, complete, completed, fail, make_group, row, wire

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_is_broken():
    yield
    broken = {i.name: list(i.search()) for i in INVARIANTS}
    assert {name: ids for name, ids in broken.items() if ids} == {}


def graph(edges: str, key: str = "k", others: str = ""):
    """`a>b b>c`; all have the key but those of `others`."""
    pairs = [edge.split(">") for edge in edges.split()]
    ids = dict.fromkeys(id_ for pair in pairs for id_ in pair)
    tasks = [
        wire(
            id=id_,
            key="" if id_ in others else key,
            parent_ids=[pair[0] for pair in pairs if len(pair) == 2 and pair[1] == id_],
            error_delay_in_seconds=0,
        )
        for id_ in ids
    ]
    return make_group(tasks=tasks)


def complete_ids() -> set[str]:
    return set(Task.objects.filter(is_complete=True).values_list("id", flat=True))


def following() -> set[str]:
    rows = Task.objects.filter(merged_into__isnull=False, is_complete=False)
    return set(rows.values_list("id", flat=True))


def run_all() -> list[str]:
    """Complete all that becomes ready; the ids in the order in which they ran."""
    ran = []
    while leases := claim_all():
        for lease in leases:
            ran.append(lease.task_id)
            complete(lease, lease.task_id)
    return ran


def test_each_task_of_a_chain_of_one_key_runs():
    graph("a>b b>c")

    assert run_all() == ["a", "b", "c"]
    assert dict(Task.objects.values_list("id", "output")) == {"a": "a", "b": "b", "c": "c"}


@pytest.mark.parametrize(
    ("edges", "others", "ran"),
    [
        ("a>x x>y y>b", "xy", ["a", "x", "y", "b"]),  # others between them
        ("a>x a>y x>b y>b", "xy", ["a", "x", "y", "b"]),  # a diamond
        ("a>b c", "", ["a", "b"]),  # c is a duplicate of a, or of b
        ("a>b x>c a>c", "x", ["a", "x", "b"]),  # b and c are duplicates of one another
    ],
)
def test_however_many_edges_lie_between(edges, others, ran):
    graph(edges, others=others)

    assert sorted(run_all()) == sorted(ran)
    assert complete_ids() == set(Task.objects.values_list("id", flat=True))


def test_duplicates_with_parents_follow_all_the_same():
    graph("x>b y>c a", others="xy")
    (lease,) = [lease for lease in claim_all() if lease.task_id == "a"]

    assert following() == {"b", "c"}
    complete(lease, 1)

    assert complete_ids() == {"a", "b", "c"}


def test_an_error_of_an_ancestor_is_not_shared():
    graph("a>b c")
    (lease,) = [lease for lease in claim_all() if lease.task_id in ("a", "c")]
    assert following() == ({"c"} if lease.task_id == "a" else {"a", "b"})
    if lease.task_id == "c":
        pytest.skip("the other of the two ran first")

    fail(lease)

    assert row(Task(pk="b"))["errors"] == []
    assert row(Task(pk="b"))["remaining_attempts"] == 5
    assert row(Task(pk="c"))["errors"] == ["boom"]


def test_a_task_whose_parents_are_complete_does_not_follow_an_ancestor_that_was_reset():
    group = graph("a>x x>b", others="x")
    for _ in range(2):
        complete(claim_all()[0], 1)
    control.reset_tasks(group.pk, ["a"])
    leases = claim_all()
    Task.objects.filter(pk="a").update(run_after="2020-01-01T00:00:00Z")

    ran = [lease.task_id for lease in leases]
    if ran == ["a"]:
        assert following() == set()
        complete(leases[0], 1)
        assert complete_ids() == {"a", "x"}
        assert claim_ids() == ["b"]


def test_a_task_that_comes_to_hang_below_its_leader_is_let_go():
    group = graph("a x y>b", others="xy")
    leases = {lease.task_id: lease for lease in claim_all()}
    leader = "a" if "a" in leases else "b"
    assert following() == {"b"}
    complete(leases["x"])

    edit.edit_task(group.pk, "y", {"parent_ids": [leader]}) if "y" not in leases else None

    if "y" not in leases:
        assert following() == set()


def test_an_edge_far_above_lets_a_follower_go():
    group = make_group(
        tasks=[
            wire(id="a", key="k"),
            wire(id="m", is_paused=True),
            wire(id="n", is_paused=True, parent_ids=["m"]),
            wire(id="b", key="k", parent_ids=["n"]),
            wire(id="c", key="k", parent_ids=["n"]),
            wire(id="d", key="k", is_paused=True),
        ]
    )
    (lease,) = claim_all()
    assert following() == {"b", "c", "d"}

    edit.edit_task(group.pk, "m", {"parent_ids": ["a"]})

    assert following() == {"d"}
    complete(lease, 1)
    assert complete_ids() == {"a", "d"}


def test_a_key_that_is_given_later_counts_as_one_from_the_start():
    group = graph("a>b b>c", others="c")
    lease = claim_all()[0]
    edit.edit_task(group.pk, "c", {"key": "k"})

    complete(lease, 1)

    assert complete_ids() == {"a"}


def test_children_of_a_task_of_the_key_run():
    group = graph("a d>e", others="d")
    leases = {lease.task_id: lease for lease in claim_all()}

    children = [
        {"id": "c0", "key": "k"},
        {"id": "c1", "key": "k", "parentIds": ["c0"]},
        {"id": "c2", "key": "k"},
    ]
    complete(leases["a"], 1, children)
    assert complete_ids() == {"a", "e"}
    complete(leases["d"], 1)
    ran = run_all()

    assert ran in (["c0", "c1"], ["c2", "c1"], ["c0", "c2", "c1"])
    assert Task.objects.filter(group=group, is_complete=False).count() == 0


def test_several_leaders_in_one_batch_keep_to_their_own_descendants():
    graph("a>b")
    graph("l>m n", key="l")
    leases = [lease for lease in claim_all() if lease.task_id in "al"]
    if len(leases) < 2:
        pytest.skip("n ran first")

    settle([Settlement(lease, completed(1), 200) for lease in leases])

    assert complete_ids() == {"a", "l", "n"}


def test_in_parts_as_at_once(monkeypatch):
    monkeypatch.setattr("tasks.engine.parts.TASKS_PER_STATEMENT", 2)
    monkeypatch.setattr("tasks.engine.parts.FOUND", 3)
    twins = [wire(id=f"t{n}", key="k", parent_ids=["x"]) for n in range(9)]
    below = [wire(id=f"b{n}", key="k", parent_ids=["a", "x"]) for n in range(9)]
    make_group(tasks=[wire(id="a", key="k"), wire(id="x", is_paused=True), *below, *twins])
    (lease,) = claim_all()

    settle_each([Settlement(lease, completed(1), 200)])

    assert complete_ids() == {"a", *(f"t{n}" for n in range(9))}


def short(statement, reach: int):
    """The statement, with that reach."""
    texts = (statement.postgresql, statement.sqlite)
    changed = [text.replace(str(duplicates.REACH), str(reach)) for text in texts]
    return type(statement)(*changed)


def test_what_a_walk_does_not_reach_has_its_turn_when_it_waits_for_nothing(monkeypatch):
    """The walk is bounded: a duplicate that waits is not decided on behind its end."""
    for module, name in [(shared_outcomes, "DUPLICATES"), (leaders, "FOLLOW")]:
        monkeypatch.setattr(module, name, short(getattr(module, name), 3))
    chain = [wire(id=f"n{n}", parent_ids=[f"n{n - 1}" if n else "a"]) for n in range(8)]
    make_group(
        tasks=[
            wire(id="a", key="k"),
            *chain,
            wire(id="below", key="k", parent_ids=["n7"]),
            wire(id="y", is_paused=True),
            wire(id="waits", key="k", parent_ids=["y"]),
            wire(id="twin", key="k", is_paused=True),
        ]
    )
    (lease,) = claim_all()
    assert following() == {"twin"}

    complete(lease, 1)

    assert complete_ids() == {"a", "twin"}

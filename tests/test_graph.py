"""The rules of the graph, without a store."""

from graphlib import CycleError, TopologicalSorter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import InvalidInputError
from tasks.rules.graph import check_acyclic, check_new, outside_parents
from tasks.rules.spec import TaskSpec


def specs(**parents):
    return [TaskSpec(id=id_, parent_ids=tuple(names)) for id_, names in parents.items()]


@pytest.mark.parametrize(
    "tasks",
    [
        [],
        specs(a=""),
        specs(a="", b="a", c="a", d="bc"),
        specs(d="bc", c="a", b="a", a=""),
        specs(a="x", b="xy"),
    ],
    ids=range(5),
)
def test_what_is_a_graph(tasks):
    check_new(tasks, max_parents=2)


@pytest.mark.parametrize(
    ("tasks", "match"),
    [
        (specs(a="") + specs(b="") + specs(a=""), "^duplicate task id: a$"),
        (specs(x="", a="a"), r"^task 1 \(a\) names itself as a parent$"),
        (specs(x="", a="xyz"), r"^task 1 \(a\) has more than 2 parents$"),
        (specs(a="b", b="a"), "^tasks form a cycle: (a -> b -> a|b -> a -> b)$"),
        (specs(a="c", b="a", c="b"), "^tasks form a cycle: "),
        (specs(x="", y="x", a="bx", b="a"), "^tasks form a cycle: (a -> b -> a|b -> a -> b)$"),
    ],
)
def test_what_is_not(tasks, match):
    with pytest.raises(InvalidInputError, match=match):
        check_new(tasks, max_parents=2)


def test_a_long_cycle_is_shown_by_ten_of_its_ids():
    ring = {f"t{n}": (f"t{(n + 1) % 1_000}",) for n in range(1_000)}

    with pytest.raises(InvalidInputError) as caught:
        check_acyclic(ring)

    ids = str(caught.value).removeprefix("tasks form a cycle: ").split(" -> ")
    assert ids[-1] == "..."
    assert len(set(ids[:-1])) == 10


def test_a_chain_of_a_hundred_thousand_needs_no_recursion():
    check_acyclic({f"t{n}": (f"t{n + 1}",) for n in range(100_000)})


def test_outside_parents_are_those_the_store_must_have():
    tasks = specs(a="xb", b="y", c="x")

    assert outside_parents(tasks, {"a", "b", "c"}) == {"x", "y"}


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcdefgh"),
        st.lists(st.sampled_from("abcdefghxyz"), unique=True).map(tuple),
    )
)
def test_a_cycle_is_found_and_named_in_whatever_order(parents):
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        with pytest.raises(InvalidInputError, match=" -> ".join(error.args[1][:10])):
            check_acyclic(parents)
    else:
        check_acyclic(parents)

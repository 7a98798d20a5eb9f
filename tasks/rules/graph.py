"""The rules of the graph: ids, parents, no cycle. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from ..errors import InvalidInputError
from .spec import TaskSpec

SHOWN = 10  # ids of a cycle named in an error
NAMED = 5  # workers of a key


def check_new(specs: Sequence[TaskSpec], *, max_parents: int) -> None:
    """Check what can be said of new tasks without the store, whatever their order.

    Raises InvalidInputError: an id twice, a task that is its own parent, too many parents, a
    cycle (with its ids). Parents that are not among `specs` are left to `outside_parents`.
    """
    ids = {spec.id for spec in specs}
    if len(ids) < len(specs):
        raise InvalidInputError(f"duplicate task id: {_first_twice(spec.id for spec in specs)}")
    for index, spec in enumerate(specs):
        if spec.id in spec.parent_ids:
            raise InvalidInputError(f"task {index} ({spec.id}) names itself as a parent")
        if len(spec.parent_ids) > max_parents:
            raise InvalidInputError(f"task {index} ({spec.id}) has more than {max_parents} parents")
    check_acyclic({spec.id: spec.parent_ids for spec in specs if spec.parent_ids})


def outside_parents(specs: Iterable[TaskSpec], inside: Collection[str]) -> set[str]:
    """The parents that must already be in the store."""
    return {parent for spec in specs for parent in spec.parent_ids if parent not in inside}


def with_orphans(
    ids: Iterable[str], edges: Iterable[tuple[str, str]], staying: Collection[str] = ()
) -> list[str]:
    """These, and all below them that is left without any parent when they go.

    `edges` are (child, parent): all those above whoever may be left. In linear time.
    """
    parents: defaultdict[str, set[str]] = defaultdict(set)
    below: defaultdict[str, list[str]] = defaultdict(list)
    for child, parent in edges:
        parents[child].add(parent)
        below[parent].append(child)
    going = dict.fromkeys(ids)
    waiting = list(going)
    while waiting:
        gone = waiting.pop()
        for child in below.get(gone, ()):
            parents[child].discard(gone)
            if not parents[child] and child not in going and child not in staying:
                going[child] = None
                waiting.append(child)
    return list(going)


def children_first(ids: Sequence[str], edges: Iterable[tuple[str, str]]) -> list[str]:
    """These, each after all of its descendants among them; `edges` are (child, parent)."""
    known = set(ids)
    above: defaultdict[str, list[str]] = defaultdict(list)
    left = dict.fromkeys(ids, 0)
    for child, parent in edges:
        if child in known and parent in known:
            above[child].append(parent)
            left[parent] += 1
    ordered = [id_ for id_ in ids if not left[id_]]
    for id_ in ordered:
        for parent in above.pop(id_, ()):
            left[parent] -= 1
            if not left[parent]:
                ordered.append(parent)
    return ordered


def check_acyclic(parents: dict[str, tuple[str, ...]]) -> None:
    """Raise InvalidInputError, with up to ten of its ids, if there is a cycle."""
    if _is_ordered(parents):
        return
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        cycle = error.args[1]
        shown = " -> ".join(cycle[:SHOWN])
        more = " -> ..." if len(cycle) > SHOWN else ""
        raise InvalidInputError(f"tasks form a cycle: {shown}{more}") from error


def keys_of_several_workers(specs: Iterable[TaskSpec]) -> list[str]:
    """What to tell of each key whose tasks have different workers: it may be a mistake."""
    workers: dict[str, dict[str, None]] = {}
    for spec in specs:
        if spec.key and not spec.is_complete:
            workers.setdefault(spec.key, {})[spec.worker] = None
    return [several_workers(key, list(names)) for key, names in workers.items() if len(names) > 1]


def several_workers(key: str, workers: Sequence[str]) -> str:
    named = ", ".join(name or "none" for name in workers[:NAMED])
    more = ", ..." if len(workers) > NAMED else ""
    return (
        f"key {key} has several workers ({named}{more}): one call to one of them completes the"
        " tasks of all"
    )


def _is_ordered(parents: dict[str, tuple[str, ...]]) -> bool:
    """Whether reading on, and then back, meets each task after its parents: most graphs do.

    Without it 100,000 tasks cost half a second. False says nothing.
    """
    waiting = set(parents)
    for ids in (parents, reversed(parents)):
        for id_ in ids:
            if id_ in waiting and waiting.isdisjoint(parents[id_]):
                waiting.discard(id_)
        if not waiting:
            return True
    return False


def _first_twice(ids: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(id_ for id_ in ids if id_ in seen or seen.add(id_))  # type: ignore[func-returns-value]

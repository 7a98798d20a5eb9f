"""Repair what can be derived from the rest of the store. Each repair says how many rows it touched.

Guards are repeated in the write, under the group's lock where a settle could come between.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import TypeVar

from django.db import transaction
from django.db.models import Exists, OuterRef

from ..models import Attempt, ParentEdge, Task, TaskGroup
from ..sql import create as create_sql
from ..sql import run, run_bounded
from ..store import changes, edges
from ..upkeep.invariants import INVARIANTS, stuck
from . import rescue

T = TypeVar("T")

ROWS_PER_STATEMENT = 200


def repair(name: str) -> int | None:
    """Repair what breaks the invariant of this name; return how many, None if nobody can."""
    return _REPAIRS[name]() if name in _REPAIRS else None


def _recount_parents() -> int:
    count = 0
    for some in _batches(_broken("pending_parents")):
        tasks = Task.objects.filter(id__in=some).order_by("group_id", "id")
        pairs = list(tasks.values_list("group_id", "id"))
        for group_id, members in groupby(pairs, key=lambda pair: pair[0]):
            count += _recount_parents_in(group_id, [id_ for _, id_ in members])
    return count


@transaction.atomic
def _recount_parents_in(group_id: str, ids: list[str]) -> int:
    run_bounded((create_sql.GROUP_ALONE, {"group": group_id}))
    edges.recount(group_id, ids)
    changes.tasks_changed((group_id, id_) for id_ in ids)
    changes.wake_schedulers()
    return len(ids)


def _recount_tasks() -> int:
    broken = _broken("task_count")
    for group_id in broken:
        with transaction.atomic():
            run(create_sql.GROUP_ALONE, {"group": group_id})
            count = Task.objects.filter(group_id=group_id).count()
            TaskGroup.objects.filter(pk=group_id).update(task_count=count)
            changes.group_changed(group_id, "update")
    return len(broken)


def _drop_edges() -> int:
    """Edges without one of their ends; whoever still has a parent is counted again after it."""
    exists = Task.objects.filter(pk=OuterRef("parent_id"))
    loose = ParentEdge.objects.filter(~Exists(exists))
    loose |= ParentEdge.objects.filter(~Exists(Task.objects.filter(pk=OuterRef("child_id"))))
    return loose._raw_delete(loose.db)


def _drop_attempts() -> int:
    loose = Attempt.objects.filter(~Exists(Task.objects.filter(pk=OuterRef("task_id"))))
    return loose._raw_delete(loose.db)


def _release_followers() -> int:
    """One whose leader is claimed this very moment is met and attached again by the claim."""
    pairs = list(stuck().values_list("group_id", "id"))
    released = 0
    for some in _batches(sorted(pairs, key=lambda pair: pair[1])):
        with transaction.atomic():
            ids = [id_ for _, id_ in some]
            released += stuck().filter(id__in=ids).update(merged_into=None)
            changes.tasks_changed(some)
            changes.wake_schedulers()
    return released


def _keep_own_outputs() -> int:
    """What everybody reads is its own: only the reference goes."""
    mixed = Task.objects.filter(shared_output__isnull=False)
    return sum(
        mixed.filter(id__in=some).update(shared_output=None)
        for some in _batches(_broken("one_output"))
    )


def _give_back_leases() -> int:
    """As any scheduler would."""
    return rescue.sweep_once()


def _end_cuts() -> int:
    """As a sweep would, and those of schedulers whose row is still there, silent."""
    stray = len(_broken("cut_call"))
    if stray:
        rescue.sweep_once()
    return stray


def _broken(name: str) -> list[str]:
    return list(next(i for i in INVARIANTS if i.name == name).find())


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    source = iter(rows)
    while batch := list(islice(source, ROWS_PER_STATEMENT)):
        yield batch


# In this order: a dropped edge changes what is counted.
_REPAIRS: dict[str, Callable[[], int]] = {
    "edge_ends": _drop_edges,
    "attempt_task": _drop_attempts,
    "lease": _give_back_leases,
    "cut_call": _end_cuts,
    "follower": _release_followers,
    "pending_parents": _recount_parents,
    "task_count": _recount_tasks,
    "one_output": _keep_own_outputs,
}
REPAIRABLE = tuple(_REPAIRS)

"""Deletes tasks and what hangs on them, at once or in slices, children first."""

from collections.abc import Sequence
from functools import partial

from ..errors import ConflictError
from ..models import Task
from ..rules import graph
from ..store import changes, edges
from . import acting, slices
from .acting import recorded
from .slices import alone


def would_delete(ids: Sequence[str], children: str) -> list[str]:
    if children == "refuse":
        refuse_children(ids)
    return edges.with_orphans(ids) if children == "cascade" else list(ids)


def delete_in_large(group_id: str, ids: Sequence[str], children: str) -> list[str]:
    """In a large group what goes is found before the group is locked, and looked at again."""
    with slices.looking():
        known = edges.below(ids) if children == "cascade" else edges.around(ids)
        if children == "refuse":
            refuse_children(ids)
    going = graph.with_orphans(ids, known) if children == "cascade" else list(ids)
    if len(going) <= slices.LIGHT:
        with alone(group_id):
            return delete_whole(group_id, ids, children, planned=going)
    ordered = graph.children_first(going, known)
    with slices.looking():
        acting.refuse_unknown(group_id, ids)
    with alone(group_id):
        recorded("delete", group_id, len(going), ids, children=children)
    gone: list[str] = []
    slices.each(group_id, ordered, partial(_delete_some, group_id, children, gone))
    return gone


def delete_whole(
    group_id: str, ids: Sequence[str], children: str, *, planned: Sequence[str] | None = None
) -> list[str]:
    """In a group that is locked; `planned` is what was to go before it was."""
    edges.lock(group_id, ids)
    acting.refuse_unknown(group_id, ids)
    going = would_delete(ids, children) if planned is None else list(planned)
    if planned is not None and set(edges.with_near_orphans(going)) != set(going):
        going = would_delete(ids, children)
    take_away(group_id, going)
    recorded("delete", group_id, len(going), ids, children=children)
    changes.wake_schedulers()
    return going


def _delete_some(group_id: str, children: str, gone: list[str], ids: Sequence[str]) -> int:
    """A slice of what was to go, whose descendants are gone: but for those made meanwhile."""
    there = acting.found(group_id, ids, {})
    if children == "refuse":
        refuse_children(there)
    going = edges.with_near_orphans(there) if children == "cascade" else there
    if len(going) > len(there):
        going = edges.with_orphans(there)
    take_away(group_id, going, is_told=False)
    changes.wake_schedulers()
    gone.extend(going)
    return len(going)


def empty(group_id: str, *, is_first: bool) -> int:
    """Delete the tasks of a group that is to go, and have nothing of it start meanwhile."""
    rows = Task.objects.filter(group_id=group_id).order_by("-created_at", "-id")
    ids = list(rows.values_list("id", flat=True))
    if is_first:
        with alone(group_id):
            recorded("delete", group_id, len(ids))
    acting.stop_all(group_id, "the group was deleted")
    return slices.each(group_id, ids, partial(drop, group_id))


def drop(group_id: str, ids: Sequence[str]) -> int:
    """Delete these tasks; no child that is left without a parent starts for that."""
    there = acting.found(group_id, ids, {})
    left = set(edges.children(there)) - set(there)
    freed = acting.found(group_id, list(left), {"is_complete": False})
    edges.lock(group_id, freed)
    edges.update(freed, remaining_attempts=0)
    take_away(group_id, there, is_told=False)
    return len(there)


def take_away(group_id: str, going: Sequence[str], *, is_told: bool = True) -> None:
    """Delete these tasks, and count the tasks that lose a parent."""
    edges.lock(group_id, going)
    gone = set(going)
    freed = [id_ for id_ in edges.children(going) if id_ not in gone]
    edges.remove(group_id, going, is_told=is_told)
    edges.recount(group_id, freed)
    changes.tasks_changed((group_id, id_) for id_ in freed)


def refuse_children(ids: Sequence[str]) -> None:
    if set(edges.children(ids)) - set(ids):
        raise ConflictError("cannot delete tasks with children")

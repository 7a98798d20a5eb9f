"""Does something to many tasks of a group, alone with them, and records who asked for it.

What the verbs of `control.py` share.
"""

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Q

from .. import audit
from ..errors import ConflictError, NotFoundError
from ..models import Task
from ..rules.jsonio import dump
from ..rules.names import camel
from ..sql import control as sql
from ..sql import run
from ..sql.probes import probed, sliced
from ..store import changes, edges
from . import slices
from .slices import alone

CANCELLED = "cancelled: the group was cancelled"


def recorded(
    verb: str, group_id: str, count: int, ids: Sequence[str] | None = None, **asked: Any
) -> int:
    """Record what was done to the group, or to these tasks of it; return the count.

    What no task was changed by is not recorded: some may not even be there.
    """
    detail = {camel(name): value for name, value in asked.items()}
    if ids is None:
        kind, target = audit.Kind.GROUP, group_id
    else:
        kind, target = audit.Kind.TASK, ids[0] if len(ids) == 1 else ""
    if ids is None or count:
        audit.record(verb, kind, target, group_id=group_id, count=count, ids=ids or (), **detail)
    return count


def act(
    verb: str,
    group_id: str,
    work: Callable[[Sequence[str]], None],
    *,
    ids: Sequence[str] | None = None,
    only: dict[str, Any],
    first: Callable[[], None] = lambda: None,
    **asked: Any,
) -> int:
    """Do this to the tasks of the group, or these of them, that are like `only`: how many.

    Each stands for itself: what is done to one asks for nothing of the others. `first` comes first.
    """
    is_whole = slices.is_small(group_id) if ids is None else len(ids) <= slices.WHOLE
    if is_whole:
        with alone(group_id):
            first()
            these = found(group_id, ids, only)
            work(these)
            changes.wake_schedulers()
            return recorded(verb, group_id, len(these), ids, **asked)
    with slices.looking():
        these = found(group_id, ids, only)
    with alone(group_id):
        first()
        changes.wake_schedulers()
        recorded(verb, group_id, len(these), ids, **asked)

    def some(part: Sequence[str]) -> int:
        still = found(group_id, part, only)
        work(still)
        changes.wake_schedulers()
        return len(still)

    return slices.each(group_id, these, some)


def found(group_id: str, ids: Sequence[str] | None, only: dict[str, Any]) -> list[str]:
    """The tasks of the group, or these of them, that are like that."""
    if ids is None:
        rows = Task.objects.filter(group_id=group_id, **only)
        return list(rows.values_list("id", flat=True))
    like = (group_id, *only.values())
    those = []
    for some in sliced(ids):
        known = Task.objects.filter(probed("id", some)).values_list("id", "group_id", *only)
        those += [id_ for id_, *values in known if tuple(values) == like]
    return those


def stop_all(group_id: str, why: str) -> None:
    """Stop whatever runs, or would: in the end with the group locked, so that nothing is added."""

    def some(ids: Sequence[str]) -> int:
        still = found(group_id, ids, {"is_complete": False})
        stop(group_id, why, still)
        return len(still)

    while len(ids := _able(group_id)) > slices.FIRST:
        slices.each(group_id, ids, some)
    with alone(group_id):
        some(_able(group_id))


def _able(group_id: str) -> list[str]:
    """The tasks that run, or that would if there was room."""
    left: Any = Task.objects.filter(group_id=group_id, is_complete=False)
    is_taken = Q(leased_by__isnull=False) | Q(merged_into__isnull=False)
    able = left.filter(is_taken | Q(remaining_attempts__gt=0, pending_parents=0))
    with slices.looking():
        return list(able.values_list("id", flat=True))


def stop(group_id: str, why: str, ids: Sequence[str]) -> None:
    """Have nobody try these tasks, which are not complete, and who runs them give up.

    `why` is left in the errors of those that had attempts left.
    """
    edges.stop_attempts(group_id, ids, why)
    edges.release_followers(group_id, ids)
    for some in sliced(ids):
        run(sql.CANCEL, {"ids": dump(some), "why": f"cancelled: {why}"})
    changes.tasks_changed((group_id, id_) for id_ in ids)


def refuse_unknown(group_id: str, ids: Sequence[str]) -> None:
    if len(found(group_id, ids, {})) < len(set(ids)):
        raise NotFoundError("task not found")


def refuse_running(ids: Sequence[str]) -> list[str]:
    """Raise ConflictError if one of these runs; return those that are complete."""
    complete = []
    for some in sliced(ids):
        fields = ("id", "leased_by", "merged_into", "is_complete")
        rows = Task.objects.filter(probed("id", some)).values_list(*fields)
        for id_, leased_by, merged_into, is_complete in rows:
            if leased_by is not None or (merged_into is not None and not is_complete):
                raise ConflictError(f"task {id_} is executing")
            if is_complete:
                complete.append(id_)
    return complete

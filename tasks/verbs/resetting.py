"""Makes tasks as if they had never run: a whole group, or some tasks, at once or in slices."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from ..models import Task
from ..sql import control as sql
from ..store import changes, edges
from . import acting, slices
from .acting import recorded
from .deleting import drop
from .slices import alone


def reset_whole(group_id: str, remaining_attempts: int) -> int:
    """Reset a group that is locked; how many went."""
    ids = edges.ids_in(group_id)
    edges.stop_attempts(group_id, ids, "the group was reset")
    gone, kept = _parted(group_id)
    edges.remove(group_id, gone)
    # Each row is written once: of all its parents, which are reset with it, none is complete.
    parents = RawSQL(sql.parents(), [])  # noqa: S611  a constant of ours
    fields = edges.UNRUN | {"pending_parents": parents}
    edges.update(kept, **fields, remaining_attempts=remaining_attempts)
    changes.tasks_changed((group_id, id_) for id_ in kept)
    _record_reset(group_id, gone, kept, remaining_attempts)
    return len(gone)


def reset_in_slices(group_id: str, remaining_attempts: int) -> int:
    """Nothing of the old run goes on, then nothing of the new one starts, until all are reset."""
    gone, kept = _parted(group_id)
    with alone(group_id):
        _record_reset(group_id, gone, kept, remaining_attempts)
    acting.stop_all(group_id, "the group was reset")
    gone, kept = _parted(group_id)
    count = slices.each(group_id, gone, partial(drop, group_id))
    kept.reverse()  # who is older goes on first
    slices.each(group_id, kept, partial(_unrun, group_id))
    slices.each(group_id, kept, partial(_let_run, group_id, remaining_attempts))
    return count


def _parted(group_id: str) -> tuple[list[str], list[str]]:
    """The tasks that a reset deletes, and those that it keeps; the newest first."""
    rows = Task.objects.filter(group_id=group_id).order_by("-created_at", "-id")
    seeds = dict(rows.values_list("id", "is_seed"))
    if not any(seeds.values()):
        return [], list(seeds)
    return [id_ for id_ in seeds if not seeds[id_]], [id_ for id_ in seeds if seeds[id_]]


def _record_reset(
    group_id: str, gone: Sequence[str], kept: Sequence[str], remaining_attempts: int
) -> None:
    asked: dict[str, Any] = {"remaining_attempts": remaining_attempts, "deleted": len(gone)}
    recorded("reset", group_id, len(kept), **asked)


def _unrun_fields(keep_complete: bool) -> dict[str, Any]:
    return edges.UNRUN | {"keeps_complete": keep_complete or None}


def _asked(remaining_attempts: int, keep_complete: bool) -> dict[str, Any]:
    """What the audit tells of it."""
    asked: dict[str, Any] = {"remaining_attempts": remaining_attempts}
    return asked | ({"keep_complete": True} if keep_complete else {})


def _unrun(group_id: str, ids: Sequence[str], *, keep_complete: bool = False) -> int:
    """Make these, of which none runs, as if they had never run, but for their attempts: none.

    Else one would start whose parents are reset only after it.
    """
    there = acting.found(group_id, ids, {})
    edges.lock(group_id, there)
    complete = acting.found(group_id, there, {"is_complete": True})
    edges.update(there, **_unrun_fields(keep_complete), remaining_attempts=0)
    edges.recount(group_id, there)
    edges.recount_children(group_id, complete)
    changes.tasks_changed((group_id, id_) for id_ in there)
    return len(there)


def _let_run(group_id: str, remaining_attempts: int, ids: Sequence[str]) -> int:
    there = acting.found(group_id, ids, {"is_complete": False})
    edges.lock(group_id, there)
    edges.update(there, remaining_attempts=remaining_attempts, run_after=Now())
    changes.tasks_changed((group_id, id_) for id_ in there)
    changes.wake_schedulers()
    return len(there)


def reset_locked(
    group_id: str, ids: Sequence[str], remaining_attempts: int, keep_complete: bool
) -> int:
    """Reset these tasks of a group that is locked."""
    edges.lock(group_id, ids)
    acting.refuse_unknown(group_id, ids)
    was_complete = acting.refuse_running(ids)
    edges.update(ids, **_unrun_fields(keep_complete), remaining_attempts=remaining_attempts)
    edges.recount_children(group_id, was_complete)
    ids = list(dict.fromkeys(ids))
    changes.tasks_changed((group_id, id_) for id_ in ids)
    return recorded("reset", group_id, len(ids), ids, **_asked(remaining_attempts, keep_complete))


def reset_tasks_in_slices(
    group_id: str, ids: Sequence[str], remaining_attempts: int, keep_complete: bool
) -> int:
    """As of a group, but what runs stays: where it began meanwhile, the rest is not reset."""
    ids = list(dict.fromkeys(ids))
    with slices.looking():
        acting.refuse_unknown(group_id, ids)
        acting.refuse_running(ids)
    with alone(group_id):
        recorded("reset", group_id, len(ids), ids, **_asked(remaining_attempts, keep_complete))
    done: list[str] = []

    def some(part: Sequence[str]) -> int:
        edges.lock(group_id, part)
        acting.refuse_running(part)
        count = _unrun(group_id, part, keep_complete=keep_complete)
        done.extend(part)
        return count

    try:
        return slices.each(group_id, ids, some)
    finally:
        slices.each(group_id, done, partial(_let_run, group_id, remaining_attempts))

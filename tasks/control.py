"""What people may do: API, admin and commands call these same verbs.

Each verb is one transaction that holds its group alone: no settle and no create runs in the
group meanwhile, so a verb sees and leaves it whole; it records itself in that transaction
(`audit.py`). A deadlock or a busy database raises OperationalError and has changed nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from . import audit, cuts, edges, publish, wire
from .errors import ConflictError, NotFoundError
from .jsonio import dump
from .models import Task, TaskGroup
from .names import camel
from .spec import DEFAULT_ATTEMPTS, read_text
from .sql import control as sql
from .sql import create as create_sql
from .sql import run, run_bounded
from .sql.probes import among, probed, sliced

P = ParamSpec("P")
T = TypeVar("T")

# What makes a task as if it had never run. Children and edges stay.
UNRUN: dict[str, Any] = {
    "is_complete": False,
    "completed_at": None,
    "output": None,
    "errors": [],
    "run_after": Now(),
    "leased_by": None,
    "leased_at": None,
    "merged_into": None,
    "held_count": 0,
    "rescues": 0,
}


@contextmanager
def alone(group_id: str) -> Iterator[None]:
    """A transaction that holds the group against everything; for a look and a verb in one.

    Its statements probe by indexes, and none lasts for long."""
    with transaction.atomic():
        if not run_bounded((create_sql.GROUP_ALONE, {"group": group_id}))[-1]:
            raise NotFoundError("task group not found")
        yield


def group_verb(verb: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Make of a verb on a group id one that holds the group alone, and wakes the schedulers."""

    @wraps(verb)
    def holding(group_id: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with alone(group_id):
            result = verb(group_id, *args, **kwargs)
            publish.wake_schedulers()
            return result

    return holding


# --- Groups ----------------------------------------------------------------------------------


@group_verb
def pause_group(group_id: str) -> int:
    """Start no attempt of the group any more, of later tasks neither; running ones finish.

    Returns how many tasks were not paused before.
    """
    return recorded("pause", group_id, _set_paused(group_id, True))


@group_verb
def resume_group(group_id: str) -> int:
    """Clear the pause of the group and of every task in it; return how many were paused."""
    return recorded("resume", group_id, _set_paused(group_id, False))


@group_verb
def reset_group(group_id: str, *, remaining_attempts: int = DEFAULT_ATTEMPTS) -> int:
    """Make the group as if it had never run; return how many tasks were deleted.

    If it has seeds, only they are kept. Attempts in flight lose their lease, and their calls are
    cut: what their workers still answer is recorded and dropped (decision 10).
    """
    ids = edges.ids_in(group_id)
    _stop_attempts(group_id, ids, "the group was reset")
    tasks = Task.objects.filter(group_id=group_id)
    seeds = set(tasks.filter(is_seed=True).values_list("id", flat=True))
    gone = [id_ for id_ in ids if id_ not in seeds] if seeds else []
    edges.remove(group_id, gone)
    kept = list(seeds) or ids
    _update(kept, **UNRUN, remaining_attempts=remaining_attempts)
    edges.recount(group_id, kept)
    publish.tasks_changed((group_id, id_) for id_ in kept)
    asked: dict[str, Any] = {"remaining_attempts": remaining_attempts, "deleted": len(gone)}
    recorded("reset", group_id, len(kept), **asked)
    return len(gone)


@group_verb
def cancel_group(group_id: str) -> int:
    """Stop the group for good: no task of it is tried any more. Return how many were stopped.

    Attempts in flight lose their lease, and their calls are cut; what still comes of them is
    recorded and dropped. Stopped tasks have no attempts left, so a retry or a reset brings them
    back.
    """
    left = Task.objects.filter(group_id=group_id).incomplete()
    ids = list(left.values_list("id", flat=True))
    _stop_attempts(group_id, ids, "the group was cancelled")
    _update(ids, remaining_attempts=0, leased_by=None, leased_at=None, merged_into=None)
    publish.tasks_changed((group_id, id_) for id_ in ids)
    return recorded("cancel", group_id, len(ids))


@group_verb
def retry_group(group_id: str, *, remaining_attempts: int = DEFAULT_ATTEMPTS) -> int:
    """Give every incomplete task its attempts back, failed ones at once; return how many."""
    count = _retry(group_id, Task.objects.filter(group_id=group_id), remaining_attempts)
    return recorded("retry", group_id, count, remaining_attempts=remaining_attempts)


@group_verb
def rename_group(group_id: str, *, name: str) -> None:
    TaskGroup.objects.filter(pk=group_id).update(name=read_text(name, "name"))
    publish.group_changed(group_id, "update")
    recorded("edit", group_id, 1, fields=["name"])


@group_verb
def delete_group(group_id: str) -> int:
    """Delete the group with all it holds; return how many tasks. Running calls are cut."""
    ids = edges.ids_in(group_id)
    edges.lock(group_id, ids)
    last = wire.group(TaskGroup.objects.get(pk=group_id))
    count = edges.wipe(ids)
    edges.raw_delete(TaskGroup.objects.filter(pk=group_id))
    publish.group_changed(group_id, "delete", last)
    return recorded("delete", group_id, count)


# --- Tasks -----------------------------------------------------------------------------------


@group_verb
def pause_tasks(group_id: str, ids: Sequence[str]) -> int:
    """Start no attempt of these tasks any more; running ones finish. Return how many changed."""
    tasks = Task.objects.filter(among("id", ids), group_id=group_id)
    return recorded("pause", group_id, _pause(group_id, tasks, True), ids)


@group_verb
def resume_tasks(group_id: str, ids: Sequence[str]) -> int:
    tasks = Task.objects.filter(among("id", ids), group_id=group_id)
    return recorded("resume", group_id, _pause(group_id, tasks, False), ids)


@group_verb
def retry_tasks(
    group_id: str, ids: Sequence[str], *, remaining_attempts: int = DEFAULT_ATTEMPTS
) -> int:
    """Give those that are incomplete their attempts back, failed ones at once."""
    tasks = Task.objects.filter(among("id", ids), group_id=group_id)
    count = _retry(group_id, tasks, remaining_attempts)
    return recorded("retry", group_id, count, ids, remaining_attempts=remaining_attempts)


@group_verb
def reset_tasks(
    group_id: str, ids: Sequence[str], *, remaining_attempts: int = DEFAULT_ATTEMPTS
) -> int:
    """Make these tasks as if they had never run. Their children are not reset.

    Raises ConflictError if one of them is executing (decision 10).
    """
    return reset_held(group_id, ids, remaining_attempts)


@group_verb
def delete_tasks(group_id: str, ids: Sequence[str], *, children: str = "cascade") -> list[str]:
    """Delete tasks; return the ids of all that went. Their running calls are cut.

    `children`: "cascade" takes the descendants that are left without any parent (decision 3),
    "detach" only cuts them off, "refuse" raises ConflictError if there are any.
    """
    locked(group_id, ids)
    going = would_delete(ids, children=children)
    edges.lock(group_id, going)
    gone = set(going)
    freed = [id_ for id_ in edges.children(going) if id_ not in gone]
    edges.remove(group_id, going)
    edges.recount(group_id, freed)
    publish.tasks_changed((group_id, id_) for id_ in freed)
    recorded("delete", group_id, len(going), ids, children=children)
    return going


def would_delete(ids: Sequence[str], *, children: str = "cascade") -> list[str]:
    """The ids of all that `delete_tasks` would delete, for a question before it."""
    if children == "refuse" and set(edges.children(ids)) - set(ids):
        raise ConflictError("cannot delete tasks with children")
    return edges.with_orphans(ids) if children == "cascade" else list(ids)


# --- Below the verbs -------------------------------------------------------------------------


def recorded(
    verb: str, group_id: str, count: int, ids: Sequence[str] | None = None, **asked: Any
) -> int:
    """Record what was done to the group, or to these tasks of it; return the count.

    What no task was changed by is not recorded: some may not even be there.
    """
    told = {camel(name): value for name, value in asked.items()}
    if ids is None:
        kind, target = audit.Kind.GROUP, group_id
    else:
        kind, target = audit.Kind.TASK, ids[0] if len(ids) == 1 else ""
    if ids is None or count:
        audit.record(verb, kind, target, group_id=group_id, count=count, ids=ids or (), **told)
    return count


def _set_paused(group_id: str, is_paused: bool) -> int:
    TaskGroup.objects.filter(pk=group_id).update(is_paused=is_paused)
    publish.group_changed(group_id, "update")
    return _pause(group_id, Task.objects.filter(group_id=group_id), is_paused)


def _pause(group_id: str, tasks: models.QuerySet[Task], is_paused: bool) -> int:
    ids = list(tasks.filter(is_paused=not is_paused).values_list("id", flat=True))
    edges.lock(group_id, ids)
    _update(ids, is_paused=is_paused)
    publish.tasks_changed((group_id, id_) for id_ in ids)
    return len(ids)


def _retry(group_id: str, tasks: models.QuerySet[Task], remaining_attempts: int) -> int:
    ids = list(tasks.filter(is_complete=False).values_list("id", flat=True))
    edges.lock(group_id, ids)
    _update(ids, remaining_attempts=remaining_attempts, held_count=0, rescues=0)
    # A failed task need not sit out its error delay; a scheduled one keeps its time.
    for some in sliced(ids):
        later = Task.objects.filter(probed("id", some), run_after__gt=Now(), leased_by=None)
        later.filter(~Q(errors=[]) | Q(attempt__gt=0)).update(run_after=Now())
    publish.tasks_changed((group_id, id_) for id_ in ids)
    return len(ids)


def _stop_attempts(group_id: str, ids: Sequence[str], why: str) -> None:
    """Lock these tasks, end their open attempts without an outcome, and give up their calls."""
    edges.lock(group_id, ids)
    for some in sliced(ids):
        run(sql.CANCEL_ATTEMPTS, {"group": group_id, "ids": dump(some), "why": why})
        cuts.give_up(some)


def _update(ids: Sequence[str], **fields: Any) -> None:
    """Write these fields of these tasks, which are locked."""
    for some in sliced(ids):
        Task.objects.filter(probed("id", some)).update(**fields)


def reset_held(group_id: str, ids: Sequence[str], remaining_attempts: int) -> int:
    tasks = locked(group_id, ids)
    refuse_executing(tasks)
    was_complete = [task.id for task in tasks if task.is_complete]
    _update(ids, **UNRUN, remaining_attempts=remaining_attempts)
    edges.recount_children(group_id, was_complete)
    publish.tasks_changed((group_id, task.id) for task in tasks)
    return recorded("reset", group_id, len(tasks), ids, remaining_attempts=remaining_attempts)


def locked(group_id: str, ids: Sequence[str]) -> list[Task]:
    """These tasks without what may be long, locked; NotFoundError if one is not in the group."""
    edges.lock(group_id, ids)
    found = Task.objects.filter(probed("id", ids)).defer("input", "output", "errors")
    tasks = [task for task in found if task.group_id == group_id]
    if len(tasks) < len(set(ids)):
        raise NotFoundError("task not found")
    return tasks


def refuse_executing(tasks: Iterable[Task]) -> None:
    for task in tasks:
        if task.is_executing:
            raise ConflictError(f"task {task.id} is executing")

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

from . import audit, edges, publish, wire
from .errors import ConflictError, NotFoundError
from .jsonio import dump
from .models import ParentEdge, Task, TaskGroup
from .names import camel
from .spec import DEFAULT_ATTEMPTS, read_text
from .sql import among, run
from .sql import control as sql
from .sql import create as create_sql

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
    """A transaction that holds the group against everything; for a look and a verb in one."""
    with transaction.atomic():
        if not run(create_sql.GROUP_ALONE, {"group": group_id}):
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

    If it has seeds, only they are kept. Attempts in flight lose their lease: what their workers
    still answer is recorded and dropped (decision 10).
    """
    tasks = Task.objects.filter(group_id=group_id)
    run(sql.LOCK_TASKS, {"group": group_id, "ids": None})
    run(sql.CANCEL_ATTEMPTS, {"group": group_id, "ids": None, "why": "the group was reset"})
    gone = []
    if tasks.filter(is_seed=True).exists():
        gone = list(tasks.filter(is_seed=False).values_list("id", flat=True))
        edges.remove(group_id, gone)
    kept = tasks.update(**UNRUN, remaining_attempts=remaining_attempts)
    run(sql.RECOUNT, {"group": group_id, "ids": None})
    publish.tasks_changed((group_id, id_) for id_ in tasks.values_list("id", flat=True))
    asked: dict[str, Any] = {"remaining_attempts": remaining_attempts, "deleted": len(gone)}
    recorded("reset", group_id, kept, **asked)
    return len(gone)


@group_verb
def cancel_group(group_id: str) -> int:
    """Stop the group for good: no task of it is tried any more. Return how many were stopped.

    Attempts in flight lose their lease; what their workers still answer is recorded and dropped.
    Stopped tasks have no attempts left, so a retry or a reset brings them back.
    """
    left = Task.objects.filter(group_id=group_id).incomplete()
    ids = list(left.order_by("id").values_list("id", flat=True))
    params = {"group": group_id, "ids": dump(ids)}
    run(sql.LOCK_TASKS, params)
    run(sql.CANCEL_ATTEMPTS, params | {"why": "the group was cancelled"})
    stopped = {"remaining_attempts": 0, "leased_by": None, "leased_at": None, "merged_into": None}
    Task.objects.filter(id__in=among(ids)).update(**stopped)
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
    """Delete the group with all it holds; return how many tasks. Late answers are dropped."""
    tasks = Task.objects.filter(group_id=group_id)
    run(sql.LOCK_TASKS, {"group": group_id, "ids": None})
    run(sql.DROP_EDGES, {"group": group_id})
    run(sql.DROP_ATTEMPTS, {"group": group_id})
    last = wire.group(TaskGroup.objects.get(pk=group_id))
    count = edges.raw_delete(tasks)
    edges.raw_delete(TaskGroup.objects.filter(pk=group_id))
    publish.group_changed(group_id, "delete", last)
    return recorded("delete", group_id, count)


# --- Tasks -----------------------------------------------------------------------------------


@group_verb
def pause_tasks(group_id: str, ids: Sequence[str]) -> int:
    """Start no attempt of these tasks any more; running ones finish. Return how many changed."""
    tasks = Task.objects.filter(group_id=group_id, id__in=among(ids))
    return recorded("pause", group_id, _pause(group_id, tasks, True), ids)


@group_verb
def resume_tasks(group_id: str, ids: Sequence[str]) -> int:
    tasks = Task.objects.filter(group_id=group_id, id__in=among(ids))
    return recorded("resume", group_id, _pause(group_id, tasks, False), ids)


@group_verb
def retry_tasks(
    group_id: str, ids: Sequence[str], *, remaining_attempts: int = DEFAULT_ATTEMPTS
) -> int:
    """Give those that are incomplete their attempts back, failed ones at once."""
    tasks = Task.objects.filter(group_id=group_id, id__in=among(ids))
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
    """Delete tasks; return the ids of all that went.

    `children`: "cascade" takes the descendants that are left without any parent (decision 3),
    "detach" only cuts them off, "refuse" raises ConflictError if there are any.
    """
    locked(group_id, ids)
    going = would_delete(ids, children=children)
    freed = list(
        ParentEdge.objects.filter(parent__in=among(going))
        .values_list("child_id", flat=True)
        .distinct()
    )
    edges.remove(group_id, going)
    run(sql.RECOUNT, {"group": group_id, "ids": dump(freed)})
    gone = set(going)
    publish.tasks_changed((group_id, id_) for id_ in freed if id_ not in gone)
    recorded("delete", group_id, len(going), ids, children=children)
    return going


def would_delete(ids: Sequence[str], *, children: str = "cascade") -> list[str]:
    """The ids of all that `delete_tasks` would delete, for a question before it."""
    staying = ~Q(child__in=among(ids))
    if children == "refuse" and ParentEdge.objects.filter(staying, parent__in=among(ids)).exists():
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
    ids = list(tasks.filter(is_paused=not is_paused).order_by("id").values_list("id", flat=True))
    run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(ids)})
    Task.objects.filter(id__in=among(ids)).update(is_paused=is_paused)
    publish.tasks_changed((group_id, id_) for id_ in ids)
    return len(ids)


def _retry(group_id: str, tasks: models.QuerySet[Task], remaining_attempts: int) -> int:
    ids = list(tasks.incomplete().order_by("id").values_list("id", flat=True))  # type: ignore[attr-defined]
    run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(ids)})
    waiting = Task.objects.filter(id__in=among(ids)).incomplete()
    waiting.update(remaining_attempts=remaining_attempts, held_count=0, rescues=0)
    # A failed task need not sit out its error delay; a scheduled one keeps its time.
    failed = waiting.exclude(errors=[]) | waiting.filter(attempt__gt=0)
    failed.filter(run_after__gt=Now(), leased_by=None).update(run_after=Now())
    publish.tasks_changed((group_id, id_) for id_ in ids)
    return len(ids)


def reset_held(group_id: str, ids: Sequence[str], remaining_attempts: int) -> int:
    tasks = locked(group_id, ids)
    refuse_executing(tasks)
    was_complete = [task.id for task in tasks if task.is_complete]
    Task.objects.filter(id__in=among(ids)).update(**UNRUN, remaining_attempts=remaining_attempts)
    edges.recount_children(group_id, was_complete)
    publish.tasks_changed((group_id, task.id) for task in tasks)
    return recorded("reset", group_id, len(tasks), ids, remaining_attempts=remaining_attempts)


def locked(group_id: str, ids: Sequence[str]) -> list[Task]:
    """These tasks, locked; raises NotFoundError if one is not in the group."""
    run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(list(ids))})
    tasks = list(Task.objects.filter(group_id=group_id, id__in=among(ids)))
    if len(tasks) < len(set(ids)):
        raise NotFoundError("task not found")
    return tasks


def refuse_executing(tasks: Iterable[Task]) -> None:
    for task in tasks:
        if task.is_executing:
            raise ConflictError(f"task {task.id} is executing")

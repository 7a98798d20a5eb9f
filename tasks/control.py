"""What people may do: API, admin and commands call these same verbs.

Each verb on a few tasks is one transaction that holds its group alone: no settle and no create
runs in the group meanwhile, so a verb sees and leaves it whole; it records itself in that
transaction (`audit.py`). A deadlock or a busy database raises OperationalError and has changed
nothing.

A verb on many tasks (`verbs/slices.py`) is many such transactions, in an order in which nothing
starts that should not. It records itself in the first. Whoever is killed in between leaves a
group that is sound, in which some is done: the same verb again does the rest.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.db.models import Q
from django.db.models.functions import Now

from .errors import ConflictError, NotFoundError
from .models import Task, TaskGroup
from .rules.spec import DEFAULT_ATTEMPTS, read_text
from .sql.probes import probed, sliced
from .store import changes, edges, wire
from .verbs import acting, deleting, earlier_children, resetting, slices
from .verbs.acting import act, recorded
from .verbs.slices import alone

__all__ = [
    "cancel_group",
    "delete_group",
    "delete_tasks",
    "pause_group",
    "pause_tasks",
    "rename_group",
    "reset_group",
    "reset_tasks",
    "resume_group",
    "resume_tasks",
    "retry_group",
    "retry_tasks",
]

P = ParamSpec("P")
T = TypeVar("T")


def group_verb(verb: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Make of a verb on a group id one that holds the group alone, and wakes the schedulers."""

    @wraps(verb)
    def holding(group_id: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with alone(group_id):
            result = verb(group_id, *args, **kwargs)
            changes.wake_schedulers()
            return result

    return holding


# --- Groups ----------------------------------------------------------------------------------


def pause_group(group_id: str) -> int:
    """Start no attempt of the group any more, of later tasks neither; running ones finish.

    Returns how many tasks were not paused before.
    """
    return _set_paused(group_id, True)


def resume_group(group_id: str) -> int:
    """Clear the pause of the group and of every task in it; return how many were paused."""
    return _set_paused(group_id, False)


def reset_group(group_id: str, *, remaining_attempts: int = DEFAULT_ATTEMPTS) -> int:
    """Make the group as if it had never run; return how many tasks were deleted.

    If it has seeds, only they are kept. Attempts in flight lose their lease, and their calls are
    cut: what their workers still answer is recorded and dropped (decision 10).
    """
    if slices.is_small(group_id):
        with alone(group_id):
            changes.wake_schedulers()
            return resetting.reset_whole(group_id, remaining_attempts)
    return resetting.reset_in_slices(group_id, remaining_attempts)


def cancel_group(group_id: str) -> int:
    """Stop the group for good: no task of it is tried any more. Return how many were stopped.

    Attempts in flight lose their lease, and their calls are cut; what still comes of them is
    recorded and dropped. Stopped tasks have no attempts left, so a retry or a reset brings them
    back.
    """
    why = "the group was cancelled"
    work = partial(acting.stop, group_id, why)
    count = act("cancel", group_id, work, only={"is_complete": False})
    if count > slices.LIGHT:
        acting.stop_all(group_id, why)  # what was made between slices
    return count


def retry_group(group_id: str, *, remaining_attempts: int = DEFAULT_ATTEMPTS) -> int:
    """Give every incomplete task its attempts back, failed ones at once; return how many."""
    return _retry(group_id, None, remaining_attempts)


@group_verb
def rename_group(group_id: str, *, name: str) -> None:
    TaskGroup.objects.filter(pk=group_id).update(name=read_text(name, "name"))
    changes.group_changed(group_id, "update")
    recorded("edit", group_id, 1, fields=["name"])


def delete_group(group_id: str) -> int:
    """Delete the group with all it holds; return how many tasks. Running calls are cut."""
    count = 0
    while not slices.is_small(group_id):
        some = deleting.empty(group_id, is_first=not count)
        count += some
        if not some:
            break
    with alone(group_id):
        ids = edges.ids_in(group_id)
        edges.lock(group_id, ids)
        last = wire.group(TaskGroup.objects.get(pk=group_id))
        some = edges.wipe(ids)
        edges.raw_delete(TaskGroup.objects.filter(pk=group_id))
        changes.group_changed(group_id, "delete", last)
        changes.wake_schedulers()
        return count + (some if count else recorded("delete", group_id, some))


# --- Tasks -----------------------------------------------------------------------------------


def pause_tasks(group_id: str, ids: Sequence[str]) -> int:
    """Start no attempt of these tasks any more; running ones finish. Return how many changed."""
    return _pause(group_id, ids, True)


def resume_tasks(group_id: str, ids: Sequence[str]) -> int:
    return _pause(group_id, ids, False)


def retry_tasks(
    group_id: str, ids: Sequence[str], *, remaining_attempts: int = DEFAULT_ATTEMPTS
) -> int:
    """Give those that are incomplete their attempts back, failed ones at once."""
    return _retry(group_id, ids, remaining_attempts)


def reset_tasks(
    group_id: str,
    ids: Sequence[str],
    *,
    remaining_attempts: int = DEFAULT_ATTEMPTS,
    keep_complete: bool = False,
) -> int:
    """Make these tasks as if they had never run. Their children are not reset.

    What their earlier answers made is dealt with by their next ones
    (`verbs/earlier_children.py`), but for what is complete if that is to be kept. Raises
    ConflictError if one of them is executing (decision 10).
    """
    if len(ids) <= slices.LIGHT or (len(ids) <= slices.WHOLE and slices.is_small(group_id)):
        with alone(group_id):
            changes.wake_schedulers()
            return resetting.reset_locked(group_id, ids, remaining_attempts, keep_complete)
    return resetting.reset_tasks_in_slices(group_id, ids, remaining_attempts, keep_complete)


def delete_tasks(group_id: str, ids: Sequence[str], *, children: str = "cascade") -> list[str]:
    """Delete tasks; return the ids of all that went. Their running calls are cut.

    `children`: "cascade" takes the descendants that are left without any parent (decision 3),
    "detach" only cuts them off, "refuse" raises ConflictError if there are any.
    """
    if slices.is_small(group_id):
        with alone(group_id):
            return deleting.delete_whole(group_id, ids, children)
    return deleting.delete_in_large(group_id, list(dict.fromkeys(ids)), children)


def would_delete(ids: Sequence[str], *, children: str = "cascade") -> list[str]:
    """The ids of all that `delete_tasks` would delete, for a question before it."""
    with slices.looking():
        return deleting.would_delete(ids, children)


def would_replace(ids: Sequence[str], *, keep_complete: bool = False) -> list[str]:
    """The ids of all that earlier answers to these tasks made and the next ones replace.

    With those left without any parent if no next answer names them; for a question before a reset.
    """
    return earlier_children.replaceable(ids, keep_complete=keep_complete)


# --- Below the verbs -------------------------------------------------------------------------


def _set_paused(group_id: str, is_paused: bool) -> int:
    def first() -> None:
        TaskGroup.objects.filter(pk=group_id).update(is_paused=is_paused)
        changes.group_changed(group_id, "update")

    return _pause(group_id, None, is_paused, first=first)


def _pause(group_id: str, ids: Sequence[str] | None, is_paused: bool, **how: Any) -> int:
    def work(found: Sequence[str]) -> None:
        edges.lock(group_id, found)
        edges.update(found, is_paused=is_paused)
        changes.tasks_changed((group_id, id_) for id_ in found)

    verb = "pause" if is_paused else "resume"
    return act(verb, group_id, work, ids=ids, only={"is_paused": not is_paused}, **how)


def _retry(group_id: str, ids: Sequence[str] | None, remaining_attempts: int) -> int:
    def work(found: Sequence[str]) -> None:
        edges.lock(group_id, found)
        edges.update(found, remaining_attempts=remaining_attempts, held_count=0, rescues=0)
        # A failed task need not sit out its error delay; a scheduled one keeps its time.
        for some in sliced(found):
            later = Task.objects.filter(probed("id", some), run_after__gt=Now(), leased_by=None)
            unfailed = Q(errors=[]) | Q(errors=[acting.CANCELLED])
            later.filter(~unfailed | Q(attempt__gt=0)).update(run_after=Now())
        changes.tasks_changed((group_id, id_) for id_ in found)

    only = {"is_complete": False}
    return act("retry", group_id, work, ids=ids, only=only, remaining_attempts=remaining_attempts)


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

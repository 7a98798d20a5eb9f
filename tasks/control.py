"""What people may do: API, admin and commands call these same verbs.

Each verb is one transaction that holds its group alone: no settle and no create runs in the
group meanwhile, so a verb sees and leaves it whole. A deadlock or a busy database raises
OperationalError and has changed nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Greatest, Now

from . import create, graph, publish
from .conf import conf
from .decide import MAX_DELAY
from .errors import ConflictError, InvalidInputError, NotFoundError
from .jsonio import dump
from .models import Attempt, ParentEdge, Task, TaskGroup, Workgroup
from .spec import DEFAULT_ATTEMPTS, read_text
from .sql import control as sql
from .sql import create as create_sql
from .sql import on_postgres, run

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


def _alone(verb: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Run a verb on a group id in a transaction that holds the group against everything."""

    @wraps(verb)
    def holding(group_id: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with transaction.atomic():
            if not run(create_sql.GROUP_ALONE, {"group": group_id}):
                raise NotFoundError("task group not found")
            result = verb(group_id, *args, **kwargs)
            publish.wake_schedulers()
            return result

    return holding


# --- Groups ----------------------------------------------------------------------------------


@_alone
def pause_group(group_id: str) -> int:
    """Start no attempt of the group any more, of later tasks neither; running ones finish.

    Returns how many tasks were not paused before.
    """
    return _set_paused(group_id, True)


@_alone
def resume_group(group_id: str) -> int:
    """Clear the pause of the group and of every task in it; return how many were paused."""
    return _set_paused(group_id, False)


@_alone
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
        _remove(group_id, gone)
    tasks.update(**UNRUN, remaining_attempts=remaining_attempts)
    run(sql.RECOUNT, {"group": group_id, "ids": None})
    publish.tasks_changed((group_id, id_) for id_ in tasks.values_list("id", flat=True))
    return len(gone)


@_alone
def retry_group(group_id: str, *, remaining_attempts: int = DEFAULT_ATTEMPTS) -> int:
    """Give every incomplete task its attempts back, failed ones at once; return how many."""
    return _retry(group_id, Task.objects.filter(group_id=group_id), remaining_attempts)


@_alone
def rename_group(group_id: str, *, name: str) -> None:
    TaskGroup.objects.filter(pk=group_id).update(name=read_text(name, "name"))
    publish.group_changed(group_id, "update")


@_alone
def delete_group(group_id: str) -> int:
    """Delete the group with all it holds; return how many tasks. Late answers are dropped."""
    tasks = Task.objects.filter(group_id=group_id)
    run(sql.LOCK_TASKS, {"group": group_id, "ids": None})
    in_group = tasks.values("id")
    _raw_delete(ParentEdge.objects.filter(child__in=in_group))
    _raw_delete(Attempt.objects.filter(task__in=in_group))
    count = _raw_delete(tasks)
    _raw_delete(TaskGroup.objects.filter(pk=group_id))
    publish.group_changed(group_id, "delete")
    return count


# --- Tasks -----------------------------------------------------------------------------------


@_alone
def pause_tasks(group_id: str, ids: Sequence[str]) -> int:
    """Start no attempt of these tasks any more; running ones finish. Return how many changed."""
    return _pause(group_id, Task.objects.filter(group_id=group_id, id__in=_among(ids)), True)


@_alone
def resume_tasks(group_id: str, ids: Sequence[str]) -> int:
    return _pause(group_id, Task.objects.filter(group_id=group_id, id__in=_among(ids)), False)


@_alone
def retry_tasks(
    group_id: str, ids: Sequence[str], *, remaining_attempts: int = DEFAULT_ATTEMPTS
) -> int:
    """Give those that are incomplete their attempts back, failed ones at once."""
    tasks = Task.objects.filter(group_id=group_id, id__in=_among(ids))
    return _retry(group_id, tasks, remaining_attempts)


@_alone
def reset_tasks(
    group_id: str, ids: Sequence[str], *, remaining_attempts: int = DEFAULT_ATTEMPTS
) -> int:
    """Make these tasks as if they had never run. Their children are not reset.

    Raises ConflictError if one of them is executing (decision 10).
    """
    tasks = _locked(group_id, ids)
    _refuse_executing(tasks)
    was_complete = [task.id for task in tasks if task.is_complete]
    Task.objects.filter(id__in=_among(ids)).update(**UNRUN, remaining_attempts=remaining_attempts)
    _recount_children(group_id, was_complete)
    publish.tasks_changed((group_id, task.id) for task in tasks)
    return len(tasks)


@_alone
def complete_task(group_id: str, id_: str, *, output: Any = None) -> None:
    """Complete a task by hand, with this output; its children are freed.

    Raises ConflictError if it is executing. A complete task only gets the output.
    """
    _edit(group_id, id_, {"is_complete": True, "output": output})


@_alone
def edit_task(group_id: str, id_: str, changes: Mapping[str, Any]) -> None:
    """Write these fields of a task, and what follows from them.

    `changes` maps names of fields a person may set, and `parent_ids`, to values that
    `spec.read_*` gave; `input` and `output` are plain values, read by the strict reader. Raises
    ConflictError for anything but `is_paused` while it executes, for new parents of a complete
    task, and for a cycle.
    """
    _edit(group_id, id_, changes)


@_alone
def delete_tasks(group_id: str, ids: Sequence[str], *, children: str = "cascade") -> list[str]:
    """Delete tasks; return the ids of all that went.

    `children`: "cascade" takes the descendants that are left without any parent (decision 3),
    "detach" only cuts them off, "refuse" raises ConflictError if there are any.
    """
    _locked(group_id, ids)
    going = _with_orphans(ids) if children == "cascade" else list(ids)
    staying = ~Q(child__in=_among(ids))
    if children == "refuse" and ParentEdge.objects.filter(staying, parent__in=_among(ids)).exists():
        raise ConflictError("cannot delete tasks with children")
    freed = list(
        ParentEdge.objects.filter(parent__in=_among(going))
        .values_list("child_id", flat=True)
        .distinct()
    )
    _remove(group_id, going)
    run(sql.RECOUNT, {"group": group_id, "ids": dump(freed)})
    return going


# --- Workgroups ------------------------------------------------------------------------------


def hold_workgroup(name: str, *, seconds: float) -> None:
    """Claim no task of the workgroup for `seconds` from now; 0 opens it at once.

    Raises InvalidInputError for a name that can not be, and for more than 366 days.
    """
    if not read_text(name, "workgroup") or not 0 <= seconds <= MAX_DELAY:
        raise InvalidInputError("a workgroup with a name is held for 0 seconds to 366 days")
    if not name:
        raise InvalidInputError("tasks without a workgroup cannot be held together")
    with transaction.atomic():
        Workgroup.objects.bulk_create([Workgroup(name=name)], ignore_conflicts=True)
        until = Now() + timedelta(seconds=seconds)
        Workgroup.objects.filter(pk=name).update(held_until=until, held_by="")
        publish.workgroup_changed([name])
        publish.wake_schedulers()


# --- Below the verbs -------------------------------------------------------------------------


def _set_paused(group_id: str, is_paused: bool) -> int:
    TaskGroup.objects.filter(pk=group_id).update(is_paused=is_paused)
    publish.group_changed(group_id, "update")
    return _pause(group_id, Task.objects.filter(group_id=group_id), is_paused)


def _pause(group_id: str, tasks: models.QuerySet[Task], is_paused: bool) -> int:
    ids = list(tasks.filter(is_paused=not is_paused).order_by("id").values_list("id", flat=True))
    run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(ids)})
    Task.objects.filter(id__in=_among(ids)).update(is_paused=is_paused)
    publish.tasks_changed((group_id, id_) for id_ in ids)
    return len(ids)


def _retry(group_id: str, tasks: models.QuerySet[Task], remaining_attempts: int) -> int:
    ids = list(tasks.incomplete().order_by("id").values_list("id", flat=True))  # type: ignore[attr-defined]
    run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(ids)})
    waiting = Task.objects.filter(id__in=_among(ids)).incomplete()
    waiting.update(remaining_attempts=remaining_attempts, held_count=0, rescues=0)
    # A failed task need not sit out its error delay; a scheduled one keeps its time.
    failed = waiting.exclude(errors=[]) | waiting.filter(attempt__gt=0)
    failed.filter(run_after__gt=Now(), leased_by=None).update(run_after=Now())
    publish.tasks_changed((group_id, id_) for id_ in ids)
    return len(ids)


def _locked(group_id: str, ids: Sequence[str]) -> list[Task]:
    """These tasks, locked; raises NotFoundError if one is not in the group."""
    run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(list(ids))})
    tasks = list(Task.objects.filter(group_id=group_id, id__in=_among(ids)))
    if len(tasks) < len(set(ids)):
        raise NotFoundError("task not found")
    return tasks


def _refuse_executing(tasks: Iterable[Task]) -> None:
    for task in tasks:
        if task.is_executing:
            raise ConflictError(f"task {task.id} is executing")


def _edit(group_id: str, id_: str, changes: Mapping[str, Any]) -> None:
    (task,) = _locked(group_id, [id_])
    if set(changes) - {"is_paused"}:
        _refuse_executing([task])
    fields = dict(changes)
    parent_ids = fields.pop("parent_ids", None)
    if "run_after" in fields and fields["run_after"] is None:
        fields["run_after"] = Now()
    if "is_complete" in fields and fields["is_complete"] != task.is_complete:
        fields |= {"completed_at": Now() if fields["is_complete"] else None, "merged_into": None}
    if fields:
        Task.objects.filter(pk=id_).update(**fields)
    if parent_ids is not None:
        _set_parents(group_id, task, parent_ids)
    if "completed_at" in fields:
        _recount_children(group_id, [id_])
    if fields.get("worker"):
        run(create_sql.WORKERS, {"workers": dump([fields["worker"]])})
    publish.tasks_changed([(group_id, id_)])


def _set_parents(group_id: str, task: Task, parent_ids: Sequence[str]) -> None:
    if task.is_complete:
        raise ConflictError(f"task {task.id} is complete: its parents are history")
    parent_ids = list(dict.fromkeys(parent_ids))
    if len(parent_ids) > conf.CREW_MAX_PARENTS:
        raise InvalidInputError(f"task {task.id} has more than {conf.CREW_MAX_PARENTS} parents")
    found = create.known(parent_ids)
    for parent in parent_ids:
        if found.get(parent, ("", False))[0] != group_id:
            raise InvalidInputError(f"cannot find all parents for task {task.id}: {parent}")
    _refuse_cycle(task.id, parent_ids)
    ParentEdge.objects.filter(child=task).delete()
    ParentEdge.objects.bulk_create(
        ParentEdge(child=task, parent_id=parent, position=place)
        for place, parent in enumerate(parent_ids)
    )
    run(sql.RECOUNT, {"group": group_id, "ids": dump([task.id])})


def _refuse_cycle(id_: str, parent_ids: Sequence[str]) -> None:
    """Raise ConflictError, naming the cycle, if one of the parents descends from the task."""
    above = [row[0] for row in run(sql.ANCESTORS, {"ids": dump(list(parent_ids))})]
    if id_ not in above:
        return
    edges = ParentEdge.objects.filter(child__in=_among(above)).values_list("child_id", "parent_id")
    parents: dict[str, tuple[str, ...]] = {id_: tuple(parent_ids)}
    for child, parent in edges:
        if child != id_:
            parents[child] = (*parents.get(child, ()), parent)
    try:
        graph.check_acyclic(parents)
    except InvalidInputError as error:
        raise ConflictError(str(error)) from error


def _recount_children(group_id: str, ids: Sequence[str]) -> None:
    children = ParentEdge.objects.filter(parent__in=_among(ids)).values_list("child_id", flat=True)
    run(sql.RECOUNT, {"group": group_id, "ids": dump(sorted(set(children)))})


def _with_orphans(ids: Sequence[str]) -> list[str]:
    going = dict.fromkeys(ids)
    round_ = list(going)
    while round_:
        rows = run(sql.ORPHANS, {"ids": dump(round_), "going": dump(list(going))})
        round_ = [id_ for (id_,) in rows if id_ not in going]
        going |= dict.fromkeys(round_)
    return list(going)


def _remove(group_id: str, ids: Sequence[str]) -> None:
    """Delete these tasks with edges and attempts, let go who followed them, and count."""
    if not ids:
        return
    run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(list(ids))})
    _raw_delete(ParentEdge.objects.filter(Q(child__in=_among(ids)) | Q(parent__in=_among(ids))))
    _raw_delete(Attempt.objects.filter(task__in=_among(ids)))
    followers = Task.objects.filter(
        group_id=group_id, merged_into__in=_among(ids), is_complete=False
    )
    followers.update(merged_into=None)
    count = _raw_delete(Task.objects.filter(id__in=_among(ids)))
    TaskGroup.objects.filter(pk=group_id).update(task_count=Greatest(F("task_count") - count, 0))
    publish.tasks_deleted(group_id, list(ids))


def _among(ids: Iterable[str]) -> RawSQL:
    """For `id__in`: any number of ids as one parameter; SQLite takes 32,766 at most."""
    elements = "jsonb_array_elements_text(%s::jsonb)" if on_postgres() else "json_each(%s)"
    column = "*" if on_postgres() else "value"
    return RawSQL(f"SELECT {column} FROM {elements}", [dump(list(ids))])  # noqa: S608, S611


def _raw_delete(rows: models.QuerySet[Any]) -> int:
    """Delete by one statement; the caller sees to what refers to the rows."""
    return rows._raw_delete(rows.db)

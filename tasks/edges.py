"""How tasks hang together, changed: parents, descendants, removal. Below the verbs of `control`.

Every function runs in a transaction that holds the group alone, and counts `pending_parents`
anew for whom it touched.
"""

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.models import F
from django.db.models.functions import Greatest

from . import create, graph, publish, wire
from .conf import conf
from .errors import ConflictError, InvalidInputError
from .jsonio import dump
from .models import Attempt, ParentEdge, Task, TaskGroup
from .sql import among, run
from .sql import control as sql

SHOWN_PAYLOAD = 4096  # characters of a deleted task's input, output and errors


def set_parents(group_id: str, task: Task, parent_ids: Sequence[str]) -> None:
    """Give a task these parents and no others.

    Raises ConflictError for a complete task and for a cycle, InvalidInputError for a parent that
    is not in the group.
    """
    parent_ids = list(dict.fromkeys(parent_ids))
    now = ParentEdge.objects.filter(child=task).order_by("position")
    if parent_ids == list(now.values_list("parent_id", flat=True)):
        return
    if task.is_complete:
        raise ConflictError(f"task {task.id} is complete: its parents are history")
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
    edges = ParentEdge.objects.filter(child__in=among(above)).values_list("child_id", "parent_id")
    parents: dict[str, tuple[str, ...]] = {id_: tuple(parent_ids)}
    for child, parent in edges:
        if child != id_:
            parents[child] = (*parents.get(child, ()), parent)
    try:
        graph.check_acyclic(parents)
    except InvalidInputError as error:
        raise ConflictError(str(error)) from error


def recount_children(group_id: str, ids: Sequence[str]) -> None:
    """Count the pending parents of all children of these tasks."""
    children = ParentEdge.objects.filter(parent__in=among(ids)).values_list("child_id", flat=True)
    run(sql.RECOUNT, {"group": group_id, "ids": dump(sorted(set(children)))})


def with_orphans(ids: Sequence[str]) -> list[str]:
    """These tasks and the descendants that are left without any parent when they go."""
    going = dict.fromkeys(ids)
    round_ = list(going)
    while round_:
        rows = run(sql.ORPHANS, {"ids": dump(round_), "going": dump(list(going))})
        round_ = [id_ for (id_,) in rows if id_ not in going]
        going |= dict.fromkeys(round_)
    return list(going)


def remove(group_id: str, ids: Sequence[str], *, is_told: bool = True) -> None:
    """Delete these tasks with edges and attempts, let go who followed them, and count.

    Unless `is_told`, whoever watches the group is not told task by task, but to load it anew.
    """
    if not ids:
        return
    run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(list(ids))})
    last = last_states(group_id, ids) if is_told else []
    # One by one: for either of two, PostgreSQL reads every edge there is.
    raw_delete(ParentEdge.objects.filter(child__in=among(ids)))
    raw_delete(ParentEdge.objects.filter(parent__in=among(ids)))
    raw_delete(Attempt.objects.filter(task__in=among(ids)))
    followers = Task.objects.filter(
        group_id=group_id, merged_into__in=among(ids), is_complete=False
    )
    released = list(followers.order_by("id").values_list("id", flat=True))
    followers.update(merged_into=None)
    count = raw_delete(Task.objects.filter(id__in=among(ids)))
    TaskGroup.objects.filter(pk=group_id).update(task_count=Greatest(F("task_count") - count, 0))
    if is_told:
        publish.tasks_deleted(group_id, last)
        gone = set(ids)
        publish.tasks_changed((group_id, id_) for id_ in released if id_ not in gone)
    else:
        publish.group_changed(group_id, "reload")


def last_states(group_id: str, ids: Sequence[str]) -> list[wire.Json]:
    """What browsers are shown of tasks that go; the payloads only where they are short.

    With more than browsers are told one by one, only the ids.
    """
    if len(ids) > publish.TOLD_ONE_BY_ONE:
        return [{"id": id_} for id_ in ids]
    shown = wire.tasks(list(Task.objects.filter(group_id=group_id, id__in=among(ids))))
    for task in shown:
        if len(dump([task["input"], task["output"], task["errors"]])) > SHOWN_PAYLOAD:
            task |= {"input": None, "output": None, "errors": []}
    return shown


def raw_delete(rows: models.QuerySet[Any]) -> int:
    """Delete by one statement; the caller sees to what refers to the rows."""
    return rows._raw_delete(rows.db)

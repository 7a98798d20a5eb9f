"""How tasks hang together, changed: parents, descendants, removal. Below the verbs of `control`.

Every function runs in a transaction that holds the group alone, and counts `pending_parents`
again for the tasks that it touched.
"""

from collections.abc import Collection, Sequence
from typing import Any

from django.db import models
from django.db.models import F
from django.db.models.functions import Greatest, Now

from ..conf import conf
from ..errors import ConflictError, InvalidInputError
from ..models import Attempt, ParentEdge, Task, TaskGroup
from ..rules import graph
from ..rules.jsonio import dump
from ..sql import control as sql
from ..sql import run
from ..sql.leaders import KEY_LOCKS
from ..sql.probes import probed, sliced
from . import changes, cut_calls, wire
from .rows import known

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
    "keeps_complete": None,
}
SHOWN_PAYLOAD = 4096  # characters of a deleted task's input, output and errors
TASKS_IN_MEMORY = 100  # such tasks in memory: each may be some MiB
SHOWN = 500  # tasks that went: to read more of them would keep the group for seconds


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
    found = known(parent_ids)
    for parent in parent_ids:
        if found.get(parent, ("", False))[0] != group_id:
            raise InvalidInputError(f"cannot find all parents for task {task.id}: {parent}")
    _refuse_cycle(task.id, parent_ids)
    ParentEdge.objects.filter(child=task).delete()
    ParentEdge.objects.bulk_create(
        ParentEdge(child=task, parent_id=parent, position=place)
        for place, parent in enumerate(parent_ids)
    )
    recount(group_id, [task.id])
    # Who is given tasks to follow decides by the edges, and holds this while he does.
    run(KEY_LOCKS, {"groups": dump([group_id])})
    changes.tasks_changed((group_id, id_) for id_ in part_from_ancestors(group_id, task.id))


def _refuse_cycle(id_: str, parent_ids: Sequence[str]) -> None:
    """Raise ConflictError, naming the cycle, if one of the parents descends from the task."""
    above = [row[0] for row in run(sql.ANCESTORS, {"ids": dump(list(parent_ids))})]
    if id_ not in above:
        return
    edges = ParentEdge.objects.filter(probed("child_id", above))
    parents: dict[str, tuple[str, ...]] = {id_: tuple(parent_ids)}
    for child, parent in edges.values_list("child_id", "parent_id"):
        if child != id_:
            parents[child] = (*parents.get(child, ()), parent)
    try:
        graph.check_acyclic(parents)
    except InvalidInputError as error:
        raise ConflictError(str(error)) from error


def ids_in(group_id: str) -> list[str]:
    """All tasks of the group, in no order: by ids in their order, another index may be read."""
    return list(Task.objects.filter(group_id=group_id).values_list("id", flat=True))


def lock(group_id: str, ids: Sequence[str]) -> None:
    if ids:
        run(sql.LOCK_TASKS, {"group": group_id, "ids": dump(list(ids))})


def stop_attempts(group_id: str, ids: Sequence[str], why: str) -> None:
    """Lock these tasks, end their open attempts without an outcome, and give up their calls."""
    lock(group_id, ids)
    for some in sliced(ids):
        run(sql.CANCEL_ATTEMPTS, {"group": group_id, "ids": dump(some), "why": why})
        cut_calls.give_up(some)


def update(ids: Sequence[str], **fields: Any) -> None:
    """Write these fields of these tasks, which are locked."""
    for some in sliced(ids):
        Task.objects.filter(probed("id", some)).update(**fields)


def recount(group_id: str, ids: Sequence[str]) -> None:
    """Count the pending parents of these tasks."""
    lock(group_id, ids)
    for some in sliced(ids):
        run(sql.RECOUNT, {"ids": dump(some)})


def recount_children(group_id: str, ids: Sequence[str]) -> None:
    """Count the pending parents of all children of these tasks, whose state may move by it."""
    ids = children(ids)
    recount(group_id, ids)
    changes.tasks_changed((group_id, id_) for id_ in ids)


def children(ids: Sequence[str]) -> list[str]:
    """The children of these tasks, each once."""
    found = (run(sql.CHILDREN, {"ids": dump(some)}) for some in sliced(ids))
    return list(dict.fromkeys(id_ for rows in found for (id_,) in rows))


def made(ids: Sequence[str]) -> list[str]:
    """What the answers of these tasks made."""
    found = (run(sql.MADE, {"ids": dump(some)}) for some in sliced(ids))
    return [id_ for rows in found for (id_,) in rows]


def with_orphans(ids: Sequence[str], staying: Collection[str] = ()) -> list[str]:
    """These tasks and the descendants that are left without any parent when they go.

    Those that are `staying` do so, whatever becomes of their parents.
    """
    return graph.with_orphans(ids, below(ids), staying)


def below(ids: Sequence[str]) -> list[tuple[Any, ...]]:
    """All edges (child, parent) above these tasks and above all that descend from them."""
    return run(sql.BELOW, {"ids": dump(list(ids))})


def with_near_orphans(ids: Sequence[str]) -> list[str]:
    """These tasks and those of their children that are left without any parent when they go.

    Reads no further: what hangs below a child that stays may be the rest of the group.
    """
    return graph.with_orphans(ids, around(ids))


def around(ids: Sequence[str]) -> list[tuple[Any, ...]]:
    """The edges (child, parent) above these tasks and above their children."""
    found = (run(sql.AROUND, {"ids": dump(some)}) for some in sliced(ids))
    return list(dict.fromkeys(edge for rows in found for edge in rows))


def remove(group_id: str, ids: Sequence[str], *, is_told: bool = True) -> None:
    """Delete these tasks, which are locked, with edges and attempts, let go who followed them.

    Unless `is_told`, whoever watches the group is not told task by task, but to load it again.
    """
    if not ids:
        return
    last = last_states(ids) if is_told else []
    released = release_followers(group_id, ids)
    for some in sliced(ids):
        raw_delete(ParentEdge.objects.filter(probed("parent_id", some)))
    count = wipe(ids)
    _disown(group_id, ids)
    TaskGroup.objects.filter(pk=group_id).update(task_count=Greatest(F("task_count") - count, 0))
    if is_told:
        changes.tasks_deleted(group_id, last)
        gone = set(ids)
        changes.tasks_changed((group_id, id_) for id_ in released if id_ not in gone)
    else:
        changes.group_changed(group_id, "reload")


def wipe(ids: Sequence[str]) -> int:
    """Delete these tasks, which are locked, with attempts and edges to parents; how many went.

    The calls of those that run are given up.
    """
    count = 0
    for some in sliced(ids):
        cut_calls.give_up(some)
        raw_delete(ParentEdge.objects.filter(probed("child_id", some)))
        raw_delete(Attempt.objects.filter(probed("task_id", some)))
        count += raw_delete(Task.objects.filter(probed("id", some)))
    return count


def _disown(group_id: str, ids: Sequence[str]) -> None:
    """What these made and what stays is nobody's now: a task recreated under such an id is not
    the one whose answer made it."""
    for some in sliced(ids):
        left = made(some)
        lock(group_id, left)
        update(left, created_by="")


def part_from_ancestors(group_id: str, id_: str) -> list[str]:
    """Let go those, at this task or below, that follow a task above it; return their ids.

    It has new parents: a task never follows its own ancestor.
    """
    above = [one for (one,) in run(sql.ANCESTORS, {"ids": dump([id_])}) if one != id_]
    following = _followers(above)
    if following:
        at_or_below = {id_, *(child for child, _ in below([id_]))}
        following = [one for one in following if one in at_or_below]
        lock(group_id, following)
        update(following, merged_into=None)
    return following


def release_followers(group_id: str, ids: Sequence[str]) -> list[str]:
    """Let go the tasks for which one of these runs; return their ids."""
    released = _followers(ids)
    lock(group_id, released)
    update(released, merged_into=None)
    return released


def _followers(ids: Sequence[str]) -> list[str]:
    found = (run(sql.FOLLOWERS, {"ids": dump(some)}) for some in sliced(ids))
    return sorted(id_ for rows in found for (id_,) in rows)


def last_states(ids: Sequence[str]) -> list[wire.Json]:
    """What browsers are shown of tasks that go; the payloads only where they are short.

    Of more than `SHOWN`, only the ids.
    """
    if len(ids) > SHOWN:
        return [{"id": id_} for id_ in ids]
    parts = (ids[at : at + TASKS_IN_MEMORY] for at in range(0, len(ids), TASKS_IN_MEMORY))
    return [_shown(task) for some in parts for task in wire.tasks(_without_shared(some))]


def _without_shared(ids: Sequence[str]) -> list[Task]:
    """The tasks; what many of them share is long, and would be read for each of them."""
    tasks = list(Task.objects.filter(probed("id", ids)).defer("output"))
    own = [task.pk for task in tasks if task.shared_output_id is None]
    outputs = dict(Task.objects.filter(probed("id", own)).values_list("id", "output"))
    for task in tasks:
        task.output = outputs.get(task.pk)
    return tasks


def _shown(task: wire.Json) -> wire.Json:
    if len(dump([task["input"], task["output"], task["errors"]])) > SHOWN_PAYLOAD:
        task |= {"input": None, "output": None, "errors": []}
    return task


def raw_delete(rows: models.QuerySet[Any]) -> int:
    """Delete by one statement; the caller sees to what refers to the rows."""
    return rows._raw_delete(rows.db)

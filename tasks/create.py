"""Groups and tasks come in, whole or not at all: the one door for all who make them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from . import graph, publish
from .conf import conf
from .errors import ConflictError, InvalidInputError, NotFoundError
from .jsonio import dump
from .models import TaskGroup
from .spec import TaskSpec, read_id, read_task, read_text
from .sql import create as sql
from .sql import on_postgres, run


def create_group(
    *,
    id: str = "",
    name: str = "",
    is_paused: bool = False,
    tasks: Iterable[Mapping[str, Any] | TaskSpec] = (),
) -> TaskGroup:
    """Store a group and, in the same transaction, its tasks.

    Raises InvalidInputError for what can not be stored and ConflictError for an id in use;
    nothing is stored then.
    """
    specs = read_specs(tasks)
    group = TaskGroup(id=read_id(id), name=read_text(name, "name"), is_paused=is_paused)
    try:
        with transaction.atomic():
            group.save(force_insert=True)
            publish.group_changed(group.id, "update")
            if specs:
                create_tasks(group.id, specs)
    except IntegrityError as error:
        if TaskGroup.objects.filter(pk=group.pk).exists():
            raise ConflictError(f"a task group with the id {group.pk} exists already") from error
        raise
    group.refresh_from_db()
    return group


def create_tasks(group_id: str, tasks: Iterable[Mapping[str, Any] | TaskSpec]) -> list[str]:
    """Store tasks, in any order, in one transaction; return their ids in the order given.

    Parents may be among them or already in the group. Tasks of a paused group are created
    paused. Raises NotFoundError (group), ConflictError (an id in use) or InvalidInputError, and
    has stored nothing then.
    """
    specs = read_specs(tasks)
    _check_call(specs)
    graph.check_new(specs, max_parents=conf.CREW_MAX_PARENTS)
    ids = [spec.id for spec in specs]
    outside = graph.outside_parents(specs, set(ids))
    with transaction.atomic():
        paused = _lock_group(group_id, alone=bool(outside))
        _refuse_known(ids)
        complete = _complete_parents(group_id, specs, outside)
        try:
            with transaction.atomic():
                insert(group_id, specs, complete=complete, paused=paused)
        except IntegrityError as error:
            _refuse_known(ids)
            raise ConflictError(f"the tasks could not be stored: {error}") from error
        publish.wake_schedulers()
    return ids


def read_specs(tasks: Iterable[Mapping[str, Any] | TaskSpec]) -> list[TaskSpec]:
    """Read tasks in the wire's words; the first that can not be right is named by its place."""
    specs = []
    for index, task in enumerate(tasks):
        if isinstance(task, TaskSpec):
            specs.append(task)
            continue
        try:
            specs.append(read_task(task, max_input=conf.CREW_MAX_INPUT_BYTES))
        except InvalidInputError as error:
            raise InvalidInputError(f"task {index}: {error}") from error
    return specs


def insert(
    group_id: str,
    specs: Sequence[TaskSpec],
    *,
    complete: set[str],
    paused: bool,
    created_by: str = "",
) -> None:
    """Write checked tasks in the running transaction.

    `complete` are the parents that hold nobody up. The caller holds the group's lock.
    """
    if not specs:
        return
    counted = run(
        sql.COUNT_IN, {"group": group_id, "n": len(specs), "most": conf.CREW_MAX_GROUP_TASKS}
    )
    if not counted:
        raise InvalidInputError(f"a group holds at most {conf.CREW_MAX_GROUP_TASKS} tasks")
    complete = complete | {spec.id for spec in specs if spec.is_complete}
    rows = ",".join(_row(spec, place, complete, created_by) for place, spec in enumerate(specs))
    run(sql.TASKS, {"group": group_id, "paused": paused, "tasks": f"[{rows}]"})
    edges = [
        (spec.id, parent, place)
        for spec in specs
        for place, parent in enumerate(_all_parents(spec, created_by))
    ]
    if edges:
        run(sql.EDGES, {"edges": dump(edges)})
    workers = sorted({spec.worker for spec in specs} - {""})
    if workers:
        run(sql.WORKERS, {"workers": dump(workers)})
    publish.tasks_created(group_id, [spec.id for spec in specs])


def known(ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Of these ids, those in the store: their group and whether they are complete."""
    rows = run(sql.KNOWN, {"ids": dump(list(ids))})
    return {id_: (group_id, bool(is_complete)) for id_, group_id, is_complete in rows}


def _all_parents(spec: TaskSpec, created_by: str) -> tuple[str, ...]:
    """A continuation's maker is its last parent (contract 2.3)."""
    return (*spec.parent_ids, created_by) if created_by else spec.parent_ids


def _check_call(specs: Sequence[TaskSpec]) -> None:
    if len(specs) > conf.CREW_MAX_TASKS_PER_CALL:
        raise InvalidInputError(f"more than {conf.CREW_MAX_TASKS_PER_CALL} tasks in one call")
    edges = sum(len(spec.parent_ids) for spec in specs)
    if edges > conf.CREW_MAX_EDGES_PER_CALL:
        raise InvalidInputError(f"more than {conf.CREW_MAX_EDGES_PER_CALL} parents in one call")


def _lock_group(group_id: str, *, alone: bool) -> bool:
    """Keep the group as it is; return whether it is paused.

    Who adds children to tasks that exist keeps settles out meanwhile (`alone`), so that no
    parent completes between the look at it and the commit.
    """
    rows = run(sql.GROUP_ALONE if alone else sql.GROUP, {"group": group_id})
    if not rows:
        raise NotFoundError("task group not found")
    return bool(rows[0][1])


def _refuse_known(ids: Sequence[str]) -> None:
    taken = known(ids)
    if taken:
        raise ConflictError(f"a task with the id {min(taken)} exists already")


def _complete_parents(group_id: str, specs: Sequence[TaskSpec], outside: set[str]) -> set[str]:
    """Those of the outside parents that are complete; all must be in this group."""
    if not outside:
        return set()
    found = known(sorted(outside))
    for index, spec in enumerate(specs):
        for parent in spec.parent_ids:
            if parent in outside and found.get(parent, ("", False))[0] != group_id:
                raise InvalidInputError(
                    f"cannot find all parents for task {index} ({spec.id}): {parent}"
                )
    return {id_ for id_, (_, is_complete) in found.items() if is_complete}


def _row(spec: TaskSpec, place: int, complete: set[str], created_by: str) -> str:
    """The task as JSON for the statement; input and output are spliced in as they are."""
    pending = sum(parent not in complete for parent in spec.parent_ids)
    head = json.dumps(
        {
            "id": spec.id,
            "name": spec.name,
            "worker": spec.worker,
            "workgroup": spec.workgroup,
            "key": spec.key,
            "errors": spec.errors,
            "remaining_attempts": spec.remaining_attempts,
            "is_paused": spec.is_paused,
            "is_complete": spec.is_complete,
            "is_seed": spec.is_seed,
            "run_after": _time(spec.run_after),
            "error_delay": spec.error_delay_in_seconds,
            "priority": spec.priority,
            "created_at": _time(spec.created_at),
            "pending": pending,
            "created_by": created_by,
            "place": place,
        }
    )
    return (
        f'{head[:-1]},"input":{spec.input_json or "null"},"output":{spec.output_json or "null"}}}'
    )


def _time(value: datetime | None) -> str | None:
    """As both databases store it: UTC; SQLite compares the text, so always six digits."""
    if value is None:
        return None
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") + ("+00" if on_postgres() else "")

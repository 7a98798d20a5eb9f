"""Groups and tasks come in, whole or not at all: the one door for all who make them."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from .conf import conf
from .errors import ConflictError, InvalidInputError, NotFoundError
from .models import Task, TaskGroup
from .rules import graph
from .rules.jsonio import dump, from_store
from .rules.spec import FLAT, PAYLOADS, TaskSpec, read_id, read_task, read_text
from .sql import BoundStatement, moment, run, run_together
from .sql import create as sql
from .sql.prepared import prepared
from .store import changes, key_warnings, rows
from .store.gc_pause import uncollected
from .store.rows import Family

__all__ = ["create_group", "create_task", "create_tasks"]

# From so many tasks on, a cheaper row is worth more round trips.
MANY = 200


def create_group(
    *,
    id: str = "",
    name: str = "",
    is_paused: bool = False,
    created_at: datetime | None = None,
    tasks: Iterable[Mapping[str, Any] | TaskSpec] = (),
) -> TaskGroup:
    """Store a group and, in the same transaction, its tasks.

    Raises InvalidInputError for what cannot be stored and ConflictError for an id in use;
    nothing is stored then.
    """
    specs = read_specs(tasks)
    group = TaskGroup(id=read_id(id), name=read_text(name, "name"), is_paused=is_paused)
    if created_at is not None:
        group.created_at = created_at
    try:
        with transaction.atomic():
            group.save(force_insert=True)
            changes.group_changed(group.id, "update")
            if specs:
                create_tasks(group.id, specs)
    except IntegrityError as error:
        if TaskGroup.objects.filter(pk=group.pk).exists():
            raise ConflictError(f"a task group with the id {group.pk} exists already") from error
        raise
    group.refresh_from_db()
    return group


def create_tasks(
    group_id: str, tasks: Iterable[Mapping[str, Any] | TaskSpec], *, most: int | None = None
) -> list[str]:
    """Store tasks, in any order, in one transaction; return their ids in the order given.

    Parents may be among them or already in the group. Tasks of a paused group are created
    paused. `most` tasks at once, with ten times as many parents, instead of what the settings
    allow in one call. Raises NotFoundError (group), ConflictError (an id in use) or
    InvalidInputError, and has stored nothing then.
    """
    with uncollected():
        specs = read_specs(tasks)
        _check_call(specs, most)
        graph.check_new(specs, max_parents=conf.CREW_MAX_PARENTS)
    _bring_in(group_id, specs, _write if len(specs) < MANY else rows.write_many)
    return [spec.id for spec in specs]


def create_task(group_id: str, spec: TaskSpec) -> Task:
    """Store one task, as `create_tasks` does, and return it as it is stored."""
    graph.check_new([spec], max_parents=conf.CREW_MAX_PARENTS)
    (stored,) = _bring_in(group_id, [spec], _write_returning)
    return _stored(group_id, spec, stored)


@uncollected()
def read_specs(tasks: Iterable[Mapping[str, Any] | TaskSpec]) -> list[TaskSpec]:
    """Read tasks in the wire's words; the first that cannot be right is named by its place."""
    specs = []
    max_input = conf.CREW_MAX_INPUT_BYTES  # looked up once, not for each of many tasks
    for index, task in enumerate(tasks):
        if isinstance(task, TaskSpec):
            specs.append(task)
            continue
        try:
            specs.append(read_task(task, max_input=max_input))
        except InvalidInputError as error:
            raise InvalidInputError(f"task {index}: {error}") from error
    return specs


def insert(families: Sequence[Family]) -> None:
    """Write checked tasks in the running transaction, all families by the same statements.

    The caller holds the groups' locks and tells browsers. Raises InvalidInputError when a group
    is too full for all that come into it: the transaction must be rolled back then.
    """
    counts = Counter[str]()
    for family in families:
        counts[family.group_id] += len(family.specs)
    if counts.total():
        counted, *_ = run_together(_counting(counts), *rows.statements(families))
        _counted(counts, counted)


def _bring_in(group_id: str, specs: Sequence[TaskSpec], write: Callable[[Family], Any]) -> Any:
    """Store checked tasks in one transaction; return what `write` does.

    The database finds an id in use: to look first would not keep another from taking it.
    """
    ids = [spec.id for spec in specs]
    outside = graph.outside_parents(specs, set(ids))
    try:
        with prepared(), transaction.atomic():
            if outside:
                _lock_alone(group_id)
            counts = {group_id: len(specs)}
            paused = _counted(counts, run(*_counting(counts)))[group_id]
            complete = _complete_parents(group_id, specs, outside)
            stored = write(Family(group_id, specs, paused, complete))
            changes.tasks_created(group_id, ids)
            key_warnings.warn(group_id, specs)
    except IntegrityError as error:
        _refuse_known(ids)
        raise ConflictError(f"the tasks could not be stored: {error}") from error
    return stored


def _write(family: Family) -> None:
    run_together(*rows.statements([family]))


def _write_returning(family: Family) -> list[tuple[Any, ...]]:
    return run_together(*rows.statements([family], sql.TASKS_RETURNING))[-1]


def _counting(counts: Mapping[str, int]) -> BoundStatement:
    sent = [{"id": group_id, "n": n} for group_id, n in counts.items()]
    return sql.COUNT_IN, {"counts": dump(sent), "most": conf.CREW_MAX_GROUP_TASKS}


def _counted(counts: Mapping[str, int], counted: Sequence[tuple[Any, ...]]) -> dict[str, bool]:
    """Which of the groups are paused, by what COUNT_IN gave: all are kept as they are."""
    if len(counted) < len(counts):
        if not TaskGroup.objects.filter(pk__in=counts).exists():
            raise NotFoundError("task group not found")
        raise InvalidInputError(f"a group holds at most {conf.CREW_MAX_GROUP_TASKS} tasks")
    return {group_id: bool(is_paused) for group_id, is_paused in counted}


def _stored(group_id: str, spec: TaskSpec, stored: Sequence[Any]) -> Task:
    """The new row, without looking at it again."""
    created_at, run_after, is_paused, pending, *payloads = stored
    return Task(
        id=spec.id,
        group_id=group_id,
        is_paused=bool(is_paused),
        run_after=moment(run_after),
        created_at=moment(created_at),
        pending_parents=pending,
        errors=list(spec.errors),
        **{field.column: getattr(spec, field.attribute) for field in FLAT},
        **{
            field.column: None if text is None else json.loads(from_store(text))
            for field, text in zip(PAYLOADS, payloads, strict=True)
        },
    )


def _check_call(specs: Sequence[TaskSpec], most: int | None) -> None:
    most_tasks = most or conf.CREW_MAX_TASKS_PER_CALL
    most_edges = 10 * most if most else conf.CREW_MAX_EDGES_PER_CALL
    if len(specs) > most_tasks:
        raise InvalidInputError(f"more than {most_tasks} tasks in one call")
    if sum(len(spec.parent_ids) for spec in specs) > most_edges:
        raise InvalidInputError(f"more than {most_edges} parents in one call")


def _lock_alone(group_id: str) -> None:
    """Who adds children to tasks that exist keeps settles out meanwhile.

    So no parent completes between the look at it and the commit.
    """
    if not run(sql.GROUP_ALONE, {"group": group_id}):
        raise NotFoundError("task group not found")


def _refuse_known(ids: Sequence[str]) -> None:
    taken = rows.known(ids)
    if taken:
        raise ConflictError(f"a task with the id {min(taken)} exists already")


def _complete_parents(group_id: str, specs: Sequence[TaskSpec], outside: set[str]) -> set[str]:
    """Those of the outside parents that are complete; all must be in this group."""
    if not outside:
        return set()
    found = rows.known(sorted(outside))
    for index, spec in enumerate(specs):
        for parent in spec.parent_ids:
            if parent in outside and found.get(parent, ("", False))[0] != group_id:
                raise InvalidInputError(
                    f"cannot find all parents for task {index} ({spec.id}): {parent}"
                )
    return {id_ for id_, (_, is_complete) in found.items() if is_complete}

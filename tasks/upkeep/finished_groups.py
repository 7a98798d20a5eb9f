"""Finished groups go when they are old enough: small ones together, large ones part by part.

Each transaction takes some tenths of a second and waits for nobody's rows, so that claims and
settles go on beside it.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from .. import audit, control
from ..errors import NotFoundError
from ..models import Task, TaskGroup
from ..redact import one_line
from ..rules.jsonio import dump
from ..sql import Within, run, run_steered
from ..sql import control as sql
from ..sql import prune as prune_sql
from ..sql.patience import is_locked, is_outage, is_overload, most
from ..store import changes, edges, wire
from ..verbs import slices
from .expired_rows import MOMENT, is_our_turn

logger = logging.getLogger("crew.upkeep.finished_groups")

TASKS_PER_TRANSACTION = 2_000  # tasks in one transaction
LEAST = 500  # of them where they take long: a transaction by itself costs as much as a hundred
FEWEST, PARTED = 20, 10  # with less at once where the database does not get done, by that much
GROUPS = 200  # in one transaction, looked up at once: to find all would cost more than to delete
LOCK = 0.5  # seconds that it waits for a row of a task that somebody holds
TURN = 0.05  # seconds between two looks whether it is our turn
TURN_WITHIN = 5.0  # seconds; with another process at it for longer we are not needed
WHO = "retention"  # who the audit history says it was


@dataclass(frozen=True, slots=True)
class Gone:
    """What one transaction deleted."""

    groups: int = 0
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class _Batch:
    """What came of a look at the next old groups. `large`: one that goes part by part.

    `place` is behind the last that was looked at; None at the end of all.
    """

    gone: Gone
    place: tuple[Any, str] | None
    large: str = ""


def finished(days: float) -> QuerySet[TaskGroup]:
    """Groups of which every task is complete, and was so `days` ago; the oldest first."""
    return finished_before(Now() - timedelta(days=days))


def finished_before(cutoff: Any) -> QuerySet[TaskGroup]:
    """Groups of which every task was complete before that time; the oldest first.

    A group without tasks is not finished: it was not begun.
    """
    tasks = Task.objects.filter(group_id=OuterRef("pk"))
    lately = tasks.filter(is_complete=True, completed_at__gte=cutoff)
    return TaskGroup.objects.filter(
        ~Exists(tasks.filter(is_complete=False)),
        ~Exists(lately),
        created_at__lt=cutoff,
        task_count__gt=0,
    ).order_by("created_at", "id")


def prune_groups(days: float, *, seconds: float) -> tuple[int, int]:
    """Delete finished groups, oldest first, for about `seconds`; return how many groups and tasks.

    What was begun goes on the next time: a group goes with its last tasks.
    """
    until = time.monotonic() + seconds
    groups = tasks = 0
    for gone in _patiently(days):
        groups += gone.groups
        tasks += gone.tasks
        if time.monotonic() >= until:
            break
    return groups, tasks


def _patiently(days: float) -> Iterator[Gone]:
    """All steps, though it may be another process's turn in between."""
    waits_until = time.monotonic() + TURN_WITHIN
    while True:
        for gone in steps(days):
            if gone is None:
                break
            yield gone
            waits_until = time.monotonic() + TURN_WITHIN
        else:
            return
        if time.monotonic() > waits_until:
            return
        time.sleep(TURN)


def steps(days: float) -> Iterator[Gone | None]:
    """Delete all finished groups, oldest first; what went after each transaction.

    None, and the end: another process is at it.
    """
    place, size, is_alone = None, TASKS_PER_TRANSACTION, False
    while True:
        started = time.monotonic()
        try:
            batch = _batch(days, place, 0 if is_alone else size)
        except DatabaseError as error:
            is_in_the_way = is_overload(error) or is_locked(error) or not is_outage(error)
            if is_alone or not is_in_the_way:
                raise  # to find the groups, or for whatever is asked
            is_alone = size <= FEWEST  # the one at fault comes by itself, and says so
            size = max(FEWEST, size // PARTED)
            continue
        if batch is None:
            yield None
            return
        if not batch.large:
            yield batch.gone
        for gone in _parts(batch.large, days) if batch.large else ():
            yield gone
            if gone is None:
                return
        if batch.place is None:
            return
        size = TASKS_PER_TRANSACTION if is_alone else size  # the others are not to blame
        place, is_alone = batch.place, False
        if time.monotonic() - started > MOMENT and not batch.large:
            size = max(min(LEAST, size), size // 2)


def _batch(days: float, place: tuple[Any, str] | None, size: int) -> _Batch | None:
    """Delete the next old groups that together have so many tasks at most; None: not our turn."""
    with transaction.atomic():
        if not is_our_turn("groups"):
            return None
        age = timedelta(days=days).total_seconds()
        found = _next_groups(age, place)
        some, tasks = 0, 0
        for _, _, count in found:
            if tasks + count > size:
                break
            some, tasks = some + 1, tasks + count
        gone = _delete_finished([id_ for id_, _, _ in found[:some]], age)
    if not found or (some == len(found) < GROUPS):
        return _Batch(gone, None)
    large = found[some][0] if some == 0 else ""
    last = found[max(0, some - 1)]
    return _Batch(gone, (last[1], last[0]), large)


def _next_groups(age: float, place: tuple[Any, str] | None) -> list[tuple[Any, ...]]:
    """Old groups of which nothing is left to do, locked alone: id, time and number of tasks."""
    asked: dict[str, Any] = {"age": age, "most": GROUPS}
    within = Within(lock=LOCK, statement=most())
    if place is None:
        return run_steered((prune_sql.FIRST_GROUPS, asked), within=within)[0]
    asked |= {"at": place[0], "id": place[1]}
    return run_steered((prune_sql.NEXT_GROUPS, asked), within=within)[0]


def _delete_finished(group_ids: Sequence[str], age: float) -> Gone:
    """Delete those of these groups, which are locked alone, that were finished so long ago.

    Whether one was finished only lately is asked here, of a few: most old groups of a busy store
    have to wait for another time.
    """
    tasks: defaultdict[str, list[str]] = defaultdict(list)
    waits = set()
    if group_ids:
        for group_id, id_, is_old in run(prune_sql.TASKS, {"age": age, "ids": dump(group_ids)}):
            tasks[group_id].append(id_)
            if not is_old:
                waits.add(group_id)
    going = [id_ for id_ in group_ids if id_ in tasks and id_ not in waits]
    if not going:
        return Gone()
    groups = TaskGroup.objects.filter(pk__in=going)
    last = [wire.group(group) for group in groups]
    edges.wipe(sorted(id_ for group_id in going for id_ in tasks[group_id]))
    edges.raw_delete(groups)
    changes.groups_deleted(last)
    counts = {id_: len(tasks[id_]) for id_ in going}
    with audit.by(WHO):
        audit.record_groups("delete", counts)
    return Gone(len(going), sum(counts.values()))


def _parts(group_id: str, days: float) -> Iterator[Gone | None]:
    """Delete a large group part by part; what went with each.

    None: it is another process's turn.
    """
    is_first, is_gone, size = True, False, TASKS_PER_TRANSACTION
    while not is_gone:
        try:
            with transaction.atomic():
                is_ours = is_our_turn("groups")
                if is_ours and not run(sql.GROUP_FREE, {"group": group_id}):
                    return  # somebody has it, perhaps for long; others are old too
                count, is_gone = _part(group_id, days, size, is_first) if is_ours else (0, False)
        except NotFoundError:
            return
        except DatabaseError as error:
            is_too_much = is_overload(error)
            if is_outage(error) and not is_too_much and not is_locked(error):
                raise
            if is_too_much and size > FEWEST:
                size //= PARTED
                continue
            logger.warning("Task group %s cannot be deleted: %s", one_line(group_id), error)
            return
        if not is_ours:
            yield None
            return
        if not count:
            return  # somebody went on with it
        yield Gone(int(is_gone), count)
        is_first = False


def _part(group_id: str, days: float, size: int, is_first: bool) -> tuple[int, bool]:
    with slices.alone(group_id):
        if is_first and not finished(days).filter(pk=group_id).exists():
            return 0, False
        return _delete_some(group_id, days, size)


def _delete_some(group_id: str, days: float, size: int) -> tuple[int, bool]:
    """Delete some tasks of a group that was finished, if it still is; whether all are gone.

    To look at all of its tasks for each part would make a large group cost the square of itself.
    """
    tasks = Task.objects.filter(group_id=group_id)
    is_old = Q(is_complete=True, completed_at__lt=Now() - timedelta(days=days))
    some = tasks.order_by("created_at", "id").annotate(is_old=is_old)
    found = list(some.values_list("id", "is_old")[: size + 1])
    if tasks.filter(is_complete=False).exists() or not all(is_old for _, is_old in found):
        return 0, False
    if len(found) <= size:
        with audit.by(WHO):
            return control.delete_group(group_id), True
    ids = [id_ for id_, _ in found[:size]]
    edges.lock(group_id, ids)
    edges.remove(group_id, ids, is_told=False)
    return size, False

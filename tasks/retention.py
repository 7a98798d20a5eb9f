"""Finished groups go when they are old enough, some tasks at a time: nobody waits for it."""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from . import audit, control, edges, slices
from .errors import NotFoundError
from .models import Task, TaskGroup
from .redact import one_line
from .sql import control as sql
from .sql import run
from .sql.patience import is_outage, is_overload

logger = logging.getLogger(__name__)

AT_ONCE = 2_000  # tasks in one transaction
FEWEST, PARTED = 20, 10  # with less at once where the database does not get done, by that much
GROUPS = 100  # looked up at once: to find all that are old would cost more than to delete a few
WHO = "retention"  # who the audit history says it was


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

    What was begun goes on the next time: a group goes with its last tasks. Ends early where
    another process is at it: one at a time is enough, and they would wait for each other.
    """
    until = time.monotonic() + seconds
    groups = tasks = 0
    for group_id in _ended(days):
        for count, is_gone in _parts(group_id, days):
            if count is None:
                return groups, tasks
            tasks += count
            groups += is_gone
            if time.monotonic() >= until:
                return groups, tasks
    return groups, tasks


def _ended(days: float) -> Iterator[str]:
    """Old groups that nothing is left of, oldest first.

    Whether one was finished only lately is asked in its turn: that may be a look at a million
    tasks, and most of these groups have to wait for another time.
    """
    groups = TaskGroup.objects.filter(
        ~Exists(Task.objects.filter(group_id=OuterRef("pk"), is_complete=False)),
        created_at__lt=Now() - timedelta(days=days),
        task_count__gt=0,
    ).order_by("created_at", "id")
    found = list(groups.values_list("created_at", "id")[:GROUPS])
    while found:
        yield from (group_id for _, group_id in found)
        at, id_ = found[-1]
        behind = Q(created_at__gt=at) | Q(created_at=at, id__gt=id_)
        found = list(
            groups.filter(behind, created_at__gte=at).values_list("created_at", "id")[:GROUPS]
        )


def _parts(group_id: str, days: float) -> Iterator[tuple[int | None, bool]]:
    """Delete the group part by part; after each, how many tasks went and whether it is gone.

    None instead of a number: it is another process's turn.
    """
    is_first, is_gone, most = True, False, AT_ONCE
    while not is_gone:
        try:
            with transaction.atomic():
                if not run(sql.PRUNE_TURN, {})[0][0]:
                    yield None, False
                    return
                if not run(sql.GROUP_FREE, {"group": group_id}):
                    return  # somebody has it, perhaps for long; others are old too
                with slices.alone(group_id):
                    if is_first and not finished(days).filter(pk=group_id).exists():
                        return
                    count, is_gone = _delete_some(group_id, days, most)
        except NotFoundError:
            return
        except DatabaseError as error:
            if is_outage(error) and not is_overload(error):
                raise
            if is_overload(error) and most > FEWEST:
                most //= PARTED
                continue
            logger.warning("Task group %s can not be deleted: %s", one_line(group_id), error)
            return
        if not count:
            return  # somebody went on with it
        yield count, is_gone
        is_first = False


def _delete_some(group_id: str, days: float, most: int) -> tuple[int, bool]:
    """Delete some tasks of a group that was finished, if it still is; whether all are gone.

    To look at all of its tasks for each part would make a large group cost the square of itself.
    """
    tasks = Task.objects.filter(group_id=group_id)
    is_old = Q(is_complete=True, completed_at__lt=Now() - timedelta(days=days))
    some = tasks.order_by("created_at", "id").annotate(is_old=is_old)
    found = list(some.values_list("id", "is_old")[: most + 1])
    if tasks.filter(is_complete=False).exists() or not all(is_old for _, is_old in found):
        return 0, False
    if len(found) <= most:
        with audit.by(WHO):
            return control.delete_group(group_id), True
    ids = [id_ for id_, _ in found[:most]]
    edges.lock(group_id, ids)
    edges.remove(group_id, ids, is_told=False)
    return most, False

"""Finished groups go when they are old enough, some tasks at a time: nobody waits for it."""

import time
from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from . import audit, control, edges
from .errors import NotFoundError
from .models import Task, TaskGroup

AT_ONCE = 2_000  # tasks in one transaction
GROUPS = 100  # looked up at once: to find all that are old would cost more than to delete a few
WHO = "retention"  # who the audit history says it was


def finished(days: float) -> QuerySet[TaskGroup]:
    """Groups of which every task is complete, and was so `days` ago; the oldest first.

    A group without tasks is not finished: it was not begun.
    """
    cutoff = Now() - timedelta(days=days)
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
    while found := list(finished(days).values_list("pk", flat=True)[:GROUPS]):
        for group_id in found:
            for count, is_gone in _parts(group_id, days):
                tasks += count
                groups += is_gone
                if time.monotonic() >= until:
                    return groups, tasks
    return groups, tasks


def _parts(group_id: str, days: float) -> Iterator[tuple[int, bool]]:
    """Delete the group part by part; after each, how many tasks went and whether it is gone."""
    is_gone = False
    while not is_gone:
        try:
            with control.alone(group_id):
                if not finished(days).filter(pk=group_id).exists():
                    return  # somebody went on with it
                count, is_gone = _delete_some(group_id)
        except NotFoundError:
            return
        yield count, is_gone


def _delete_some(group_id: str) -> tuple[int, bool]:
    tasks = Task.objects.filter(group_id=group_id).order_by("created_at", "id")
    ids = list(tasks.values_list("id", flat=True)[: AT_ONCE + 1])
    if len(ids) <= AT_ONCE:
        with audit.by(WHO):
            return control.delete_group(group_id), True
    edges.remove(group_id, ids[:AT_ONCE])
    return AT_ONCE, False

"""Browsers are told after the commit. The database is the truth; a socket is a window.

Each transaction writes one `Change` row per group it touched. Who wants to know reads them.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from django.db import connection, transaction
from django.db.models.functions import Now

from .conf import conf
from .models import Change

CHANNEL = "crew_wake"  # the PostgreSQL channel that wakes schedulers
KEPT_MINUTES = 10
TOLD_ONE_BY_ONE = 10_000  # ids in one change; with more, who watches the group loads it anew

# Set when this process committed new work: a scheduler in the same process waits on it.
work_arrived = threading.Event()


def tasks_changed(pairs: Iterable[tuple[str, str]]) -> None:
    """Note, in the running transaction, that these (group id, task id) were updated."""
    updated: defaultdict[str, list[str]] = defaultdict(list)
    for group_id, task_id in pairs:
        updated[group_id].append(task_id)
    Change.objects.bulk_create(
        Change(group_id=group_id, updated=ids)
        if len(ids) <= TOLD_ONE_BY_ONE
        else Change(group_id=group_id, group_event="reload")
        for group_id, ids in updated.items()
    )


def tasks_created(group_id: str, ids: list[str]) -> None:
    if len(ids) > TOLD_ONE_BY_ONE:
        group_changed(group_id, "reload")
    else:
        Change.objects.create(group_id=group_id, created=ids)


def tasks_deleted(group_id: str, ids: list[str]) -> None:
    if len(ids) > TOLD_ONE_BY_ONE:
        group_changed(group_id, "reload")
    else:
        Change.objects.create(group_id=group_id, deleted=ids)


def group_changed(group_id: str, event: str) -> None:
    """`event` is "update", "delete" (no task of the group is told one by one) or "reload"."""
    Change.objects.create(group_id=group_id, group_event=event)


def workgroup_changed(names: Iterable[str]) -> None:
    Change.objects.bulk_create(Change(workgroup=name) for name in names)


def wake_schedulers() -> None:
    """When the running transaction commits, let every scheduler look at once.

    A hint: schedulers also look by themselves every second.
    """
    if connection.vendor == "postgresql" and conf.CREW_NOTIFY:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
    transaction.on_commit(work_arrived.set)


def prune() -> int:
    """Delete the changes every browser has seen; return how many."""

    old = Change.objects.filter(at__lt=Now() - timedelta(minutes=KEPT_MINUTES))
    return old.delete()[0]

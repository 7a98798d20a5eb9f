"""Browsers are told after the commit. The database is the truth; a socket is a window.

Each transaction writes one `Change` row per group it touched. Who wants to know reads them.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error, connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from ..models import Change
from ..rules.fair_share import Lane
from ..rules.jsonio import dump
from ..sql import BoundStatement, can_notify, run
from ..sql import publish as sql
from ..sql.patience import is_outage

logger = logging.getLogger("crew.store.changes")

CHANNEL = "crew_wake"  # the PostgreSQL channel that wakes schedulers
CHANGES = "crew_changes"  # the one that wakes those who tell browsers
KEPT_MINUTES = 10
TOLD_EVERY = 0.02  # seconds between two NOTIFYs of a scheduler
RIGHTS = "rights"  # the event of a change that is about no group
TOLD_ONE_BY_ONE = 10_000  # ids in one change; with more, who watches the group loads it again


class Wake(threading.Event):
    """What a scheduler rests by. Who sets it may have made tasks ready, in any lane."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals = 0

    def set(self) -> None:
        self.arrivals += 1
        super().set()

    def nudge(self) -> None:
        """There is something to do that is no new work."""
        if not self.is_set():  # which costs less
            super().set()


# Set when this process committed new work: a scheduler in the same process waits on it.
work_arrived = Wake()
# While somebody watches in this process: called after each commit with the groups that were
# touched ("" for all of them), so that browsers are told before the request is answered.
on_committed: Callable[[set[str]], None] | None = None


class ChangedTasks:
    """Which tasks the running transaction updates and creates: told by one row for each group.

    Tasks are (group id, task id). Whoever begins it runs its statement, last.
    """

    def __init__(self) -> None:
        self._updated: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._created: defaultdict[str, list[str]] = defaultdict(list)
        self.lanes: set[Lane] = set()  # where tasks may be ready that were not

    def updated(self, pairs: Iterable[tuple[str, str]]) -> None:
        for group_id, task_id in pairs:
            self._updated[group_id][task_id] = None

    def created(self, pairs: Iterable[tuple[str, str]]) -> None:
        for group_id, task_id in pairs:
            self._created[group_id].append(task_id)

    def statements(self) -> list[BoundStatement]:
        """The statement, for `run_together`; none when no task was touched."""
        groups = self._updated.keys() | self._created.keys()
        if not groups:
            return []
        _tell(groups)
        return [(sql.CHANGES, {"rows": dump([self._row(group_id) for group_id in sorted(groups)])})]

    def write(self) -> None:
        for call in self.statements():
            run(*call)

    def _row(self, group_id: str) -> dict[str, Any]:
        created, updated = self._created[group_id], list(self._updated[group_id])
        if len(created) + len(updated) > TOLD_ONE_BY_ONE:
            return _row(group_id, group_event="reload")
        return _row(group_id, created=created, updated=updated)


def tasks_changed(pairs: Iterable[tuple[str, str]]) -> None:
    """Write, in the running transaction, that these (group id, task id) were updated."""
    touched = ChangedTasks()
    touched.updated(pairs)
    touched.write()


def tasks_created(group_id: str, ids: list[str]) -> None:
    """They may be due at once."""
    touched = ChangedTasks()
    touched.created((group_id, id_) for id_ in ids)
    touched.write()
    wake_schedulers()


def tasks_deleted(group_id: str, last: list[dict[str, Any]]) -> None:
    """`last` are the tasks as they were, in the wire's words: nobody can look them up any more."""
    if len(last) > TOLD_ONE_BY_ONE:
        group_changed(group_id, "reload")
    else:
        Change.objects.create(group_id=group_id, deleted=last)
        _tell([group_id])


def group_changed(group_id: str, event: str, last: dict[str, Any] | None = None) -> None:
    """`event` is "update", "delete" (no task of the group is told one by one) or "reload".

    `last` is the group as it was, in the wire's words, when it goes.
    """
    deleted = [] if last is None else [last]
    Change.objects.create(group_id=group_id, group_event=event, deleted=deleted)
    _tell([group_id])


def groups_deleted(last: Sequence[dict[str, Any]]) -> None:
    """`group_changed`, for groups that go, as they were."""
    rows = [Change(group_id=row["id"], group_event="delete", deleted=[row]) for row in last]
    Change.objects.bulk_create(rows)
    _tell(row["id"] for row in last)


def workgroup_changed(names: Iterable[str]) -> None:
    if Change.objects.bulk_create(Change(workgroup=name) for name in names):
        _tell([""])


def rights_lost(names: Sequence[str]) -> None:
    """Who these are may have lost a right: "user:5", "token:7", or "" for anybody.

    The streams that they opened look whether they may stay.
    """
    Change.objects.create(group_event=RIGHTS, workgroup=RIGHTS, updated=list(names))
    _tell([""])


def wake_schedulers() -> None:
    """When the running transaction commits, let every scheduler look at once.

    A hint: schedulers also look by themselves every second.
    """
    _after_commit(wake=True)


def _tell(groups: Iterable[str]) -> None:
    """Let those who tell browsers look when the running transaction has committed."""
    _after_commit(groups)


class _Later(threading.local):
    """Where the channels to notify are gathered; None: each is notified after its commit."""

    channels: set[str] | None = None


_later = _Later()


class News:
    """The NOTIFYs of a scheduler: a call must not wait for them, nor each short turn for its own.

    Told at once when there was none for TOLD_EVERY, and together else.
    """

    def __init__(self) -> None:
        self._channels: set[str] = set()
        self._told_at = 0.0

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What this thread commits in here is left to `tell`."""
        _later.channels = self._channels
        try:
            yield
        finally:
            _later.channels = None

    def wait(self) -> float | None:
        """Seconds until it is time to tell; None when there is nothing."""
        if not self._channels:
            return None
        return max(0.0, self._told_at + TOLD_EVERY - time.monotonic())

    def tell(self) -> None:
        channels, self._channels = self._channels, set()
        if channels:
            self._told_at = time.monotonic()
            _notify(channels)


def _notify(channels: Iterable[str]) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_notify(channel, '') FROM unnest(%s::text[]) channel", [sorted(channels)]
            )
    except Error as error:
        if not is_outage(error):
            raise
        logger.warning("What was committed could not be told at once: %s", error)


class _AfterCommit:
    """What the running transaction does after its commit: once, however much it wrote.

    NOTIFY comes then, in a transaction of its own: one that commits a NOTIFY keeps every other
    such one of the whole server waiting until its commit is on the disk. Whoever misses the word,
    as its sender died in between, looks by himself within a second.
    """

    def __init__(self) -> None:
        self.groups: set[str] = set()
        self.wake = False

    def tell(self) -> None:
        if self.wake:
            work_arrived.set()
        if can_notify():
            channels = [CHANGES] * bool(self.groups) + [CHANNEL] * self.wake
            if _later.channels is None:
                _notify(channels)
            else:
                _later.channels.update(channels)
        if self.groups and on_committed:
            on_committed(self.groups)


def _after_commit(groups: Iterable[str] = (), *, wake: bool = False) -> None:
    hooks = (getattr(hook, "__self__", None) for _, hook, *_ in connection.run_on_commit)
    known = next((told for told in hooks if isinstance(told, _AfterCommit)), None)
    told = known or _AfterCommit()
    told.groups.update(groups)
    told.wake |= wake
    if known is None:
        transaction.on_commit(told.tell, robust=True)


def _row(group_id: str, **told: Any) -> dict[str, Any]:
    return {"group_id": group_id, "created": [], "updated": [], "group_event": ""} | told


def prune(most: int) -> int:
    """Delete changes that every browser has seen, so many at most, from the first on.

    Nothing goes from among those that stay, and the newest always stays: so a reader knows by the
    first of them whether it missed one (`sql.stream.REACH`). Returns how many went.
    """
    is_old = Q(at__lt=Now() - timedelta(minutes=KEPT_MINUTES))
    first = Change.objects.order_by("id").annotate(is_old=is_old).values_list("id", "is_old")
    found = list(first[: most + 1])
    bound = next((id_ for id_, is_seen in found if not is_seen), found[-1][0] if found else 0)
    return Change.objects.filter(is_old, id__lt=bound).delete()[0]

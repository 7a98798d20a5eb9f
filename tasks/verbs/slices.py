"""Holds a group alone, and works on many tasks in slices, so that nobody waits for long.

A verb on a few tasks is one transaction. One on many is as many transactions as it takes, each of
some tenths of a second: answers, claims, creates and every writer of SQLite come in between.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from django.db import connection, transaction

from ..errors import NotFoundError
from ..models import TaskGroup
from ..sql import control as sql
from ..sql import create as create_sql
from ..sql import on_postgres, run, run_bounded

WHOLE = 20_000  # tasks on which a verb is one transaction
LIGHT = 1_000  # tasks of which nobody counts what hangs on them
ROWS = 200_000  # edges and attempts of a verb that is one transaction
AIM = 0.4  # seconds that a slice holds the group
FIRST, FEWEST, MOST = 1_000, 250, 10_000  # tasks in a slice
BREATH = 0.1  # seconds between two, for those who wait: SQLite has them look that seldom


@contextmanager
def alone(group_id: str) -> Iterator[None]:
    """A transaction that holds the group against everything; for a look and a verb in one.

    Its statements probe by indexes, and none lasts for long."""
    with transaction.atomic():
        if not run_bounded((create_sql.GROUP_ALONE, {"group": group_id}))[-1]:
            raise NotFoundError("task group not found")
        yield


@contextmanager
def looking() -> Iterator[None]:
    """For a look before the group is locked: by probes as well, and without a lock."""
    if not on_postgres():
        yield
        return
    with transaction.atomic():
        run_bounded()
        yield


def is_small(group_id: str) -> bool:
    """Whether a verb on the whole group may be one transaction."""
    row = TaskGroup.objects.filter(pk=group_id).values_list("task_count", flat=True).first()
    tasks = row or 0
    if tasks <= LIGHT:
        return True
    if tasks > WHOLE:
        return False
    with looking():
        ((weight,),) = run(sql.WEIGHT, {"group": group_id, "most": ROWS})
    return bool(weight < ROWS)


@dataclass(slots=True)
class _Pace:
    """How many tasks the next slice takes, by how long the last one took."""

    size: int

    def took(self, seconds: float) -> None:
        factor = min(2.0, max(0.2, AIM / max(seconds, 0.001)))
        self.size = min(MOST, max(FEWEST, int(self.size * factor)))


def each(
    group_id: str,
    ids: Sequence[str],
    work: Callable[[Sequence[str]], int],
    *,
    hold: Callable[[str], AbstractContextManager[None]] = alone,
    seconds: float = math.inf,
) -> int:
    """`work` on slices of these tasks, each in a transaction of its own; the sum of what it says.

    Whoever is killed in between, or has no more `seconds`, has done the first slices, and not the
    rest. `hold` begins such a transaction.
    """
    pace, at, count, until = _Pace(FIRST), 0, 0, time.monotonic() + seconds
    while at < len(ids) and time.monotonic() < until:
        if at:
            _give_way()
        some = ids[at : at + pace.size]
        with hold(group_id):
            began = time.monotonic()
            count += work(some)
        pace.took(time.monotonic() - began)
        at += len(some)
    return count


def _give_way() -> None:
    """Who waits for the group looks again only now and then: without a pause never in time."""
    if not connection.in_atomic_block:
        time.sleep(BREATH)

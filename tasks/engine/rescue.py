"""Tasks of a scheduler that died are given back: a sweep of those that live does it."""

import logging
import random
from collections.abc import Container
from dataclasses import dataclass, field

from django.db import transaction

from ..conf import conf
from ..models import SchedulerProcess, Task
from ..redact import one_line
from ..rules.jsonio import dump
from ..sql import Within, run
from ..sql import rescue as sql
from ..store import changes, cut_calls
from . import failpoints
from .haste import Haste, hastily
from .lease import Lease, lease_of
from .settle import settle_within, why_not
from .settlement import Abandoned, Settlement

logger = logging.getLogger("crew.engine.rescue")

RESCUED_PER_TRANSACTION = 200
PARTS = 8  # of what did not go as a whole
HASTE = Haste(Within(lock=0.1, statement=5.0))


@dataclass(slots=True)
class Passed:
    """What one sweep could not give back, and goes past."""

    processes: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Sweep:
    """What it goes past, and how many leases it tries at once."""

    passed: Passed = field(default_factory=Passed)
    most: int = RESCUED_PER_TRANSACTION


def sweep_once() -> int:
    """Give back all tasks of schedulers that died; return how many."""
    count, sweep = 0, Sweep()
    run(sql.ADOPT, {})
    while (given := rescue(lease_seconds=conf.CREW_LEASE_SECONDS, sweep=sweep)) >= 0:
        count += given
    cut_calls.sweep()
    if count:
        logger.warning("Gave back %s tasks of a scheduler that died", count)
    return count


def rescue(*, lease_seconds: float, sweep: Sweep | None = None) -> int:
    """Give back the tasks of one scheduler that died; return how many, -1 when none had died.

    At most 200 at a time; call again until it returns -1. What somebody keeps locked, and what the
    database does not get done with, goes into `sweep`, for the next call to go past it.
    """
    sweep = sweep or Sweep()
    leases: list[Lease] | None = []
    try:
        with hastily(HASTE), transaction.atomic():
            leases = find_lost(lease_seconds=lease_seconds, most=sweep.most, passed=sweep.passed)
            return -1 if leases is None else _give_back(leases, lease_seconds, sweep.passed)
    except Exception as error:
        if not leases or why_not(error) is None:
            raise
        _pass(leases, sweep, error)
        return 0


def strays(me: str, *, known: Container[tuple[str, int]]) -> list[Lease]:
    """The leases of the scheduler `me` that it knows nothing of, and never sent.

    A claim may be committed although it failed: the connection was lost before the answer.
    """
    fields = ("id", "attempt", "group_id", "worker", "workgroup", "key", "leased_by")
    leases = [Lease(*row) for row in Task.objects.filter(leased_by=me).values_list(*fields)]
    unsent = [lease for lease in leases if (lease.task_id, lease.attempt) not in known]
    if unsent:
        logger.warning("Took back %s tasks of a claim that failed", len(unsent))
    return unsent


def bury_others(me: str) -> None:
    """Declare every other scheduler dead, for a store that lets only one live."""
    with transaction.atomic():
        SchedulerProcess.objects.exclude(pk=me).update(beat_at="2000-01-01T00:00:00Z")
    sweep_once()


def find_lost(*, lease_seconds: float, most: int, passed: Passed) -> list[Lease] | None:
    """Leases of one scheduler that was silent for a whole lease; None when none was.

    Called inside the transaction that settles them: the dead scheduler's row stays locked until
    then. An empty list means that nothing is left of that scheduler, and its row is gone, or
    nothing but what is passed.
    """
    processes = dump(sorted(passed.processes))
    lost = run(sql.LOST, {"lease": lease_seconds, "passed": processes})
    if not lost:
        return None
    process = lost[0][0]
    params = {"process": process, "most": most, "passed": dump(sorted(passed.tasks))}
    rows = run(sql.LEASES_OF, params)
    if not rows and passed.tasks and Task.objects.filter(leased_by=process).exists():
        passed.processes.add(process)
    elif not rows:
        SchedulerProcess.objects.filter(pk=process).delete()
    return [lease_of(process, row) for row in rows]


def _give_back(leases: list[Lease], lease_seconds: float, passed: Passed) -> int:
    if not leases:
        return 0
    failpoints.reach("after_lost")
    touched = changes.ChangedTasks()
    lost = [Settlement(lease, _apart(lease_seconds), may_run=True) for lease in leases]
    settled = settle_within(lost, touched)
    touched.write()
    passed.tasks.update(each.settlement.lease.task_id for each in settled.left)
    changes.wake_schedulers()
    return settled.live


def _pass(leases: list[Lease], sweep: Sweep, error: Exception) -> None:
    """Try fewer at once; the one that is at fault is left for the next sweep."""
    if len(leases) == 1:
        sweep.passed.tasks.add(leases[0].task_id)
        text = "Task %s of a scheduler that died could not be given back: %s"
        logger.error(text, one_line(leases[0].task_id), error)
    sweep.most = max(1, len(leases) // PARTS)


def _apart(lease_seconds: float) -> Abandoned:
    """One of these tasks may be what kills its schedulers: then let few run beside it again."""
    return Abandoned(random.uniform(0.0, lease_seconds / 3))  # noqa: S311

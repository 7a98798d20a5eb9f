"""The tasks of a scheduler that died are given back: a sweep of those that live does it."""

import logging
import random
from dataclasses import dataclass, field

from django.db import transaction

from ..redact import one_line
from ..sql import Within
from ..store import changes
from . import failpoints
from .claim import Lease, Passed, find_lost
from .settle import Abandoned, Haste, Settlement, hastily, settle_within, why_not

logger = logging.getLogger(__name__)

RESCUED_PER_TRANSACTION = 200
PARTS = 8  # of what did not go as a whole
HASTE = Haste(Within(lock=0.1, statement=5.0))


@dataclass(slots=True)
class Sweep:
    """What it goes past, and how many leases it tries at once."""

    passed: Passed = field(default_factory=Passed)
    most: int = RESCUED_PER_TRANSACTION


def rescue(*, lease_seconds: float, sweep: Sweep | None = None) -> int:
    """Give back the tasks of one scheduler that died; return how many, -1 when none had died.

    At most 200 at a time; call again until it returns -1. What somebody keeps locked, and what the
    database does not get done with, is noted in `sweep`, for the next call to go past it.
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


def _give_back(leases: list[Lease], lease_seconds: float, passed: Passed) -> int:
    if not leases:
        return 0
    failpoints.reach("after_lost")
    note = changes.Note()
    lost = [Settlement(lease, _apart(lease_seconds), may_run=True) for lease in leases]
    settled = settle_within(lost, note)
    note.write()
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

"""The tasks of a scheduler that died are given back: a sweep of those that live does it."""

import random

from django.db import transaction

from . import failpoints, publish
from .claim import find_lost
from .settle import Abandoned, Settlement, settle_within

RESCUED_AT_ONCE = 200


def rescue(*, lease_seconds: float) -> int:
    """Give back the tasks of one scheduler that died; return how many, -1 when none had died.

    At most 200 at a time; call again until it returns -1.
    """
    with transaction.atomic():
        leases = find_lost(lease_seconds=lease_seconds, most=RESCUED_AT_ONCE)
        if leases is None:
            return -1
        if leases:
            failpoints.reach("after_lost")
            note = publish.Note()
            lost = [Settlement(lease, _apart(lease_seconds)) for lease in leases]
            settled = settle_within(lost, note)
            note.write()
            publish.wake_schedulers()
        return settled.live if leases else 0


def _apart(lease_seconds: float) -> Abandoned:
    """One of these tasks may be what kills its schedulers: then let few run beside it again."""
    return Abandoned(random.uniform(0.0, lease_seconds / 3))  # noqa: S311

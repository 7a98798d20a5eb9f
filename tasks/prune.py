"""Rows that have had their time go: changes every browser has seen, answers kept for a day, dead
tokens, old entries of the audit history, outputs that nobody shares any more, limits of workers
that are well or gone. Each by an index, or of a small table; a scheduler asks for it now and then.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import DatabaseError, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from . import access, audit, publish
from .models import Limit, RepeatableCall, SharedOutput, Task, Worker
from .sql import steer
from .sql.patience import is_overload

CALLS_KEPT = timedelta(hours=24)
LOOKED_AT = 10_000  # shared outputs at a time
AT_ONCE = 1_000  # of them in one statement
SLICE = 10_000  # rows of the others in one statement
PARTED = 10  # by so much smaller is the next slice, if that was too much


def prune() -> dict[str, int]:
    """Delete them; return how many of each went."""
    return {name: part() for name, part in PARTS.items()}


def in_slices(delete: Callable[[int], int]) -> int:
    """Call it with how many are to go at most, until there are no more; return how many went.

    What the database does not get done with is tried in smaller slices.
    """
    count, most = 0, SLICE
    while True:
        try:
            gone = delete(most)
        except DatabaseError as error:
            if most == 1 or not is_overload(error):
                raise
            most = max(1, most // PARTED)
            continue
        count += gone
        if gone < most:
            return count


def _prune_calls(most: int) -> int:
    old = RepeatableCall.objects.filter(at__lt=Now() - CALLS_KEPT).values_list("pk", flat=True)
    return RepeatableCall.objects.filter(pk__in=list(old[:most])).delete()[0]


def prune_limits() -> int:
    well = Limit.objects.filter(fails=0, rests=0, ramp=None)
    known = Worker.objects.filter(pk=OuterRef("name"))
    return well.delete()[0] + Limit.objects.filter(~Exists(known)).delete()[0]


def prune_outputs() -> int:
    """Delete shared outputs that no task refers to any more; return how many.

    With more than are looked at, it begins anywhere: the next look begins elsewhere.
    """
    anywhere = uuid4()
    ids = SharedOutput.objects.order_by("pk").values_list("pk", flat=True)
    found = list(ids.filter(pk__gt=anywhere)[:LOOKED_AT])
    found += ids.filter(pk__lte=anywhere)[: LOOKED_AT - len(found)]
    return sum(_drop_unused(found[at : at + AT_ONCE]) for at in range(0, len(found), AT_ONCE))


def _drop_unused(ids: Sequence[Any]) -> int:
    """Delete those of these shared outputs that nobody refers to; return how many.

    Whoever refers to one was written with it, so that nobody comes in between.
    """
    used = Exists(Task.objects.filter(shared_output=OuterRef("pk")))
    with transaction.atomic():
        steer()
        return SharedOutput.objects.filter(~used, pk__in=ids).delete()[0]


# Each stands alone: where one does not work, the others do.
PARTS: Mapping[str, Callable[[], int]] = {
    "changes": lambda: in_slices(publish.prune),
    "calls": lambda: in_slices(_prune_calls),
    "tokens": lambda: in_slices(access.prune),
    "audit": lambda: in_slices(audit.prune),
    "outputs": prune_outputs,
    "limits": prune_limits,
}

"""Rows that have had their time go: changes every browser has seen, answers kept for a day, dead
tokens, old entries of the audit history, outputs that nobody shares any more, limits of workers
that are well or gone. Each by an index, or of a small table; a scheduler asks for it now and then.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from . import access, audit, publish
from .models import Limit, RepeatableCall, SharedOutput, Task, Worker
from .sql import steer

CALLS_KEPT = timedelta(hours=24)
LOOKED_AT = 10_000  # shared outputs at a time
AT_ONCE = 1_000  # of them in one statement


def prune() -> dict[str, int]:
    """Delete them; return how many of each went."""
    well = Limit.objects.filter(fails=0, rests=0, ramp=None)
    known = Worker.objects.filter(pk=OuterRef("name"))
    calls = RepeatableCall.objects.filter(at__lt=Now() - CALLS_KEPT)
    return {
        "changes": publish.prune(),
        "calls": calls.delete()[0],
        "tokens": access.prune(),
        "audit": audit.prune(),
        "outputs": prune_outputs(),
        "limits": well.delete()[0] + Limit.objects.filter(~Exists(known)).delete()[0],
    }


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

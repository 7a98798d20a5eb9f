"""Rows that have had their time go: changes every browser has seen, answers kept for a day, dead
tokens, old entries of the audit history, outputs that nobody shares any more, limits of workers
that are well or gone. Each by an index, or of a small table; `chores` asks for it now and then.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import DatabaseError, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from .. import audit
from ..access import callers
from ..models import Limit, RepeatableCall, SharedOutput, Task, Worker
from ..sql import prune as sql
from ..sql import run, steer
from ..sql.patience import is_overload
from ..store import changes
from . import seals

CALLS_KEPT = timedelta(hours=24)
LOOKED_AT = 10_000  # shared outputs, of which one in ten at least must go for a look at more
ROWS_PER_STATEMENT = 1_000  # of them in one statement
SLICE, LEAST = 10_000, 1_000  # rows of the others in one statement
PARTED = 10  # by so much smaller is the next slice, if that was too much
MOMENT = 0.25  # seconds of one transaction; what takes longer is done in smaller slices

# What clears away of one kind, a transaction at a step: each says how many rows went, or None
# where another process is at it; after that there is nothing more to do here.
Steps = Iterator[int | None]


def prune() -> dict[str, int]:
    """Delete them; return how many of each went."""
    return {name: sum(gone or 0 for gone in part()) for name, part in PARTS.items()}


def is_our_turn(name: str) -> bool:
    """Whether the running transaction may clear away of this kind. It has the turn until its end.

    Several processes share the work so: none does again what another one does.
    """
    return bool(run(sql.TURN, {"name": name})[0][0])


def in_turn(name: str, delete: Callable[[], int]) -> int | None:
    """Delete in a transaction of its own; None if another process is at it."""
    with transaction.atomic():
        return delete() if is_our_turn(name) else None


def in_slices(name: str, delete: Callable[[int], int]) -> Steps:
    """Call it with how many are to go at most, until there are no more.

    What takes long, or the database does not get done with, is tried in smaller slices.
    """
    most = SLICE
    while True:
        started = time.monotonic()
        try:
            gone = in_turn(name, lambda most=most: delete(most))  # type: ignore[misc]
        except DatabaseError as error:
            if most == 1 or not is_overload(error):
                raise
            most = max(1, most // PARTED)
            continue
        yield gone
        if gone is None or gone < most:
            return
        if time.monotonic() - started > MOMENT and most > LEAST:
            most //= 2


def _prune_calls(most: int) -> int:
    old = RepeatableCall.objects.filter(at__lt=Now() - CALLS_KEPT).values_list("pk", flat=True)
    return RepeatableCall.objects.filter(pk__in=list(old[:most])).delete()[0]


def prune_limits() -> Steps:
    yield in_turn("limits", _drop_limits)


def _drop_limits() -> int:
    well = Limit.objects.filter(fails=0, rests=0, ramp=None)
    known = Worker.objects.filter(pk=OuterRef("name"))
    return well.delete()[0] + Limit.objects.filter(~Exists(known)).delete()[0]


def prune_outputs() -> Steps:
    """Delete shared outputs that no task refers to any more.

    A look at all there are may take long. It begins anywhere, and goes on for as long as it is
    worth it: the next one begins elsewhere.
    """
    place = first = uuid4()
    looked = dropped = 0
    is_round = False  # the end was met, and it goes on from the beginning
    while looked < LOOKED_AT or dropped * 10 >= LOOKED_AT:
        if looked >= LOOKED_AT:
            looked = dropped = 0
        ids = _outputs_behind(place, until=first if is_round else None)
        if ids:
            gone = in_turn("outputs", lambda ids=ids: _drop_unused(ids))  # type: ignore[misc]
            yield gone
            if gone is None:
                return
            looked, dropped, place = looked + len(ids), dropped + gone, ids[-1]
        elif is_round:
            return
        else:
            place, is_round = UUID(int=0), True


def _outputs_behind(place: UUID, *, until: UUID | None) -> list[UUID]:
    rows = SharedOutput.objects.order_by("pk").filter(pk__gt=place)
    if until:
        rows = rows.filter(pk__lte=until)
    return list(rows.values_list("pk", flat=True)[:ROWS_PER_STATEMENT])


def _drop_unused(ids: Sequence[Any]) -> int:
    """Delete those of these shared outputs that nobody refers to; return how many.

    Whoever refers to one was written with it, so that nobody comes in between.
    """
    used = Exists(Task.objects.filter(shared_output=OuterRef("pk")))
    steer()
    return SharedOutput.objects.filter(~used, pk__in=ids).delete()[0]


def prune_and_seal() -> Steps:
    """Delete the old entries of the history, then seal those that are not sealed."""
    for deleted in in_slices("audit", audit.prune):
        yield deleted
        if deleted is None:  # another process is at it
            return
    while (sealed := in_turn("audit", seals.seal_some)) is not None:
        yield 0  # nothing is deleted
        if sealed < seals.BATCH:
            return
    yield None


# Each stands alone: where one does not work, the others do.
PARTS: Mapping[str, Callable[[], Steps]] = {
    "changes": lambda: in_slices("changes", changes.prune),
    "calls": lambda: in_slices("calls", _prune_calls),
    "tokens": lambda: in_slices("tokens", callers.prune),
    "audit": prune_and_seal,
    "outputs": prune_outputs,
    "limits": prune_limits,
}

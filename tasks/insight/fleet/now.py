"""What all groups share, as it is now: schedulers, workers, holds, and the last hour. Reads only.

The cost grows with the attempts in flight, the lanes that have tasks, and at most
`last_hour.SAMPLE` attempts of the last hour.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from django.db.models import ExpressionWrapper
from django.db.models.fields import DateTimeField
from django.db.models.functions import Now

from ...models import CutCall, SchedulerProcess, Worker, Workgroup
from ...sql import clock
from ...sql import overview as sql
from ..troubles import Trouble, troubles
from . import backlog, last_hour
from .last_hour import IDLE, Minute
from .resting import Rest, rests
from .slots import Slots, leases, slots

WORKERS = 100
HOLDS = 100
DEAD = 20


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A process that is alive; `busy` of its `slots` have an attempt in flight."""

    id: str
    host: str
    pid: int
    slots: int
    busy: int
    started_at: datetime
    beat_seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A workgroup that is held. `waiting` due tasks would run now; `is_more`: at least so many.

    `held_by` is the task whose answer asked for it; "" when a person did.
    """

    workgroup: str
    until: datetime
    held_by: str
    waiting: int
    is_more: bool


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """`in_flight` of `limit` attempts run, those among them that were given up and are being ended;
    None = no limit. `hour` is what ended of late.

    `ready` due tasks wait for nothing but room, `held` wait for a workgroup to open; `is_more`: at
    least so many. `why` is the word of `backlog.why` for what keeps them. `rest` is None unless
    the worker failed of late.
    """

    name: str
    in_flight: int
    limit: int | None
    hour: last_hour.Tally
    ready: int
    held: int
    is_more: bool
    why: str
    rest: Rest | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """What all groups share. `dead` are schedulers whose tasks nobody has given back yet.

    `lag_seconds` is how long the oldest due task has waited that no workgroup holds; None when
    none waits. With `step` above 1 the last hour is estimated from one of so many attempts.
    `are_all_lanes` is False when only the first 1,000 lanes were looked at for lag and holds.
    `troubles` make everything slower until somebody acts.
    """

    schedulers: tuple[Scheduler, ...]
    dead: tuple[Scheduler, ...]
    holds: tuple[Hold, ...]
    workers: tuple[WorkerLine, ...]
    are_all_workers: bool
    minutes: tuple[Minute, ...]
    step: int
    lag_seconds: float | None
    are_all_lanes: bool
    troubles: tuple[Trouble, ...] = ()


def fleet() -> tuple[datetime, Fleet]:
    """What all groups share, and the database's time at which it was so."""
    with sql.steered():
        at = clock()
        return at, fleet_at(at)


def fleet_at(at: datetime) -> Fleet:
    """For who reads more beside it: within `sql.steered()`, at the time of `clock()`."""
    busy: Counter[str] = Counter()
    flying: Counter[str] = Counter()
    leased = leases()
    for scheduler, worker, n in leased:
        busy[scheduler] += n
        flying[worker] += n
    for worker, n in CutCall.objects.exclude(until=None).by_worker().items():
        flying[worker] += n
    alive, dead = _schedulers(busy)
    lanes, held = backlog.lanes(), backlog.holds()
    counts = backlog.count(sql.WAITING, lanes)
    ended = last_hour.ended(at)
    ill = rests()
    line = partial(worker_line, counts=counts, held=frozenset(held), alive=slots(leased), rests=ill)
    workers, are_all_workers = _workers(flying, last_hour.tallies(ended), ill, line)
    return Fleet(
        schedulers=alive,
        dead=dead,
        holds=tuple(_holds(held, counts)),
        workers=workers,
        are_all_workers=are_all_workers,
        minutes=last_hour.minutes(at, ended),
        step=ended.step,
        lag_seconds=backlog.lag(lanes),
        are_all_lanes=len(lanes) < backlog.MOST_LANES,
        troubles=troubles(),
    )


def _schedulers(busy: Mapping[str, int]) -> tuple[tuple[Scheduler, ...], tuple[Scheduler, ...]]:
    """Those that are alive, and the newest of the dead."""
    alive = SchedulerProcess.objects.alive()
    dead = SchedulerProcess.objects.exclude(pk__in=alive.values("pk")).order_by("-beat_at", "id")
    return (
        tuple(_scheduler(row, busy) for row in _dated(alive).order_by("host", "started_at", "id")),
        tuple(_scheduler(row, busy) for row in _dated(dead)[:DEAD]),
    )


def _dated(rows: Any) -> Any:
    return rows.annotate(now=ExpressionWrapper(Now(), output_field=DateTimeField()))


def _scheduler(row: Any, busy: Mapping[str, int]) -> Scheduler:
    return Scheduler(
        id=row.pk,
        host=row.host,
        pid=row.pid,
        slots=row.slots,
        busy=busy.get(row.pk, 0),
        started_at=row.started_at,
        beat_seconds=max(0.0, (row.now - row.beat_at).total_seconds()),
    )


def _holds(held: Mapping[str, Workgroup], counts: backlog.Counts) -> Iterator[Hold]:
    for name, row in islice(held.items(), HOLDS):
        behind = backlog.total(counts, None, [name])
        if row.held_until:
            yield Hold(name, row.held_until, row.held_by, behind.count, behind.is_more)


def _workers(
    flying: Mapping[str, int],
    tallies: Mapping[str, last_hour.Tally],
    ill: Iterable[str],
    line: Callable[..., WorkerLine],
) -> tuple[tuple[WorkerLine, ...], bool]:
    """By name; when they are too many, those that failed and worked most of late."""
    busy = sorted(
        {*flying, *tallies, *ill},
        key=lambda name: (-tallies.get(name, IDLE).failures, -flying.get(name, 0), name),
    )
    rows = Worker.objects.order_by("name").values_list("name", flat=True)
    idle = [name for name in rows[: WORKERS + 1] if name not in {*busy}]
    shown = sorted([*busy, *idle][:WORKERS])
    known = Worker.objects.in_bulk(shown)
    lines = (
        line(known.get(name, Worker(name=name)), flying.get(name, 0), tallies.get(name, IDLE))
        for name in shown
    )
    return tuple(lines), len(busy) + len(idle) <= WORKERS


def worker_line(
    row: Worker,
    in_flight: int,
    tally: last_hour.Tally,
    *,
    counts: backlog.Counts,
    held: Iterable[str],
    alive: Sequence[Slots],
    rests: Mapping[str, Rest],
) -> WorkerLine:
    all_due, behind = backlog.total(counts, row.name), backlog.total(counts, row.name, held)
    ready, limit = all_due.count - behind.count, row.limit
    return WorkerLine(
        name=row.name,
        in_flight=in_flight,
        limit=limit,
        hour=tally,
        ready=ready,
        held=behind.count,
        is_more=all_due.is_more,
        why=backlog.why(
            ready=ready,
            held=behind.count,
            in_flight=in_flight,
            limit=limit,
            free=sum(one.free for one in alive) if alive else None,
            kept=not any(one.open_to(row.name) for one in alive),
            rest=rests.get(row.name),
        ),
        rest=rests.get(row.name),
    )

"""What runs, what waits and what ended of late, on one page. Reads only.

The cost grows with what is shown: with what is left to do in the groups shown (of one, at most
`LEFT_COUNTED` rows), the attempts in flight, the lanes that have tasks, and at most
`hour.SAMPLE` attempts of the last hour.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

from django.db import connection
from django.db.models import Count, ExpressionWrapper, QuerySet
from django.db.models.fields import DateTimeField
from django.db.models.functions import Now

from . import hour, waiting
from .hour import IDLE, Minute
from .jsonio import dump
from .models import SchedulerProcess, Task, TaskGroup, Worker, Workgroup
from .progress import Progress
from .sql import among, run
from .sql import overview as sql

GROUPS = 20
GROUPS_ASKED = 200  # by their ids, at most
LOOKED_AT = 1_000  # newest groups, and older ones that are not finished, among which we look
LEFT_COUNTED = 10_000  # tasks left of one group whose states are counted: those created first
WORKERS = 100
HOLDS = 100
DEAD = 20


@dataclass(frozen=True, slots=True)
class Group:
    """`uncounted` more tasks are left, whose states were not looked at: there are too many.

    `progress` leaves them out, in its total too; what it says is complete is exact.
    """

    id: str
    name: str
    created_at: datetime
    is_paused: bool
    progress: Progress
    uncounted: int = 0


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
    """`in_flight` of `limit` attempts run; None = no limit. `hour` is what ended of late.

    `ready` due tasks wait for nothing but room, `held` for a workgroup to open; `is_more`: at
    least so many. `why` is the word of `waiting.why` for what keeps them.
    """

    name: str
    in_flight: int
    limit: int | None
    hour: hour.Tally
    ready: int
    held: int
    is_more: bool
    why: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """What all groups share. `dead` are schedulers whose tasks nobody has given back yet.

    `lag_seconds` is how long the oldest due task has waited that no workgroup holds; None when
    none waits. With `step` above 1 the last hour is estimated from one of so many attempts.
    `are_all_lanes` is False when only the first 1,000 lanes were looked at for lag and holds.
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


@dataclass(frozen=True, slots=True)
class Overview:
    """`fleet` is None for who may see some groups only: it tells of the work of all.

    `is_exact` is False when groups with something left may be missing, because there are more
    than 1,000 such among the older ones.
    """

    at: datetime
    groups: tuple[Group, ...]
    is_exact: bool
    fleet: Fleet | None


def overview(group_ids: Iterable[str] | None = None) -> Overview:
    """The newest groups with something left to do, then the newest finished, and the fleet.

    `group_ids` are those the caller may see (`access.Access.group_ids`); None = all.
    """
    with sql.steered():
        groups, is_exact = _groups(None if group_ids is None else sorted(group_ids))
        at = clock()
        return Overview(at, groups, is_exact, _fleet(at) if group_ids is None else None)


def fleet() -> tuple[datetime, Fleet]:
    """What all groups share, and the database's time at which it was so."""
    with sql.steered():
        at = clock()
        return at, _fleet(at)


def lines(groups: Sequence[TaskGroup]) -> tuple[Group, ...]:
    """How far each of these groups is."""
    with sql.steered():
        return tuple(_lines(groups))


def clock() -> datetime:
    """The database's."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            (now,) = cursor.fetchone()
            return now  # type: ignore[no-any-return]
    return datetime.now(UTC)  # SQLite has no other clock than ours


# --- Groups ----------------------------------------------------------------------------------


def _groups(ids: list[str] | None) -> tuple[tuple[Group, ...], bool]:
    newest = list(_by_age(ids)[:LOOKED_AT])
    params = {"groups": dump([row.pk for row in newest])}
    has_left = {id_ for (id_,) in run(sql.OPEN_AMONG, params)}
    open_ = [row for row in newest if row.pk in has_left][:GROUPS]
    is_exact = len(open_) == GROUPS or len(newest) < LOOKED_AT
    if not is_exact and ids is None:
        found = {id_ for (id_,) in run(sql.OPEN_GROUPS, {"most": LOOKED_AT})}
        is_exact = len(found) < LOOKED_AT
        open_ += list(_by_age(sorted(found - has_left))[: GROUPS - len(open_)])
    finished = [row for row in newest if row.pk not in has_left]
    shown = open_ + finished[: GROUPS - len(open_)]
    return tuple(_lines(shown)), is_exact


def _by_age(ids: list[str] | None) -> QuerySet[TaskGroup]:
    rows = TaskGroup.objects.all() if ids is None else TaskGroup.objects.filter(pk__in=among(ids))
    return rows.order_by("-created_at", "-id")


def _lines(rows: Sequence[TaskGroup]) -> Iterator[Group]:
    """One query counts for all groups, a second those of which very much is left."""
    states: dict[str, dict[str, int]] = {row.pk: {} for row in rows}
    params = {"groups": dump(list(states)), "most": LEFT_COUNTED}
    for id_, state, n in run(sql.LEFT, params):
        states[id_][state] = n
    many = [id_ for id_, counts in states.items() if sum(counts.values()) == LEFT_COUNTED]
    left = dict(run(sql.COUNT_LEFT, {"groups": dump(many)})) if many else {}
    for row in rows:
        uncounted = max(0, left.get(row.pk, 0) - LEFT_COUNTED)
        progress = Progress(max(0, row.task_count - uncounted), **states[row.pk])
        yield Group(row.pk, row.name, row.created_at, row.is_paused, progress, uncounted)


# --- The fleet -------------------------------------------------------------------------------


def _fleet(at: datetime) -> Fleet:
    busy: defaultdict[str, int] = defaultdict(int)
    flying: defaultdict[str, int] = defaultdict(int)
    leases = Task.objects.filter(leased_by__isnull=False).order_by()
    for scheduler, worker, n in leases.values_list("leased_by", "worker").annotate(n=Count("*")):
        busy[str(scheduler)] += n
        flying[worker] += n
    alive, dead = _schedulers(busy)
    lanes, held = waiting.lanes(), waiting.holds()
    counts = waiting.count(sql.WAITING, lanes)
    ended = hour.ended(at)
    line = partial(worker_line, counts=counts, held=frozenset(held), free=free_slots(alive))
    workers, are_all_workers = _workers(flying, hour.tallies(ended), line)
    return Fleet(
        schedulers=alive,
        dead=dead,
        holds=tuple(_holds(held, counts)),
        workers=workers,
        are_all_workers=are_all_workers,
        minutes=hour.minutes(at, ended),
        step=ended.step,
        lag_seconds=waiting.lag(lanes),
        are_all_lanes=len(lanes) < waiting.LANES,
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


def free_slots(alive: Sequence[Scheduler]) -> int | None:
    """Of all schedulers that are alive; None when there is none."""
    return sum(row.slots - row.busy for row in alive) if alive else None


def _holds(held: Mapping[str, Workgroup], counts: waiting.Counts) -> Iterator[Hold]:
    for name, row in islice(held.items(), HOLDS):
        behind = waiting.total(counts, None, [name])
        if row.held_until:
            yield Hold(name, row.held_until, row.held_by, behind.count, behind.is_more)


def _workers(
    flying: Mapping[str, int],
    tallies: Mapping[str, hour.Tally],
    line: Callable[..., WorkerLine],
) -> tuple[tuple[WorkerLine, ...], bool]:
    """By name; when they are too many, those that failed and worked most of late."""
    busy = sorted(
        {*flying, *tallies},
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
    tally: hour.Tally,
    *,
    counts: waiting.Counts,
    held: Iterable[str],
    free: int | None,
) -> WorkerLine:
    all_due, behind = waiting.total(counts, row.name), waiting.total(counts, row.name, held)
    ready, limit = all_due.count - behind.count, row.limit
    return WorkerLine(
        name=row.name,
        in_flight=in_flight,
        limit=limit,
        hour=tally,
        ready=ready,
        held=behind.count,
        is_more=all_due.is_more,
        why=waiting.why(
            ready=ready, held=behind.count, in_flight=in_flight, limit=limit, free=free
        ),
    )

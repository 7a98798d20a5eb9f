"""What runs, what waits and what ended of late, on one page. Reads only.

The cost grows with what is shown: with what is left to do in the groups shown (of one, at most
`LEFT_COUNTED` rows), the attempts in flight, the lanes that have tasks, and at most
`hour.SAMPLE` attempts of the last hour.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import Count, ExpressionWrapper, QuerySet
from django.db.models.fields import DateTimeField
from django.db.models.functions import Now

from . import hour
from .hour import IDLE, Minute
from .jsonio import dump
from .models import SchedulerProcess, Task, TaskGroup, Worker, Workgroup
from .progress import Progress
from .sql import among, run
from .sql import claim as claim_sql
from .sql import overview as sql

GROUPS = 20
LOOKED_AT = 1_000  # newest groups, and older ones that are not finished, among which we look
LEFT_COUNTED = 10_000  # tasks left of one group whose states are counted: those created first
LANES = 1_000
COUNTED = 1_000  # tasks held back by a workgroup: counted so far and no further
WORKERS = 100
HOLDS = 100
LATEST = 10  # lanes that may have waited longest, whose first tasks tell the lag


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
    """`in_flight` of `limit` attempts run; None = no limit. `hour` is what ended of late."""

    name: str
    in_flight: int
    limit: int | None
    hour: hour.Tally


@dataclass(frozen=True, slots=True)
class Fleet:
    """What all groups share.

    `lag_seconds` is how long the oldest due task has waited that no workgroup holds; None when
    none waits. With `step` above 1 the last hour is estimated from one of so many attempts.
    `are_all_lanes` is False when only the first 1,000 lanes were looked at for lag and holds.
    """

    schedulers: tuple[Scheduler, ...]
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
        at = _now()
        fleet = _fleet(at) if group_ids is None else None
        return Overview(at, groups, is_exact, fleet)


def _now() -> datetime:
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
    holds, lag, are_all_lanes = _waiting()
    ended = hour.ended(at)
    workers, are_all_workers = _workers(flying, hour.tallies(ended))
    return Fleet(
        schedulers=_schedulers(busy),
        holds=holds,
        workers=workers,
        are_all_workers=are_all_workers,
        minutes=hour.minutes(at, ended),
        step=ended.step,
        lag_seconds=lag,
        are_all_lanes=are_all_lanes,
    )


def _schedulers(busy: Mapping[str, int]) -> tuple[Scheduler, ...]:
    rows: Any = SchedulerProcess.objects.alive().annotate(
        now=ExpressionWrapper(Now(), output_field=DateTimeField())
    )
    return tuple(
        Scheduler(
            id=row.pk,
            host=row.host,
            pid=row.pid,
            slots=row.slots,
            busy=busy.get(row.pk, 0),
            started_at=row.started_at,
            beat_seconds=max(0.0, (row.now - row.beat_at).total_seconds()),
        )
        for row in rows.order_by("host", "started_at", "id")
    )


def _waiting() -> tuple[tuple[Hold, ...], float | None, bool]:
    """The holds, the lag, and whether every lane was looked at for them."""
    first = {"worker": "", "workgroup": "", "priority": -32_768}
    lanes = run(claim_sql.LANES, first | {"lanes": LANES, "most": 1})
    rows = Workgroup.objects.filter(held_until__gt=Now()).order_by("held_until", "name")
    held = {row.name: row for row in rows[:HOLDS]}
    behind: defaultdict[str, int] = defaultdict(int)
    held_lanes = [_lane(*lane[:3]) for lane in lanes if lane[1] in held]
    for name, n in run(sql.WAITING, {"lanes": dump(held_lanes), "most": COUNTED + 1}):
        behind[name] += n
    holds = (
        Hold(name, row.held_until, row.held_by, min(behind[name], COUNTED), behind[name] > COUNTED)
        for name, row in held.items()
        if row.held_until
    )
    return tuple(holds), _lag(lanes), len(lanes) < LANES


def _lag(lanes: Sequence[tuple[Any, ...]]) -> float | None:
    # A lane of a held workgroup has nothing due. The times say when a lane's first task may have
    # become due, but a child is only due since its last parent completed.
    due = sorted((lane for lane in lanes if lane[3]), key=lambda lane: lane[4])[:LATEST]
    if not due:
        return None
    ((seconds,),) = run(sql.LAG, {"lanes": dump([_lane(*lane[:3]) for lane in due])})
    return None if seconds is None else max(0.0, float(seconds))


def _lane(worker: str, workgroup: str, priority: int) -> dict[str, Any]:
    return {"worker": worker, "workgroup": workgroup, "priority": priority}


def _workers(
    flying: Mapping[str, int], tallies: Mapping[str, hour.Tally]
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
        WorkerLine(
            name,
            flying.get(name, 0),
            known.get(name, Worker()).limit,
            tallies.get(name, IDLE),
        )
        for name in shown
    )
    return tuple(lines), len(busy) + len(idle) <= WORKERS

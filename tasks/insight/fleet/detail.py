"""One worker, or one workgroup, closely: what runs, what waits and why. Reads only.

The cost grows with the attempts in flight, the lanes looked at and what is counted in them
(`waiting`), and with at most `hour.SAMPLE` attempts of the last hour.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db.models.functions import Left

from ...conf import conf
from ...errors import NotFoundError
from ...models import Attempt, AuditEntry, CutCall, Task, Worker, Workgroup
from ...rules.outages import SPARED
from ...sql import clock, run
from ...sql import closeup as sql
from ...sql import overview as overview_sql
from . import backlog, last_hour, now
from .backlog import LaneState, Waiting
from .in_flight import GroupLine, Next, Running, groups_of, lines_of_groups, longest, next_in
from .last_hour import IDLE, SHOWN_ERROR, Ended, Minute
from .resting import rests
from .slots import leases, slots

LATENCIES = 1_000  # answers that tell how long one takes
RECENT = 10  # answers that asked to wait, and acts of people


@dataclass(frozen=True, slots=True)
class LaneLine:
    """What waits for a worker in a workgroup; `held_until` is None when it is open."""

    worker: str
    workgroup: str
    due: Waiting
    later: Waiting
    held_until: datetime | None


@dataclass(frozen=True, slots=True)
class Latency:
    """50 % and 95 % of the last `answers` came within so many seconds."""

    answers: int
    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did to it."""

    at: datetime
    who: str
    verb: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """`line` is what the list of workers shows of it; `own_limit` None means `default_limit`."""

    at: datetime
    line: now.WorkerLine
    own_limit: int | None
    default_limit: int | None
    minutes: tuple[Minute, ...]
    step: int
    latency: Latency | None
    running: tuple[Running, ...]
    next: tuple[Next, ...]
    groups: tuple[GroupLine, ...]
    lanes: tuple[LaneLine, ...]
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class HeldAnswer:
    """An attempt whose answer asked to wait."""

    task_id: str
    worker: str
    at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class WorkgroupNow:
    """`held_until` is None when it is open. `held_by` is the task that asked, "" for a person.

    `in_flight` attempts run. `are_all_lanes` is False when only the first 1,000 lanes were looked
    at for what waits.
    """

    at: datetime
    name: str
    held_until: datetime | None
    held_by: str
    held_by_name: str
    in_flight: int
    due: Waiting
    later: Waiting
    are_all_lanes: bool
    running: tuple[Running, ...]
    next: tuple[Next, ...]
    groups: tuple[GroupLine, ...]
    lanes: tuple[LaneLine, ...]
    recent: tuple[HeldAnswer, ...]
    acts: tuple[Act, ...]


def worker(name: str) -> WorkerNow:
    """The worker as it is now. Raises NotFoundError."""
    row = Worker.objects.filter(pk=name).first()
    if row is None:
        raise NotFoundError("worker not found")
    with overview_sql.steered():
        return _worker(row)


def workgroup(name: str) -> WorkgroupNow:
    """The workgroup as it is now. Raises NotFoundError: it is known from its first hold on."""
    row = Workgroup.objects.filter(pk=name).first()
    if row is None:
        raise NotFoundError("workgroup not found")
    with overview_sql.steered():
        return _workgroup(row)


def _worker(row: Worker) -> WorkerNow:
    at = clock()
    flying = Task.objects.filter(worker=row.name, leased_by__isnull=False)
    rows = run(sql.LANES, {"worker": row.name, "lanes": backlog.MOST_LANES})
    lanes = [LaneState(row.name, *lane) for lane in rows]
    held = backlog.holds()
    due = backlog.count(overview_sql.WAITING, lanes)
    ended = last_hour.ended(at).of(row.name)
    groups = groups_of(flying)
    line = now.worker_line(
        row,
        len(groups) + CutCall.objects.taking().filter(worker=row.name).count(),
        last_hour.tallies(ended).get(row.name, IDLE),
        counts=due,
        held=held,
        alive=slots(leases()),
        rests=rests([row.name]),
    )
    following = next_in(lanes, held)
    return WorkerNow(
        at=at,
        line=line,
        own_limit=row.max_concurrency,
        default_limit=conf.CREW_WORKER_MAX_CONCURRENCY,
        minutes=last_hour.minutes(at, ended),
        step=ended.step,
        latency=_latency(row.name, ended),
        running=longest(flying),
        next=following,
        groups=lines_of_groups(groups, following),
        lanes=tuple(_lane_lines(due, backlog.count(overview_sql.LATER, lanes), held)),
        acts=_acts(AuditEntry.Kind.WORKER, row.name),
    )


def _workgroup(row: Workgroup) -> WorkgroupNow:
    at = clock()
    is_held = row.held_until is not None and row.held_until > at
    flying = Task.objects.filter(workgroup=row.name, leased_by__isnull=False)
    looked_at = backlog.lanes()
    lanes = [lane for lane in looked_at if lane.workgroup == row.name]
    due = backlog.count(overview_sql.WAITING, lanes)
    later = backlog.count(overview_sql.LATER, lanes)
    following, groups = next_in(lanes, ()), groups_of(flying)
    by = Task.objects.filter(pk=row.held_by) if row.held_by else Task.objects.none()
    return WorkgroupNow(
        at=at,
        name=row.name,
        held_until=row.held_until if is_held else None,
        held_by=row.held_by,
        held_by_name=by.values_list("name", flat=True).first() or "",
        in_flight=len(groups),
        due=backlog.total(due, None),
        later=backlog.total(later, None),
        are_all_lanes=len(looked_at) < backlog.MOST_LANES,
        running=longest(flying),
        next=following,
        groups=lines_of_groups(groups, following),
        lanes=tuple(_lane_lines(due, later, {row.name: row} if is_held else {})),
        recent=_held_answers(row.name, last_hour.ended(at)),
        acts=_acts(AuditEntry.Kind.WORKGROUP, row.name),
    )


def _lane_lines(due: backlog.Counts, later: backlog.Counts, held: Any) -> Iterator[LaneLine]:
    for key in sorted({*due, *later}):
        row = held.get(key[1])
        yield LaneLine(
            *key,
            due.get(key, backlog.NONE),
            later.get(key, backlog.NONE),
            row.held_until if row else None,
        )


def _latency(name: str, ended: Ended) -> Latency | None:
    if not ended.counts or ended.looked is None:
        return None
    asked = asdict(ended.looked) | {"worker": name, "most": LATENCIES}
    seconds = sorted(float(took) for (took,) in run(sql.SECONDS, asked))
    if not seconds:
        return None
    return Latency(len(seconds), seconds[len(seconds) // 2], seconds[len(seconds) * 95 // 100])


def _held_answers(name: str, ended: Ended) -> tuple[HeldAnswer, ...]:
    """The newest first."""
    if ended.looked is None:
        return ()
    asked = asdict(ended.looked) | {"workgroup": name, "most": RECENT, "spared": SPARED}
    ids = [id_ for (id_,) in run(sql.HELD, asked)]
    rows = Attempt.objects.filter(pk__in=ids).annotate(text=Left("error", SHOWN_ERROR))
    fields = ("task_id", "worker", "finished_at", "text")
    return tuple(HeldAnswer(*row) for row in rows.order_by("-id").values_list(*fields))


def _acts(kind: str, name: str) -> tuple[Act, ...]:
    """The newest first."""
    rows = AuditEntry.objects.filter(kind=kind, target=name).order_by("-id")
    return tuple(Act(*row) for row in rows.values_list("at", "who", "verb", "detail")[:RECENT])

"""The due tasks that wait, lane by lane, and what keeps them. Reads only.

A lane is a worker, a workgroup and a priority. At most `MOST_LANES` of them are looked at, and in
each no more tasks are counted than tell that there are many.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db.models.functions import Now

from ...models import Workgroup
from ...rules.jsonio import dump
from ...sql import Statement, run
from ...sql import lanes as lanes_sql
from ...sql import overview as sql
from .resting import Rest

MOST_LANES = 1_000
COUNTED = 1_000  # tasks of a lane: counted so far and no further
COUNTED_IN_ALL = 20_000  # of all lanes, with at least ten in each
LATEST = 10  # lanes that may have waited longest, whose first tasks tell the lag


@dataclass(frozen=True, slots=True)
class LaneState:
    """`has_due`: something would run now. `wait` is when its first task is due, in seconds."""

    worker: str
    workgroup: str
    priority: int
    has_due: bool = False
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many tasks wait; `is_more`: at least so many."""

    count: int = 0
    is_more: bool = False

    def __add__(self, other: "Waiting") -> "Waiting":
        return Waiting(self.count + other.count, self.is_more or other.is_more)


NONE = Waiting()
Counts = Mapping[tuple[str, str], Waiting]  # by worker and workgroup


def lanes() -> tuple[LaneState, ...]:
    """The lanes that have tasks, due or not."""
    first = {"worker": "", "workgroup": "", "priority": -32_768}
    rows = run(lanes_sql.LANES, first | {"lanes": MOST_LANES, "most": 1})
    return tuple(
        LaneState(worker, workgroup, priority, has_due=n > 0, wait=wait)
        for worker, workgroup, priority, n, wait, *_ in rows
    )


def count(which: Statement, lanes: Sequence[LaneState]) -> Counts:
    """The tasks in these lanes that are due (`WAITING`), or due later (`LATER`)."""
    found: dict[tuple[str, str], Waiting] = {}
    if not lanes:
        return found
    most = min(COUNTED, max(10, COUNTED_IN_ALL // len(lanes)))
    for worker, workgroup, n in run(which, {"lanes": sent(lanes), "most": most + 1}):
        key = worker, workgroup
        found[key] = found.get(key, NONE) + Waiting(min(n, most), n > most)
    return found


def total(counts: Counts, worker: str | None, workgroups: Iterable[str] | None = None) -> Waiting:
    """What waits for this worker (None = any), in these workgroups (None = any)."""
    among = None if workgroups is None else frozenset(workgroups)
    parts = (
        waiting
        for (name, workgroup), waiting in counts.items()
        if (worker is None or name == worker) and (among is None or workgroup in among)
    )
    return sum(parts, NONE)


def holds() -> dict[str, Workgroup]:
    """The workgroups that are held, by name, those that open first first."""
    rows = Workgroup.objects.filter(held_until__gt=Now()).order_by("held_until", "name")
    return {row.name: row for row in rows[:MOST_LANES]}


def lag(lanes: Sequence[LaneState]) -> float | None:
    """How many seconds the oldest due task has waited that no workgroup holds; None for none."""
    # A lane of a held workgroup has nothing due. The times say when a lane's first task may have
    # become due, but a child is only due since its last parent completed.
    due = sorted((lane for lane in lanes if lane.has_due), key=lambda lane: lane.wait)[:LATEST]
    if not due:
        return None
    ((seconds,),) = run(sql.LAG, {"lanes": sent(due)})
    return None if seconds is None else max(0.0, float(seconds))


def sent(lanes: Sequence[LaneState]) -> str:
    """The lanes as a parameter of a statement."""
    return dump(
        [
            {"worker": lane.worker, "workgroup": lane.workgroup, "priority": lane.priority}
            for lane in lanes
        ]
    )


def why(
    *,
    ready: int,
    held: int,
    in_flight: int,
    limit: int | None,
    free: int | None,
    kept: bool = False,
    rest: Rest | None = None,
) -> str:
    """What keeps due tasks of a worker waiting; "" when nothing does, or nothing waits.

    `free` are the free slots of all schedulers; None when no scheduler is alive. `kept`: they are
    for others, as the worker holds so many. `rest` is how it is treated if it failed.
    """
    if not ready and not held:
        return ""
    if free is None:
        return "no_scheduler"
    if limit == 0:
        return "worker_closed"
    if rest and rest.is_full:
        return "worker_rests" if rest.until or rest.allowed == 1 else "worker_ramp"
    if not ready:
        return "held"
    if limit is not None and in_flight >= limit:
        return "worker_full"
    if free <= 0:
        return "no_slot"
    return "slots_kept" if kept else ""

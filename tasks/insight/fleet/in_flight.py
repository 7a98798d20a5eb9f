"""What runs and what comes next, of a worker or a workgroup, and in which groups. Reads only."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from ...models import Task, TaskGroup
from ...sql import closeup as sql
from ...sql import run
from ...sql.probes import probed
from . import backlog
from .backlog import LaneState

RUNNING = 50  # tasks in flight that are shown: those that run longest
NEXT = 10  # tasks that wait, shown
LOOKED_INTO = 20  # lanes whose first tasks are looked at for what is next
GROUPS = 20


@dataclass(frozen=True, slots=True)
class Running:
    """A task whose attempt runs."""

    id: str
    name: str
    group_id: str
    worker: str
    workgroup: str
    attempt: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Next:
    """A task that waits for nothing but its time, a hold or room."""

    id: str
    name: str
    group_id: str
    worker: str
    workgroup: str
    run_after: datetime


@dataclass(frozen=True, slots=True)
class GroupLine:
    """A group of which `running` tasks run; 0: one of what waits is next."""

    id: str
    name: str
    running: int


def longest(flying: QuerySet[Task]) -> tuple[Running, ...]:
    """Those that run longest first."""
    fields = ("id", "name", "group_id", "worker", "workgroup", "attempt", "leased_at")
    rows = flying.order_by("leased_at", "id").values_list(*fields)[:RUNNING]
    return tuple(Running(*row) for row in rows)


def next_in(lanes: Sequence[LaneState], held: Collection[str]) -> tuple[Next, ...]:
    """What is next in these lanes, by what the claim would take first; what is held comes last."""
    in_order = sorted(lanes, key=lambda lane: (lane.workgroup in held, -lane.priority))
    first = in_order[:LOOKED_INTO]
    if not first:
        return ()
    found = run(sql.NEXT, {"lanes": backlog.sent(first), "most": NEXT})
    rows = Task.objects.filter(probed("id", [id_ for (id_,) in found]))
    fields = ("id", "name", "group_id", "worker", "workgroup", "run_after")
    ordered = rows.order_by("-priority", "run_after", "id").values_list(*fields)
    following = sorted((Next(*row) for row in ordered), key=lambda task: task.workgroup in held)
    return tuple(following[:NEXT])


def groups_of(flying: QuerySet[Task]) -> list[str]:
    """The group of each task in flight. Counted here: SQLite would walk all groups for it."""
    return list(flying.order_by().values_list("group_id", flat=True))


def lines_of_groups(running: Iterable[str], following: Iterable[Next]) -> tuple[GroupLine, ...]:
    """The groups of what runs, those with most first, then those of what is next."""
    counts = dict(Counter(running).most_common(GROUPS))
    for task in following:
        counts.setdefault(task.group_id, 0)
    names = dict(TaskGroup.objects.filter(pk__in=list(counts)).values_list("pk", "name"))
    return tuple(GroupLine(id_, names.get(id_, ""), n) for id_, n in counts.items())

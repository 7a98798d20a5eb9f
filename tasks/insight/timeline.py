"""When the tasks of a group waited and when they ran, as bars for a chart. Reads only.

The cost grows with the tasks shown: `most` of them, with at most `ATTEMPTS` attempts each.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import ExpressionWrapper, F, QuerySet
from django.db.models.fields import DateTimeField
from django.db.models.functions import Now

from ..errors import NotFoundError
from ..models import Attempt, Outcome, ParentEdge, Task, TaskGroup
from ..rules.jsonio import dump
from ..rules.states import State
from ..sql import overview as sql
from ..sql import run
from ..store import wire
from ..store.states import STATE

ATTEMPTS = 20  # of one task: the last
IDS_PER_STATEMENT = 500  # ids in one look-up
EDGES = 50_000  # looked at for when the tasks shown were freed
NEAR_END = 20_000  # tasks created last, among which the one that completed last is sought

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bar:
    """An attempt; `finished_at` None while it runs."""

    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    status: int | None


def timeline(group_id: str, most: int = 2_000) -> Json:
    """The tasks of a group in order of their start, each attempt with its wait and its run.

    In a group of more than `most` tasks, those of the critical path and those created first are
    shown. The critical path leads back from the task that completed last through the parent that
    completed last, and so on; it is exact in groups of up to `NEAR_END` tasks, unless it is longer
    than `most`. Raises NotFoundError.
    """
    with sql.steered():
        now = ExpressionWrapper(Now(), output_field=DateTimeField())
        rows: Any = TaskGroup.objects.annotate(now=now)
        group = rows.filter(pk=group_id).first()
        if group is None:
            raise NotFoundError(f"there is no task group {group_id}")
        path = _critical_path(group_id, most)
        tasks = _shown(group_id, path, most)
        bars = _bars(tasks)
        freed = _freed(tasks)
        is_open = bool(run(sql.OPEN_AMONG, {"groups": dump([group_id])}))
    tasks.sort(key=lambda task: _place(task, bars[task.pk]))
    starts = [bar.started_at for task in tasks for bar in bars[task.pk][:1]]
    ends = [task.completed_at for task in tasks if task.completed_at]
    return {
        "groupId": group_id,
        "at": wire.time(group.now),
        "createdAt": wire.time(group.created_at),
        "startedAt": _time(min(starts, default=None)),
        "finishedAt": None if is_open else _time(max(ends, default=None)),
        "taskCount": group.task_count,
        "leftOut": max(0, group.task_count - len(tasks)),
        "criticalPath": path,
        "isCriticalPathExact": group.task_count <= NEAR_END and len(path) < most,
        "tasks": [_task(task, bars[task.pk], freed.get(task.pk), group.now) for task in tasks],
    }


# --- What is shown ---------------------------------------------------------------------------


def _critical_path(group_id: str, most: int) -> list[str]:
    """The ids in order of their run."""
    rows = run(sql.CRITICAL_PATH, {"group": group_id, "near": NEAR_END, "most": most})
    return [id_ for (id_,) in rows]


def _shown(group_id: str, path: Sequence[str], most: int) -> list[Any]:
    rows: QuerySet[Any] = Task.objects.annotate(state=STATE).only(
        "id",
        "name",
        "worker",
        "created_at",
        "completed_at",
        "run_after",
        "error_delay_in_seconds",
        "attempt",
        "leased_by",
        "leased_at",
        "pending_parents",
        "merged_into",
        "is_complete",
    )
    first = list(rows.filter(group_id=group_id).order_by("created_at", "id")[:most])
    known = {task.pk for task in first}
    missing = [id_ for id_ in path if id_ not in known]
    found = [task for some in _chunks(missing) for task in rows.filter(pk__in=some)]
    if not found:
        return first
    on_path = set(path)
    others = [task for task in first if task.pk not in on_path]
    kept = [task for task in first if task.pk in on_path]
    return kept + found + others[: most - len(kept) - len(found)]


def _bars(tasks: Sequence[Task]) -> dict[str, list[Bar]]:
    """The last attempts of each task, in order."""
    bars: dict[str, list[Bar]] = {task.pk: [] for task in tasks}
    for some in _chunks(list(bars)):
        ended = Attempt.objects.filter(
            task_id__in=some, number__gt=F("task__attempt") - ATTEMPTS
        ).order_by("task_id", "number")
        ended = ended.only("task_id", "number", "started_at", "finished_at", "outcome", "status")
        for row in ended:
            bars[row.task_id].append(
                Bar(row.number, row.started_at, row.finished_at, row.outcome, row.status)
            )
    for task in tasks:
        if task.leased_at:
            bars[task.pk].append(Bar(task.attempt, task.leased_at, None, State.EXECUTING, None))
    return bars


def _freed(tasks: Sequence[Task]) -> dict[str, datetime]:
    """Since when no parent keeps each: since the last completed, or since it was created.

    Tasks beyond `EDGES` edges are missing, and those that a parent keeps: what has run of them was
    before a reset, and nothing tells since when it could.
    """
    freed: dict[str, datetime] = {}
    left = EDGES
    for start in range(0, len(tasks), IDS_PER_STATEMENT):
        some = tasks[start : start + IDS_PER_STATEMENT]
        edges = ParentEdge.objects.filter(child_id__in=[task.pk for task in some]).order_by()
        rows = list(edges.values_list("child_id", "parent__completed_at")[: left + 1])
        left -= len(rows)
        if left < 0:
            break
        times: defaultdict[str, list[datetime]] = defaultdict(list)
        for child, completed_at in rows:
            if completed_at is not None:
                times[child].append(completed_at)
        free = (task for task in some if not task.pending_parents)
        freed |= {task.pk: max([task.created_at, *times[task.pk]]) for task in free}
    return freed


def _place(task: Task, bars: Sequence[Bar]) -> tuple[bool, datetime, datetime, str]:
    start = bars[0].started_at if bars else task.created_at
    return (not bars, start, task.created_at, task.pk)


# --- The chart -------------------------------------------------------------------------------


def _task(task: Any, bars: Sequence[Bar], freed: datetime | None, now: datetime) -> Json:
    due = max(task.run_after, freed or task.run_after)
    return {
        "id": task.pk,
        "name": task.name,
        "worker": task.worker,
        "state": task.state,
        "createdAt": wire.time(task.created_at),
        "completedAt": _time(task.completed_at),
        "follows": task.merged_into,
        "dueAt": wire.time(due) if task.state in (State.READY, State.SCHEDULED) else None,
        "attemptsLeftOut": max(0, task.attempt - ATTEMPTS),
        "attempts": list(_attempts(task, bars, freed, now)),
    }


def _attempts(
    task: Any, bars: Sequence[Bar], freed: datetime | None, now: datetime
) -> Iterator[Json]:
    for bar, before in zip(bars, (None, *bars), strict=False):
        due = _due(task, bar, before, freed)
        # Retried by hand, or reset since: it did not wait for what came later.
        due = min(due, bar.started_at) if due else None
        yield {
            "number": bar.number,
            "outcome": bar.outcome,
            "status": bar.status,
            "dueAt": _time(due),
            "startedAt": wire.time(bar.started_at),
            "finishedAt": _time(bar.finished_at),
            "queuedSeconds": _seconds(due, bar.started_at),
            "ranSeconds": _seconds(bar.started_at, bar.finished_at or now),
        }


def _due(task: Task, bar: Bar, before: Bar | None, freed: datetime | None) -> datetime | None:
    """Since when the attempt could have run; None where nothing tells.

    The row knows the due time of the last attempt only, and not once that failed. The first of
    several is taken to have been due when it was created or freed, and a later one after the
    delay that follows an error.
    """
    if bar.number == task.attempt and (bar.finished_at is None or task.is_complete):
        return None if freed is None else max(task.run_after, freed)
    if before is None and task.attempt <= ATTEMPTS:
        return freed
    if before is not None and before.outcome == Outcome.FAILED and before.finished_at:
        return before.finished_at + timedelta(seconds=task.error_delay_in_seconds)
    return None


def _seconds(start: datetime | None, end: datetime) -> float | None:
    return None if start is None else max(0.0, round((end - start).total_seconds(), 3))


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else wire.time(moment)


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    return (ids[at : at + IDS_PER_STATEMENT] for at in range(0, len(ids), IDS_PER_STATEMENT))

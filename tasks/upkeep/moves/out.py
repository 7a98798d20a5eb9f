"""Groups leave the store, as they were at one moment; nothing is locked, nothing is changed.

Memory does not grow with the groups: rows come some at a time, as many as their bytes allow. A task
in flight leaves as one that waits, its attempt as abandoned: a lease is a scheduler's, and no
scheduler comes along. Tokens and settings never leave.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, repeat, starmap
from typing import Any

from django.db import connection

from ... import VERSION
from ...errors import NotFoundError
from ...models import AuditEntry, Worker, Workgroup
from ...rules.jsonio import dump
from ...rules.spec import PLAIN, Kind
from ...sql import clock, moment, on_postgres, read, run
from ...sql import moves as sql
from ...sql.one_look import one_look
from ...sql.probes import among
from ...store import portions
from .lines import FORMAT, Writer, payload

SMALL = 100  # rows of some kilobytes each
WEIGHTS = 1_000
IMPORTED = "imported"  # in the detail of an entry that tells of an import: it stays where it is
# How a plain column leaves, by its kind.
_OUT: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: str,
    Kind.NUMBER: int,
    Kind.SWITCH: bool,
    Kind.JSON: payload,
}
WHY = "abandoned: it ran when its group was exported"


@dataclass(slots=True)
class Count:
    groups: int = 0
    tasks: int = 0


@dataclass(slots=True)
class _Seen:
    """What was written of one group."""

    tasks: int = 0
    attempts: int = 0
    entries: int = 0
    workers: set[str] = field(default_factory=set)
    workgroups: set[str] = field(default_factory=set)
    outputs: dict[Any, int] = field(default_factory=dict)


@contextmanager
def snapshot() -> Iterator[None]:
    """One state of the store, for as long as a file takes."""
    is_alone = not connection.in_atomic_block
    with one_look():
        if is_alone:
            sql.steer_patiently()
        yield


def write(to: Writer, ids: Iterable[str] | None = None) -> Count:
    """Write the groups with these ids, all for None, within a `snapshot`.

    Raises NotFoundError, with nothing written, if one of them is not there.
    """
    named = None if ids is None else sorted(set(ids))
    if named:
        _refuse_unknown(named)
    now = clock()
    to.put("crew", {"format": FORMAT, "version": VERSION, "at": _time(now)})
    count = Count()
    which = sql.GROUPS if named is None else sql.GROUPS_NAMED
    for row in sql.stream(which, {"ids": dump(named)}, SMALL):
        count.groups += 1
        count.tasks += _group(to, row, now)
    to.put("crewEnd", {"groups": count.groups, "tasks": count.tasks})
    return count


def _group(to: Writer, row: tuple[Any, ...], now: datetime) -> int:
    group_id, name, is_paused, created_at = row
    head = {"id": group_id, "name": name, "isPaused": bool(is_paused)}
    to.put("group", head | {"createdAt": _time(created_at)})
    seen = _Seen()
    for row_out in sql.fetched(sql.TASKS_OUT, {"group": group_id}, _portions(group_id)):
        plain, task = sql.task_out(row_out)
        shared = _shared(to, plain["output"], task.shared_output_id, seen)
        to.put("task", _task(plain, task) | shared)
        seen.tasks += 1
        seen.workers.add(plain["worker"])
        seen.workgroups.add(plain["workgroup"])
    for attempt in _attempts(group_id):
        to.put("attempt", _attempt(attempt, now))
        seen.attempts += 1
    _fleet(to, seen)
    for entry in _entries(group_id):
        to.put("entry", entry)
        seen.entries += 1
    fields = {"id": group_id, "tasks": seen.tasks, "attempts": seen.attempts}
    to.put("groupEnd", fields | {"entries": seen.entries, "sha256": to.digest()})
    return seen.tasks


def _portions(group_id: str) -> Iterator[int]:
    """How many of the group's tasks fit into memory at once, in the order of `sql.TASKS_OUT`."""
    if on_postgres():
        weights = sql.stream(sql.WEIGHTS_OUT, {"group": group_id}, WEIGHTS)
        yield from map(len, portions.apart((None, size) for (size,) in weights))
    yield from repeat(1)  # SQLite gives them one by one in any case


def _task(plain: dict[str, Any], row: sql.TaskOut) -> dict[str, Any]:
    return {
        "id": row.id,
        **{field.word: _OUT[field.kind](plain[field.column]) for field in PLAIN},
        "errors": payload(row.errors),
        "isPaused": bool(row.is_paused),
        "runAfter": _time(row.run_after),
        "createdAt": _time(row.created_at),
        "completedAt": _time(row.completed_at),
        "attempt": row.attempt,
        "pendingParents": row.pending_parents,
        "mergedInto": row.merged_into,
        "createdBy": row.created_by,
        "heldCount": row.held_count,
        "rescues": row.rescues,
        "parentIds": payload(row.parent_ids) or [],
    } | ({"keepsComplete": True} if row.keeps_complete else {})


def _shared(to: Writer, own: Any, id_: Any, seen: _Seen) -> dict[str, int]:
    """Which output the task shares with others: it stands once in the file, before the first."""
    if id_ is None or own is not None:
        return {}
    if id_ not in seen.outputs:
        found = run(sql.OUTPUT_OUT, {"id": id_})
        if not found:  # `crewcheck` tells of it
            return {}
        ((value,),) = found
        seen.outputs[id_] = len(seen.outputs) + 1
        to.put("output", {"number": seen.outputs[id_], "value": payload(value)})
    return {"sharedOutput": seen.outputs[id_]}


def _attempts(group_id: str) -> Iterator[sql.AttemptOut]:
    """Those that ended and those that run, in the order of their tasks."""
    asked = {"group": group_id, "why": WHY}
    ended = starmap(sql.AttemptOut, sql.stream(sql.ATTEMPTS_OUT, asked, SMALL))
    running = starmap(sql.AttemptOut, sql.stream(sql.RUNNING_OUT, asked, SMALL))
    return heapq.merge(
        ended, running, key=lambda row: (moment(row.task_created_at), row.task_id, row.number)
    )


def _attempt(row: sql.AttemptOut, now: datetime) -> dict[str, Any]:
    return {
        "taskId": row.task_id,
        "number": row.number,
        "worker": row.worker,
        "scheduler": row.scheduler,
        "outcome": row.outcome,
        "status": row.status,
        "error": row.error,
        "note": row.note,
        "startedAt": _time(row.started_at),
        "finishedAt": _time(row.finished_at or now),
        "lateAt": _time(row.late_at),
        "lateOutcome": row.late_outcome,
        "lateStatus": row.late_status,
        "lateError": row.late_error,
        "request": row.request,
        "answer": row.answer,
    }


def _fleet(to: Writer, seen: _Seen) -> None:
    """The limits of its workers and the holds of its workgroups."""
    for worker in _named(Worker, seen.workers):
        to.put("worker", {"name": worker.name, "maxConcurrency": worker.max_concurrency})
    for group in _named(Workgroup, seen.workgroups):
        fields = {"name": group.name, "heldUntil": _time(group.held_until), "heldBy": group.held_by}
        to.put("workgroup", fields)


def _named(model: Any, names: set[str]) -> Iterator[Any]:
    """Their rows, as far as there are any; however the database would order them, by bytes."""
    left = iter(sorted(names - {""}))
    while some := list(islice(left, SMALL)):
        rows = model.objects.filter(among("name", some))
        yield from sorted(rows, key=lambda row: row.name)


def _entries(group_id: str) -> Iterator[dict[str, Any]]:
    """What was done to the group, oldest first; without what came in with which import."""
    for row in read(AuditEntry.objects.filter(group_id=group_id).order_by("id"), SMALL):
        if IMPORTED not in row.detail:
            yield {
                "at": _time(row.at),
                "who": row.who,
                "address": row.address,
                "verb": row.verb,
                "kind": row.kind,
                "target": row.target,
                "count": row.count,
                "ids": row.ids,
                "detail": payload(dump(row.detail)),
            }


def _refuse_unknown(ids: list[str]) -> None:
    found = {id_ for id_, *_ in run(sql.GROUPS_NAMED, {"ids": dump(ids)})}
    for id_ in ids:
        if id_ not in found:
            raise NotFoundError(f"there is no task group {id_}")


def _time(value: datetime | None) -> str | None:
    """With all six digits, whatever the database left out."""
    if value is None:
        return None
    text = moment(value).astimezone(UTC).replace(tzinfo=None).isoformat("T", "microseconds")
    return f"{text}Z"

"""Checked tasks become rows, in the running transaction. The caller has locked the group."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from ..rules.jsonio import dump
from ..rules.spec import FLAT, PAYLOADS, PLAIN, TaskSpec
from ..sql import BoundStatement, Statement, on_postgres, put, run
from ..sql import create as sql

MICROSECOND = timedelta(microseconds=1)

_plain = attrgetter(*(field.attribute for field in PLAIN))
_flat = attrgetter(*(field.attribute for field in FLAT))
_FLAT_COLUMNS = tuple(field.column for field in FLAT)
_PAYLOADS = tuple((field.column, field.attribute) for field in PAYLOADS)


@dataclass(frozen=True, slots=True)
class Family:
    """Checked tasks that come into a group together; `paused` says that the group is.

    `complete` are the parents that hold nobody up. A continuation names its maker, complete by
    then, in `created_by`, and starts no sooner than `delay` seconds from now.
    """

    group_id: str
    specs: Sequence[TaskSpec]
    paused: bool
    complete: Collection[str] = ()
    created_by: str = ""
    delay: float = 0.0


def statements(families: Sequence[Family], tasks: Statement = sql.TASKS) -> list[BoundStatement]:
    """What writes a few tasks, for one round trip; the last is the statement `tasks`."""
    edges = [edge for family in families for edge in _edges(family)]
    workers = sorted({spec.worker for family in families for spec in family.specs} - {""})
    rows = ",".join(row for family in families for row in _objects(family))
    before: list[BoundStatement] = []
    if edges:
        before.append((sql.EDGES, {"edges": dump(edges)}))
    if workers:
        before.append((sql.WORKERS, {"workers": dump(workers)}))
    return [*before, (tasks, {"tasks": f"[{rows}]"})]


def write_many(family: Family) -> None:
    """The same rows for tasks that no answer made, by more round trips, each task cheaper."""
    workers = sorted({spec.worker for spec in family.specs} - {""})
    if workers:
        run(sql.WORKERS, {"workers": dump(workers)})
    ((now,),) = run(sql.CLOCK, {})
    put(sql.TASK_ROWS, _values(family, now))
    put(sql.EDGE_ROWS, _edges(family))


def known(ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Of these ids, those in the store: their group and whether they are complete."""
    found = run(sql.KNOWN, {"ids": dump(list(ids))})
    return {id_: (group_id, bool(is_complete)) for id_, group_id, is_complete in found}


def _edges(family: Family) -> Iterator[tuple[str, str, int]]:
    """A continuation's maker is its last parent (contract 2.3)."""
    last = (family.created_by,) if family.created_by else ()
    for spec in family.specs:
        for place, parent in enumerate(spec.parent_ids + last):
            yield spec.id, parent, place


def _pending(family: Family) -> Iterator[tuple[TaskSpec, int]]:
    """Each task, and how many of its parents are not complete."""
    complete = {*family.complete, *(spec.id for spec in family.specs if spec.is_complete)}
    for spec in family.specs:
        pending = len(spec.parent_ids)
        if pending and complete:
            pending -= sum(map(complete.__contains__, spec.parent_ids))
        yield spec, pending


def _values(family: Family, now: datetime | str) -> Iterator[tuple[Any, ...]]:
    """What `sql.TASKS` makes of the tasks, in the order of its columns."""
    zone = _zone()
    begun = datetime.fromisoformat(now) if isinstance(now, str) else now
    due = now if isinstance(now, str) else _time(now, zone)
    for place, (spec, pending) in enumerate(_pending(family)):
        yield (
            *_plain(spec),
            spec.id,
            family.group_id,
            json.dumps(spec.errors, separators=(",", ":")) if spec.errors else "[]",
            spec.is_paused or family.paused,
            _time(spec.run_after, zone) or due,
            _time(spec.created_at or begun + place * MICROSECOND, zone),
            due if spec.is_complete else None,
            pending,
            "",
            0,
            0,
            0,
        )


def as_object(family: Family, spec: TaskSpec, *, pending: int) -> str:
    """One task as JSON, for a statement that knows more of it."""
    return _object(family, spec, pending=pending, place=0, zone=_zone())


def stored_time(value: datetime | None) -> str | None:
    return _time(value, _zone())


def _objects(family: Family) -> Iterator[str]:
    zone = _zone()
    for place, (spec, pending) in enumerate(_pending(family)):
        yield _object(family, spec, pending=pending, place=place, zone=zone)


def _object(family: Family, spec: TaskSpec, *, pending: int, place: int, zone: str) -> str:
    """The task as JSON for the statement; payloads are spliced in as they are."""
    head = json.dumps(
        {
            **dict(zip(_FLAT_COLUMNS, _flat(spec), strict=True)),
            "group": family.group_id,
            "id": spec.id,
            "errors": spec.errors,
            "is_paused": spec.is_paused or family.paused,
            "run_after": _time(spec.run_after, zone),
            "created_at": _time(spec.created_at, zone),
            "pending": pending,
            "created_by": family.created_by,
            "delay": family.delay,
            "place": place,
        }
    )
    payloads = "".join(
        [f',"{column}":{getattr(spec, name) or "null"}' for column, name in _PAYLOADS]
    )
    return f"{head[:-1]}{payloads}}}"


def _time(value: datetime | None, zone: str) -> str | None:
    """As both databases store it: UTC; SQLite compares the text, so always all digits."""
    if value is None:
        return None
    return value.replace(tzinfo=None).isoformat(" ", "microseconds") + zone


def _zone() -> str:
    return "+00" if on_postgres() else ""

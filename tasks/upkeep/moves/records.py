"""What stands in a line of an export, as rows for the store; each field checked.

Ids are those of the file with a suffix, "" for none: so a group comes in beside its original.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...errors import InvalidInputError
from ...models import AuditEntry, Outcome
from ...rules import spelling
from ...rules.jsonio import dump, safe_text
from ...rules.spec import (
    TaskSpec,
    read_bool,
    read_id,
    read_int,
    read_json,
    read_task,
    read_text,
    read_time,
    read_worker,
)
from ...rules.transcript import LONGEST as LONGEST_KEPT
from ...store import rows

MOST = 2**31 - 1  # of the databases' integers
LONGEST = 16_384  # characters of a text that we wrote ourselves, an error for example

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group as it comes in; `created_at` is None for now."""

    id: str
    name: str = ""
    is_paused: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as it comes in: what anybody may ask for, and the machine's own.

    `pending` is a first guess, counted again from the edges. `completed_at` is None for now.
    """

    spec: TaskSpec
    pending: int = 0
    completed_at: datetime | None = None
    attempt: int = 0
    merged_into: str | None = None
    created_by: str = ""
    held_count: int = 0
    rescues: int = 0
    shared_output: int | None = None  # its number in the file
    keeps_complete: bool = False

    def as_json(self, group_id: str, outputs: Mapping[int, str]) -> str:
        """The row as the statement takes it; `outputs` are the ids of shared ones by number."""
        family = rows.Family(group_id, (), paused=False, created_by=self.created_by)
        row = rows.as_object(family, self.spec, pending=self.pending)
        machine = {
            "completed_at": rows.stored_time(self.completed_at),
            "attempt": self.attempt,
            "merged_into": self.merged_into,
            "held_count": self.held_count,
            "rescues": self.rescues,
            "shared_output": self.shared_output and outputs[self.shared_output],
            "keeps_complete": self.keeps_complete or None,
        }
        return f"{row[:-1]},{dump(machine)[1:]}"


@dataclass(frozen=True, slots=True)
class OutputRow:
    """An output that several tasks of the group have in common."""

    number: int
    value_json: str


# What stands in a line of each kind; of a task also all that the API takes.
WORDS = {
    "crew": ("format", "version", "at"),
    "group": ("id", "name", "isPaused", "createdAt"),
    "output": ("number", "value"),
    "task": (
        "completedAt",
        "attempt",
        "pendingParents",
        "mergedInto",
        "createdBy",
        "heldCount",
        "rescues",
        "sharedOutput",
    ),
    "attempt": (
        "taskId",
        "number",
        "worker",
        "scheduler",
        "outcome",
        "status",
        "error",
        "note",
        "startedAt",
        "finishedAt",
        "lateAt",
        "lateOutcome",
        "lateStatus",
        "lateError",
        "request",
        "answer",
    ),
    "worker": ("name", "maxConcurrency"),
    "workgroup": ("name", "heldUntil", "heldBy"),
    "entry": ("at", "who", "address", "verb", "kind", "target", "count", "ids", "detail"),
    "groupEnd": ("id", "tasks", "attempts", "entries", "sha256"),
    "crewEnd": ("groups", "tasks"),
}


def check_words(kind: str, fields: Json) -> None:
    """Raise InvalidInputError for a field that no line of this kind has; `task` does so itself."""
    if kind != "task":
        for name in spelling.unknown(fields, WORDS[kind]):
            spelling.refuse(f"field of a {kind}", name, WORDS[kind])


def group(fields: Json, suffix: str) -> GroupRow:
    return GroupRow(
        id=_id(fields, "id", suffix),
        name=read_text(fields.get("name"), "name"),
        is_paused=read_bool(fields.get("isPaused"), "isPaused"),
        created_at=_time(fields, "createdAt"),
    )


def output(fields: Json, *, max_input: int) -> OutputRow:
    value_json = read_json(fields.get("value"), "value", limit=max_input)
    if value_json is None:
        raise InvalidInputError("value is missing")
    return OutputRow(_count(fields, "number", low=1), value_json)


def task(fields: Json, suffix: str, *, max_input: int) -> TaskRow:
    given = fields | {
        "id": _id(fields, "id", suffix),
        "parentIds": _suffixed(fields.get("parentIds"), suffix),
    }
    _time(fields, "createdAt"), _time(fields, "runAfter")
    spec = read_task(given, max_input=max_input, more=WORDS["task"])
    merged_into = _id(fields, "mergedInto", suffix) if fields.get("mergedInto") else None
    if merged_into and not spec.is_complete:
        raise InvalidInputError("mergedInto is for complete tasks only")
    shared = None if fields.get("sharedOutput") is None else _count(fields, "sharedOutput", low=1)
    if shared and spec.output_json is not None:
        raise InvalidInputError("sharedOutput is for tasks without an output of their own")
    return TaskRow(
        spec,
        pending=_count(fields, "pendingParents"),
        completed_at=_time(fields, "completedAt") if spec.is_complete else None,
        attempt=_count(fields, "attempt"),
        merged_into=merged_into,
        created_by=_id(fields, "createdBy", suffix) if fields.get("createdBy") else "",
        held_count=_count(fields, "heldCount"),
        rescues=_count(fields, "rescues"),
        shared_output=shared,
        keeps_complete=read_bool(fields.get("keepsComplete"), "keepsComplete"),
    )


def attempt(fields: Json, suffix: str) -> Json:
    late_at = _time(fields, "lateAt") if fields.get("lateAt") else None
    return {
        "task_id": _id(fields, "taskId", suffix),
        "number": _count(fields, "number", low=1),
        "worker": read_worker(fields.get("worker")),
        "scheduler": _own_text(fields, "scheduler", 36),
        "outcome": _one_of(fields, "outcome", Outcome.values),
        "status": _status(fields, "status"),
        "error": _own_text(fields, "error"),
        "note": _own_text(fields, "note"),
        "started_at": rows.stored_time(_time(fields, "startedAt")),
        "finished_at": rows.stored_time(_time(fields, "finishedAt")),
        "late_at": rows.stored_time(late_at),
        "late_outcome": _one_of(fields, "lateOutcome", ["", *Outcome.values]),
        "late_status": _status(fields, "lateStatus"),
        "late_error": _own_text(fields, "lateError"),
        "request": _kept(fields, "request"),
        "answer": _kept(fields, "answer"),
    }


def worker(fields: Json) -> Json:
    most = None if fields.get("maxConcurrency") is None else _count(fields, "maxConcurrency")
    return {"name": _named(fields, read_worker(fields.get("name"))), "most": most}


def workgroup(fields: Json) -> Json:
    until = _time(fields, "heldUntil") if fields.get("heldUntil") else None
    return {
        "name": _named(fields, read_text(fields.get("name"), "name")),
        "held_until": rows.stored_time(until),
        "held_by": read_text(fields.get("heldBy"), "heldBy"),
    }


def entry(fields: Json) -> Json:
    if not isinstance(fields.get("detail"), dict):
        raise InvalidInputError("detail must be an object")
    return {
        "at": rows.stored_time(_time(fields, "at")),
        "who": _own_text(fields, "who", 255),
        "address": _own_text(fields, "address", 45),
        "verb": _own_text(fields, "verb", 20),
        "kind": _one_of(fields, "kind", ["", *AuditEntry.Kind.values]),
        "target": _own_text(fields, "target", 255),
        "count": _count(fields, "count"),
        "ids": _own_text(fields, "ids"),
        "detail": fields["detail"],
    }


def _id(fields: Json, field: str, suffix: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{field} is missing")
    return read_id(value + suffix)


def _suffixed(ids: object, suffix: str) -> object:
    if not suffix or not isinstance(ids, list):
        return ids
    return [id_ + suffix if isinstance(id_, str) else id_ for id_ in ids]


def _time(fields: Json, field: str) -> datetime:
    moment = read_time(fields.get(field), field)
    if moment is None:
        raise InvalidInputError(f"{field} is missing")
    return moment


def _count(fields: Json, field: str, low: int = 0) -> int:
    if fields.get(field) is None:
        raise InvalidInputError(f"{field} is missing")
    return read_int(fields[field], field, default=low, low=low, high=MOST)


def _status(fields: Json, field: str) -> int | None:
    return None if fields.get(field) is None else _count(fields, field)


def _kept(fields: Json, field: str) -> str | None:
    """What is kept of a call; files of before there was such a thing have none."""
    return None if fields.get(field) is None else _own_text(fields, field, LONGEST_KEPT)


def _own_text(fields: Json, field: str, longest: int = LONGEST) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or len(value) > longest or value != safe_text(value, longest):
        raise InvalidInputError(f"{field} must be a text of at most {longest} characters")
    return value


def _one_of(fields: Json, field: str, values: list[str]) -> str:
    value = fields.get(field)
    if value not in values:
        raise InvalidInputError(f"{field} must be one of {', '.join(filter(None, values))}")
    return str(value)


def _named(fields: Json, name: str) -> str:
    if not name:
        raise InvalidInputError("name is missing")
    return name

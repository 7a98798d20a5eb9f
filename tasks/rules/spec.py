"""A task as somebody asks for it: one reader for API, import files and workers' answers. Pure."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ..errors import InvalidInputError
from . import spelling
from .jsonio import MANY_ZEROS, dump, for_store, safe_text
from .names import check_id, check_text, check_worker, new_id

MAX_ATTEMPTS = 1_000
MAX_ERROR_DELAY = 31_536_000  # seconds: a year
MAX_ERRORS = 50
DEFAULT_ATTEMPTS = 5
DEFAULT_ERROR_DELAY = 60

_ZEROS = re.compile(f"{MANY_ZEROS}+")
RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task to be created, checked field by field; its place in the graph is not yet checked.

    `input_json` and `output_json` are JSON texts, None for null. `run_after` and `created_at`
    are None for "now, by the database's clock". `is_named` says that the id is somebody's choice:
    one that we made is in use nowhere.
    """

    id: str
    name: str = ""
    worker: str = ""
    workgroup: str = ""
    key: str = ""
    remaining_attempts: int = DEFAULT_ATTEMPTS
    is_paused: bool = False
    is_complete: bool = False
    is_seed: bool = False
    run_after: datetime | None = None
    error_delay_in_seconds: int = DEFAULT_ERROR_DELAY
    priority: int = 0
    input_json: str | None = None
    output_json: str | None = None
    errors: tuple[str, ...] = ()
    parent_ids: tuple[str, ...] = ()
    created_at: datetime | None = None
    is_named: bool = field(default=True, compare=False)


def read_task(
    raw: object, *, max_input: int, ignored: list[str] | None = None, more: Collection[str] = ()
) -> TaskSpec:
    """Read a task in the wire's words (contract 1.1).

    Raises InvalidInputError naming the field, which may be one that is unknown. With a list of
    what is `ignored`, unknown ones go there, but for those that can only be a mistake. `more`
    fields may be there for others to read.
    """
    fields = _object(raw)
    unread: list[str] = []
    spec = TaskSpec(**_given(fields, _TASK, max_input, unread))
    if unread:
        _judge(unread, ignored, more)
    return spec


def read_child(raw: object, *, max_input: int, ignored: list[str] | None = None) -> TaskSpec:
    """Read a child of an answer: fewer fields, and a worker is a must (contract 2.3).

    Unknown fields are handled as in `read_task`.
    """
    fields = _object(raw)
    unread: list[str] = []
    given = _given(fields, _CHILD, max_input, unread)
    if unread:
        _judge(unread, ignored)
    if not given.get("worker"):
        raise InvalidInputError("worker is missing")
    # The old system reads 0 as "not given" here; a child without attempts would never run.
    given["remaining_attempts"] = given.get("remaining_attempts") or DEFAULT_ATTEMPTS
    return TaskSpec(**given, is_named=bool(fields.get("id")))


def read_id(value: object) -> str:
    """The client's id, or a new one for none."""
    return new_id() if value in (None, "") else _rule(check_id, value)


def read_worker(value: object) -> str:
    return "" if value is None else _rule(check_worker, value)


def read_text(value: object, field: str) -> str:
    return "" if value is None else _rule(check_text, value, field)


def read_label(value: object, field: str) -> str:
    """A text that tasks are matched by: one of spaces only is a mistake."""
    text = read_text(value, field)
    if text.isspace():
        raise InvalidInputError(f"{field} holds only spaces")
    return text


def read_attempts(value: object) -> int:
    return read_int(value, "remainingAttempts", default=DEFAULT_ATTEMPTS, low=0, high=MAX_ATTEMPTS)


def read_error_delay(value: object) -> int:
    return read_int(
        value, "errorDelayInSeconds", default=DEFAULT_ERROR_DELAY, low=0, high=MAX_ERROR_DELAY
    )


def read_priority(value: object) -> int:
    return read_int(value, "priority", default=0, low=-10, high=10)


def read_int(value: object, field: str, *, default: int, low: int, high: int) -> int:
    """A whole number; "5" is 5 and 1.9 is 1, as old clients send them (contract 1.3)."""
    if value is None or value == "":
        return default
    number = _number(value)
    if number is None:
        raise InvalidInputError(f"{field} must be a whole number, not {_shown(value)}")
    if not low <= number <= high:
        raise InvalidInputError(f"{field} must be between {low} and {high}, not {_shown(value)}")
    return int(number)


def read_bool(value: object, field: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidInputError(f"{field} must be true or false, not {_shown(value)}")
    return value


def read_time(value: object, field: str) -> datetime | None:
    """An RFC 3339 time. None, "" and the year 1 (the old system's zero time) mean "none"."""
    if value is None or value == "":
        return None
    match = RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidInputError(f"{field} must be an RFC 3339 time, not {_shown(value)}")
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in "Zz" else zone
    try:
        time = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '')[:6]:0<6}{zone}")
        return None if time.year == 1 else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"{field} is not a time: {_shown(value)}") from error


def read_json(value: object, field: str, *, limit: int) -> str | None:
    """The JSON text, for the store, of a value that the strict reader gave; None for null."""
    if value is None:
        return None
    text = dump(value)
    # A character is at most four bytes: most texts need no second look.
    if len(text) * 4 > limit and _size(text) > limit:
        raise InvalidInputError(f"{field} is larger than {limit} bytes")
    return for_store(text)


def _size(text: str) -> int:
    """In bytes; an export may have written out numbers that came as 1e299."""
    return len(_ZEROS.sub("", text).encode())


def read_errors(value: object) -> tuple[str, ...]:
    """The last 50, cut as the errors of our own attempts are."""
    return tuple(safe_text(error) for error in _strings(value, "errors")[-MAX_ERRORS:])


def read_ids(value: object) -> tuple[str, ...]:
    """Ids of tasks that are there already, each once."""
    return tuple(dict.fromkeys(_strings(value, "ids")))


def read_parent_ids(value: object) -> tuple[str, ...]:
    """Each parent once, in the order given."""
    return tuple(dict.fromkeys(_strings(value, "parentIds")))


def _given(
    fields: Mapping[str, Any], readers: "Readers", max_input: int, unread: list[str]
) -> dict[str, Any]:
    """The fields that are there and not null, read: bulk creates wait for this loop."""
    given: dict[str, Any] = {}
    for word, value in fields.items():
        if word not in readers:
            unread.append(word)
        elif value is not None:
            name, read = readers[word]
            given[name] = read_json(value, word, limit=max_input) if read is None else read(value)
    if "id" not in given:
        given["id"] = new_id()
    return given


def _judge(unread: list[str], ignored: list[str] | None, more: Collection[str] = ()) -> None:
    """Raise InvalidInputError for the first field that must not be ignored."""
    for word in unread:
        if word in TASK_WORDS or word in more:
            continue
        if ignored is None or spelling.is_only_a_mistake(word):
            spelling.refuse("field", word, TASK_WORDS)
        else:
            ignored.append(word)


def _object(raw: object) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise InvalidInputError(f"a task must be an object, not {_shown(raw)}")
    return raw


def _strings(value: object, field: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInputError(f"{field} must be a list of strings, not {_shown(value)}")
    return value


def _number(value: object) -> float | int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value
    if isinstance(value, str) and len(value) <= 20:
        try:
            return int(value)
        except ValueError:
            return None
    return None


def _rule(check: Any, value: object, *args: str) -> str:
    """Apply a rule of `rules/names.py`, which speaks ValueError."""
    try:
        return str(check(value, *args))
    except ValueError as error:
        raise InvalidInputError(str(error)) from error


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


# The wire's word, the field of a `TaskSpec` and how a value is read; None is for a payload.
Readers = dict[str, tuple[str, Callable[[Any], Any] | None]]

_CHILD: Readers = {
    "id": ("id", read_id),
    "name": ("name", partial(read_text, field="name")),
    "worker": ("worker", read_worker),
    "workgroup": ("workgroup", partial(read_label, field="workgroup")),
    "key": ("key", partial(read_label, field="key")),
    "remainingAttempts": ("remaining_attempts", read_attempts),
    "isPaused": ("is_paused", partial(read_bool, field="isPaused")),
    "runAfter": ("run_after", partial(read_time, field="runAfter")),
    "errorDelayInSeconds": ("error_delay_in_seconds", read_error_delay),
    "priority": ("priority", read_priority),
    "input": ("input_json", None),
    "parentIds": ("parent_ids", read_parent_ids),
}
_TASK: Readers = _CHILD | {
    "isComplete": ("is_complete", partial(read_bool, field="isComplete")),
    "isSeed": ("is_seed", partial(read_bool, field="isSeed")),
    "output": ("output_json", None),
    "errors": ("errors", read_errors),
    "createdAt": ("created_at", partial(read_time, field="createdAt")),
}
# With what only the server sets: whoever sends back what was read is understood.
TASK_WORDS = (*_TASK, "taskGroupId", "busyExecuting", "state")

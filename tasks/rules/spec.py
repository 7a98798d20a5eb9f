"""A task as somebody asks for it: one reader for API, import files and workers' answers. Pure."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any, TypedDict

from ..errors import InvalidInputError
from . import spelling
from .jsonio import MANY_ZEROS, dump, for_store, safe_text
from .names import camel, check_id, check_text, check_worker, new_id

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


class ChildFields(TypedDict, total=False):
    """What client and worker kit take of a task and of a child; None counts as not given."""

    name: str | None
    workgroup: str | None
    key: str | None
    remaining_attempts: int | None
    is_paused: bool | None
    error_delay_in_seconds: int | None
    priority: int | None
    input: Any


class GivenFields(ChildFields, total=False):
    """What the client takes of a task; ids, times and lists are its own."""

    worker: str | None
    is_complete: bool | None
    is_seed: bool | None
    output: Any


class Kind(Enum):
    """What a field holds; the value is the type of its column in PostgreSQL."""

    TEXT = "text"
    NUMBER = "int"
    SWITCH = "bool"
    TIME = "timestamptz"
    JSON = "jsonb"
    LIST = "jsonb[]"


@dataclass(frozen=True, slots=True)
class TaskField:
    """A field of a task that people set. On the wire its column's name is in camelCase.

    `read` is for what is more than its kind, `words` are for people. One that `is_plain` is stored
    as it was sent: it needs a line here, in `TaskSpec` and `ChildFields` or `GivenFields` above, in
    the model, and in the client's `Task`; and nowhere else.
    """

    column: str
    kind: Kind
    read: Callable[[Any], Any] | None = None
    words: str = ""
    low: int = 0
    high: int = 0
    is_for_children: bool = True
    is_editable: bool = True
    is_plain: bool = True

    @property
    def word(self) -> str:
        return camel(self.column)

    @property
    def attribute(self) -> str:
        """Where a `TaskSpec` has it."""
        return f"{self.column}_json" if self.kind == Kind.JSON else self.column

    @property
    def default(self) -> Any:
        return _DEFAULTS[self.attribute]

    def reader(self) -> Callable[[Any], Any] | None:
        """How a value is read; None is for a payload."""
        if self.read is not None:
            return self.read
        match self.kind:
            case Kind.TEXT:
                return partial(read_text, field=self.word)
            case Kind.SWITCH:
                return partial(read_bool, field=self.word)
            case Kind.TIME:
                return partial(read_time, field=self.word)
            case Kind.NUMBER:
                bounds = {"low": self.low, "high": self.high}
                return partial(read_int, field=self.word, default=self.default, **bounds)
        return None


_DEFAULTS = {each.name: each.default for each in dataclasses.fields(TaskSpec)}

FIELDS = (
    TaskField(
        "id",
        Kind.TEXT,
        read_id,
        "A new id is made for an empty one.",
        is_editable=False,
        is_plain=False,
    ),
    TaskField("name", Kind.TEXT),
    TaskField(
        "worker",
        Kind.TEXT,
        read_worker,
        "Appended to the base URL of the workers; without one it never runs.",
    ),
    TaskField(
        "workgroup",
        Kind.TEXT,
        partial(read_label, field="workgroup"),
        "Tasks of one workgroup, in all groups, are held together.",
    ),
    TaskField(
        "key",
        Kind.TEXT,
        partial(read_label, field="key"),
        "Of tasks of a group with one key, one runs and settles the others.",
    ),
    TaskField(
        "remaining_attempts",
        Kind.NUMBER,
        words="How often it may still be tried.",
        high=MAX_ATTEMPTS,
    ),
    TaskField("is_paused", Kind.SWITCH, is_plain=False),  # as is a task of a paused group
    TaskField("is_complete", Kind.SWITCH, is_for_children=False),
    TaskField("run_after", Kind.TIME, is_plain=False),
    TaskField("is_seed", Kind.SWITCH, words="Kept by a reset of the group.", is_for_children=False),
    TaskField(
        "error_delay_in_seconds",
        Kind.NUMBER,
        words="The wait after a failed attempt.",
        high=MAX_ERROR_DELAY,
    ),
    TaskField("input", Kind.JSON, words="Sent to the worker."),
    TaskField("output", Kind.JSON, words="What the worker answered.", is_for_children=False),
    TaskField("errors", Kind.LIST, read_errors, is_for_children=False, is_plain=False),
    TaskField("created_at", Kind.TIME, is_for_children=False, is_editable=False, is_plain=False),
    TaskField(
        "parent_ids",
        Kind.LIST,
        read_parent_ids,
        "Tasks of the same group that must be complete first. Never a cycle.",
        is_plain=False,
    ),
    TaskField(
        "priority",
        Kind.NUMBER,
        words="Higher runs first among tasks that are due.",
        low=-10,
        high=10,
    ),
)
PLAIN = tuple(field for field in FIELDS if field.is_plain)
# Those of them that are JSON texts, and the others.
PAYLOADS = tuple(field for field in PLAIN if field.kind == Kind.JSON)
FLAT = tuple(field for field in PLAIN if field.kind != Kind.JSON)

# By the wire's word, the field of a `TaskSpec` and how a value is read; None is for a payload.
Readers = dict[str, tuple[str, Callable[[Any], Any] | None]]

_TASK: Readers = {each.word: (each.attribute, each.reader()) for each in FIELDS}
_CHILD: Readers = {each.word: _TASK[each.word] for each in FIELDS if each.is_for_children}
# With what only the server sets: whoever sends back what was read is understood.
TASK_WORDS = (*_TASK, "taskGroupId", "busyExecuting", "state")

"""What the API shows, as values; and a task to be created, as the API takes it. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self, TypedDict

from ..rules import spelling
from ..rules.names import camel
from ..rules.spec import GivenFields
from .errors import InvalidInput
from .fields import Fields

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """A graph of tasks. `raw` is the JSON object as received.

    `etag` says what it was when it was read alone; "" in lists.
    """

    id: str
    name: str = ""
    created_at: datetime | None = None
    is_paused: bool = False
    etag: str = field(default="", compare=False)
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: object) -> Self:
        fields = Fields(raw)
        return cls(
            id=fields.needed("id"),
            name=fields.text("name"),
            created_at=fields.time("createdAt"),
            is_paused=fields.flag("isPaused"),
            raw=fields.raw,
        )


@dataclass(frozen=True, slots=True)
class Task:
    """One call to a worker. `run_after` is None for "at once"; times know their zone.

    `etag` says what it was when it was read alone; "" in lists.
    """

    id: str
    task_group_id: str = ""
    name: str = ""
    worker: str = ""
    workgroup: str = ""
    key: str = ""
    remaining_attempts: int = 0
    is_paused: bool = False
    is_complete: bool = False
    is_seed: bool = False
    busy_executing: bool = False
    run_after: datetime | None = None
    error_delay_in_seconds: int = 0
    priority: int = 0
    input: Any = None
    output: Any = None
    errors: tuple[str, ...] = ()
    parent_ids: tuple[str, ...] = ()
    created_at: datetime | None = None
    etag: str = field(default="", compare=False)
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: object) -> Self:
        fields = Fields(raw)
        return cls(
            id=fields.needed("id"),
            task_group_id=fields.text("taskGroupId"),
            name=fields.text("name"),
            worker=fields.text("worker"),
            workgroup=fields.text("workgroup"),
            key=fields.text("key"),
            remaining_attempts=fields.whole("remainingAttempts"),
            is_paused=fields.flag("isPaused"),
            is_complete=fields.flag("isComplete"),
            is_seed=fields.flag("isSeed"),
            busy_executing=fields.flag("busyExecuting"),
            run_after=fields.time("runAfter"),
            error_delay_in_seconds=fields.whole("errorDelayInSeconds"),
            priority=fields.whole("priority"),
            input=fields.value("input"),
            output=fields.value("output"),
            errors=fields.texts("errors"),
            parent_ids=fields.texts("parentIds"),
            created_at=fields.time("createdAt"),
            raw=fields.raw,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that ended.

    `outcome` is completed, failed, held, abandoned, cancelled or interrupted.

    `status` is the HTTP status, None if there was none. `late` is what came after the lease was
    lost, as JSON, or None. `request` and `answer` come with one attempt that is asked for, not in
    lists: start line, headers and body, cut, None where nothing is kept.
    """

    task_id: str
    number: int
    worker: str = ""
    outcome: str = ""
    status: int | None = None
    error: str = ""
    note: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    late: Json | None = None
    request: str | None = None
    answer: str | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: object) -> Self:
        fields = Fields(raw)
        return cls(
            task_id=fields.needed("taskId"),
            number=fields.count("number"),
            worker=fields.text("worker"),
            outcome=fields.text("outcome"),
            status=fields.maybe_whole("status"),
            error=fields.text("error"),
            note=fields.text("note"),
            started_at=fields.time("startedAt"),
            finished_at=fields.time("finishedAt"),
            late=fields.value("late"),
            request=fields.value("request"),
            answer=fields.value("answer"),
            raw=fields.raw,
        )


@dataclass(frozen=True, slots=True)
class Worker:
    """`max_concurrency` is its own limit, None for the default; `limit` the one in force.

    `rests_until` is a time while it rests after failing too often in a row.
    """

    name: str
    max_concurrency: int | None = None
    limit: int | None = None
    in_flight: int = 0
    rests_until: datetime | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: object) -> Self:
        fields = Fields(raw)
        return cls(
            name=fields.needed("name"),
            max_concurrency=fields.maybe_whole("maxConcurrency"),
            limit=fields.maybe_whole("limit"),
            in_flight=fields.whole("inFlight"),
            rests_until=fields.inner("rest").time("until"),
            raw=fields.raw,
        )


@dataclass(frozen=True, slots=True)
class Workgroup:
    """Tasks that share one external limit. `held_until` may lie in the past."""

    name: str
    is_held: bool = False
    held_until: datetime | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: object) -> Self:
        fields = Fields(raw)
        return cls(
            name=fields.needed("name"),
            is_held=fields.flag("isHeld"),
            held_until=fields.time("heldUntil"),
            raw=fields.raw,
        )


class Touched(int):
    """How many tasks a verb touched. With `limit`, `next` is where the following call goes on
    (`after`), None at the end.
    """

    next: str | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """The tasks that a bulk call created, or would create, in the order given."""

    count: int
    ids: tuple[str, ...] = ()


class TaskFields(GivenFields, total=False):
    """What a task can be given. `parent_ids`, ids or tasks, may lie in the same call.

    None counts as not given: a new task keeps the default, an edited one what it has.
    """

    id: str | None
    run_after: datetime | str | None
    errors: Iterable[str] | None
    parent_ids: "Iterable[Task | str] | None"


class Which(TypedDict, total=False):
    """Which tasks of a group: those that match everything given.

    `state`: one or more of complete, executing, following, failed, paused, blocked, unassigned,
    scheduled and ready; none of them matches nothing. `search` is part of a name, `q` of a name
    or an id; `seeds`: only those.
    """

    search: str
    q: str
    skip_completed: bool
    state: str | Iterable[str]
    worker: str
    workgroup: str
    key: str
    seeds: bool


def to_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A task in the API's words, without what is None; camelCase names pass as they are.

    Raises TypeError for a name that no task has, InvalidInput for a time without a zone.
    """
    if not isinstance(fields, Mapping):
        raise TypeError(f"a task is given as its fields by name, not as {type(fields)}")
    words = to_words(fields)
    given = zip(words, fields.values(), strict=True)
    body = {word: _plain(value) for word, value in given if value is not None}
    if "parentIds" in body:
        body["parentIds"] = [id_of(parent) for parent in body["parentIds"]]
    if "errors" in body:
        body["errors"] = list(body["errors"])
    return body


def to_words(names: Iterable[str]) -> list[str]:
    """Names of fields as the API has them. Raises TypeError for a name that no task has."""
    names = list(names)
    if unknown := spelling.unknown(names, (*_WIRE, *_WIRE.values())):
        raise TypeError(f"a task has no {spelling.with_hints(sorted(unknown), tuple(_WIRE))}")
    return [_WIRE.get(name, name) for name in names]


def to_query(which: Mapping[str, object], known: Collection[str] = ()) -> dict[str, str] | None:
    """The filter as a query; None for one that matches nothing.

    Raises TypeError for a name that is no filter, and for a value of another kind, None as well:
    to leave it out would name more tasks. `known` are names that the caller reads beside them.
    """
    filters = tuple(Which.__annotations__)
    if unknown := spelling.unknown(which, known or filters):
        raise TypeError(f"there is no filter {spelling.with_hints(unknown, known or filters)}")
    query = {camel(name): _filter(name, which[name]) for name in filters if name in which}
    if query.get("state") == "":
        return None
    return {name: value for name, value in query.items() if value is not None}


def _filter(name: str, value: object) -> str | None:
    """A value as the query has it, None for a flag that is not set."""
    if name in ("skip_completed", "seeds"):
        if not isinstance(value, bool):
            raise TypeError(f"the filter {name} must be True or False")
        return "true" if value else None
    if name == "state" and isinstance(value, Iterable) and not isinstance(value, str | bytes):
        states = tuple(value)
        if all(isinstance(state, str) and state for state in states):
            return ",".join(states)
    if not isinstance(value, str):
        raise TypeError(f"the filter {name} must be a text; leave it out for any")
    return value


def tag_of(thing: "Group | Task | str | None") -> str:
    """An ETag for If-Match: that of a group or task, or the tag itself; "" for None."""
    if thing is None:
        return ""
    tag = thing if isinstance(thing, str) else thing.etag
    if not _TAG.fullmatch(tag):
        raise InvalidInput("if_match is a group or task that was read alone, or its etag")
    return tag


def id_of(thing: Any) -> str:
    """The id of a group or task, or the id itself. Raises TypeError for anything else."""
    if isinstance(thing, str):
        return thing
    if not hasattr(thing, "id"):
        raise TypeError(f"an id is a text, or a group or task that has one; not {type(thing)}")
    return str(thing.id)


_TAG = re.compile(r'"[\x21\x23-\x7e]+"')
_WIRE = {name: camel(name) for name in (*TaskFields.__annotations__, "created_at")}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput("a time must know its time zone")
        return value.isoformat()
    return value

"""What a worker answers, as a value. Pure."""

import json
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Unpack

from ..rules.names import camel
from ..rules.spec import FIELDS, ChildFields

MAX_HOLD = 86_400  # seconds; Crew cuts a Retry-After there


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a JSON object and headers: what any framework needs for its response."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The body. Raises TypeError or ValueError when it holds what JSON cannot."""
        return json.dumps(self.body, allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class Child:
    """A task that follows the one being done. Its id lets a sibling name it as a parent."""

    id: str
    fields: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, **self.fields}


_DEFAULTS = {
    each.column: each.default for each in FIELDS if each.column in ChildFields.__annotations__
}


def child(
    worker: str,
    *,
    id: str | None = None,
    parents: Iterable["Child | str"] = (),
    run_after: datetime | None = None,
    **fields: Unpack[ChildFields],
) -> Child:
    """A child for `output`. `parents` are siblings in the same answer, in any order.

    Every child waits for the task being done in any case; nothing is inherited from it.
    `run_after` must know its time zone (ValueError).
    """
    if unknown := sorted(set(fields) - set(_DEFAULTS)):
        raise TypeError(f"a child has no {', '.join(unknown)}")
    given = {name: value for name, value in fields.items() if value is not None}
    sent: dict[str, Any] = {
        "worker": worker,
        "parentIds": [parent.id if isinstance(parent, Child) else parent for parent in parents],
        **{camel(name): value for name, value in (_DEFAULTS | given).items()},
    }
    if run_after is not None:
        if run_after.tzinfo is None:
            raise ValueError("run_after must know its time zone")
        sent["runAfter"] = run_after.isoformat()
    return Child(id or str(uuid.uuid4()), sent)


def output(
    value: Any = None,
    *,
    children: Iterable[Child] = (),
    children_delay: float = 0.0,
    workgroup_delay: float = 0.0,
) -> Answer:
    """The task is done. `value` is its output, any JSON.

    `children_delay` holds all its children, also those that were there before, for so many
    seconds; `workgroup_delay` every task of its workgroup, in all groups.
    """
    body: dict[str, Any] = {"output": value}
    listed = [child.to_json() for child in children]
    if listed:
        body["children"] = listed
    _add_delay(body, "childrenDelayInSeconds", children_delay)
    _add_delay(body, "workgroupDelayInSeconds", workgroup_delay)
    return Answer(200, body)


def failure(error: Any, *, workgroup_delay: float = 0.0, status: int = 500) -> Answer:
    """The attempt failed; Crew tries again after the task's error delay, if attempts are left.

    `error` is a text or any JSON. With `workgroup_delay` (seconds), and if the task has a
    workgroup, this is a rate limit instead: its tasks are held, and no attempt is used up.
    """
    body: dict[str, Any] = {"error": error}
    _add_delay(body, "workgroupDelayInSeconds", workgroup_delay)
    return Answer(status, body)


def hold(seconds: float, error: str = "rate limited") -> Answer:
    """Not now: try again in `seconds`, rounded up, above 0 and at most a day (ValueError).

    No attempt is used up (but by each after 100 holds in a row). A task with a workgroup holds
    all tasks of it, in all groups.
    """
    if not 0 < seconds <= MAX_HOLD:
        raise ValueError(f"a hold lasts more than 0 and at most {MAX_HOLD} seconds, not {seconds}")
    return Answer(429, {"error": error}, {"Retry-After": str(math.ceil(seconds))})


def _add_delay(body: dict[str, Any], name: str, seconds: float) -> None:
    if not 0 <= seconds < math.inf:  # also catches NaN
        raise ValueError(f"{name} must be 0 or more, not {seconds}")
    if seconds:
        body[name] = seconds

"""What the demo workers answer.

Pure but for the random ids of worker-c's children: nothing here waits, reads a clock or speaks
HTTP, so that Django (`views.py`) and a program of thirty lines (`standalone.py`) can serve it.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# How long each worker pretends to work, in seconds.
WAITS = {"worker-a": 5, "worker-b": 7, "worker-c": 2, "worker-d": 5}
MAX_WAIT = 60


@dataclass(frozen=True, slots=True)
class Call:
    """What a demo worker wants to know of a call. `seconds` is None when not asked for."""

    task_id: str = ""
    throw: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: dict[str, Any]


def read_call(body: bytes) -> Call:
    """Never fails: what cannot be read or used counts as not sent."""
    call = _parse(body)
    task_id = call.get("taskId")
    given = call.get("input")
    fields = given if isinstance(given, dict) else {}
    throw = fields.get("throw")
    seconds = fields.get("seconds")
    return Call(
        task_id=task_id if isinstance(task_id, str) else "",
        throw=throw if isinstance(throw, str) else "",
        seconds=seconds if _is_wait(seconds) else None,
    )


def wait(worker: str, call: Call) -> float:
    """Seconds until the answer is due."""
    return WAITS[worker] if call.seconds is None else call.seconds


def answer(worker: str, call: Call, *, now: datetime) -> Answer:
    if call.throw:
        return Answer(500, {"error": call.throw})
    output = {
        "message": f"Worker {worker[-1].upper()} was here!",
        "at": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if worker == "worker-c":
        return Answer(200, {"output": output, "children": _children(call.seconds)})
    return Answer(200, {"output": output})


def _parse(body: bytes) -> dict[str, Any]:
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return call if isinstance(call, dict) else {}


def _is_wait(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= MAX_WAIT  # type: ignore[operator]  # also no NaN


def _children(seconds: float | None) -> list[dict[str, Any]]:
    """Four tasks in the shape of a diamond: A, then B and C together, then D.

    A worker chooses its children's ids so that it can name them as each other's parents.
    """
    a, b, c, d = (f"{letter}-{1 + secrets.randbelow(2**63 - 1)}" for letter in "ABCD")
    children: list[dict[str, Any]] = [
        {"id": a, "name": "Child A", "worker": "worker-a", "parentIds": []},
        {"id": b, "name": "Child B", "worker": "worker-a", "parentIds": [a]},
        {"id": c, "name": "Child C", "worker": "worker-b", "parentIds": [a]},
        {"id": d, "name": "Child D", "worker": "worker-a", "parentIds": [b, c]},
    ]
    if seconds is not None:
        children = [child | {"input": {"seconds": seconds}} for child in children]
    return children

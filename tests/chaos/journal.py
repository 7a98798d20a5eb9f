"""What the client asked for and what it was answered, written down before and after each call."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DONE, REFUSED, UNKNOWN = "done", "refused", "unknown"


@dataclass(frozen=True, slots=True)
class Asked:
    """One call. `result` is unknown when no answer came: it may or may not have had its effect."""

    number: int
    verb: str
    group: str
    ids: tuple[str, ...]
    takes: tuple[str, ...]
    sent_at: float
    answered_at: float = 0.0
    result: str = UNKNOWN
    text: str = ""


class Journal:
    """A file of JSON lines. For several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._lock = threading.Lock()
        self._number = 0

    def sent(self, verb: str, group: str, ids: Any = (), takes: Any = ()) -> int:
        """Note a call that is about to be made; return its number."""
        with self._lock:
            self._number += 1
            line = {"verb": verb, "group": group, "ids": list(ids), "takes": list(takes)}
            self._write({"call": self._number, "sent_at": time.time()} | line)
            return self._number

    def answered(self, number: int, result: str, text: str = "") -> None:
        with self._lock:
            line = {"answered_at": time.time(), "result": result, "text": text[:500]}
            self._write({"call": number} | line)

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read(path: Path) -> list[Asked]:
    """All calls, in the order they were sent."""
    seen: dict[int, dict[str, Any]] = {}
    for line in _lines(path):
        seen.setdefault(line["call"], {}).update(line)
    return [
        Asked(
            number,
            each["verb"],
            each["group"],
            tuple(each["ids"]),
            tuple(each["takes"]),
            each["sent_at"],
            each.get("answered_at", 0.0),
            each.get("result", UNKNOWN),
            each.get("text", ""),
        )
        for number, each in seen.items()
    ]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        for line in file:
            yield json.loads(line)

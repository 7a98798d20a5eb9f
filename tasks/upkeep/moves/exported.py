"""A file of `out` comes into the store, group by group: what was read whole is kept.

Raises InvalidInputError, naming the line, for a file that was cut, changed or made otherwise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError

from ...conf import conf
from ...errors import ConflictError, CrewError, InvalidInputError
from ...sql.patience import is_refusal, refusal
from . import records
from .into import Existing, How, Incoming, coming_in, is_there
from .lines import FORMAT, Lines
from .records import GroupRow, Json

ROWS_PER_CHUNK = 1_000
BYTES_PER_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a group."""

    group_id: str
    tasks: int
    is_stored: bool


def bring_in(lines: Lines, how: How) -> Iterator[Imported]:
    """Bring in one group after the other, each in a transaction of its own."""
    place = _Place(lines)
    with place:
        _check_head(*lines.next())
    groups = 0
    while True:
        with place:
            kind, value = lines.next()
            records.check_words(kind, value)
            if kind == "crewEnd":
                break
            if kind != "group":
                raise InvalidInputError(f"a {kind} where a group begins")
            imported = _group(lines, value, how, place)
        groups += 1
        yield imported
    with place:
        if value.get("groups") != groups:
            raise InvalidInputError(f"there were {groups} groups, of {value.get('groups')}")
        lines.refuse_more()


class _Place:
    """Says of an error on which line it was; of what is stored in parts, where that part began."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.part: tuple[int, int] | None = None

    def __enter__(self) -> None:
        self.part = None

    def __exit__(self, _type: object, error: object, _trace: object) -> None:
        if isinstance(error, DatabaseError) and is_refusal(error):
            error = InvalidInputError(refusal(error))
        if not isinstance(error, CrewError):
            return
        first, last = self.part or (self.lines.number, self.lines.number)
        where = f"line {last}" if first == last else f"lines {first} to {last}"
        kind = ConflictError if isinstance(error, ConflictError) else InvalidInputError
        raise kind(f"{where}: {error}") from error


def _check_head(kind: str, value: Json) -> None:
    if kind != "crew":
        raise InvalidInputError("an export of Crew begins with a line of the kind crew")
    if value.get("format") != FORMAT:
        raise InvalidInputError(
            f"written in format {value.get('format')} by Crew {value.get('version')}; this Crew"
            f" reads format {FORMAT}"
        )
    records.check_words(kind, value)


def _group(lines: Lines, value: Json, how: How, place: _Place) -> Imported:
    group = records.group(value, how.suffix)
    if how.existing is Existing.SKIP and is_there(group.id):
        parts = _Parts(lines, None, how, place)
        parts.read(group)
        return Imported(group.id, parts.counts["task"], is_stored=False)
    with coming_in(group, how) as incoming:
        parts = _Parts(lines, incoming, how, place)
        parts.read(group)
    return Imported(group.id, incoming.tasks, is_stored=True)


class _Parts:
    """The lines of one group, stored some at a time; with no `incoming` they are only read."""

    def __init__(self, lines: Lines, incoming: Incoming | None, how: How, place: _Place) -> None:
        self.counts = {"task": 0, "attempt": 0, "entry": 0}
        self._lines = lines
        self._how = how
        self._place = place
        self._rows: list[Any] = []
        self._kind = ""
        self._bytes = 0
        self._first = self._last = 0  # the lines of `_rows`
        self._max_input = max(conf.CREW_MAX_INPUT_BYTES, conf.CREW_MAX_ANSWER_BYTES)
        self._store: dict[str, Callable[[list[Any]], None]] = {}
        if incoming:
            self._store = {
                "output": incoming.add_outputs,
                "task": incoming.add_tasks,
                "attempt": incoming.add_attempts,
                "worker": incoming.add_workers,
                "workgroup": incoming.add_workgroups,
                "entry": incoming.add_entries,
            }
        if how.suffix:  # what was done was done to the original
            self._store.pop("entry", None)

    def read(self, group: GroupRow) -> None:
        """All of them, up to and with the closing line."""
        while True:
            kind, value = self._next(group)
            records.check_words(kind, value)
            if kind == "groupEnd":
                break
            if kind in self.counts:
                self.counts[kind] += 1
            if kind != self._kind:
                self._flush()
                self._kind = kind
            self._last = self._lines.number
            self._first = self._first if self._rows else self._last
            self._rows.append(self._row(kind, value))
            self._bytes += self._lines.size
            if len(self._rows) >= ROWS_PER_CHUNK or self._bytes >= BYTES_PER_CHUNK:
                self._flush()
        self._flush()
        self._check_end(value)

    def _next(self, group: GroupRow) -> tuple[str, Json]:
        try:
            return self._lines.next()
        except InvalidInputError as error:
            raise InvalidInputError(
                f"in the middle of group {group.id}, of which nothing is stored: {error}"
            ) from error

    def _row(self, kind: str, value: Json) -> Any:
        match kind:
            case "output":
                return records.output(value, max_input=self._max_input)
            case "task":
                return records.task(value, self._how.suffix, max_input=self._max_input)
            case "attempt":
                return records.attempt(value, self._how.suffix)
            case "worker":
                return records.worker(value)
            case "workgroup":
                return records.workgroup(value)
            case "entry":
                return records.entry(value)
        raise InvalidInputError(f"a {kind} within a group")

    def _flush(self) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        if rows and self._kind in self._store:
            self._place.part = (self._first, self._last)
            self._store[self._kind](rows)
            self._place.part = None

    def _check_end(self, value: Json) -> None:
        words = {"task": "tasks", "attempt": "attempts", "entry": "entries"}
        for kind, word in words.items():
            if value.get(word) != self.counts[kind]:
                raise InvalidInputError(
                    f"the group had {value.get(word)} {word}, and {self.counts[kind]} came"
                )
        if value.get("sha256") != self._lines.digest:
            raise InvalidInputError("the checksum differs: the group was changed or damaged")

"""What ended in the last hour: by minute, and by worker. Reads only, and a bounded part of it.

Attempts are found through their ids, which follow the time, so the settle keeps no index for it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Left

from ...models import Attempt, Outcome
from ...sql import overview as sql
from ...sql import run

MINUTES = 60
SAMPLE = 20_000  # attempts looked at: of more, one of two, of three, ...
SHOWN_ERROR = 300  # characters

_BAD = (Outcome.FAILED, Outcome.ABANDONED)


@dataclass(frozen=True, slots=True)
class Count:
    """Attempts of one worker that ended in one way in one minute of the epoch."""

    worker: str
    minute: int
    outcome: str
    count: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Looked:
    """The attempts looked at: one of each `step` ids from `first` to `last` that ended `since`.

    `since` is as the database writes times.
    """

    since: Any
    first: int
    last: int
    step: int


@dataclass(frozen=True, slots=True)
class Ended:
    """With `step` above 1 one of so many attempts was looked at, and stands for all of them.

    `looked` is None when there is not one attempt.
    """

    counts: tuple[Count, ...] = ()
    step: int = 1
    looked: Looked | None = None

    def of(self, worker: str) -> "Ended":
        """Those of one worker."""
        return replace(self, counts=tuple(row for row in self.counts if row.worker == worker))


@dataclass(frozen=True, slots=True)
class Minute:
    """The attempts that ended from `at` on; those that lost their lease count as failed."""

    at: datetime
    completed: int = 0
    failed: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """The attempts of one worker, and the last error among those looked at."""

    attempts: int = 0
    failures: int = 0
    error: str = ""
    error_at: datetime | None = None
    error_task: str = ""


IDLE = Tally()


def ended(at: datetime) -> Ended:
    """The attempts of the sixty minutes that end with the one of `at`, the database's time."""
    since = connection.ops.adapt_datetimefield_value(_first_minute(at))
    found = run(sql.SINCE, {"since": since})
    if not found:
        return Ended()
    ((first, last),) = found
    looked = Looked(since, first, last, step=max(1, -(-(last + 1 - first) // SAMPLE)))
    rows = run(sql.ATTEMPTS, asdict(looked))
    return Ended(tuple(Count(*row) for row in rows), looked.step, looked)


def minutes(at: datetime, ended: Ended) -> tuple[Minute, ...]:
    """Sixty of them, oldest first."""
    counts: defaultdict[tuple[int, str], int] = defaultdict(int)
    for row in ended.counts:
        word = "failed" if row.outcome in _BAD else row.outcome
        counts[row.minute, word] += row.count * ended.step
    start = _first_minute(at)
    first = int(start.timestamp()) // 60
    return tuple(
        Minute(
            start + timedelta(minutes=n),
            *(counts[first + n, word] for word in ("completed", "failed", "held")),
        )
        for n in range(MINUTES)
    )


def tallies(ended: Ended) -> Mapping[str, Tally]:
    """By worker."""
    attempts: defaultdict[str, int] = defaultdict(int)
    failures: defaultdict[str, int] = defaultdict(int)
    last: dict[str, int] = {}
    for row in ended.counts:
        attempts[row.worker] += row.count * ended.step
        if row.outcome in _BAD:
            failures[row.worker] += row.count * ended.step
            last[row.worker] = max(last.get(row.worker, 0), row.last_id)
    errors = _errors(list(last.values()))
    return {
        name: Tally(count, failures[name], *errors.get(name, ()))
        for name, count in attempts.items()
    }


def _errors(ids: list[int]) -> dict[str, tuple[str, datetime, str]]:
    found: dict[str, tuple[str, datetime, str]] = {}
    for start in range(0, len(ids), 500):
        rows = Attempt.objects.filter(pk__in=ids[start : start + 500])
        rows = rows.annotate(text=Left("error", SHOWN_ERROR))
        for worker, text, at, task in rows.values_list("worker", "text", "finished_at", "task_id"):
            found[worker] = (text, at, task)
    return found


def _first_minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)

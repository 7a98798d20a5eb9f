"""Clears away what has had its time, beside a scheduler: all that `prune` and `retention` know.

Each kind is looked at once a minute by one of all schedulers. While there is more it goes on at
once; after some seconds the other kinds have their turn. Between two transactions it rests: as
long as the last one took while this scheduler has tasks to claim, so that claims have half of the
time at least. On SQLite it always does, for whoever else writes.
"""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from ..conf import conf
from ..insight.troubles import CHORES, GROUPS, chores
from ..models import Chore
from ..sql import on_postgres
from . import expired_rows, finished_groups

EVERY = 60.0  # seconds between two looks when all was done
AT_A_TIME = 2.0  # seconds of one kind
BUSY_REST, IDLE_REST = 1.0, 0.1  # of the time that a transaction took
LEAST_REST = 0.005  # seconds


class Chores:
    """What one scheduler does of it. `is_busy` says whether it has tasks to claim."""

    def __init__(self, stop: threading.Event, *, is_busy: Callable[[], bool]) -> None:
        self._stop = stop
        self._is_busy = is_busy
        self._begun: dict[str, Iterator[Any]] = {}

    def works(self) -> list[Callable[[], None]]:
        """A function for each kind: it works on it for a moment if there is something to do."""
        return [lambda name=name: self._work(name) for name in CHORES]  # type: ignore[misc]

    def seconds(self) -> float:
        """How long to wait for the next round."""
        return 0.0 if self._begun else EVERY

    def _work(self, name: str) -> None:
        steps = self._begun.pop(name, None) or self._begin(name)
        if steps is None:
            return
        until = (started := time.monotonic()) + AT_A_TIME
        for gone in steps:
            if gone is None or self._rests(time.monotonic() - started):
                return  # another scheduler is at it, or this one stops
            if (started := time.monotonic()) >= until:
                self._begun[name] = steps
                return
        Chore.objects.update_or_create(name=name, defaults={"done_at": Now()})

    def _begin(self, name: str) -> Iterator[Any] | None:
        """The steps; None if there is nothing to do, or it was done just now."""
        lately = Chore.objects.filter(name=name, done_at__gt=Now() - timedelta(seconds=0.9 * EVERY))
        if name not in chores() or lately.exists():
            return None
        return (
            finished_groups.steps(conf.CREW_KEEP_DAYS)
            if name == GROUPS
            else expired_rows.PARTS[name]()
        )

    def _rests(self, took: float) -> bool:
        """Give way to claims; whether to stop."""
        gives_way = self._is_busy() or not on_postgres()  # others write too, and one at a time
        share = BUSY_REST if gives_way else IDLE_REST
        return self._stop.wait(max(LEAST_REST, took * share))

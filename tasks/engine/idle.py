"""How a scheduler rests between its turns: until there is something to do.

It hears of its own answers and of other processes' work by an event. On SQLite nobody can tell
another process, so it looks whether the file was written.
"""

import threading
import time
from collections.abc import Sized

from django.db import Error, connection

from ..sql import on_sqlite, wakeups
from ..store.changes import News

PEEK = 0.01  # seconds between two looks at SQLite's data_version
GATHER = 0.02  # seconds: the most that an answer waits for others to share its turn
GATHER_STEP = 0.002  # seconds without another answer that end the waiting


def gather(answers: Sized, in_flight: Sized) -> None:
    """While answers keep coming, wait for three quarters of what is in flight.

    A turn costs as much for one answer as for a hundred, and takes it from the deliverer.
    """
    deadline = time.monotonic() + GATHER
    seen = 0
    while seen < len(answers) < len(in_flight) * 3 // 4:
        if time.monotonic() > deadline:
            break
        seen = len(answers)
        time.sleep(GATHER_STEP)


class Rest:
    """Of one scheduler, in its own thread. `news` is what the turns before have to tell."""

    def __init__(self, wake: threading.Event, news: News) -> None:
        self._wake = wake
        self._news = news
        self._data_version: int | None = None

    def at_most(self, seconds: float, *, peeking: bool) -> None:
        """Until woken; `peeking`, also until another connection writes to SQLite's file."""
        deadline = time.monotonic() + seconds
        peeking = peeking and on_sqlite()
        self._tell(seconds)
        while not self._wake.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if peeking and self._others_wrote():
                self._wake.set()  # it may be new work
                break
            self._wake.wait(min(left, PEEK) if peeking else left)
        self._wake.clear()

    def _tell(self, seconds: float) -> None:
        """When it is time, which may come while we rest: a turn that starts earlier adds to it."""
        wait = self._news.wait()
        if wait is None or (wait > 0 and (wait > seconds or self._wake.wait(wait))):
            return
        self._news.tell()

    def _others_wrote(self) -> bool:
        try:
            connection.ensure_connection()
            with connection.wrap_database_errors:
                version = wakeups.data_version()
        except Error:
            return False  # the next turn will meet it too, and knows what to do
        before, self._data_version = self._data_version, version
        return version != before

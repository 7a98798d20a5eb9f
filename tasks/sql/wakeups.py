"""What tells a thread that another process may have committed something.

Only hints: whoever waits here looks for itself, and looks again when nothing came.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, connection

from ..conf import conf

LOOK = 1.0  # seconds until a look without any hint
BLIND_LOOK = 0.25  # where no hint can come
PEEK = 0.02  # seconds between two looks at SQLite's data_version

Wait = Callable[[threading.Event, float], object]


@contextmanager
def listen(channel: str) -> Iterator[Wait]:
    """Give a function that returns when there may be something new, its event is set, or so many
    seconds have passed (a second at most).

    It uses this thread's connection. Nothing that is committed from now on is slept through.
    """
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        yield _Peek()
    elif not conf.CREW_NOTIFY:
        yield lambda stop, most: stop.wait(min(BLIND_LOOK, most))
    else:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {channel}")
        yield _wait_for_notify
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute(f"UNLISTEN {channel}")


class _Peek:
    """Waits until another connection has committed to the SQLite file since the last time."""

    def __init__(self) -> None:
        self._version = data_version()

    def __call__(self, stop: threading.Event, most: float) -> None:
        for _ in range(max(1, int(min(LOOK, most) / PEEK))):
            version = data_version()
            if version != self._version:
                self._version = version
                return
            if stop.wait(PEEK):
                return


def data_version() -> int:
    """Of the SQLite file: another one when another connection committed since the last look.

    Needs this thread's connection to be open.
    """
    # Past Django's cursor: a hundred looks a second must cost next to nothing.
    (version,) = connection.connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def _wait_for_notify(_: threading.Event, most: float) -> None:
    notifies = connection.connection.notifies
    if list(notifies(timeout=min(LOOK, most), stop_after=1)):
        list(notifies(timeout=0))  # all that came by now makes one look

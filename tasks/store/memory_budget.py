"""Memory of this process that large requests share: who finds no room waits for some.

Each page and each body has a limit of its own. Twenty at once would be twenty times as much.
"""

import threading
import time
from dataclasses import dataclass, field

from django.db import connection

from ..conf import conf
from ..errors import CrewError

WAITS = 30.0  # seconds


class NoRoomError(CrewError):
    """Others have had all of it for too long: try again (503)."""

    def __init__(self) -> None:
        super().__init__("busy with other large requests, try again")


@dataclass(slots=True)
class Share:
    """What one request has of a room, until it gives it back. That may be done twice."""

    room: "Room"
    size: int

    def shrink(self, size: int) -> None:
        self.room.changed(min(size, self.size) - self.size)
        self.size = min(size, self.size)

    def give_back(self) -> None:
        self.shrink(0)


@dataclass(slots=True, eq=False)
class Room:
    """Half of `CREW_WEB_BYTES`. Whoever comes first has theirs first, however large it is."""

    in_use: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, size: int) -> Share:
        """So many bytes, if need be after a wait; what is larger than the room has it alone.

        Outside of a transaction. Raises NoRoomError.
        """
        until = time.monotonic() + WAITS
        if not self._turn.acquire(blocking=False):
            _let_go_of_connection()
            if not self._turn.acquire(timeout=WAITS):
                raise NoRoomError
        try:
            self._wait(size, until)
        finally:
            self._turn.release()
        return Share(self, size)

    def take_now(self, size: int) -> Share | None:
        """So many bytes if there is no wait for them. Also within a transaction."""
        if not self._turn.acquire(blocking=False):
            return None
        try:
            with self._changed:
                if not self._fits(size):
                    return None
                self.in_use += size
        finally:
            self._turn.release()
        return Share(self, size)

    def changed(self, by: int) -> None:
        with self._changed:
            self.in_use += by
            self._changed.notify_all()

    def _wait(self, size: int, until: float) -> None:
        with self._changed:
            if not self._fits(size):
                _let_go_of_connection()
                left = max(0.0, until - time.monotonic())
                if not self._changed.wait_for(lambda: self._fits(size), left):
                    raise NoRoomError
            self.in_use += size

    def _fits(self, size: int) -> bool:
        return not self.in_use or self.in_use + size <= conf.CREW_WEB_BYTES // 2


def _let_go_of_connection() -> None:
    """Others need it meanwhile: there are few (`CREW_WEB_CONNECTIONS`)."""
    if not connection.in_atomic_block:
        connection.close()


answers = Room()
bodies = Room()  # apart, so that no large create keeps all from reading

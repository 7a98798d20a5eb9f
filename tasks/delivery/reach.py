"""Connects to the first of a host's addresses that answers (RFC 8305). Knows nothing of HTTP.

An address that drops what is sent to it must cost no call more than a moment: after `APART` the
next one is tried beside it, and what was reached last is tried first from then on.
"""

import errno
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

APART = 0.25  # seconds until the next address is tried beside those before it
EACH = 4.0  # seconds that one address has
HANDSHAKE = 10.0  # seconds that TLS has
SPARE = 16  # sockets of a process beyond one for each call: descriptors are counted by its slots
AGAIN = 0.05  # seconds between two looks for a spare one

Found = tuple[Any, ...]  # what socket.getaddrinfo gives for an address


class Order:
    """Remembers which address of a host was reached last, and which was no use then."""

    def __init__(self) -> None:
        self._best: Any = None
        self._worst: Any = None

    def sort(self, found: Sequence[Found]) -> list[Found]:
        """The one reached last, then the others, IPv6 and IPv4 in turn as the resolver has them."""
        if len(found) == 1:
            return list(found)
        families = dict.fromkeys(one[0] for one in found)
        columns = ([one for one in found if one[0] == family] for family in families)
        mixed = chain.from_iterable(zip_longest(*columns))
        # A host may be listed twice.
        once = {one[4]: one for one in mixed if one is not None}
        return sorted(once.values(), key=lambda one: (one[4] == self._worst, one[4] != self._best))

    def reached(self, one: Found) -> None:
        self._best = one[4]

    def lost(self) -> None:
        """The one reached last takes connections, and no more: TLS failed."""
        self._worst, self._best = self._best, None


class Spare:
    """The sockets that a process may open beside the one that each call has. For any thread."""

    def __init__(self, count: int = SPARE) -> None:
        self._left = threading.Semaphore(count)

    def take(self) -> bool:
        return self._left.acquire(blocking=False)

    def give_back(self, count: int) -> None:
        if count:
            self._left.release(count)


def timed_out() -> OSError:
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def connect_first(
    found: Iterable[Found],
    seconds: float | None,
    *,
    opened: Callable[[socket.socket], None] = lambda sock: None,
    spare: Spare | None = None,
) -> tuple[Found, socket.socket]:
    """The address that was reached first, and the socket. OSError when none is, within `seconds`.

    `opened` gets each socket before it connects, and again and again while we wait, so that
    another thread can end the wait: by shutting it, or by an exception.
    """
    race = _Race(found, seconds, opened, spare or Spare())
    try:
        return race.run()
    finally:
        race.close()


class _Race:
    def __init__(
        self,
        found: Iterable[Found],
        seconds: float | None,
        opened: Callable[[socket.socket], None],
        spare: Spare,
    ) -> None:
        self._left = deque(found)
        self._end = time.monotonic() + (EACH * len(self._left) if seconds is None else seconds)
        self._opened = opened
        self._spare = spare
        self._taken = 0
        self._poll = select.poll()
        self._running: dict[int, tuple[Found, socket.socket, float]] = {}  # until when
        self._next_at = 0.0
        self._failure: OSError = OSError("the host has no address")

    def run(self) -> tuple[Found, socket.socket]:
        while self._left or self._running:
            now = time.monotonic()
            if now >= self._end:
                raise timed_out()
            self._give_up(now)
            if self._left and self._may_begin(now):
                self._begin(now)
            elif won := self._wait(now):
                return won
        raise self._failure

    def close(self) -> None:
        for _, sock, _ in self._running.values():
            sock.close()
        self._spare.give_back(self._taken)

    def _may_begin(self, now: float) -> bool:
        if not self._running:
            return True
        if now < self._next_at:
            return False
        if self._spare.take():
            self._taken += 1
            return True
        self._next_at = now + AGAIN
        return False

    def _begin(self, now: float) -> None:
        one = self._left.popleft()
        self._next_at = now + APART
        try:
            sock = socket.socket(*one[:3])
        except OSError as error:  # a family that this machine does not have, for example
            self._failure = error
            return
        self._running[sock.fileno()] = one, sock, now + EACH
        sock.setblocking(False)
        self._opened(sock)
        code = sock.connect_ex(one[4])
        self._poll.register(sock, select.POLLOUT)
        if code not in (0, errno.EINPROGRESS):
            self._lose(sock.fileno(), OSError(code, os.strerror(code)))

    def _wait(self, now: float) -> tuple[Found, socket.socket] | None:
        until = min(self._end, *(until for _, _, until in self._running.values()), now + APART)
        if self._left:
            until = min(until, self._next_at)
        events = self._poll.poll(max(0.0, until - now) * 1_000 + 1)
        for number, _ in events:
            one, sock, _ = self._running[number]
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                del self._running[number]
                return one, sock
            self._lose(number, OSError(code, os.strerror(code)))
        for _, sock, _ in self._running.values():
            self._opened(sock)
        return None

    def _give_up(self, now: float) -> None:
        """Those whose time is up."""
        for number in [n for n, (_, _, until) in self._running.items() if until <= now]:
            self._lose(number, timed_out())

    def _lose(self, number: int, why: OSError) -> None:
        _, sock, _ = self._running.pop(number)
        self._poll.unregister(number)
        sock.close()
        self._failure = why
        self._next_at = 0.0

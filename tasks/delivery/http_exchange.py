"""One HTTP/1.1 exchange after another on one connection, as a client that only POSTs."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from ..rules.answer_reader import MOST_OVERHEAD, UNREAD, Reader, Received
from . import unread
from .calls import LARGE, broken

OnReceived = Callable[[Received], None]
OnLarge = Callable[[int], bool]


class Owner(Protocol):
    """What a connection needs of the pool that it belongs to."""

    max_bytes: int
    # What is read at once: of an answer, until it turns out to be large; and then.
    piece: memoryview
    large_piece: memoryview

    def keep(self, connection: "Connection", keep_alive: str) -> None:
        """It can be used again, for as long as the answer's header says."""

    def doubt(self, connection: "Connection") -> None:
        """It was used again, and ended without a byte: so may others."""

    def forget(self, connection: "Connection") -> None:
        """It is closed."""


class Connection(asyncio.BufferedProtocol):
    """One connection, with at most one call on it.

    It reads into the owner's memory: an event loop reads much more at once, for each connection.
    """

    on_large: OnLarge  # of the call: whether there is room for so many bytes, or `go_on` tells
    awaits_room = False  # it waits for that
    _transport: asyncio.Transport  # from connection_made on, which comes first
    _reader: Reader  # of the call's answer, from send on

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._on_received: OnReceived | None = None
        self._early: bytes | None = b""  # came before the first call; None from then on
        self._is_sent = True
        self._has_asked = False
        self._on_sent: Callable[[], None] | None = None
        self._sent = self._sent_before = 0  # bytes, in all and before the call
        self._looking: _Looking | None = None
        self.idled = 0.0  # seconds before the call that is on it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def is_usable(self) -> bool:
        return not self._transport.is_closing()

    def send(self, request: bytes, on_received: OnReceived) -> None:
        """POST; `on_received` is called once, unless the connection is aborted first."""
        self._on_received = on_received
        self._has_asked = False
        self._reader = Reader(self._owner.max_bytes)
        self._sent_before = self._sent
        self._sent += len(request)
        early, self._early = self._early, None
        if early is None:
            self._transport.write(request)
        else:
            self._send_first(request, early)

    def _send_first(self, request: bytes, early: bytes) -> None:
        """Not to a worker that has answered or closed already."""
        self._is_sent = not early and not self._transport.is_closing()
        if self._is_sent:
            self._transport.write(request)
        elif early:
            self._take(early)
        if self._transport.is_closing() and self._on_received is not None:
            self._finish(self._reader.end())

    def send_large(
        self, head: bytes, body: bytes, on_received: OnReceived, on_sent: Callable[[], None]
    ) -> None:
        """The same, without a copy; `on_sent` is called when the body is no longer in memory."""
        self._on_sent = on_sent
        self._transport.set_write_buffer_limits(0)  # as long as any of it waits, all of it is held
        self.send(head, on_received)
        if self._is_sent:
            self._sent += len(body)
            self._transport.write(body)
        if not self._transport.get_write_buffer_size():
            self.resume_writing()

    def abort(self) -> None:
        """Close at once. A call that is on it gets no answer any more."""
        self._on_received = None
        if self._looking is not None:
            self._looking.end()
        self._transport.abort()

    def give_up(self, why: str) -> Received:
        """Close at once; what has come of the answer until now."""
        self.abort()
        return self._reader.end(why)

    def go_on(self) -> None:
        """There is room for the answer now."""
        self.awaits_room = False
        self._transport.resume_reading()

    # What the event loop tells

    def resume_writing(self) -> None:
        on_sent, self._on_sent = self._on_sent, None
        if on_sent is not None:
            on_sent()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._owner.large_piece if self._has_asked else self._owner.piece

    def buffer_updated(self, size: int) -> None:
        self._take(bytes(self.get_buffer(size)[:size]))

    def _take(self, data: bytes) -> None:
        if self._on_received is not None:
            if received := self._reader.feed(data):
                self._finish(received)
            elif self._reader.has > LARGE and not self._has_asked:
                self._ask()
        elif self._early is not None and len(self._early) < MOST_OVERHEAD:
            self._early += data  # a full server may refuse whoever connects
        else:
            self.abort()  # nobody asked

    def eof_received(self) -> bool:
        """True keeps the connection until we know whether the call on it was read."""
        sock = self._transport.get_extra_info("socket")
        is_plain = self._transport.get_extra_info("sslcontext") is None
        if self._looking is not None or not (self._ends_unanswered() and is_plain and sock):
            return False
        self._looking = _Looking(sock, self._sent_before, self._looked)
        self._looking.look()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.forget(self)
        if self._looking is not None:
            self._looking.look(is_last=True)
        if self._on_received is not None:
            self._end(self._reader.end(broken(error) if error else ""))

    def _looked(self, is_unread: bool) -> None:
        if self._on_received is not None:
            self._end(self._reader.end(UNREAD if is_unread else ""))

    def _ends_unanswered(self) -> bool:
        """Whether it was used before, and nothing came of the call that is on it now."""
        return bool(self._on_received and self._sent_before and self._reader.is_untouched)

    def _end(self, received: Received) -> None:
        if self._ends_unanswered():
            self._owner.doubt(self)
            received = replace(received, was_kept=True)
        self._finish(received)

    def _ask(self) -> None:
        self._has_asked = True
        if not self.on_large(self._reader.most):
            self.awaits_room = True
            self._transport.pause_reading()

    def _finish(self, received: Received) -> None:
        on_received, self._on_received = self._on_received, None
        # Of a call that was answered before it was read whole, the rest would come first.
        is_sent = self._is_sent and not self._transport.get_write_buffer_size()
        if is_sent and self._reader.is_reusable:
            self._owner.keep(self, self._reader.keep_alive)
        else:
            self.abort()
        if on_received is not None:
            on_received(received)


class _Looking:
    """Looks until the worker's kernel has refused the call, or taken it. Tells once which."""

    def __init__(
        self, sock: socket.socket, sent_before: int, on_known: Callable[[bool], None]
    ) -> None:
        # One of our own: the transport may close its descriptor meanwhile.
        self._sock: socket.socket | None = sock.dup()
        self._sent_before = sent_before
        self._on_known = on_known
        self._until = time.monotonic() + unread.WITHIN
        self._wait = unread.FIRST_LOOK

    def look(self, *, is_last: bool = False) -> None:
        if self._sock is None:
            return
        is_refused = unread.was_refused(self._sock, self._sent_before)
        if is_refused is None and not is_last and time.monotonic() < self._until:
            asyncio.get_running_loop().call_later(self._wait, self.look)
            self._wait = min(2 * self._wait, unread.LAST_LOOK)
            return
        self.end()
        self._on_known(bool(is_refused))

    def end(self) -> None:
        if self._sock is not None:
            with suppress(OSError):
                self._sock.close()
            self._sock = None

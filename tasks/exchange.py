"""One HTTP/1.1 exchange after another on one connection, as a client that only POSTs."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from .deliver import LARGE, broken
from .reading import MOST_OVERHEAD, Reader, Received

OnReceived = Callable[[Received], None]
OnLarge = Callable[[int], bool]


class Owner(Protocol):
    """What a connection needs of the pool that it belongs to."""

    max_bytes: int
    # What is read at once: of an answer, until it turns out to be large; and then.
    piece: memoryview
    large_piece: memoryview

    def keep(self, connection: "Connection") -> None:
        """It can be used again."""

    def forget(self, connection: "Connection") -> None:
        """It is closed."""


class Connection(asyncio.BufferedProtocol):
    """One connection, with at most one call on it.

    It reads into the owner's memory: an event loop reads much more at once, for each connection.
    """

    on_large: OnLarge  # of the call: whether there is room for so many bytes, or `go_on` tells
    is_held = False  # it waits for that
    _transport: asyncio.Transport  # from connection_made on, which comes first
    _reader: Reader  # of the call's answer, from send on

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._on_received: OnReceived | None = None
        self._early: bytes | None = b""  # came before the first call; None from then on
        self._is_sent = True
        self._has_asked = False
        self._on_sent: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def is_usable(self) -> bool:
        return not self._transport.is_closing()

    def send(self, request: bytes, on_received: OnReceived) -> None:
        """POST; `on_received` is called once, unless the connection is aborted first."""
        self._on_received = on_received
        self._has_asked = False
        self._reader = Reader(self._owner.max_bytes)
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
        """The same, without a copy; `on_sent` is called when the body is held no longer."""
        self._on_sent = on_sent
        self._transport.set_write_buffer_limits(0)  # as long as any of it waits, all of it is held
        self.send(head, on_received)
        if self._is_sent:
            self._transport.write(body)
        if not self._transport.get_write_buffer_size():
            self.resume_writing()

    def abort(self) -> None:
        """Close at once. A call that is on it gets no answer any more."""
        self._on_received = None
        self._transport.abort()

    def give_up(self, why: str) -> Received:
        """Close at once; what has come of the answer until now."""
        self.abort()
        return self._reader.end(why)

    def go_on(self) -> None:
        """There is room for the answer now."""
        self.is_held = False
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

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.forget(self)
        if self._on_received is not None:
            self._finish(self._reader.end(broken(error) if error else ""))

    def _ask(self) -> None:
        self._has_asked = True
        if not self.on_large(self._reader.most):
            self.is_held = True
            self._transport.pause_reading()

    def _finish(self, received: Received) -> None:
        on_received, self._on_received = self._on_received, None
        # Of a call that was answered before it was read whole, the rest would come first.
        is_sent = self._is_sent and not self._transport.get_write_buffer_size()
        if is_sent and self._reader.is_reusable:
            self._owner.keep(self)
        else:
            self.abort()
        if on_received is not None:
            on_received(received)

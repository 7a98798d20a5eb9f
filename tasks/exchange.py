"""One HTTP/1.1 exchange after another on one connection, as a client that only POSTs."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from .deliver import LARGE, broken
from .reading import MOST_OVERHEAD, Reader, Received

OnReceived = Callable[[Received], None]


class Owner(Protocol):
    """What a connection needs of the pool that it belongs to."""

    max_bytes: int

    def keep(self, connection: "Connection") -> None:
        """It can be used again."""

    def forget(self, connection: "Connection") -> None:
        """It is closed."""


class Connection(asyncio.Protocol):
    """One connection, with at most one call on it."""

    _transport: asyncio.Transport  # from connection_made on, which comes first
    _reader: Reader  # of the call's answer, from send on

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._on_received: OnReceived | None = None
        self._early: bytes | None = b""  # came before the first call; None from then on
        self._is_sent = True
        self._on_sent: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(LARGE)

    def is_usable(self) -> bool:
        return not self._transport.is_closing()

    def send(self, request: bytes, on_received: OnReceived) -> None:
        """POST; `on_received` is called once, unless the connection is aborted first."""
        self._on_received = on_received
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
            self.data_received(early)
        if self._transport.is_closing() and self._on_received is not None:
            self._finish(self._reader.end())

    def send_large(
        self, head: bytes, body: bytes, on_received: OnReceived, on_sent: Callable[[], None]
    ) -> None:
        """The same, without a copy; `on_sent` is called when the body is held no longer."""
        self._on_sent = on_sent
        self.send(head, on_received)
        if self._is_sent:
            self._transport.write(body)
        if self._transport.get_write_buffer_size() <= LARGE:
            self.resume_writing()

    def abort(self) -> None:
        """Close at once. A call that is on it gets no answer any more."""
        self._on_received = None
        self._transport.abort()

    def give_up(self, why: str) -> Received:
        """Close at once; what has come of the answer until now."""
        self.abort()
        return self._reader.end(why)

    # What the event loop tells

    def resume_writing(self) -> None:
        on_sent, self._on_sent = self._on_sent, None
        if on_sent is not None:
            on_sent()

    def data_received(self, data: bytes) -> None:
        if self._on_received is not None:
            if received := self._reader.feed(data):
                self._finish(received)
        elif self._early is not None and len(self._early) < MOST_OVERHEAD:
            self._early += data  # a full server may refuse whoever connects
        else:
            self.abort()  # nobody asked

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.forget(self)
        if self._on_received is not None:
            self._finish(self._reader.end(broken(error) if error else ""))

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

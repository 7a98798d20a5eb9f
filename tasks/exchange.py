"""One HTTP/1.1 exchange after another on one connection (RFC 9112), as a client that only POSTs.

httptools takes the answers apart; here is what it leaves to its user: where an answer ends, what
it may hold, and when the connection can be used again.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import httptools

from .deliver import BROKEN, CLOSED, NOT_HTTP, broken, refused_encoding

_MOST_HEADERS = 100
_MOST_OVERHEAD = 65_536  # bytes without a byte of the body: headers, trailers, chunk extensions


@dataclass(frozen=True, slots=True)
class Received:
    """A complete HTTP answer."""

    status: int
    body: bytes
    headers: Sequence[tuple[str, str]]

    def header(self, name: str) -> str | None:
        """The value of the first header of this name, which is in small letters."""
        return next((value for known, value in self.headers if known == name), None)


@dataclass(frozen=True, slots=True)
class Broken:
    """Why there is none, in a sentence."""

    why: str


OnReceived = Callable[[Received | Broken], None]


class Owner(Protocol):
    """What a connection needs of the pool that it belongs to."""

    max_bytes: int
    too_large: str

    def keep(self, connection: "Connection") -> None:
        """It can be used again."""

    def forget(self, connection: "Connection") -> None:
        """It is closed."""


class Connection(asyncio.Protocol):
    """One connection, with at most one call on it."""

    _transport: asyncio.Transport  # from connection_made on, which comes first
    # Of the answer that is being read.
    _status: int
    _headers: list[tuple[str, str]]  # names in small letters
    _body: bytearray
    _error: str
    _has_headers: bool
    _is_framed: bool  # it says itself where it ends
    _is_complete: bool
    _is_reusable: bool

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._on_received: OnReceived | None = None
        self._forget_answer()
        self._overhead = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def is_usable(self) -> bool:
        return not self._transport.is_closing()

    def send(self, request: bytes, on_received: OnReceived) -> None:
        """POST; `on_received` is called once, unless the connection is aborted first."""
        self._on_received = on_received
        self._forget_answer()
        self._overhead = 0
        self._transport.write(request)

    def abort(self) -> None:
        """Close at once. A call that is on it gets no answer any more."""
        self._on_received = None
        self._transport.abort()

    # What the event loop tells

    def data_received(self, data: bytes) -> None:
        if self._on_received is None:
            self.abort()  # nobody asked
            return
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_complete, self._is_reusable = True, False
        except httptools.HttpParserError:
            if not self._is_complete:
                self._error = self._error or self._not_http()
            self._is_reusable = False
        if self._overhead > _MOST_OVERHEAD and not self._is_complete:
            self._error = self._error or self._not_http()
        if self._error:
            self._finish(Broken(self._error), is_reusable=False)
        elif self._is_complete:
            self._finish_complete()

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.forget(self)
        if self._on_received is None:
            return
        if error is not None:
            self._finish(Broken(broken(error)), is_reusable=False)
        elif self._has_headers and not self._is_framed:
            self._finish(self._answer(), is_reusable=False)  # its end is that of the connection
        else:
            is_begun = self._has_headers or self._overhead
            self._finish(Broken(BROKEN if is_begun else CLOSED), is_reusable=False)

    # What the parser tells

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._is_reusable = False  # more than was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) == _MOST_HEADERS:
            self._error = self._error or NOT_HTTP
            return
        known, told = name.lower().decode("latin-1"), value.decode("latin-1")
        self._headers.append((known, told))
        if known in ("content-length", "transfer-encoding"):
            self._is_framed = True
        elif known == "content-encoding":
            self._error = self._error or refused_encoding(told) or ""

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._has_headers = self._status >= 200 or self._status == 101

    def on_body(self, part: bytes) -> None:
        self._overhead = 0
        if self._is_complete:
            return
        self._body += part
        if len(self._body) > self._owner.max_bytes:
            self._error = self._error or self._owner.too_large
            self._body.clear()

    def on_message_complete(self) -> None:
        if self._is_complete:
            return
        if self._has_headers:
            self._is_complete = True
            self._is_reusable = self._parser.should_keep_alive()
        else:
            self._forget_answer()  # informational: the answer is yet to come

    # The end of a call

    def _forget_answer(self) -> None:
        self._status = 0
        self._headers = []
        self._body = bytearray()
        self._error = ""
        self._has_headers = False
        self._is_framed = False
        self._is_complete = False
        self._is_reusable = False

    def _not_http(self) -> str:
        return BROKEN if self._has_headers else NOT_HTTP

    def _answer(self) -> Received:
        return Received(self._status, bytes(self._body), self._headers)

    def _finish_complete(self) -> None:
        # Of a call that was answered before it was read whole, the rest would come first.
        is_sent = not self._transport.get_write_buffer_size()
        self._finish(self._answer(), is_reusable=self._is_reusable and is_sent)

    def _finish(self, what: Received | Broken, *, is_reusable: bool) -> None:
        on_received, self._on_received = self._on_received, None
        self._body = bytearray()
        if is_reusable:
            self._owner.keep(self)
        else:
            self.abort()
        if on_received is not None:
            on_received(what)

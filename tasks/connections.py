"""Connections to the workers' host: opened to allowed addresses only, kept, and read from.

HTTP/1.1 (RFC 9112) as a client that POSTs one request at a time on a connection. httptools takes
the answers apart; here is what it leaves to its user: where an answer ends, what it may hold,
and when a connection can be used again.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httptools

from .deliver import BROKEN, CLOSED, NOT_HTTP, CallRules, broken, refused_encoding
from .destinations import resolve

# Shorter than what common servers keep idle connections for: a POST that meets a connection
# the worker is just closing fails, and must not be repeated.
_KEEPALIVE_SECONDS = 15
_DNS_SECONDS = 10
_MOST_HEADERS = 100
_MOST_OVERHEAD = 65_536  # bytes without a byte of the body: headers, trailers, chunk extensions
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Received:
    """A complete HTTP answer."""

    status: int
    body: bytes
    retry_after: str | None


@dataclass(frozen=True, slots=True)
class Broken:
    """Why there is none, in a sentence."""

    why: str


OnReceived = Callable[[Received | Broken], None]


class Pool:
    """The connections to one base URL: one for each call in flight, and those that are idle."""

    def __init__(
        self, rules: CallRules, tls: ssl.SSLContext, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.max_bytes = rules.max_bytes
        self.too_large = rules.too_large()
        self._timeout = rules.timeout
        self._destinations = rules.destinations
        self._tls = tls
        self._loop = loop
        self._base = rules.base
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[Any]] = set()
        self._idle: dict[Connection, float] = {}  # since when; the latest last
        self._sweeping: asyncio.TimerHandle | None = None
        self._found: list[Any] = []
        self._found_until = 0.0
        self._finding = asyncio.Lock()
        self._all_closed = asyncio.Event()

    @staticmethod
    def request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """The bytes of a POST."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{_start(url)}{lines}Content-Length: {len(body)}\r\n\r\n"
        return head.encode("latin-1") + body

    def idle(self) -> "Connection | None":
        """The idle connection that was used last, so that what is not needed grows old."""
        while self._idle:
            connection, since = self._idle.popitem()
            if time.monotonic() - since < _KEEPALIVE_SECONDS and connection.is_usable():
                return connection
            connection.abort()
        return None

    async def open(self) -> "Connection":
        """OSError or DestinationError when the host cannot be reached, or must not be."""
        task = asyncio.current_task()
        if task is not None:
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        failure = OSError("the host has no address")
        for family, kind, protocol, _, address in await self._addresses():
            try:
                return await self._connect(family, kind, protocol, address)
            except OSError as error:
                failure = error
        raise failure

    async def close(self, seconds: float) -> None:
        """End all connections, unsent bytes and all; wait so long at most for them to be gone."""
        while self._opening:
            await asyncio.wait(self._opening)
        for connection in list(self._open):
            connection.abort()
        if self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), seconds)
        if self._sweeping is not None:
            self._sweeping.cancel()

    def keep(self, connection: "Connection") -> None:
        self._idle[connection] = time.monotonic()
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_KEEPALIVE_SECONDS, self._sweep)

    def forget(self, connection: "Connection") -> None:
        self._idle.pop(connection, None)
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()

    def _sweep(self) -> None:
        """Close what was idle for long."""
        self._sweeping = None
        oldest = time.monotonic() - _KEEPALIVE_SECONDS
        for connection in [one for one, since in self._idle.items() if since <= oldest]:
            del self._idle[connection]
            connection.abort()
        if self._idle:
            self._sweeping = self._loop.call_later(_KEEPALIVE_SECONDS, self._sweep)

    async def _addresses(self) -> list[Any]:
        """Those of the host, every one checked; asked for anew after some seconds."""
        async with self._finding:
            if time.monotonic() >= self._found_until:
                self._found = await self._loop.run_in_executor(
                    None, resolve, self._destinations, *_host_and_port(self._base)
                )
                self._found_until = time.monotonic() + _DNS_SECONDS
        return self._found

    async def _connect(self, family: int, kind: int, protocol: int, address: Any) -> "Connection":
        is_tls = self._base.startswith("https:")
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, address)
            _, connection = await self._loop.create_connection(
                lambda: Connection(self),
                sock=sock,
                ssl=self._tls if is_tls else None,
                server_hostname=_host_and_port(self._base)[0] if is_tls else None,
                ssl_handshake_timeout=self._timeout if is_tls else None,
            )
        except BaseException:
            sock.close()
            raise
        self._open.add(connection)
        return connection


class Connection(asyncio.Protocol):
    """One connection, with at most one call on it."""

    _transport: asyncio.Transport  # from connection_made on, which comes first
    # Of the answer that is being read.
    _status: int
    _headers: int
    _body: bytearray
    _retry_after: str | None
    _error: str
    _has_headers: bool
    _is_framed: bool  # it says itself where it ends
    _is_complete: bool
    _is_reusable: bool

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
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
        self._pool.forget(self)
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
        self._headers += 1
        if self._headers > _MOST_HEADERS:
            self._error = self._error or NOT_HTTP
        known = name.lower()
        if known == b"retry-after":
            if self._retry_after is None:
                self._retry_after = value.decode("latin-1")
        elif known in (b"content-length", b"transfer-encoding"):
            self._is_framed = True
        elif known == b"content-encoding":
            self._error = self._error or refused_encoding(value.decode("latin-1")) or ""

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._has_headers = self._status >= 200 or self._status == 101

    def on_body(self, part: bytes) -> None:
        self._overhead = 0
        if self._is_complete:
            return
        self._body += part
        if len(self._body) > self._pool.max_bytes:
            self._error = self._error or self._pool.too_large
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
        self._headers = 0
        self._body = bytearray()
        self._retry_after = None
        self._error = ""
        self._has_headers = False
        self._is_framed = False
        self._is_complete = False
        self._is_reusable = False

    def _not_http(self) -> str:
        return BROKEN if self._has_headers else NOT_HTTP

    def _answer(self) -> Received:
        return Received(self._status, bytes(self._body), self._retry_after)

    def _finish_complete(self) -> None:
        # Of a call that was answered before it was read whole, the rest would come first.
        is_sent = not self._transport.get_write_buffer_size()
        self._finish(self._answer(), is_reusable=self._is_reusable and is_sent)

    def _finish(self, what: Received | Broken, *, is_reusable: bool) -> None:
        on_received, self._on_received = self._on_received, None
        self._body = bytearray()
        if is_reusable:
            self._pool.keep(self)
        else:
            self.abort()
        if on_received is not None:
            on_received(what)


@lru_cache(maxsize=4096)
def _start(url: str) -> str:
    """The request line, and the header Host without a port that goes without saying."""
    parts = urlsplit(url)
    host = parts.netloc
    default = _DEFAULT_PORTS[parts.scheme]
    return f"POST {parts.path} HTTP/1.1\r\nHost: {host.removesuffix(f':{default}')}\r\n"


@lru_cache(maxsize=8)
def _host_and_port(base: str) -> tuple[str, int]:
    parts = urlsplit(base)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]

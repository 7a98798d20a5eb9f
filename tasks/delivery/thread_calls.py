"""A call of the deliverer on threads, and the connections that let it be ended from outside.

They open to allowed addresses only; each tells its call which socket to shut when its time is up.
Answers are read by `reading`: http.client takes an interim one for the answer.
"""

import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter

from ..rules.answer_reader import UNREAD, Reader, Received
from ..rules.decide import CANCELLED, Answer
from ..rules.keep_alive import Idle
from . import unread
from .calls import LARGE, CallRules, Delivery, OnSent, broken, no_answer
from .destinations import connect
from .reach import HANDSHAKE, Order, Spare

_PIECE, _LARGE_PIECE = 16 * 1024, 64 * 1024  # bytes read at once


@dataclass(frozen=True, slots=True)
class Host:
    """What all threads know of the workers' host."""

    idle: Idle = field(default_factory=Idle)
    order: Order = field(default_factory=Order)
    spare: Spare = field(default_factory=Spare)


class ThreadCall:
    """One call in flight. Its thread and the watchdog race to `finish` it."""

    def __init__(
        self,
        delivery: Delivery,
        rules: CallRules,
        host: Host,
        wait_for_room: "Callable[[ThreadCall], None]" = lambda call: None,
    ) -> None:
        self.delivery = delivery
        self.rules = rules
        self.host = host
        self.started = time.monotonic()
        self.deadline = self.started + rules.timeout
        self.url = ""
        self.headers: dict[str, str] = {}
        self.is_connected = False
        self.reader = Reader(rules.max_bytes)
        self.received: Received | None = None
        self.early: bytes | None = None  # came before all was sent
        self.awaits_room = False  # it waits for room for its answer, until `go_on`
        self.awaited_room = False
        self.go_on = threading.Event()
        self._wait_for_room = wait_for_room
        self._has_asked = False
        self.bytes_before = self.bytes_sent = 0  # on its connection before it, and of it
        self.idled = 0.0  # seconds that the connection was idle before
        self._sent: str | None = None
        self._lock = threading.Lock()
        self._is_done = False
        self._socket: socket.socket | None = None

    def seconds_left(self) -> float:
        # Zero would make a socket non-blocking.
        return max(self.deadline - time.monotonic(), 0.01)

    def sent(self) -> str | None:
        """What is kept of its request, once there is a connection for it."""
        if not self.is_connected or self._sent is not None:
            return self._sent
        return self.rules.sent(self.url, self.headers, self.delivery.body)

    def let_go(self) -> None:
        """Hold the body no longer."""
        self._sent = self.sent()
        self.delivery = replace(self.delivery, body=b"")

    def no_answer(self, error: str) -> Answer:
        return no_answer(error, self.started, self.sent(), may_run=self.is_connected)

    def answer(self, received: Received) -> Answer:
        return self.rules.answer(received, self.started, self.sent())

    def overdue(self) -> Answer:
        """Of one that is given up. A status that has come counts, though its body has not."""
        if not self.is_connected:
            return self.no_answer(self.rules.unconnected(self.url))
        why = self.rules.timed_out()
        if not self.reader.has_head:
            return self.no_answer(why)
        return replace(self.answer(self.reader.end(why)), may_run=True)

    def take(self, data: bytes) -> Received | None:
        """What was read on its connection. May wait for room."""
        received = self.reader.feed(data)
        if received is None and self.reader.has > LARGE and not self._has_asked:
            self._has_asked = True
            self._wait_for_room(self)
        return received

    def piece(self) -> int:
        """The bytes to read at once."""
        return _LARGE_PIECE if self._has_asked else _PIECE

    def ended(self, why: str = "") -> Received:
        """The connection has, by this error or as it may. Nothing on one that was kept says less:
        the worker may have closed it before the call came.
        """
        was_kept = self.bytes_before > 0 and self.reader.is_untouched
        received = self.reader.end(why)
        if was_kept:
            self.host.idle.closed_after(self.idled)
        return replace(received, was_kept=was_kept)

    def use(self, sock: socket.socket) -> None:
        with self._lock:
            if self._is_done:
                raise ConnectionAbortedError(CANCELLED)
            self._socket = sock

    def finish(self, *, shut: bool = False) -> bool:
        """True for the first one who asks: only they may give the answer."""
        with self._lock:
            first, self._is_done = not self._is_done, True
            self.go_on.set()
            if first and shut and self._socket is not None:
                with suppress(OSError):  # it is closed already
                    # Not SSLSocket's own shutdown, after which a write would go out in the clear.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            return first


class LargeBody:
    """As `requests` takes a body that it is to read by pieces. Let go when it is sent."""

    _PIECE = 256 * 1024

    def __init__(self, call: ThreadCall, on_sent: OnSent) -> None:
        self._call = call
        self._on_sent = on_sent
        self._at = 0

    def __len__(self) -> int:
        return len(self._call.delivery.body)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def read(self, _size: int = -1) -> bytes:
        piece = self._call.delivery.body[self._at : self._at + self._PIECE]
        self._at += len(piece)
        if not piece:
            self._call.let_go()
            self._on_sent(self._call.delivery)
        return piece


# The call that a thread is making, for the connection that urllib3 opens in the middle of it.
current = threading.local()


class WatchedTLSSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        # It took the plain socket over, so that shutting that one ends nothing any more.
        current.call.use(self)
        super().do_handshake(block)


class _Response(http.client.HTTPResponse):
    """An answer as `reading` reads it, in the shape that http.client and urllib3 look for."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()  # it would keep the socket open
        self.fp = io.BufferedReader(io.BytesIO())
        self._sock = sock

    def begin(self) -> None:
        call: ThreadCall = current.call
        call.received = received = self._read(call)
        if received.status is None:
            raise NoAnswerError(received.error)
        self.code = self.status = received.status
        self.reason, self.version, self.headers = "", 11, http.client.HTTPMessage()
        self.msg = self.headers
        self.length = 0  # the call has what was received
        self.chunked = False
        self.will_close = call.early is not None or not call.reader.is_reusable

    def _read(self, call: ThreadCall) -> Received:
        received = call.take(call.early) if call.early else None
        while received is None:
            try:
                data = self._sock.recv(call.piece())
            except TimeoutError:
                return call.reader.end(call.rules.timed_out())
            except OSError as error:
                return call.ended(broken(error))
            received = call.take(data) if data else self._ended(call)
        return received

    def _ended(self, call: ThreadCall) -> Received:
        was_kept = call.bytes_before > 0 and call.reader.is_untouched
        is_plain = not isinstance(self._sock, ssl.SSLSocket)
        is_unread = was_kept and (not call.bytes_sent or (is_plain and self._was_refused(call)))
        return call.ended(UNREAD if is_unread else "")

    def _was_refused(self, call: ThreadCall) -> bool:
        until, wait = time.monotonic() + unread.WITHIN, unread.FIRST_LOOK
        while (refused := unread.was_refused(self._sock, call.bytes_before)) is None:
            if time.monotonic() > until:
                return False
            time.sleep(wait)
            wait = min(2 * wait, unread.LAST_LOOK)
        return refused


class NoAnswerError(http.client.HTTPException):
    """Why there is none, in a sentence."""


class _CheckedConnection(urllib3.connection.HTTPConnection):
    response_class = _Response
    idle_since: float | None = None
    _bytes = 0  # sent on it

    def _new_conn(self) -> socket.socket:
        call: ThreadCall = current.call
        sock = connect(
            call.rules.destinations,
            self._dns_host,
            self.port,
            call.seconds_left(),
            call.use,
            order=call.host.order,
            spare=call.host.spare,
        )
        sock.settimeout(min(call.seconds_left(), HANDSHAKE))
        return sock

    def connect(self) -> None:
        try:
            super().connect()
        except OSError:
            current.call.host.order.lost()
            raise
        self._bytes = 0
        self.sock.settimeout(current.call.seconds_left())
        _record_connected(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            current.call.bytes_before = self._bytes
            _record_connected(self.sock)
        super().request(*args, **kwargs)

    def end_if_idle(self) -> None:
        """Before it is used again: it was idle for too long, or the host has closed it."""
        call: ThreadCall = current.call
        if self.idle_since is None:
            return
        call.idled = time.monotonic() - self.idle_since
        self.idle_since = None
        if self.sock is None:
            call.host.idle.closed_after(call.idled)
        elif call.idled >= call.host.idle.seconds():
            self.close()

    def send(self, data: Any) -> None:
        """Until the worker answers: one that does so early may never read the rest."""
        if self.sock is None:
            self.connect()
        call: ThreadCall = current.call
        left = memoryview(data)
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN | select.POLLOUT)
        while left and call.early is None:
            events = waiting.poll(call.seconds_left() * 1000)
            if not events:
                raise TimeoutError
            if events[0][1] & ~select.POLLOUT:
                call.early = _what_came(self.sock)
            elif events[0][1] & select.POLLOUT:
                count = self.sock.send(left)
                call.bytes_sent += count
                self._bytes += count
                left = left[count:]


class _CheckedTLSConnection(_CheckedConnection, urllib3.connection.HTTPSConnection):
    pass


def _what_came(sock: socket.socket) -> bytes | None:
    """What can be read at once, b"" at the end; None when that is nothing of HTTP's."""
    patience = sock.gettimeout()
    sock.settimeout(0)
    try:
        return sock.recv(_PIECE)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None  # TLS sent something of its own
    finally:
        sock.settimeout(patience)


def _record_connected(sock: socket.socket) -> None:
    current.call.use(sock)
    current.call.is_connected = True


class _CheckedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _CheckedConnection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        connection.end_if_idle()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None and conn.sock is not None:
            call: ThreadCall = current.call
            call.host.idle.heard(call.reader.keep_alive)
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _CheckedTLSPool(_CheckedPool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _CheckedTLSConnection


class Adapter(HTTPAdapter):
    """Used without a Session, which would read the whole body of a redirect that it does not
    follow, keep cookies, and look for proxies and passwords in the environment.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        pools = {"http": _CheckedPool, "https": _CheckedTLSPool}
        self.poolmanager.pool_classes_by_scheme = pools

    def get_connection_with_tls_context(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.poolmanager.connection_from_url(request.url)

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to add: the TLS context verifies, and by the system's authorities."""

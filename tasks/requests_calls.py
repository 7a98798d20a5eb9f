"""A call of the deliverer on threads, and the connections that let it be ended from outside.

They open to allowed addresses only; each tells its call which socket to shut when its time is up.
"""

import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter

from .decide import Answer
from .deliver import CANCELLED, CallRules, Delivery, no_answer
from .destinations import connect


class Call:
    """One call in flight. Its thread and the watchdog race to `finish` it."""

    def __init__(self, delivery: Delivery, rules: CallRules) -> None:
        self.delivery = delivery
        self.rules = rules
        self.started = time.monotonic()
        self.deadline = self.started + rules.timeout
        self.reason = rules.timed_out()
        self.url = ""
        self.headers: dict[str, str] = {}
        self.is_connected = False
        self._lock = threading.Lock()
        self._is_done = False
        self._socket: socket.socket | None = None

    def seconds_left(self) -> float:
        # Zero would make a socket non-blocking.
        return max(self.deadline - time.monotonic(), 0.01)

    def sent(self) -> str | None:
        """What is kept of its request, once there is a connection for it."""
        if not self.is_connected:
            return None
        return self.rules.sent(self.url, self.headers, self.delivery.body)

    def no_answer(self, error: str) -> Answer:
        return no_answer(error, self.started, self.sent())

    def use(self, sock: socket.socket) -> None:
        with self._lock:
            if self._is_done:
                raise ConnectionAbortedError(CANCELLED)
            self._socket = sock

    def finish(self, *, shut: bool = False) -> bool:
        """True for the first one who asks: only they may give the answer."""
        with self._lock:
            first, self._is_done = not self._is_done, True
            if first and shut and self._socket is not None:
                with suppress(OSError):  # it is closed already
                    # Not SSLSocket's own shutdown, after which a write would go out in the clear.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            return first


# The call that a thread is making, for the connection that urllib3 opens in the middle of it.
current = threading.local()


class WatchedTLSSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        # It took the plain socket over, so that shutting that one ends nothing any more.
        current.call.use(self)
        super().do_handshake(block)


class _CheckedConnection(urllib3.connection.HTTPConnection):
    def _new_conn(self) -> socket.socket:
        call: Call = current.call
        return connect(
            call.rules.destinations, self._dns_host, self.port, call.seconds_left(), call.use
        )

    def connect(self) -> None:
        super().connect()
        _note_connected(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _note_connected(self.sock)
        super().request(*args, **kwargs)


class _CheckedTLSConnection(_CheckedConnection, urllib3.connection.HTTPSConnection):
    pass


def _note_connected(sock: socket.socket) -> None:
    current.call.use(sock)
    current.call.is_connected = True


class _CheckedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _CheckedConnection


class _CheckedTLSPool(urllib3.HTTPSConnectionPool):
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

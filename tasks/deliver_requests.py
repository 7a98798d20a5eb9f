"""The deliverer on threads, by `requests`: for few calls in flight, and to compare with."""

import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from .decide import Answer
from .deliver import (
    BROKEN,
    CANCELLED,
    CLOSED,
    NOT_HTTP,
    CallRules,
    Delivery,
    OnAnswer,
    broken,
    complete,
    no_answer,
    no_connection,
    refused_encoding,
    tls_context,
)
from .destinations import DestinationError, connect
from .names import check_base, check_within
from .transcript import Transcript

logger = logging.getLogger("tasks.deliver")

_CHUNK = 65_536


class _Call:
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
_current = threading.local()


class _WatchedTLSSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        # It took the plain socket over, so that shutting that one ends nothing any more.
        _current.call.use(self)
        super().do_handshake(block)


class _CheckedConnection(urllib3.connection.HTTPConnection):
    def _new_conn(self) -> socket.socket:
        call: _Call = _current.call
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
    _current.call.use(sock)
    _current.call.is_connected = True


class _CheckedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _CheckedConnection


class _CheckedTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _CheckedTLSConnection


class _Adapter(HTTPAdapter):
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


class RequestsDeliverer:
    """A `Deliverer`: a thread for each call in flight, and a watchdog for their deadlines."""

    def __init__(self) -> None:
        # In the order of their deadlines, because all have the same time to live.
        self._calls: dict[_Call, None] = {}
        self._changed = threading.Condition()
        self._is_stopping = True
        self._local = threading.local()
        self._adapters: list[_Adapter] = []

    def start(self, on_answer: OnAnswer) -> None:
        self._on_answer = on_answer
        self._rules = CallRules.from_conf()
        self._tls = tls_context(self._rules.ca_file)
        self._tls.sslsocket_class = _WatchedTLSSocket
        self._executor = ThreadPoolExecutor(self._rules.slots, thread_name_prefix="crew-deliver")
        self._watchdog = threading.Thread(
            target=self._watch, name="crew-deliver-watch", daemon=True
        )
        self._is_stopping = False
        self._watchdog.start()

    def send(self, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            if self._is_stopping:
                raise RuntimeError("the deliverer is not running")
            for delivery in deliveries:
                call = _Call(delivery, self._rules)
                self._calls[call] = None
                self._executor.submit(self._make, call)
            self._changed.notify()

    def cancel(self) -> None:
        with self._changed:
            for call in self._calls:
                call.deadline, call.reason = 0.0, CANCELLED
            self._changed.notify()

    def stop(self) -> None:
        if self._is_stopping:
            return
        self.cancel()
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._watchdog.join()
        self._executor.shutdown()
        for adapter in self._adapters:
            adapter.close()

    def _make(self, call: _Call) -> None:
        try:
            answer = self._answer(call)
        except Exception as error:
            # A bug must not cost the delivery its answer.
            logger.exception("Delivery of task %s failed", call.delivery.task_id)
            answer = call.no_answer(f"not delivered: {type(error).__name__}")
        self._give(call, answer)

    def _watch(self) -> None:
        """The answer of an overdue or cancelled call comes from here, however stuck its thread."""
        while call := self._next_due():
            self._give(call, call.no_answer(call.reason), shut=True)

    def _next_due(self) -> _Call | None:
        """Wait for the deadline of the oldest call; None when there will be no more calls."""
        with self._changed:
            while True:
                oldest = next(iter(self._calls), None)
                if oldest is None:
                    if self._is_stopping:
                        return None
                    self._changed.wait()
                elif (left := oldest.deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    return oldest

    def _give(self, call: _Call, answer: Answer, *, shut: bool = False) -> None:
        if not call.finish(shut=shut):
            return
        with self._changed:
            del self._calls[call]
            if not self._calls:
                self._changed.notify()
        try:
            self._on_answer(call.delivery, answer)
        except Exception:
            # Or one bad callback would end the watchdog, and with it all deadlines.
            logger.exception("The answer for task %s was not taken", call.delivery.task_id)

    def _answer(self, call: _Call) -> Answer:
        _current.call = call
        try:
            call.url = self._rules.url(call.delivery.worker)
            call.headers = self._rules.headers(call.delivery)
            return self._post(call)
        except DestinationError as error:
            return call.no_answer(no_connection(call.url, str(error)))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return call.no_answer(_reason(error, call))
        except ValueError as error:
            return call.no_answer(str(error))

    def _post(self, call: _Call) -> Answer:
        prepared = requests.PreparedRequest()
        prepared.prepare("POST", call.url, call.headers, data=call.delivery.body)
        check_within(prepared.url or "", check_base(self._rules.base))
        response = self._adapter().send(prepared, stream=True, timeout=call.seconds_left())
        with response:
            raw = response.raw
            error = refused_encoding(raw.headers.get("Content-Encoding"))
            body = bytearray()
            while not error and (part := raw.read(_CHUNK, decode_content=False)):
                body += part
                if len(body) > self._rules.max_bytes:
                    error = self._rules.too_large()
            if error:
                return call.no_answer(error)
        headers = [(name.lower(), value) for name, value in raw.headers.items()]
        came = self._rules.came(response.status_code, headers, bytes(body))
        retry_after = raw.headers.get("Retry-After")
        transcript = Transcript(call.sent(), came)
        return complete(response.status_code, bytes(body), retry_after, call.started, transcript)

    def _adapter(self) -> _Adapter:
        adapter: _Adapter | None = getattr(self._local, "adapter", None)
        if adapter is None:
            adapter = self._local.adapter = _Adapter(self._tls)
            self._adapters.append(adapter)
        return adapter


def _reason(error: Exception, call: _Call) -> str:
    root = _root(error)
    if isinstance(root, TimeoutError):
        return call.rules.timed_out()
    if not call.is_connected:
        return no_connection(call.url, root)
    match root:
        case http.client.RemoteDisconnected():
            return CLOSED
        case http.client.IncompleteRead() | urllib3.exceptions.IncompleteRead():
            return BROKEN
        case http.client.HTTPException():
            return NOT_HTTP
        case OSError():
            return broken(root)
    return f"not delivered: {type(root).__name__}"


def _root(error: BaseException) -> BaseException:
    """The innermost error of the network or of HTTP; requests and urllib3 wrap it several times."""
    root, inner = error, error.__cause__ or error.__context__
    while inner:
        if isinstance(inner, (OSError, http.client.HTTPException)):
            root = inner
        inner = inner.__cause__ or inner.__context__
    return root

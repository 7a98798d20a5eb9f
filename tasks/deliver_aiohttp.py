"""The deliverer for thousands of calls in flight: aiohttp, on an event loop in its own thread."""

import asyncio
import contextlib
import functools
import io
import logging
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvloop
from yarl import URL

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
from .destinations import CheckedResolver, CheckedSocket, DestinationError
from .names import check_base, check_within

logger = logging.getLogger("tasks.deliver")

# Shorter than what common servers keep idle connections for: a POST that meets a connection
# the worker is just closing fails, and must not be repeated.
_KEEPALIVE_SECONDS = 15
_DNS_SECONDS = 10
_PIECE = 65_536
_CLOSES_WITHIN = 1.0
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=None)


@dataclass(slots=True)
class _Call:
    delivery: Delivery
    started: float
    # Why it was cancelled; "" while it was not.
    reason: str = ""


class AiohttpDeliverer:
    """A `Deliverer`. POST is never repeated: aiohttp retries idempotent methods only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: _Calls | None = None
        self._thread: threading.Thread | None = None

    def start(self, on_answer: OnAnswer) -> None:
        rules = CallRules.from_conf()
        tls = tls_context(rules.ca_file)
        loop = uvloop.new_event_loop()
        calls = _Calls(rules, tls, on_answer, loop)
        opened = threading.Event()
        run = functools.partial(_run, loop, calls, opened)
        self._thread = threading.Thread(target=run, name="crew-deliver", daemon=True)
        self._thread.start()
        opened.wait()
        with self._lock:
            self._loop, self._calls = loop, calls

    def send(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            if self._loop is None or self._calls is None:
                raise RuntimeError("the deliverer is not running")
            # One wake-up of the loop for the whole batch: it costs more than a call's bookkeeping.
            self._loop.call_soon_threadsafe(self._calls.begin, tuple(deliveries))

    def cancel(self) -> None:
        with self._lock:
            if self._loop is not None and self._calls is not None:
                self._loop.call_soon_threadsafe(self._calls.cancel)

    def stop(self) -> None:
        with self._lock:
            if self._loop is not None and self._calls is not None:
                self._loop.call_soon_threadsafe(self._calls.stopping.set)
            self._loop = self._calls = None
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _run(loop: asyncio.AbstractEventLoop, calls: "_Calls", opened: threading.Event) -> None:
    loop.run_until_complete(calls.serve(opened))
    loop.close()


class _Calls:
    """The calls in flight; everything here runs on the loop."""

    def __init__(
        self,
        rules: CallRules,
        tls: ssl.SSLContext,
        on_answer: OnAnswer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._rules = rules
        self._tls = tls
        self._on_answer = on_answer
        self._loop = loop
        # In the order of their deadlines, because all have the same time to live.
        self._running: dict[asyncio.Task[Answer], _Call] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self.stopping = asyncio.Event()
        self._checked = CheckedSocket(rules.destinations, rules.destinations.base_host)
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def serve(self, opened: threading.Event) -> None:
        self._session = self._open_session()
        opened.set()
        await self.stopping.wait()
        self.cancel()
        if self._running:
            await asyncio.wait(self._running)
        # A connection with bytes unsent closes only when its peer has read them, perhaps never.
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._session.close(), _CLOSES_WITHIN)

    def _make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        sock = self._checked(info)
        self._sockets.add(sock)
        return sock

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        now = time.monotonic()
        for delivery in deliveries:
            call = _Call(delivery, now)
            task = self._loop.create_task(self._call(delivery))
            self._running[task] = call
            # Not the end of `_call`: a task cancelled before its first step never runs at all.
            task.add_done_callback(self._answered)
        if self._alarm is None:
            self._set_alarm()

    def cancel(self) -> None:
        for task, call in self._running.items():
            call.reason = call.reason or CANCELLED
            task.cancel()

    def _answered(self, task: asyncio.Task[Answer]) -> None:
        call = self._running.pop(task)
        if task.cancelled():
            answer = no_answer(call.reason or CANCELLED, call.started)
        elif error := task.exception():
            logger.error("Delivery of task %s failed", call.delivery.task_id, exc_info=error)
            answer = no_answer(f"not delivered: {type(error).__name__}", call.started)
        else:
            answer = task.result()
        self._on_answer(call.delivery, answer)

    def _set_alarm(self) -> None:
        """One timer for all: at the deadline of the oldest call that is not cancelled yet."""
        self._alarm = None
        oldest = next((call for call in self._running.values() if not call.reason), None)
        if oldest is not None:
            left = oldest.started + self._rules.timeout - time.monotonic()
            self._alarm = self._loop.call_later(max(left, 0.0), self._expire)

    def _expire(self) -> None:
        latest = time.monotonic() - self._rules.timeout
        for task, call in self._running.items():
            if call.started > latest:
                break
            if not call.reason:
                call.reason = self._rules.timed_out()
                task.cancel()
        self._set_alarm()

    def _open_session(self) -> aiohttp.ClientSession:
        rules = self._rules
        connector = aiohttp.TCPConnector(
            limit=0,  # the scheduler's slots are the limit
            keepalive_timeout=_KEEPALIVE_SECONDS,
            ttl_dns_cache=_DNS_SECONDS,
            resolver=CheckedResolver(rules.destinations),
            socket_factory=self._make_socket,
            ssl=self._tls,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            trust_env=False,
            auto_decompress=False,
        )

    async def _call(self, delivery: Delivery) -> Answer:
        started = time.monotonic()
        url = ""
        try:
            url = self._rules.url(delivery.worker)
            answer = await self._post(_prepared(self._rules.base, url), delivery, started)
        except (aiohttp.ClientError, OSError) as error:
            return no_answer(_reason(error, url), started)
        except DestinationError as error:
            return no_answer(no_connection(url, str(error)), started)
        except ValueError as error:
            return no_answer(str(error), started)
        return answer

    async def _post(self, url: URL, delivery: Delivery, started: float) -> Answer:
        response = await self._session.post(
            url,
            data=_sendable(delivery.body),
            headers=self._rules.headers(delivery),
            allow_redirects=False,
        )
        body = bytearray()
        try:
            error = refused_encoding(response.headers.get("Content-Encoding"))
            while not error and (part := await response.content.readany()):
                body += part
                if len(body) > self._rules.max_bytes:
                    error = self._rules.too_large()
        finally:
            # Nothing to do for an answer read to its end: its connection is back in the pool.
            response.close()
        if error:
            return no_answer(error, started)
        retry_after = response.headers.get("Retry-After")
        return complete(response.status, bytes(body), retry_after, started)


@functools.lru_cache(maxsize=4096)
def _prepared(base: str, url: str) -> URL:
    prepared = URL(url, encoded=True)
    check_within(str(prepared), check_base(base))
    return prepared


def _sendable(body: bytes) -> bytes | io.BytesIO:
    """aiohttp wants large bodies in a form that it can send piece by piece."""
    return body if len(body) <= _PIECE else io.BytesIO(body)


def _reason(error: Exception, url: str) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return no_connection(url, error.certificate_error)
        case aiohttp.ClientConnectorError():
            return no_connection(url, error.os_error)
        case aiohttp.ServerDisconnectedError():
            return CLOSED
        case aiohttp.ClientResponseError():
            return NOT_HTTP
        case aiohttp.ClientPayloadError():
            return BROKEN
        case OSError():
            return broken(error)
    return f"not delivered: {type(error).__name__}"

"""Connections to the workers' host: opened to allowed addresses only, kept while they are idle."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from ..rules.keep_alive import Idle
from .calls import CallRules
from .destinations import resolve
from .http_exchange import Connection
from .reach import AGAIN, APART, EACH, HANDSHAKE, Found, Order, Spare, timed_out

_DNS_SECONDS = 10
_PIECE, _LARGE_PIECE = 16 * 1024, 256 * 1024  # bytes
_AFTER_FAILURE = 1.0  # seconds that the addresses are believed still
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Pool:
    """The connections to one base URL: one for each call in flight, and those that are idle."""

    def __init__(
        self, rules: CallRules, tls: ssl.SSLContext, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.max_bytes = rules.max_bytes
        self.piece = memoryview(bytearray(_PIECE))
        self.large_piece = memoryview(bytearray(_LARGE_PIECE))
        self._timeout = rules.timeout
        self._destinations = rules.destinations
        self._tls = tls
        self._loop = loop
        self._base = rules.base
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[Any]] = set()
        self._idle: dict[Connection, float] = {}  # since when; the latest last
        self._sweeping: asyncio.TimerHandle | None = None
        self._kept_for = Idle()
        self._order = Order()
        self._spare = Spare()
        self._found: list[Found] = []
        self._found_until = 0.0
        self._finding = asyncio.Lock()
        self._all_closed = asyncio.Event()

    @staticmethod
    def head(url: str, headers: Mapping[str, str], length: int) -> bytes:
        """The bytes of a POST before its body."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return f"{_start(url)}{lines}Content-Length: {length}\r\n\r\n".encode("latin-1")

    def idle(self) -> Connection | None:
        """The idle connection that was used last, so that what is not needed grows old."""
        while self._idle:
            connection, since = self._idle.popitem()
            connection.idled = time.monotonic() - since
            if connection.idled < self._kept_for.seconds() and connection.is_usable():
                return connection
            connection.abort()
        return None

    async def open(self) -> Connection:
        """OSError or DestinationError when the host cannot be reached, or must not be."""
        task = asyncio.current_task()
        if task is not None:
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        found = self._order.sort(await self._addresses())
        try:
            one, sock = await self._reach(found)
        except OSError:
            # It may have moved; but an outage is no reason to ask for each call.
            self._found_until = min(self._found_until, time.monotonic() + _AFTER_FAILURE)
            raise
        self._order.reached(one)
        try:
            return await self._connected(sock)
        except OSError:
            self._order.lost()
            raise

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

    def keep(self, connection: Connection, keep_alive: str) -> None:
        self._kept_for.heard(keep_alive)
        self._idle[connection] = time.monotonic()
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._kept_for.seconds(), self._sweep)

    def doubt(self, connection: Connection) -> None:
        """Those that are idle are so for longer still. One that was just used ages from now."""
        self._kept_for.closed_after(connection.idled)
        for one in list(self._idle):
            one.abort()
        self._idle.clear()

    def forget(self, connection: Connection) -> None:
        since = self._idle.pop(connection, None)
        if since is not None:
            self._kept_for.closed_after(time.monotonic() - since)
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()

    def _sweep(self) -> None:
        """Close what was idle for long."""
        self._sweeping = None
        seconds = self._kept_for.seconds()
        oldest = time.monotonic() - seconds
        for connection in [one for one, since in self._idle.items() if since <= oldest]:
            del self._idle[connection]
            connection.abort()
        if self._idle:
            self._sweeping = self._loop.call_later(seconds, self._sweep)

    async def _addresses(self) -> list[Any]:
        """Those of the host, every one checked; asked for again after some seconds."""
        async with self._finding:
            if time.monotonic() >= self._found_until:
                self._found = await self._loop.run_in_executor(
                    None, resolve, self._destinations, *_host_and_port(self._base)
                )
                self._found_until = time.monotonic() + _DNS_SECONDS
        return self._found

    async def _reach(self, found: list[Found]) -> tuple[Found, socket.socket]:
        """The address that is reached first; the next is tried beside those that do not answer."""
        if len(found) == 1:
            return found[0], await self._try(found[0])
        running: dict[asyncio.Task[socket.socket], Found] = {}
        taken = 0
        failure: BaseException = OSError("the host has no address")
        try:
            while found or running:
                wait = None
                if found:
                    is_spare = bool(running) and self._spare.take()
                    taken += is_spare
                    wait = APART if is_spare or not running else AGAIN
                    if is_spare or not running:
                        one = found.pop(0)
                        running[self._loop.create_task(self._try(one))] = one
                done, _ = await asyncio.wait(
                    running, timeout=wait, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    if not (error := task.exception()):
                        return running.pop(task), task.result()
                    failure = error
                    del running[task]
            raise failure
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)
            for task in running:
                _close(task)
            self._spare.give_back(taken)

    async def _try(self, one: Found) -> socket.socket:
        sock = socket.socket(*one[:3])
        try:
            sock.setblocking(False)
            async with asyncio.timeout(EACH):
                await self._loop.sock_connect(sock, one[4])
        except TimeoutError:
            sock.close()
            raise timed_out() from None
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connected(self, sock: socket.socket) -> Connection:
        is_tls = self._base.startswith("https:")
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self),
                sock=sock,
                ssl=self._tls if is_tls else None,
                server_hostname=_host_and_port(self._base)[0] if is_tls else None,
                ssl_handshake_timeout=min(self._timeout, HANDSHAKE) if is_tls else None,
            )
        except ConnectionAbortedError:  # the handshake's time is over
            sock.close()
            raise timed_out() from None
        except BaseException:
            sock.close()
            raise
        self._open.add(connection)
        return connection


def _close(task: "asyncio.Task[socket.socket]") -> None:
    """One that came second."""
    if not task.cancelled() and not task.exception():
        task.result().close()


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

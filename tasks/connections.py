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

from .deliver import CallRules
from .destinations import resolve
from .exchange import Connection

# Shorter than what common servers keep idle connections for: a POST that meets a connection
# the worker is just closing fails, and must not be repeated.
_KEEPALIVE_SECONDS = 15
_DNS_SECONDS = 10
_PIECE, _LARGE_PIECE = 16 * 1024, 256 * 1024  # bytes
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
        self._found: list[Any] = []
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
            if time.monotonic() - since < _KEEPALIVE_SECONDS and connection.is_usable():
                return connection
            connection.abort()
        return None

    async def open(self) -> Connection:
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

    def keep(self, connection: Connection) -> None:
        self._idle[connection] = time.monotonic()
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_KEEPALIVE_SECONDS, self._sweep)

    def forget(self, connection: Connection) -> None:
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

    async def _connect(self, family: int, kind: int, protocol: int, address: Any) -> Connection:
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

"""A real HTTP worker on loopback that can misbehave down to the socket.

with StubWorker(answer(body=b'{"output": 1}')) as worker:
    ...  # POST to worker.url, then look at worker.requests
"""

import functools
import json
import math
import select
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived. Header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(slots=True)
class Exchange:
    """One request in the hands of a behaviour. Sending raises OSError once the caller is gone."""

    request: Request
    stopping: threading.Event
    _socket: socket.socket
    keeps_alive: bool = field(default=True)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self.keeps_alive = False

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def drain(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)
        while self._socket.recv(65_536):
            pass
        self.close()

    def is_over(self) -> bool:
        """The caller has ended the connection, or the test the worker."""
        if self.stopping.is_set():
            return True
        readable, _, _ = select.select([self._socket], [], [], 0)
        try:
            return bool(readable) and not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def forever(self, pause: float = 0.0) -> Iterator[None]:
        """Until the test stops the worker or the caller hangs up."""
        while not self.stopping.wait(pause):
            yield


Behaviour = Callable[[Exchange], None]


def hung_up(exchange: Exchange, released: threading.Event, seconds: float = math.inf) -> bool:
    """Wait for either, or so long; True when the caller ended the connection first."""
    until = time.monotonic() + seconds
    while not released.is_set() and time.monotonic() < until:
        if exchange.is_over():
            return True
        released.wait(0.002)
    return False


def answer(
    status: int = 200, body: bytes = b'{"output":1}', headers: dict[str, str] | None = None
) -> Behaviour:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode()
    return lambda exchange: exchange.send(head + body)


def raw(data: bytes) -> Behaviour:
    """Exactly these bytes, then the end of the connection."""

    def behave(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.close()

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first for the first request, and so on; the last one for all that follow."""
    left = list(behaviours)
    lock = threading.Lock()

    def behave(exchange: Exchange) -> None:
        with lock:
            chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(exchange)

    return behave


def by_task(behaviours: dict[str, Behaviour], otherwise: Behaviour) -> Behaviour:
    """As the id of the task says."""

    def behave(exchange: Exchange) -> None:
        behaviours.get(json.loads(exchange.request.body)["taskId"], otherwise)(exchange)

    return behave


def redirect(location: str, status: int = 302) -> Behaviour:
    return answer(status, b"moved", {"Location": location})


def gzip_bomb(exchange: Exchange) -> None:
    answer(200, gzip_bomb_bytes(), {"Content-Encoding": "gzip"})(exchange)


@functools.cache
def gzip_bomb_bytes() -> bytes:
    """200 MB, of which less than one goes over the wire."""
    packer = zlib.compressobj(level=1, wbits=31)  # 31: as gzip
    megabyte = bytes(1_000_000)
    return b"".join([*(packer.compress(megabyte) for _ in range(200)), packer.flush()])


def endless_body(exchange: Exchange, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
    """1 GB without a Content-Length."""
    exchange.close()
    exchange.send(head)
    for _ in range(16_384):
        exchange.send(b" " * 65_536)


def endless_redirect(exchange: Exchange) -> None:
    endless_body(exchange, b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")


def endless_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    for _ in exchange.forever():
        exchange.send(b"X-More: and more\r\n" * 100)


def million_headers(exchange: Exchange) -> None:
    """A whole answer behind a million headers, 17 MB of them."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
    for first in range(0, 1_000_000, 10_000):
        exchange.send(b"".join(b"X-%06d: more\r\n" % n for n in range(first, first + 10_000)))
    exchange.send(b"\r\n{}")


def endless_header_line(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in exchange.forever():
        exchange.send(b"x" * 65_536)


def drip_body(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")
    for _ in exchange.forever(0.02):
        exchange.send(b" ")


def drip_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in exchange.forever(0.02):
        exchange.send(b"x")


def answer_early(exchange: Exchange) -> None:
    """As servers do with a body that is too large: answer, stop sending, read on for a while."""
    answer(413, b"too large", {"Connection": "close"})(exchange)
    exchange.drain()


def never(exchange: Exchange) -> None:
    exchange.stopping.wait()
    exchange.close()


def close_at_once(exchange: Exchange) -> None:
    exchange.close()


def reset(exchange: Exchange) -> None:
    exchange.reset()


class Barrier:
    """A behaviour that answers no call before the test says what.

    `barrier.call(1).release({"output": 1})`, as soon as the first call is there.
    """

    def __init__(self) -> None:
        self._calls: list[OpenCall] = []
        self._came = threading.Condition()

    def __call__(self, exchange: Exchange) -> None:
        call = OpenCall(json.loads(exchange.request.body))
        with self._came:
            self._calls.append(call)
            self._came.notify_all()
        call.answer(exchange)

    def call(self, number: int) -> "OpenCall":
        with self._came:
            assert self._came.wait_for(lambda: len(self._calls) >= number, 30), "not called"
            return self._calls[number - 1]


class OpenCall:
    def __init__(self, payload: dict[str, Any]) -> None:
        self.payload = payload
        self._released = threading.Event()

    def release(self, reply: dict[str, Any], status: int = 200) -> None:
        self._behaviour = answer(status, json.dumps(reply).encode())
        self._released.set()

    def answer(self, exchange: Exchange) -> None:
        while not exchange.stopping.is_set():
            if self._released.wait(0.05):
                return self._behaviour(exchange)


class Watched:
    """Answers 200 when it is told to; counts the calls that run, from the request to their end.

    A call has ended when it is answered, or its connection is over. `work` says for how many
    seconds the next call works, if nobody tells.
    """

    def __init__(self, work: Callable[[], float] = lambda: math.inf) -> None:
        self.work = work
        self.released = threading.Event()
        self.most = 0
        self.cut: list[str] = []  # tasks whose callers hung up
        self._running: list[Exchange] = []
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self._running.append(exchange)
            self.most = max(self.most, self._count())
        try:
            if hung_up(exchange, self.released, self.work()):
                self.cut.append(json.loads(exchange.request.body)["taskId"])
                exchange.close()
            else:
                answer()(exchange)
        finally:
            with self._lock:
                self._running.remove(exchange)

    @property
    def now(self) -> int:
        with self._lock:
            return self._count()

    def _count(self) -> int:
        return sum(not exchange.is_over() for exchange in self._running)


class StubWorker:
    def __init__(
        self,
        behaviour: Behaviour | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ):
        self.behaviour = behaviour or answer()
        self.requests: list[Request] = []
        self.connections = 0
        # False: the behaviour begins when the headers are there.
        self.reads_bodies = True
        self._tls = tls
        self._stopping = threading.Event()
        self._port = 0
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/"

    def __enter__(self) -> "StubWorker":
        self._port = self._listener.getsockname()[1]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def hang_up(self, how: int = socket.SHUT_RDWR) -> None:
        """End all connections that are open now, as servers do with idle ones."""
        with self._lock:
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(how)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(sock)
                number = self.connections
            thread = threading.Thread(target=self._converse, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _converse(self, sock: socket.socket, number: int) -> None:
        spoken = sock
        try:
            if self._tls:
                spoken = self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._open.add(spoken)
            with spoken.makefile("rb") as stream:
                while request := _read_request(stream, number, self.reads_bodies):
                    self.requests.append(request)
                    exchange = Exchange(request, self._stopping, spoken)
                    self.behaviour(exchange)
                    if not exchange.keeps_alive:
                        break
        except (OSError, ValueError):
            pass  # the caller hung up, which is its right
        finally:
            with self._lock:
                self._open -= {sock, spoken}
            spoken.close()
            sock.close()


def _read_request(stream: BinaryIO, number: int, reads_body: bool) -> Request | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers = {}
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.removeprefix(" ")
    body = stream.read(int(headers.get("content-length", 0))) if reads_body else b""
    return Request(first[0], first[1], headers, body, number)

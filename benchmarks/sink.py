"""A worker so fast that a benchmark measures Crew, not the worker.

    python benchmarks/sink.py --port 0 [--log FILE]

Each path is a worker (`WORKERS` below). `GET /stats` tells what was called, `GET /span` when,
`POST /reset-stats` forgets it. With `--log`, each call leaves the line `taskId attempt`: read it
with `line.rsplit(" ", 1)`; an id that does not print is written as JSON.

Not a general HTTP server: bodies need a Content-Length, and nobody is kept out.
"""

import argparse
import asyncio
import contextlib
import io
import json
import math
import re
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from uuid import uuid4

try:
    from uvloop import run
except ImportError:
    from asyncio import run  # type: ignore[assignment]

MAX_HEAD = 64 * 1024  # bytes
MAX_BODY = 64 * 1024 * 1024  # bytes

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_ATTEMPT = re.compile(rb"\r\nx-crew-attempt:[ \t]*(\d+)", re.IGNORECASE)

Json = dict[str, Any]


class Request(NamedTuple):
    """`end` is where the next request begins. `head` ends with a line break."""

    method: bytes
    path: bytes
    head: bytes
    body: bytes
    is_last: bool
    end: int


class BadRequestError(Exception):
    """The connection cannot be read on; the argument is the status to end it with."""


def parse(data: bytes, start: int) -> Request | int:
    """The request that begins at `start`, or how many bytes it needs, 0 for not known yet."""
    head_end = data.find(b"\r\n\r\n", start)
    if head_end < 0:
        if len(data) - start > MAX_HEAD:
            raise BadRequestError(431)
        return 0
    head = data[start : head_end + 2]
    words = head.split(b" ", 2)
    if len(words) < 3 or not words[2].startswith(b"HTTP/1."):
        raise BadRequestError(400)
    found = _LENGTH.search(head)
    if not found and _CHUNKED.search(head):
        raise BadRequestError(411)
    length = int(found[1]) if found else 0
    if length > MAX_BODY:
        raise BadRequestError(413)
    body_start = head_end + 4
    end = body_start + length
    if end > len(data):
        return end - start
    is_last = words[2].startswith(b"HTTP/1.0") or _CLOSE.search(head) is not None
    return Request(words[0], words[1], head, data[body_start:end], is_last, end)


def fan(call: Json) -> bytes:
    """`input.children` children, and one that has all of them as parents."""
    count = int(_number(call, "children", 5000))
    # Fresh ids each time: a second attempt must not collide with the first one's children.
    prefix = uuid4().hex[:16]
    ids = [f"{prefix}-{number}" for number in range(count)]
    children: list[Json] = [{"id": child_id, "worker": "noop"} for child_id in ids]
    children.append({"id": f"{prefix}-join", "name": "join", "worker": "noop", "parentIds": ids})
    return _children(children)


def chain(call: Json) -> bytes:
    left = int(_number(call, "left", 0))
    return _children([{"worker": "chain", "input": {"left": left - 1}}] if left > 0 else [])


def tree(call: Json) -> bytes:
    depth = int(_number(call, "depth", 0))
    child = {"worker": "tree", "input": {"depth": depth - 1}}
    return _children([child, child] if depth > 1 else [])


def echo(call: Json) -> bytes:
    return _dump({"output": call})


def stamp(call: Json) -> bytes:
    """When the call came, by the clock that all processes of the machine share."""
    return _dump({"output": {"at": time.monotonic()}})


def _children(children: list[Json]) -> bytes:
    return _dump({"output": None, "children": children})


def _number(call: Json, name: str, default: float) -> float:
    """A field of the input if it is a number that makes sense."""
    fields = call.get("input")
    value = fields.get(name) if isinstance(fields, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return value if 0 <= value < math.inf else default


def _dump(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return b"%b\r\n\r\n%b" % (head.encode(), body)


# The call as an object, its answer as JSON.
WORKERS: dict[bytes, Callable[[Json], bytes]] = {
    b"/noop": lambda call: b'{"output":null}',
    b"/ok": lambda call: b'{"output":{"n":1}}',
    b"/sleep": lambda call: b'{"output":null}',
    b"/fan": fan,
    b"/chain": chain,
    b"/tree": tree,
    b"/echo": echo,
    b"/stamp": stamp,
}
# Answers that need no look at the call.
FIXED = {path: _response(200, WORKERS[path]({})) for path in (b"/noop", b"/ok")}
# What is reported about the calls.
STATS = {
    b"/stats": ("calls", "in_flight", "max_in_flight"),
    b"/span": ("calls", "first_at", "last_at"),
}
NOT_FOUND = _response(404, b'{"error":"there is no such worker"}')
NOT_JSON = _response(400, b'{"error":"the call is not a JSON object"}')


class CallLog:
    """A line is in the file before its call is answered."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file

    def add(self, call: Json, head: bytes) -> None:
        task_id = str(call.get("taskId", "-"))
        text = task_id if task_id.isprintable() else json.dumps(task_id)
        attempt = _ATTEMPT.search(head)
        self._file.write(b"%b %b\n" % (text.encode(), attempt[1] if attempt else b"-"))


@dataclass(slots=True)
class Sink:
    """What all connections share: the counts and the log."""

    log: CallLog | None = None
    calls: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    first_at: float = 0.0  # of the calls counted, by time.monotonic()
    last_at: float = 0.0

    def answer(self, request: Request) -> tuple[bytes, float]:
        """The response, and in how many seconds it is due."""
        path = request.path
        if request.method != b"POST":
            names = STATS.get(path)
            return self._stats(names) if names else NOT_FOUND, 0.0
        if path in FIXED and self.log is None:
            self._count()
            return FIXED[path], 0.0
        name = path[: path.find(b"/", 1)] if path.count(b"/") > 1 else path
        if name in WORKERS:  # one that goes by several names: /sleep/1, /sleep/2
            return self._work(request, name)
        if path == b"/reset-stats":
            self.calls, self.max_in_flight = 0, self.in_flight
            self.first_at = self.last_at = 0.0
            return _response(200, b"{}"), 0.0
        return NOT_FOUND, 0.0

    def _work(self, request: Request, name: bytes) -> tuple[bytes, float]:
        call = _read_call(request.body)
        if call is None:
            return NOT_JSON, 0.0
        self._count()
        if self.log:
            self.log.add(call, request.head)
        seconds = _number(call, "seconds", 1.0) if name == b"/sleep" else 0.0
        return _response(200, WORKERS[name](call)), seconds

    def _count(self) -> None:
        self.calls += 1
        self.last_at = time.monotonic()
        if not self.first_at:
            self.first_at = self.last_at
        # The call itself is in flight now, even if it is answered before the next is read.
        if self.in_flight >= self.max_in_flight:
            self.max_in_flight = self.in_flight + 1

    def _stats(self, names: tuple[str, ...]) -> bytes:
        return _response(200, _dump({name: getattr(self, name) for name in names}))


def _read_call(body: bytes) -> Json | None:
    try:
        call = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        return None
    return call if isinstance(call, dict) else None


@dataclass(slots=True)
class Reply:
    """Due once it has no timer."""

    response: bytes
    timer: asyncio.TimerHandle | None = None


class Connection(asyncio.Protocol):
    """One caller. Answers leave in the order of the calls, however long each takes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._rest = bytearray()  # the beginning of a request
        self._needed = 0  # bytes of it before another look is worth while
        self._replies: deque[Reply] = deque()
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        try:
            self._read(data)
        except BadRequestError as error:
            self._is_closing = True
            self._replies.append(Reply(_response(error.args[0], b"{}")))
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        for reply in self._replies:
            if reply.timer:
                reply.timer.cancel()
                self._sink.in_flight -= 1

    # A caller that does not read its answers is not read either.
    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def _read(self, data: bytes) -> None:
        start = 0
        while start < len(data) and not self._is_closing:
            request = parse(data, start)
            if isinstance(request, int):
                self._needed = request
                self._rest += data[start:]
                return
            self._is_closing = request.is_last
            self._take(request)
            start = request.end

    def _take(self, request: Request) -> None:
        response, seconds = self._sink.answer(request)
        reply = Reply(response)
        self._replies.append(reply)
        if seconds:
            self._sink.in_flight += 1
            loop = asyncio.get_running_loop()
            reply.timer = loop.call_later(seconds, self._finish, reply)

    def _finish(self, reply: Reply) -> None:
        reply.timer = None
        self._sink.in_flight -= 1
        self._write()

    def _write(self) -> None:
        ready = []
        while self._replies and self._replies[0].timer is None:
            ready.append(self._replies.popleft().response)
        if ready:
            self._transport.write(b"".join(ready))
        if self._is_closing and not self._replies:
            self._transport.close()


async def serve(host: str, port: int, log: CallLog | None) -> None:
    """Until SIGTERM or Ctrl-C; calls in flight are then dropped."""
    sink = Sink(log)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Connection(sink), host, port, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://{host}:{port}/", flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve workers for benchmarks.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--log", metavar="FILE", help="append a line for each call")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        log = None
        if options.log:
            log = CallLog(stack.enter_context(open(options.log, "ab", buffering=0)))
        run(serve(options.host, options.port, log))


if __name__ == "__main__":
    main()

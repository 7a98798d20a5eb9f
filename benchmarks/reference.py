"""The reference loop: what this machine can do at most with this database and this worker.

    python -m benchmarks.reference create DATABASE_URL < TASKS.json
    python -m benchmarks.reference run DATABASE_URL BASE_URL --slots 500

No framework: set-based SQL (`reference_sql.py`), and calls as bytes on a few keep-alive
connections, many on each before the first is answered. It keeps what must be kept to be of use:
a claim is committed before its call goes out, a settle writes under the exact lease or nothing,
a child waits for all its parents, an answer and its children are one transaction, any number of
processes share the work on PostgreSQL, failed attempts are tried again.

It leaves out what makes a product: groups and their verbs, workgroups and holds, keys, priorities
and limits of workers, history of attempts, the outbox for browsers, rescue of dead processes'
leases, timeouts, retried connections, signatures, checks of addresses, answers and graphs.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit
from uuid import uuid4

from uvloop import run as run_loop

from .reference_sql import Lease, Store, open_store

CONNECTIONS = 16
GATHER = 0.002  # seconds without another answer after which a turn begins


class Answer(NamedTuple):
    lease: Lease
    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """Calls leave at once, one behind the other; answers come back in the same order."""

    def __init__(self, host: str, on_answers: Callable[[list[Answer]], None]) -> None:
        self._head = f"HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        self._on_answers = on_answers
        self._sent: deque[Lease] = deque()
        self._rest = b""
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.is_open = True
        self._transport = cast(asyncio.Transport, transport)

    def close(self) -> None:
        self._transport.close()

    def send(self, leases: list[Lease]) -> None:
        calls = []
        for lease in leases:
            body = _payload(lease)
            head = (
                f"POST /{lease.worker} {self._head}X-Crew-Attempt: {lease.attempt}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            calls += [head.encode(), body]
        self._sent.extend(leases)
        self._transport.write(b"".join(calls))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        answers = []
        start = 0
        while (head_end := data.find(b"\r\n\r\n", start)) > 0:
            length_at = data.find(b"Content-Length: ", start, head_end + 2) + 16
            body_start = head_end + 4
            end = body_start + int(data[length_at : data.find(b"\r\n", length_at)])
            if end > len(data):
                break
            status = int(data[start + 9 : start + 12])
            answers.append(Answer(self._sent.popleft(), status, data[body_start:end]))
            start = end
        self._rest = data[start:]
        if answers:
            self._on_answers(answers)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        lost = [Answer(lease, 0, b"") for lease in self._sent]
        self._sent.clear()
        if lost:
            self._on_answers(lost)


def _payload(lease: Lease) -> bytes:
    return (
        f'{{"input":{lease.input or "null"},"worker":"{lease.worker}",'
        f'"taskId":"{lease.task_id}","parents":{lease.parents or "[]"}}}'
    ).encode()


def settlement(answer: Answer, me: str) -> dict[str, Any]:
    """What an answer means, in the words of the statements."""
    try:
        said = json.loads(answer.body) if answer.body else {}
    except ValueError:
        said = None
    is_good = answer.status == 200 and isinstance(said, dict) and said.get("error") is None
    said = said if is_good else {}
    return {
        "id": answer.lease.task_id,
        "attempt": answer.lease.attempt,
        "by": me,
        "ok": is_good,
        "output": said.get("output"),
        "children": said.get("children") or [],
    }


class Loop:
    """One process: settle what is answered, claim what is ready, call."""

    def __init__(self, store: Store, slots: int) -> None:
        self._store = store
        self._slots = slots
        self._me = uuid4().hex
        self._answers: list[Answer] = []
        self._in_flight = 0
        self._answered = asyncio.Event()
        self._connections: list[Connection] = []
        self.first_at = self.last_at = 0.0

    async def connect(self, base: str) -> None:
        url = urlsplit(base)
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(
                lambda: Connection(url.netloc, self._on_answers), url.hostname, url.port
            )
            self._connections.append(connection)

    async def close(self) -> None:
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)  # so long does a transport take

    async def run(self) -> None:
        """Until nothing is ready and nothing in flight."""
        while True:
            await self._gather()
            answers, self._answers = self._answers, []
            self._answered.clear()
            leases = await self._turn([settlement(answer, self._me) for answer in answers])
            self._in_flight -= len(answers)
            if answers:
                self.last_at = time.monotonic()
            if leases:
                self.first_at = self.first_at or time.monotonic()
                self._in_flight += len(leases)
                self._send(leases)
            elif not self._in_flight:
                return
            await self._answered.wait()

    async def _turn(self, settled: list[dict[str, Any]]) -> list[Lease]:
        free = self._slots - self._in_flight + len(settled)
        # A thread costs a switch, and lets calls in flight go on meanwhile.
        if len(settled) == self._in_flight:
            return self._store.turn(settled, free, self._me)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._store.turn, settled, free, self._me)

    def _send(self, leases: list[Lease]) -> None:
        found = [connection for connection in self._connections if connection.is_open]
        if not found:
            raise ConnectionError("the worker has closed every connection")
        each = -(-len(leases) // len(found))
        for number, connection in enumerate(found):
            part = leases[number * each : (number + 1) * each]
            if part:
                connection.send(part)

    async def _gather(self) -> None:
        """While answers keep coming, wait for most of what is in flight: a turn costs the same."""
        seen = -1
        while seen < len(self._answers) < self._in_flight * 3 // 4:
            seen = len(self._answers)
            await asyncio.sleep(GATHER)

    def _on_answers(self, answers: list[Answer]) -> None:
        self._answers += answers
        self._answered.set()


async def work(database: str, base: str, slots: int) -> dict[str, float]:
    """Run all that is ready; when the first claim and the last settle were (time.monotonic)."""
    store = open_store(database)
    try:
        loop = Loop(store, slots)
        try:
            await loop.connect(base)
            await loop.run()
        finally:
            await loop.close()
        return {"first_at": loop.first_at, "last_at": loop.last_at}
    finally:
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["create", "run"])
    parser.add_argument("database")
    parser.add_argument("base", nargs="?")
    parser.add_argument("--slots", type=int, default=500)
    options = parser.parse_args()
    if options.verb == "run":
        print(json.dumps(run_loop(work(options.database, options.base, options.slots))))
        return
    tasks = json.load(sys.stdin)
    store = open_store(options.database)
    started = time.perf_counter()
    store.create(tasks)
    print(json.dumps(time.perf_counter() - started))
    store.close()


if __name__ == "__main__":
    main()

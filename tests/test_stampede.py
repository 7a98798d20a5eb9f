"""Outages and stampedes with a real scheduler and a real worker: no task dies of them.

    CREW_REAL_SIZES=1 python -m pytest -s tests/test_stampede.py

takes the sizes of a bad night: four minutes without a worker for 5,000 tasks, and 20,000 tasks for
a worker that takes 20 connections. CREW_REAL_SIZES=0.02 takes so small a part of them. Without it
nothing is run: what is waited for are real rests of seconds.
"""

import asyncio
import os
import threading
import time
from contextlib import contextmanager

import pytest
from django.db.models import Max

from tasks import create
from tasks.models import Attempt, Task

from .factories import make_group
from .processes import scheduler, wait_until
from .stub_worker import StubWorker

SIZE = float(os.environ.get("CREW_REAL_SIZES", "0"))
OUTAGE_TASKS, OUTAGE_SECONDS, CROWD = int(5_000 * SIZE), 240 * SIZE, int(20_000 * SIZE)
CONNECTIONS = 20
PATIENCE = 90.0 + 3_600.0 * SIZE
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(2 * PATIENCE),
    pytest.mark.skipif(not SIZE, reason="takes minutes: CREW_REAL_SIZES=1 runs it"),
]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n"


def waiting_tasks(count):
    group = make_group()
    for at in range(0, count, 5_000):
        some = [{"worker": "w", "errorDelayInSeconds": 1}] * min(5_000, count - at)
        create.create_tasks(group.pk, some)
    return group


class Crowded:
    """A worker that takes so many connections, and resets every other one."""

    def __init__(self):
        self.open = self.most = self.refused = 0

    async def serve(self, started, stop):
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        started(server.sockets[0].getsockname()[1])
        async with server:
            await stop.wait()

    async def _talk(self, reader, writer):
        if self.open >= CONNECTIONS:
            self.refused += 1
            writer.transport.abort()
            return
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                await reader.readexactly(int(length))
                await asyncio.sleep(0.01)
                writer.write(HEAD + b'{"output":1}')
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@contextmanager
def crowded():
    worker, ports, up = Crowded(), [], threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run():
        loop.run_until_complete(worker.serve(lambda port: (ports.append(port), up.set()), stop))

    thread = threading.Thread(target=run)
    thread.start()
    assert up.wait(20)
    try:
        yield worker, f"http://127.0.0.1:{ports[0]}/"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def is_over():
    return not Task.objects.filter(is_complete=False, remaining_attempts__gt=0).exists()


def figures(started, **more):
    """What came of it, for people; returns how many tasks died."""
    dead = Task.objects.filter(is_complete=False).count()
    outcomes = {
        name: Attempt.objects.filter(outcome=name).count()
        for name in ("completed", "failed", "held")
    }
    most = Task.objects.aggregate(most=Max("attempt"))["most"]
    took = f"{time.monotonic() - started:.0f} s"
    print(f"\n{Task.objects.count()} tasks, {dead} dead, {took}, {outcomes}, most {most}, {more}")
    return dead


def test_no_task_dies_of_minutes_without_a_worker():
    group = waiting_tasks(OUTAGE_TASKS)
    with StubWorker() as gone:
        url, port = gone.url, gone.port
    started = time.monotonic()

    with scheduler(url, "--slots", "500"):
        wait_until(Attempt.objects.exists)
        wait_until(lambda: time.monotonic() > started + OUTAGE_SECONDS, OUTAGE_SECONDS + 60)
        with StubWorker(port=port):
            wait_until(is_over, PATIENCE)

    assert figures(started) == 0
    assert group.tasks.filter(is_complete=True).count() == OUTAGE_TASKS


def test_no_task_dies_of_a_worker_that_is_crowded():
    waiting_tasks(CROWD)
    started = time.monotonic()

    with crowded() as (worker, url), scheduler(url, "--slots", "500"):
        wait_until(is_over, PATIENCE)

    assert figures(started, refused=worker.refused, most_open=worker.most) == 0
    assert worker.refused and worker.most <= CONNECTIONS

"""What it costs that many people watch one busy group.

    python -m benchmarks.watchers [--database URL ...] [--watchers 0 1 100] [--rate 2000]
        [--seconds 10] [--json FILE]

A web process, a scheduler and a worker as processes; so many websockets on one group, in a process
of their own, while tasks are created and run in it at this rate. For each number of watchers: what
the scheduler and the web process used, and what the watchers were sent.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from . import growth_store
from .growth_server import process_cpu
from .growth_store import RUN, SLOTS
from .stage import ROOT, databases, kind_of, sink

STEP = 0.1  # seconds between two creates
SETTLE = 60.0  # seconds for what is left when the creating has ended

Row = dict[str, Any]


def rows(url: str, *, watchers: Sequence[int], rate: int, seconds: float) -> list[Row]:
    """A row for each number of watchers, one after the other on the same processes."""
    found = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process, sink() as worker:
        process.submit(growth_store.open_store, url, worker.base).result()
        for count in watchers:
            row = process.submit(measure, count, rate, seconds).result()
            found.append({"database": kind_of(url)} | row)
            print(_line(found[-1]), flush=True)
    return found


def measure(count: int, rate: int, seconds: float) -> Row:
    """In a process that has opened the store."""
    from tasks.create import create_group
    from tasks.models import Attempt
    from tests.web import Web, path_of

    growth_store.empty()
    served = Web(DEBUG="0", LOG_LEVEL="INFO", CREW_MAX_STREAMS=str(count + 1))
    group = create_group(name="watched").pk
    try:
        with _scheduler() as scheduler, _watching(served.url + path_of(group), count) as watching:
            before = process_cpu(scheduler), process_cpu(served.process.pid), time.monotonic()
            created, peak = _feed(group, rate, seconds, served.memory)
            deadline = time.monotonic() + SETTLE
            done = Attempt.objects.filter(task__group_id=group)
            while done.count() < created and time.monotonic() < deadline:
                time.sleep(0.1)
            wall = time.monotonic() - before[2]
            assert done.count() == created, "the machine is too slow for this rate"
            row = {
                "watchers": count,
                "tasks": created,
                "rate": done.count() / wall,
                "scheduler_cpu": (process_cpu(scheduler) - before[0]) / created,
                "web_cpu": (process_cpu(served.process.pid) - before[1]) / wall,
                "web_memory": max(peak, served.memory()),
                "wall": wall,
            }
            return row | watching.stop()
    finally:
        served.stop()


def _feed(group: str, rate: int, seconds: float, memory: Any) -> tuple[int, int]:
    """Create so many tasks a second; how many it were, and the most memory seen meanwhile."""
    from tasks.create import create_tasks

    started, created, peak = time.monotonic(), 0, 0
    while (now := time.monotonic()) < started + seconds:
        due = int(rate * (now - started)) - created
        if due:
            create_tasks(group, [{"worker": "noop", "input": {"n": 1}}] * due)
            created += due
        peak = max(peak, memory())
        time.sleep(STEP)
    return created, peak


@contextmanager
def _scheduler() -> Iterator[int]:
    process = subprocess.Popen([*RUN, "--slots", str(SLOTS)], stderr=subprocess.DEVNULL)
    try:
        time.sleep(3)  # its start is not what we measure
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


# --- Those who watch ----------------------------------------------------------------------------


class _Watching:
    """The process of the sockets: `python -m benchmarks.watchers --watch URL COUNT`."""

    def __init__(self, url: str, count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.watchers", "--watch", url, str(count)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "open\n"

    def stop(self) -> Row:
        """What they got: messages by type, and the close codes of those that were dropped."""
        out, _ = self.process.communicate("stop\n", timeout=60)
        return json.loads(out)


@contextmanager
def _watching(url: str, count: int) -> Iterator[_Watching]:
    watching = _Watching(url, count)
    try:
        yield watching
    finally:
        if watching.process.poll() is None:
            watching.process.kill()
            watching.process.communicate()


async def watch(url: str, count: int) -> None:
    """Open them all, say so, and at the end of stdin what came."""
    import aiohttp

    kinds: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    size = 0
    stopping = asyncio.Event()

    async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
        nonlocal size
        async for message in socket:
            kinds[message.data[9 : message.data.index('"', 9)]] += 1
            size += len(message.data)
        if not stopping.is_set():
            codes[str(socket.close_code)] += 1

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        sockets = [await session.ws_connect(url, max_msg_size=0) for _ in range(count)]
        reading = [asyncio.ensure_future(read(socket)) for socket in sockets]
        print("open", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        stopping.set()
        print(json.dumps({"messages": kinds, "bytes": size, "dropped": codes}), flush=True)
        for task in reading:
            task.cancel()


def _line(row: Row) -> str:
    messages = ", ".join(f"{count:,} {kind}" for kind, count in row["messages"].items()) or "none"
    dropped = f", {sum(row['dropped'].values())} dropped" if row["dropped"] else ""
    return (
        f"{row['database']:10} {row['watchers']:4} watchers: {row['rate']:6,.0f} tasks/s,"
        f" scheduler {1e6 * row['scheduler_cpu']:4.0f} µs a task, web {100 * row['web_cpu']:3.0f} %"
        f" of a core, {row['web_memory'] / 1e6:.0f} MB; messages: {messages}"
        f" ({row['bytes'] / 1e6:.0f} MB){dropped}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", action="append", help="a DATABASE_URL; may be repeated")
    parser.add_argument("--watchers", type=int, nargs="+", default=[0, 1, 10, 100, 0, 100])
    parser.add_argument("--rate", type=int, default=2_000, help="tasks a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--watch", nargs=2, metavar=("URL", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watch(options.watch[0], int(options.watch[1])))
        return
    found = []
    with databases(options.database) as urls:
        for url in urls:
            found += rows(
                url, watchers=options.watchers, rate=options.rate, seconds=options.seconds
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

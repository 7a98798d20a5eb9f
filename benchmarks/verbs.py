"""What verbs and looks on large graphs cost, and how long they keep others waiting.

    python -m benchmarks.verbs [--database sqlite|postgresql] [--tasks 100000] [--runs 1]
        [--only WORD ...] [--stale]

A chain, a fan and full layers of 300 below 300, each recreated for each verb. `seconds` is how long
it takes; `waited` the longest that a neighbour waited meanwhile: for a row of the group on
PostgreSQL, for any write on SQLite. With `--stale` PostgreSQL knows nothing of its tables.
"""

import argparse
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

from . import growth_store
from .stage import stores

GROUP = "g"
WIDE = 300
Pairs = list[tuple[int, int]]  # parent, child


def chain(count: int) -> tuple[int, Pairs]:
    return count, [(n, n + 1) for n in range(count - 1)]


def fan(count: int) -> tuple[int, Pairs]:
    return count, [(0, n) for n in range(1, count)]


def layers(count: int) -> tuple[int, Pairs]:
    """A head, and full layers below it, of about `count` edges."""
    wide = min(WIDE, int((count / 2) ** 0.5))
    deep = max(1, count // wide // wide)
    rows = [range(1 + wide * n, 1 + wide * (n + 1)) for n in range(deep + 1)]
    pairs = [(0, n) for n in rows[0]]
    for above, row in pairwise(rows):
        pairs += [(parent, child) for parent in above for child in row]
    return 1 + wide * len(rows), pairs


SHAPES: dict[str, Callable[[int], tuple[int, Pairs]]] = {
    "chain": chain,
    "fan": fan,
    "layers": layers,
}


# --- In a process of its own --------------------------------------------------------------------


def open_store(url: str) -> None:
    growth_store.open_store(url, "http://127.0.0.1:1")


def fill(shape: str, count: int, is_stale: bool) -> None:
    """The shape as a group of which nothing has run; the first task is a seed."""
    from django.db import connection

    from tasks.create import create_group

    number, pairs = SHAPES[shape](count)
    parents: list[list[str]] = [[] for _ in range(number)]
    for parent, child in pairs:
        parents[child].append(_name(parent))
    growth_store.empty()
    if connection.vendor == "postgresql":
        growth_store.run("ANALYZE")
    tasks = [
        {"id": _name(n), "worker": "w", "isSeed": not n, "parentIds": parents[n]}
        for n in range(number)
    ]
    create_group(id=GROUP, tasks=tasks)
    if not is_stale:
        growth_store.tidy()


def _name(n: int) -> str:
    return f"t{n:07}"


def calls() -> dict[str, Callable[[], Any]]:
    from tasks import control, edit
    from tasks.insight import explain, timeline
    from tasks.insight.graph import picture
    from tasks.models import Task
    from tasks.store import edges
    from tasks.upkeep import invariants

    def last() -> str:
        return str(Task.objects.order_by("-id").values_list("id", flat=True)[0])

    first = _name(0)
    return {
        "preview of a delete": lambda: control.would_delete([first]),
        "picture": lambda: picture.picture(GROUP),
        "around": lambda: picture.around(first),
        "explain": lambda: explain.explain(last()),
        "timeline": lambda: timeline.timeline(GROUP),
        "crewcheck": lambda: [invariant.find() for invariant in invariants.INVARIANTS],
        "give parents": lambda: edit.edit_task(GROUP, last(), {"parent_ids": [first]}),
        "complete": lambda: edit.complete_task(GROUP, first),
        "pause": lambda: control.pause_group(GROUP),
        "retry": lambda: control.retry_group(GROUP),
        "cancel": lambda: control.cancel_group(GROUP),
        "retry tasks": lambda: control.retry_tasks(GROUP, edges.ids_in(GROUP)),
        "reset tasks": lambda: control.reset_tasks(GROUP, edges.ids_in(GROUP)),
        "reset": lambda: control.reset_group(GROUP),
        "delete the head": lambda: control.delete_tasks(GROUP, [first]),
        "detach the head": lambda: control.delete_tasks(GROUP, [first], children="detach"),
        "delete": lambda: control.delete_group(GROUP),
    }


READS = ("preview of a delete", "picture", "around", "explain", "timeline", "crewcheck")


def names() -> list[str]:
    return list(calls())


def measure(call: str) -> tuple[float, float]:
    """Seconds that it takes, and that a neighbour waited for it at most."""
    with _neighbour() as waited:
        began = time.perf_counter()
        calls()[call]()
        seconds = time.perf_counter() - began
    return seconds, max(waited, default=0.0)


@contextmanager
def _neighbour() -> Iterator[list[float]]:
    """How long it waited, each time that it came."""
    waited: list[float] = []
    over = threading.Event()
    beside = threading.Thread(target=_come_and_go, args=(waited, over))
    beside.start()
    try:
        yield waited
    finally:
        over.set()
        beside.join()


def _come_and_go(waited: list[float], over: threading.Event) -> None:
    from django.db import connection

    try:
        while not over.wait(0.02):
            began = time.perf_counter()
            if connection.vendor == "postgresql":
                growth_store.run("SELECT id FROM crew_taskgroup WHERE id = 'g' FOR KEY SHARE")
            else:
                _write(connection.settings_dict["NAME"])
            waited.append(time.perf_counter() - began)
    finally:
        connection.close()


def _write(file: str) -> None:
    session = sqlite3.connect(file, timeout=300, isolation_level=None)
    session.execute("BEGIN IMMEDIATE")
    session.execute("ROLLBACK")
    session.close()


# --- The command --------------------------------------------------------------------------------


def main() -> None:
    options = _options()
    with stores(options.database or ["sqlite", "postgresql"]) as found:
        for store in found:
            with (
                store.fresh() as url,
                ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
            ):
                process.submit(open_store, url).result()
                for shape in SHAPES:
                    _tell(process, store.kind, shape, options)


def _tell(process: ProcessPoolExecutor, kind: str, shape: str, options: Any) -> None:
    is_filled = False
    for call in process.submit(names).result():
        if options.only and not any(word in f"{shape} {call}" for word in options.only):
            continue
        rounds = []
        for _ in range(options.runs):
            if not is_filled:
                process.submit(fill, shape, options.tasks, options.stale).result()
            rounds.append(process.submit(measure, call).result())
            is_filled = call in READS
        seconds, waited = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{kind:10} {shape:6} {call:20} {seconds:7.2f} s  waited {waited:6.2f} s", flush=True)


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="benchmarks.verbs", description=__doc__)
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", action="append")
    parser.add_argument("--stale", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()

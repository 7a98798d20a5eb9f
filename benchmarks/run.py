"""Run the workloads on real processes and print tasks a second.

    python -m benchmarks.run [--database URL ...] [--only NAME ...] [--runs 3] [--json FILE]

For each database a fresh sink worker and fresh schedulers (`manage.py runscheduler --once`) run
each workload; the time is that from the first claim to the last settle, by the database's clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Workload:
    """What is created, how many tasks it becomes, and with how many slots it runs."""

    name: str
    tasks: Callable[[], list[dict[str, object]]]
    becomes: int
    slots: int = 500


def _fan() -> list[dict[str, object]]:
    middle = [f"m{i}" for i in range(5_000)]
    return [
        {"id": "root", "worker": "noop"},
        *({"id": id_, "worker": "noop", "parentIds": ["root"]} for id_ in middle),
        {"id": "join", "worker": "noop", "parentIds": middle},
    ]


WORKLOADS = [
    Workload("20,000 independent", lambda: [{"worker": "noop"}] * 20_000, 20_000),
    Workload("fan 1 -> 5,000 -> 1", _fan, 5_002),
    Workload(
        "fan by continuation",
        lambda: [{"worker": "fan", "input": {"children": 5_000}}],
        5_002,
    ),
    Workload("chain of 100", lambda: [{"worker": "chain", "input": {"left": 99}}], 100),
    Workload("tree of depth 12", lambda: [{"worker": "tree", "input": {"depth": 12}}], 4_095),
    Workload(
        "10,000 calls of 1 s",
        lambda: [{"worker": "sleep", "input": {"seconds": 1}}] * 10_000,
        10_000,
        slots=5_000,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", action="append", help="a DATABASE_URL; may be repeated")
    parser.add_argument("--only", action="append", help="part of a workload's name")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--schedulers", type=int, default=1, help="more than 1: PostgreSQL only")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    results = []
    with databases(options.database) as urls:
        for database in urls:
            for workload in WORKLOADS:
                if options.only and not any(part in workload.name for part in options.only):
                    continue
                schedulers = 1 if database.startswith("sqlite") else options.schedulers
                seconds = [_run(workload, database, schedulers) for _ in range(options.runs)]
                results.append(_report(workload, database, schedulers, seconds))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


@contextmanager
def databases(urls: list[str] | None) -> Iterator[list[str]]:
    """The URLs given; or a SQLite file and a PostgreSQL of our own, fsync on."""
    if urls:
        yield urls
        return
    from tests.servers import postgres

    with postgres(durability=True) as server:
        yield [f"sqlite:///{mkdtemp(prefix='crew-bench-')}/db.sqlite3", server.url]


def kind_of(url: str) -> str:
    return "SQLite" if url.startswith("sqlite") else "PostgreSQL"


def _run(workload: Workload, database: str, schedulers: int) -> float:
    with _sink() as base:
        env = os.environ | {
            "DATABASE_URL": database,
            "CREW_WORKER_BASE_URL": base,
            "DEBUG": "0",
            "SECRET_KEY": "for a benchmark on this machine only",
            "CREW_MAX_CHILDREN": "10000",
            "CREW_MAX_ANSWER_BYTES": str(16 * 1024 * 1024),
            "CREW_MAX_TASKS_PER_CALL": "100000",
            "LOG_LEVEL": "INFO",
        }
        manage = [sys.executable, str(ROOT / "manage.py")]
        subprocess.run([*manage, "migrate", "-v0"], env=env, check=True)
        group = f"bench-{time.time_ns()}"
        graph = json.dumps({"id": group, "tasks": _unique(workload.tasks(), group)})
        subprocess.run([*manage, "crewimport", "-"], input=graph, text=True, env=env,
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        command = [*manage, "runscheduler", "--once", "--slots", str(workload.slots)]
        running = [
            subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
            for _ in range(schedulers)
        ]
        logs = [process.communicate(timeout=600)[1] for process in running]
        status = subprocess.run([*manage, "crewstatus", group], env=env, text=True,
                                capture_output=True)  # fmt: skip
        if f"{workload.becomes}/{workload.becomes} " not in status.stdout.replace(",", ""):
            raise SystemExit(f"{workload.name} did not complete: {status.stdout}{logs}")
        return _seconds(manage, group, env)


def _unique(tasks: list[dict[str, object]], group: str) -> list[dict[str, object]]:
    """Ids of the store are unique for ever: each run has its own."""
    named = []
    for task in tasks:
        copy = dict(task)
        if "id" in copy:
            copy["id"] = f"{group}-{copy['id']}"
        if "parentIds" in copy:
            copy["parentIds"] = [f"{group}-{parent}" for parent in copy["parentIds"]]
        named.append(copy)
    return named


def _seconds(manage: list[str], group: str, env: dict[str, str]) -> float:
    """From the first claim to the last settle, by the database's clock."""
    code = (
        "from django.db.models import Max, Min; from tasks.models import Attempt;"
        f"t = Attempt.objects.filter(task__group_id={group!r})"
        ".aggregate(a=Min('started_at'), b=Max('finished_at'));"
        "print((t['b'] - t['a']).total_seconds())"
    )
    shell = subprocess.run([*manage, "shell", "-v0", "-c", code], env=env, check=True, text=True,
                           capture_output=True)  # fmt: skip
    return float(shell.stdout.split()[-1])


@contextmanager
def _sink() -> Iterator[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "sink.py"), "--port", "0"]
    sink = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert sink.stdout is not None
        yield sink.stdout.readline().split()[-1]
    finally:
        sink.terminate()
        sink.wait()


def _report(
    workload: Workload, database: str, schedulers: int, seconds: list[float]
) -> dict[str, object]:
    median = statistics.median(seconds)
    kind = kind_of(database)
    print(
        f"{workload.name:24} {kind:10} {schedulers} scheduler(s): "
        f"{workload.becomes / median:8,.0f} tasks/s   "
        f"{median:6.2f} s (min {min(seconds):.2f}, max {max(seconds):.2f})",
        flush=True,
    )
    return {
        "workload": workload.name,
        "database": kind,
        "schedulers": schedulers,
        "tasks": workload.becomes,
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()

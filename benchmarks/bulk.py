"""Graphs created by one call each, through the real web process.

    python -m benchmarks.bulk [--database URL ...] [--rounds 5] [--tasks 100000] [--json FILE]

For each database a fresh web process (`manage.py crewweb`) takes graphs of tasks with three
parents each, as one `POST /api/v1/task_groups` and as NDJSON, and says how many tasks a second
that is and what memory it took. Then, while somebody else asks for pages of groups, graphs of
10,000 tasks with five parents each. Then where the time of one create goes (`bulk_split.py`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from .posts import TOKEN, Server, site_environment
from .stage import ROOT, databases, kind_of

WIDTH = 1_000  # tasks on one level of a graph
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
NDJSON = "application/x-ndjson"
MANY, PARENTS = 100_000, 3
F36_TASKS, F36_PARENTS = 10_000, 5


def graph(name: str, count: int, parents: int) -> list[dict[str, object]]:
    """Levels of tasks, each with so many parents on the level above."""
    tasks: list[dict[str, object]] = []
    for n in range(count):
        above = n // WIDTH * WIDTH - WIDTH
        task = {"id": f"{name}-{n}", "worker": f"worker-{n % 8}", "input": {"n": n}}
        if above >= 0:
            task["parentIds"] = [f"{name}-{above + (n + k * 7) % WIDTH}" for k in range(parents)]
        tasks.append(task)
    return tasks


class Web(Server):
    """The web process, and who sends it graphs."""

    def __init__(self, database: str) -> None:
        super().__init__(
            "web",
            ["manage.py", "crewweb", "-v0", "-b", "127.0.0.1", "-p", "{port}"],
            "",
            environment(database),
        )
        self.client.timeout = 300

    def send(self, form: str, tasks: list[dict[str, object]]) -> float:
        """Create them as one group; return the seconds that it took."""
        path, kind = "/api/v1/task_groups", "application/json"
        if form == "group":
            body = json.dumps({"name": "bulk", "tasks": tasks}).encode()
        else:
            group = self.post(path, {"name": "bulk"})["id"]
            path, kind = f"/api/v1/task_group/{group}/tasks/bulk", NDJSON
            body = "".join(f"{json.dumps(task)}\n" for task in tasks).encode()
        started = time.perf_counter()
        self.client.request("POST", path, body, HEADERS | {"Content-Type": kind})
        answer = self.client.getresponse()
        said = answer.read()
        seconds = time.perf_counter() - started
        if answer.status != 200:
            raise SystemExit(f"{form}: {answer.status} {said[:300]!r}")
        return seconds

    def peak_mib(self) -> float:
        """The most memory that the process has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Reader(threading.Thread):
    """Somebody who looks at the list of groups, over and over, until asked to stop."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.seconds: list[float] = []
        self.is_done = threading.Event()

    def run(self) -> None:
        client = HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.is_done.wait(0.01):
            started = time.perf_counter()
            client.request("GET", "/api/v1/task_groups", headers=HEADERS)
            client.getresponse().read()
            self.seconds.append(time.perf_counter() - started)


def environment(database: str) -> dict[str, str]:
    return site_environment(database) | {
        "CREW_MAX_TASKS_PER_CALL": "100000",
        "CREW_MAX_EDGES_PER_CALL": "1000000",
        "CREW_MAX_BULK_BYTES": str(64 * 1024 * 1024),
    }


@contextmanager
def web(database: str) -> Iterator[Web]:
    env = environment(database)
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], env=env, check=True, cwd=ROOT)
    server = Web(database)
    try:
        server.wait()
        server.send("group", graph(fresh_name(), 10, 1))  # the first call is no call
        yield server
    finally:
        server.client.close()
        server.process.terminate()
        server.process.wait()


def fresh_name() -> str:
    """Ids of the store are unique forever."""
    return f"g{time.time_ns():x}"


def creates(database: str, form: str, *, count: int, rounds: int) -> dict[str, object]:
    with web(database) as server:
        cpu = server._cpu()
        seconds = [server.send(form, graph(fresh_name(), count, PARENTS)) for _ in range(rounds)]
        cpu = (server._cpu() - cpu) / rounds
        peak = server.peak_mib()
    print(
        f"{form:7} {kind_of(database):10}: {count / statistics.median(seconds):7,.0f} tasks/s"
        f" (best {count / min(seconds):,.0f}), {count:,} tasks of {PARENTS} edges,"
        f" {cpu:.1f} s CPU of the web process, {peak:.0f} MiB at most",
        flush=True,
    )
    return {
        "workload": f"bulk create, {form}",
        "database": kind_of(database),
        "tasks": count,
        "seconds": seconds,
        "peak_mib": peak,
    }


def beside_others(database: str, *, rounds: int) -> dict[str, object]:
    """10,000 tasks and 50,000 edges in one call, while another reads."""
    with web(database) as server:
        reader = Reader(server.port)
        sent = [graph(fresh_name(), F36_TASKS, F36_PARENTS) for _ in range(rounds)]
        reader.start()
        seconds = [server.send("group", tasks) for tasks in sent]
        reader.is_done.set()
        reader.join()
    p95 = statistics.quantiles(reader.seconds, n=20)[-1]
    print(
        f"beside  {kind_of(database):10}: {F36_TASKS:,} tasks of {F36_PARENTS} edges in"
        f" {statistics.median(seconds):.2f} s (worst {max(seconds):.2f}); {len(reader.seconds)}"
        f" GETs meanwhile: p95 {1000 * p95:.0f} ms, worst {1000 * max(reader.seconds):.0f} ms",
        flush=True,
    )
    return {
        "workload": "bulk create beside reads",
        "database": kind_of(database),
        "tasks": F36_TASKS,
        "seconds": seconds,
        "reads_p95_seconds": p95,
        "reads_worst_seconds": max(reader.seconds),
    }


def split(database: str, *, count: int) -> dict[str, object]:
    """The steps of one create, timed in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bulk_split", str(count), str(PARENTS)]
    done = subprocess.run(
        command, env=environment(database), cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    )
    steps: dict[str, float] = json.loads(done.stdout)
    parts = ", ".join(f"{step} {seconds:.2f}" for step, seconds in steps.items())
    print(f"split   {kind_of(database):10}: {sum(steps.values()):.2f} s: {parts}", flush=True)
    return {
        "workload": "bulk create, by step",
        "database": kind_of(database),
        "tasks": count,
        "seconds": [sum(steps.values())],
        "steps": steps,
    }


def rows(
    urls: list[str] | None = None, *, rounds: int = 5, count: int = MANY
) -> Iterator[dict[str, object]]:
    with databases(urls) as found:
        for database in found:
            for form in ("group", "ndjson"):
                yield creates(database, form, count=count, rounds=rounds)
            yield beside_others(database, rounds=rounds)
            yield split(database, count=count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", action="append", help="a DATABASE_URL; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=MANY)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    results = list(rows(options.database, rounds=options.rounds, count=options.tasks))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

"""Crew runs a workload: `manage.py` in processes of their own, as in production."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

from tests.servers import free_port

from .posts import TOKEN
from .stage import (
    ROOT,
    TEMPLATES,
    BrokenRunError,
    Sink,
    Store,
    Wait,
    environment,
    kind_of,
    query,
    sink,
    wait_for,
    watched,
)
from .workloads import Workload

MANAGE = [sys.executable, str(ROOT / "manage.py")]
INSIDE = [sys.executable, "-m", "benchmarks.inside"]
LOCK_WAIT = 0.005  # seconds; waits for a lock that take longer are counted
Figures = dict[str, float]


def run(workload: Workload, store: Store) -> Figures:
    """On a fresh database and a fresh sink; BrokenRunError if it does not end as it should."""
    with sink() as worker, store.fresh("crew") as url:
        return WAYS[workload.how](workload, store, _environment(url, worker.base), worker)


def _environment(database: str, base: str) -> dict[str, str]:
    return environment(
        DATABASE_URL=database,
        CREW_WORKER_BASE_URL=base,
        DEBUG="0",
        SECRET_KEY="for a benchmark on this machine only, and long enough for it",
        ALLOWED_HOSTS="127.0.0.1",
        CREW_AUTH_TOKEN=TOKEN,
        CREW_MAX_CHILDREN="10000",
        CREW_MAX_ANSWER_BYTES=str(16 * 1024 * 1024),
        CREW_MAX_TASKS_PER_CALL="100000",
        LOG_LEVEL="INFO",
        REDIS_URL="",
    )


def _migrate(url: str) -> None:
    subprocess.run([*MANAGE, "migrate", "-v0"], env=_environment(url, "http://127.0.0.1:9/"),
                   check=True)  # fmt: skip


TEMPLATES["crew"] = _migrate


def _work(workload: Workload, _store: Store, env: dict[str, str], worker: Sink) -> Figures:
    """From the first claim to the last settle, by the database's clock."""
    graph = json.dumps({"id": "bench", "tasks": workload.tasks()})
    subprocess.run([*MANAGE, "crewimport", "-"], input=graph, text=True, env=env, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    command = [*MANAGE, "runscheduler", "--once", "--slots", str(workload.slots)]
    url = env["DATABASE_URL"]
    return ran(workload, command, env, worker, url, "crew_task", lambda _: _seconds(url))


def ran(
    workload: Workload,
    command: list[str],
    env: dict[str, str],
    worker: Sink,
    url: str,
    table: str,
    seconds: Callable[[list[str]], float],
) -> Figures:
    """Run it in as many processes as it wants; BrokenRunError unless all tasks are complete.

    `seconds` is how long it took, by what the processes wrote or by the database.
    """
    with watched(command, env, times=workload.schedulers) as processes:
        wait_for(lambda: not [process for process in processes if process.runs()], workload.title)
        logs = [process.output() for process in processes]
    ((complete, tasks),) = query(
        url, f"SELECT count(CASE WHEN is_complete THEN 1 END), count(*) FROM {table}"
    )
    if not complete == tasks == workload.becomes:
        tail = "\n".join(logs)[-2_000:]
        raise BrokenRunError(f"{complete} of {tasks} tasks are complete: {tail}")
    took = seconds(logs)
    return {
        "seconds": took,
        "rate": tasks / took,
        "hop_ms": 1000 * took / tasks,
        "in_flight": worker.stats()["max_in_flight"],
        "rss_mb": max(process.peak for process in processes) / 2**20,
    }


def _seconds(url: str) -> float:
    taken = {
        "SQLite": "(julianday(max(finished_at)) - julianday(min(started_at))) * 86400.0",
        "PostgreSQL": "extract(epoch FROM max(finished_at) - min(started_at))::float",
    }[kind_of(url)]
    ((seconds,),) = query(url, f"SELECT {taken} FROM crew_attempt")
    return float(seconds)


def _count_waits(workload: Workload, store: Store, env: dict[str, str], worker: Sink) -> Figures:
    with store.watched_waits(LOCK_WAIT) as waits:
        figures = _work(workload, store, env, worker)
        if waits is None:
            return figures
        found = waits()
    return figures | waited(found)


def waited(found: list[Wait]) -> Figures:
    return {
        "waits": float(len(found)),
        "notify_waits": float(sum(wait.is_notify for wait in found)),
        "longest_ms": 1000 * max((wait.seconds for wait in found), default=0.0),
    }


def _create(workload: Workload, _store: Store, env: dict[str, str], _worker: Sink) -> Figures:
    """One call of the API, as newline-delimited JSON; and one create_group()."""
    port = free_port()
    web = [*MANAGE, "crewweb", "-b", "127.0.0.1", "-p", str(port)]
    lines = "\n".join(json.dumps(task) for task in workload.tasks()).encode()
    with watched(web, env) as (server,):
        wait_for(lambda: not server.runs() or _listens(port), "crewweb starts")
        if not server.runs():
            raise BrokenRunError(f"crewweb does not start: {server.output()[-2_000:]}")
        group = json.loads(_post(port, "/api/v1/task_groups", b"{}", "application/json"))["id"]
        started = time.perf_counter()
        answer = _post(port, f"/api/v1/task_group/{group}/tasks/bulk", lines,
                       "application/x-ndjson")  # fmt: skip
        seconds = time.perf_counter() - started
        count = json.loads(answer)["count"]
    if count != workload.becomes:
        raise BrokenRunError(f"{count} tasks were created, not {workload.becomes}")
    # The ids of the graph are taken now: the other way has a database of its own.
    with _store.fresh("crew") as url:
        inside = _inside(env | {"DATABASE_URL": url}, "create", str(count))
    return {"seconds": seconds, "rate": count / seconds, "python_rate": count / float(inside)}


def _post(port: int, path: str, body: bytes, kind: str) -> bytes:
    client = HTTPConnection("127.0.0.1", port, timeout=300)
    client.request("POST", path, body, {"Content-Type": kind, "Authorization": f"Bearer {TOKEN}"})
    answer = client.getresponse()
    text = answer.read()
    client.close()
    if answer.status not in (200, 201):
        raise BrokenRunError(f"{path}: {answer.status} {text[:300]!r}")
    return text


def _listens(port: int) -> bool:
    client = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.connect()
    except OSError:
        return False
    finally:
        client.close()
    return True


def _start(workload: Workload, _store: Store, env: dict[str, str], _worker: Sink) -> Figures:
    with watched([*MANAGE, "runscheduler", "--slots", "10"], env) as (scheduler,):
        wait_for(lambda: not scheduler.runs() or "started with" in scheduler.output(), "a start")
        return _latencies(_inside(env, "start", str(workload.becomes)))


def _start_inside(workload: Workload, _store: Store, env: dict[str, str], _worker: Sink) -> Figures:
    return _latencies(_inside(env, "start", str(workload.becomes), "--schedule"))


def _latencies(found: list[float]) -> Figures:
    p95 = statistics.quantiles(found, n=20, method="inclusive")[18]
    return {"p95_ms": 1000 * p95, "p50_ms": 1000 * statistics.median(found)}


def _inside(env: dict[str, str], *arguments: str) -> Any:
    """What `inside.py` prints."""
    done = subprocess.run([*INSIDE, *arguments], env=env, cwd=ROOT, stdout=subprocess.PIPE,
                          text=True, check=True)  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


WAYS: dict[str, Callable[[Workload, Store, dict[str, str], Sink], Figures]] = {
    "run": _work,
    "waits": _count_waits,
    "create": _create,
    "start": _start,
    "start-inside": _start_inside,
}

"""The reference loop runs a workload, in processes of its own, as Crew does."""

import json
import subprocess
import sys

from .ours import LOCK_WAIT, Figures, waited
from .reference_sql import open_store
from .stage import (
    ROOT,
    TEMPLATES,
    BrokenRunError,
    Sink,
    Store,
    environment,
    query,
    sink,
    wait_for,
    watched,
)
from .workloads import Workload

PROGRAM = [sys.executable, "-m", "benchmarks.reference"]
CAN = ("run", "create", "waits")


def run(workload: Workload, store: Store) -> Figures:
    """On a fresh database and a fresh sink; BrokenRunError if it does not end as it should."""
    with sink() as worker, store.fresh("reference") as url:
        if workload.how == "create":
            return _create(workload, url)
        if workload.how == "run":
            return _work(workload, url, worker)
        with store.told_of_waits(LOCK_WAIT) as waits:
            figures = _work(workload, url, worker)
            return figures | (waited(waits()) if waits else {})


def _work(workload: Workload, url: str, worker: Sink) -> Figures:
    """From the first claim to the last settle."""
    _create(workload, url)
    command = [*PROGRAM, "run", url, worker.base, "--slots", str(workload.slots)]
    with watched(command, environment(), times=workload.schedulers) as loops:
        wait_for(lambda: not [loop for loop in loops if loop.runs()], workload.title)
        logs = [loop.output() for loop in loops]
    ((complete, tasks),) = query(
        url, "SELECT count(CASE WHEN is_complete THEN 1 END), count(*) FROM task"
    )
    if not complete == tasks == workload.becomes:
        raise BrokenRunError(f"{complete} of {tasks} tasks are complete: {logs}")
    spans = [json.loads(log.splitlines()[-1]) for log in logs]
    worked = [span for span in spans if span["first_at"]]
    seconds = max(s["last_at"] for s in worked) - min(s["first_at"] for s in worked)
    return {
        "seconds": seconds,
        "rate": tasks / seconds,
        "hop_ms": 1000 * seconds / tasks,
        "in_flight": worker.stats()["max_in_flight"],
        "rss_mb": max(loop.peak for loop in loops) / 2**20,
    }


def _create(workload: Workload, url: str) -> Figures:
    """One call, that checks nothing."""
    done = subprocess.run([*PROGRAM, "create", url], input=json.dumps(workload.tasks()), text=True,
                          stdout=subprocess.PIPE, cwd=ROOT, check=True)  # fmt: skip
    seconds = float(done.stdout)
    return {"seconds": seconds, "rate": workload.becomes / seconds}


TEMPLATES["reference"] = lambda url: open_store(url).close()

"""The reference loop runs a workload, in processes of its own, as Crew does."""

import json
import subprocess
import sys

from .ours import LOCK_WAIT, Figures, ran, waited
from .reference_sql import open_store
from .stage import ROOT, TEMPLATES, Sink, Store, environment, sink
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
        with store.watched_waits(LOCK_WAIT) as waits:
            figures = _work(workload, url, worker)
            return figures | (waited(waits()) if waits else {})


def _work(workload: Workload, url: str, worker: Sink) -> Figures:
    """From the first claim to the last settle."""
    _create(workload, url)
    command = [*PROGRAM, "run", url, worker.base, "--slots", str(workload.slots)]
    return ran(workload, command, environment(), worker, url, "task", _seconds)


def _seconds(logs: list[str]) -> float:
    """As the loops tell it in their last lines."""
    spans = [json.loads(log.splitlines()[-1]) for log in logs]
    worked = [span for span in spans if span["first_at"]]
    return float(max(s["last_at"] for s in worked) - min(s["first_at"] for s in worked))


def _create(workload: Workload, url: str) -> Figures:
    """One call, that checks nothing."""
    done = subprocess.run([*PROGRAM, "create", url], input=json.dumps(workload.tasks()), text=True,
                          stdout=subprocess.PIPE, cwd=ROOT, check=True)  # fmt: skip
    seconds = float(done.stdout)
    return {"seconds": seconds, "rate": workload.becomes / seconds}


TEMPLATES["reference"] = lambda url: open_store(url).close()

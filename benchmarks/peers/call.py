"""The work of every peer's task: one POST of what Crew would send, by a session that is kept."""

import argparse
import os
from collections.abc import Callable

import requests
from requests.adapters import HTTPAdapter

BASE = os.environ["BENCH_BASE"]
BROKER = os.environ["BENCH_BROKER"]
MOST = 500  # calls in flight

# One for each process, as large as there may be threads or greenlets in it.
_session = requests.Session()
_session.trust_env = False  # looking for proxies costs more than the call
_session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=MOST))


def body(task_id: str) -> dict[str, object]:
    return {"input": None, "worker": "noop", "taskId": task_id, "parents": []}


def post(task_id: str) -> None:
    """Call the worker and read its answer; raises when it is not a good one."""
    answer = _session.post(f"{BASE}noop", json=body(task_id), timeout=60)
    answer.raise_for_status()
    if answer.json().get("error") is not None:
        raise RuntimeError(answer.text)


def enqueue(**ways: Callable[[int], None]) -> None:
    """The command line of a peer: WORKLOAD COUNT puts that much of it into the queue."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=sorted(ways))
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    ways[options.workload](options.count)

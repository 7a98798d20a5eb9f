"""What is measured inside a process that has Django: started by `ours.py`, never by hand.

    python -m benchmarks.inside create COUNT            seconds that one create_group() takes
    python -m benchmarks.inside start COUNT             seconds until each new task is at its worker
    python -m benchmarks.inside start COUNT --schedule  the same, the scheduler in this process too

Prints JSON. DATABASE_URL and CREW_WORKER_BASE_URL say where.
"""

import argparse
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crewsite.settings")
django.setup()

from tasks.create import create_group, create_tasks  # noqa: E402
from tasks.engine.scheduler import Scheduler  # noqa: E402
from tasks.models import Task  # noqa: E402

from .workloads import binary_tree  # noqa: E402

LONGEST = 30.0  # seconds that a single task may take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["create", "start"])
    parser.add_argument("count", type=int)
    parser.add_argument("--schedule", action="store_true")
    options = parser.parse_args()
    if options.verb == "create":
        print(json.dumps(_create(options.count)))
    elif options.schedule:
        with _scheduler():
            print(json.dumps(_starts(options.count)))
    else:
        print(json.dumps(_starts(options.count)))


def _create(count: int) -> float:
    tasks = binary_tree(count)
    started = time.perf_counter()
    create_group(tasks=tasks)
    return time.perf_counter() - started


def _starts(count: int) -> list[float]:
    """From the moment that a create has returned to that at which the worker has the call.

    0 for a call that was there before. The first ones, while everything warms up, do not count.
    """
    group = create_group(name="starts")
    return [_start(group.pk) for _ in range(count + 10)][10:]


def _start(group_id: str) -> float:
    (task_id,) = create_tasks(group_id, [{"worker": "stamp"}])
    created = time.monotonic()
    answer = _answer(task_id, created + LONGEST)
    # Idle is when the scheduler rests, and not always in step with us.
    time.sleep(random.uniform(0.03, 0.08))
    return max(0.0, answer["at"] - created)


def _answer(task_id: str, deadline: float) -> dict[str, float]:
    while time.monotonic() < deadline:
        output = Task.objects.filter(pk=task_id, is_complete=True).values_list("output", flat=True)
        for answer in output:
            return answer
        time.sleep(0.005)
    raise SystemExit(f"task {task_id} was not complete within {LONGEST} s")


@contextmanager
def _scheduler() -> Iterator[None]:
    scheduler = Scheduler(slots=10)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    try:
        yield
    finally:
        scheduler.stop()
        thread.join()


if __name__ == "__main__":
    main()

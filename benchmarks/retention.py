"""Whether retention keeps up with the work, beside it.

    python -m benchmarks.retention                     140 tasks a second in groups of 20, a minute
    python -m benchmarks.retention --rate 500 --backlog 2000 --schedulers 3 --sqlite

Finished groups come in at that rate, on top of a backlog. Each scheduler
clears away as `tasks.upkeep.chores` does it beside a scheduler that always has tasks to claim.
Every five seconds: how many groups are there, and how many should be (those of the last second).
"""

import argparse
import sys
import threading
import time

from .growth import EMPTY, stores

SETTLES = 0.5  # seconds after which a scheduler looks again; a real one rests a minute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retention")
    parser.add_argument("--rate", type=int, default=140, help="tasks a second (140)")
    parser.add_argument("--of-each", type=int, default=20, help="tasks in a group (20)")
    parser.add_argument("--backlog", type=int, default=2_000, help="groups at the start (2,000)")
    parser.add_argument("--schedulers", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--sqlite", action="store_true")
    options = parser.parse_args()
    with stores("sqlite" if options.sqlite else "postgresql") as open_:
        store = open_(EMPTY)
        left = store.call(
            keep_up,
            options.rate // options.of_each,
            options.of_each,
            options.backlog,
            options.schedulers,
            options.seconds,
        )
        store.close()
    return 1 if left > 2 * options.rate // options.of_each else 0


def keep_up(rate: int, of_each: int, backlog: int, schedulers: int, seconds: int) -> int:
    """In the process of the store; returns how many groups are left."""
    from django.conf import settings

    from tasks.models import TaskGroup

    from .growth_store import add_finished

    settings.CREW_KEEP_DAYS = 0
    add_finished(0, backlog, of_each)
    stop = threading.Event()
    keepers = [threading.Thread(target=_keep, args=(stop,)) for _ in range(schedulers)]
    started = time.monotonic()
    for keeper in keepers:
        keeper.start()
    try:
        made = 0
        for second in range(1, seconds + 1):
            add_finished(backlog + made, rate, of_each)
            made += rate
            time.sleep(max(0.0, started + second - time.monotonic()))
            if second % 5 == 0:
                now = time.monotonic() - started
                print(f"{now:5.0f} s: {TaskGroup.objects.count():6} groups, {rate} expected")
                sys.stdout.flush()
    finally:
        stop.set()
        for keeper in keepers:
            keeper.join()
    return TaskGroup.objects.count()


def _keep(stop: threading.Event) -> None:
    from django.db import connection

    from tasks.upkeep import chores

    chores.EVERY = SETTLES
    kept = chores.Chores(stop, is_busy=lambda: True)
    while not stop.wait(kept.seconds()):
        for work in kept.works():
            work()
    connection.close()


if __name__ == "__main__":
    sys.exit(main())

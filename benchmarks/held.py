"""What workgroups that are held cost all others: `python -m benchmarks.held`.

Each has a task that waits; beside them one scheduler runs independent tasks, and then a chain. On
the database of DATABASE_URL, which should be empty (or `python -m tests.servers run -- …`).
"""

import argparse
import os
import tempfile

from . import growth_store
from .stage import sink

CHAIN = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held", type=int, nargs="+", default=[0, 1_000, 10_000])
    parser.add_argument("--tasks", type=int, default=10_000)
    chosen = parser.parse_args()
    with sink() as worker, tempfile.TemporaryDirectory() as folder:
        url = os.environ.get("DATABASE_URL") or f"sqlite:///{folder}/db.sqlite3"
        growth_store.open_store(url, worker.base)
        print("held workgroups, tasks a second, us of scheduler and database a task, ms a hop")
        for held in chosen.held:
            print(held, *measure(held, chosen.tasks), flush=True)


def measure(held: int, tasks: int) -> list[float | None]:
    growth_store.empty()
    hold(held)
    growth_store.tidy()
    growth_store.measure(min(tasks, 500))  # warm
    many = growth_store.measure(tasks)
    chain = growth_store.measure_chain(CHAIN)
    database = many.database_cpu and round(1e6 * many.database_cpu)
    return [
        round(tasks / many.seconds),
        round(1e6 * many.scheduler_cpu),
        database,
        round(1_000 * chain / CHAIN, 2),
    ]


def hold(count: int) -> None:
    """So many workgroups, held for an hour, half of them before and half behind the worker."""
    from datetime import timedelta

    from django.utils import timezone

    from tasks import create
    from tasks.models import TaskGroup, Workgroup

    until = timezone.now() + timedelta(hours=1)
    names = [f"held-{n:05}" for n in range(count)]
    Workgroup.objects.all().delete()
    Workgroup.objects.bulk_create(Workgroup(name=name, held_until=until) for name in names)
    TaskGroup.objects.get_or_create(pk="held")
    some = [{"worker": "az"[n % 2], "workgroup": name} for n, name in enumerate(names)]
    if some:
        create.create_tasks("held", some)


if __name__ == "__main__":
    main()

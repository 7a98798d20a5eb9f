"""Real schedulers, killed or stopped at exactly one point of a turn; another one goes on."""

import os
import signal
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from tasks import create, heart
from tasks.models import Attempt, ParentEdge, SchedulerProcess, Task
from tasks.scheduler import Scheduler

from .processes import scheduler, sink, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

# Another process sees a death within 1.1 seconds.
SOON = {"CREW_LEASE_SECONDS": "1", "CREW_SWEEP_SECONDS": "0.1"}

# What became of attempt 1, and which attempts were POSTed.
KILLED = {
    "after_select": ([(1, "completed")], [1]),
    "after_claim": ([(1, "abandoned"), (2, "completed")], [2]),
    "after_send": ([(1, "abandoned"), (2, "completed")], [1, 2]),
    "after_answer": ([(1, "abandoned"), (2, "completed")], [1, 2]),
    "mid_settle": ([(1, "abandoned"), (2, "completed")], [1, 2]),
    "before_commit": ([(1, "abandoned"), (2, "completed")], [1, 2]),
    "after_commit": ([(1, "completed")], [1]),
    "after_publish": ([(1, "completed")], [1]),
}


def go_on() -> None:
    """Be the other scheduler, a lease later."""
    SchedulerProcess.objects.update(beat_at=Now() - timedelta(days=1))
    heart.sweep_once()
    Scheduler(once=True).run()


def all_complete() -> bool:
    return not Task.objects.incomplete().exists()


def attempts(id_: str) -> list[tuple[int, str]]:
    return list(
        Attempt.objects.filter(task=id_).order_by("number").values_list("number", "outcome")
    )


@pytest.mark.parametrize("point", KILLED)
def test_f1_f28_a_scheduler_dies_at_a_point_and_nothing_is_lost_or_done_twice(
    tmp_path, settings, point
):
    # With one that joins them 1,000: the most that one answer may bring.
    children = 999 if point == "before_commit" else 3
    create.create_group(
        tasks=[
            {"id": "t", "worker": "fan", "key": "k", "input": {"children": children}},
            {"id": "twin", "worker": "fan", "key": "k", "runAfter": "2090-01-01T00:00:00Z"},
            {"id": "after", "worker": "noop", "parentIds": ["t", "twin"]},
        ]
    )
    ended, posted = KILLED[point]

    with sink(tmp_path) as worker:
        if point == "after_send":
            die_when_called(tmp_path, worker)
        else:
            with scheduler(worker.url, CREW_FAILPOINTS=f"{point}=kill") as first:
                assert first.wait(30) == -signal.SIGKILL
        settings.CREW_WORKER_BASE_URL = worker.url
        go_on()

    calls = worker.calls()
    assert len(calls) == len(set(calls))
    assert [attempt for id_, attempt in calls if id_ == "t"] == posted
    assert attempts("t") == ended
    assert attempts("twin") == []
    assert Task.objects.filter(created_by="t").count() == children + 1
    assert ParentEdge.objects.filter(parent="t").count() == children + 2
    assert {id_ for id_, _ in calls} == set(Task.objects.values_list("id", flat=True)) - {"twin"}
    assert all_complete()
    call_command("crewcheck")


def die_when_called(folder, worker) -> None:
    """At `after_send` only the deliverer goes on: die when the call has arrived."""
    fifo = folder / "gate"
    os.mkfifo(fifo)
    with scheduler(worker.url, CREW_FAILPOINTS=f"after_send=wait:{fifo}") as first, fifo.open("wb"):
        wait_until(lambda: worker.stats()["calls"] == 1)
        first.kill()
        first.wait(10)

"""Real schedulers, killed or stopped at exactly one point of a turn; another one goes on."""

import os
import signal
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from tasks import create
from tasks.engine import rescue, shared_outcomes
from tasks.engine.scheduler import Scheduler
from tasks.models import Attempt, ParentEdge, SchedulerProcess, SharedOutput, Task

from .factories import claim_one, make_due, make_task, row
from .processes import scheduler, sink, wait_until
from .stub_worker import Barrier, StubWorker
from .test_rescue import die

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
    rescue.sweep_once()
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


@pytest.mark.parametrize("point", ["mid_settle", "before_commit", "after_commit"])
def test_a_long_output_is_shared_by_all_or_by_none(tmp_path, settings, monkeypatch, point):
    monkeypatch.setattr(shared_outcomes, "shares_from", 0.0)
    twin = {"worker": "echo", "key": "k", "runAfter": "2090-01-01T00:00:00Z"}
    create.create_group(
        tasks=[
            {"id": "t", "worker": "echo", "key": "k", "input": "x" * 200_000},
            *(twin | {"id": f"d{n}"} for n in range(30)),
            *({"id": f"a{n}", "worker": "noop", "parentIds": [f"d{n}"]} for n in range(30)),
        ]
    )
    twins = Task.objects.filter(id__startswith="d")

    with sink(tmp_path) as worker:
        with scheduler(worker.url, CREW_FAILPOINTS=f"{point}=kill") as process:
            assert process.wait(30) == -signal.SIGKILL
        done = twins.filter(is_complete=True).count()
        settings.CREW_WORKER_BASE_URL = worker.url
        go_on()

    assert done == (30 if point == "after_commit" else 0)
    assert all_complete()
    assert SharedOutput.objects.count() == 1
    assert {row.output["input"] for row in twins} == {"x" * 200_000}
    call_command("crewcheck")


def die_when_called(folder, worker) -> None:
    """At `after_send` only the deliverer goes on: die when the call has arrived."""
    fifo = folder / "gate"
    os.mkfifo(fifo)
    with scheduler(worker.url, CREW_FAILPOINTS=f"after_send=wait:{fifo}") as first, fifo.open("wb"):
        wait_until(lambda: worker.stats()["calls"] == 1)
        first.kill()
        first.wait(10)


@pytest.mark.postgres
@pytest.mark.parametrize("point", ["after_send", "mid_settle"])
def test_f2_a_scheduler_that_stood_still_past_its_lease_changes_nothing_more(tmp_path, point):
    """While a call runs; and in the middle of a settle, whose locks must not hold the rescue."""
    make_task(id="t")
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    held = {"CREW_FAILPOINTS": f"{point}=wait:{fifo}"}

    with StubWorker(Barrier()) as worker, scheduler(worker.url, **SOON, **held) as frozen:
        calls = worker.behaviour
        if point == "mid_settle":
            calls.call(1).release({"output": "first"})
        with fifo.open("wb"):
            first = calls.call(1)
            frozen.send_signal(signal.SIGSTOP)
        with scheduler(worker.url, **SOON) as other:
            calls.call(2).release({"output": "second"})
            wait_until(lambda: attempts("t") == [(1, "abandoned"), (2, "completed")])
            after = row(Task(pk="t"))
            first.release({"output": "first"})
            frozen.send_signal(signal.SIGCONT)
            wait_until(lambda: Attempt.objects.get(number=1).late_at is not None)
            other.kill()
        make_task(id="next")
        calls.call(3).release({"output": "third"})
        wait_until(all_complete)
        frozen.terminate()
        said = frozen.stderr.read()

    assert row(Task(pk="t")) == after
    assert attempts("t") == [(1, "abandoned"), (2, "completed")]
    assert "Traceback" not in said
    assert said.count("WARNING") + said.count("ERROR") < 10


def test_f13_a_task_that_kills_its_schedulers_is_given_up_and_the_others_go_on(tmp_path, settings):
    # A second is time for many of the others; who is lost with it is tried again.
    poison = {"id": "poison", "worker": "sleep", "input": {"seconds": 1}, "remainingAttempts": 9}
    create.create_group(tasks=[poison, *({"worker": "noop"} for _ in range(500))])
    deadly = {"CREW_DELIVERER": "tests.poison.PoisonedDeliverer"}

    with sink(tmp_path) as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        for _ in range(3):
            with scheduler(worker.url, **SOON, **deadly) as process:
                assert process.wait(30) == -signal.SIGKILL
        go_on()
        make_due()  # those that were lost twice
        go_on()

    row = Task.objects.get(pk="poison")
    assert Task.objects.filter(is_complete=True).count() == 500
    assert attempts("poison") == [(1, "abandoned"), (2, "abandoned"), (3, "abandoned")]
    assert (row.remaining_attempts, len(row.errors)) == (0, 3)
    calls = worker.calls()
    assert len(calls) == len(set(calls))


@pytest.mark.postgres
def test_f26_a_sweep_that_dies_is_done_by_another(tmp_path):
    make_task(id="t", worker="noop")
    claim_one("dead")
    die("dead", seconds=3_600)

    with sink(tmp_path) as worker:
        with scheduler(worker.url, **SOON, CREW_FAILPOINTS="after_lost=kill") as sweeper:
            assert sweeper.wait(30) == -signal.SIGKILL
        assert Task.objects.get().leased_by == "dead"
        with scheduler(worker.url, **SOON):
            wait_until(all_complete)

    assert attempts("t") == [(1, "abandoned"), (2, "completed")]

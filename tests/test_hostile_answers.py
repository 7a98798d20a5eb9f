"""Answers that are meant to hurt, all at once, against a real scheduler process: F14 and F15."""

import json

import pytest

from tasks import create
from tasks.models import Attempt, SchedulerProcess, Task

from . import stub_worker
from .processes import peak_memory, scheduler, sink, wait_until
from .stub_worker import StubWorker, answer, raw

pytestmark = pytest.mark.django_db(transaction=True)

MEGABYTE = 1024 * 1024
MOST_MEMORY = 200 * MEGABYTE
MOST_GROWTH = 64 * MEGABYTE
TIMED_OUT = "no complete answer within 4 s"
TOO_LARGE = f"answer larger than {MEGABYTE} bytes"

# What the worker of this name answers, and the error that its task has then.
HOSTILE = {
    "endless": (stub_worker.endless_body, TOO_LARGE),
    "declared": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n{"), TOO_LARGE),
    "bomb": (stub_worker.gzip_bomb, TOO_LARGE),
    "headers": (stub_worker.endless_headers, "not answer in HTTP"),
    "million": (stub_worker.million_headers, "not answer in HTTP"),
    "line": (stub_worker.endless_header_line, "not answer in HTTP"),
    "drip": (stub_worker.drip_body, TIMED_OUT),
    "drip-headers": (stub_worker.drip_headers, TIMED_OUT),
    "never": (stub_worker.never, TIMED_OUT),
    "closes": (stub_worker.close_at_once, "closed the connection"),
    "resets": (stub_worker.reset, "the connection"),
    "less": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"), "broke"),
    "old": (raw(b"{}"), "not answer in HTTP"),
    "early": (stub_worker.answer_early, "413"),
}


def by_name(exchange):
    behaviour, _ = HOSTILE.get(exchange.request.path.strip("/"), (answer(), ""))
    behaviour(exchange)


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_no_answer_hurts_more_than_its_own_task(deliverer):
    bad = [
        {"id": f"{name}.{n}", "worker": name, "remainingAttempts": 1}
        for name in HOSTILE
        for n in range(4)
    ]
    good = [{"worker": "good", "errorDelayInSeconds": 0} for _ in range(40)]
    create.create_group(tasks=bad + good)

    stub_worker.gzip_bomb_bytes()  # takes a while, and is no part of what is tried
    settings = {"CREW_DELIVERER": deliverer, "CREW_DELIVERY_TIMEOUT_SECONDS": "4"}
    with StubWorker(by_name) as worker, scheduler(worker.url, **settings) as process:
        wait_until(lambda: SchedulerProcess.objects.exists())
        begun = peak_memory(process.pid)
        wait_until(lambda: not Task.objects.filter(is_complete=False, remaining_attempts__gt=0), 60)
        peak = peak_memory(process.pid)
        process.terminate()
        assert process.wait(20) == 0

    print(f"{deliverer}: {begun >> 20} MB before, at most {peak >> 20} MB")
    assert peak - begun < MOST_GROWTH
    assert {each.headers["accept-encoding"] for each in worker.requests} == {"identity"}
    assert Task.objects.filter(worker="good", is_complete=True).count() == 40
    assert Attempt.objects.exclude(worker="good").count() == len(bad)
    for name, (_, words) in HOSTILE.items():
        for task in Task.objects.filter(worker=name):
            assert words in task.errors[0], (name, task.errors)


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_answers_behind_interim_ones_are_their_own_tasks(deliverer):
    """On connections that are kept: of two slots, and for twelve tasks."""

    def behave(exchange):
        task_id = json.loads(exchange.request.body)["taskId"]
        exchange.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        exchange.stopping.wait(0.1)
        exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        answer(body=json.dumps({"output": task_id}).encode())(exchange)

    create.create_group(tasks=[{"id": f"t{n}", "worker": "w"} for n in range(12)])

    settings = {"CREW_DELIVERER": deliverer, "CREW_SLOTS": "2"}
    with StubWorker(behave) as worker, scheduler(worker.url, **settings):
        wait_until(lambda: not Task.objects.filter(is_complete=False), 60)

    assert {task.pk: task.output for task in Task.objects.all()} == {
        f"t{n}": f"t{n}" for n in range(12)
    }
    assert len(worker.requests) == 12
    assert worker.connections <= 2


def test_parents_that_are_too_much_for_memory_are_refused_in_words(tmp_path):
    """F15: 2,000 parents with 100 kB each."""
    group = create.create_group(tasks=[{"id": f"p{n}", "isComplete": True} for n in range(2_000)])
    create.create_tasks(
        group.pk,
        [
            {
                "id": "child",
                "worker": "noop",
                "parentIds": [f"p{n}" for n in range(2_000)],
                "remainingAttempts": 1,
            }
        ],
    )
    Task.objects.exclude(pk="child").update(output="x" * 100_000)

    with sink(tmp_path) as worker, scheduler(worker.url) as process:
        wait_until(lambda: Task.objects.get(pk="child").errors != [], 60)
        peak = peak_memory(process.pid)

    child = Task.objects.get(pk="child")
    assert worker.calls() == []
    assert "not sent: the parents' inputs and outputs are more than" in child.errors[0]
    assert peak < MOST_MEMORY

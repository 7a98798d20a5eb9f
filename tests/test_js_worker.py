"""A worker as the old Crew's JavaScript SDK made them, in a real node, under a real scheduler."""

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from tasks.models import Attempt, Task, Worker

from . import npm
from .factories import make_group, wire
from .processes import scheduler, wait_until

TOKEN = "js-worker-token"
FOLDER = Path(__file__).parent / "js_worker"
SKIP = "CREW_SKIP_JS_WORKER"

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(os.environ.get(SKIP) == "1", reason=f"{SKIP}=1 was asked for"),
]


@dataclass(frozen=True)
class JSWorker:
    url: str
    log: Path

    @property
    def base(self):
        return self.url + "execute/"

    def calls(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(call["worker"], call["taskId"]) for call in map(json.loads, lines)]


@pytest.fixture(scope="session")
def node():
    return npm.node()


@pytest.fixture(scope="session")
def modules():
    return npm.modules(FOLDER)


@pytest.fixture
def worker(node, modules, tmp_path):
    with running(node, modules, tmp_path / "calls.log") as worker:
        yield worker


@contextmanager
def running(node, modules, log):
    process = subprocess.Popen(
        [node, FOLDER / "worker.js"],
        env={
            "PATH": os.environ["PATH"],
            "NODE_ENV": "test",
            "NODE_PATH": str(modules),
            "CREW_WORKER_PORT": "0",
            "CREW_WORKER_AUTH_TOKEN": TOKEN,
            "CREW_WORKER_LOG": str(log),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        first = process.stdout.readline()
        assert first.startswith("listening on "), f"node did not start: {first!r}"
        yield JSWorker(first.split()[-1], log)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def run_until_complete(worker, **env):
    with scheduler(worker.base, CREW_WORKER_AUTHORIZATION_HEADER=f"Bearer {TOKEN}", **env):
        wait_until(lambda: not Task.objects.filter(is_complete=False).exists())


def run_once(worker, authorization):
    """For what ends in failure."""
    with scheduler(
        worker.base, "--once", CREW_WORKER_AUTHORIZATION_HEADER=authorization
    ) as process:
        assert process.wait(30) == 0


def errors():
    return {task.pk: task.errors for task in Task.objects.all()}


def test_it_serves_the_sdks_routes(worker):
    listed = requests.get(worker.url, timeout=5)
    health = [requests.get(worker.url + path, timeout=5) for path in ("healthcheck", "readycheck")]
    refused = requests.post(worker.base + "worker-b", json={"input": {"seconds": 0}}, timeout=5)
    let_in = [
        requests.post(worker.base + "worker-b", timeout=5, **how)
        for how in (
            {"json": {"input": {"seconds": 0}}, "params": {"accessToken": TOKEN}},
            {"json": {"input": {"seconds": 0}, "accessToken": TOKEN}},
            {"json": {"input": {"seconds": 0}}, "headers": {"Authorization": f"Bearer {TOKEN}"}},
        )
    ]

    assert listed.json()[:3] == ["worker-a", "worker-b", "worker-c"]
    assert [reply.status_code for reply in health] == [200, 200]
    assert (refused.status_code, refused.json()) == (401, {"error": "Access token is invalid!"})
    assert [reply.status_code for reply in let_in] == [200] * 3


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_a_graph_runs_on_it_and_hands_outputs_on(worker, deliverer):
    make_group(
        tasks=[
            wire(id="b", worker="worker-b", input={"seconds": 0}, parent_ids=["a"]),
            wire(id="a", worker="worker-a", input={"seconds": 0, "n": 2**53 - 1}),
        ]
    )

    run_until_complete(worker, CREW_DELIVERER=deliverer)

    output = Task.objects.get(pk="b").output
    assert worker.calls() == [("worker-a", "a"), ("worker-b", "b")]
    assert output["message"] == "Worker B did it!"
    assert output["parents"] == [
        {
            "taskId": "a",
            "worker": "worker-a",
            "input": {"seconds": 0, "n": 2**53 - 1},
            "output": {"message": "Worker A did it!", "parents": []},
        }
    ]


def test_worker_c_delays_its_children_and_one_call_serves_both(worker):
    delay = 1.5
    make_group(
        tasks=[wire(id="c", worker="worker-c", input={"seconds": 0, "childrenDelay": delay})]
    )

    run_until_complete(worker)

    children = list(Task.objects.exclude(pk="c").order_by("name"))
    assert [child.name for child in children] == ["Child A", "Child B"]
    assert [name for name, _ in worker.calls()] == ["worker-c", "worker-a"]
    assert children[0].output == children[1].output
    assert children[0].output["message"] == "Worker A did it!"
    made, done = Attempt.objects.order_by("started_at")
    assert done.started_at - made.finished_at >= timedelta(seconds=delay - 0.01)


def test_what_it_throws_comes_with_status_200_and_is_a_failure(worker):
    make_group(
        tasks=[
            wire(id="t", worker="thrower", input={"message": "no luck"}, remaining_attempts=1),
            wire(id="after", worker="worker-a", parent_ids=["t"]),
        ]
    )

    run_once(worker, f"Bearer {TOKEN}")

    assert errors() == {"t": ["no luck"], "after": []}
    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.status) == ("failed", 200)


def test_pause_workgroup_seconds_holds_the_workgroup_and_costs_no_attempt(worker):
    pause = 1.5
    # One at a time, so that the second task meets the hold.
    Worker.objects.create(name="limited", max_concurrency=1)
    make_group(
        tasks=[
            wire(id=id_, worker="limited", workgroup="wg", input={"pause": pause}) for id_ in "ab"
        ]
    )

    run_until_complete(worker)

    held, *rest = Attempt.objects.order_by("started_at")
    assert (held.outcome, held.error) == ("held", "slow down")
    assert [attempt.outcome for attempt in rest] == ["completed", "completed"]
    for attempt in rest:
        assert attempt.started_at - held.finished_at >= timedelta(seconds=pause - 0.01)
    assert list(Task.objects.values_list("remaining_attempts", flat=True)) == [4, 4]
    assert {output for (output,) in Task.objects.values_list("output")} == {"let through"}


def test_a_wrong_token_is_a_failure_in_its_words(worker):
    make_group(tasks=[wire(id="t", worker="worker-a", remaining_attempts=1)])

    run_once(worker, "Bearer wrong")

    assert errors() == {"t": ["HTTP 401: Access token is invalid!"]}
    assert worker.calls() == []


def test_a_call_larger_than_express_takes_is_a_failure(worker):
    make_group(tasks=[wire(id="t", worker="worker-a", input="x" * 200_000, remaining_attempts=1)])

    run_once(worker, f"Bearer {TOKEN}")

    ((error,),) = errors().values()
    assert error.startswith("HTTP 413: ")
    assert worker.calls() == []

"""Somebody holds rows and forgets them: what needs these waits, and nothing else does."""

import json
import os
import threading
from collections import Counter
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection, transaction

from tasks import control, create
from tasks.engine import set_aside
from tasks.engine.rescue import sweep_once
from tasks.insight.explain import explain
from tasks.models import Attempt, SchedulerProcess, Task, Worker, Workgroup

from .chaos.trouble import LOCK
from .factories import claim_all, make_group, wire
from .processes import database_url, wait_until
from .stub_worker import StubWorker, answer
from .threads import running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]

LONG = 200  # links of the chain that goes on meanwhile
RESET = int(os.environ.get("CREW_RESET_TASKS", "2000"))  # tasks of the large reset; 300000 is much


@contextmanager
def forgotten(statement):
    """A transaction that somebody began with this, and left open."""
    with psycopg.connect(database_url()) as session:
        session.execute(statement)
        yield
        session.rollback()


@pytest.fixture
def worker(settings):
    with StubWorker() as stub:
        settings.CREW_WORKER_BASE_URL = stub.url
        yield stub


def replying(reply, gate=None):
    def behave(exchange):
        payload = json.loads(exchange.request.body)
        if gate and payload["taskId"].startswith("locked"):
            gate.wait(20)
        answer(200, json.dumps(reply(payload)).encode())(exchange)

    return behave


def chain(name, length):
    return [
        wire(id=f"{name}-{n}", parent_ids=[f"{name}-{n - 1}"] if n else []) for n in range(length)
    ]


def done(prefix):
    return Task.objects.filter(pk__startswith=prefix, is_complete=True).count()


LOCKS = {
    "a group renamed": "UPDATE crew_taskgroup SET name = 'x' WHERE id = 'locked'",
    "a group": "SELECT FROM crew_taskgroup WHERE id = 'locked' FOR UPDATE",
    "a task": "SELECT FROM crew_task WHERE id = 'locked-0' FOR UPDATE",
    "a child": "SELECT FROM crew_task WHERE id = 'locked-child' FOR UPDATE",
    "a worker": "SELECT FROM crew_worker WHERE name = 'limited' FOR UPDATE",
    "a workgroup": "SELECT FROM crew_workgroup WHERE name = 'shop' FOR UPDATE",
}
ANSWER = {"children": [{"worker": "worker-b"}], "workgroupDelayInSeconds": 0.01}


@pytest.mark.parametrize("lock", LOCKS)
def test_what_somebody_holds_stops_nothing_else(worker, lock):
    gate = threading.Event()
    is_first = Counter()

    def reply(payload):
        is_first[payload["taskId"]] += 1
        return ANSWER if payload["taskId"].startswith("locked-p") else {"output": 1}

    worker.behaviour = replying(reply, gate)
    Workgroup.objects.create(name="shop")
    parents = [f"locked-p{n}" for n in range(5)]
    make_group(
        id="locked",
        tasks=[
            *(wire(id=id_, workgroup="shop", worker="limited") for id_ in parents),
            wire(id="locked-0"),
            wire(id="locked-child", parent_ids=parents, worker="limited"),
        ],
    )
    make_group(id="free", tasks=chain("free", LONG))
    Worker.objects.filter(name="limited").update(max_concurrency=50)

    with running():
        wait_until(lambda: Task.objects.filter(group="locked", attempt=1).count() == 6)
        with forgotten(LOCKS[lock]):
            gate.set()
            wait_until(lambda: done("free") == LONG)
            assert done("locked") < 7
        wait_until(lambda: Task.objects.filter(group="locked", is_complete=True).count() == 12)

    assert set(Task.objects.values_list("remaining_attempts", flat=True)) == {4}
    assert set(is_first.values()) == {1}
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {"completed"}
    assert SchedulerProcess.objects.count() == 0


@pytest.mark.parametrize("slots", [4])
def test_a_locked_group_with_more_calls_than_slots_leaves_them_to_the_others(worker, slots):
    gate = threading.Event()
    worker.behaviour = replying(lambda payload: {"output": 1}, gate)
    make_group(id="locked", tasks=[wire(id=f"locked-{n}") for n in range(60)])
    make_group(id="free", tasks=chain("free", 40))

    with running(slots=slots):
        wait_until(lambda: sum(call(each).startswith("locked") for each in worker.requests) >= 2)
        with forgotten(LOCKS["a group"]):
            gate.set()
            wait_until(lambda: done("free") == 40)
            assert done("locked") == 0
        wait_until(lambda: done("locked") == 60)

    assert set(Task.objects.values_list("remaining_attempts", flat=True)) == {4}
    assert set(Counter(call(request) for request in worker.requests).values()) == {1}


def test_beside_a_large_reset_the_other_groups_go_on(worker):
    """It holds its group, and the row of each of its tasks, until all of it is written."""
    gate, is_reset, may_end = threading.Event(), threading.Event(), threading.Event()
    worker.behaviour = replying(lambda payload: {"children": [{"worker": "w"}]}, gate)
    make_group(id="locked", tasks=[wire(id=f"locked-{n}") for n in range(5)])
    waiting = [wire(is_paused=True, parent_ids=["locked-0"])] * 1_000
    for _ in range(RESET // len(waiting)):
        create.create_tasks("locked", waiting)
    make_group(id="free", tasks=chain("free", LONG))

    def reset():
        with transaction.atomic():
            control.reset_group("locked")
            is_reset.set()
            may_end.wait(60)
        connection.close()

    with running():
        wait_until(lambda: Task.objects.filter(group="locked", attempt=1).count() == 5)
        beside = threading.Thread(target=reset)
        beside.start()
        assert is_reset.wait(300)
        gate.set()
        wait_until(lambda: done("free") == LONG)
        may_end.set()
        beside.join()
        wait_until(lambda: done("locked-") == 5)

    late = Attempt.objects.filter(task__group="locked", number=1)
    assert set(late.values_list("outcome", flat=True)) == {"cancelled"}
    assert Task.objects.get(pk="locked-0").attempt == 2


def test_no_more_tasks_of_a_group_are_started_whose_answers_cannot_be_written(worker, monkeypatch):
    monkeypatch.setattr(set_aside, "CLOSED_AFTER", 0.0)
    worker.behaviour = replying(lambda payload: {"output": 1})
    make_group(id="locked", tasks=[wire(id="locked-0"), wire(id="locked-1")])
    Task.objects.filter(pk="locked-1").update(is_paused=True)

    with running() as scheduler:
        with forgotten(LOCKS["a group"]):
            wait_until(lambda: scheduler._aside.closed() == ["locked"])
            Task.objects.filter(pk="locked-1").update(is_paused=False)
            make_group(id="free", tasks=chain("free", 5))
            wait_until(lambda: done("free") == 5)
            assert Task.objects.get(pk="locked-1").attempt == 0
        wait_until(lambda: done("locked") == 2)


def test_a_lock_that_is_kept_for_long_is_named_in_the_log(worker, monkeypatch, caplog):
    monkeypatch.setattr(set_aside, "LOGGED_AFTER", 0.0)
    worker.behaviour = replying(lambda payload: {"output": 1})
    make_group(id="locked", tasks=[wire(id="locked-0")])

    with running(), forgotten(LOCKS["a group"]):
        wait_until(lambda: "locked by somebody" in caplog.text)

    said = [line for line in caplog.messages if "locked by somebody" in line]
    assert len(said) == 1
    assert said[0].startswith("Task group locked: 1 answers wait")


def test_a_table_that_is_altered_is_waited_for(worker):
    gate = threading.Event()
    worker.behaviour = replying(lambda payload: {"output": 1}, gate)
    make_group(id="locked", tasks=chain("locked", 1))
    make_group(id="free", tasks=[wire(id=f"free-{n}") for n in range(30)])

    with running() as scheduler:
        wait_until(lambda: Task.objects.filter(pk="locked-0", attempt=1).exists())
        wait_until(lambda: done("free") == 30)
        with forgotten("ALTER TABLE crew_task ADD COLUMN new_one int"):
            gate.set()
            wait_until(lambda: len(scheduler._aside) == 1)
        make_group(id="more", tasks=chain("more", 5))
        wait_until(lambda: Task.objects.filter(is_complete=True).count() == 36)

    assert set(Task.objects.values_list("remaining_attempts", flat=True)) == {4}
    assert len(worker.requests) == 36


def test_a_sweep_goes_past_what_somebody_holds():
    make_group(id="locked", tasks=[wire(id=f"locked-{n}") for n in range(3)])
    make_group(id="free", tasks=[wire(id=f"free-{n}") for n in range(3)])
    leases = claim_all("dead")
    SchedulerProcess.objects.update(beat_at="2000-01-01T00:00:00Z")

    with forgotten(LOCKS["a group"]):
        meanwhile = sweep_once()
        left = set(Task.objects.filter(leased_by="dead").values_list("group", flat=True))
    afterwards = sweep_once()

    assert (len(leases), meanwhile, left, afterwards) == (6, 3, {"locked"}, 3)
    assert not SchedulerProcess.objects.exists()


@pytest.mark.parametrize("lock", ["a group", "a group renamed"])
def test_explain_says_that_a_group_is_locked(lock):
    make_group(id="locked", tasks=[wire(id="locked-0"), wire(id="locked-1")])
    claim_all(slots=1)
    tasks = Task.objects.filter(group="locked").values_list("pk", flat=True)

    with forgotten(LOCKS[lock]):
        meanwhile = [explain(id_).gates for id_ in tasks]
    afterwards = [explain(id_).gates for id_ in tasks]

    assert [[gate.code for gate in gates] for gates in meanwhile] == [["group_locked"]] * 2
    assert afterwards == [(), ()]


def test_explain_says_that_a_task_is_locked():
    make_group(id="locked", tasks=[wire(id="locked-0"), wire(id="locked-1")])
    claim_all(slots=1)
    Task.objects.filter(leased_by=None).update(run_after="2000-01-01T00:00:00Z")

    with forgotten("SELECT FROM crew_task FOR UPDATE"):
        meanwhile = [explain(id_).gates for id_ in ("locked-0", "locked-1")]
    afterwards = [explain(id_).gates for id_ in ("locked-0", "locked-1")]

    assert [[gate.code for gate in gates] for gates in meanwhile] == [["task_locked"]] * 2
    assert afterwards == [(), ()]


def test_what_the_chaos_run_locks_is_a_group_with_running_tasks():
    make_group(id="idle", tasks=[wire(remaining_attempts=0)])
    make_group(id="locked", tasks=[wire(id="locked-0")])
    claim_all()

    with psycopg.connect(database_url()) as session:
        assert session.execute(LOCK).fetchone() == ("locked",)
        assert [gate.code for gate in explain("locked-0").gates] == ["group_locked"]


def call(request):
    return json.loads(request.body)["taskId"]

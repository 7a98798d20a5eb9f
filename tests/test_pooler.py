"""Crew behind a real PgBouncer in transaction mode, where a session belongs to everybody (F24)."""

import contextlib
import time
from collections.abc import Iterator

import pytest
from django.core.management import call_command

from tasks import create
from tasks.models import Attempt, SchedulerProcess, Task

from . import servers
from .processes import database_url, scheduler, sink, wait_until
from .web import web

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def pooled_url() -> Iterator[str]:
    """The test's database through a pooler with four sessions for all."""
    with contextlib.ExitStack() as stack:
        try:
            pooler = stack.enter_context(servers.pooler(database_url()))
        except servers.ServerError as error:
            pytest.skip(str(error))
        pooler.open_all()
        yield pooler.url


def test_web_and_schedulers_work_through_a_pooler_of_transactions(pooled_url, tmp_path):
    env = {"DATABASE_URL": pooled_url, "DATABASE_POOLED": "1", "CREW_LEASE_SECONDS": "10"}
    tree = {"worker": "tree", "input": {"depth": 4}}
    keyed = {"worker": "noop", "key": "k"}
    with (
        sink(tmp_path) as worker,
        web(**env) as served,
        scheduler(worker.url, **env) as first,
        scheduler(worker.url, **env) as second,
    ):
        tasks = [tree] * 20 + [keyed] * 5 + [{"worker": "noop"}] * 300
        served.call("POST", "/api/v1/task_groups", {"id": "g", "tasks": tasks})
        started = time.monotonic()
        wait_until(lambda: Task.objects.exists() and not open_tasks(), 60)
        print(f"{Task.objects.count()} tasks in {time.monotonic() - started:.1f} s")
        pages = [served.call("GET", f"/api/v1/task_group/g/tasks?page={n}") for n in (1, 2)]
        for process in (first, second):
            process.terminate()
            assert process.wait(20) == 0
        logged = [first.stderr.read(), second.stderr.read(), "".join(served.lines)]

    assert pages[0]["count"] == Task.objects.count() == 20 * 15 + 305
    calls = worker.calls()
    assert len(calls) == len(set(calls))
    assert not Attempt.objects.exclude(outcome="completed")
    assert SchedulerProcess.objects.count() == 0
    assert not any("Traceback" in text or "A turn failed" in text for text in logged)
    call_command("crewcheck")


def open_tasks() -> bool:
    return Task.objects.filter(is_complete=False).exists()


def test_without_being_configured_it_finds_out_and_goes_on(pooled_url, tmp_path):
    """Statements that do not stay prepared are one failed turn; no NOTIFY comes either."""
    create.create_group(tasks=[{"worker": "tree", "input": {"depth": 5}}])

    env = {"DATABASE_URL": pooled_url, "CREW_NOTIFY": "0", "CREW_LEASE_SECONDS": "10"}
    with sink(tmp_path) as worker, scheduler(worker.url, **env) as process:
        wait_until(lambda: not open_tasks(), 60)
        process.terminate()
        assert process.wait(20) == 0

    assert Task.objects.count() == 31
    calls = worker.calls()
    assert len(calls) == len(set(calls)) == 31

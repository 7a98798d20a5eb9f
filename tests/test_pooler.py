"""Crew behind a real PgBouncer in transaction mode, where a session belongs to everybody (F24)."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from tasks import create
from tasks.models import Attempt, SchedulerProcess, Task

from . import debian, servers
from .processes import scheduler, sink, wait_until
from .web import web

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

CONFIGURATION = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
auth_type = any
pool_mode = transaction
max_client_conn = 200
default_pool_size = 4
"""


@pytest.fixture
def pooled_url(tmp_path) -> Iterator[str]:
    """The test's database through a pooler with four sessions for all."""
    program = debian.pgbouncer()
    if not program:
        pytest.skip("needs pgbouncer: ./crew test installs it as root, or apt install pgbouncer")
    database = connection.settings_dict
    own_port = servers.free_port()
    file = tmp_path / "pgbouncer.ini"
    file.write_text(
        CONFIGURATION.format(
            host=database["HOST"] or "127.0.0.1",
            port=database["PORT"] or 5432,
            user=database["USER"],
            password=database["PASSWORD"],
            own_port=own_port,
        )
    )
    make_readable(file)
    # It refuses to run as root, and any other user will do.
    who = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, "-q", *who, str(file)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(own_port))
        yield f"postgres://{database['USER']}@127.0.0.1:{own_port}/{database['NAME']}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def make_readable(file: Path) -> None:
    for path in (file, *file.parents[:3]):
        path.chmod(path.stat().st_mode | 0o055)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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


def test_without_being_told_it_finds_out_and_goes_on(pooled_url, tmp_path):
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

"""The database goes away under a running scheduler and web server, and comes back.

`CREW_OUTAGE_SECONDS=600 pytest tests/test_outages.py -k stopped_is` has it away for ten minutes;
with `CREW_LEASE_SECONDS=30` and `-k hangs` it hangs under a scheduler as it is shipped.
"""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

import psycopg
import pytest

from . import servers
from .processes import ROOT, scheduler, sink, wait_until
from .proxy import Proxy
from .web import Web, web

OUTAGE = float(os.environ.get("CREW_OUTAGE_SECONDS", "3"))
TASKS = 100
WORKS = {"crew_beat_loop": 1, "crew_listen_loop": 1, "crew_sweep_loop": 3, "crew_prune_loop": 7}
LEASE = os.environ.get("CREW_LEASE_SECONDS", "3")
OTHERS = "others"
RESUMES_WITHIN = 10.0

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240 + OUTAGE)]


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Postgres]:
    """A PostgreSQL of this file's own, with our tables, that may be stopped."""
    with servers.postgres() as server:
        if server.pid is None:
            pytest.skip("TEST_DATABASE_URL names a server that tests may not stop")
        manage(server.url, "migrate", "-v", "0")
        yield server


class Site:
    """A web server, a scheduler and a worker on one database, with work under way."""

    def __init__(self, served: Web, process: subprocess.Popen, worker: object) -> None:
        self.web = served
        self.process = process
        self.worker = worker
        self.groups: list[str] = []
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        self.lines.extend(self.process.stderr)

    def said(self, text: str) -> list[str]:
        return [line for line in list(self.lines) if text in line]

    def begin(self) -> None:
        """A group of short tasks, of which some are done and most are not."""
        work = {"worker": "sleep", "input": {"seconds": 0.1}}
        made = self.web.call("POST", "/api/v1/task_groups", {"tasks": [work] * TASKS})
        self.groups.append(made["id"])
        wait_until(lambda: self.done(made["id"]) > 0.1)

    def done(self, group: str) -> float:
        return self.web.call("GET", f"/api/v1/task_group/{group}/progress")["completedPercent"]

    def tasks(self, group: str) -> list[dict[str, Any]]:
        # The database is that of other tests too, which leave work undone.
        path = f"/api/v1/task_group/{group}/tasks?page=1&pageSize={TASKS}"
        tasks: list[dict[str, Any]] = self.web.call("GET", path)["tasks"]
        return tasks

    def status(self, path: str) -> int:
        try:
            with build_opener(ProxyHandler({})).open(self.web.url + path, timeout=20) as answer:
                return answer.status
        except HTTPError as error:
            error.close()
            return error.code

    def refusal(self, method: str, path: str, body: object = None) -> HTTPError:
        with pytest.raises(HTTPError) as caught:
            self.web.call(method, path, body)
        caught.value.close()
        return caught.value

    def resumes(self) -> float:
        """Seconds until the server is ready, and a task created now has completed."""
        started = time.monotonic()
        wait_until(lambda: self.status("/healthz/ready") == 200, RESUMES_WITHIN)
        probe = {"id": f"probe-{uuid4()}", "worker": "noop", "priority": 10}
        self.web.call("POST", "/api/v1/task_groups", {"tasks": [probe]})
        path = f"/api/v1/task/{probe['id']}"
        wait_until(lambda: self.web.call("GET", path)["isComplete"], RESUMES_WITHIN)
        return time.monotonic() - started

    def ends(self, *, calls_of_each: int | None) -> None:
        """Everything completes, no (task, attempt) went out twice, and nothing is broken."""
        wait_until(lambda: all(self.done(group) == 1 for group in self.groups), 60)
        self.process.terminate()
        assert self.process.wait(20) == 0
        ours = {task["id"] for group in self.groups for task in self.tasks(group)}
        calls = [call for call in self.worker.calls() if call[0] in ours]
        assert len(calls) == len(set(calls))
        if calls_of_each is not None:
            assert len(calls) == TASKS * len(self.groups) * calls_of_each
        assert "Traceback" not in "".join(self.lines)
        assert self.web.errors() == ""


@contextlib.contextmanager
def site(url: str, tmp_path, **env: str) -> Iterator[Site]:
    env = {"DATABASE_URL": url, "CREW_LEASE_SECONDS": "30"} | env
    with (
        sink(tmp_path) as worker,
        web(**env) as served,
        scheduler(worker.url, "--slots", "8", **env) as process,
    ):
        yield Site(served, process, worker)


def manage(url: str, *args: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *args],
        env=os.environ | {"DATABASE_URL": url, "DEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_database_that_was_stopped_is_waited_for(server, tmp_path):
    """F7: away for longer than the lease; nobody gives up, and the log does not fill."""
    with site(server.url, tmp_path, CREW_LEASE_SECONDS="2") as crew:
        crew.begin()
        server.stop()
        try:
            stopped = time.monotonic()
            wait_until(lambda: crew.said("A turn failed"))
            wait_until(lambda: crew.said("No heartbeat for too long"))
            assert crew.status("/healthz") == 200
            assert crew.status("/healthz/ready") == 503
            refused = crew.refusal("POST", "/api/v1/task_groups", {"name": "not now"})
            assert (refused.code, refused.headers["Retry-After"]) == (503, "1")
            assert crew.status("/admin/login/?next=/admin/") in (200, 503)
            threading.Event().wait(max(0.0, stopped + OUTAGE - time.monotonic()))
            lines = len(crew.lines)
        finally:
            server.start()
        seconds = crew.resumes()
        print(f"resumed {seconds:.1f} s after {OUTAGE:g} s without the database; {lines} lines")
        crew.ends(calls_of_each=None)

        assert len(crew.said("A turn failed")) == 1
        assert len(crew.said("Turns work again")) == 1
        lines = "".join(crew.said("trying again"))
        again = Counter(re.findall(r"(crew_\w+): .*; trying again", lines))
        assert all(times <= WORKS[loop] for loop, times in again.items()), again
    manage(server.url, "crewcheck")


def test_what_ends_within_the_lease_costs_no_attempt(server, tmp_path):
    """F7: crashes, all connections ended, read-only as after a fail-over to a standby.

    What was under way is settled afterwards, as if nothing had been.
    """
    with site(server.url, tmp_path) as crew:
        crew.begin()
        server.restart("immediate")
        assert crew.resumes() < RESUMES_WITHIN
        server.restart("immediate")
        end_connections(server)
        assert crew.resumes() < RESUMES_WITHIN
        end_connections(server)
        assert crew.resumes() < RESUMES_WITHIN

        crew.begin()
        turns_failed = len(crew.said("A turn failed"))
        read_only(server, "on")
        try:
            wait_until(lambda: len(crew.said("A turn failed")) > turns_failed)
            assert crew.status("/healthz/ready") == 200
            refused = crew.refusal("POST", "/api/v1/task_groups", {"name": "not now"})
            assert (refused.code, refused.headers["Retry-After"]) == (503, "1")
        finally:
            read_only(server, "off")
        assert crew.resumes() < RESUMES_WITHIN

        crew.ends(calls_of_each=1)
        assert len(crew.said("A turn failed")) == turns_failed + 1
    manage(server.url, "crewcheck")


def end_connections(server: servers.Postgres) -> None:
    with psycopg.connect(server.url, autocommit=True) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def read_only(server: servers.Postgres, word: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as session:
        session.execute(f"ALTER SYSTEM SET default_transaction_read_only = {word}")
        session.execute("SELECT pg_reload_conf()")


def test_a_database_that_hangs_is_noticed_and_given_up(server, tmp_path):
    """F8: it is reachable, takes everything and answers nothing. Limits are by the lease."""
    with Proxy(("127.0.0.1", server.port)) as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        with site(url, tmp_path, CREW_LEASE_SECONDS=LEASE) as crew:
            crew.begin()
            proxy.hold()
            held = time.monotonic()
            # A statement has half of the lease, then a connection is tried for 5 s.
            most = 15 + float(LEASE)
            wait_until(lambda: crew.said("A turn failed") and crew.said("No heartbeat"), most)
            print(f"noticed {time.monotonic() - held:.1f} s after it began to hang")
            assert crew.status("/healthz") == 200
            assert crew.status("/healthz/ready") == 503
            proxy.release()
            assert crew.resumes() < RESUMES_WITHIN
            crew.ends(calls_of_each=None)
    manage(server.url, "crewcheck")


def all_are_taken(room: psycopg.Connection) -> bool:
    """Whether all connections are those of others. Ends those of ours that rest.

    One that does something is left to finish it: a COMMIT that is cut in two is another
    failure than the one that is tried here. What is ended gives its place back a little later,
    to whoever is first.
    """
    room.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle'"
        " AND backend_type = 'client backend' AND application_name <> %s",
        [OTHERS],
    )
    found = room.execute(
        "SELECT count(*) >= current_setting('max_connections')::int FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND application_name = %s",
        [OTHERS],
    ).fetchone()
    return found is not None and found[0]


def test_a_database_without_room_for_connections_is_waited_for(server, tmp_path):
    """F34: others have taken every connection there is."""
    with site(server.url, tmp_path) as crew, contextlib.ExitStack() as others:
        crew.begin()
        room = psycopg.connect(server.url, autocommit=True, application_name=OTHERS)
        others.callback(room.close)
        deadline = time.monotonic() + 30
        while not (all_are_taken(room) and crew.said("A turn failed")):
            assert time.monotonic() < deadline
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    taken = psycopg.connect(server.url, application_name=OTHERS)
                    others.enter_context(taken)
        refused = crew.refusal("GET", "/api/v1/task_groups")
        assert (refused.code, refused.headers["Retry-After"]) == (503, "1")
        assert crew.status("/healthz/ready") == 503
        others.close()
        assert crew.resumes() < RESUMES_WITHIN
        crew.ends(calls_of_each=1)


def test_a_scheduler_does_not_start_without_its_database_and_says_so(server, tmp_path):
    url = server.url.replace(str(server.port), str(servers.free_port()))

    with scheduler("http://127.0.0.1:1/", DATABASE_URL=url) as process:
        assert process.wait(30) == 1
        lines = process.stderr.read().splitlines()

    assert len(lines) <= 3
    assert "The database cannot be used" in lines[0]


def test_a_scheduler_that_is_asked_to_stop_without_its_database_stops(server, tmp_path):
    """F22 during F7: what it could not settle is left to the lease."""
    with site(server.url, tmp_path, CREW_DRAIN_SECONDS="1") as crew:
        crew.begin()
        server.stop("immediate")
        try:
            wait_until(lambda: crew.said("A turn failed"))
            crew.process.terminate()
            assert crew.process.wait(15) == 0
        finally:
            server.start()
        assert "Traceback" not in "".join(crew.lines)

"""PostgreSQL on a disk that is full (F21), under a running scheduler and web server."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from . import small_disks
from .processes import scheduler, wait_until
from .small_disks import LOG, TABLES
from .stub_worker import Exchange, StubWorker, answer
from .test_outages import Site, manage
from .web import web

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240)]

GROUPS = "/api/v1/task_groups"
SLOTS = 6
CALLS_IN_FLIGHT = 5  # no worker gets the last slot
LARGE = 2_000  # tasks, of a megabyte and more


class Worker(StubWorker):
    """Its answers are large, and wait for `may_answer`."""

    def __init__(self) -> None:
        super().__init__(self._reply)
        self.may_answer = threading.Event()
        # What cannot be compressed takes all that room in the table.
        output = base64.b64encode(os.urandom(150_000))
        self._large = answer(body=b'{"output":"' + output + b'"}')

    def _reply(self, exchange: Exchange) -> None:
        while not exchange.stopping.is_set():
            if self.may_answer.wait(0.05):
                return self._large(exchange)


class Crew(Site):
    """With as many calls under way as there may be, and as many tasks behind them."""

    server: small_disks.OnSmallDisks

    def begin(self) -> None:
        self.worker.may_answer.clear()
        self.worker.requests.clear()
        self.group = self.create("work", 2 * CALLS_IN_FLIGHT)
        wait_until(lambda: len(self.worker.requests) == CALLS_IN_FLIGHT)

    def create(self, name: str, count: int, **fields: object) -> str:
        tasks = [{"worker": "w", "input": "x" * 500}] * count
        return self.web.call("POST", GROUPS, {"name": name, "tasks": tasks, **fields})["id"]

    def stored(self, name: str) -> dict[str, int]:
        """How many tasks each group of this name has."""
        path = f"{GROUPS}?page=1&pageSize=500&search={quote(name)}"
        groups = self.web.call("GET", path)["taskGroups"]
        path = "/api/v1/task_group/{}/tasks?page=1&pageSize=1"
        ids = [group["id"] for group in groups]
        return {id_: self.web.call("GET", path.format(id_))["count"] for id_ in ids}

    def try_to_create(self, name: str) -> str | None:
        """The id of a large group, None when it was refused as it should be."""
        try:
            return self.create(name, LARGE, isPaused=True)
        except HTTPError as refused:
            with refused:
                assert (refused.code, refused.headers["Retry-After"]) == (503, "1")
        return None

    def create_while_it_runs(self, server: subprocess.Popen, name: str) -> set[str]:
        """The ids of the groups that were accepted."""
        tries = set()
        while server.poll() is None:
            tries.add(self.try_to_create(name))
        return tries - {None}

    def errors_of_the_server(self, text: str) -> int:
        return self.server.log.read_text(errors="replace").count(text)

    def completes(self) -> None:
        """All of the work, by one call for each task, and no rule is broken."""
        wait_until(lambda: self.done(self.group) == 1)
        calls = [request.headers["webhook-id"] for request in self.worker.requests]
        assert len(set(calls)) == len(calls) == 2 * CALLS_IN_FLIGHT
        assert self.process.poll() is None
        assert "Traceback" not in "".join(self.lines)
        assert self.web.errors() == ""
        manage(self.server.url, "crewcheck")


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    try:
        with small_disks.postgres() as server:
            manage(server.url, "migrate", "-v", "0")
            env = {"DATABASE_URL": server.url, "CREW_LEASE_SECONDS": "30"}
            with (
                Worker() as worker,
                web(**env) as served,
                scheduler(worker.url, "--slots", str(SLOTS), **env) as process,
            ):
                crew = Crew(served, process, worker)
                crew.server = server
                yield crew
    except small_disks.NoDiskError as error:
        pytest.skip(str(error))


def test_when_tables_cannot_grow_nothing_is_half_stored_and_no_answer_is_lost(crew):
    crew.begin()
    turns_failed = len(crew.said("A turn failed"))

    with crew.server.disks.full(TABLES):
        accepted = list(iter(lambda: crew.try_to_create("no room for rows"), None))
        assert crew.stored("no room for rows") == dict.fromkeys(accepted, LARGE)
        refusals = crew.errors_of_the_server("could not extend file")
        crew.worker.may_answer.set()
        wait_until(lambda: crew.errors_of_the_server("could not extend file") > refusals + 2)
        assert crew.status("/healthz/ready") == 200
        assert crew.done(crew.group) == 0
        assert len(crew.worker.requests) == CALLS_IN_FLIGHT

    crew.completes()
    assert len(crew.said("A turn failed")) == turns_failed + 1
    assert crew.said("A turn failed")[-1].rstrip().endswith("; trying again")


def test_when_the_log_cannot_grow_the_server_stops_and_is_waited_for(crew):
    """PostgreSQL ends itself, and does not start, until somebody has made room for its log."""
    crew.begin()
    turns_failed = len(crew.said("A turn failed"))
    server = crew.server.process

    with ThreadPoolExecutor(1) as client:
        with crew.server.disks.full(LOG):
            creating = client.submit(crew.create_while_it_runs, server, "no room for the log")
            wait_until(lambda: server.poll() is not None)
            assert crew.errors_of_the_server("PANIC")
            crew.worker.may_answer.set()
            wait_until(lambda: len(crew.said("A turn failed")) > turns_failed)
            assert len(crew.worker.requests) == CALLS_IN_FLIGHT
        crew.server.restart()
        accepted = creating.result(30)

    wait_until(lambda: crew.status("/healthz/ready") == 200)
    crew.completes()
    stored = crew.stored("no room for the log")
    assert accepted <= stored.keys()
    assert set(stored.values()) <= {LARGE}
    assert len(crew.said("A turn failed")) == turns_failed + 1

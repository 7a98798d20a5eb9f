"""The site behind servers that know nothing of it: they must not take all connections there are."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import psycopg
import pytest

from . import servers
from .processes import ROOT, wait_until
from .web import TOKEN

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]

MOST = 4  # connections of the web process
ALL = 16  # of the server, three of them for the superuser
CLIENTS, CALLS = 8, 10
TASKS = "/api/v1/task_group/g/tasks"
WSGI = """
import socketserver, sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from crewsite.wsgi import application
class Threads(socketserver.ThreadingMixIn, WSGIServer):
    request_queue_size = 50
make_server("127.0.0.1", int(sys.argv[1]), application, server_class=Threads).serve_forever()
"""
SITE = "crewsite.asgi:application"
COMMANDS = {
    "daphne": ["-m", "daphne", "-b", "127.0.0.1", SITE, "-p"],
    "uvicorn": ["-m", "uvicorn", "--host", "127.0.0.1", SITE, "--port"],
    "wsgi": ["-c", WSGI],
}


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Postgres]:
    """A PostgreSQL of this file's own that takes few connections."""
    with servers.postgres(connections=ALL) as server:
        if server.pid is None:
            pytest.skip("TEST_DATABASE_URL names a server of which we do not know what it takes")
        command = [sys.executable, "manage.py", "migrate", "-v", "0"]
        subprocess.run(command, cwd=ROOT, env=environment(server), check=True)
        with psycopg.connect(server.url) as connection:
            connection.execute(
                "INSERT INTO crew_taskgroup (id, name, is_paused, task_count)"
                " VALUES ('g', '', false, 0)"
            )
        yield server


def environment(server: servers.Postgres, **more: str) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": server.url,
        "DATABASE_POOLED": "0",
        "DEBUG": "1",
        "REDIS_URL": "",
        "CREW_AUTH_TOKEN": TOKEN,
        "CREW_WEB_CONNECTIONS": str(MOST),
        **more,
    }


@contextmanager
def served(server: servers.Postgres, program: str, **more: str) -> Iterator[str]:
    """The URL of the site behind this program."""
    port = servers.free_port()
    process = subprocess.Popen(
        [sys.executable, *COMMANDS[program], str(port)],
        cwd=ROOT,
        env=environment(server, **more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or status(f"{url}/healthz") == 200, 60)
        yield url
    finally:
        process.kill()
        process.wait()


def status(url: str, body: bytes | None = None) -> int:
    """Of the answer; 0 when there is none."""
    request = Request(url, data=body, headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status
    except HTTPError as error:
        return error.code
    except URLError:
        return 0


def connections(watcher: psycopg.Connection) -> int:
    """How many there are to our database, beside the one that asks."""
    (count,) = watcher.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'crew' AND pid <> pg_backend_pid()"
    ).fetchone()
    return count


@pytest.mark.parametrize("program", COMMANDS)
def test_clients_that_create_tasks_leave_connections_to_others(server, program):
    """With one kept for each thread, and a thread for each request, none was left in seconds."""
    counts, done = [], threading.Event()

    def watch() -> None:
        with psycopg.connect(server.url, autocommit=True) as watcher:
            while not done.wait(0.05):
                counts.append(connections(watcher))

    def create(_: int) -> list[int]:
        return [
            status(f"{url}/api/v1/task_group/g/tasks", b'{"worker": "w"}') for _ in range(CALLS)
        ]

    watching = threading.Thread(target=watch)
    account = {"CREW_AUTH_USERNAME": program, "CREW_AUTH_PASSWORD": "of a test, and no other"}
    with (
        served(server, program, **account) as url,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        watching.start()
        try:
            answers = [each for some in clients.map(create, range(CLIENTS)) for each in some]
        finally:
            done.set()
            watching.join()

    assert set(answers) == {200}
    assert 0 < max(counts) <= MOST
    with psycopg.connect(server.url) as asking:
        made = asking.execute("SELECT is_superuser FROM auth_user WHERE username = %s", [program])
        assert made.fetchall() == [(True,)]


def test_who_finds_all_connections_in_use_is_warned_and_probes_are_answered(server):
    """Their requests wait for a row that somebody locked."""
    with (
        served(server, "uvicorn", CREW_WEB_CONNECTIONS="2") as url,
        ThreadPoolExecutor(4) as clients,
        psycopg.connect(server.url) as locker,
    ):
        locker.execute("SELECT * FROM crew_taskgroup WHERE id = 'g' FOR UPDATE")
        waiting = [clients.submit(status, url + TASKS, b'{"worker": "w"}') for _ in range(3)]
        wait_until(lambda: any(each.done() for each in waiting))

        assert [each.result() for each in waiting if each.done()] == [503]
        assert status(f"{url}/healthz") == 200
        locker.rollback()
        assert sorted(each.result() for each in waiting) == [200, 200, 503]

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from . import servers

# Prints what it started and waits to be killed.
HOLDER = """
import sys, time
from tests import servers
with servers.postgres() as database, servers.redis() as cache:
    print(database.pid, cache.pid, database.folder, cache.folder, flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def own_server(monkeypatch):
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)


def test_postgres_comes_up_answers_and_is_gone_afterwards():
    with servers.postgres() as server:
        pid = server.pid
        answer = ask(server.url, "SELECT current_database()")

    assert answer == "crew"
    assert not is_alive(pid)
    assert not server.folder.exists()


def test_postgres_syncs_only_when_durability_is_wanted():
    with servers.postgres() as quick:
        assert ask(quick.url, "SHOW fsync") == "off"
    with servers.postgres(durability=True) as durable:
        assert ask(durable.url, "SHOW fsync") == "on"
        assert ask(durable.url, "SHOW max_connections") == "200"


def test_postgres_keeps_what_was_committed_over_an_immediate_restart():
    with servers.postgres() as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        before = server.pid

        server.restart(mode="immediate")

        assert server.pid != before
        assert not is_alive(before)
        assert ask(server.url, "SELECT answer FROM kept") == 42


def test_postgres_refuses_connections_while_stopped():
    with servers.postgres() as server:
        server.stop()

        with pytest.raises(psycopg.OperationalError):
            ask(server.url, "SELECT 1")

        server.start()
        assert ask(server.url, "SELECT 1") == 1


def test_postgres_wants_its_password():
    with servers.postgres() as server, pytest.raises(psycopg.OperationalError, match="password"):
        ask(server.url.replace(server.password, "guess"), "SELECT 1")


def test_redis_comes_up_answers_restarts_and_is_gone_afterwards():
    with servers.redis() as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("name", "value")
            assert client.get("name") == b"value"
        server.restart()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("name") is None
        pid = server.pid

    assert not is_alive(pid)
    assert not server.folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_are_gone_when_their_owner_is_killed(number):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        postgres_pid, redis_pid, *folders = owner.stdout.readline().split(maxsplit=3)
        assert is_alive(int(postgres_pid))
        assert is_alive(int(redis_pid))

        owner.send_signal(number)

        wait_until(lambda: not is_alive(int(postgres_pid)))
        wait_until(lambda: not is_alive(int(redis_pid)))
        wait_until(lambda: not any(Path(folder).exists() for folder in folders))


def test_run_gives_the_urls_and_returns_the_exit_code():
    code = "import os, sys; print(os.environ['DATABASE_URL'], os.environ['REDIS_URL']); sys.exit(7)"

    done = subprocess.run(
        [sys.executable, "-m", "tests.servers", "run", "--", sys.executable, "-c", code],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 7
    assert done.stdout.startswith("postgresql://crew:")
    assert " redis://" in done.stdout


def test_a_given_server_is_used_and_never_stopped(monkeypatch):
    monkeypatch.setenv("TEST_DATABASE_URL", "postgresql://somewhere/else")

    with servers.postgres() as server:
        assert server.url == "postgresql://somewhere/else"
        with pytest.raises(servers.ServerError):
            server.restart()


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, connect_timeout=5) as connection:
        return connection.execute(question).fetchone()[0]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # What nobody has collected yet still has an id, and does nothing.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)

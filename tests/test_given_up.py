"""What nobody waits for any more leaves neither a statement nor a lock on the server."""

import gc
import signal
import socket
import threading

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.backends.signals import connection_created

from tasks import control
from tasks.models import Task
from tasks.sql import patience, run_bounded
from tasks.store import portions
from tasks.verbs import slices

from .factories import make_group, make_task
from .processes import database_url, wait_until
from .web import TOKEN, web

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

WAITING = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND wait_event_type = 'Lock' AND query LIKE '%crew_task%'"""
SLEEP = "SELECT pg_sleep(20)"
SLEEPING = f"""SELECT count(*) FROM pg_stat_activity
    WHERE query = '{SLEEP}' AND state = 'active'"""  # noqa: S608


@pytest.fixture
def other():
    """Somebody else's connection, perhaps through a pooler, which keeps nothing prepared."""
    with psycopg.connect(database_url(), autocommit=True, prepare_threshold=None) as other:
        yield other


def count(other, asked: str) -> int:
    return other.execute(asked).fetchone()[0]


def is_free(other, group) -> bool:
    try:
        other.execute("SELECT 1 FROM crew_taskgroup WHERE id = %s FOR UPDATE NOWAIT", [group.pk])
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def ask_to_reset(served, group) -> socket.socket:
    client = socket.create_connection(served.address)
    client.sendall(
        f"POST /api/v1/task_group/{group.pk}/reset HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    return client


class After:
    """An event that is set once it was asked for so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.filterwarnings("ignore:.*ServerCursor")
def test_whenever_a_page_is_given_up_it_is_said_as_an_outage():
    """The driver closes a cursor by a round trip of its own, which Django does not look at."""
    make_task()
    ended: list[bool] = []
    for times in range(100):
        connection.close()
        connection.ensure_connection()
        try:
            with patience.until(After(times)):
                list(portions.some(Task.objects.all()))
            break
        except Exception as error:  # noqa: BLE001  whatever it is
            ended.append(patience.is_outage(error))
    connection.close()
    gc.collect()  # the driver warns of each cursor that was left open: here, and not later

    assert len(ended) > 5
    assert all(ended)


@pytest.mark.parametrize("gone", ["client", "process"])
def test_a_verb_ends_when_who_asked_for_it_is_gone(other, gone):
    """It holds the group, and waits for a task's row."""
    task = make_task()
    with web() as served, psycopg.connect(database_url()) as locker:
        locker.execute("SELECT 1 FROM crew_task WHERE id = %s FOR UPDATE", [task.pk])
        client = ask_to_reset(served, task.group)
        wait_until(lambda: count(other, WAITING) == 1)
        assert not is_free(other, task.group)

        if gone == "client":
            client.close()
        else:
            served.process.send_signal(signal.SIGKILL)

        wait_until(lambda: count(other, WAITING) == 0)
        wait_until(lambda: is_free(other, task.group))
        client.close()
        if gone == "client":  # and it serves the next one
            locker.rollback()
            assert served.call("POST", f"/api/v1/task_group/{task.group_id}/pause")


@pytest.fixture
def limited():
    connection.close()
    patience.limit(30.0, sessions=True)
    yield
    connection_created.disconnect(dispatch_uid="crew-patience")
    patience._timeouts.update(seconds=None, sessions=False)
    connection.close()


def test_a_statement_that_is_given_up_ends_on_the_server(limited, other):
    given_up = threading.Event()

    def give_up() -> None:
        wait_until(lambda: count(other, SLEEPING) == 1)
        given_up.set()

    giving_up = threading.Thread(target=give_up)
    giving_up.start()
    with (
        patience.until(given_up),
        pytest.raises(OperationalError, match="nobody waits"),
        connection.cursor() as cursor,
    ):
        cursor.execute(SLEEP)
    giving_up.join()

    wait_until(lambda: count(other, SLEEPING) == 0)
    connection.close()


def test_nothing_begins_for_whom_gave_up(limited):
    group, given_up = make_group(), threading.Event()
    given_up.set()

    with patience.until(given_up), pytest.raises(OperationalError):
        control.pause_group(group.pk)

    connection.close()
    group.refresh_from_db()
    assert group.is_paused is False


def shown(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return cursor.fetchone()[0]


def test_a_verb_has_its_limits_wherever_it_runs():
    """Also behind a pooler of transactions, where a session takes none."""
    with slices.alone(make_group().pk):
        limits = [shown("statement_timeout"), shown("idle_in_transaction_session_timeout")]
        assert limits == ["45s", "10s"]
        assert shown("client_connection_check_interval") == "1s"


def test_who_set_a_shorter_limit_keeps_it(transactional_db):
    with slices.alone(make_group().pk), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '1500ms'")
        run_bounded()
        assert shown("statement_timeout") == "1500ms"


@pytest.mark.own_session
def test_every_process_has_the_server_look_whether_it_is_there():
    connection.close()

    assert shown("client_connection_check_interval") == "1s"

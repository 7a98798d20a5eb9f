"""How long a statement is waited for, on a real PostgreSQL behind a proxy that can hang."""

import threading
import time

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.signals import connection_created

from tasks.engine import heartbeat
from tasks.sql import patience, prepared

from .processes import wait_until
from .proxy import Proxy


class ServerSays(Exception):
    def __init__(self, state: str) -> None:
        self.sqlstate = state


def caused(error: Exception, state: str) -> Exception:
    error.__cause__ = ServerSays(state)
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("the connection is lost"), True),
        (InterfaceError("the connection is closed"), True),
        (caused(OperationalError("more than jsonb takes"), "54000"), False),
        (caused(InternalError("read-only"), "25006"), True),
        (caused(InternalError("idle in transaction"), "25P03"), True),
        (caused(InternalError("a bug of the server"), "XX000"), False),
        (caused(IntegrityError("there already"), "23505"), False),
        (DatabaseError("something"), False),
        (ValueError("no database at all"), False),
    ],
)
def test_an_outage_is_distinguished_from_a_wrong_statement(error, expected):
    assert patience.is_outage(error) is expected


@pytest.fixture
def proxy():
    database = connection.settings_dict
    with Proxy((database["HOST"] or "127.0.0.1", int(database["PORT"] or 5432))) as proxy:
        yield proxy


@pytest.fixture
def limited(transactional_db, proxy):
    """A second's patience, for what connects now, and connections that go through the proxy."""

    def limited(*, sessions: bool = True):
        connection.close()
        patience.limit(1.0, sessions=sessions)
        return proxy

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connection.settings_dict, "PORT", proxy.port)
        patch.setitem(connection.settings_dict, "OPTIONS", {"connect_timeout": 2})
        yield limited
    connection_created.disconnect(dispatch_uid="crew-patience")
    patience._timeouts.update(seconds=None, sessions=False)
    connection.close()


def ask(statement: str = "SELECT 1"):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def ask_prepared():
    with prepared.prepared(), transaction.atomic():
        return prepared.run(("SELECT 1", {}), ("SELECT 2", {}))


def ask_in_a_transaction():
    with transaction.atomic():
        return ask()


@pytest.mark.postgres
@pytest.mark.parametrize("asking", [ask, ask_in_a_transaction, ask_prepared])
def test_a_server_that_answers_nothing_is_given_up_and_asked_again(limited, asking):
    proxy = limited()
    asking()
    proxy.hold()
    started = time.monotonic()

    with pytest.raises(OperationalError, match="timeout"):
        asking()

    assert 1.0 <= time.monotonic() - started < 8  # and 2 s for a new connection, where one is made
    connection.close()
    proxy.release()
    assert ask() == 1


@pytest.mark.postgres
@pytest.mark.own_session
def test_a_server_that_works_for_too_long_is_asked_to_stop(limited):
    limited()

    with pytest.raises(OperationalError, match="statement timeout"):
        ask("SELECT pg_sleep(30)")

    assert ask() == 1


@pytest.mark.postgres
@pytest.mark.own_session
def test_a_session_has_the_limits_of_its_thread(limited):
    limited()
    with patience.within(20.0):
        assert ask("SHOW statement_timeout") == "15s"
    connection.close()

    assert ask("SHOW statement_timeout") == "750ms"
    assert ask("SHOW idle_in_transaction_session_timeout") == "10s"


@pytest.mark.postgres
@pytest.mark.own_session
def test_a_transaction_that_was_left_open_is_an_outage(limited):
    limited()
    ask()
    ask("SELECT set_config('idle_in_transaction_session_timeout', '100', false)")

    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        ask()
        threading.Event().wait(0.5)  # its only signal is that the time is over
        ask()

    assert patience.is_outage(caught.value)
    connection.close()
    assert ask() == 1


@pytest.mark.postgres
def test_nothing_is_set_in_a_session_that_belongs_to_everybody(limited, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "DISABLE_SERVER_SIDE_CURSORS", True)
    limited()

    assert ask("SHOW statement_timeout") == "0"


@pytest.mark.postgres
def test_a_listener_notices_that_it_hears_nothing_any_more(limited, monkeypatch):
    monkeypatch.setattr(heartbeat, "PROBE_EVERY", 0.0)
    proxy = limited()
    listener = heartbeat.Heart("s1", slots=1, wake=threading.Event())
    failed = []

    def listen():
        try:
            listener._listen()
        except DatabaseError as error:
            failed.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    wait_until(
        lambda: ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'") or failed
    )
    proxy.hold()
    thread.join(10)

    assert len(failed) == 1

"""How long a process waits for PostgreSQL: a server that hangs is noticed like one that is away.

Three things can keep a statement forever. The server works on it or waits for a lock: then the
session's `statement_timeout` ends it. The network lost the connection: keepalives tell. The other
end takes what is sent and never answers, as a frozen host or a proxy with nothing behind it does:
only a limit on our own waiting ends that.

And a process must not keep the server: who is killed, or gives up what it asked for, leaves no
statement behind.
"""

import contextlib
import functools
import inspect
import sqlite3
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

# Seconds and, as libpq wants it, milliseconds: a peer that is gone is noticed within these.
NETWORK = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
IDLE = 10.0  # seconds in a transaction without a statement: who is frozen lets its rows go
GONE = 1.0  # seconds within which a server that works notices that its client is gone
STATEMENT = 60.0  # seconds of a statement, where a process has no limit of its own
CANCELLED_WITHIN = 1.0  # seconds that we try to tell the server to stop
# Linux tells a server that works whether its client is gone; others may refuse the very setting.
WATCH = """CASE WHEN version() LIKE '%%linux%%'
    THEN set_config('client_connection_check_interval', %(gone)s, %(is_local)s) END"""
TIMEOUTS = """, set_config('statement_timeout', %(most)s, false),
    set_config('idle_in_transaction_session_timeout', %(idle)s, false)"""
SERVER_SHARE = 0.75  # of our own waiting: the server's word comes first, as it says more


class _Here(threading.local):
    seconds: float | None = None
    given_up: threading.Event | None = None


_here = _Here()
_timeouts: dict[str, Any] = {"seconds": None, "sessions": False}


def limit(seconds: float, *, sessions: bool) -> None:
    """On PostgreSQL, let this process wait no longer than this for a statement.

    With `sessions` the server knows it too; not behind a pooler of transactions, whose sessions
    belong to everybody (DISABLE_SERVER_SIDE_CURSORS says that it is one).
    """
    database = connections.settings["default"]
    if "postgresql" not in database["ENGINE"]:
        return
    for name, value in NETWORK.items():
        database["OPTIONS"].setdefault(name, value)
    _timeouts.update(
        seconds=seconds, sessions=sessions and not database.get("DISABLE_SERVER_SIDE_CURSORS")
    )
    connection_created.connect(_greet, dispatch_uid="crew-patience")
    connections.close_all()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Another limit for this thread; the server's only for what connects in it."""
    before = _here.seconds
    _here.seconds = seconds
    try:
        yield
    finally:
        _here.seconds = before


@contextmanager
def until(given_up: threading.Event) -> Iterator[None]:
    """What this thread asks ends when the event is set, by another one: nobody waits for it."""
    _here.given_up = given_up
    try:
        yield
    finally:
        _here.given_up = None


def most() -> float:
    """Seconds that the server may work on a statement of this thread."""
    seconds = _seconds()
    return SERVER_SHARE * (STATEMENT if seconds is None else seconds)


def is_outage(error: BaseException) -> bool:
    """Whether the database is at fault, and not what it was asked: another time it may do it.

    Class 25 is what a server says that became read-only, or that ended an idle transaction; 54 is
    what was asked too large for it, which it always will be. SQLite calls operational also what it
    does not understand (SQLITE_ERROR), such as JSON that is too deep for it.
    """
    state = _state(error)
    if isinstance(error, OperationalError | InterfaceError):
        is_wrong = getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        return not state.startswith("54") and not is_wrong
    return isinstance(error, DatabaseError) and state.startswith("25")


def is_locked(error: BaseException) -> bool:
    """Whether somebody kept a lock for longer than we wait for one."""
    return _state(error) == "55P03"


def is_overload(error: BaseException) -> bool:
    """Whether the server gave up what it was asked: it took too long, or too much memory.

    Either is an outage, or the same whenever it is asked again.
    """
    return _state(error) in ("57014", "53200")


def is_refusal(error: BaseException) -> bool:
    """Whether the database does not take what it was given: a value, a constraint, a trigger."""
    state = _state(error)
    if state:
        return state.startswith(("22", "23", "54", "P0"))
    return isinstance(error, DataError | IntegrityError)


def refusal(error: BaseException) -> str:
    """What it says of that; not what stood in the row, nor where."""
    return f"the database refuses it: {str(error).partition(chr(10))[0]}"


def _state(error: BaseException) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""


def close_quietly() -> None:
    """End this thread's connections, broken or not: the next statement begins a new one."""
    with contextlib.suppress(Error):
        connections.close_all()


def greet_sessions() -> None:
    """Bound what this process waits for, as `limit` says, and let PostgreSQL look after us.

    While it works for us it sees whether we are still there. Not behind a pooler of transactions,
    whose sessions belong to everybody: verbs say it in their transactions.
    """
    connection_created.connect(_greet, dispatch_uid="crew-sessions")


def _greet(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    session = connection.connection
    if connection.vendor != "postgresql" or "wait" in vars(session):
        return
    if "timeout" in inspect.signature(type(session).wait).parameters:  # psycopg 3.3
        session.wait = functools.partial(_wait, session)
    if connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"]:
        return
    params: dict[str, str | bool] = {"gone": str(int(1_000 * GONE)), "is_local": False}
    asked = f"SELECT {WATCH}"
    if _timeouts["sessions"]:
        asked += TIMEOUTS
        params |= {"most": str(int(1_000 * most())), "idle": str(int(1_000 * IDLE))}
    with connection.cursor() as cursor:
        cursor.execute(asked, params)


def _wait(session: Any, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
    """In the place of psycopg's own `wait`. Over time the connection is given up."""
    wait = type(session).wait
    if timeout is not None:  # somebody who looks at the clock anyway
        return wait(session, gen, interval, timeout)
    given_up = _here.given_up
    if given_up is not None:
        gen = _unless_given_up(gen, given_up)
    seconds = _seconds()
    started = time.monotonic()
    try:
        return wait(session, gen, interval, seconds)
    except Exception:
        is_over = seconds is not None and time.monotonic() - started >= seconds
        if is_over or (given_up is not None and given_up.is_set()):
            _leave(session)
        raise


def _unless_given_up(gen: Any, given_up: threading.Event) -> Generator[Any, Any, Any]:
    """What psycopg waits for, as long as somebody does: it asks after each `interval`."""
    from psycopg import OperationalError  # not there where only SQLite is used

    ready = None
    with contextlib.closing(gen):
        while not given_up.is_set():
            try:
                wanted = gen.send(ready)
            except StopIteration as done:
                return done.value
            ready = yield wanted
    raise OperationalError("nobody waits for it any more")


def _leave(session: Any) -> None:
    """Give the connection up, and tell the server to stop: a pooler in between may not."""
    with contextlib.suppress(Exception):
        session.cancel_safe(timeout=CANCELLED_WITHIN)
    session.pgconn.finish()


def _seconds() -> float | None:
    return _timeouts["seconds"] if _here.seconds is None else _here.seconds

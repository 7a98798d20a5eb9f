"""How long a process waits for PostgreSQL: a server that hangs is noticed like one that is away.

Three things can keep a statement for ever. The server works on it or waits for a lock: then the
session's `statement_timeout` ends it. The network lost the connection: keepalives tell. The other
end takes what is sent and never answers, as a frozen host or a proxy with nothing behind it does:
only a limit on our own waiting ends that.
"""

import functools
import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connections
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
SERVER_SHARE = 0.75  # of our own waiting: the server's word comes first, as it says more


class _Here(threading.local):
    seconds: float | None = None


_here = _Here()
_limits: dict[str, Any] = {"seconds": None, "sessions": False}


def limit(seconds: float, *, sessions: bool) -> None:
    """On PostgreSQL, let this process wait no longer than this for a statement.

    With `sessions` the server is told too; not behind a pooler of transactions, whose sessions
    belong to everybody (DISABLE_SERVER_SIDE_CURSORS says that it is one).
    """
    database = connections.settings["default"]
    if "postgresql" not in database["ENGINE"]:
        return
    for name, value in NETWORK.items():
        database["OPTIONS"].setdefault(name, value)
    _limits.update(
        seconds=seconds, sessions=sessions and not database.get("DISABLE_SERVER_SIDE_CURSORS")
    )
    connection_created.connect(_limit_session, dispatch_uid="crew-patience")
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


def is_outage(error: BaseException) -> bool:
    """Whether the database is at fault, and not what it was asked: another time it may do it.

    Class 25 is what a server says that became read-only, or that ended an idle transaction; 54 is
    what was asked too large for it, which it always will be.
    """
    state = _state(error)
    if isinstance(error, OperationalError | InterfaceError):
        return not state.startswith("54")
    return isinstance(error, DatabaseError) and state.startswith("25")


def is_locked(error: BaseException) -> bool:
    """Whether somebody held a lock for longer than we wait for one."""
    return _state(error) == "55P03"


def is_overload(error: BaseException) -> bool:
    """Whether the server gave up what it was asked: it took too long, or too much memory.

    Either is an outage, or the same whenever it is asked again.
    """
    return _state(error) in ("57014", "53200")


def _state(error: BaseException) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""


def _limit_session(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    session = connection.connection
    if connection.vendor != "postgresql" or "wait" in vars(session):
        return
    if "timeout" in inspect.signature(type(session).wait).parameters:  # psycopg 3.3
        session.wait = functools.partial(_wait, session)
    seconds = _seconds()
    if seconds is None or not _limits["sessions"]:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, false),"
            " set_config('idle_in_transaction_session_timeout', %s, false)",
            [str(int(1_000 * seconds * SERVER_SHARE)), str(int(1_000 * IDLE))],
        )


def _wait(session: Any, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
    """In the place of psycopg's own `wait`. Over time the connection is given up."""
    wait = type(session).wait
    if timeout is not None:  # somebody who looks at the clock anyway
        return wait(session, gen, interval, timeout)
    seconds = _seconds()
    started = time.monotonic()
    try:
        return wait(session, gen, interval, seconds)
    except Exception:
        if seconds is not None and time.monotonic() - started >= seconds:
            session.pgconn.finish()
        raise


def _seconds() -> float | None:
    return _limits["seconds"] if _here.seconds is None else _here.seconds

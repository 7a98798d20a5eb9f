"""Prepared statements: for the scheduler, and for creates.

To parse and plan our statements costs PostgreSQL more than to run them for a single task.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from django.db import OperationalError, connection
from django.db.utils import Error

logger = logging.getLogger("crew.sql.prepared")

# There is no such prepared statement, or one of that name already: the session is another one
# than a moment ago, as behind PgBouncer before 1.21.
LOST = ("26000", "42P05")
# A migration changed the columns that a plan gives.
STALE = "0A000"


class _Here(threading.local):
    is_on = False


_here = _Here()
_lost = threading.Event()  # once found out by one thread, it holds for all of this process


@contextmanager
def prepared() -> Iterator[None]:
    """Prepare what this thread runs, on PostgreSQL, unless its settings speak against it.

    They do with DISABLE_SERVER_SIDE_CURSORS, which Django wants behind a pooler of transactions,
    and with `prepare_threshold` None in OPTIONS.
    """
    settings = connection.settings_dict
    before = _here.is_on
    _here.is_on = (
        connection.vendor == "postgresql"
        and not _lost.is_set()
        and not settings["DISABLE_SERVER_SIDE_CURSORS"]
        and settings["OPTIONS"].get("prepare_threshold", 0) is not None
    )
    try:
        yield
    finally:
        _here.is_on = before


def is_on() -> bool:
    return _here.is_on


def run(*statements: tuple[str, Mapping[str, Any]]) -> list[list[tuple[Any, ...]]]:
    """Run statements; several, with the transaction's BEGIN, in one round trip.

    Return the rows of each. A statement that did not stay prepared is an OperationalError:
    whoever tries again succeeds.
    """
    connection.ensure_connection()
    session = connection.connection
    session.prepare_threshold = 0
    try:
        together = _pipeline(session) if len(statements) > 1 else nullcontext()
        with connection.wrap_database_errors, together:
            cursors = [_execute(session, text, params) for text, params in statements]
        return [_rows(cursor) for cursor in cursors]
    except Error as error:
        _refuse_lost(error, session)
        raise


def _execute(session: Any, text: str, params: Mapping[str, Any]) -> Any:
    cursor = connection._prepare_cursor(connection.Database.Cursor(session))  # type: ignore[attr-defined]
    cursor.execute(text, params)
    return cursor


@contextmanager
def _pipeline(session: Any) -> Iterator[None]:
    """One that ends with its Sync, as the protocol has it.

    psycopg sends a Flush behind that. The server then takes us for busy and no longer counts the
    time that we stand still in a transaction: our locks would stay (`steer`). What the socket did
    not take at once is sent here, as it is sent there: the server answers nothing before that.
    """
    from psycopg.generators import send  # not there where only SQLite is used

    with session.pipeline() as pipeline:
        yield
        fetch = pipeline._fetch_gen

        def fetch_without_flush(**_: Any) -> Iterator[Any]:  # for the exit alone
            yield from send(session.pgconn)
            yield from fetch(flush=False)

        pipeline._fetch_gen = fetch_without_flush


def _rows(cursor: Any) -> list[tuple[Any, ...]]:
    with cursor:
        return cursor.fetchall() if cursor.description else []


def _refuse_lost(error: Error, session: Any) -> None:
    state = getattr(error.__cause__, "sqlstate", None)
    if state in LOST:
        _here.is_on = False
        _lost.set()
        logger.warning(
            "Statements do not stay prepared, as behind an old PgBouncer; going on without."
            " DISABLE_SERVER_SIDE_CURSORS in DATABASES says so from the start"
        )
    if state == STALE:
        session.close()
    if state in LOST or state == STALE:
        raise OperationalError(str(error)) from error

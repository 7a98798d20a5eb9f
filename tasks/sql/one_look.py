"""Several statements see one state of the store, and keep nobody from writing."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from . import Statement, on_postgres, run


@contextmanager
def one_look() -> Iterator[None]:
    """A transaction that only reads. Within a transaction of the caller's it is that one."""
    if connection.in_atomic_block:
        yield
        return
    if on_postgres():
        with transaction.atomic():
            run(_ONE_STATE, {})
            yield
        return
    connection.ensure_connection()
    mode = connection.transaction_mode  # type: ignore[attr-defined]
    connection.transaction_mode = "DEFERRED"  # type: ignore[attr-defined]
    try:
        with transaction.atomic():
            yield
    finally:
        connection.transaction_mode = mode  # type: ignore[attr-defined]


_TEXT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_ONE_STATE = Statement(postgresql=_TEXT, sqlite=_TEXT)

"""What a PostgreSQL server and processes on this machine have used so far."""

import os
from pathlib import Path
from typing import Any


def run(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else []


def others() -> int:
    """Connections to this database but our own."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return 0
    found = run(
        """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
           AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
    )
    return int(found[0][0])


def database_cpu() -> float | None:
    """CPU seconds of all processes of the PostgreSQL server so far, those that ended too."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return None
    (backend,) = run("SELECT pg_backend_pid()")[0]
    try:
        server = int(_stat(backend)[1])
        total = sum(map(int, _stat(server)[11:15]))
        for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
            total += sum(map(int, _stat(int(child))[11:13]))
    except OSError:
        return None  # it is on another machine
    return float(total) / os.sysconf("SC_CLK_TCK")


def process_cpu(pid: int) -> float:
    """Seconds of a process so far."""
    return sum(map(int, _stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields after the name: state, parent, …; user and system time are the 12th and 13th."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def wal_bytes() -> float | None:
    from django.db import connection

    if connection.vendor != "postgresql":
        return None
    return float(run("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])

"""What makes everything slower or larger until somebody acts: old rows that are not cleared away.

Either we do not keep up with it (`chores`), or somebody's transaction keeps the database from it:
PostgreSQL leaves every dead row that an open transaction might still ask for, and each task then
has to step over them. SQLite's twin is the write-ahead log that no reader lets go. Reads only.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Min
from django.db.models.functions import Now

from ..conf import conf
from ..models import Chore, SchedulerProcess
from ..sql import on_postgres, on_sqlite, run
from ..sql import troubles as sql

BEHIND = timedelta(minutes=10)  # without an end of a chore: it does not keep up
OLD = 60.0  # seconds that a transaction is open: ours take some at most
OTHERS = 10_000  # transactions that began since, where no time is known
MOST = 10  # of each kind
LOG_LARGE = 64 * 1024 * 1024  # bytes of SQLite's log: it is emptied after 4 MiB if nobody reads
GROUPS = "groups"

# What is cleared away, as people call it.
CHORES = {
    "changes": "changes that every browser has seen",
    "calls": "kept answers to repeated calls",
    "tokens": "tokens that expired",
    "audit": "entries of the history older than CREW_AUDIT_DAYS",
    "outputs": "shared outputs that nobody refers to",
    "limits": "limits of workers that are well",
    GROUPS: "finished groups older than CREW_KEEP_DAYS",
}
KEEPS_ROWS = "Dead rows are not cleared away, and each task costs more."
KEEPS_LOG = "The server keeps its log for it, and the disk fills."
KEEPS = "Until it ends no dead row since then is cleared away, and each task costs more."


@dataclass(frozen=True, slots=True)
class Trouble:
    """`what` it is, in one sentence or two, and `todo`, what to do. `since` None = unknown.

    `key` is the same for as long as it is the same trouble.
    """

    key: str
    since: datetime | None
    what: str
    todo: str

    def __str__(self) -> str:
        since = f" (since {self.since:%Y-%m-%d %H:%M:%S %Z})" if self.since else ""
        return f"{self.what}{since} {self.todo}"


def troubles() -> tuple[Trouble, ...]:
    """All there are now; nearly always none."""
    found = [*_behind()]
    if on_postgres():
        found += [*_sessions(), *_prepared(), *_slots(), *_hidden()]
    elif on_sqlite():
        found += _log()
    return tuple(found)


def chores() -> list[str]:
    """What schedulers clear away here."""
    return [name for name in CHORES if name != GROUPS or conf.CREW_KEEP_DAYS is not None]


def _behind() -> Iterator[Trouble]:
    """Chores that did not come to their end for long, though schedulers are there."""
    alive = SchedulerProcess.objects.alive()
    up = alive.filter(started_at__lt=Now() - BEHIND / 2).aggregate(at=Min("started_at"))["at"]
    if up is None:
        return
    done = dict(Chore.objects.values_list("name", "done_at"))
    lately = set(Chore.objects.filter(done_at__gt=Now() - BEHIND).values_list("name", flat=True))
    is_old = alive.filter(started_at__lt=Now() - BEHIND).exists()
    for name in chores():
        if name not in lately and (name in done or is_old):
            yield Trouble(
                f"behind {name}",
                done.get(name, up),
                f"Schedulers do not keep up with deleting {CHORES[name]}: the tables grow.",
                "Look in their logs for errors and for what else is reported here."
                + (" Run manage.py crewprune beside them." if name == GROUPS else ""),
            )


def _sessions() -> Iterator[Trouble]:
    rows = run(sql.SESSIONS, {"seconds": OLD, "others": OTHERS, "most": MOST})
    for pid, user, name, host, since, is_idle, idle_since, others, is_hidden in rows:
        who = f"process {pid} ({user}, {name or 'no application name'}, {host or 'local'})"
        if since is None:
            why = ", and PostgreSQL hides from us since when" if is_hidden else ""
            what = f"A transaction of {who} is open: {others:,} began since{why}."
        elif is_idle:
            what = f"A transaction of {who} is open, and idle since {idle_since:%H:%M:%S %Z}."
        else:
            what = f"A transaction of {who} is open, and still at work."
        todo = f"Commit it there, or end it: SELECT pg_terminate_backend({pid});"
        yield Trouble(f"session {pid}", since, f"{what} {KEEPS}", todo)


def _prepared() -> Iterator[Trouble]:
    for gid, owner, since in run(sql.PREPARED, {"seconds": OLD, "most": MOST}):
        quoted = gid.replace("'", "''")
        yield Trouble(
            f"prepared {gid}",
            since,
            f"The prepared transaction {gid} of {owner} waits for its end, without a process."
            f" {KEEPS}",
            f"As {owner}: COMMIT PREPARED '{quoted}'; or ROLLBACK PREPARED '{quoted}';",
        )


def _slots() -> Iterator[Trouble]:
    for name, is_active, others, keeps_rows in run(sql.SLOTS, {"others": OTHERS, "most": MOST}):
        state = "reads slowly, or has a long query" if is_active else "is not connected"
        yield Trouble(
            f"slot {name}",
            None,
            f"Whoever reads the replication slot {name} {state}: {others:,} transactions began"
            f" since the oldest it keeps. {KEEPS_ROWS if keeps_rows else KEEPS_LOG}",
            f"Bring the reader back, or: SELECT pg_drop_replication_slot('{name}');",
        )


def _hidden() -> Iterator[Trouble]:
    rows = run(sql.HIDDEN, {})
    if rows:
        names = ", ".join(f"{user} ({count})" for user, count, _ in rows)
        yield Trouble(
            "hidden",
            None,
            f"PostgreSQL hides from us the sessions of other users: {names}. A transaction that"
            " one of them forgot is seen late, and not since when.",
            f'As a superuser: GRANT pg_read_all_stats TO "{rows[0][2]}";',
        )


def _log() -> Iterator[Trouble]:
    """A reader that does not end: what others write cannot go from the log into the file."""
    path = str(connection.settings_dict["NAME"])
    try:
        size = os.stat(f"{path}-wal").st_size
    except OSError:
        return
    if size < LOG_LARGE or connection.in_atomic_block:
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")  # waits for nobody
        _, frames, gone = cursor.fetchone()
        cursor.execute("PRAGMA page_size")
        (page,) = cursor.fetchone()
    if (frames - gone) * page >= LOG_LARGE // 2:
        yield Trouble(
            "log",
            None,
            f"SQLite's log {path}-wal has grown to {size // 1024 // 1024} MiB: a read transaction"
            " that does not end keeps it from being emptied, and each task costs more.",
            f"End the program that reads the database: fuser -v {path}",
        )

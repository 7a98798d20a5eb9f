"""The hot statements: hand-written, set-based, one module for each verb.

Each statement stands in its PostgreSQL and its SQLite form side by side. A batch goes in as one
JSON parameter. Named parameters only; a literal percent sign is doubled.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from ..conf import conf
from ..rules.states import State
from . import patience, prepared
from .patience import IDLE
from .states import in_state

ROWS_IN_MEMORY = 10_000  # rows that are in memory on their way into SQLite

# The clock of the database, as an expression; the SQLite form is what Django's Now() writes.
NOW = {
    "postgresql": "statement_timestamp()",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')",
}

# So many seconds from now: `AFTER[vendor].format("a.wait")`.
AFTER = {
    "postgresql": "statement_timestamp() + make_interval(secs => {})",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '+' || {} || ' seconds')",
}

# The later of two times, or the larger of two numbers.
GREATEST = {"postgresql": "greatest", "sqlite": "max"}

# The errors of task `t` and one more; the last 50 are kept.
ERRORS = {
    "postgresql": """CASE WHEN jsonb_array_length(t.errors) >= 50 THEN t.errors - 0
                          ELSE t.errors END || to_jsonb(({})::text)""",
    "sqlite": """json_insert(CASE WHEN json_array_length(t.errors) >= 50
                                  THEN json_remove(t.errors, '$[0]') ELSE t.errors END,
                             '$[#]', {})""",
}

# `t.id` + PROBED.format("a.id"): the row of each of a batch, for PostgreSQL. To the planner this is
# no equality that rows could be merged by, so it has no use for all the rows in the order of their
# ids: that cost as much as probes where a table had no rows when it was analyzed last.
PROBED = " = ANY (ARRAY[{}])"

# The output of a task, its own or the one it shares, for the table of that name or alias.
OUTPUT = (
    "(CASE WHEN {0}.shared_output_id IS NULL OR {0}.output IS NOT NULL THEN {0}.output"
    " ELSE (SELECT value FROM crew_sharedoutput"
    " WHERE crew_sharedoutput.id = {0}.shared_output_id) END)"
)

# How many bytes a payload of PostgreSQL's takes as text, about, without reading a large one: a
# compressed one may be many times as large.
STORED = "(CASE WHEN pg_column_compression({0}) IS NULL THEN 1 ELSE 20 END * pg_column_size({0}))"

# Everything but the clock; the condition of the index `crew_task_ready`.
READY = in_state(State.READY)


@dataclass(frozen=True, slots=True)
class Statement:
    postgresql: str
    sqlite: str


# Without `jit = off` the price put on sequential scans would start the compiler for every plan.
# The timeout is for a process that stands still in the middle of a transaction: its locks must
# not outlast its lease, or nobody could give its tasks back.
_STEERED = """
        SELECT set_config('enable_seqscan', 'off', true),
               set_config('enable_hashjoin', 'off', true),
               set_config('enable_mergejoin', 'off', true),
               set_config('enable_material', 'off', true), set_config('jit', 'off', true),
               set_config('idle_in_transaction_session_timeout', coalesce(%(idle)s::text,
                   current_setting('idle_in_transaction_session_timeout')), true)
    """
_STEER = Statement(postgresql=_STEERED, sqlite="SELECT 1")

# The same, and how long the transaction waits for a lock and for a statement.
_STEER_WITHIN = Statement(
    postgresql=_STEERED.rstrip()
    + """,
               set_config('lock_timeout', %(lock)s, true),
               set_config('statement_timeout', %(statement)s, true)
    """,
    sqlite="SELECT 1",
)

# What a verb adds to it, as people's transactions hold a group alone. Who set a shorter limit keeps
# that.
_BOUND = Statement(
    postgresql=f"""
        SELECT set_config('statement_timeout', least(%(most)s::int, nullif(1000 * extract(
                   epoch FROM current_setting('statement_timeout')::interval), 0)::int)::text,
                   true),
               {patience.WATCH}
    """,
    sqlite="SELECT 1",
)


# A statement and what it is given.
BoundStatement = tuple[Statement, Mapping[str, Any]]


def statement(*, postgresql: str, sqlite: str) -> Statement:
    """A statement in both forms; `{now}` and `{ready}` stand for the words above."""
    return Statement(_filled(postgresql, "postgresql"), _filled(sqlite, "sqlite"))


def run(what: Statement, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run it on the default database and return every row it gives."""
    if prepared.is_on():
        return prepared.run((what.postgresql, params))[0]
    with connection.cursor() as cursor:
        cursor.execute(getattr(what, connection.vendor), params)
        return cursor.fetchall() if cursor.description else []


def run_together(*calls: BoundStatement) -> list[list[tuple[Any, ...]]]:
    """Run them in their order, in one round trip where that can be; return the rows of each."""
    if prepared.is_on():
        return prepared.run(*((what.postgresql, params) for what, params in calls))
    return [run(what, params) for what, params in calls]


def put(what: Statement, rows: Iterable[tuple[Any, ...]]) -> None:
    """Put rows in: by COPY on PostgreSQL, and on SQLite some thousands by each statement."""
    with connection.cursor() as cursor:
        if on_postgres():
            with connection.wrap_database_errors, cursor.copy(what.postgresql) as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            left = iter(rows)
            while some := list(islice(left, ROWS_IN_MEMORY)):
                cursor.executemany(what.sqlite, some)


def read(rows: QuerySet[Any], most: int) -> Iterator[Any]:
    """The rows, so many at once; what the driver says at their end is said as Django does."""
    with connection.wrap_database_errors:
        yield from rows.iterator(chunk_size=most)


@dataclass(frozen=True, slots=True)
class Within:
    """The seconds a transaction waits for a lock, and for a statement."""

    lock: float
    statement: float


def run_steered(
    *calls: BoundStatement, within: Within | None = None
) -> list[list[tuple[Any, ...]]]:
    """`steer` and `run_together`; on PostgreSQL `within` holds for all of the transaction."""
    if not on_postgres():
        return run_together(*calls)
    if within is None:
        return run_together((_STEER, _steering()), *calls)[1:]
    timeouts = {"lock": within.lock, "statement": within.statement}
    milliseconds = {name: str(int(1_000 * seconds)) for name, seconds in timeouts.items()}
    return run_together((_STEER_WITHIN, _steering() | milliseconds), *calls)[1:]


def run_bounded(*calls: BoundStatement) -> list[list[tuple[Any, ...]]]:
    """`run_steered`, in a transaction of a person's that must not last for long.

    Its statements have a limit each, and end when the process that asked is gone. One that stands
    still loses its locks, unless somebody else's transaction is around it.
    """
    if not on_postgres():
        return run_together(*calls)
    idle = None if connection.savepoint_ids else str(int(1_000 * IDLE))
    bounds = {
        "most": int(1_000 * patience.most()),
        "gone": str(int(1_000 * patience.GONE)),
        "is_local": True,
    }
    return run_together((_STEER, {"idle": idle}), (_BOUND, bounds), *calls)[2:]


def steer() -> None:
    """Have PostgreSQL probe an index for each row of a batch, in the running transaction.

    A batch is small beside the tables, but the planner does not know a JSON parameter's size, and
    statistics lag behind a table that fills in seconds: it then reads, hashes or keeps the whole
    table for a handful of rows. So no statement of ours joins one batch to another: without a hash
    that is a loop in a loop. Local to the transaction, so it works behind PgBouncer.
    """
    if on_postgres():
        run(_STEER, _steering())


def _steering() -> dict[str, str]:
    return {"idle": str(max(1, int(1_000 * min(conf.CREW_LEASE_SECONDS, IDLE))))}


def moment(value: datetime) -> datetime:
    """A time as a statement returns it: SQLite's carry no zone."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def on_postgres() -> bool:
    return connection.vendor == "postgresql"


def on_sqlite() -> bool:
    return connection.vendor == "sqlite"


def can_notify() -> bool:
    """Whether whoever listens can be woken by the database."""
    return on_postgres() and bool(conf.CREW_NOTIFY)


def clock() -> datetime:
    """The database's. SQLite has no other clock than ours."""
    if not on_postgres():
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        (now,) = cursor.fetchone()
        return now  # type: ignore[no-any-return]


def _filled(text: str, vendor: str) -> str:
    return text.replace("{now}", NOW[vendor]).replace("{ready}", READY)

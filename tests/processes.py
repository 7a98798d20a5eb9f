"""Real processes for tests: schedulers and a sink worker on the test's own database."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from django.db import connection

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sink:
    """The benchmark's sink worker as a process; `log` holds a line for every call it got."""

    url: str
    log: Path

    def stats(self) -> dict[str, int]:
        with urlopen(f"{self.url}stats", timeout=5) as reply:
            return json.load(reply)

    def calls(self) -> list[tuple[str, int]]:
        lines = self.log.read_text().splitlines()
        return [(id_, int(attempt)) for id_, _, attempt in (line.rpartition(" ") for line in lines)]


@contextmanager
def sink(folder: Path) -> Iterator[Sink]:
    log = folder / "calls.log"
    command = [sys.executable, str(ROOT / "benchmarks" / "sink.py"), "--port", "0"]
    process = subprocess.Popen([*command, "--log", str(log)], stdout=subprocess.PIPE, text=True)
    try:
        yield Sink(process.stdout.readline().split()[-1], log)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def database_url() -> str:
    """Where the running test's database is, for another process."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    password = f":{database['PASSWORD']}" if database["PASSWORD"] else ""
    host, port = database["HOST"] or "127.0.0.1", database["PORT"] or 5432
    return f"postgres://{database['USER']}{password}@{host}:{port}/{database['NAME']}"


def scheduler_env(base: str) -> dict[str, str]:
    """A short lease on the test's database, and workers at `base`."""
    return os.environ | {
        "DATABASE_URL": database_url(),
        "CREW_WORKER_BASE_URL": base,
        "DEBUG": "1",
        "CREW_LEASE_SECONDS": "2",
        "CREW_SWEEP_SECONDS": "0.3",
    }


@contextmanager
def scheduler(base: str, *args: str, root: Path = ROOT, **env: str) -> Iterator[subprocess.Popen]:
    """A `manage.py runscheduler` that is killed, if it still runs, at the end.

    `root` is where the code is.
    """
    process = subprocess.Popen(
        [sys.executable, str(root / "manage.py"), "runscheduler", *args],
        env=scheduler_env(base) | env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stderr.close()


def peak_memory(pid: int) -> int:
    """The most bytes that were resident. OSError when it is gone."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else 0  # a zombie has none


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)

"""The processes of a run: started, broken by signals, and started again when they are gone."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Protocol

from ..processes import ROOT, peak_memory

STOPS_WITHIN = 30.0  # seconds
LOOKS_EVERY = 0.5  # seconds between two looks at its memory
AGAIN_AFTER = 0.2  # seconds from one start to the next, at least

_libc = ctypes.CDLL(None)


class Process(Protocol):
    """What is asked of a process here."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int, /) -> None: ...


class Member:
    """One place in the fleet: a command that always runs, in one process after the other."""

    def __init__(
        self,
        name: str,
        spawn: Callable[[], Process],
        *,
        ready: str,
        log: Path,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._spawn = spawn
        self._close = close
        self._ready = ready.encode()
        self._log = log
        self.process: Process | None = None
        self._began = 0
        self._started_at = 0.0
        self._is_ready = self._is_struck = False
        self.stopped_at = 0.0
        self.continues_at: float | None = None
        self.deaths: list[str] = []  # those that nobody ordered
        self.memory = 0  # bytes: the most that any of its processes had
        self._looks_at = 0.0

    def start(self) -> None:
        self._began = self._log.stat().st_size if self._log.exists() else 0
        self.process = self._spawn()
        self._started_at = time.monotonic()
        self._is_ready = self._is_struck = False
        self.continues_at = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_ready(self) -> bool:
        """It runs, and has said that it works."""
        if self.process is not None and not self._is_ready:
            with self._log.open("rb") as log:
                log.seek(self._began)
                self._is_ready = self._ready in log.read()
        return self._is_ready and self.is_running

    @property
    def is_stopped(self) -> bool:
        return self.continues_at is not None

    def kill(self) -> None:
        self._is_struck = True
        self._look()
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def drain(self) -> None:
        """SIGTERM, as in a deployment; `tend` starts it again when it is gone."""
        self._is_struck = True
        self._signal(signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        """SIGSTOP; `tend` lets it go on after so many seconds."""
        self._signal(signal.SIGSTOP)
        self.stopped_at = time.monotonic()
        self.continues_at = self.stopped_at + seconds

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)
        self.continues_at = None

    def tend(self) -> None:
        """Let it go on when its time has come, and start it again when it is gone."""
        if self.continues_at is not None and time.monotonic() > self.continues_at:
            self.go_on()
        if time.monotonic() > self._looks_at:
            self._looks_at = time.monotonic() + LOOKS_EVERY
            self._look()
        if not self.is_running and time.monotonic() > self._started_at + AGAIN_AFTER:
            self._record_death()
            self.start()

    def end(self) -> None:
        """SIGTERM, as in a deployment; a process that does not go in time is a death to tell."""
        if not self.is_running or self.process is None:
            return
        if self.is_stopped:
            self.go_on()
        self._look()
        self._signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOPS_WITHIN)
            if code:
                self.deaths.append(f"{self.name} ended with {code} at SIGTERM")
        except subprocess.TimeoutExpired:
            self.kill()
            self.deaths.append(f"{self.name} did not end within {STOPS_WITHIN:.0f} s of SIGTERM")

    def close(self) -> None:
        """Leave nothing that runs."""
        if self.is_running:
            self.kill()
        self._close()

    def _look(self) -> None:
        """How much memory it has had, as long as it is there to be asked."""
        with contextlib.suppress(OSError):
            if self.process is not None:
                self.memory = max(self.memory, peak_memory(self.process.pid))

    def _record_death(self) -> None:
        """Nobody may die of what happens around it, once it works."""
        if self.process is None or self._is_struck:
            return
        if self.is_ready or self._is_ready:
            code = self.process.returncode
            self.deaths.append(f"{self.name} ended by itself with {code}: {self._last_words()}")

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._began)
            return log.read().decode(errors="replace")[-1000:]

    def _signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def die_with_parent() -> None:
    """For a child, before it begins: however the run ends, no process of it is left."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def tend_all(members: Iterable[Member]) -> None:
    for member in members:
        member.tend()


def end_all(members: Iterable[Member]) -> None:
    for member in members:
        member.end()


def scheduler(name: str, folder: Path, env: dict[str, str]) -> Member:
    """Forked from a process that has imported everything: a start costs next to nothing."""
    log = folder / f"{name}.log"
    nursery = Nursery([str(log), "runscheduler"], env)
    return Member(name, nursery.spawn, ready=" started with ", log=log, close=nursery.close)


def web(name: str, folder: Path, port: int, env: dict[str, str]) -> Member:
    log = folder / f"{name}.log"
    command = [str(ROOT / "manage.py"), "crewweb", "-b", "127.0.0.1", "-p", str(port)]

    def spawn() -> Process:
        with log.open("ab") as file:
            return _popen(command, env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    return Member(name, spawn, ready="Serving on ", log=log)


class Nursery:
    """A process that forks others; see `nursery.py`."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        # Without a buffer: it would hide a line from `select`.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        self.process = _popen(["-m", "tests.chaos.nursery", *command], env, **pipes)

    def spawn(self) -> Process:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"start\n")
        return Forked(int(self.process.stdout.readline().split()[1]), self.process.stdout)

    def close(self) -> None:
        self.process.communicate()  # an end of its input is the end of it


class Forked:
    """A child of a nursery, in the words of `subprocess.Popen`."""

    def __init__(self, pid: int, said: IO[bytes]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._said = said

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a child of a nursery", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _look(self, timeout: float | None) -> int | None:
        # A nursery says one line for each child that ends, and nothing before that.
        if self.returncode is None and select.select([self._said], [], [], timeout)[0]:
            self.returncode = int(self._said.readline().split()[1])
        return self.returncode


def _popen(command: list[str], env: dict[str, str], **pipes: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | env,
        start_new_session=True,
        preexec_fn=die_with_parent,
        **pipes,
    )

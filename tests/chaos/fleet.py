"""The processes of a run: started, broken by signals, and started again when they are gone."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from ..processes import ROOT

STOPS_WITHIN = 30.0  # seconds
AGAIN_AFTER = 0.2  # seconds from one start to the next, at least

_libc = ctypes.CDLL(None)


class Member:
    """One place in the fleet: a command that always runs, in one process after the other."""

    def __init__(
        self, name: str, command: list[str], *, ready: str, log: Path, env: dict[str, str]
    ):
        self.name = name
        self._command = [sys.executable, *command]
        self._ready = ready.encode()
        self._log = log
        self._env = os.environ | env
        self.process: subprocess.Popen[bytes] | None = None
        self._began = 0
        self._started_at = 0.0
        self._is_ready = self._is_struck = False
        self.stopped_at = 0.0
        self.continues_at: float | None = None
        self.deaths: list[str] = []  # those that nobody ordered

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._began = log.tell()
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._env, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, preexec_fn=_die_with_us,
            )  # fmt: skip
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
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

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
        if not self.is_running and time.monotonic() > self._started_at + AGAIN_AFTER:
            self._note_death()
            self.start()

    def end(self) -> None:
        """SIGTERM, as in a deployment; a process that does not go in time is a death to tell."""
        if not self.is_running or self.process is None:
            return
        if self.is_stopped:
            self.go_on()
        self._signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOPS_WITHIN)
            if code:
                self.deaths.append(f"{self.name} ended with {code} at SIGTERM")
        except subprocess.TimeoutExpired:
            self.kill()
            self.deaths.append(f"{self.name} did not end within {STOPS_WITHIN:.0f} s of SIGTERM")

    def _note_death(self) -> None:
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


def _die_with_us() -> None:
    """However the run ends, no process of it is left."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def tend_all(members: Iterable[Member]) -> None:
    for member in members:
        member.tend()


def end_all(members: Iterable[Member]) -> None:
    for member in members:
        member.end()


def scheduler(name: str, folder: Path, env: dict[str, str]) -> Member:
    return Member(
        name,
        [str(ROOT / "manage.py"), "runscheduler"],
        ready=" started with ",
        log=folder / f"{name}.log",
        env=env,
    )


def web(name: str, folder: Path, port: int, env: dict[str, str]) -> Member:
    return Member(
        name,
        [str(ROOT / "manage.py"), "crewweb", "-b", "127.0.0.1", "-p", str(port)],
        ready="Serving on ",
        log=folder / f"{name}.log",
        env=env,
    )

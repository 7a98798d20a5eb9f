"""`manage.py runscheduler`: a shell around `scheduler.Scheduler`."""

import fcntl
import gc
import logging
import os
import resource
import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, TextIO

from django.core.management.base import CommandError
from django.db import connection

from ...conf import conf
from ...engine import failpoints, table_version
from ...engine.rescue import bury_others
from ...engine.scheduler import Scheduler
from ...serving import memory
from ...sql import on_sqlite, patience
from ..base import CrewCommand

logger = logging.getLogger("crew.engine.scheduler")

STATEMENT_MOST = 15.0  # seconds
HURRY = 1.0  # seconds to settle what a second signal cuts
FILES = 40  # file descriptors for the database, logs and the like, beside one for each slot


class Command(CrewCommand):
    help = (
        "Deliver ready tasks to their workers until stopped. SIGTERM or Ctrl-C lets running calls "
        "finish (CREW_DRAIN_SECONDS at most), then cuts them; a second one cuts them at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--slots", type=int, default=conf.CREW_SLOTS, help="calls in flight (CREW_SLOTS)"
        )
        parser.add_argument(
            "--once", action="store_true", help="run until nothing is due, then exit"
        )

    def handle(self, *args: Any, slots: int, once: bool, **options: Any) -> None:
        if slots < 1:
            raise CommandError("--slots must be at least 1")
        memory.share_what_is_free()
        failpoints.arm(conf.CREW_FAILPOINTS)
        patience.limit(patience_seconds(), sessions=True)
        _check_tables()
        lock = _only_one_on_sqlite()
        slots = _slots_with_files(slots)
        scheduler = Scheduler(slots=slots, once=once)
        if lock:
            bury_others(scheduler.me)  # whoever had the lock before is dead

        is_hurried = threading.Event()

        def stop(*_: Any) -> None:
            _on_signals(hurry)
            scheduler.stop()

        def hurry(*_: Any) -> None:
            _on_signals(_exit_now)
            _exit_after(HURRY)
            is_hurried.set()
            scheduler.stop(drain=0.0)

        _on_signals(stop)
        # Thousands of calls in flight make many objects that live for a moment: looking through
        # all of Django for garbage at every 700th of them costs a quarter of the time.
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        scheduler.run()
        if is_hurried.is_set():
            sys.exit(1)


def _on_signals(do: Callable[..., None]) -> None:
    signal.signal(signal.SIGTERM, do)
    signal.signal(signal.SIGINT, do)


def _exit_now(*_: Any) -> None:
    os._exit(1)


def _exit_after(seconds: float) -> None:
    """However stuck the rest is."""
    timer = threading.Timer(seconds, _exit_now)
    timer.daemon = True
    timer.start()


def patience_seconds() -> float:
    """For a statement: with a try to reconnect, well within the lease."""
    return max(2.0, min(STATEMENT_MOST, float(conf.CREW_LEASE_SECONDS) / 2))


def _check_tables() -> None:
    newer, missing = table_version.newer(), table_version.missing()
    if newer:
        raise CommandError(table_version.too_old(newer))
    if missing:
        raise CommandError(table_version.not_migrated(missing))


def _slots_with_files(slots: int) -> int:
    """As many as there can be sockets for; the process takes what its hard limit allows.

    Without this, calls take the descriptors that the database needs, and nothing goes on.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceilings = [limit for limit in (slots + FILES, hard) if limit != resource.RLIM_INFINITY]
    if resource.RLIM_INFINITY != soft < min(ceilings):
        soft = min(ceilings)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= slots + FILES:
        return slots
    if soft <= FILES:
        raise CommandError(f"{soft} open files are too few: raise the limit (ulimit -n).")
    logger.warning("Only %s open files are allowed: %s slots are used", soft, soft - FILES)
    return soft - FILES


def _only_one_on_sqlite() -> TextIO | None:
    """Take the file lock that lets one scheduler work on a SQLite file; the kernel frees it."""
    if not on_sqlite() or connection.is_in_memory_db():  # type: ignore[attr-defined]
        return None
    path = f"{connection.settings_dict['NAME']}-scheduler.lock"
    lock = open(path, "a+")  # noqa: SIM115  held as long as the process
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise CommandError(
            "A scheduler is already running on this SQLite database, which takes only one. "
            "Stop it first, or use PostgreSQL (DATABASE_URL) for several."
        ) from error
    return lock

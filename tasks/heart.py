"""What keeps a scheduler's leases alive, and gives back those of the dead.

Each side loop has a thread and a database connection of its own, goes on after any error, and
never touches the main loop but by `wake` and `on_lost`.
"""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Container

from django.db import DatabaseError, connection, connections, transaction
from django.db.models.functions import Now

from . import prune, publish, retention, settle
from .claim import Lease
from .conf import conf
from .models import SchedulerProcess, Task
from .settle import Returned, Settlement
from .sql import rescue as sql
from .sql import run

logger = logging.getLogger(__name__)

PRUNE_EVERY = 60.0  # seconds
PRUNE_GROUPS_FOR = 2.0  # seconds of them: the sweep waits for it
LOST_AT = 0.8  # of the lease: silent for so long, we no longer count on it


class Heart:
    """The heartbeat, the sweep and the listener of one scheduler process."""

    def __init__(self, me: str, *, slots: int, wake: threading.Event) -> None:
        self.me = me
        self.slots = slots
        self.wake = wake
        self.on_lost: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._beat_at = 0.0
        self._lost = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Register the process, by the caller's connection, and start the loops."""
        self._beat()
        loops = [self._beat_loop, self._sweep_loop]
        if connection.vendor == "postgresql" and conf.CREW_NOTIFY:
            loops.append(self._listen_loop)
        for loop in loops:
            thread = threading.Thread(target=loop, name=f"crew{loop.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, *, gone: bool) -> None:
        """End the loops. `gone`: nothing is leased any more, so the process row can go too."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        if gone:
            SchedulerProcess.objects.filter(pk=self.me).delete()

    @property
    def is_beating(self) -> bool:
        """Whether the leases can still be counted on."""
        return bool(time.monotonic() - self._beat_at < conf.CREW_LEASE_SECONDS * LOST_AT)

    def _beat(self) -> None:
        started = time.monotonic()
        beaten = SchedulerProcess.objects.filter(pk=self.me).update(beat_at=Now())
        if not beaten:
            SchedulerProcess.objects.create(
                pk=self.me, host=socket.gethostname(), pid=os.getpid(), slots=self.slots
            )
        self._beat_at = started

    def _beat_loop(self) -> None:
        self._every(lambda: conf.CREW_LEASE_SECONDS / 10, self._beat_once)

    def _beat_once(self) -> None:
        try:
            self._beat()
        finally:
            if self.is_beating:
                self._lost = False
            elif not self._lost:
                self._lost = True
                logger.error("No heartbeat for too long: no more claims, running calls are cut")
                self.on_lost()

    def _sweep_loop(self) -> None:
        pruned_at = time.monotonic()

        def sweep() -> None:
            nonlocal pruned_at
            sweep_once()
            if time.monotonic() - pruned_at > PRUNE_EVERY:
                pruned_at = time.monotonic()
                prune.prune()
                if conf.CREW_KEEP_DAYS is not None:
                    retention.prune_groups(conf.CREW_KEEP_DAYS, seconds=PRUNE_GROUPS_FOR)

        self._every(lambda: conf.CREW_SWEEP_SECONDS * random.uniform(0.8, 1.2), sweep)  # noqa: S311

    def _listen_loop(self) -> None:
        self._every(lambda: 0.0, self._listen)

    def _listen(self) -> None:
        """Wake the scheduler at each NOTIFY; look up from time to time whether to stop."""
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {publish.CHANNEL}")
        while not self._stop.is_set():
            for _ in connection.connection.notifies(timeout=1, stop_after=1):
                self.wake.set()

    def _every(self, seconds: Callable[[], float], work: Callable[[], None]) -> None:
        """Run `work` again and again; an error is logged once, until it works again."""
        failing = False
        while not self._stop.is_set():
            try:
                work()
                failing = False
            except Exception as error:  # noqa: BLE001  a side loop must outlive every error
                if not failing:
                    logger.warning("%s: %s; trying again", threading.current_thread().name, error)
                failing = True
                _close_quietly()
            self._stop.wait(max(seconds(), 1.0 if failing else 0.0))
        _close_quietly()


def sweep_once() -> int:
    """Give back all tasks of schedulers that died; return how many."""
    count = 0
    run(sql.ADOPT, {})
    while (given := settle.rescue(lease_seconds=conf.CREW_LEASE_SECONDS)) >= 0:
        count += given
    if count:
        logger.warning("Gave back %s tasks of a scheduler that died", count)
    return count


def take_back(me: str, *, known: Container[tuple[str, int]]) -> None:
    """Free the tasks leased to the scheduler `me` that it knows nothing of, and never sent.

    A claim may be committed although it failed: the connection was lost before the answer.
    """
    fields = ("id", "attempt", "group_id", "worker", "workgroup", "key", "leased_by")
    leases = [Lease(*row) for row in Task.objects.filter(leased_by=me).values_list(*fields)]
    unsent = [lease for lease in leases if (lease.task_id, lease.attempt) not in known]
    if unsent:
        settle.settle_each([Settlement(lease, Returned()) for lease in unsent])
        logger.warning("Took back %s tasks of a claim that failed", len(unsent))


def bury_others(me: str) -> None:
    """Declare every other scheduler dead, for a store that lets only one live."""
    with transaction.atomic():
        SchedulerProcess.objects.exclude(pk=me).update(beat_at="2000-01-01T00:00:00Z")
    sweep_once()


def _close_quietly() -> None:
    try:
        connections.close_all()
    except DatabaseError:
        logger.debug("A broken connection could not be closed", exc_info=True)

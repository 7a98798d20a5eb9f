"""What a scheduler does beside its calls: it beats, sweeps, clears away, listens, and looks.

Each side loop has a thread and a database connection of its own, goes on after any error, and
never touches the main loop but by `wake` and `on_lost`.
"""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable

from django.db import Error, connection
from django.db.models.functions import Now

from ..conf import conf
from ..insight.troubles import Trouble, troubles
from ..models import SchedulerProcess
from ..redact import one_line
from ..sql import can_notify, patience, statistics
from ..store import changes
from ..upkeep.chores import Chores
from . import rescue, shared_outcomes, table_version

logger = logging.getLogger("crew.engine.heartbeat")

FIRST_CHORES = 60.0  # seconds after the start
LOOK_EVERY = 20.0  # seconds between two looks for what somebody must act on
CHORES_WITHIN = 300.0  # seconds for a statement: after a long rest there is much to clear away
PROBE_EVERY = 10.0  # seconds: a listener hears nothing from a server that is gone either
FAILING_REST = 1.0  # seconds, at least, until what failed is tried again
STOPS_WITHIN = 5.0  # seconds for all loops together
LOST_AT = 0.8  # of the lease: silent for so long, we no longer count on it


class Heart:
    """The heartbeat, the sweep and the listener of one scheduler process."""

    def __init__(self, me: str, *, slots: int, wake: threading.Event) -> None:
        self.me = me
        self.slots = slots
        self.wake = wake
        self.on_lost: Callable[[], None] = lambda: None
        self.is_busy: Callable[[], bool] = lambda: False
        self._stop = threading.Event()
        self._beat_at = 0.0
        self._lost = False
        self._newer: list[str] = []
        self._look_at = 0.0
        self._troubles: dict[str, Trouble] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Register the process, by the caller's connection, and start the loops."""
        self._beat()
        if SchedulerProcess.objects.alive().exclude(pk=self.me).exists():
            shared_outcomes.shares_from = time.monotonic() + 2 * conf.CREW_SWEEP_SECONDS
        loops = [self._beat_loop, self._sweep_loop, self._chores_loop]
        if can_notify():
            loops.append(self._listen_loop)
        for loop in loops:
            thread = threading.Thread(target=loop, name=f"crew{loop.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, *, gone: bool) -> None:
        """End the loops. `gone`: nothing is leased any more, so the process row can go too."""
        self._stop.set()
        deadline = time.monotonic() + STOPS_WITHIN
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        if not gone:
            return
        try:
            SchedulerProcess.objects.filter(pk=self.me).delete()
        except Error as error:
            logger.warning("The row of this scheduler stays until its lease is over: %s", error)

    @property
    def is_beating(self) -> bool:
        """Whether the leases can still be counted on."""
        return bool(time.monotonic() - self._beat_at < conf.CREW_LEASE_SECONDS * LOST_AT)

    @property
    def may_claim(self) -> bool:
        return self.is_beating and not self._newer

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
        apart = random.uniform(0.8, 1.2)  # noqa: S311
        works = (rescue.sweep_once, self._look_at_tables, statistics.renew, self._look_for_troubles)
        self._every(lambda: conf.CREW_SWEEP_SECONDS * apart, *works)

    def _look_at_tables(self) -> None:
        before, self._newer = self._newer, table_version.newer()
        if self._newer and not before:
            logger.error("%s No more claims", table_version.too_old(self._newer))

    def _look_for_troubles(self) -> None:
        """Say of each once that it is there, and once that it is over."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY
        now = {each.key: each for each in troubles()}
        for key in now.keys() - self._troubles.keys():
            logger.warning("%s", one_line(str(now[key])))
        for key in self._troubles.keys() - now.keys():
            logger.info("It is over: %s", one_line(self._troubles[key].what))
        self._troubles = now

    def _chores_loop(self) -> None:
        chores = Chores(self._stop, is_busy=lambda: self.is_busy())
        with patience.within(CHORES_WITHIN):
            self._stop.wait(FIRST_CHORES)
            self._every(chores.seconds, *chores.works())

    def _listen_loop(self) -> None:
        self._every(lambda: 0.0, self._listen)

    def _listen(self) -> None:
        """Wake the scheduler at each NOTIFY; look up from time to time whether to stop."""
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {changes.CHANNEL}")
            probed_at = time.monotonic()
            while not self._stop.is_set():
                for _ in connection.connection.notifies(timeout=1, stop_after=1):
                    self.wake.set()
                if time.monotonic() - probed_at > PROBE_EVERY:
                    cursor.execute("SELECT 1")
                    probed_at = time.monotonic()

    def _every(self, seconds: Callable[[], float], *works: Callable[[], object]) -> None:
        """Do all this again and again; an error is logged once, until it works again."""
        failing: set[Callable[[], object]] = set()
        while not self._stop.is_set():
            for work in works:
                try:
                    work()
                    failing.discard(work)
                except Exception as error:  # noqa: BLE001  a side loop must outlive every error
                    if work not in failing:
                        name = threading.current_thread().name
                        logger.warning("%s: %s; trying again", name, error)
                    failing.add(work)
                    patience.close_quietly()
            self._stop.wait(max(seconds(), FAILING_REST if failing else 0.0))
        patience.close_quietly()

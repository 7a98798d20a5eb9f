"""Answers that cannot be written at once: beside the scheduler's turns, which never wait for them.

Somebody holds the group's row, or a task's; the database does not get done with an answer, or
refuses it; much has to be cleared away before it. What is set aside keeps its lease, and is tried
again and again, group by group, by a thread with a database connection of its own, which is there
only as long as something is aside.
"""

import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.db import DatabaseError, connections, reset_queries, transaction
from django.db.models import F

from ..models import SchedulerProcess
from ..redact import one_line
from ..sql import Within, run_steered
from ..store import payloads
from ..verbs import earlier_children
from .haste import Haste, hastily
from .ledger import BATCH_BYTES, weight
from .refused_answers import UNSTORABLE, plain
from .settle import settle_each, why_not
from .settlement import Left, Settlement, Why

logger = logging.getLogger("crew.engine.set_aside")

# Seconds for a lock and for a statement. In a turn everybody waits, here only what is aside.
IN_TURN = Haste(Within(lock=0.1, statement=2.0))
BESIDE = Haste(Within(lock=0.1, statement=2.0))
IN_LINE = Haste(Within(lock=0.2, statement=2.0), skips=False)  # behind others who want that lock
CLEARED = Haste(Within(lock=0.1, statement=5.0), clears=True)  # behind the slices of that
AT_LAST = Haste(Within(lock=0.2, statement=5.0))  # before a single answer is found at fault
WORKS = Within(lock=1.0, statement=1.0)  # a small write, where the database works

PAUSES = (0.02, 0.5)  # seconds between two rounds; the longer the less of them helps
STUCK_PAUSES = (1.0, 60.0)  # seconds until one that is refused whatever it holds is tried again
ANSWERS_PER_TRANSACTION = 500  # answers of a group in one transaction
PARTS = 8  # of what did not go as a whole
MOST_TRIES = 3  # with which an answer goes alone: 500, 62, 7, 1
CLEARS = 2.0  # seconds for one of those of which much has to be cleared away
ROUND, FAILURES = 1.0, 3  # seconds, or failed tries, after which other groups have their turn
MOST = 10_000  # answers; with more, or more bytes than calls may hold, no task is claimed
CLOSED_AFTER = 1.0  # seconds after which no task of a locked group is claimed any more
PILE = 50  # answers of a group that wait for a lock, with which the same is done
LOGGED_AFTER, LOGGED_EVERY = 5.0, 60.0  # seconds after which a lock is worth a line in the log

LOCKED = (Why.GROUP, Why.TASK, Why.LOCK)
STOPS_GROUP = (Why.GROUP, Why.LOCK, Why.SLOW)  # the next answer of that group would fare no better

Key = tuple[str, int, str]


@dataclass(slots=True)
class _Entry:
    """`tries` is how often it did not go; `due`, when it is tried again."""

    left: Left
    since: float
    size: int
    tries: int = 0
    due: float = 0.0
    pause: float = 0.0

    @property
    def group_id(self) -> str:
        return self.left.settlement.lease.group_id

    def failed_again(self, again: Left) -> None:
        """It did not go. Alone is tried only what may be at fault, not what a lock skipped."""
        self.left = again
        if again.why in (Why.LOCK, Why.SLOW):
            self.tries = min(self.tries + 1, MOST_TRIES)
        elif again.why is Why.REFUSED:
            self.tries = MOST_TRIES
            self.pause = min(STUCK_PAUSES[1], max(STUCK_PAUSES[0], 2 * self.pause))
            self.due = time.monotonic() + self.pause


class Aside:
    """Of one scheduler. `wake` is set when something was written."""

    def __init__(self, me: str, wake: threading.Event) -> None:
        self._me = me
        self._wake = wake
        self._lock = threading.Lock()
        self._entries: dict[Key, _Entry] = {}
        self.bytes = 0
        self._logged: dict[tuple[str, Why], float] = {}
        self._came = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def has_room(self) -> bool:
        return len(self._entries) < MOST and self.bytes < payloads.budget()

    def known(self) -> set[tuple[str, int]]:
        """The attempts of which there is an answer here."""
        with self._lock:
            return {(id_, attempt) for id_, attempt, _ in self._entries}

    def put(self, left: Iterable[Left]) -> None:
        now = time.monotonic()
        with self._lock:
            for each in left:
                entry = _Entry(each, now, weight(each.settlement))
                if each.why is Why.REFUSED:
                    entry.failed_again(each)
                self._entries[each.settlement.fence] = entry
                self.bytes += entry.size
            if self._entries and self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._work, name="crew_aside", daemon=True)
                self._thread.start()
        self._came.set()

    def sift(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Without those of stuck groups, which are put aside here."""
        if not self._entries:
            return list(settlements)
        stuck = self._stuck_groups()
        self.put(Left(s, stuck[s.lease.group_id]) for s in settlements if s.lease.group_id in stuck)
        return [s for s in settlements if s.lease.group_id not in stuck]

    def _stuck_groups(self) -> dict[str, Why]:
        with self._lock:
            return {
                e.group_id: e.left.why for e in self._entries.values() if e.left.why in STOPS_GROUP
            }

    def full(self) -> Collection[str]:
        """Groups of which no more large answers are read: others want some of the memory too."""
        return self._stuck_groups().keys() if self.bytes > payloads.budget() // 2 else ()

    def closed(self) -> list[str]:
        """Groups whose answers cannot be written for now: no more tasks of them are started."""
        if not self._entries:
            return []
        early = time.monotonic() - CLOSED_AFTER
        waiting: defaultdict[str, int] = defaultdict(int)
        with self._lock:
            for entry in self._entries.values():
                if entry.since < early and entry.left.why in (Why.GROUP, Why.LOCK):
                    waiting[entry.group_id] += PILE if entry.left.why is Why.GROUP else 1
        return sorted(group_id for group_id, count in waiting.items() if count >= PILE)

    def stop(self, seconds: float) -> None:
        """End the thread; what is still aside stays leased until the lease is over."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._came.set()
        if thread:
            thread.join(seconds)

    # --- In the thread ---

    def _work(self) -> None:
        pause = 0.0
        try:
            while self._goes_on():
                longer = min(PAUSES[1], max(PAUSES[0], 2 * pause))
                pause = PAUSES[0] if self._safe_round() else longer
                self._came.clear()
                self._came.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311
        finally:
            connections.close_all()

    def _goes_on(self) -> bool:
        with self._lock:
            if self._entries and not self._stopped:
                return True
            self._thread = None
            return False

    def _safe_round(self) -> bool:
        try:
            return self._round()
        except Exception as error:  # noqa: BLE001  an outage; what is aside outlives it
            logger.debug("Nothing could be written of what is aside: %s", error)
            connections.close_all()
            return False

    def _round(self) -> bool:
        """Try each group; of those that are locked, wait in line for one. Whether any went."""
        groups = list({entry.group_id: None for entry in self._due()})
        random.shuffle(groups)
        went, locked = False, []
        for group_id in groups:
            with hastily(BESIDE):
                is_locked, some_went = self._try_group(group_id)
            went |= some_went
            if is_locked:
                locked.append(group_id)
        if locked and not went:
            went = self._wait_in_line(locked[0])
        if went:
            self._wake.set()
        self._tell()
        return went

    def _due(self, group_id: str | None = None) -> list[_Entry]:
        now = time.monotonic()
        with self._lock:
            return [
                entry
                for entry in self._entries.values()
                if entry.due <= now and group_id in (None, entry.group_id)
            ]

    def _try_group(self, group_id: str) -> tuple[bool, bool]:
        """Whether the group is locked, and whether anything of it was written."""
        until, failures, went = time.monotonic() + ROUND, 0, False
        for batch in _batches(self._due(group_id)):
            reset_queries()  # as in a turn
            left = self._write(batch)
            self._replace(batch, left)
            went |= len(left) < len(batch)
            failures += len(left) == len(batch)
            if any(each.why is Why.GROUP for each in left):
                return True, went
            if failures == FAILURES or time.monotonic() > until:
                break
        return False, went

    def _wait_in_line(self, group_id: str) -> bool:
        """For the group, behind others; if it does not come to us, it is as locked as before."""
        batch = next(_batches(self._due(group_id)), [])
        with hastily(IN_LINE):
            left = settle_each([entry.left.settlement for entry in batch]).left
        if len(left) < len(batch):
            self._replace(batch, left)
        return len(left) < len(batch)

    def _write(self, batch: Sequence[_Entry]) -> Sequence[Left]:
        left = settle_each([entry.left.settlement for entry in batch]).left
        if len(batch) == 1 and left and left[0].why is Why.SLOW:
            return self._judge(left[0])
        return [still for each in left for still in self._make_way(each)]

    def _make_way(self, left: Left) -> Sequence[Left]:
        """Clear away what earlier answers to the task made, as far as that goes, and write it."""
        settlement = left.settlement
        if left.why is not Why.MUCH:
            return [left]
        named = [child.id for child in getattr(settlement.outcome, "children", ())]
        within = CLEARED.within
        try:
            if not earlier_children.clear(settlement.lease, named, within=within, seconds=CLEARS):
                return [left]
        except DatabaseError as error:
            if why_not(error) is None:
                raise
            return [left]  # somebody has the group, or the database is slow: it goes on later
        with hastily(CLEARED):
            return settle_each([settlement]).left

    def _judge(self, left: Left) -> Sequence[Left]:
        """A single answer that took too long: it is at fault if small things work beside it."""
        settlement = left.settlement
        with hastily(AT_LAST):
            again = settle_each([settlement]).left
        if not again or again[0].why is not Why.SLOW:
            return again
        if not self._works():
            raise DatabaseError("the database is slow for everything")
        words = f"{UNSTORABLE}: the database did not get done with it"
        logger.error("Task %s: %s", one_line(settlement.lease.task_id), words)
        is_written = not settle_each([plain(settlement, words)]).left
        return () if is_written else (Left(settlement, Why.REFUSED),)

    def _works(self) -> bool:
        """Whether a small statement and a small write are done at once."""
        started = time.monotonic()
        with transaction.atomic():
            run_steered(within=WORKS)
            SchedulerProcess.objects.filter(pk=self._me).update(slots=F("slots"))
        return time.monotonic() - started < WORKS.statement

    def _replace(self, batch: Sequence[_Entry], left: Sequence[Left]) -> None:
        """Forget what was written, and keep what became of the rest."""
        still = {each.settlement.fence: each for each in left}
        with self._lock:
            for entry in batch:
                each = still.get(entry.left.settlement.fence)
                if each is None:
                    del self._entries[entry.left.settlement.fence]
                    self.bytes -= entry.size
                else:
                    entry.failed_again(each)

    def _tell(self) -> None:
        """Name in the log what is locked for long: once, and from time to time again."""
        now = time.monotonic()
        waiting: defaultdict[tuple[str, Why], list[_Entry]] = defaultdict(list)
        with self._lock:
            for entry in self._entries.values():
                if entry.left.why in LOCKED and entry.since < now - LOGGED_AFTER:
                    waiting[entry.group_id, entry.left.why].append(entry)
        self._logged = {what: at for what, at in self._logged.items() if what in waiting}
        for (group_id, why), entries in waiting.items():
            if now - self._logged.get((group_id, why), -LOGGED_EVERY) < LOGGED_EVERY:
                continue
            self._logged[group_id, why] = now
            text = "Task group %s: %s answers wait for %.0f s, the first of task %s: %s"
            task_id, seconds = entries[0].left.settlement.lease.task_id, now - entries[0].since
            logger.warning(
                text, one_line(group_id), len(entries), seconds, one_line(task_id), why.value
            )


def _batches(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    """Those that failed as often, together: the fewer, the more often that was."""
    by_tries: defaultdict[int, list[_Entry]] = defaultdict(list)
    for entry in entries:
        by_tries[entry.tries].append(entry)
    for tries, those in sorted(by_tries.items()):
        size = max(1, ANSWERS_PER_TRANSACTION // PARTS**tries)
        if size == 1:
            random.shuffle(those)  # not all may have their turn
        yield from _together(those, size)


def _together(entries: Iterable[_Entry], most: int) -> Iterator[list[_Entry]]:
    """So many at most, and no more bytes of them than one statement gets done with."""
    batch: list[_Entry] = []
    size = 0
    for entry in entries:
        if batch and (len(batch) == most or size + entry.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch

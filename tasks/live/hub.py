"""What happens in groups, told to the sockets that watch them.

One hub per process. While somebody watches, its thread reads the changes as they are committed;
a commit of this very process is told by the thread that made it, before that goes on. The
database is the truth: whatever is lost on the way, the next look finds it.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from django.db import DatabaseError

from ..sql import wakeups
from ..sql.patience import close_quietly, is_outage, is_overload
from ..store import changes
from . import messages
from .change_reader import Seen, Tail
from .pacing import Pace, most_one_by_one
from .socket_queue import Watcher

logger = logging.getLogger("crew.live.hub")

AGAIN = 1.0  # seconds until the next try after an error
CALM = 0.02  # seconds in which what happens goes together, after something was told
LINGER = 2.0  # seconds until the hub closes its connection when nobody watches any more
TOLD_WITHIN = 1.0  # seconds a commit waits at most until its browsers are told
MOST_FLUSHED = 1_000  # tasks told by the thread that committed; with more it would take too long
FORGOTTEN = changes.KEPT_MINUTES * 30  # seconds without a look, after which changes may be gone
MOST_MISSED = 1_000  # changes told at once; who missed more loads its group again

Batch = list[tuple[Watcher, Sequence[str]]]


class Hub:
    """Who watches what, and one reader of the changes for all of them."""

    def __init__(self) -> None:
        self._look = threading.Lock()  # held while one thread reads and hands out
        self._members = threading.Lock()  # held for moments only
        self._watchers: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._tail: Tail | None = None
        self._owed: list[Seen] = []  # read, and not told yet because the database went away
        self._places: dict[str, int] = {}  # up to where the watchers of each group know all
        self._pace = Pace()
        self._looked_at = 0.0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._last_watched = 0.0

    # --- For sockets -----------------------------------------------------------------------

    def join(self, watcher: Watcher, since: int | None = None) -> int:
        """From now on the watcher gets what is committed in its group. Reads the database.

        With `since`, the `change` of a message, first what came after that message, or a reload.
        Returns where the watcher stands now, for a later `since`.
        """
        with self._look:
            tail = self._tail
            if tail is None:
                tail = Tail()
                tail.start([watcher.group_id])
                self._tail, self._looked_at = tail, time.monotonic()
            else:
                # What came before is told to the others, and not taken for news afterwards.
                self._tell([watcher.group_id], at_once=[watcher.group_id])
            if since is not None:
                self._send([(watcher, self._missed(tail, watcher.group_id, since))])
            with self._members:
                if watcher.dropped.is_set():
                    return tail.safe  # its socket went meanwhile
                self._watchers[watcher.group_id].add(watcher)
                changes.on_committed = self.flush
                self._places[watcher.group_id] = tail.safe
                if self._thread is None:
                    self._stop.clear()
                    self._thread = threading.Thread(target=self._run, name="crew-stream")
                    self._thread.daemon = True
                    self._thread.start()
            return tail.safe

    def leave(self, watcher: Watcher) -> None:
        """Never waits, and may be called twice. In the watcher's own event loop."""
        watcher.leave()
        self._forget(watcher)

    def _forget(self, watcher: Watcher) -> None:
        with self._members:
            watchers = self._watchers.get(watcher.group_id, set())
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(watcher.group_id, None)
            if not self._watchers:
                changes.on_committed = None

    def count(self) -> int:
        """How many watch, in all groups."""
        with self._members:
            return sum(map(len, self._watchers.values()))

    # --- For those who commit --------------------------------------------------------------

    def flush(self, groups: set[str]) -> None:
        """Tell all that is committed to those who watch these groups ("" = all), now.

        Returns when their sockets have it, after a second at most. For the thread of a request:
        its answer then never comes before the news of what it did, unless that is very much.
        """
        started = time.monotonic()
        with self._members:
            watched = set(self._watchers)
        concerned = watched if "" in groups else watched & groups
        if not concerned or not self._look.acquire(timeout=TOLD_WITHIN):
            return
        try:
            self._tell(most=MOST_FLUSHED, at_once=concerned)
        except DatabaseError:
            logger.warning("What was committed could not be told at once", exc_info=True)
        finally:
            self._look.release()
        self._wait_until_sent(concerned, started + TOLD_WITHIN)

    def close(self) -> None:
        """End the thread and give its connection back."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(10)

    # --- The look --------------------------------------------------------------------------

    def _tell(
        self, more: Sequence[str] = (), *, most: int | None = None, at_once: Collection[str] = ()
    ) -> bool:
        """Read what is new, for `more` groups too, and hand it out; say whether there was any.

        What is about more than `most` tasks is left to the next call. `at_once` are groups that
        are told now even while they rest (`live/pacing.py`).
        """
        if self._tail is None:
            return False
        with self._members:
            watchers = {name: len(found) for name, found in self._watchers.items()}
        new, has_gap = self._read(self._tail, {*watchers, *more})
        self._owed = self._pace.due(self._owed + new, now=time.monotonic(), at_once=at_once)
        if not self._owed and not has_gap:
            self._stand(watchers, self._tail.safe)
            return bool(new)
        count = sum(len(change.created) + len(change.updated) for change in self._owed)
        if most is not None and count > most and not has_gap:
            return False
        if len(self._owed) > MOST_MISSED or has_gap:
            told = messages.reloads(self._owed, watchers, self._tail.safe)
        else:
            each = {name: most_one_by_one(count) for name, count in watchers.items()}
            told = messages.messages(self._owed, each, self._tail.safe, before=self._places)
        self._owed = []
        self._stand(watchers, self._tail.safe)
        self._pace.told(watchers, told, now=time.monotonic())
        with self._members:
            batch = [
                (watcher, messages)
                for group_id, messages in told.items()
                for watcher in self._watchers.get(group_id, ())
            ]
        self._send(batch)
        return True

    def _read(self, tail: Tail, groups: Collection[str]) -> tuple[list[Seen], bool]:
        """What is new; and whether there may be more that is forgotten already."""
        newest, was = tail.newest, self._looked_at
        new = tail.read(groups)
        self._looked_at = time.monotonic()
        has_gap = self._looked_at > was + FORGOTTEN and tail.has_gap(newest)
        lost = {name for one in new if one.group_event == changes.RIGHTS for name in one.updated}
        if lost or has_gap:
            self._doubt({""} if has_gap else lost)
        return [one for one in new if one.group_event != changes.RIGHTS], has_gap

    def _doubt(self, names: Collection[str]) -> None:
        """Let the sockets of these look whether they may stay; "" is all of them."""
        with self._members:
            watchers = [
                each
                for found in self._watchers.values()
                for each in found
                if "" in names or each.names.intersection(names)
            ]
        for watcher in watchers:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                watcher.loop.call_soon_threadsafe(watcher.doubted.set)

    def _stand(self, groups: Iterable[str], place: int) -> None:
        """All is told up to here, but what is kept back of a group that rests."""
        kept = self._pace.kept()
        self._places = {name: self._places[name] if name in kept else place for name in groups}

    def _missed(self, tail: Tail, group_id: str, since: int) -> Sequence[str]:
        reload = messages.reloads([], {group_id}, tail.safe)[group_id]
        try:
            missed = tail.missed(group_id, since, most=MOST_MISSED)
            if missed is None:
                return reload
            told = messages.messages(missed, {group_id}, tail.safe, before={group_id: since})
        except DatabaseError as error:
            if not is_overload(error):
                raise
            return reload  # it would be too much the next time too
        return told.get(group_id, [])

    def _send(self, batch: Batch) -> None:
        """Put it into the sockets' queues, in their own event loops, in the order of the calls."""
        for loop, part in _by_loop(batch).items():
            try:
                loop.call_soon_threadsafe(_put, part)
            except RuntimeError:  # the loop is closed, its sockets are gone
                for watcher, _ in part:
                    self._forget(watcher)

    def _wait_until_sent(self, groups: Iterable[str], deadline: float) -> None:
        with self._members:
            watchers = [each for name in groups for each in self._watchers.get(name, ())]
        for loop, part in _by_loop([(watcher, ()) for watcher in watchers]).items():
            if _runs_here(loop):
                continue  # waiting for ourselves would be forever
            with contextlib.suppress(RuntimeError, TimeoutError):
                sent = asyncio.run_coroutine_threadsafe(_all_told(part), loop)
                sent.result(max(0.0, deadline - time.monotonic()))

    # --- The thread ------------------------------------------------------------------------

    def _run(self) -> None:
        """Look, again and again, until nobody watches any more; outlive every error."""
        failing = False
        while True:
            try:
                with wakeups.listen(changes.CHANGES) as wait:
                    while not self._is_over():
                        with self._look:
                            told = self._tell()
                        failing = False
                        if told:
                            self._stop.wait(CALM)
                        wait(self._stop, self._pace.rest(now=time.monotonic()))
                break
            except Exception as error:  # noqa: BLE001  the loop must outlive every error
                if not failing:
                    logger.warning("No live news for now: %s; trying again", error)
                elif is_overload(error) or not is_outage(error):
                    self._skip()
                failing = True
                close_quietly()
                self._stop.wait(AGAIN)
        close_quietly()

    def _skip(self) -> None:
        """Go past what cannot be told, and have everybody load again; a failure is tried again."""
        with self._look, contextlib.suppress(DatabaseError):
            with self._members:
                watchers = [each for found in self._watchers.values() for each in found]
            groups = {each.group_id for each in watchers}
            tail = Tail()
            tail.start(groups)
            self._tail, self._looked_at = tail, time.monotonic()
            self._owed, self._pace = [], Pace()
            self._places = dict.fromkeys(groups, tail.safe)
            told = messages.reloads([], groups, tail.safe)
            self._send([(each, told[each.group_id]) for each in watchers])
            self._doubt({""})
            logger.error("What happened could not be told: whoever watches loads its group again")

    def _is_over(self) -> bool:
        """Whether to end, because nobody has watched for a while; then nothing is left of us."""
        if self.count():
            self._last_watched = time.monotonic()
        if not self._stop.is_set() and time.monotonic() < self._last_watched + LINGER:
            return False
        with self._look, self._members:
            if self._watchers and not self._stop.is_set():
                return False
            self._tail = self._thread = None
            self._owed = []
            self._places = {}
            self._pace = Pace()
            return True


hub = Hub()


def _put(batch: Batch) -> None:
    for watcher, sent in batch:
        watcher.put(sent)


async def _all_told(batch: Batch) -> None:
    await asyncio.gather(*(watcher.told() for watcher, _ in batch))


def _by_loop(batch: Batch) -> Mapping[asyncio.AbstractEventLoop, Batch]:
    parts: defaultdict[asyncio.AbstractEventLoop, Batch] = defaultdict(list)
    for watcher, sent in batch:
        parts[watcher.loop].append((watcher, sent))
    return parts


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False

"""The bytes that a scheduler holds for its calls: one sum, which `CREW_CALLS_BYTES` bounds.

Bodies count until they are sent; answers from when they turn out to be large until they are
written, whatever keeps the database. What is small (`LARGE`) counts for nothing: there are no more
of it than slots. Each answer has room for all of it or waits with its worker, so those that are
read come to an end; and one is read in any case.
"""

import sys
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field

from ..conf import conf
from ..delivery.calls import LARGE, GoOn
from ..rules.decide import Answer
from ..store import payloads
from .settlement import Returned, Settlement

# Of answers that are written at once: what a statement and its driver make of them is ten times
# as much, and PostgreSQL takes 256 MiB, but not in time.
BATCH_BYTES = 4 * 1024 * 1024
FEW = 8  # tasks: a claim that had no room for all it took takes so many in any case
NO_ROOM = 1.0  # seconds: so long calls that are not sent keep others waiting for their room

Key = tuple[str, int]  # task id and attempt


@dataclass(frozen=True, slots=True)
class _Waiting:
    group_id: str
    size: int
    go_on: GoOn


class Ledger:
    """Of one scheduler; used by any thread. `aside` gives the bytes that are aside."""

    def __init__(self, aside: Callable[[], int]) -> None:
        self._aside = aside
        self._kept = int(conf.CREW_KEEP_CALL_BYTES)
        self._lock = threading.Lock()
        self._bodies: dict[Key, int] = {}
        self._answers: dict[Key, int] = {}
        self._waiting: dict[Key, _Waiting] = {}  # the first comes first
        self._closed: Collection[str] = ()

    def room(self) -> int:
        """The bytes that the next claim may take: none before the answers that wait."""
        with self._lock:
            return 0 if self._waiting else payloads.budget() - self._in_use()

    @property
    def has_answers(self) -> bool:
        return bool(self._answers or self._waiting)

    # Bodies

    def sends(self, sizes: Mapping[Key, int]) -> None:
        with self._lock:
            self._bodies |= sizes

    def forget(self, keys: Iterable[Key]) -> None:
        """They are not sent."""
        with self._lock:
            for key in keys:
                self._bodies.pop(key, None)

    def sent(self, key: Key) -> bool:
        """What is kept of it to be shown counts on. Whether anything became free."""
        with self._lock:
            size = self._bodies.pop(key, 0)
            kept = min(size, self._kept)
            if kept > LARGE:
                self._bodies[key] = kept
            return size > 0

    # Answers

    def ask(self, key: Key, group_id: str, size: int, go_on: GoOn) -> bool:
        """Whether there is room for an answer now; if not, `go_on` is called when there is."""
        with self._lock:
            if not self._waiting and self._fits(group_id, size):
                self._answers[key] = size
                return True
            self._waiting[key] = _Waiting(group_id, size, go_on)
            return False

    def came(self, key: Key, answer: Answer) -> None:
        """The call has ended; what came is there, whatever the room."""
        size = len(answer.body)
        if self._kept > LARGE:
            size += len(answer.transcript.request or "") + len(answer.transcript.answer or "")
        if size <= LARGE and not (self._bodies or self._answers or self._waiting):
            return  # nearly always
        with self._lock:
            self._bodies.pop(key, None)
            self._waiting.pop(key, None)
            self._answers.pop(key, None)
            if size > LARGE:
                self._answers[key] = size

    def keep(self, known: Container[Key], closed: Collection[str]) -> None:
        """Of other answers than these nothing is in memory any more: those that wait may go on.

        But not those of `closed` groups: they would wait for long.
        """
        with self._lock:
            self._closed = closed
            for key in [key for key in self._answers if key not in known]:
                del self._answers[key]
            going = self._take_those_that_fit()
        for go_on in going:
            go_on()

    def _take_those_that_fit(self) -> list[GoOn]:
        going = []
        for key, one in list(self._waiting.items()):
            if one.group_id in self._closed:
                continue
            if not self._fits(one.group_id, one.size):
                break
            del self._waiting[key]
            self._answers[key] = one.size
            going.append(one.go_on)
        return going

    def _fits(self, group_id: str, size: int) -> bool:
        if group_id in self._closed:
            return False
        is_alone = not self._answers and not self._aside()
        return is_alone or self._in_use() + size <= payloads.budget()

    def _in_use(self) -> int:
        return sum(self._bodies.values()) + sum(self._answers.values()) + self._aside()


@dataclass(slots=True)
class Appetite:
    """How many tasks the next claim takes: fewer after one that was too much."""

    slots: int
    most: int = field(init=False)
    _short_until: float = 0.0
    _back_at: float = 0.0  # when the tasks that were put off for want of room are due again

    def __post_init__(self) -> None:
        self.most = self.slots

    @property
    def is_put_off(self) -> bool:
        """Tasks are due soon that had no room."""
        return time.monotonic() <= self._back_at

    def waits(self, room: int) -> bool:
        """The next claim waits for half of the room, for a while after one that was cut short."""
        return time.monotonic() < self._short_until and room < payloads.budget() // 2

    def failed(self) -> None:
        """It may have been too much for the database."""
        self.most = max(1, self.most // 2)

    def went(self, *, sent: int, unfit: int) -> Returned:
        """How those go back that had no room; the next claim takes little more than had."""
        if not unfit:
            self.most = min(self.slots, 2 * self.most)
            return Returned()
        self.most = max(FEW, sent + 1)
        later = time.monotonic() + NO_ROOM
        if sent:
            self._short_until = later
            return Returned()
        # So that what is small is met behind what is not, whoever holds the room.
        self._back_at = later
        return Returned(NO_ROOM)


def weight(settlement: Settlement) -> int:
    """Bytes that it keeps in memory, more or less."""
    outcome, transcript = settlement.outcome, settlement.transcript
    texts = [getattr(outcome, "output", None), transcript.request, transcript.answer]
    children = getattr(outcome, "children", ())
    texts += [text for child in children for text in (child.input_json, child.output_json)]
    return 1_000 * (1 + len(children)) + sum(sys.getsizeof(text) for text in texts if text)

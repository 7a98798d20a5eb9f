"""How many attempts each lane may start. Pure arithmetic.

A lane is what shares one place in the queue: a worker, a workgroup and a priority.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby


@dataclass(frozen=True, slots=True)
class Lane:
    worker: str
    workgroup: str
    priority: int


MOST_KEPT = 16  # slots: of many, an eighth would be a price for nothing
SMALL = 4  # who holds less than so many times what is free may take of what is kept


def room(limit: int | None, in_flight: int) -> int | None:
    """How many more attempts a worker may have in flight; None is "as many as you like"."""
    return None if limit is None else max(0, limit - in_flight)


def tightest(*rooms: Mapping[str, int | None]) -> dict[str, int | None]:
    """The smallest room of each worker."""
    least: dict[str, int | None] = {}
    for name, left in chain.from_iterable(one.items() for one in rooms):
        if left is not None:
            known = least.get(name)
            least[name] = left if known is None else min(left, known)
    return least


def may_take(*, taken: int, free: int, total: int) -> int:
    """Of `free` slots of a scheduler that has `total`, those for a worker that holds `taken`.

    An eighth of all, 16 at most, is kept from those who hold much, however many they are: what
    has stopped answering leaves the others room. Who holds little takes of it, never the last.
    """
    if total == 1:
        return free
    kept = max(1, min(total // 8, MOST_KEPT))
    return max(0, free - kept, (SMALL * free - taken) // (SMALL + 1))


def share(
    due: Mapping[Lane, int],
    *,
    slots: int,
    total: int,
    rooms: Mapping[str, int | None],
    busy: Mapping[str, int],
    answering: Collection[str] = (),
    chance: random.Random | None = None,
) -> dict[Lane, int]:
    """Divide `slots` free slots of a scheduler that has `total` among lanes with due tasks.

    Higher priorities are served first. Lanes of one priority get equal parts of the slots, and of
    the room of a worker that they share; what does not come out even goes by the lot, so that
    each has its turn. No worker gets more than its room, or than `may_take` of the slots, given
    those it has in flight (`busy`). `answering` are the workers whose last call was answered.
    """
    giving = _Giving(due, slots, total, rooms, busy, answering)
    lanes = list(due)
    (chance or random).shuffle(lanes)
    lanes.sort(key=lambda lane: -lane.priority)
    for _, equals in groupby(lanes, key=lambda lane: lane.priority):
        hungry = giving.hungry(equals)
        while hungry:
            giving.round(hungry)
            hungry = giving.hungry(hungry)
    return {lane: count for lane, count in giving.given.items() if count}


class _Giving:
    """What is left to give, and which lanes want it."""

    def __init__(
        self,
        due: Mapping[Lane, int],
        slots: int,
        total: int,
        rooms: Mapping[str, int | None],
        busy: Mapping[str, int],
        answering: Collection[str],
    ) -> None:
        self.given: Counter[Lane] = Counter()
        self.left = dict(due)
        self.slots, self.total = slots, total
        self.rooms = {name: left for name, left in rooms.items() if left is not None}
        self.taken = Counter({name: count for name, count in busy.items() if count > 0})
        self.free = total - self.taken.total()
        self.answering = answering

    def hungry(self, lanes: Iterable[Lane]) -> list[Lane]:
        """Those of the lanes that could start more."""
        some = [lane for lane in lanes if self.left[lane]] if self.slots else []
        most = {worker: self._most(worker) for worker in {lane.worker for lane in some}}
        return [lane for lane in some if most[lane.worker]]

    def round(self, hungry: Sequence[Lane]) -> None:
        """An equal part for each of these, at least one as long as there are any."""
        equals = Counter(lane.worker for lane in hungry)
        even = self.slots // len(hungry)
        parts = {worker: min(even, self._most(worker) // n) for worker, n in equals.items()}
        for lane in hungry:
            if not self.slots:
                break
            part = max(1, parts[lane.worker])
            self._give(lane, min(part, self.left[lane], self._most(lane.worker)))

    def _give(self, lane: Lane, count: int) -> None:
        self.given[lane] += count
        self.left[lane] -= count
        self.slots -= count
        self.free -= count
        self.taken[lane.worker] += count
        if lane.worker in self.rooms:
            self.rooms[lane.worker] -= count

    def _most(self, worker: str) -> int:
        taken = self.taken[worker]
        most = may_take(taken=taken, free=self.free, total=self.total)
        if self.free == 1 and not taken and self._may_have_the_last(worker):
            most = 1
        return min(most, self.slots, self.rooms.get(worker, most))

    def _may_have_the_last(self, worker: str) -> bool:
        """Not a stranger when each other slot has a worker of its own: all may be hanging."""
        each_has_one = len(+self.taken) >= self.total - 1 > 1
        return not each_has_one or worker in self.answering

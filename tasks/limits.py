"""How many attempts each lane may start. Pure arithmetic.

A lane is what shares one place in the queue: a worker, a workgroup and a priority.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Lane:
    worker: str
    workgroup: str
    priority: int


MOST_KEPT = 8  # slots: of many, an eighth would be a price for nothing


def room(limit: int | None, in_flight: int) -> int | None:
    """How many more attempts a worker may have in flight; None is "as many as you like"."""
    return None if limit is None else max(0, limit - in_flight)


def share(
    due: Mapping[Lane, int],
    *,
    slots: int,
    total: int,
    rooms: Mapping[str, int | None],
    busy: Mapping[str, int],
) -> dict[Lane, int]:
    """Divide `slots` free slots of a scheduler that has `total` among lanes with due tasks.

    Higher priorities are served first, lanes of one priority equally. No worker gets more than
    its room. Beyond half of the scheduler (`busy` and given now) a worker gets at most half of
    what is free, and never the last eighth of all, 8 slots at most: one that has stopped
    answering leaves the others room for several at a time.
    """
    caps = {lane.worker: _cap(lane.worker, slots, total, rooms, busy) for lane in due}
    given: Counter[Lane] = Counter()
    by_priority = sorted(due, key=lambda lane: (-lane.priority, lane.worker, lane.workgroup))
    for _, lanes in groupby(by_priority, key=lambda lane: lane.priority):
        slots -= _share_equally(list(lanes), due, slots, caps, given)
    return {lane: count for lane, count in given.items() if count}


def _kept_from_one(total: int) -> int:
    return max(1, min(total // 8, MOST_KEPT))


def _cap(
    worker: str,
    slots: int,
    total: int,
    rooms: Mapping[str, int | None],
    busy: Mapping[str, int],
) -> int:
    to_half = max(0, total // 2 - busy.get(worker, 0))
    free = slots if total == 1 or slots <= to_half else to_half + (slots - to_half) // 2
    if total > 1:
        free = min(free, max(0, total - _kept_from_one(total) - busy.get(worker, 0)))
    own = rooms.get(worker)
    return free if own is None else min(free, own)


def _share_equally(
    lanes: Sequence[Lane],
    due: Mapping[Lane, int],
    slots: int,
    caps: dict[str, int],
    given: Counter[Lane],
) -> int:
    """Go round until nothing is left to give; return how much was given."""
    before = slots
    while slots:
        hungry = [lane for lane in lanes if due[lane] > given[lane] and caps[lane.worker]]
        if not hungry:
            break
        portion = max(1, slots // len(hungry))
        for lane in hungry:
            take = min(portion, due[lane] - given[lane], caps[lane.worker], slots)
            given[lane] += take
            caps[lane.worker] -= take
            slots -= take
    return before - slots

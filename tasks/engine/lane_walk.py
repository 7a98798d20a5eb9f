"""Which lanes a claim looks at: those that had work lately, and a part of all others in turn.

Of thousands of lanes most may have nothing to take, as those of held workgroups. To look at each of
them in every claim would cost more than all else. No database here.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..rules.fair_share import Lane

PAGE = 1_000  # lanes: the most that one claim looks at in turn, and
FEW = 50  # while there is other work
PACE = 10_000  # lanes a second beside other work, or as many as take
SHARE = 0.15  # of the time, where the database is slow
KNOWN = 200  # lanes with work that one claim looks at
EVERY = 1.0  # seconds in which all lanes have been looked at

Place = tuple[str, str, int]
START: Place = ("", "", -32_768)


@dataclass(frozen=True, slots=True)
class Part:
    """What one claim looks at: `count` lanes behind `place`, and the lanes of `known`."""

    place: Place
    count: int
    known: tuple[Lane, ...]


class Walk:
    """Of one scheduler, over all lanes again and again. Times are of the monotonic clock.

    While all lanes come in one part, each claim looks at all of them.
    """

    def __init__(self) -> None:
        self._known: dict[Lane, float] = {}  # since when there is nothing to take, or latest work
        self._place = START
        self._is_whole = True  # the last walk was one part
        self._again = False  # there may be work behind us
        self._arrivals = 0
        self._began = self._went_on = self._asked = 0.0
        self._pace = float(PACE)
        self._soonest: float | None = None  # when a lane that was looked at is due

    @property
    def goes_on(self) -> bool:
        """There are more lanes than were looked at since the start."""
        return self._place != START

    @property
    def hides_some(self) -> bool:
        """Not all lanes with work are looked at in one claim."""
        return not self._is_whole and len(self._known) > KNOWN

    def wait(self, now: float) -> float | None:
        """Seconds until the next lane is due, of those that this walk has seen."""
        return None if self._soonest is None else max(0.0, self._soonest - now)

    def freed(self, lanes: Iterable[Lane], now: float) -> None:
        """Of these some tasks became ready: the next claim looks at them."""
        self._known.update(dict.fromkeys(lanes, now))

    def look_again(self) -> None:
        """Tasks of any lane may have become ready, and we may be past it."""
        self._again = True

    def hear(self, arrivals: int) -> None:
        """How often work arrived from elsewhere, whatever its lane."""
        self._again |= arrivals != self._arrivals
        self._arrivals = arrivals

    def part(self, now: float) -> Part:
        """What to look at now."""
        if not self.goes_on and self._is_due(now):
            self._again, self._began, self._soonest = False, now, None
        elif not self.goes_on:
            return Part(START, 0, self._sample())
        self._asked = now
        return Part(self._place, self._count(now), () if self._is_whole else self._sample())

    def seen(self, part: Part, found: Sequence[Any], known: Sequence[Any], now: float) -> None:
        """Rows of lanes, as in the statement LANES: those of the part, and the known ones."""
        for *lane, due, wait in (row[:5] for row in (*found, *known)):
            if due:
                self._known[Lane(*lane)] = now
            elif wait is not None:
                self._soonest = min(now + wait, self._soonest or now + wait)
        for lane in part.known:
            if now - self._known.get(lane, now) > EVERY:
                del self._known[lane]
        if part.count:
            is_over = len(found) < part.count
            self._is_whole = is_over and part.place == START
            self._place = START if is_over else tuple(found[-1][:3])
            self._went_on = now
            took = now - self._asked
            self._pace = min(PACE, SHARE * len(found) / took) if took else PACE

    def _is_due(self, now: float) -> bool:
        if self._is_whole or self._again or now - self._began >= EVERY:
            return True
        return self._soonest is not None and now >= self._soonest

    def _count(self, now: float) -> int:
        """Many at once, unless other lanes wait for it."""
        if not self._known:
            return PAGE
        return min(PAGE, max(FEW, int(self._pace * (now - self._went_on))))

    def _sample(self) -> tuple[Lane, ...]:
        """Of too many any, so that each has its turn."""
        lanes = tuple(self._known)
        return lanes if len(lanes) <= KNOWN else tuple(random.sample(lanes, KNOWN))

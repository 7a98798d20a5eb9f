"""How fast the watchers of one group are told, so that a busy group with many of them takes a
bounded part of its web process, and none of the others'.

What is told at once costs a frame for each task and watcher. A group rests after it for as long as
those frames may take; what happens meanwhile goes together, each task once. Where that is still
too much, they are told to load the group again, and then rest longer: they all come and do it.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from .change_reader import Seen

FRAMES = 20_000  # told to the watchers of one group at once, and in a second
RELOAD_REST = 1.0  # seconds after a reload
RELOAD_EACH = 0.02  # seconds more for each watcher
RELOAD = '{"type":"reload"'  # how its message begins


class Pace:
    """Which groups rest, and what is kept back for them. Not for two threads at once."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._kept: defaultdict[str, list[Seen]] = defaultdict(list)

    def due(self, news: Iterable[Seen], *, now: float, at_once: Collection[str]) -> list[Seen]:
        """What is to be told now, in order: what is about a resting group is kept for later.

        `at_once` are groups that do not rest this time. A group that is deleted never does, and
        for a hold, which concerns all groups, none does: no message of a group may say that its
        watchers are up to a change, as `?since` has it, while an earlier one is kept.
        """
        news = list(news)
        if any(one.workgroup for one in news):
            self._until.clear()
        self._until = {name: until for name, until in self._until.items() if until > now}
        due = [
            one
            for name in list(self._kept)
            if name in at_once or name not in self._until
            for one in self._kept.pop(name)
        ]
        for one in news:
            if one.group_event == "delete":
                self._kept.pop(one.group_id, None)
                self._until.pop(one.group_id, None)
            if one.group_id in self._until and one.group_id not in at_once:
                self._kept[one.group_id].append(one)
            else:
                due.append(one)
        return due

    def told(
        self, watchers: Mapping[str, int], messages: Mapping[str, Sequence[str]], *, now: float
    ) -> None:
        """So many watchers of each group get these messages."""
        for name, texts in messages.items():
            count = watchers.get(name, 0)
            rest = count * len(texts) / FRAMES
            if any(text.startswith(RELOAD) for text in texts):
                rest += RELOAD_REST + RELOAD_EACH * count
            self._until[name] = max(self._until.get(name, 0.0), now + rest)

    def kept(self) -> Collection[str]:
        """The groups of which something is kept back."""
        return self._kept.keys()

    def rest(self, *, now: float) -> float:
        """Seconds until something that is kept back is due; forever if nothing is."""
        return min((max(0.0, self._until[name] - now) for name in self._kept), default=math.inf)


def most_one_by_one(watchers: int) -> int:
    """How many tasks of a group with so many watchers are told one by one."""
    return FRAMES // max(1, watchers)

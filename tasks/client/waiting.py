"""Waiting for a group by asking again and again, ever more slowly."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from .errors import CrewError, GroupStuck, WaitTimeout
from .transport import may_pass
from .values import Group

if TYPE_CHECKING:
    from .crew import Crew

GROWTH = 1.5
MOST_POLL = 10.0  # seconds
NAMED = 10  # tasks of a kind that are named in an error
# A group with a task in one of these can go on: by itself, or once somebody resumes it.
MOVING = ("executing", "ready", "scheduled", "paused")
# These go on when a person does something about them.
STUCK = {"failed": "have no attempts left", "unassigned": "have no worker"}


class Progress(float):
    """How much of a group is complete, 0 to 1; `outage` is why no more is known at the moment."""

    outage: CrewError | None = None


@dataclass(slots=True)
class Waiting:
    """One wait, from look to look. An outage of the server is waited through."""

    crew: "Crew"
    group_id: str
    progress: Callable[[Progress], object] | None
    timeout: float | None
    until: float | None  # when that is over, by the crew's clock
    fraction: float = 0.0
    moved: bool = True
    outage: CrewError | None = None
    reported: tuple[float, bool] | None = None

    def is_over(self) -> Group | None:
        """The group, if it is complete by this look."""
        try:
            with self.crew._within(self.until):
                done = self._look()
                self.outage = None
        except CrewError as error:
            if not may_pass(error):
                raise
            done, self.outage = None, error
        self._tell()
        return done

    def _look(self) -> Group | None:
        fraction = self.crew.progress(self.group_id)
        self.moved, self.fraction = fraction != self.fraction or self.reported is None, fraction
        if fraction >= 1 or (fraction == 0 and not self.crew.count_tasks(self.group_id)):
            return self.crew.group(self.group_id)  # an empty group has nothing left to do
        if not self.moved:
            _check_moving(self.crew, self.group_id)
        return None

    def _tell(self) -> None:
        now = (self.fraction, self.outage is not None)
        if now != self.reported and self.progress:
            seen = Progress(self.fraction)
            seen.outage = self.outage
            self.progress(seen)
        self.reported = now

    def pause(self, poll: float) -> float:
        """Seconds until the next look; WaitTimeout when there is no time for one."""
        asked = getattr(self.outage, "retry_after", None)
        poll = max(poll, asked or 0)
        left = poll if self.until is None else min(poll, self.until - self.crew._clock())
        if left > 0:
            return left
        why = f"; the server did not answer at the end: {self.outage}" if self.outage else ""
        raise WaitTimeout(
            f"group {self.group_id} was not complete within {self.timeout:g} s,"
            f" but to {self.fraction:.0%}{why}",
            self.fraction,
        )


def wait(
    crew: "Crew",
    group_id: str,
    *,
    timeout: float | None,
    poll: float,
    progress: Callable[[Progress], object] | None,
) -> Group:
    until = None if timeout is None else crew._clock() + timeout
    waiting = Waiting(crew, group_id, progress, timeout, until)
    while True:
        group = waiting.is_over()
        if group:
            return group
        crew._sleep(waiting.pause(poll))
        poll = min(poll * GROWTH, max(poll, MOST_POLL))


def _check_moving(crew: "Crew", group_id: str) -> None:
    """Raise GroupStuck when nothing that is left can go on without a person."""
    # This first and in one look: once nothing moves, only a person changes what follows.
    if crew.count_tasks(group_id, state=MOVING):
        return
    stuck = {state: crew.count_tasks(group_id, state=state) for state in STUCK}
    blocked = crew.count_tasks(group_id, state="blocked")
    left = crew.count_tasks(group_id, skip_completed=True)
    if not any(stuck.values()) or sum(stuck.values()) + blocked < left:
        return
    reasons: list[str] = []
    ids: list[str] = []
    for state, count in stuck.items():
        if count:
            some = [
                task.id
                for task in islice(crew.tasks(group_id, state=state, page_size=NAMED), NAMED)
            ]
            more = ", …" if count > len(some) else ""
            reasons.append(f"{count} {STUCK[state]} ({', '.join(some)}{more})")
            ids += some
    raise GroupStuck(
        f"group {group_id} cannot go on: of its {left} tasks left {' and '.join(reasons)}",
        tuple(ids[:NAMED]),
    )

"""Waiting for a group by asking again and again, ever more slowly."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import GroupStuck, WaitTimeout
from .values import Group

if TYPE_CHECKING:
    from .crew import Crew

GROWTH = 1.5
MOST_POLL = 10.0  # seconds
TOLD = 10  # failed tasks named in an error
# A group with a task in one of these can go on: by itself, or once somebody resumes it.
MOVING = ("executing", "ready", "scheduled", "paused")


def wait(
    crew: "Crew",
    group_id: str,
    *,
    timeout: float | None,
    poll: float,
    progress: Callable[[float], object] | None,
    sleep: Callable[[float], object],
    clock: Callable[[], float],
) -> Group:
    deadline = None if timeout is None else clock() + timeout
    before = -1.0
    while True:
        fraction = crew.progress(group_id)
        if fraction != before and progress:
            progress(fraction)
        if fraction >= 1 or (fraction == 0 and not crew.count_tasks(group_id)):
            return crew.group(group_id)  # an empty group has nothing left to do
        if fraction == before:
            _check_moving(crew, group_id)
        left = poll if deadline is None else min(poll, deadline - clock())
        if left <= 0:
            raise WaitTimeout(
                f"group {group_id} was not complete within {timeout:g} s, but to {fraction:.0%}",
                fraction,
            )
        before = fraction
        sleep(left)
        poll = min(poll * GROWTH, max(poll, MOST_POLL))


def _check_moving(crew: "Crew", group_id: str) -> None:
    """Raise GroupStuck when all that is left has failed for good, or waits for what has."""
    # This first and in one look: once nothing moves, only a person changes what follows.
    if crew.count_tasks(group_id, state=MOVING):
        return
    failed = crew.count_tasks(group_id, state="failed")
    blocked = crew.count_tasks(group_id, state="blocked")
    left = crew.count_tasks(group_id, skip_completed=True)
    if not failed or failed + blocked < left:
        return
    rows = crew.tasks(group_id, state="failed", page_size=TOLD)
    ids = tuple(task.id for _, task in zip(range(TOLD), rows, strict=False))
    raise GroupStuck(
        f"group {group_id} can not go on: {failed} of its {left} tasks left have no attempts left"
        f" ({', '.join(ids)}{', …' if failed > TOLD else ''})",
        ids,
    )

"""Waiting for a group by asking again and again, ever more slowly."""

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from .errors import GroupStuck, WaitTimeout
from .values import Group

if TYPE_CHECKING:
    from .crew import Crew

GROWTH = 1.5
MOST_POLL = 10.0  # seconds
TOLD = 10  # tasks of a kind that are named in an error
# A group with a task in one of these can go on: by itself, or once somebody resumes it.
MOVING = ("executing", "ready", "scheduled", "paused")
# These go on when a person does something about them.
STUCK = {"failed": "have no attempts left", "unassigned": "have no worker"}


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
                task.id for task in islice(crew.tasks(group_id, state=state, page_size=TOLD), TOLD)
            ]
            more = ", …" if count > len(some) else ""
            reasons.append(f"{count} {STUCK[state]} ({', '.join(some)}{more})")
            ids += some
    raise GroupStuck(
        f"group {group_id} cannot go on: of its {left} tasks left {' and '.join(reasons)}",
        tuple(ids[:TOLD]),
    )

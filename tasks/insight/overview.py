"""What there is to do first: groups and how far they are, and the fleet. Reads only.

The cost grows with what is shown: with what is left to do in the groups shown (of one, at most
`LEFT_COUNTED` rows), and with what `fleet_now` looks at.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from ..models import TaskGroup
from ..rules.jsonio import dump
from ..sql import clock, run
from ..sql import overview as sql
from ..sql.probes import probed
from ..store.states import Progress
from .fleet.now import Fleet, fleet_at

GROUPS = 20
GROUPS_ASKED = 200  # by their ids, at most
LOOKED_AT = 1_000  # newest groups, and older ones that are not finished, among which we look
LEFT_COUNTED = 10_000  # tasks left of one group whose states are counted: those created first


@dataclass(frozen=True, slots=True)
class Group:
    """`uncounted` more tasks are left, whose states were not looked at: there are too many.

    `progress` leaves them out, in its total too; what it says is complete is exact.
    """

    id: str
    name: str
    created_at: datetime
    is_paused: bool
    progress: Progress
    uncounted: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """`fleet` is None for who may see some groups only: it tells of the work of all.

    `is_exact` is False when groups with something left may be missing, because there are more
    than 1,000 such among the older ones.
    """

    at: datetime
    groups: tuple[Group, ...]
    is_exact: bool
    fleet: Fleet | None


def overview(group_ids: Iterable[str] | None = None) -> Overview:
    """The newest groups with something left to do, then the newest finished, and the fleet.

    `group_ids` are those the caller may see (`access.Access.group_ids`); None = all.
    """
    with sql.steered():
        groups, is_exact = _groups(None if group_ids is None else sorted(group_ids))
        at = clock()
        return Overview(at, groups, is_exact, fleet_at(at) if group_ids is None else None)


def lines(groups: Sequence[TaskGroup]) -> tuple[Group, ...]:
    """How far each of these groups is."""
    with sql.steered():
        return tuple(_lines(groups))


def _groups(ids: list[str] | None) -> tuple[tuple[Group, ...], bool]:
    newest = list(_by_age(ids)[:LOOKED_AT])
    params = {"groups": dump([row.pk for row in newest])}
    has_left = {id_ for (id_,) in run(sql.OPEN_AMONG, params)}
    open_ = [row for row in newest if row.pk in has_left][:GROUPS]
    is_exact = len(open_) == GROUPS or len(newest) < LOOKED_AT
    if not is_exact and ids is None:
        found = {id_ for (id_,) in run(sql.OPEN_GROUPS, {"most": LOOKED_AT})}
        is_exact = len(found) < LOOKED_AT
        open_ += list(_by_age(sorted(found - has_left))[: GROUPS - len(open_)])
    finished = [row for row in newest if row.pk not in has_left]
    shown = open_ + finished[: GROUPS - len(open_)]
    return tuple(_lines(shown)), is_exact


def _by_age(ids: list[str] | None) -> QuerySet[TaskGroup]:
    rows = TaskGroup.objects.all() if ids is None else TaskGroup.objects.filter(probed("id", ids))
    return rows.order_by("-created_at", "-id")


def _lines(rows: Sequence[TaskGroup]) -> Iterator[Group]:
    """One query counts for all groups, a second those of which very much is left."""
    states: dict[str, dict[str, int]] = {row.pk: {} for row in rows}
    params = {"groups": dump(list(states)), "most": LEFT_COUNTED}
    for id_, state, n in run(sql.LEFT, params):
        states[id_][state] = n
    many = [id_ for id_, counts in states.items() if sum(counts.values()) == LEFT_COUNTED]
    left = dict(run(sql.COUNT_LEFT, {"groups": dump(many)})) if many else {}
    for row in rows:
        uncounted = max(0, left.get(row.pk, 0) - LEFT_COUNTED)
        progress = Progress(max(0, row.task_count - uncounted), **states[row.pk])
        yield Group(row.pk, row.name, row.created_at, row.is_paused, progress, uncounted)

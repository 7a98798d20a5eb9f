"""Groups and tasks as people look for them: filters and pages, all in the database."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import F, Model, Q, QuerySet
from django.db.models.functions import Now
from django.db.models.lookups import IContains

from ..errors import InvalidInputError
from ..models import ParentEdge, Task, TaskGroup
from ..models.queries import READY, in_state
from ..rules.states import State
from ..sql import on_postgres, steer
from ..sql.probes import among, probed
from ..store import portions
from ..store.states import HELD
from . import cursor
from .cursor import After

Row = TypeVar("Row", bound=Model)

MAX_SEARCH = 200  # characters
DEEP = 1_000  # rows before a page

_IS_LATER = Q(run_after__gt=Now()) | HELD
# The states as conditions, so that an index can serve them.
IN_STATE: dict[str, Q] = {
    **{state: in_state(state) for state in State},
    State.SCHEDULED: READY & _IS_LATER,
    State.READY: READY & Q(run_after__lte=Now()) & ~HELD,
}


class Holds(IContains):
    """`icontains`, on the column itself also on PostgreSQL.

    There Django compares upper(name), of which the planner knows nothing: it then takes any word
    for a rare one, and sorts every row that holds it for a page of 20.
    """

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        name, name_params = compiler.compile(self.lhs)
        pattern, pattern_params = self.process_rhs(compiler, connection)
        return f"{name} ILIKE {pattern}", [*name_params, *pattern_params]


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks of a group; the empty filter means all of them.

    `search` is part of a name, whatever its case, `q` of a name or an id. `states` are
    words of `State`.
    """

    search: str = ""
    q: str = ""
    skip_completed: bool = False
    states: tuple[str, ...] = ()
    worker: str | None = None
    workgroup: str | None = None
    key: str | None = None
    seeds: bool = False
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.states) - set(IN_STATE))
        if unknown:
            known = ", ".join(IN_STATE)
            raise InvalidInputError(f"state is one of {known}; not {', '.join(unknown)}")
        _check_search(self.search)
        _check_search(self.q)

    @property
    def is_empty(self) -> bool:
        return self == TaskFilter()


@dataclass(frozen=True, slots=True)
class Page:
    """Rows `start` to `start + size` of a list; none with `size` 0."""

    start: int
    size: int

    def of(self, rows: Any) -> Any:
        """This page of a query or a list, unread."""
        return rows[self.start : self.start + self.size]


def page(number: int, size: int, *, most: int, most_all: int) -> Page:
    """The page of the old API (contract 1.3): 1 is the first, size 0 is all, on page 1 only.

    Nonsense gives an empty page. `most` caps a page's size, `most_all` the size of "all".
    """
    if size == 0:
        return Page(0, most_all if number == 1 else 0)
    if number < 1 or size < 0:
        return Page(0, 0)
    size = min(size, most)
    return Page((number - 1) * size, size)


def groups(rows: QuerySet[TaskGroup], search: str, at: Page) -> tuple[int, list[TaskGroup]]:
    """Groups whose name contains `search`, newest first: how many, and this page of them."""
    return _look(_named(rows, search).order_by("-created_at", "-id"), at)


def groups_after(
    rows: QuerySet[TaskGroup], search: str, after: After
) -> tuple[int | None, list[TaskGroup], str | None]:
    """As `groups`, from a place on; with the next place. The count comes with the first part."""
    rows = _named(rows, search)
    pairs = cursor.places(cursor.by_time(rows, after, newest_first=True))
    ids = [id_ for _, id_ in pairs[: after.size]]
    found = TaskGroup.objects.in_bulk(ids)
    going_on = cursor.cut([place for place, _ in pairs], after)
    return cursor.count(rows, after), [found[id_] for id_ in ids if id_ in found], going_on


def _named(rows: QuerySet[TaskGroup], search: str) -> QuerySet[TaskGroup]:
    _check_search(search)
    return rows.filter(Holds(F("name"), search)) if search else rows


@dataclass(frozen=True, slots=True)
class Found:
    """How many tasks there are, and the ids of a page of them; `sizes` as far as they are known.

    Of a part behind a place `count` is None. Then `places` are those of the tasks, and `going_on`
    is the place of the next part.
    """

    count: int | None
    ids: Sequence[str]
    sizes: Mapping[str, int]
    places: Sequence[str] | None = None
    going_on: str | None = None

    @property
    def is_large(self) -> bool:
        """Whether it may be megabytes; nobody knows how large rows are that were not weighed."""
        return len(self.sizes) < len(self.ids) or sum(self.sizes.values()) > portions.LIGHT

    def as_json(self) -> Iterator[bytes]:
        """The page, piece by piece."""
        rows = portions.tasks(self.ids, self.sizes)
        if self.places is None:
            return portions.page(self.count, "tasks", rows)
        going_on = portions.GoingOn(self.places, self.going_on)
        return portions.page(self.count, "tasks", rows, going_on)


NONE = Found(0, [], {})
NO_PART = Found(0, [], {}, [])


def tasks(group: TaskGroup, which: TaskFilter, at: Page) -> Found:
    """Tasks of the group, oldest first: how many there are, and this page of them."""
    rows = matching(group.pk, which).order_by("created_at", "id")
    count = group.task_count if which.is_empty else None
    if which.is_empty and at.start < DEEP:
        return found(rows, at, count)
    with _by_index():
        return found(rows, at, count)


def tasks_after(group: TaskGroup, which: TaskFilter, after: After) -> Found:
    """As `tasks`, from a place on. The count comes with the first part."""
    rows = matching(group.pk, which)
    part = cursor.by_time(rows, after)
    with _by_index():
        count = group.task_count if which.is_empty else None
        return _part(cursor.count(rows, after, count), cursor.places(part), after)


def found_after(rows: QuerySet[Task], after: After) -> Found:
    """This part of some tasks, oldest first."""
    return _part(cursor.count(rows, after), cursor.places(cursor.by_time(rows, after)), after)


def parents_after(task_id: str, after: After) -> Found:
    """This part of a task's parents, in the order they were named."""
    rows = ParentEdge.objects.filter(child_id=task_id)
    edges = cursor.by_number(rows, after, "position", newest_first=False)
    pairs = [(str(edge.position), edge.parent_id) for edge in edges]
    return _part(cursor.count(rows, after), pairs, after)


def _part(count: int | None, pairs: list[tuple[str, str]], after: After) -> Found:
    """Of places and ids, one more than asked for if there is one."""
    places, ids = [place for place, _ in pairs], [id_ for _, id_ in pairs[: after.size]]
    going_on = cursor.cut(places, after)
    is_weighed = len(ids) <= portions.FEW
    sizes = dict(portions.weighed(Task.objects.filter(probed("id", ids)))) if is_weighed else {}
    return Found(count, ids, sizes, places, going_on)


def found(rows: QuerySet[Task], at: Page, count: int | None = None) -> Found:
    """This page of some tasks; `count` is how many there are, if that is known."""
    ids, sizes = _ids(rows, at) if at.size and at.start < 2**62 else ([], {})
    if count is None:
        is_last = len(ids) < at.size and (ids or at.start == 0)
        count = at.start + len(ids) if is_last else rows.count()
    return Found(count, ids, sizes)


def _ids(rows: QuerySet[Task], at: Page) -> tuple[list[str], dict[str, int]]:
    page: QuerySet[Task] = at.of(rows)
    if at.start < DEEP and at.size <= portions.FEW:
        sizes = dict(portions.weighed(page))
        return list(sizes), sizes
    # What is skipped is then passed over in the index alone, row by row never.
    return list(page.values_list("pk", flat=True)), {}


def matching(group_id: str, which: TaskFilter) -> QuerySet[Task]:
    rows = Task.objects.filter(group_id=group_id)
    if which.search:
        rows = rows.filter(Holds(F("name"), which.search))
    if which.q:
        rows = rows.filter(Q(Holds(F("name"), which.q)) | Q(Holds(F("id"), which.q)))
    if which.skip_completed:
        rows = rows.filter(is_complete=False)
    if which.states:
        condition = Q()
        for state in which.states:
            condition |= IN_STATE[state]
        rows = rows.filter(condition)
    if which.seeds:
        rows = rows.filter(is_seed=True)
    for field in ("worker", "workgroup", "key"):
        value = getattr(which, field)
        if value is not None:
            rows = rows.filter(**{field: value})
    return rows if which.ids is None else rows.filter(among("id", which.ids))


def ids(group_id: str, which: TaskFilter) -> list[str]:
    """The ids of all matching tasks, in id order."""
    return list(matching(group_id, which).order_by("id").values_list("id", flat=True))


def some_ids(
    group_id: str, which: TaskFilter, *, after: str = "", most: int
) -> tuple[list[str], str | None]:
    """At most `most` of the matching ids, oldest first, and the place to go on from.

    None is the end. `after` is such a place: a time and an id, so it stays right when the task
    there is changed or deleted meanwhile.
    """
    part = After(after, most)
    pairs = cursor.places(cursor.by_time(matching(group_id, which), part))
    going_on = cursor.cut([place for place, _ in pairs], part)
    return [id_ for _, id_ in pairs[:most]], going_on


@contextmanager
def _by_index() -> Iterator[None]:
    """Have PostgreSQL read a group by its index, where it would rather read all groups' tasks."""
    if not on_postgres():
        yield
        return
    with transaction.atomic(savepoint=False):
        steer()
        yield


def _look(rows: QuerySet[Row], at: Page) -> tuple[int, list[Row]]:
    """How many rows there are, and this page of them.

    The page first: when it is the last one, it has said how many there are.
    """
    # A start past what the databases count to would be an error of theirs.
    page = _page(rows, at) if at.size and at.start < 2**62 else []
    is_last = len(page) < at.size and (page or at.start == 0)
    return at.start + len(page) if is_last else rows.count(), page


def _page(rows: QuerySet[Row], at: Page) -> list[Row]:
    some = at.of(rows)
    if at.start >= DEEP:
        # By id: what is skipped is then passed over in the index alone, row by row never.
        found = rows.model._default_manager.filter(pk__in=some.values("pk"))
        some = found.order_by(*rows.query.order_by)
    return list(some)


def _check_search(search: str) -> None:
    if len(search) > MAX_SEARCH:
        raise InvalidInputError(f"search is longer than {MAX_SEARCH} characters")
    if "\0" in search:
        raise InvalidInputError("search holds a NUL")

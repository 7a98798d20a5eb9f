"""Reads rows that carry payloads some at a time, as many as a budget of bytes allows.

A page and a look of the stream hold their rows in memory: without this, 500 tasks of a megabyte
each would be a gigabyte, and several in decoded form.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import F, Func, IntegerField, QuerySet, Value
from django.db.models.functions import Coalesce

from ..conf import conf
from ..models import Task
from ..rules.jsonio import dump
from ..sql import STORED, read
from ..sql.probes import probed
from . import wire

PORTION = 2 * 1024 * 1024  # bytes of payloads that are decoded at once, about
FEW = 100  # rows at once, however small
LIGHT = 256 * 1024  # bytes of a page that needs no room of its own
PAYLOADS = ("input", "output", "errors")
NONE: Mapping[str, int] = {}

T = TypeVar("T")


class Stored(Func):
    """How many bytes a payload takes, about."""

    output_field = IntegerField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = STORED.format("%(expressions)s")
        return self.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "length(CAST(%(expressions)s AS BLOB))"
        return self.as_sql(compiler, connection, template=template, **context)


@dataclass(frozen=True, slots=True)
class GoingOn:
    """Where a list goes on: behind the last of the rows that fitted, or at `place` if all did."""

    places: Sequence[str]  # of the rows, in their order
    place: str | None


def page(
    count: int | None, name: str, rows: Iterable[wire.Json], going_on: GoingOn | None = None
) -> Iterator[bytes]:
    """A page of a list as JSON, piece by piece; `isCut` says that its end did not fit.

    As many rows as `CREW_MAX_PAGE_BYTES` allows, at least one.
    """
    yield (f'{{"{name}":[' if count is None else f'{{"count":{count},"{name}":[').encode()
    left = int(conf.CREW_MAX_PAGE_BYTES)
    shown = 0
    is_cut = False
    for row in rows:
        piece = f"{',' if shown else ''}{dump(row)}".encode()
        left -= len(piece)
        is_cut = left < 0 and shown > 0
        if is_cut:
            break
        yield piece
        shown += 1
    tail = ',"isCut":true' if is_cut else ""
    if going_on:
        place = going_on.places[shown - 1] if is_cut else going_on.place
        tail += f',"next":{dump(place)}'
    yield f"]{tail}}}".encode()


def tasks(ids: Sequence[str], sizes: Mapping[str, int] = NONE) -> Iterator[wire.Json]:
    """These tasks as the wire shows them, in the order given."""
    for some in portions(ids, sizes):
        yield from wire.tasks(some)


def portions(ids: Sequence[str], sizes: Mapping[str, int] = NONE) -> Iterator[list[Task]]:
    """These tasks in the order given, some at a time; those that are gone are left out.

    `sizes` are what `weighed` gave; of others it is asked.
    """
    for at in range(0, len(ids), FEW):
        some = ids[at : at + FEW]
        known = sizes if sizes else dict(weighed(Task.objects.filter(probed("id", some))))
        for part in apart((id_, known.get(id_, 0)) for id_ in some):
            found = {task.pk: task for task in Task.objects.filter(probed("id", part))}
            yield [found[id_] for id_ in part if id_ in found]


def some(rows: QuerySet[Any]) -> Iterator[Any]:
    """The rows of a page that has no more than some kilobytes in each, not all at once."""
    return read(rows, FEW)


def weighed(rows: QuerySet[Task]) -> list[tuple[str, int]]:
    """The ids, and about how many bytes each row is; the payloads are not read."""
    total = sum((Coalesce(Stored(F(each)), 4) for each in PAYLOADS), Value(0))
    return list(rows.values_list("pk", total))


def apart(weighed: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """In portions: as many at once as may be in memory together, at least one."""
    some: list[T] = []
    size = 0
    for each, more in weighed:
        if len(some) == FEW or (some and size + more > PORTION):
            yield some
            some, size = [], 0
        some.append(each)
        size += more
    if some:
        yield some

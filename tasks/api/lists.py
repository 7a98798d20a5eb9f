"""Lists by page, or part by part from a place on (`after`)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse

from ..insight import cursor, find
from ..insight.cursor import After, Row
from ..store import portions, wire
from .answers import Page, json_answer


def listed(
    name: str, count: int | None, rows: Iterable[wire.Json], going_on: str | None
) -> HttpResponse:
    """A part of a list, and where the next one begins; the count comes with the first part."""
    head = {} if count is None else {"count": count}
    return json_answer(head | {name: list(rows), "next": going_on})


def by_name(
    name: str, rows: QuerySet[Row], after: After, show: Callable[[list[Row]], list[wire.Json]]
) -> HttpResponse:
    found = cursor.by_name(rows, after)
    going_on = cursor.cut([str(row.pk) for row in found], after)
    return listed(name, cursor.count(rows, after), show(found[: after.size]), going_on)


def numbered(
    name: str,
    rows: QuerySet[Row],
    field: str,
    show: Callable[[Row], Mapping[str, Any]],
    at: After | find.Page,
) -> Page:
    """A page, or a part, of rows that are numbered by a field, the highest first."""
    is_large = at.size > portions.FEW
    if isinstance(at, find.Page):
        some = (dict(show(row)) for row in portions.some(at.of(rows)))
        return Page(portions.page(rows.count(), name, some), is_large)
    found = cursor.by_number(rows, at, field, newest_first=True)
    places = [str(getattr(row, field)) for row in found]
    going_on = portions.GoingOn(places, cursor.cut(places, at))
    some = (dict(show(row)) for row in found[: at.size])
    return Page(portions.page(cursor.count(rows, at), name, some, going_on), is_large)

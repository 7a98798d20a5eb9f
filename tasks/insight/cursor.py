"""Lists that are read part by part: what comes, goes or changes meanwhile shifts nothing.

The place after a row is text made of what orders the list, which no verb changes. So every row
that is there from the first part to the last comes exactly once.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import DateTimeField, Model, Q, QuerySet, TextField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast

from ..errors import InvalidInputError
from ..rules.names import MAX_LENGTH
from ..sql import on_postgres

Row = TypeVar("Row", bound=Model)

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?(\+00)?", re.ASCII)
_NUMBER = re.compile("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class After:
    """So many rows from a place on; "" is the start of the list."""

    place: str
    size: int


def by_time(rows: QuerySet[Any], after: After, *, newest_first: bool = False) -> QuerySet[Any]:
    """Times and ids for `places`, in the order of `created_at` and `id`, unread.

    Raises InvalidInputError for a place that is none.
    """
    if after.place:
        at, id_ = _read_time(after.place)
        beyond = "lt" if newest_first else "gt"
        rows = rows.filter(
            Q(**{f"created_at__{beyond}": at}) | Q(created_at=at, **{f"id__{beyond}": id_}),
            **{f"created_at__{beyond}e": at},  # what an index can begin at
        )
    # Times as the database writes them: SQLite compares their text, which Django would change.
    rows = rows.annotate(at=Cast("created_at", TextField()))
    order = ("-created_at", "-id") if newest_first else ("created_at", "id")
    return rows.order_by(*order).values_list("at", "id")[: after.size + 1]


def places(by_time: QuerySet[Any]) -> list[tuple[str, str]]:
    """Places and ids; one more than asked for, if there is one."""
    return [(f"{at}/{id_}", id_) for at, id_ in by_time]


def by_number(rows: QuerySet[Row], after: After, field: str, *, newest_first: bool) -> list[Row]:
    """Rows in the order of a number; one more than asked for, if it is."""
    if after.place:
        if not _NUMBER.fullmatch(after.place):
            raise _no_place()
        rows = rows.filter(**{f"{field}__{'lt' if newest_first else 'gt'}": int(after.place)})
    return list(rows.order_by(f"-{field}" if newest_first else field)[: after.size + 1])


def by_name(rows: QuerySet[Row], after: After) -> list[Row]:
    """Rows in the order of their names; one more than asked for, if it is."""
    return list(rows.filter(name__gt=after.place).order_by("name")[: after.size + 1])


def cut(places: Sequence[str], after: After) -> str | None:
    """The place after the part, of those that were found with one more; None at the list's end."""
    return places[after.size - 1] if len(places) > after.size else None


def count(rows: QuerySet[Any], after: After, known: int | None = None) -> int | None:
    """How many rows the list has, asked if it is not known; with the first part, None behind it."""
    if after.place:
        return None
    return rows.count() if known is None else known


def _read_time(place: str) -> tuple[RawSQL, str]:
    time, slash, id_ = place.partition("/")
    if not (_TIME.fullmatch(time) and slash and len(id_) <= MAX_LENGTH and "\0" not in id_):
        raise _no_place()
    try:
        datetime.fromisoformat(time)
    except ValueError as error:
        raise _no_place() from error
    sql = "%s::timestamptz" if on_postgres() else "%s"
    return RawSQL(sql, (time,), output_field=DateTimeField()), id_  # noqa: S611  two fixed texts


def _no_place() -> InvalidInputError:
    return InvalidInputError("after is no place that was answered as next")

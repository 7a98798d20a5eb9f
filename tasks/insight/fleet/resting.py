"""The workers that failed, as people see them. Reads only."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, ExpressionWrapper, Q, Value, When
from django.db.models.fields import DateTimeField
from django.db.models.functions import Now

from ...models import Limit
from ...rules.jsonio import dump
from ...sql import run
from ...sql import worker_rooms as sql

IS_ILL = Q(rests__gt=0) | Q(ramp__isnull=False)


@dataclass(frozen=True, slots=True)
class Rest:
    """How a worker that failed is treated.

    `until` is when its rest is over, None when it is: then one attempt tries it, or as many as
    `allowed`, of which `in_flight` run. `failures` in a row came before; `error` is the last.
    """

    until: datetime | None
    allowed: int
    in_flight: int
    failures: int
    error: str

    @property
    def is_full(self) -> bool:
        return self.until is not None or self.in_flight >= self.allowed


def rests(names: Iterable[str] | None = None) -> dict[str, Rest]:
    """Of these workers (None = all), those that are not treated like any other, by name."""
    open_at = Case(When(held_until__gt=Now(), then="held_until"), default=Value(None))
    rows = Limit.objects.filter(IS_ILL, kind="worker")
    if names is not None:
        rows = rows.filter(name__in=list(names))
    ill = list(rows.annotate(until=ExpressionWrapper(open_at, output_field=DateTimeField())))
    if not ill:
        return {}
    flying = dict(run(sql.TRYING, {"workers": dump([row.name for row in ill])}))
    return {row.name: _rest(row, flying.get(row.name, 0)) for row in ill}


def _rest(row: Any, in_flight: int) -> Rest:
    allowed = 0 if row.until else 1 if row.rests else int(row.ramp)
    return Rest(row.until, allowed, in_flight, row.fails, row.held_why)

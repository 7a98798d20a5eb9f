"""Reads rows that carry payloads some at a time, as many as a budget of bytes allows.

A page and a look of the stream hold their rows in memory: without this, 500 tasks of a megabyte
each would be a gigabyte, and several in decoded form.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db.models import F, Func, IntegerField, QuerySet, Value
from django.db.models.functions import Coalesce

from . import wire
from .conf import conf
from .jsonio import dump
from .models import Task
from .sql.probes import probed

PORTION = 2 * 1024 * 1024  # bytes of payloads that are decoded at once, about
FEW = 100  # rows at once, however small
PAYLOADS = ("input", "output", "errors")
NONE: Mapping[str, int] = {}


class Stored(Func):
    """How many bytes a payload takes, about: PostgreSQL tells without reading a large one.

    A compressed one may be many times as large.
    """

    output_field = IntegerField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = (
            "(CASE WHEN pg_column_compression(%(expressions)s) IS NULL THEN 1 ELSE 20 END"
            " * pg_column_size(%(expressions)s))"
        )
        return self.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "length(CAST(%(expressions)s AS BLOB))"
        return self.as_sql(compiler, connection, template=template, **context)


def task_texts(ids: Sequence[str], sizes: Mapping[str, int] = NONE) -> tuple[list[str], bool]:
    """These tasks as the wire shows them, as JSON texts in the order given; whether it was cut.

    As many as `CREW_MAX_PAGE_BYTES` allows, at least one.
    """
    left = int(conf.CREW_MAX_PAGE_BYTES)
    texts: list[str] = []
    for some in portions(ids, sizes):
        for task in wire.tasks(some):
            text = dump(task)
            left -= len(text)
            if left < 0 and texts:
                return texts, True
            texts.append(text)
    return texts, False


def portions(ids: Sequence[str], sizes: Mapping[str, int] = NONE) -> Iterator[list[Task]]:
    """These tasks in the order given, some at a time; those that are gone are left out.

    `sizes` are what `weighed` gave; of others it is asked.
    """
    for at in range(0, len(ids), FEW):
        some = ids[at : at + FEW]
        known = sizes if sizes else dict(weighed(Task.objects.filter(probed("id", some))))
        for part in _apart(some, known):
            found = {task.pk: task for task in Task.objects.filter(probed("id", part))}
            yield [found[id_] for id_ in part if id_ in found]


def weighed(rows: QuerySet[Task]) -> list[tuple[str, int]]:
    """The ids, and about how many bytes each row is; the payloads are not read."""
    total = sum((Coalesce(Stored(F(each)), 4) for each in PAYLOADS), Value(0))
    return list(rows.values_list("pk", total))


def _apart(ids: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for id_ in ids:
        more = sizes.get(id_, 0)
        if some and size + more > PORTION:
            yield some
            some, size = [], 0
        some.append(id_)
        size += more
    if some:
        yield some

"""Rows by their ids, each found by a probe of an index, whatever PostgreSQL's planner believes.

Of tables that were empty when they were analyzed last it believes that they still are. Every index
that holds a column somewhere then seems as good as the one that begins with it, and a loop over
the whole table as good as a probe: all is compared with all, for minutes. So what must be probed
leaves no choice. A lateral query that must not be flattened keeps the loop around the ids; both
bounds in the place of an equality, in the order of the one index that gives it for nothing, name
the index; a row that was found is written at its place, by `ctid`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F
from django.db.models.lookups import In
from django.db.models.sql.compiler import SQLCompiler

from ..rules.jsonio import dump

T = TypeVar("T")

SLICE = 5_000  # rows that one statement of a verb writes: some tenths of a second

IDS = "jsonb_array_elements_text(%(ids)s::jsonb) AS k(id)"
_BOUNDS = "FROM {0} WHERE {0}.{1} >= {2} AND {0}.{1} <= {2} ORDER BY {0}.{1}"

# `CROSS JOIN LATERAL (…)`: a task by its id, the edges to a task's parents, those to its children.
TASK = f"(SELECT *, crew_task.ctid {_BOUNDS.format('crew_task', 'id', '{0}')} LIMIT 1)"
TO_PARENTS = (
    f"(SELECT * {_BOUNDS.format('crew_parentedge', 'child_id', '{0}')},"
    " crew_parentedge.parent_id OFFSET 0)"
)
TO_CHILDREN = (
    f"(SELECT * {_BOUNDS.format('crew_parentedge', 'parent_id', '{0}')},"
    " crew_parentedge.child_id OFFSET 0)"
)


def sliced(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """In parts that one statement takes in a moment."""
    return (ids[start : start + SLICE] for start in range(0, len(ids), SLICE))


def among(column: str, ids: Iterable[str]) -> In:
    """For a filter beside others: the column is one of any number of ids.

    An array that the planner sees is looked up by a hash where no index is asked for it.
    """
    return _Among(F(column), list(ids))


def probed(column: str, ids: Iterable[str]) -> In:
    """For a filter of its own: as `among`, by one probe of the column's index for each id.

    With another condition beside it, an index of that one may be taken, and all ids be tried at
    each row. Who writes has locked the rows before: one that moved meanwhile is not found.
    """
    return _Probed(F(column), list(ids))


class _Among(In):
    prepare_rhs = False

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        column, params = self.process_lhs(compiler, connection)
        return f"{column} IN (SELECT value FROM json_each(%s))", [*params, dump(self.rhs)]

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        column, params = self.process_lhs(compiler, connection)
        return f"{column} = ANY (%s::text[])", [*params, self.rhs]


class _Probed(_Among):
    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        name = connection.ops.quote_name
        table, column = self.lhs.target.model._meta.db_table, self.lhs.target.column
        bounds = _BOUNDS.format(name(table), name(column), "k.id")
        found = (
            "SELECT p.ctid FROM jsonb_array_elements_text(%s::jsonb) AS k(id)"
            f" CROSS JOIN LATERAL (SELECT {name(table)}.ctid {bounds} OFFSET 0) p"
        )
        return f"{name(self.lhs.alias)}.ctid = ANY (ARRAY({found}))", [dump(self.rhs)]

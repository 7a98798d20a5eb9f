"""More rows than one statement may write are found at once, and written in parts."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..sql import Statement, run

# Beside its own tasks: those that an answer touches, written by one statement.
TASKS_PER_STATEMENT = 2_000
FOUND = 20_000  # of their ids looked up by one, or of parents whose children are


def parts(
    what: Statement, asked: Mapping[str, Any], after: str | None
) -> Iterator[list[tuple[Any, ...]]]:
    """What is left behind `after`, in parts that one statement may write; None is nothing."""
    while after is not None:
        found = run(what, {**asked, "after": after, "most": FOUND})
        yield from (
            found[at : at + TASKS_PER_STATEMENT] for at in range(0, len(found), TASKS_PER_STATEMENT)
        )
        after = found[-1][0] if len(found) == FOUND else None


def part(rows: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], str | None]:
    """The rows, and the id behind which more may be left: the row without a group."""
    after = next((id_ for id_, group_id, *_ in rows if id_ and group_id is None), None)
    return [row for row in rows if row[0] is None or row[1] is not None], after

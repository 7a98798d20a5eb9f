"""The states of a task: one table, of which queries, statements and pages are made.

`models/queries.py` asks it as Django does, `sql/states.py` as the databases do, `state_of` asks a
row that was read. A new state is a row here, a sign in `states.js` and a colour in `graph.css`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What a task is doing, or what keeps it; the first that applies, in this order."""

    COMPLETE = "complete"
    EXECUTING = "executing"
    FOLLOWING = "following"
    FAILED = "failed"
    PAUSED = "paused"
    BLOCKED = "blocked"
    UNASSIGNED = "unassigned"
    SCHEDULED = "scheduled"
    READY = "ready"

    @property
    def label(self) -> str:
        return _LABELS.get(self, self.value)


_LABELS = {
    State.FOLLOWING: "waiting for a task of the same key",
    State.FAILED: "no attempts left",
    State.BLOCKED: "waiting for parents",
    State.UNASSIGNED: "no worker",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a column, as Python, Django and SQL ask it, and its opposite."""

    asks: Callable[[Any], bool]
    lookup: tuple[str, Any]
    opposite: tuple[str, Any] | None  # None: there is no lookup for it, but NOT
    sql: str
    sql_opposite: str


IS_TRUE = Question(bool, ("", True), ("", False), "{}", "NOT {}")
IS_SET = Question(
    lambda value: value is not None,
    ("__isnull", False),
    ("__isnull", True),
    "{} IS NOT NULL",
    "{} IS NULL",
)
IS_ZERO = Question(lambda value: value == 0, ("", 0), ("__gt", 0), "{} = 0", "{} > 0")
IS_SOME = Question(lambda value: value > 0, ("__gt", 0), ("", 0), "{} > 0", "{} = 0")
IS_EMPTY = Question(lambda value: value == "", ("", ""), None, "{} = ''", "NOT ({} = '')")


@dataclass(frozen=True, slots=True)
class Fact:
    """The state of a task whose column says so, if none before it does."""

    state: State
    column: str
    test: Question


# What a row says by itself. A task of which nothing of it is true waits for its time or its
# workgroup's, which is SCHEDULED, or for nothing, which is READY.
FACTS = (
    Fact(State.COMPLETE, "is_complete", IS_TRUE),
    Fact(State.EXECUTING, "leased_by", IS_SET),
    Fact(State.FOLLOWING, "merged_into", IS_SET),
    Fact(State.FAILED, "remaining_attempts", IS_ZERO),
    Fact(State.PAUSED, "is_paused", IS_TRUE),
    Fact(State.BLOCKED, "pending_parents", IS_SOME),
    Fact(State.UNASSIGNED, "worker", IS_EMPTY),
)
# What is left of a group, and counted.
LEFT = tuple(state for state in State if state != State.COMPLETE)
# Those that only a person gets going.
STUCK = (State.FAILED, State.PAUSED, State.UNASSIGNED)


def conditions(state: State) -> Iterator[tuple[Fact, bool]]:
    """What must be so, and what must not, for a row to be in this state; the clock left out."""
    for fact in FACTS:
        if fact.state == state:
            yield fact, True
            return
        yield fact, False


def of_row(row: Any, *, is_later: Callable[[], bool]) -> State:
    """The state of a row that was read; `is_later` is asked for those that may run."""
    for fact in FACTS:
        if fact.test.asks(getattr(row, fact.column)):
            return fact.state
    return State.SCHEDULED if is_later() else State.READY

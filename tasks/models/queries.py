"""The states of a task, as queries. Each name is a word of the glossary.

The database's clock decides what is due (`Now()`), never Python's.
"""

from functools import reduce
from operator import and_, or_
from typing import Any, Self

from django.db import models
from django.db.models import Q

from ..rules.states import FACTS, Fact, State, conditions


def in_state(state: State) -> Q:
    """Rows in this state. READY and SCHEDULED are one here: their difference is the clock."""
    return _all(*conditions(state))


def says(*states: State) -> Q:
    """Rows of which some column says one of these, whatever an earlier one says."""
    return reduce(or_, (_all((fact, True)) for fact in FACTS if fact.state in states))


def _all(*facts: tuple[Fact, bool]) -> Q:
    plain: dict[str, Any] = {}
    negated: dict[str, Any] = {}
    for fact, is_so in facts:
        lookup = fact.test.lookup if is_so else fact.test.opposite
        there = plain if lookup else negated
        suffix, value = lookup or fact.test.lookup
        there[fact.column + suffix] = value
    nots = (~Q(**{name: value}) for name, value in negated.items())
    return reduce(and_, nots, Q(**plain))


# Everything but the clock: the condition of the index `crew_task_ready`.
READY = in_state(State.READY)


class TaskQuerySet(models.QuerySet[Any]):
    def update(self, **kwargs: Any) -> int:
        """Whoever writes an output lets go of the shared one."""
        if "output" in kwargs:
            kwargs.setdefault("shared_output", None)
        return super().update(**kwargs)

    def claimed(self) -> Self:
        """An attempt is in flight."""
        return self.filter(leased_by__isnull=False)

    def exhausted(self) -> Self:
        """Not complete, and no attempts left."""
        return self.filter(in_state(State.FAILED))

    def incomplete(self) -> Self:
        return self.filter(is_complete=False)

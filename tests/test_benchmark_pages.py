"""What the benchmark of the pages stands on: a verdict that can be trusted, and honest rows."""

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from benchmarks import crowded
from benchmarks.pages import Figure
from tasks.models import SchedulerProcess, Task
from tasks.rules.states import State
from tasks.store.states import progress
from tasks.upkeep.invariants import INVARIANTS


@pytest.mark.parametrize(
    ("measured", "budget", "is_least", "is_ok"),
    [
        (0.9, 1.0, False, True),
        (1.0, 1.0, False, True),
        (1.1, 1.0, False, False),
        (1.1, 1.0, True, True),
        (1.0, 1.0, True, True),
        (0.9, 1.0, True, False),
        (9.9, None, False, True),
    ],
)
def test_a_figure_is_compared_with_its_budget(measured, budget, is_least, is_ok):
    figure = Figure("a page", measured, "s", budget, is_least)

    assert figure.is_ok is is_ok
    assert ("OVER" in str(figure)) is not is_ok


def test_the_crowd_has_every_state_and_breaks_no_rule(db):
    SchedulerProcess.objects.create(pk=crowded.SCHEDULER, host="h", pid=1, slots=9, beat_at=Now())

    crowded.add_group("g", 4, 20, timezone.now())

    now = progress("g")
    assert [state for state in State if not getattr(now, state.value)] == []
    assert {rule.name: list(rule.find()) for rule in INVARIANTS if list(rule.find())} == {}
    ready = Task.objects.filter(pk__in=crowded.ready_ids("g", 99))
    assert len(ready) == now.ready

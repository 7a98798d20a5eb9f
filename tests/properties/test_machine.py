"""Whatever is done in whatever order: the store is what the contract says, and breaks no rule.

CREW_HYPOTHESIS_PROFILE=long pytest tests/properties      (minutes, another seed each time)
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tasks.engine import parts, shared_outcomes

from .machine import Machine

# The default finds the same examples each time: a red run is never luck, nor is a green one.
DEFAULT = {"max_examples": 40, "stateful_step_count": 25, "derandomize": True}
PROFILES = {
    "default": DEFAULT,
    # Says only whether something is wrong, for `tests.mutants`.
    "terse": DEFAULT | {"phases": [Phase.generate]},
    "long": {"max_examples": 1_500, "stateful_step_count": 60, "print_blob": True},
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(3_600)
def test_the_engine_does_what_the_contract_says(monkeypatch):
    monkeypatch.setattr(shared_outcomes, "COPIED", 0)  # every output is shared,
    monkeypatch.setattr(parts, "TASKS_PER_STATEMENT", 2)  # and what follows is written in parts
    monkeypatch.setattr(shared_outcomes, "shares_from", 0.0)
    profile = PROFILES[os.environ.get("CREW_HYPOTHESIS_PROFILE", "default")]
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

    run_state_machine_as_test(
        Machine,
        settings=settings(**profile, deadline=None, database=None, suppress_health_check=health),
    )

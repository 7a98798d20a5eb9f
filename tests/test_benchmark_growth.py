"""What the benchmark of growth stands on: rows that break no rule, and work that can be claimed."""

import pytest

from benchmarks import growth_store
from tasks.models import ParentEdge, Task, TaskGroup
from tasks.upkeep.invariants import INVARIANTS

from .factories import claim_all

pytestmark = pytest.mark.django_db


def test_what_fills_the_tables_breaks_no_rule_and_what_is_measured_is_due(monkeypatch):
    monkeypatch.setattr(growth_store, "tidy", lambda: None)  # no VACUUM in a transaction

    growth_store.fill(finished=0, beside=1_500, groups=7, in_group=5)
    growth_store.add_ready(10)
    growth_store.add_ready(14, groups=7)

    assert {rule.name: list(rule.find()) for rule in INVARIANTS if list(rule.find())} == {}
    assert Task.objects.filter(is_complete=True).count() == 75
    assert Task.objects.filter(pending_parents=1).count() == ParentEdge.objects.count() == 1_498
    assert TaskGroup.objects.get(pk=growth_store.WORK).task_count == 15
    leases = claim_all(slots=500)
    assert len(leases) == 24
    assert {lease.group_id for lease in leases} == {"work", *(f"g{n}" for n in range(7))}

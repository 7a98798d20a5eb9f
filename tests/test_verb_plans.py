"""A verb costs what its group costs, whatever PostgreSQL's planner believes of the tables."""

import json
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from tasks import control, create, edit
from tasks.engine.lease import Lease
from tasks.models import Task, TaskGroup
from tasks.store import edges
from tasks.upkeep import finished_groups
from tasks.verbs import slices

from .factories import complete, make_group

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

TABLES = "crew_task, crew_parentedge, crew_attempt, crew_taskgroup"
FEW, MANY = 200, 800


def never_analyzed() -> None:
    """As after a migration."""


def emptied() -> None:
    """As after a retention: analyzed when nothing was left, before the space was given back."""
    fill("gone", MANY)
    control.delete_group("gone")
    execute(f"ANALYZE {TABLES}")


def one_group() -> None:
    """As when the first group of all is analyzed: every other one seems to be as large."""
    fill("first", 100)
    execute(f"ANALYZE {TABLES}")


BELIEFS = {belief.__name__: belief for belief in (never_analyzed, emptied, one_group)}


def fill(name: str, size: int) -> None:
    """A seed, its many children, and half as many duplicates, which one of them runs for."""
    group = make_group(id=name)
    seed = {"id": f"{name}seed", "worker": "w", "isSeed": True}
    children = [
        {"id": f"{name}{n}", "worker": "w", "key": "k" * (n % 2), "parentIds": [seed["id"]]}
        for n in range(size)
    ]
    create.create_tasks(group.pk, [seed, *children])
    Task.objects.filter(group=group, key="k").exclude(pk=f"{name}1").update(merged_into=f"{name}1")


def all_of(name: str) -> list[str]:
    return edges.ids_in(name)


def answers_again(name: str, *again: int) -> None:
    """The seed's children are those of its first answer; the new one names these."""
    Task.objects.filter(group=name, is_seed=False).update(created_by=f"{name}seed")
    Task.objects.filter(pk=f"{name}seed").update(leased_by="s", leased_at=Now(), attempt=2)
    lease = Lease(f"{name}seed", 2, name, "w", "", "", "s", has_made=True)
    complete(lease, 1, [{"id": f"{name}{n}"} for n in again])


VERBS = {
    "pause": control.pause_group,
    "resume": lambda name: (control.pause_group(name), control.resume_group(name)),
    "reset": control.reset_group,
    "cancel": control.cancel_group,
    "retry": control.retry_group,
    "delete": control.delete_group,
    "pause tasks": lambda name: control.pause_tasks(name, all_of(name)),
    "retry tasks": lambda name: control.retry_tasks(name, all_of(name)),
    "reset tasks": lambda name: control.reset_tasks(name, [f"{name}{n}" for n in range(0, FEW, 2)]),
    "delete tasks": lambda name: control.delete_tasks(name, all_of(name)),
    "delete the seed": lambda name: control.delete_tasks(name, [f"{name}seed"]),
    "detach": lambda name: control.delete_tasks(name, [f"{name}seed"], children="detach"),
    "delete a leader": lambda name: control.delete_tasks(name, [f"{name}1"]),
    "complete": lambda name: edit.complete_task(name, f"{name}seed"),
    "rerun": lambda name: edit.rerun_task(name, f"{name}seed", {"name": "again"}),
    "answer again": lambda name: answers_again(name),
    "answer again the same": lambda name: answers_again(name, *range(FEW)),
    "give parents": lambda name: edit.edit_task(
        name, f"{name}0", {"parent_ids": [f"{name}{n}" for n in range(2, FEW, 2)]}
    ),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("belief", BELIEFS)
def test_a_verb_on_four_times_the_tasks_takes_four_times_the_work(fresh_tables, belief, verb):
    """Compared all with all, 20,000 tasks took minutes, and the verb its group with it."""
    BELIEFS[belief]()
    for name, size in (("few", FEW), ("other", FEW), ("many", MANY)):
        fill(name, size)

    few, many = (pages_read(lambda name=name: VERBS[verb](name)) for name in ("few", "many"))

    assert many < 8 * few
    assert many < (200 if "again" in verb else 100) * MANY


@pytest.mark.parametrize("verb", ["reset", "cancel", "delete", "delete the seed", "retry tasks"])
@pytest.mark.parametrize("belief", ["never_analyzed", "emptied"])
def test_a_verb_in_slices_goes_by_probes_too(fresh_tables, monkeypatch, belief, verb):
    for name in ("WHOLE", "LIGHT", "FIRST", "FEWEST", "MOST"):
        monkeypatch.setattr(slices, name, FEW // 2)
    BELIEFS[belief]()
    for name, size in (("few", FEW), ("other", FEW), ("many", MANY)):
        fill(name, size)

    few, many = (pages_read(lambda name=name: VERBS[verb](name)) for name in ("few", "many"))

    assert many < 8 * few
    assert many < 200 * MANY


def pages_read(call: Any) -> int:
    """How many pages the call's statements look at, most of them more than once."""
    read = 0

    def explain(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal read
        if "crew_task" in sql or "crew_parentedge" in sql or "crew_attempt" in sql:
            with connection.cursor() as cursor:
                # The plain cursor: a wrapper would be asked again. What it did is taken back.
                plain = cursor.cursor
                plain.execute("SAVEPOINT looked")
                plain.execute("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + sql, params)
                (plan,) = plain.fetchone()
                plain.execute("ROLLBACK TO SAVEPOINT looked")
            (plan_row,) = json.loads(plan) if isinstance(plan, str) else plan
            refuse_whole_tables(plan_row["Plan"])
            read += plan_row["Plan"]["Shared Hit Blocks"] + plan_row["Plan"]["Shared Read Blocks"]
        return run(sql, params, many, context)

    with connection.execute_wrapper(explain):
        call()
    return read


def refuse_whole_tables(plan: dict[str, Any]) -> None:
    assert not (plan["Node Type"] == "Seq Scan" and plan.get("Relation Name") == "crew_task"), plan
    for below in plan.get("Plans", ()):
        refuse_whole_tables(below)


def test_a_retention_takes_its_parts_by_probes(fresh_tables, monkeypatch):
    emptied()
    fill("old", MANY)
    Task.objects.update(is_complete=True, completed_at="2020-01-01T00:00:00Z")
    TaskGroup.objects.update(created_at="2020-01-01T00:00:00Z")
    monkeypatch.setattr(finished_groups, "TASKS_PER_TRANSACTION", FEW)

    assert pages_read(lambda: finished_groups.prune_groups(1, seconds=60)) < 100 * MANY
    assert not TaskGroup.objects.exists()


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)

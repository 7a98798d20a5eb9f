"""No verb of the machine costs more when the tables are full, or a statement for each task."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from tasks import create
from tasks.engine import repair, rescue
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.models import Change, ParentEdge, Task, TaskGroup
from tasks.sql import settle as settle_sql
from tasks.sql import steer
from tasks.upkeep import expired_rows, finished_groups, seals

from . import crowd
from .factories import claim_all, completed, make_group, make_scheduler

pytestmark = pytest.mark.django_db

SILENT = timedelta(minutes=5)
OLD = timedelta(days=31)


def tasks_of(count, **fields):
    """Tasks that wait for as many parents, which are ready."""
    group = make_group()
    parents = create.create_tasks(group.pk, [{"worker": "w"}] * count)
    children = [{"worker": "w", "parentIds": [parent]} | fields for parent in parents]
    create.create_tasks(group.pk, children)
    return group


def prepare_create(count):
    group = tasks_of(count)
    parents = list(group.tasks.values_list("id", flat=True))
    tasks = [{"worker": f"w{n % 2}", "parentIds": [id_]} for n, id_ in enumerate(parents)]
    return lambda: create.create_tasks(group.pk, tasks)


def prepare_claim(count):
    tasks_of(count)
    make_scheduler()
    return claim_all


def prepare_settle(count):
    group = tasks_of(count)
    leases = [lease for lease in claim_all() if lease.group_id == group.pk]
    assert len(leases) == count
    done = [Settlement(lease, completed(1, [{"worker": "w"}]), 200) for lease in leases]
    return lambda: settle(done)


def prepare_sweep(count):
    """A scheduler died; its tasks are given back."""
    tasks_of(count)
    claim_all("dead")
    process = make_scheduler("dead")
    type(process).objects.update(beat_at=Now() - SILENT)
    return rescue.sweep_once


def prepare_prune(count):
    """What housekeeping deletes: changes, and a finished group."""
    group = tasks_of(count)
    for _ in range(2):
        settle([Settlement(lease, completed(1), 200) for lease in claim_all()])
    assert not group.tasks.filter(is_complete=False).exists()
    TaskGroup.objects.filter(pk=group.pk).update(created_at=Now() - OLD)
    group.tasks.update(completed_at=Now() - OLD)
    Change.objects.update(at=Now() - SILENT * 3)
    while seals.seal_some():
        pass  # of what an earlier one recorded

    def both():
        expired_rows.prune()
        assert finished_groups.prune_groups(30, seconds=60) == (1, 2 * count)

    return both


def prepare_part(count):
    """One part of a finished group that goes in many."""
    group = make_group()
    create.create_tasks(group.pk, [{"worker": "w", "isComplete": True}] * (3 * count))
    group.tasks.update(completed_at=Now() - OLD)

    def part():
        assert finished_groups._delete_some(group.pk, 30, count) == (count, False)

    return part


VERBS = {
    "create": prepare_create,
    "claim": prepare_claim,
    "settle": prepare_settle,
    "sweep": prepare_sweep,
    "prune": prepare_prune,
    "part": prepare_part,
}


def prepare_recount(count):
    group = tasks_of(count)
    group.tasks.filter(pending_parents=1).update(pending_parents=F("pending_parents") + 1)
    return lambda: repair.repair("pending_parents")


def prepare_release(count):
    tasks_of(count).tasks.update(merged_into="nobody")
    return lambda: repair.repair("follower")


def prepare_give_back(count):
    tasks_of(count)
    claim_all("gone")
    make_scheduler("gone").delete()
    return lambda: repair.repair("lease")


def prepare_drop(count):
    group = tasks_of(count)
    Task.objects.filter(group=group, pending_parents=0)._raw_delete("default")
    return lambda: repair.repair("edge_ends")


# These look for what is broken, and so read all there is: only their statements are counted.
REPAIRS = {
    "recount": prepare_recount,
    "release": prepare_release,
    "give back": prepare_give_back,
    "drop": prepare_drop,
}


def statements(call):
    with CaptureQueriesContext(connection) as asked:
        call()
    return [query["sql"] for query in asked]


@pytest.mark.parametrize("verb", [*VERBS, *REPAIRS])
def test_forty_tasks_cost_as_many_statements_as_two(verb):
    prepare = (VERBS | REPAIRS)[verb]

    few, many = (statements(prepare(count)) for count in (2, 40))

    assert many
    assert len(many) == len(few), (few, many)


@pytest.mark.parametrize("verb", VERBS)
def test_full_tables_are_never_read_whole(fresh_tables, verb):
    crowd.fill(done=20_000)
    call = VERBS[verb](10)

    asked = crowd.assert_probes(call)

    assert asked > 0
    assert Task.objects.filter(id__startswith="c").count() >= 20_000
    assert ParentEdge.objects.count() >= 19_900


@pytest.mark.postgres
def test_a_plan_made_for_one_group_does_not_read_all_groups_later(fresh_tables):
    """The scheduler's plans outlive the size of the tables that they were made for."""
    create.create_group(id="g1", tasks=[{"worker": "w"}])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE crew_taskgroup")
    steer()

    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + settle_sql.GROUPS.postgresql, {"groups": '["g1", "g2"]'})
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "Index Cond: ((id)::text" in plan, plan
    assert "Join Filter" not in plan, plan

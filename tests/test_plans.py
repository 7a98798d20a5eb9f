"""What PostgreSQL makes of the hot statements: how it plans them, and that they stay prepared."""

import threading

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.backends.signals import connection_created

from tasks import create
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.models import Task, TaskGroup
from tasks.rules.jsonio import dump
from tasks.sql import again as again_sql
from tasks.sql import (
    children,
    lanes,
    late_answers,
    leaders,
    patience,
    payloads,
    prepared,
    run,
    run_steered,
    shared_outcomes,
    steer,
    worker_rooms,
)
from tasks.sql import claim as claim_sql
from tasks.sql import control as control_sql
from tasks.sql import create as create_sql
from tasks.sql import health as health_sql
from tasks.sql import settle as settle_sql
from tasks.upkeep.invariants import INVARIANTS

from . import crowd
from .factories import claim_all, claim_ids, complete, completed, in_threads, make_group, make_task
from .processes import wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

LANES = {"worker": "", "workgroup": "", "priority": -32_768, "lanes": 1000, "most": 500}


@pytest.fixture
def full_store(fresh_tables):
    """As many ready tasks as a lane may have, and the planner knows it."""
    group = make_group(id="g")
    tasks = [{"id": f"t{n}", "worker": "w"} for n in range(9_000)]
    tasks += [{"id": f"c{n}", "worker": "w", "parentIds": [f"t{n}"]} for n in range(1_000)]
    create.create_tasks(group.pk, tasks)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE crew_task, crew_parentedge, crew_taskgroup, crew_attempt")


@pytest.fixture
def seemingly_empty(fresh_tables):
    """Tables without a row when the planner last looked, as after a retention: it expects none."""
    with connection.cursor() as cursor:
        create.create_group(id="gone", tasks=chain("gone", 500))
        cursor.execute("DELETE FROM crew_parentedge")
        cursor.execute("DELETE FROM crew_task")
        cursor.execute("DELETE FROM crew_taskgroup")
        cursor.execute("ANALYZE crew_task, crew_parentedge, crew_taskgroup")


DONE = {"rows": '[{"id": "t1", "done": 1, "wait": 5}]'}
FAILED = {"rows": '[{"id": "t1", "outcome": "failed", "error": "e", "wait": 0}]'}
SOME = {"after": "", "most": 10_000}

BATCHES = {
    "claim": (
        claim_sql.CLAIM,
        {"lanes": '[{"worker": "w", "workgroup": "", "priority": 0, "n": 500}]', "me": "s1"},
    ),
    "lanes": (lanes.LANES, LANES),
    "known lanes": (lanes.KNOWN_LANES, {"known": '[["w", "", 0]]', "most": 500}),
    "lease": (claim_sql.LEASE, {"ids": '["t1"]', "me": "s1"}),
    "tried": (worker_rooms.TRIED, {"workers": '["w"]'}),
    "health": (health_sql.HEALTH, {"workers": '["w"]'}),
    "ill": (health_sql.ILL, {"workers": '["w"]'}),
    "judged": (health_sql.JUDGED, {"rows": '[{"name": "w", "fails": 1, "rests": 0}]'}),
    "failed": (health_sql.FAILED, {"rows": '[{"id": "t1", "attempt": 1}]'}),
    "leaders": (leaders.LEADERS, {"ids": '["t1"]'}),
    "follow": (leaders.FOLLOW, {"keys": '[{"group_id": "g", "key": "k"}]'}),
    "parents": (
        payloads.PARENTS,
        {"ids": '["c1"]', "edges": 1_000, "most": 1_000, "largest": 1_000},
    ),
    "texts": (payloads.TEXTS, {"ids": '["t1"]', "outputs": True}),
    "groups": (settle_sql.GROUPS, {"groups": '["g"]'}),
    "outcomes": (settle_sql.OUTCOMES, {"rows": "[]"}),
    "children": (children.CHILDREN, DONE | SOME),
    "children left": (children.CHILDREN_LEFT, DONE | SOME),
    "some children": (children.CHILDREN_SOME, DONE),
    "duplicates": (shared_outcomes.DUPLICATES, FAILED | SOME),
    "duplicates left": (shared_outcomes.DUPLICATES_LEFT, FAILED | SOME),
    "some duplicates": (shared_outcomes.DUPLICATES_SOME, FAILED | {"ids": '["t2"]'}),
    "late": (late_answers.LATE, {"rows": "[]"}),
    "made": (again_sql.MADE, {"ids": '["t1"]'}),
    "makers": (again_sql.MAKERS, {"ids": '["t1"]'}),
    "adopt": (again_sql.ADOPT, {"tasks": "[]"}),
    "count below": (control_sql.COUNT_BELOW, {"ids": '["t1"]', "most": 10}),
    "known": (create_sql.KNOWN, {"ids": '["t1"]'}),
    "count in": (create_sql.COUNT_IN, {"counts": '[{"id": "g", "n": 1}]', "most": 10}),
}
# The one that runs a key may be looked for among all that run.
AMONG_LEASES = "crew_task_worker_leases on crew_task l"
ANY_CUT = " on crew_cutcall  "  # one row of it, to see whether there is any


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("store", ["fresh_tables", "seemingly_empty", "full_store"])
def test_a_batch_is_joined_to_a_table_by_probes_of_an_index(request, store, batch):
    """A plan made for new tables is kept while they fill: settles of 500 took 200 ms, not 3."""
    request.getfixturevalue(store)
    statement, params = BATCHES[batch]

    with connection.cursor() as cursor:
        steer()
        cursor.execute("EXPLAIN " + statement.postgresql, params)
        plan = "\n".join(line for (line,) in cursor.fetchall())

    for word in ("Hash Join", "Merge Join", "Materialize", "Seq Scan", "hashed SubPlan"):
        assert word not in plan, plan
    probes = plan.count("Index Cond") + plan.count(AMONG_LEASES) + plan.count(ANY_CUT)
    assert probes == plan.count("using crew_") + plan.count("Bitmap Index Scan on crew_") > 0, plan


def chain(name, count):
    first, *rest = [{"id": f"{name}{n}", "worker": "w"} for n in range(count)]
    return [first, *(task | {"parentIds": [f"{name}{n}"]} for n, task in enumerate(rest))]


def test_parents_are_counted_by_probes_whatever_the_planner_expects(seemingly_empty):
    """Loops over both tables take hours for an import or a reset, and keep its locks."""
    create.create_group(id="g", tasks=chain("t", 2_000))
    Task.objects.update(pending_parents=5)
    ids = dump([f"t{n}" for n in range(2_000)])
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '20s'")
    steer()

    read = crowd.rows_read(lambda: run(control_sql.RECOUNT, {"ids": ids}))

    assert read < 2_000 * 10
    assert Task.objects.get(pk="t0").pending_parents == 0
    assert Task.objects.filter(pending_parents=1).count() == 1_999


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.name)
def test_a_check_reads_a_table_once_whatever_the_planner_expects(seemingly_empty, invariant):
    """A loop over 2,345 tasks and their edges took two minutes instead of 20 ms."""
    plans = []

    def explain(execute, sql, params, many, context):
        if "FROM" in sql:
            with connection.cursor() as cursor:
                cursor.cursor.execute("EXPLAIN " + sql, params)
                plans.append("\n".join(line for (line,) in cursor.cursor.fetchall()))
        return execute(sql, params, many, context)

    create.create_group(id="g", tasks=chain("t", 100))
    with connection.execute_wrapper(explain):
        assert invariant.find() == []

    assert len(plans) == (2 if invariant.name == "audit_seal" else 1)  # it reads two tables
    assert "Nested Loop" not in "".join(plans)
    with connection.cursor() as cursor:
        cursor.execute("SHOW enable_nestloop")
        assert cursor.fetchone() == ("on",)


@pytest.mark.own_session
def test_prepared_statements_claim_and_settle_alike():
    group = make_group()
    task = make_task(group)
    child = make_task(group, parents=[task])

    with prepared.prepared():
        for _ in range(8):  # PostgreSQL keeps a plan from the sixth time on
            maker = make_task(group, worker="maker", priority=10)
            lease = next(lease for lease in claim_all(slots=1) if lease.task_id == maker.pk)
            complete(lease, {"n": 1}, [{"name": "made"}])
        (lease,) = (lease for lease in claim_all() if lease.task_id == task.pk)
        complete(lease, {"%": "100 %"})
        kept = names()

    assert prepared.is_on() is False
    assert kept
    assert claim_ids() == [child.pk]
    assert Task.objects.filter(name="made", pending_parents=0).count() == 8
    assert Task.objects.get(pk=task.pk).output == {"%": "100 %"}
    assert TaskGroup.objects.get().task_count == Task.objects.count()


def names():
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements")
        return cursor.fetchall()


@pytest.mark.own_session
def test_a_statement_that_did_not_stay_prepared_is_to_be_tried_again(monkeypatch):
    monkeypatch.setattr(prepared, "_lost", threading.Event())
    """As behind a PgBouncer that gives the next transaction another server."""
    make_task()
    with prepared.prepared():
        run_steered((lanes.LANES, LANES))
        with connection.cursor() as cursor:
            # In a block, so that psycopg does not notice.
            cursor.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")

        with pytest.raises(OperationalError), transaction.atomic():
            run_steered((lanes.LANES, LANES))

        assert prepared.is_on() is False
        assert len(run_steered((lanes.LANES, LANES))[0]) == 1
    with prepared.prepared():
        assert prepared.is_on() is False


@pytest.mark.django_db(transaction=True)
@pytest.mark.own_session
def test_a_migration_under_a_prepared_statement_is_tried_again():
    make_task()
    asked = create_sql.statement(postgresql="SELECT * FROM crew_worker", sqlite="")
    with prepared.prepared():
        run(asked, {})
        in_threads(alter, ["ADD COLUMN later int"])
        try:
            session = connection.connection
            with pytest.raises(OperationalError):
                run(asked, {})

            assert session.closed  # a pool would hand it, and its stale plan, to the next
            connection.close()  # as the scheduler and every request do
            assert prepared.is_on() is True
            assert len(run(asked, {})) == 1
        finally:
            in_threads(alter, ["DROP COLUMN later"])


def alter(what):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE crew_worker {what}")


@pytest.mark.parametrize(
    "settings",
    [{"DISABLE_SERVER_SIDE_CURSORS": True}, {"OPTIONS": {"prepare_threshold": None}}],
)
def test_nothing_is_prepared_where_the_settings_speak_against_it(monkeypatch, settings):
    for name, value in settings.items():
        monkeypatch.setitem(connection.settings_dict, name, value)

    with prepared.prepared():
        assert prepared.is_on() is False


@pytest.mark.own_session
def test_only_the_thread_that_asked_prepares():
    with prepared.prepared():
        assert prepared.is_on() is True
        assert in_threads(lambda _: prepared.is_on(), [1]) == [False]


@pytest.mark.django_db(transaction=True)
@pytest.mark.own_session
@pytest.mark.django_db(transaction=True)
def test_who_stands_still_after_a_batch_loses_the_transaction(settings):
    """Else a frozen scheduler's locks would keep others from giving its tasks back."""
    settings.CREW_LEASE_SECONDS = 0.1

    def is_gone():
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid])
            return cursor.fetchone() == (0,)

    with prepared.prepared(), pytest.raises(DatabaseError), transaction.atomic():
        run_steered((settle_sql.GROUPS, {"groups": "[]"}), (create_sql.KNOWN, {"ids": "[]"}))
        pid = connection.connection.info.backend_pid
        in_threads(lambda _: wait_until(is_gone), [0])
        run(create_sql.KNOWN, {"ids": "[]"})
    connection.close()


def test_an_error_in_a_batch_leaves_the_connection_usable():
    make_task()
    leases = claim_all()
    poisoned = completed(1, [{"id": "twice"}, {"id": "twice"}])

    with prepared.prepared():
        with pytest.raises(Exception, match="duplicate key"):
            settle([Settlement(leases[0], poisoned, 200)])
        settle([Settlement(leases[0], completed(1), 200)])

    assert Task.objects.get().is_complete is True


def test_the_ids_of_a_batch_may_be_thousands():
    ids = [f"t{n}" for n in range(5_000)]

    with prepared.prepared():
        assert run(create_sql.KNOWN, {"ids": dump(ids)}) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.own_session
def test_a_batch_larger_than_a_socket_takes_at_once_is_sent_whole():
    group = make_group()
    for _ in range(40):
        make_task(group)
    leases = claim_all()
    connection.close()
    patience.limit(10.0, sessions=False)  # or the test would wait forever

    try:
        with prepared.prepared():
            settle([Settlement(lease, completed("x" * 1_000_000), 200) for lease in leases])

        assert Task.objects.filter(is_complete=True).count() == 40
    finally:
        connection_created.disconnect(dispatch_uid="crew-patience")
        patience._timeouts.update(seconds=None, sessions=False)
        connection.close()

"""Which due tasks become leases, in which order, and which never do."""

from collections import Counter
from datetime import timedelta
from itertools import product

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from tasks import limits_and_holds
from tasks.engine import claim as claiming
from tasks.engine import lane_walk
from tasks.engine.settle import settle
from tasks.engine.settlement import Returned, Settlement
from tasks.models import Change, SchedulerProcess, Task, Worker, Workgroup
from tasks.models.queries import READY
from tasks.sql import READY as READY_SQL
from tasks.sql import claim as sql
from tasks.sql import lanes, run, steer

from .factories import (
    claim,
    claim_all,
    claim_ids,
    claim_one,
    complete,
    from_now,
    in_threads,
    make_due,
    make_group,
    make_scheduler,
    make_task,
    row,
    wire,
)

pytestmark = pytest.mark.django_db


def ago(**delta):
    return timezone.now() - timedelta(**delta)


def ahead(**delta):
    return timezone.now() + timedelta(**delta)


# --- Ready, condition by condition ---


@pytest.mark.parametrize("key", ["", "k"])
def test_a_ready_task_is_leased(key):
    task = make_task(input={"n": 12345678901234567890}, key=key, workgroup="w")

    lease = claim_one("s9")

    after = row(task)
    assert (lease.task_id, lease.attempt, lease.leased_by) == (task.pk, 1, "s9")
    assert (lease.group_id, lease.worker) == (task.group_id, "worker-a")
    assert (lease.key, lease.workgroup) == (key, "w")
    assert lease.input_json.replace(" ", "") == '{"n":12345678901234567890}'
    assert (after["attempt"], after["leased_by"]) == (1, "s9")
    assert abs(from_now(after["leased_at"])) < 10
    assert after["remaining_attempts"] == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"is_complete": True},
        {"is_paused": True},
        {"remaining_attempts": 0},
        {"worker": ""},
        {"run_after": ahead(days=1)},
        {"pending_parents": 1},
        {"merged_into": "another"},
        {"leased_by": "s2", "leased_at": ago(seconds=1)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_task_that_is_not_ready_is_left_alone(fields):
    task = make_task(**fields)
    before = row(task)

    claimed = claim()

    assert claimed.leases == ()
    assert row(task) == before


def test_a_child_waits_for_every_parent():
    group = make_group()
    parents = [make_task(group), make_task(group)]
    make_task(group, id="child", parents=parents)
    first, second = claim_all()
    complete(first)

    with_one = claim_ids()
    complete(second)

    assert with_one == []
    assert claim_ids() == ["child"]


def test_a_leased_task_is_not_claimed_twice():
    make_task()

    assert len(claim_all("s1")) == 1
    assert claim_all("s2") == []


def test_a_scheduled_task_reports_its_wait():
    task = make_task(run_after=ahead(hours=1))

    early = claim()
    make_due(task)

    assert early.wait == pytest.approx(3600, abs=10)
    assert early.more is False
    assert claim_ids() == [task.pk]


def test_nothing_at_all_has_no_wait():
    assert claim() == claiming.Claimed()


def test_the_query_and_the_statement_mean_the_same_ready():
    group = make_group()
    rows = [
        Task(
            group=group,
            is_complete=complete_,
            completed_at=timezone.now() if complete_ else None,
            is_paused=paused,
            leased_by="s1" if leased else None,
            leased_at=timezone.now() if leased else None,
            remaining_attempts=attempts,
            pending_parents=pending,
            merged_into="x" if merged else None,
            worker=worker,
        )
        for complete_, paused, leased, attempts, pending, merged, worker in product(
            (False, True), (False, True), (False, True), (0, 1), (0, 1), (False, True), ("", "w")
        )
        if not (leased and (complete_ or merged))
    ]
    Task.objects.bulk_create(rows)

    by_query = set(Task.objects.filter(READY).values_list("id", flat=True))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT t.id FROM crew_task t WHERE {READY_SQL}")  # noqa: S608
        by_statement = {id_ for (id_,) in cursor.fetchall()}

    assert len(by_query) == 1
    assert by_statement == by_query


# --- Order and number ---


def test_the_longest_due_goes_first():
    for minutes in (1, 9, 5):
        make_task(id=f"due-{minutes}", run_after=ago(minutes=minutes))

    assert [claim_ids(slots=1) for _ in range(3)] == [["due-9"], ["due-5"], ["due-1"]]


def test_higher_priorities_go_first():
    make_task(id="low", priority=-10, run_after=ago(hours=9))
    make_task(id="middle", run_after=ago(hours=5))
    make_task(id="high", priority=10)

    assert [claim_ids(slots=1) for _ in range(3)] == [["high"], ["middle"], ["low"]]


@pytest.mark.parametrize("slots", [1, 3, 7])
def test_never_more_than_the_slots(slots):
    group = make_group()
    for n in range(10):
        make_task(group, worker=f"worker-{n % 3}", priority=n % 2)

    claimed = claim(slots=slots)

    assert len(claimed.leases) == slots
    assert Task.objects.claimed().count() == slots
    assert claimed.more is True


def test_claims_go_on_until_nothing_is_due():
    group = make_group()
    for n in range(10):
        make_task(group, worker=f"worker-{n}", workgroup=f"w{n % 2}", key=f"k{n}" if n % 2 else "")

    ids = [id_ for _ in range(5) for id_ in claim_ids(slots=3)]

    assert len(ids) == len(set(ids)) == 10


def test_many_lanes_are_walked_in_parts(monkeypatch):
    monkeypatch.setattr(lane_walk, "PAGE", 2)
    group = make_group()
    for n in range(5):
        make_task(group, worker=f"worker-{n}")

    way = lane_walk.Walk()
    claims = [claim(walk=way) for _ in range(4)]

    assert [len(claimed.leases) for claimed in claims] == [2, 2, 1, 0]
    assert [claimed.goes_on for claimed in claims] == [True, True, False, False]


# --- Workers ---


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (3, 3), (None, 5)])
def test_a_workers_limit_is_exact(limit, expected):
    group = make_group()
    for _ in range(5):
        make_task(group)
    make_task(group, id="other", worker="worker-b")
    Worker.objects.filter(pk="worker-a").update(max_concurrency=limit)

    ids = claim_ids("s1", slots=4) + claim_ids("s2", slots=4) + claim_ids("s1", slots=4)

    assert Task.objects.claimed().filter(worker="worker-a").count() == expected
    assert "other" in ids


def test_room_comes_back_when_an_attempt_ends():
    group = make_group()
    for _ in range(3):
        make_task(group)
    Worker.objects.update(max_concurrency=1)
    lease = claim_one()
    full = claim()

    complete(lease)

    assert (full.leases, full.more) == ((), True)
    assert len(claim_all()) == 1


def test_the_default_limit_holds_where_a_row_names_none(settings):
    settings.CREW_WORKER_MAX_CONCURRENCY = 2
    group = make_group()
    for _ in range(5):
        make_task(group, worker="worker-a")
        make_task(group, worker="worker-b")
    Worker.objects.filter(pk="worker-b").update(max_concurrency=3)

    claim_all()
    claim_all("s2")

    claimed = Task.objects.claimed()
    assert claimed.filter(worker="worker-a").count() == 2
    assert claimed.filter(worker="worker-b").count() == 3


def test_two_workers_share_the_slots():
    group = make_group()
    for _ in range(20):
        make_task(group, worker="worker-a", run_after=ago(hours=1))
    for _ in range(3):
        make_task(group, worker="worker-b")

    workers = [lease.worker for lease in claim_all(slots=10)]

    assert (workers.count("worker-a"), workers.count("worker-b")) == (7, 3)


def test_a_worker_that_holds_most_slots_leaves_the_last_to_others():
    group = make_group()
    for _ in range(20):
        make_task(group)

    claimed = claim(slots=10, total=20, busy={"worker-a": 10})

    assert len(claimed.leases) == 8
    assert claimed.more


def test_lanes_that_are_equal_take_turns():
    """Of 60 tenants on 10 slots 33 got not one call."""
    make_group(tasks=[wire(workgroup=f"tenant-{n}") for n in range(60) for _ in range(20)])
    calls = Counter()
    while len(calls) < 60:
        leases = claim(slots=10, total=10).leases
        calls.update(lease.workgroup for lease in leases)
        assert 0 < len(leases) <= 10
        assert max(calls.values()) < 20, "a lane has had all its turns and another none"
        settle([Settlement(lease, Returned(3600.0)) for lease in leases])


def test_lanes_behind_the_first_have_their_turns(monkeypatch):
    monkeypatch.setattr(lane_walk, "PAGE", 10)
    make_group(tasks=[wire(worker=f"w{n:02}") for n in range(35) for _ in range(20)])
    calls, way = Counter(), lane_walk.Walk()
    while len(calls) < 35:
        claimed = claim(slots=3, total=10, walk=way)
        calls.update(lease.worker for lease in claimed.leases)
        assert max(calls.values()) < 20
        settle([Settlement(lease, Returned(3600.0)) for lease in claimed.leases])


# --- Workgroups ---


def test_a_held_workgroup_is_skipped_and_its_wait_reported():
    for _ in range(2):
        make_task(workgroup="w")  # each in its own group
    limits_and_holds.hold_workgroup("w", seconds=600)
    make_task(workgroup="w", worker="worker-b", priority=10)

    held = claim()

    assert held.leases == ()
    assert held.wait == pytest.approx(600, abs=10)


def test_a_hold_that_ended_holds_nobody():
    make_task(workgroup="w")
    limits_and_holds.hold_workgroup("w", seconds=600)

    Workgroup.objects.update(held_until=ago(seconds=1))

    assert len(claim_all()) == 1


def test_a_hold_leaves_other_workgroups_alone():
    make_task(id="in", workgroup="w")
    make_task(id="out", workgroup="v")
    make_task(id="none")

    limits_and_holds.hold_workgroup("w", seconds=600)

    assert sorted(claim_ids()) == ["none", "out"]


# --- Keys ---


def test_one_task_of_a_key_runs_and_the_others_follow():
    group = make_group()
    blocker = make_task(group, id="blocker", is_paused=True)
    make_task(group, id="first", key="k", run_after=ago(hours=2))
    make_task(group, id="second", key="k", run_after=ago(hours=1), worker="worker-b")
    make_task(group, id="paused", key="k", is_paused=True)
    make_task(group, id="blocked", key="k", parents=[blocker])
    make_task(group, id="scheduled", key="k", run_after=ahead(hours=1))
    make_task(group, id="done", key="k", is_complete=True)
    make_task(group, id="exhausted", key="k", remaining_attempts=0)
    Change.objects.all().delete()

    ids = claim_ids()

    followers = set(Task.objects.filter(merged_into=ids[0]).values_list("id", flat=True))
    assert len(ids) == 1
    assert {"paused", "blocked", "scheduled", "exhausted"} <= followers
    assert followers | set(ids) == {
        "first", "second", "paused", "blocked", "scheduled", "exhausted"
    }  # fmt: skip
    assert {id_ for change in Change.objects.all() for id_ in change.updated} == followers | {*ids}
    assert all(Task.objects.get(pk=id_).is_executing for id_ in followers)
    assert not Task.objects.get(pk="done").is_executing
    assert claim_ids("s2") == []


def test_a_duplicate_that_comes_later_follows_when_it_is_met():
    group = make_group()
    make_task(group, id="first", key="k")
    first = claim_ids()
    make_task(group, id="later", key="k")

    second = claim_ids("s2")

    assert (first, second) == (["first"], [])
    assert Task.objects.get(pk="later").merged_into == "first"


def test_the_same_key_in_another_group_is_another_key():
    make_task(id="one", key="k")
    make_task(id="two", key="k")

    assert sorted(claim_ids()) == ["one", "two"]
    assert not Task.objects.filter(merged_into__isnull=False).exists()


def test_a_task_of_another_group_never_follows():
    make_task(key="k")
    other = make_task(key="k", is_paused=True)

    claim_one()

    assert row(other)["merged_into"] is None


def test_followers_do_not_count_as_slots_or_attempts():
    group = make_group()
    for n in range(5):
        make_task(group, id=f"t{n}", key="k")

    claim_all()

    assert Task.objects.claimed().count() == 1
    assert Task.objects.filter(attempt=0).count() == 4


def test_the_database_refuses_two_leases_of_a_key():
    group = make_group()
    make_task(group, key="k", id="first")
    claim_all()
    make_task(group, key="k", id="second")

    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.filter(pk="second").update(leased_by="s2", leased_at=timezone.now())


# --- Parents ---


def test_parents_come_in_the_order_they_were_named():
    group = make_group()
    outputs = {"b": {"n": 12345678901234567890}, "a": None, "c": [1]}
    parents = [
        make_task(group, id=id_, is_complete=True, input={"of": id_}, output=output)
        for id_, output in outputs.items()
    ]
    make_task(group, id="child", parents=parents)

    lease = claim_one()

    result = [
        (
            parent.task_id,
            parent.worker,
            (parent.input_json or "").replace(" ", ""),
            parent.output_json and parent.output_json.replace(" ", ""),
        )
        for parent in lease.parents
    ]
    assert result == [
        ("b", "worker-a", '{"of":"b"}', '{"n":12345678901234567890}'),
        ("a", "worker-a", '{"of":"a"}', None),
        ("c", "worker-a", '{"of":"c"}', "[1]"),
    ]
    assert lease.too_large == ""


def test_each_lease_has_its_own_parents():
    group = make_group()
    one, two = (make_task(group, id=id_, is_complete=True) for id_ in ("one", "two"))
    make_task(group, id="x", parents=[one])
    make_task(group, id="y", parents=[two, one])
    make_task(group, id="z")

    parents = {lease.task_id: [p.task_id for p in lease.parents] for lease in claim_all()}

    assert parents == {"x": ["one"], "y": ["two", "one"], "z": []}


def test_too_large_outputs_of_parents_are_not_loaded(settings):
    settings.CREW_MAX_PAYLOAD_BYTES = 1_000
    group = make_group()
    big = make_task(group, is_complete=True, output="x" * 2_000)
    small = make_task(group, is_complete=True, output="x")
    make_task(group, id="heavy", parents=[small, big])
    make_task(group, id="light", parents=[small])

    leases = {lease.task_id: lease for lease in claim_all()}

    assert "CREW_MAX_PAYLOAD_BYTES (1000)" in leases["heavy"].too_large
    assert leases["heavy"].parents == ()
    assert leases["light"].too_large == ""
    assert len(leases["light"].parents) == 1


def test_a_claim_writes_the_change():
    task = make_task()
    Change.objects.all().delete()

    claim_all()

    assert [(c.group_id, c.updated) for c in Change.objects.all()] == [(task.group_id, [task.pk])]


def test_an_idle_claim_asks_little_and_writes_nothing(django_assert_max_num_queries):
    make_task(is_paused=True)
    SchedulerProcess.objects.create(pk="s1", host="h", pid=1, slots=1)

    with django_assert_max_num_queries(5) as asked:
        claiming.claim("s1", slots=10, total=10, busy={})

    assert not [query for query in asked if "UPDATE crew" in query["sql"]]


def test_the_number_of_queries_does_not_grow_with_the_claim(django_assert_max_num_queries):
    group = make_group()
    parent = make_task(group, is_complete=True)
    for _ in range(50):
        make_task(group, parents=[parent])
        make_task(group, worker="worker-b", key="k")

    with django_assert_max_num_queries(20):
        claim_all()


# --- Many at once ---


@pytest.mark.django_db(transaction=True)
def test_schedulers_at_once_take_each_task_once_and_keep_to_limits():
    group = make_group(
        tasks=[wire(id=f"t{n}", worker=f"worker-{n % 2}") for n in range(150)]
        + [wire(id=f"k{n}", worker="keyed", key=f"k{n % 5}") for n in range(50)]
    )
    Worker.objects.filter(pk="worker-0").update(max_concurrency=7)
    for me in ("s1", "s2", "s3", "s4"):
        make_scheduler(me)

    taken = in_threads(take_all, ["s1", "s2", "s3", "s4"])

    ids = [lease.task_id for leases in taken for lease in leases]
    workers = Counter(lease.worker for leases in taken for lease in leases)
    assert len(ids) == len(set(ids))
    assert workers == {"worker-0": 7, "worker-1": 75, "keyed": 5}
    assert Task.objects.filter(group=group, attempt__gt=1).count() == 0
    assert Task.objects.filter(merged_into__isnull=False).count() == 45


def take_all(me):
    """Claim until several looks in a row find nothing, as others may hold locks meanwhile."""
    leases, idle = [], 0
    while idle < 20:
        claimed = claiming.claim(me, slots=9, total=1_000, busy={})
        leases += claimed.leases
        idle = 0 if claimed.leases else idle + 1
    return leases


# --- The plan ---


@pytest.mark.postgres
def test_the_claim_reads_the_ready_index_only(fresh_tables):
    group = make_group()
    Task.objects.bulk_create(
        Task(group=group, worker=f"worker-{n % 5}", is_paused=n % 3 == 0) for n in range(4_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE crew_task")
    steer()  # as the claim does
    share = '[{"worker": "worker-1", "workgroup": "", "priority": 0, "n": 10}]'

    plans = {
        "lanes": explain(
            lanes.LANES,
            {"worker": "", "workgroup": "", "priority": -32_768, "lanes": 1000, "most": 100},
        ),
        "claim": explain(sql.CLAIM, {"lanes": share, "me": "s1"}),
    }

    for plan in plans.values():
        assert "crew_task_ready" in plan
        assert "Seq Scan on crew_task " not in plan


def explain(statement, params):
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + statement.postgresql, params)
        return "\n".join(line for (line,) in cursor.fetchall())


def test_lanes_count_no_further_than_asked():
    group = make_group()
    for _ in range(5):
        make_task(group)

    rows = run(
        lanes.LANES, {"worker": "", "workgroup": "", "priority": -32_768, "lanes": 10, "most": 3}
    )

    assert [line[:4] for line in rows] == [("worker-a", "", 0, 3)]

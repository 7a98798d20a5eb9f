"""Many tasks go into the store by another way than few: the rows are the same."""

import gc
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks import create
from tasks.models import Change, ParentEdge, Task, TaskGroup, Worker
from tasks.store import gc_pause

from .api_client import GROUPS, NDJSON, TASKS, everything_stored
from .factories import claim_ids, make_group, wire

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

BULK = f"{TASKS}/bulk"
UGLY = "\t\n\r\\\\\\N\\.'\"%s%%{}\x01\x7f\u2028é😀, \\t"
NAME = "\\\\\\N\\.'\"%s%%{}\u2028é😀, \\t"
PAYLOADS = [
    None,
    [],
    {},
    "",
    0,
    False,
    UGLY,
    {UGLY: UGLY, "ключ": "значение", "": {"\\": "\\N"}},
    [10**299, -(10**299), 2**63, -(2**63) - 1, 2**53 + 1],
    [1e308, -1e308, 5e-324, 1e-7, 0.1, 1.0, 123456789.123456789],
    [[[[["deep"]]]]] * 3,
    "x" * 100_000,
]


@pytest.fixture
def all_are_many(monkeypatch):
    monkeypatch.setattr(create, "MANY", 1)


def ugly_tasks():
    """Each field with what could go wrong in it, at least once."""
    tasks = [{"worker": "w", "input": value} for value in PAYLOADS]
    tasks += [{"isComplete": True, "output": value} for value in PAYLOADS]
    tasks += [{field: NAME} for field in ("name", "workgroup", "key")]
    tasks += [{field: "\\N"} for field in ("name", "workgroup", "key")]
    tasks += [
        {"errors": [UGLY, "second"], "remainingAttempts": 0, "errorDelayInSeconds": 7},
        {"isPaused": True, "isSeed": True, "priority": -10, "worker": "a/b"},
        {"runAfter": "2031-02-03T04:05:06.789Z", "createdAt": "2001-02-03T04:05:06+02:00"},
        {"runAfter": "0001-01-01T00:00:00Z", "createdAt": "9999-12-31T23:59:59.999999Z"},
    ]
    nested = "deep"
    for _ in range(58):
        nested = [nested]
    tasks.append({"input": nested})
    tasks.append({"worker": "w", "parentIds": ["t3", "t1", "t20", "outside", "done"]})
    return tasks


def given(group_id):
    """The tasks with ids of that group, as JSON."""

    def renamed(id_):
        return f"{group_id}-{id_}"

    tasks = [
        task
        | {"id": renamed(f"t{n}"), "parentIds": [renamed(p) for p in task.get("parentIds", ())]}
        for n, task in enumerate(ugly_tasks())
    ]
    return json.dumps({"tasks": tasks}).encode()


def stored(group_id):
    """Rows and edges as the database gives them; only what the clock made is left out."""
    with connection.cursor() as cursor:
        # As text: what Python makes of it could be the same for different rows.
        cursor.execute(
            "SELECT id, name, worker, workgroup, key, CAST(input AS text), CAST(output AS text),"
            " CAST(errors AS text), remaining_attempts, is_paused, is_complete, is_seed,"
            " error_delay_in_seconds, priority, pending_parents, created_by, attempt, held_count,"
            " rescues, leased_by, merged_into, leased_at"
            " FROM crew_task WHERE group_id = %s ORDER BY created_at, id",
            [group_id],
        )
        rows = [(row[0].removeprefix(f"{group_id}-"), *row[1:]) for row in cursor.fetchall()]
    edges = ParentEdge.objects.filter(child__group=group_id).values_list(
        "child_id", "position", "parent_id"
    )
    return rows, sorted(edge[1:] for edge in edges if edge[0])


def unnamed(group_id, edges):
    return [(place, parent.removeprefix(f"{group_id}-")) for place, parent in edges]


@pytest.mark.parametrize("paused", [False, True])
def test_many_are_stored_as_few_are(api, monkeypatch, paused):
    for group_id, many in (("few", 1_000), ("many", 1)):
        there = [wire(id=f"{group_id}-outside"), wire(id=f"{group_id}-done", is_complete=True)]
        make_group(id=group_id, is_paused=paused, tasks=there)
        monkeypatch.setattr(create, "MANY", many)
        said = api.post(f"/api/v1/task_group/{group_id}/tasks/bulk", given(group_id))
        assert said.status == 200, said.text

    few, few_edges = stored("few")
    many, many_edges = stored("many")

    assert many == few
    assert unnamed("many", many_edges) == unnamed("few", few_edges)
    assert len(few) == len(ugly_tasks()) + 2


@pytest.mark.usefixtures("all_are_many")
def test_times_are_those_of_the_database_a_microsecond_apart():
    group = make_group(tasks=[{"id": id_} for id_ in "ca"] + [{"id": "b", "isComplete": True}])

    c, a, b = Task.objects.filter(group=group).order_by("created_at")

    assert (c.pk, a.pk, b.pk) == ("c", "a", "b")
    assert b.created_at - c.created_at == timedelta(microseconds=2)
    assert c.run_after == a.run_after == c.created_at == b.completed_at
    assert abs(datetime.now(UTC) - c.created_at) < timedelta(minutes=1)


@pytest.mark.usefixtures("all_are_many")
def test_many_are_due_at_once_in_their_lanes():
    make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"]), wire(id="c", worker="new")])

    assert sorted(claim_ids()) == ["a", "c"]
    assert set(Worker.objects.values_list("name", flat=True)) == {"worker-a", "new"}


BAD = [
    ({"input": "a\0b"}, "NUL or lone surrogate"),
    ({"input": {"a\0b": 1}}, "NUL or lone surrogate"),
    ({"name": "a\0b"}, "NUL"),
    ({"key": "\ud800"}, "NUL"),
    ({"input": ["\udfff"]}, "NUL or lone surrogate"),
    ({"id": "t0"}, "duplicate task id: t0"),
    ({"id": "a\tb"}, "id must be"),
    ({"id": "x", "parentIds": ["x"]}, "itself"),
    ({"id": "x", "parentIds": ["nobody\t\\N"]}, "cannot find all parents for task 250"),
    ({"id": "x", "parentIds": ["t251"]}, "cycle: "),
    ({"id": "taken"}, "a task with the id taken exists already"),
]


@pytest.mark.parametrize(("bad", "words"), BAD, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("kind", ["application/json", NDJSON])
def test_one_bad_task_of_many_refuses_all(api, kind, bad, words):
    make_group(id="g", tasks=[wire(id="taken")])
    tasks = [{"id": f"t{n}", "worker": "new"} for n in range(300)]
    tasks[250] = bad
    tasks[251]["parentIds"] = [bad.get("id", "t1")]
    before = everything_stored()
    body = json.dumps(tasks).encode()
    if kind == NDJSON:
        body = b"\n".join(json.dumps(task).encode() for task in tasks)

    said = api.post(BULK, body, kind=kind)

    assert said.status == (409 if bad.get("id") == "taken" else 400)
    assert words in said.text.replace('\\"', '"')
    assert everything_stored() == before


def test_a_dry_run_of_many_stores_nothing(api):
    make_group(id="g")
    before = everything_stored()

    said = api.post(f"{BULK}?dryRun=1", {"tasks": [{"worker": "w"}] * 300})

    assert said.json["count"] == 300
    assert everything_stored() == before


def test_many_under_one_idempotency_key_are_created_once(api):
    body = {"name": "once", "tasks": [{"worker": "w"}] * 300}

    first = api.post(GROUPS, body, Idempotency_Key="k")
    again = api.post(GROUPS, body, Idempotency_Key="k")

    assert (first.status, again.text) == (200, first.text)
    assert (TaskGroup.objects.get().task_count, Task.objects.count()) == (300, 300)


def test_browsers_are_told_of_many_in_their_order():
    group = make_group()
    Change.objects.all().delete()

    ids = create.create_tasks(group.pk, [{"worker": "w"}] * 300)

    assert Change.objects.get().created == ids


def test_statements_do_not_grow_with_the_tasks():
    def statements(count):
        group = make_group()
        tasks = [{"id": f"{group.pk}-{n}", "worker": f"w{n % 9}"} for n in range(count)]
        for n, task in enumerate(tasks[1:]):
            task["parentIds"] = [tasks[n]["id"]]
        with CaptureQueriesContext(connection) as seen:
            create.create_tasks(group.pk, tasks)
        return len(seen)

    assert statements(300) == statements(3_000) <= 12


# --- The collector of garbage ---


def test_nothing_is_collected_while_tasks_are_read_but_while_they_are_stored(monkeypatch):
    seen = []
    for name in ("read_task", "_bring_in"):
        monkeypatch.setattr(create, name, _told(seen, getattr(create, name)))

    make_group(tasks=[{}])

    assert (seen, gc.isenabled()) == ([("read_task", False), ("_bring_in", True)], True)


def _told(seen, real):
    def told(*args, **options):
        seen.append((real.__name__, gc.isenabled()))
        return real(*args, **options)

    return told


def test_the_collector_is_back_after_an_error_and_after_two_at_once():
    with pytest.raises(ZeroDivisionError), gc_pause.uncollected(), gc_pause.uncollected():
        1 / 0  # noqa: B018

    assert gc.isenabled()


def test_who_has_turned_the_collector_off_finds_it_off():
    gc.disable()
    try:
        with gc_pause.uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

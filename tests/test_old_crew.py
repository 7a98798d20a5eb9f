"""`manage.py crewimport --redis`: what an old Crew left in its Redis (contract, part 7)."""

import io
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.utils import timezone

from tasks.models import Attempt, AuditEntry, ParentEdge, Task, TaskGroup
from tasks.upkeep.invariants import INVARIANTS
from tasks.upkeep.moves import old_store

from .factories import claim_ids, make_group, make_task

# As the old Crew writes a task: all 18 fields, nine digits, the zero time for "no runAfter".
TASK = {
    "id": "",
    "taskGroupId": "",
    "name": "",
    "worker": "worker-a",
    "workgroup": "",
    "key": "",
    "remainingAttempts": 5,
    "isPaused": False,
    "isComplete": False,
    "runAfter": "0001-01-01T00:00:00Z",
    "isSeed": False,
    "errorDelayInSeconds": 60,
    "input": None,
    "output": None,
    "errors": [],
    "createdAt": "2024-06-24T06:18:00.796654483Z",
    "parentIds": [],
    "busyExecuting": False,
}


class Old:
    """An old Crew that writes to a Redis, key by key as the contract says."""

    def __init__(self, client: redis.Redis, url: str) -> None:
        self.client = client
        self.url = url
        # Also shows that a prefix is no pattern.
        self.prefix = f"go-crew[{uuid.uuid4().hex}]*/"

    def group(self, id_: str, **fields: Any) -> None:
        record = {"id": id_, "name": id_.title(), "createdAt": "2024-06-24T08:17:59-07:00"} | fields
        self.set(f"task-groups/{id_}", record)

    def task(self, group: str, id_: str, **fields: Any) -> None:
        self.record(group, id_, **fields)
        self.client.lpush(f"{self.prefix}task-groups/{group}/tasks", id_)
        for parent in fields.get("parentIds") or []:
            self.client.lpush(f"{self.prefix}tasks/{parent}/children", id_)
        for kind, name in (("keys", fields.get("key")), ("workgroups", fields.get("workgroup"))):
            self.client.lpush(f"{self.prefix}{kind}/{name or ''}", id_)

    def record(self, group: str, id_: str, **fields: Any) -> None:
        self.set(f"tasks/{id_}", TASK | {"id": id_, "taskGroupId": group} | fields)

    def set(self, key: str, value: Any) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value)
        self.client.set(self.prefix + key, data)

    def bring_over(self, *args: str) -> list[str]:
        lines = io.StringIO()
        call_command(
            "crewimport", "--redis", self.url, "--prefix", self.prefix, *args, stdout=lines
        )
        assert_sound()
        return lines.getvalue().splitlines()


@pytest.fixture
def old(redis_url: str) -> Iterator[Old]:
    with redis.Redis.from_url(redis_url) as client:
        crew = Old(client, redis_url)
        yield crew
        for key in client.scan_iter(crew.prefix.replace("[", "\\[").replace("*", "\\*") + "*"):
            client.delete(key)


def assert_sound() -> None:
    broken = {each.name: ids for each in INVARIANTS if (ids := list(each.find()))}
    assert not broken


def test_its_keys_are_looked_for_where_they_are() -> None:
    assert old_store.PREFIX == "go-crew/"


def test_a_group_comes_over_with_all_its_tasks(db: None, old: Old) -> None:
    old.group("g", name="nightly ‖")
    old.task(
        "g",
        "a",
        name="first",
        isComplete=True,
        isSeed=True,
        output={"z": [1.5], "a": "é\u2028"},
        errors=["boom"],
        remainingAttempts=3,
    )
    old.task(
        "g",
        "b",
        workgroup="wg",
        key="k",
        isPaused=True,
        runAfter="2999-01-01T01:00:00.5+01:00",
        errorDelayInSeconds=0,
        input={"x": 12345678901234567000},
        parentIds=["a"],
        createdAt="2024-06-24T06:18:00.796655999Z",
    )
    old.task("g", "c", parentIds=["a", "b"], errors=None)
    old.client.set(f"{old.prefix}tasks/c/mutex", "a lock", ex=600)
    before = timezone.now()

    lines = old.bring_over()

    assert lines == ["g 3 tasks", "1 groups and 3 tasks came over; 0 things amiss"]
    group = TaskGroup.objects.get()
    assert (group.pk, group.name, group.task_count) == ("g", "nightly ‖", 3)
    assert group.created_at == datetime(2024, 6, 24, 15, 17, 59, tzinfo=UTC)
    a, b, c = Task.objects.order_by("id")
    assert (a.name, a.is_complete, a.is_seed, a.remaining_attempts) == ("first", True, True, 3)
    assert (a.output, a.errors) == ({"z": [1.5], "a": "é\u2028"}, ["boom"])
    assert a.created_at == datetime(2024, 6, 24, 6, 18, 0, 796654, tzinfo=UTC)
    assert a.completed_at >= before.replace(microsecond=0)
    assert (b.workgroup, b.key, b.is_paused, b.input) == (
        "wg",
        "k",
        True,
        {"x": 12345678901234567000},
    )
    assert b.run_after == datetime(2999, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert (b.error_delay_in_seconds, b.pending_parents) == (0, 0)
    assert (c.pending_parents, c.errors) == (1, [])
    edges = ParentEdge.objects.filter(child="c").order_by("position")
    assert list(edges.values_list("parent_id", flat=True)) == ["a", "b"]
    (entry,) = AuditEntry.objects.all()
    assert (entry.verb, entry.target, entry.count) == ("create", "g", 3)
    assert entry.detail == {"imported": "redis"}


def test_a_second_run_creates_nothing_twice(db: None, old: Old) -> None:
    for group in ("one", "two", "three"):
        old.group(group)
        for n in range(3):
            old.task(group, f"{group}-{n}", parentIds=[f"{group}-{n - 1}"] if n else [])
    old.bring_over()
    Task.objects.filter(pk="two-1").update(name="edited here")
    TaskGroup.objects.get(pk="three").delete()
    rows = list(Task.objects.order_by("id").values())

    lines = old.bring_over()

    assert sorted(lines) == [
        "1 groups and 3 tasks came over; 0 things amiss",
        "one 3 tasks, left alone: its id is in use",
        "three 3 tasks",
        "two 3 tasks, left alone: its id is in use",
    ]
    kept = Task.objects.exclude(group="three").order_by("id").values()
    assert list(kept) == rows
    assert Task.objects.count() == 9


def test_a_dry_run_tells_the_same_and_stores_nothing(db: None, old: Old) -> None:
    old.group("g")
    old.task("g", "a", parentIds=["nobody"])
    old.record("deleted", "orphan")

    lines = old.bring_over("--dry-run")

    assert not TaskGroup.objects.exists() and not AuditEntry.objects.exists()
    assert old.bring_over() == lines[:-1]


def test_what_was_in_flight_runs_again(db: None, old: Old) -> None:
    old.group("g")
    old.task("g", "a", busyExecuting=True, remainingAttempts=1)

    lines = old.bring_over()

    assert "! task a: it was executing, and runs again" in lines
    assert not Attempt.objects.exists()
    assert claim_ids() == ["a"]


def test_lists_may_hold_ids_twice_and_ids_of_tasks_that_are_gone(db: None, old: Old) -> None:
    old.group("g")
    for id_ in ("a", "b"):
        old.task("g", id_)
    key = f"{old.prefix}task-groups/g/tasks"
    old.client.lpush(key, "a", "ghost", "b", "ghost")

    lines = old.bring_over()

    assert lines == [
        "g 2 tasks",
        "! task ghost: its record is gone",
        "1 groups and 2 tasks came over; 1 things amiss",
    ]


def test_what_a_delete_left_behind_is_listed(db: None, old: Old) -> None:
    # Deleting a group left almost half of its tasks, in no group (B8).
    old.record("deleted", "orphan", key="k")
    old.client.lpush(f"{old.prefix}keys/k", "orphan", "gone")
    old.client.set(f"{old.prefix}tasks/orphan/mutex", "x")
    old.group("g")
    old.record("g", "unlisted")
    old.group("empty")

    lines = old.bring_over()

    assert sorted(lines) == [
        "! task orphan: it did not come: its group 'deleted' is gone",
        "! task unlisted: it did not come: its group 'g' does not list it",
        "2 groups and 0 tasks came over; 2 things amiss",
        "empty 0 tasks",
        "g 0 tasks",
    ]


def test_an_id_that_was_created_twice_is_its_last_groups(db: None, old: Old) -> None:
    old.group("first")
    old.group("second")
    old.task("first", "t", name="old")
    old.task("second", "t", name="new")  # Redis overwrote it, and both groups list it (B18)

    lines = old.bring_over()

    assert "! task t: listed in group first, but it belongs to group 'second'" in lines
    assert Task.objects.get().name == "new"
    assert Task.objects.get().group_id == "second"


def test_no_task_starts_because_its_parent_did_not_come(db: None, old: Old) -> None:
    old.group("g")
    old.group("h")
    old.task("h", "open")
    old.task("h", "done", isComplete=True)
    old.set("tasks/broken", b'{"id": "broken", ')
    old.client.lpush(f"{old.prefix}task-groups/g/tasks", "broken")
    old.task("g", "after-gone", parentIds=["nobody"])
    old.task("g", "after-done", parentIds=["done"])
    old.task("g", "after-open", parentIds=["open"])
    old.task("g", "after-broken", parentIds=["broken"])
    old.task("g", "complete", parentIds=["open"], isComplete=True)

    lines = old.bring_over()

    assert sorted(line for line in lines if line.startswith("!")) == [
        "! task after-broken: its parent broken is not complete and does not come, so it comes"
        " paused",
        "! task after-done: its parent done is complete, and does not come along",
        "! task after-gone: its parent nobody is gone",
        "! task after-open: its parent open is not complete and does not come, so it comes paused",
        "! task broken: it did not come: its record is not JSON: Expecting property name enclosed"
        " in double quotes at character 16",
        "! task complete: its parent open is not complete and does not come",
    ]
    assert set(claim_ids()) == {"after-gone", "after-done", "open"}


def test_tasks_that_wait_for_themselves_come_paused(db: None, old: Old) -> None:
    old.group("g")
    old.task("g", "a", parentIds=["b"])
    old.task("g", "b", parentIds=["a"])
    old.task("g", "self", parentIds=["self"])
    old.task("g", "after", parentIds=["a"])

    lines = old.bring_over()

    assert lines[1:4] == [
        "! task self: it names itself as a parent, so it comes paused",
        "! task a: it waits for itself: its parent b is taken away, so it comes paused",
        "! task b: it waits for itself: its parent a is taken away, so it comes paused",
    ]
    assert Task.objects.get(pk="after").pending_parents == 1
    assert claim_ids() == []


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"worker": "wk one"}, "'wk one' cannot be the name of a worker: it comes without one"),
        ({"remainingAttempts": -1}, "its remainingAttempts was -1, and is 0"),
        ({"remainingAttempts": 5000}, "its remainingAttempts was 5000, and is 1000"),
        ({"errorDelayInSeconds": -5}, "its errorDelayInSeconds was -5, and is 0"),
        ({"name": "x" * 300}, "its name was longer than 200 characters, and is cut"),
    ],
)
def test_what_has_other_limits_here_comes_changed(
    db: None, old: Old, fields: dict[str, Any], lines: str
) -> None:
    old.group("g")
    old.task("g", "a", **fields)

    assert old.bring_over() == [
        "g 1 task",
        f"! task a: {lines}",
        "1 groups and 1 tasks came over; 1 things amiss",
    ]


@pytest.mark.parametrize(
    ("id_", "record", "why"),
    [
        ("a b", {}, "id must be 1 to 200 letters"),
        ("x/children", {}, "id must be 1 to 200 letters"),
        ("a", {"id": "other"}, "its record is that of 'other'"),
        ("a", {"id": None}, "its record is that of None"),
        ("a", {"runAfter": "soon"}, "runAfter must be an RFC 3339 time"),
        ("a", {"parentIds": "b"}, "parentIds must be a list of strings"),
        ("a", {"isComplete": "yes"}, "isComplete must be true or false"),
        ("a", {"key": " "}, "key holds only spaces"),
        ("a", {"input": "x" * 2_000_000}, "input is larger than 1048576 bytes"),
        ("a", b"", "its record is empty"),
        ("a", b"\xff\xfe", "its record is not UTF-8"),
        ("a", b"[]", "its record is no object"),
        ("a", b"[" * 100_000, "its record is nested deeper than 64"),
    ],
)
def test_a_task_that_cannot_come_keeps_none_from_coming(
    db: None, old: Old, id_: str, record: Any, why: str
) -> None:
    old.group("g")
    old.task("g", "fine")
    old.task("g", id_)
    if isinstance(record, bytes):
        old.set(f"tasks/{id_}", record)
    else:
        old.record("g", id_, **record)

    lines = old.bring_over()

    assert lines[0] == "g 1 task"
    assert lines[1].startswith(f"! task {id_}: it did not come: {why}")
    assert lines[2] == "1 groups and 1 tasks came over; 1 things amiss"
    assert Task.objects.get().pk == "fine"


def test_groups_that_cannot_come_keep_none_from_coming(db: None, old: Old) -> None:
    make_task(make_group(id="here"), id="taken")
    old.group("fine", name="n" * 300)
    old.group("bad id")
    old.set("task-groups/broken", b"nonsense")
    old.task("broken", "in-broken")
    old.group("clash")
    old.task("clash", "taken")
    old.group("odd")
    old.set("task-groups/odd/tasks", b"no list")

    lines = old.bring_over()

    assert sorted(lines)[:7] == [
        "! group bad id: it did not come: id must be 1 to 200 letters, digits, '.', '_', ':' or"
        " '-' and begin with a letter or digit, not 'bad id'",
        "! group broken: it did not come: its record is not JSON: no value at character 0",
        "! group clash: it did not come: a task with the id taken exists already, in group here",
        "! group fine: its name was longer than 200 characters, and is cut",
        "! group odd/tasks: it did not come: its record is not JSON: no value at character 0",
        "! group odd: it did not come: its list of tasks is no list",
        "! task in-broken: it did not come: its group 'broken' does not list it",
    ]
    assert set(TaskGroup.objects.values_list("pk", flat=True)) == {"here", "fine"}
    assert Task.objects.get().group_id == "here"


def test_no_database_takes_what_the_old_one_did(db: None, old: Old) -> None:
    old.group("g", name="a\0b")
    old.task("g", "a", input={"x": "\ud800"}, name="\0")

    old.bring_over()

    assert TaskGroup.objects.get().name == "a\ufffdb"
    assert (Task.objects.get().input, Task.objects.get().name) == ({"x": "\ufffd"}, "\ufffd")


def test_groups_larger_than_a_look_come_whole_and_in_order(db: None, old: Old) -> None:
    old.group("g")
    ids = [f"t{n}" for n in range(2_345)]
    pipe = old.client.pipeline(transaction=False)
    for n, id_ in enumerate(ids):
        task = TASK | {"id": id_, "taskGroupId": "g", "parentIds": ids[max(0, n - 1) : n]}
        pipe.set(f"{old.prefix}tasks/{id_}", json.dumps(task))
        pipe.lpush(f"{old.prefix}task-groups/g/tasks", id_)
    pipe.execute()

    assert old.bring_over()[0] == "g 2345 tasks"

    assert Task.objects.filter(pending_parents=1).count() == 2_344
    assert claim_ids() == ["t0"]


def test_ids_in_use_may_be_replaced_or_renamed(db: None, old: Old) -> None:
    old.group("g")
    old.task("g", "a")
    old.task("g", "b", parentIds=["a"])
    old.bring_over()
    Task.objects.filter(pk="a").update(name="edited", attempt=3)

    assert old.bring_over("--replace")[0] == "g 2 tasks"
    assert old.bring_over("--rename-suffix=.old")[0] == "g.old 2 tasks"

    a = Task.objects.get(pk="a")
    assert (a.name, a.attempt) == ("", 3)
    assert ParentEdge.objects.filter(parent="a.old", child="b.old").exists()


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--redis", "http://127.0.0.1/"], "--redis: Redis URL must"),
        (["--redis", "redis://:geheim@127.0.0.1:1/0"], "redis: .*(refused|connecting)"),
        ([], "Name a file, or --redis"),
        (["x.json", "--redis", "redis://127.0.0.1/"], "Name a file, or --redis"),
    ],
)
def test_a_redis_that_cannot_be_read_is_one_sentence(db: None, args: list[str], error: str) -> None:
    with pytest.raises(CommandError, match=error) as raised:
        call_command("crewimport", *args)

    assert "geheim" not in str(raised.value)

"""Groups and tasks come in whole or not at all."""

import pytest

from tasks import control, create, limits_and_holds
from tasks.errors import ConflictError, InvalidInputError, NotFoundError
from tasks.models import Change, ParentEdge, Task, TaskGroup, Worker
from tasks.rules.spec import read_task
from tasks.store import wire as wire_of

from .factories import claim_all, claim_ids, complete, from_now, make_group, make_task, row, wire

pytestmark = pytest.mark.django_db


def stored():
    return {
        "groups": list(TaskGroup.objects.order_by("pk").values()),
        "tasks": list(Task.objects.order_by("pk").values()),
        "edges": ParentEdge.objects.count(),
        "workers": Worker.objects.count(),
        "changes": Change.objects.count(),
    }


def refused(error, match, call, *args, **kwargs):
    """The call raises, and nothing at all has been stored."""
    before = stored()
    with pytest.raises(error, match=match):
        call(*args, **kwargs)
    assert stored() == before


# --- What is stored ---


def test_a_task_gets_the_contracts_defaults():
    group = make_group()

    (id_,) = create.create_tasks(group.pk, [{}])

    task = Task.objects.get(pk=id_)
    assert (task.group_id, task.name, task.worker) == (group.pk, "", "")
    assert (task.workgroup, task.key) == ("", "")
    assert (task.remaining_attempts, task.error_delay_in_seconds) == (5, 60)
    assert (task.input, task.output, task.errors) == (None, None, [])
    assert (task.is_paused, task.is_complete, task.is_seed) == (False, False, False)
    assert (task.pending_parents, task.attempt, task.created_by) == (0, 0, "")
    assert abs(from_now(task.run_after)) < 10
    assert abs(from_now(task.created_at)) < 10


def test_every_field_is_stored():
    group = make_group()

    create.create_tasks(
        group.pk,
        [
            {
                "id": "t",
                "name": "T <b>",
                "worker": "a/b",
                "workgroup": "w",
                "key": "k",
                "remainingAttempts": "3",
                "isPaused": True,
                "isSeed": True,
                "runAfter": "2040-01-02T03:04:05.678901+01:00",
                "errorDelayInSeconds": 0,
                "priority": -3,
                "input": {"a": [1, None, "ü\u2028"]},
                "output": [False],
                "errors": ["old"],
                "createdAt": "2020-01-01T00:00:00Z",
                "taskGroupId": "another",
                "busyExecuting": True,
            }
        ],
    )

    task = Task.objects.get(pk="t")
    assert task.group_id == group.pk
    assert (task.name, task.worker, task.workgroup, task.key) == ("T <b>", "a/b", "w", "k")
    assert (task.remaining_attempts, task.error_delay_in_seconds, task.priority) == (3, 0, -3)
    assert (task.is_paused, task.is_seed, task.is_executing) == (True, True, False)
    assert task.run_after.isoformat() == "2040-01-02T02:04:05.678901+00:00"
    assert task.created_at.isoformat() == "2020-01-01T00:00:00+00:00"
    assert task.input == {"a": [1, None, "ü\u2028"]}
    assert (task.output, task.errors) == ([False], ["old"])


@pytest.mark.parametrize(
    "value",
    [
        {"n": 12345678901234567890},
        [-(2**63) - 1],
        {"deep": [[[{"x": []}]]]},
        'text with "quotes", \\ and 日本 🙂',
        0,
        False,
        "",
        [],
        {},
        0.1,
    ],
    ids=repr,
)
def test_input_comes_back_exactly(value):
    task = make_task(input=value, output=value)

    assert task.input == value
    assert type(task.input) is type(value)
    assert task.output == value


def test_tasks_come_in_any_order():
    group = make_group()

    ids = create.create_tasks(
        group.pk,
        [
            wire(id="d", parent_ids=["b", "c"]),
            wire(id="b", parent_ids=["a"]),
            wire(id="a"),
            wire(id="c", parent_ids=["a"]),
        ],
    )

    assert ids == ["d", "b", "a", "c"]
    assert dict(Task.objects.values_list("id", "pending_parents")) == {
        "a": 0,
        "b": 1,
        "c": 1,
        "d": 2,
    }
    assert claim_ids() == ["a"]


def test_tasks_of_one_call_keep_its_order():
    group = make_group()
    mixed = [f"t{n * 7_919 % 3_000:04}" for n in range(3_000)]

    create.create_tasks(group.pk, [wire(id=id_) for id_ in mixed])

    ordered = Task.objects.order_by("created_at", "id")
    assert [task.pk for task in ordered] == mixed


def test_a_parent_named_twice_is_one_edge():
    group = make_group()
    parent = make_task(group, id="p")

    child = make_task(group, parent_ids=["p", "p"])

    assert child.pending_parents == 1
    assert ParentEdge.objects.filter(child=child, parent=parent).count() == 1


def test_parents_in_the_store_that_are_complete_hold_nobody_up():
    group = make_group()
    done = make_task(group, is_complete=True)
    undone = make_task(group, is_paused=True)

    make_task(group, id="free", parents=[done])
    make_task(group, id="held", parents=[done, undone])

    assert Task.objects.get(pk="held").pending_parents == 1
    assert claim_ids() == ["free"]


def test_a_task_created_complete_frees_its_children():
    group = make_group()

    create.create_tasks(
        group.pk,
        [wire(id="child", parent_ids=["done"]), wire(id="done", isComplete=True, output=1)],
    )

    done = Task.objects.get(pk="done")
    assert (done.is_complete, done.output) == (True, 1)
    assert done.completed_at is not None
    assert claim_ids() == ["child"]


@pytest.mark.parametrize("many", [1, 200], ids=["as many", "as a few"])
def test_tasks_of_a_paused_group_are_paused(monkeypatch, many):
    monkeypatch.setattr(create, "MANY", many)
    group = make_group(is_paused=True, tasks=[wire(id="first")])

    create.create_tasks(group.pk, [wire(id="second")])
    assert claim_ids() == []
    control.resume_group(group.pk)
    create.create_tasks(group.pk, [wire(id="third", is_paused=True), wire(id="fourth")])

    assert sorted(claim_ids()) == ["first", "fourth", "second"]


def test_the_group_counts_its_tasks():
    group = make_group(tasks=[wire(), wire()])

    create.create_tasks(group.pk, [wire()] * 3)

    group.refresh_from_db()
    assert group.task_count == 5


def test_a_worker_has_a_row_from_its_first_task_on():
    make_task(worker="new")
    Worker.objects.filter(pk="new").update(max_concurrency=3)

    make_task(worker="new")
    make_task(worker="")

    assert list(Worker.objects.values_list("name", "max_concurrency")) == [("new", 3)]


def test_no_tasks_is_no_change():
    group = make_group()

    assert create.create_tasks(group.pk, []) == []
    assert Task.objects.count() == 0


def test_a_creation_is_written():
    group = make_group()
    Change.objects.all().delete()

    ids = create.create_tasks(group.pk, [wire(), wire()])

    assert [(c.group_id, c.created) for c in Change.objects.all()] == [(group.pk, ids)]


def test_ten_thousand_tasks_with_fifty_thousand_parents(django_assert_max_num_queries):
    group = make_group()
    tasks = [
        wire(id=f"t{n}", parent_ids=[f"t{n - back}" for back in range(1, 6) if n >= back])
        for n in range(10_000)
    ]

    with django_assert_max_num_queries(15):
        create.create_tasks(group.pk, reversed(tasks))

    assert Task.objects.count() == 10_000
    assert ParentEdge.objects.count() == 49_985
    assert claim_ids() == ["t0"]


# --- What is refused ---


def test_an_unknown_group_is_refused():
    refused(NotFoundError, "task group not found", create.create_tasks, "nope", [wire()])


@pytest.mark.parametrize(
    ("tasks", "match"),
    [
        ([wire(id="a"), wire(parent_ids=["nope"])], "cannot find all parents for task 1"),
        ([wire(id="a", parent_ids=["elsewhere"])], "cannot find all parents for task 0"),
        ([wire(id="a", parent_ids=["a"])], "itself"),
        (
            [wire(id="a", parent_ids=["b"]), wire(id="b", parent_ids=["a"])],
            r"cycle: (a -> b -> a|b -> a -> b)",
        ),
        ([wire(id="a"), wire(id="a")], "duplicate task id: a"),
        ([wire(), wire(worker="../admin")], "task 1: worker"),
        ([wire(), wire(name="x" * 201)], "task 1: name"),
        ([wire(), "text"], "task 1: a task must be an object"),
        ([wire(), wire(parent_ids="x")], "task 1: parentIds"),
        ([wire(parent_ids=[["nested"]])], "task 0: parentIds"),
        ([wire(id="a/b")], "task 0: id"),
        ([wire(remaining_attempts=-1)], "task 0: remainingAttempts"),
    ],
)
def test_a_bad_task_stores_nothing_of_its_call(tasks, match):
    group = make_group()
    make_task(id="elsewhere")

    refused(InvalidInputError, match, create.create_tasks, group.pk, tasks)


@pytest.mark.parametrize("same_group", [True, False])
def test_an_id_in_use_is_a_conflict(same_group):
    group = make_group()
    make_task(group if same_group else None, id="taken")

    refused(
        ConflictError,
        "a task with the id taken exists already",
        create.create_tasks,
        group.pk,
        [wire(id="fresh"), wire(id="taken")],
    )


@pytest.mark.parametrize(
    ("setting", "tasks", "match"),
    [
        ("CREW_MAX_TASKS_PER_CALL", [wire()], "more than 3 tasks in one call"),
        (
            "CREW_MAX_EDGES_PER_CALL",
            [wire(id="x", parent_ids=["a"])],
            "more than 3 parents in one call",
        ),
        ("CREW_MAX_PARENTS", [wire(id="p"), wire(parent_ids=["p"])], "more than 3 parents"),
        ("CREW_MAX_GROUP_TASKS", [wire()], "at most 3 tasks"),
    ],
)
def test_limits_hold_exactly(settings, setting, tasks, match):
    """Three go in, four do not."""
    setattr(settings, setting, 3)
    fits = {
        "CREW_MAX_TASKS_PER_CALL": [wire(), wire(), wire()],
        "CREW_MAX_GROUP_TASKS": [wire(), wire(), wire()],
        "CREW_MAX_EDGES_PER_CALL": [wire(id="y", parent_ids=["a", "b", "c"])],
        "CREW_MAX_PARENTS": [wire(id="y", parent_ids=["a", "b", "c"])],
    }[setting]
    over = {
        "CREW_MAX_TASKS_PER_CALL": [wire()] * 4,
        "CREW_MAX_GROUP_TASKS": [wire()],
        "CREW_MAX_EDGES_PER_CALL": [
            wire(id="z", parent_ids=["a", "b"]),
            wire(parent_ids=["c", "d"]),
        ],
        "CREW_MAX_PARENTS": [wire(id="z", parent_ids=["a", "b", "c", "d"])],
    }[setting]
    group = make_group()
    if "GROUP" not in setting and "TASKS" not in setting:
        for id_ in "abcd":
            make_task(group, id=id_)

    create.create_tasks(group.pk, fits)

    refused(InvalidInputError, match, create.create_tasks, group.pk, over)


def test_an_input_may_be_as_long_as_the_limit(settings):
    settings.CREW_MAX_INPUT_BYTES = 10
    group = make_group()

    create.create_tasks(group.pk, [wire(input="é" * 4)])  # 8 bytes and 2 quotes

    refused(
        InvalidInputError,
        "task 0: input is larger than 10 bytes",
        create.create_tasks,
        group.pk,
        [wire(input="é" * 4 + "x")],
    )


def test_a_group_comes_with_its_tasks_or_not_at_all():
    refused(
        InvalidInputError,
        "cannot find all parents",
        create.create_group,
        id="g",
        tasks=[wire(parent_ids=["nope"])],
    )

    group = create.create_group(id="g", name="G", tasks=[wire(), wire()])

    assert (group.pk, group.name, group.task_count) == ("g", "G", 2)


def test_a_group_id_in_use_is_a_conflict():
    make_group(id="g", name="first")

    refused(
        ConflictError, "a task group with the id g", create.create_group, id="g", tasks=[wire()]
    )


def test_a_group_whose_task_id_is_taken_is_not_stored():
    make_task(id="taken")

    refused(ConflictError, "taken", create.create_group, tasks=[wire(id="taken")])


@pytest.mark.parametrize(
    "fields", [{"id": "a/b"}, {"id": 5}, {"name": "x" * 201}, {"name": ["a"]}, {"name": "\0"}]
)
def test_a_group_with_bad_fields_is_refused(fields):
    refused(InvalidInputError, next(iter(fields)), create.create_group, **fields)


def test_a_child_of_a_task_that_runs_waits_for_it():
    group = make_group()
    parent = make_task(group)
    (lease,) = claim_all()

    child = make_task(group, parents=[parent])
    complete(lease)

    assert child.pending_parents == 1
    assert row(child)["pending_parents"] == 0
    assert claim_ids() == [child.pk]


def test_a_time_long_ago_is_stored_as_it_is_and_is_due():
    """Years below 1000 keep their zeros: SQLite compares the texts, PostgreSQL refuses the rest."""
    (id_,) = create.create_tasks(make_group().pk, [wire(runAfter="0034-02-07T20:51:16Z")])

    assert Task.objects.get(pk=id_).run_after.year == 34
    assert claim_ids() == [id_]


@pytest.mark.parametrize("is_paused", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {
            "name": "n",
            "worker": "a/b",
            "workgroup": "g",
            "key": "k",
            "input": {"bb": 1e5, "a": 12345678901234567890},
            "parentIds": ["done", "open"],
            "priority": 3,
            "isSeed": True,
            "runAfter": "2001-02-03T04:05:06.789Z",
            "createdAt": "2000-01-01T00:00:00Z",
        },
        {"isComplete": True, "output": [1.0, None], "errors": ["e"], "workgroup": "held"},
        {"runAfter": "2999-02-03T04:05:06Z", "remainingAttempts": 0, "isPaused": True},
    ],
)
def test_one_created_task_is_returned_as_it_is_stored(asked, is_paused):
    group = make_group(is_paused=is_paused)
    make_task(group=group, id="done", is_complete=True)
    make_task(group=group, id="open")
    limits_and_holds.hold_workgroup("held", seconds=60)
    limits_and_holds.hold_workgroup("g", seconds=60)
    spec = read_task(asked, max_input=1000)

    result = create.create_task(group.pk, spec)

    stored = Task.objects.get(pk=spec.id)
    shown = wire_of.new_task(result, spec.parent_ids)
    assert shown == wire_of.task(stored)
    assert list(shown["input"] or {}) == list(stored.input or {})
    assert result.pending_parents == stored.pending_parents


def test_one_created_task_takes_no_second_look(django_assert_max_num_queries):
    group = make_group()
    spec = read_task({"worker": "w"}, max_input=1000)

    # The transaction's begin and end, the count, the worker, the task, the change.
    with django_assert_max_num_queries(6):
        create.create_task(group.pk, spec)

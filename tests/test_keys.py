"""What may be a mistake about keys is logged when tasks are created, and refused by nobody."""

import pytest

from tasks import create
from tasks.rules.spec import read_task
from tasks.store import key_warnings

from .factories import make_group, make_task, wire

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

SEVERAL = "key k has several workers ({}): one call to one of them completes the tasks of all"
LINE = (
    "key k is that of task {} and of a descendant of it: each of them runs, as a task never"
    " follows its own ancestor"
)


def result(group, *tasks):
    """The warnings about these tasks, which are created."""
    with key_warnings.gathered() as warnings:
        create.create_tasks(group.pk, tasks)
    return warnings


def keyed(id_, **fields):
    return wire(id=id_, key="k", **fields)


def test_several_workers_of_one_key_are_reported(caplog):
    warnings = result(make_group(), keyed("a", worker="v"), keyed("b", worker="w"), wire(id="c"))

    assert warnings == [SEVERAL.format("v, w")]
    assert SEVERAL.format("v, w") in caplog.text


def test_those_that_are_there_count_as_well():
    group = make_group()
    make_task(group, key="k", worker="v", is_complete=True)
    make_task(make_group(), key="k", worker="u")
    assert result(group, keyed("a", worker="w")) == []

    with key_warnings.gathered() as warnings:
        spec = read_task(keyed("b", worker="x"), max_input=100)
        create.create_task(group.pk, spec)

    assert warnings == [SEVERAL.format("x, w")]


def test_many_workers_are_named_in_part():
    tasks = [keyed(f"t{n}", worker=f"w{n}") for n in range(7)]

    assert result(make_group(), *tasks) == [SEVERAL.format("w0, w1, w2, w3, w4, ...")]


@pytest.mark.parametrize("between", [0, 1, 3])
def test_a_task_and_its_descendant_are_reported(between):
    chain = [wire(id=f"n{n}", parent_ids=[f"n{n - 1}" if n else "a"]) for n in range(between)]
    last = chain[-1]["id"] if chain else "a"

    assert result(make_group(), keyed("a"), *chain, keyed("b", parent_ids=[last])) == [
        LINE.format("a")
    ]


@pytest.mark.parametrize("between", [0, 1, 3])
def test_so_are_those_under_tasks_that_are_there(between):
    group = make_group(tasks=[keyed("a")])
    last = "a"
    for n in range(between):
        create.create_tasks(group.pk, [wire(id=f"n{n}", parent_ids=[last])])
        last = f"n{n}"

    warnings = result(group, wire(id="x", parent_ids=[last]), keyed("b", parent_ids=["x"]))

    assert warnings == [LINE.format("a")]


def test_twins_of_one_worker_beside_each_other_are_nothing_to_tell():
    group = make_group(tasks=[wire(id="top"), keyed("a", parent_ids=["top"])])

    assert result(group, keyed("b", parent_ids=["top"]), keyed("c")) == []


def test_warnings_have_a_limit_and_so_has_the_look(monkeypatch):
    monkeypatch.setattr(key_warnings, "STEPS", 2)
    chain = [wire(id=f"n{n}", parent_ids=[f"n{n - 1}"] if n else ["a"]) for n in range(9)]

    assert result(make_group(), keyed("a"), *chain, keyed("b", parent_ids=["n8"])) == []
    many = [wire(id=f"t{n}", key=f"k{n // 2}", worker=f"w{n}") for n in range(40)]
    assert len(result(make_group(), *many)) == key_warnings.MOST


def test_the_api_tells_in_a_header(api):
    group = make_group(id="g")
    one = api.post(f"/api/v1/task_group/{group.pk}/tasks", keyed("a", worker="v"))
    two = api.post(f"/api/v1/task_group/{group.pk}/tasks", keyed("b", worker="w"))
    bulk = api.post(
        f"/api/v1/task_group/{group.pk}/tasks/bulk",
        {"tasks": [wire(id="c", key="ü\u2028"), wire(id="d", key="ü\u2028", worker="x")]},
    )

    assert "X-Crew-Warning" not in one.headers
    assert two.headers["X-Crew-Warning"] == SEVERAL.format("w, v")
    assert bulk.headers["X-Crew-Warning"].startswith("key \\xfc\\u2028 has several workers")

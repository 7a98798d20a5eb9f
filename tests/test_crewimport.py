"""`manage.py crewimport`."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tasks import create
from tasks.models import ParentEdge, Task, TaskGroup


def run(tmp_path: Path, data: Any, *args: str) -> str:
    file = tmp_path / "tasks.json"
    file.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    out = io.StringIO()
    call_command("crewimport", str(file), *args, stdout=out)
    return out.getvalue()


def test_a_group_comes_in_with_all_its_fields(db: None, tmp_path: Path) -> None:
    task = {
        "id": "a",
        "name": "first",
        "worker": "w",
        "workgroup": "wg",
        "key": "k",
        "remainingAttempts": 2,
        "isPaused": True,
        "isSeed": True,
        "runAfter": "2999-01-01T00:00:00Z",
        "errorDelayInSeconds": 7,
        "priority": 3,
        "input": {"x": [1, None]},
    }
    data = {"id": "g", "name": "demo", "tasks": [{"id": "b", "parentIds": ["a"]}, task]}

    assert run(tmp_path, data) == "g 2 tasks\n"

    stored = Task.objects.get(pk="a")
    assert (stored.name, stored.worker, stored.workgroup, stored.key) == ("first", "w", "wg", "k")
    assert (stored.remaining_attempts, stored.error_delay_in_seconds, stored.priority) == (2, 7, 3)
    assert stored.is_paused and stored.is_seed and stored.run_after.year == 2999
    assert stored.input == {"x": [1, None]}
    assert ParentEdge.objects.filter(parent="a", child="b").exists()
    assert TaskGroup.objects.get(pk="g").name == "demo"


def test_a_group_may_come_without_id_and_tasks(db: None, tmp_path: Path) -> None:
    out = run(tmp_path, {"isPaused": True})

    group = TaskGroup.objects.get()
    assert out == f"{group.pk} 0 tasks\n"
    assert group.is_paused


def test_the_standard_input_is_read(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(b'{"id": "g", "tasks": [{}]}'))
    monkeypatch.setattr(sys, "stdin", stdin)
    out = io.StringIO()

    call_command("crewimport", "-", stdout=out)

    assert out.getvalue() == "g 1 task\n"


def test_a_list_is_added_to_a_group(db: None, tmp_path: Path) -> None:
    create.create_group(id="g", tasks=[{"id": "a"}])

    assert run(tmp_path, [{"id": "b", "parentIds": ["a"]}], "--group", "g") == "g 1 task\n"

    assert Task.objects.get(pk="b").pending_parents == 1


@pytest.mark.parametrize(
    ("data", "args", "error"),
    [
        ([{}], [], "needs --group"),
        ({"tasks": []}, ["--group", "g"], "must hold a list"),
        ([{}], ["--group", "nope"], "task group not found"),
        (5, [], "must hold an object"),
        ({"tasks": {}}, [], '"tasks" must be a list'),
        ({"id": 7}, [], "id must be"),
        ({"id": "new", "isPaused": "yes"}, [], "isPaused must be true or false"),
        ({"id": "g"}, [], "a task group with the id g exists already"),
        ({"tasks": [{}, {"priority": 11}]}, [], "task 1: priority must be between"),
        ({"tasks": [{}, []]}, [], "task 1: a task must be an object"),
        ({"tasks": [{"id": "a"}, {"id": "a"}]}, [], "duplicate task id: a"),
        ({"tasks": [{"id": "a", "parentIds": ["x"]}]}, [], "cannot find all parents for task 0"),
        ({"tasks": [{"id": "old"}]}, [], "a task with the id old exists already"),
        (b'{"name": "a", "name": "b"}', [], "twice in one object"),
        (b'{"name": NaN}', [], "NaN is not JSON"),
        (b'{"name": ', [], "not JSON"),
        (b"", [], "empty"),
        ({"name": "x" * 50}, ["--max-bytes", "40"], "larger than 40 bytes"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_stores_nothing(
    db: None, tmp_path: Path, data: Any, args: list[str], error: str
) -> None:
    create.create_group(id="g", tasks=[{"id": "old"}])

    with pytest.raises(CommandError, match=error) as raised:
        run(tmp_path, data, *args)

    assert "\n" not in str(raised.value)
    assert TaskGroup.objects.count() == Task.objects.count() == 1


def test_a_missing_file_is_an_error(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("crewimport", str(tmp_path / "nope.json"))


def test_the_limit_of_a_call_holds(db: None, tmp_path: Path, settings: Any) -> None:
    settings.CREW_MAX_TASKS_PER_CALL = 2

    with pytest.raises(CommandError, match="more than 2 tasks in one call"):
        run(tmp_path, {"tasks": [{}, {}, {}]})

    assert not TaskGroup.objects.exists()


def test_ten_thousand_tasks_fit(db: None, tmp_path: Path) -> None:
    task = {"worker": "w", "input": {str(n): n for n in range(12)}, "isSeed": False, "priority": 0}

    assert run(tmp_path, {"id": "g", "tasks": [task] * 10_000}) == "g 10000 tasks\n"

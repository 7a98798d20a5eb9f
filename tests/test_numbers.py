"""A number keeps its value, and what kind it is, through every door, on both databases."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from tasks import create, edit
from tasks.insight import preview
from tasks.models import SharedOutput, Task
from tasks.rules.jsonio import dump, for_store, from_store, read
from tasks.rules.payload import payload

from . import factories
from .api_client import GROUP, TASK, TASKS, Api
from .factories import answer, claim_all, claim_one, make_group, make_task
from .test_admin import shown, url

NUMBERS = [
    1e15,
    1e16,
    -1e22,
    1e23,
    1.5e99,
    1e100,
    1e299,
    1e300,
    -1.2345678901234567e300,
    1.7976931348623157e308,
    5e-324,
    1e-320,
    -2.2250738585072014e-308,
    1.5e-300,
    1e-7,
    0.1,
    100.0,
    0.0,
    12345678901234567890,
    -9007199254740993,
    10**100,
    -(10**299),
    2**996,
    7 * 10**290 + 7,
]
# What a string holds is no number, however it looks.
LIKE = ["1" + "0" * 305 + ".0", '"' + "0" * 150 + "1e+16", "\\", "e+"]
VALUE = {"numbers": NUMBERS, "1e+300": LIKE}


def result(text: str | bytes) -> Any:
    """As our own strict reader takes it, which limits digits."""
    data = text.encode() if isinstance(text, str) else text
    return read(data, max_bytes=10_000_000).value


def assert_same(value: Any) -> None:
    assert value == VALUE
    assert [type(number) for number in value["numbers"]] == [type(n) for n in NUMBERS]


def called(lease: Any) -> Any:
    return result(payload(lease.task_id, lease.worker, lease.input_json, lease.parents))


@pytest.mark.django_db
@pytest.mark.usefixtures("no_auth")
def test_through_the_api_and_back_by_an_edit(api: Api) -> None:
    make_group(id="g")
    api.post(TASKS, {"id": "t", "worker": "w", "input": VALUE, "output": VALUE})

    said = api.get(TASK)
    for field in ("input", "output"):
        assert_same(result(said.body)[field])
    changed = api.put(TASK, {"input": result(said.body)["input"], "output": VALUE})

    assert changed.status == 200, changed.body
    assert_same(result(api.get(TASK).body)["input"])
    assert_same(result(api.get(f"{GROUP}/tasks").body)["tasks"][0]["output"])
    assert_same(Task.objects.get(pk="t").input)


@pytest.mark.django_db
@pytest.mark.usefixtures("no_auth")
def test_what_is_returned_of_a_new_task(api: Api) -> None:
    make_group(id="g")

    said = api.post(TASKS, {"id": "t", "input": VALUE})

    assert_same(result(said.body)["input"])


@pytest.mark.django_db
def test_through_calls_and_answers() -> None:
    make_task(id="p", input=VALUE)
    lease = claim_one()
    assert_same(called(lease)["input"])

    answer(lease, json_={"output": VALUE, "children": [{"worker": "w", "input": VALUE}]})

    call = called(claim_one())
    assert_same(call["input"])
    (parent,) = call["parents"]
    assert_same(parent["input"])
    assert_same(parent["output"])
    child = Task.objects.exclude(pk="p").get()
    shown = preview.call_of(child.pk)
    assert shown
    assert_same(result(shown.body)["input"])


@pytest.mark.django_db
def test_through_an_output_that_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.engine.shared_outcomes.COPIED", 10)
    group = make_group()
    for id_ in ("a", "b"):
        make_task(group, id=id_, key="k")
    make_task(group, id="c", parents=list(Task.objects.filter(pk="b")))
    (lease,) = claim_all()

    answer(lease, json_={"output": VALUE})

    assert SharedOutput.objects.count() == 1
    assert_same(SharedOutput.objects.get().value)
    assert_same(Task.objects.get(pk="b").output)
    assert_same(called(claim_one())["parents"][0]["output"])


@pytest.mark.django_db
def test_through_a_person(admin_client: Client) -> None:
    group = make_group(id="g")
    make_task(group, id="t", input=VALUE)
    edit.complete_task("g", "t", output=VALUE)
    asked = admin_client.get(url("task", "change", "t")).context["adminform"].form
    texts = {name: asked[name].value() for name in ("input", "output")}
    form = shown(admin_client, "task", "t") | texts | {"name": "new"}

    page = admin_client.post(url("task", "change", "t"), form)

    assert page.status_code == 302, page.content.decode()
    task = Task.objects.get(pk="t")
    assert task.name == "new"
    assert_same(task.input)
    assert_same(task.output)
    edit.rerun_task("g", "t", {"input": result(texts["input"])})
    assert_same(called(claim_one())["input"])


@pytest.mark.django_db
def test_through_an_export_and_back(tmp_path: Path) -> None:
    make_task(make_group(id="g"), id="t", input=VALUE, output=VALUE)
    make_task(make_group(id="near"), id="n", input=[1e299] * 100_000)  # 700 kB of a MiB
    file, again = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    call_command("crewexport", "--all", "-o", str(file), stdout=io.StringIO())
    call_command("crewimport", str(file), "--replace", stdout=io.StringIO())
    call_command("crewexport", "--all", "-o", str(again), stdout=io.StringIO())

    for field in ("input", "output"):
        assert_same(getattr(Task.objects.get(pk="t"), field))
    before, after = (_tasks_of(each) for each in (file, again))
    assert before == after and len(before) == 2


def _tasks_of(file: Path) -> list[bytes]:
    return [line for line in file.read_bytes().splitlines() if line.startswith(b'{"task":')]


@pytest.mark.django_db
def test_many_large_numbers_are_no_larger_in_the_call() -> None:
    make_task(input=[1e200] * 20_000)

    lease = claim_one()

    body = payload(lease.task_id, lease.worker, lease.input_json, lease.parents)
    assert result(body)["input"] == [10**200] * 20_000 or result(body)["input"] == [1e200] * 20_000


@pytest.mark.parametrize("number", ["1E400", "-1e309", "1" * 301, "NaN", "Infinity"])
@pytest.mark.django_db
@pytest.mark.usefixtures("no_auth")
def test_what_no_double_holds_is_refused_in_words(api: Api, number: str) -> None:
    make_group(id="g")

    said = api.post(TASKS, f'{{"id": "t", "input": [{number}]}}'.encode())

    assert said.status == 400
    assert b"number" in said.body or b"not JSON" in said.body


def test_texts_without_such_numbers_are_the_same_texts() -> None:
    texts = [dump(value) for value in (None, 1, 0.5, "e+", ["1e+16"], {"a": "0" * 500}, [1e15])]

    for text in texts:
        assert json.loads(for_store(text)) == json.loads(text)
        assert from_store(for_store(text)) == text
    assert create.read_specs([factories.wire(id="a", input=1e16)])[0].input_json == (
        "10000000000000000.0"
    )

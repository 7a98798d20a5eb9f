"""What a change leaves, sets and empties: one rule for every field of every route (decision 12)."""

import json

import pytest

from tasks import limits_and_holds
from tasks.api.tasks import EDITABLE
from tasks.models import ParentEdge, Task, TaskGroup, Worker

from .api_client import GROUP, TASK, TASKS, Api
from .factories import claim_all, claim_ids, complete, in_an_hour, make_group, make_task, row, wire

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

WORKER = "/api/v1/worker/w"
# A value of each field that is not its default, and what is sent to empty it, if it can be.
FULL = {
    "name": "n",
    "worker": "w",
    "workgroup": "wg",
    "key": "k",
    "remainingAttempts": 7,
    "isPaused": True,
    "isComplete": False,
    "isSeed": True,
    "runAfter": "2090-01-01T00:00:00.000Z",
    "errorDelayInSeconds": 3,
    "priority": 4,
    "input": {"a": 1},
    "output": [2],
    "errors": ["e"],
    "parentIds": ["p"],
}
EMPTY = {
    "name": "",
    "worker": "",
    "workgroup": "",
    "key": "",
    "input": None,
    "output": None,
    "errors": [],
    "parentIds": [],
}
NEVER_EMPTY = sorted(set(FULL) - set(EMPTY) - {"runAfter"})


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def before(api):
    make_group(id="g", tasks=[wire(id="p")])
    return api.post(TASKS, FULL | {"id": "t"}).json


def test_the_tables_here_know_every_field(before):
    assert EDITABLE.keys() == FULL.keys()
    assert {name: before[name] for name in FULL} == FULL


@pytest.mark.parametrize("field", FULL)
def test_null_leaves_a_field_and_the_others_change(api, before, field):
    other = "name" if field != "name" else "key"

    said = api.put(TASK, {field: None, other: "new"})

    assert (said.status, said.json) == (200, before | {other: "new"})


def test_nulls_alone_change_and_tell_nothing(api, before):
    raw = row(Task(pk="t"))

    said = api.put(TASK, dict.fromkeys([*FULL, "clear"]))

    assert (said.status, said.json) == (200, before)
    assert row(Task(pk="t")) == raw
    assert api.get(f"{GROUP}/history").json["entries"] == []


@pytest.mark.parametrize("field", EMPTY)
def test_what_can_be_empty_is_emptied_by_its_name(api, before, field):
    said = api.put(TASK, {"clear": [field], field: None})

    state = {"state": "paused"}
    assert (said.status, said.json) == (200, before | state | {field: EMPTY[field]})


@pytest.mark.parametrize("field", [name for name, empty in EMPTY.items() if empty is not None])
def test_what_can_be_sent_empty_is_emptied_so_too(api, before, field):
    assert api.put(TASK, {field: EMPTY[field]}).json == before | {field: EMPTY[field]}


@pytest.mark.parametrize("sent", [{"runAfter": ""}, {"clear": ["runAfter"]}])
def test_an_empty_time_is_now(api, sent):
    make_task(make_group(id="g"), id="t", run_after=in_an_hour())
    assert claim_ids() == []

    assert api.put(TASK, sent).status == 200

    assert claim_ids() == ["t"]


@pytest.mark.parametrize("sent", [{}, {"runAfter": None}, {"input": None}, {"parentIds": None}])
def test_a_null_starts_no_task_out_of_order(api, sent):
    group = make_group(id="g", tasks=[wire(id="p"), wire(id="t", parent_ids=["p"])])
    make_task(group, id="later", run_after=in_an_hour())
    (lease,) = claim_all()
    assert lease.task_id == "p"

    for id_ in ("t", "later"):
        assert api.put(f"{GROUP}/task/{id_}", sent | {"name": "n"}).status == 200

    assert claim_ids() == []
    complete(lease)
    assert claim_ids() == ["t"]


def test_falsy_values_are_values(api, before):
    sent = {"input": 0, "output": False, "priority": 0, "isPaused": False, "isSeed": False}

    said = api.put(TASK, sent | {"remainingAttempts": 0, "errorDelayInSeconds": 0})

    assert said.json == before | sent | {
        "remainingAttempts": 0,
        "errorDelayInSeconds": 0,
        "state": "failed",
    }
    assert api.put(TASK, {"input": "", "output": []}).json["input"] == ""


REFUSED = [
    ({"clear": ["nothing"]}, "clear: no field 'nothing' can be changed here"),
    ({"clear": ["createdAt"]}, "clear: no field 'createdAt' can be changed here"),
    ({"clear": ["parent_ids"]}, "clear: no field 'parent_ids' can be changed here"),
    ({"clear": ["input"], "input": 5}, "clear: input is set as well"),
    ({"clear": ["input"], "input": False}, "clear: input is set as well"),
    ({"clear": ["input", "key"], "key": ""}, "clear: key is set as well"),
    ({"clear": ["parentIds"], "parentIds": []}, "clear: parentIds is set as well"),
    ({"clear": "input"}, "clear must be a list of names of fields"),
    ({"clear": {"input": True}}, "clear must be a list of names of fields"),
    ({"clear": [["input"]]}, "clear must be a list of names of fields"),
    ({"clear": [None]}, "clear must be a list of names of fields"),
    ({"clear": True}, "clear must be a list of names of fields"),
    *(({"clear": [name]}, f"clear: {name} cannot be empty") for name in NEVER_EMPTY),
]


@pytest.mark.parametrize(("sent", "why"), REFUSED, ids=[json.dumps(sent) for sent, _ in REFUSED])
def test_what_cannot_be_is_refused_and_nothing_stored(api, before, sent, why):
    said = api.put(TASK, {"name": "new"} | sent)

    assert (said.status, said.text.strip()) == (400, why)
    assert api.get(TASK).json == before


def test_clearing_is_an_edit_as_any_other(api, before):
    api.put(TASK, {"clear": ["input", "input"], "isPaused": False})
    (entry,) = api.get(f"{GROUP}/history").json["entries"]
    assert (entry["verb"], entry["detail"]["fields"]) == ("edit", ["input", "isPaused"])
    make_task(TaskGroup(pk="g"), id="busy")
    claim_all()

    said = api.put(f"{GROUP}/task/busy", {"isPaused": True, "clear": ["input"]})

    assert said.status == 409
    assert not Task.objects.get(pk="busy").is_paused
    assert api.put(f"{GROUP}/task/busy", {"isPaused": True, "input": None}).status == 200


def test_completing_by_hand_leaves_an_output_that_is_null(api):
    make_task(make_group(id="g"), id="t", output={"half": 1})

    said = api.put(TASK, {"isComplete": True, "output": None})

    assert (said.json["isComplete"], said.json["output"]) == (True, {"half": 1})
    assert api.put(TASK, {"clear": ["output"]}).json["output"] is None


def test_clearing_parents_frees_the_task(api):
    make_group(id="g", tasks=[wire(id="p", is_paused=True), wire(id="t", parent_ids=["p"])])

    assert api.put(TASK, {"clear": ["parentIds"]}).json["state"] == "ready"

    assert not ParentEdge.objects.exists()
    assert claim_ids() == ["t"]


def test_the_name_of_a_group_follows_the_rule(api):
    make_group(id="g", name="n")

    for sent in ({"name": None}, {}, {"name": 5}, {"clear": None}):
        assert api.put(GROUP, sent).json["name"] == "n"
    assert api.put(GROUP, {"clear": ["id"]}).status == 400
    assert api.put(GROUP, {"clear": ["name"]}).json["name"] == ""


def test_the_limit_of_a_worker_follows_the_rule(api):
    limits_and_holds.limit_worker("w", 3)

    assert api.put(WORKER, {"maxConcurrency": None}).json["maxConcurrency"] == 3
    assert api.put(WORKER, {"maxConcurrency": 2, "clear": ["maxConcurrency"]}).status == 400
    assert api.put(WORKER, {"clear": ["name"]}).status == 400
    assert Worker.objects.get(pk="w").max_concurrency == 3
    assert api.put(WORKER, {"clear": ["maxConcurrency"]}).json["maxConcurrency"] is None


def test_a_null_makes_no_worker(api):
    assert api.put("/api/v1/worker/new", {"maxConcurrency": None}).status == 404
    assert not Worker.objects.exists()


def test_a_create_takes_null_as_the_default(api):
    make_group(id="g")
    words = [*FULL, "id", "createdAt", "busyExecuting", "taskGroupId"]

    plain, nulls = api.post(TASKS, {}), api.post(TASKS, dict.fromkeys(words))

    own = {"id": "", "createdAt": "", "runAfter": ""}
    assert nulls.json | own == plain.json | own


def test_a_null_names_no_tasks(api, before):
    """Beside a filter it is what is not there; alone it must not mean all, nor none at all."""
    result = api.post(f"{TASKS}/retry?worker=w", {"ids": None, "remainingAttempts": None})
    alone = api.post(f"{TASKS}/retry", {"ids": None})

    assert (result.status, result.json) == (200, {"count": 1})
    assert Task.objects.get(pk="t").remaining_attempts == 5
    assert alone.status == 400

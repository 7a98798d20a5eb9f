"""Bulk verbs in slices, what a delete would take, run again in one call, and the call as it is."""

import json

import pytest
from django.urls import reverse

from tasks import control
from tasks.access import tokens
from tasks.models import Task
from tasks.rules.payload import payload

from .api_client import GROUP, PROBLEM, TASK, TASKS, Api, everything_stored
from .factories import claim_all, claim_ids, complete, fail, make_group, make_task, wire

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

BIG = 12345678901234567890
RERUN = f"{TASK}/rerun"


@pytest.fixture
def ten():
    """Ten tasks that wait, named in the order in which they were made; and another group's."""
    group = make_group(id="g", tasks=[wire(id=f"t{n}", name=f"Task {n}") for n in (*range(9), "x")])
    make_task(make_group(id="other"), id="foreign")
    return group


def slices(api, path, *, limit, body=b""):
    """Every answer of a verb that is done slice by slice."""
    result = [api.post(f"{path}&limit={limit}", body).json]
    while (place := result[-1]["next"]) is not None and len(result) < 50:
        result.append(api.post(f"{path}&limit={limit}&after={quoted(place)}", body).json)
    return result


def quoted(place):
    return place.replace("+", "%2B")


# --- Slices ---


def test_a_verb_in_slices_reaches_each_task_once_and_only_this_group(api, ten):
    result = slices(api, f"{TASKS}/pause?all=1", limit=4)

    assert [answer["count"] for answer in result] == [4, 4, 2]
    assert set(Task.objects.filter(is_paused=False).values_list("id", flat=True)) == {"foreign"}


def test_a_slice_takes_the_oldest_and_leaves_the_rest(api, ten):
    result = api.post(f"{TASKS}/pause?all=1&limit=3").json

    assert result["count"] == 3
    assert set(Task.objects.filter(is_paused=True).values_list("id", flat=True)) == {
        "t0",
        "t1",
        "t2",
    }


def test_the_last_slice_says_so_even_when_it_is_full(api, ten):
    assert [answer["count"] for answer in slices(api, f"{TASKS}/pause?all=1", limit=5)] == [5, 5]


def test_slices_go_on_where_tasks_no_longer_match_or_are_gone(api, ten):
    paused = slices(api, f"{TASKS}/pause?state=ready", limit=4)
    deleted = slices(api, f"{TASKS}/delete?state=paused", limit=3)

    assert sum(answer["count"] for answer in paused) == 10
    assert sum(answer["count"] for answer in deleted) == 10
    assert list(Task.objects.values_list("id", flat=True)) == ["foreign"]


def test_slices_count_descendants_once(api):
    chain = [wire(id="a"), wire(id="b", parent_ids=["a"]), wire(id="c", parent_ids=["b"])]
    make_group(id="g", tasks=[*chain, wire(id="d", parent_ids=["a", "e"]), wire(id="e")])

    result = slices(api, f"{TASKS}/delete?all=1", limit=1)

    assert sum(answer["count"] for answer in result) == 5
    assert not Task.objects.exists()


@pytest.mark.parametrize("at", ["2026-11-24T02:00:00Z", "2026-11-24T02:00:00.5Z"])
def test_tasks_of_one_moment_are_each_in_one_slice(api, at):
    make_group(id="g", tasks=[wire(id=f"t{n}", created_at=at) for n in range(7)])

    result = slices(api, f"{TASKS}/reset?all=1", limit=2)

    assert [answer["count"] for answer in result] == [2, 2, 2, 1]


def test_a_slice_that_cannot_be_done_leaves_what_others_did(api, ten):
    first = api.post(f"{TASKS}/reset?all=1&limit=2", {"remainingAttempts": 7}).json
    claim_all()
    before = everything_stored()

    said = api.post(f"{TASKS}/reset?all=1&limit=2&after={quoted(first['next'])}")

    assert (said.status, said.why) == (409, "task t2 is executing")
    assert everything_stored() == before
    assert Task.objects.filter(remaining_attempts=7).count() == 2


def test_a_preview_of_a_slice_counts_it_and_does_nothing(api, ten):
    before = everything_stored()

    result = slices(api, f"{TASKS}/delete?all=1&dryRun=1", limit=6)

    assert [answer["count"] for answer in result] == [6, 4]
    assert everything_stored() == before


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("all=1&limit=0", {}),
        ("all=1&limit=10001", {}),
        ("all=1&limit=-1", {}),
        ("all=1&limit=x", {}),
        ("all=1&limit=", {}),
        ("all=1&after=2026-11-24 02:00:00/t1", {}),
        ("all=1&limit=2&after=t1", {}),
        ("all=1&limit=2&after=2026-11-24/t1", {}),
        ("all=1&limit=2&after=2026-11-24 02:00:00", {}),
        ("all=1&limit=2&after=2026-99-24 02:00:00/t1", {}),
        ("all=1&limit=2&after=2026-11-24 02:00:00/t%001", {}),
        ("all=1&limit=2&after=2026-11-24 02:00:00/" + "t" * 201, {}),
        ("limit=2", {"ids": ["t1"]}),
        ("limit=2", {}),
    ],
)
def test_a_slice_that_cannot_be_is_refused(api, ten, query, body):
    before = everything_stored()

    said = api.post(f"{TASKS}/pause?{query}", body)

    assert (said.status, said.type) == (400, PROBLEM)
    assert everything_stored() == before


# --- What a delete would take ---


@pytest.mark.parametrize(
    ("children", "count", "descendants"), [("cascade", 3, 2), ("detach", 1, 0)]
)
def test_a_preview_of_delete_counts_who_goes_with_it(api, children, count, descendants):
    chain = [wire(id="a"), wire(id="b", parent_ids=["a"]), wire(id="c", parent_ids=["b"])]
    make_group(id="g", tasks=chain)
    route = f"{TASKS}/delete?children={children}"

    result = api.post(f"{route}&dryRun=1", {"ids": ["a"]}).json

    assert result == {"count": count, "descendants": descendants}
    assert Task.objects.count() == 3
    assert api.post(route, {"ids": ["a"]}).json == {"count": count}


def test_a_preview_of_delete_refuses_what_delete_refuses(api):
    make_group(id="g", tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])

    said = api.post(f"{TASKS}/delete?children=refuse&dryRun=1", {"ids": ["a"]})

    assert (said.status, said.why) == (409, "cannot delete tasks with children")


# --- Search ---


@pytest.mark.parametrize(
    ("asked", "found"),
    [("q=TASK", {"t1", "t2"}), ("q=T2", {"t2"}), ("q=other", {"t3"}), ("search=t3", set())],
)
def test_q_finds_by_name_or_by_id(api, asked, found):
    named = {"t1": "Task one", "t2": "A task", "t3": "Another"}
    make_group(id="g", tasks=[wire(id=id_, name=name) for id_, name in named.items()])

    result = api.get(f"{TASKS}?{asked}").json

    assert {task["id"] for task in result["tasks"]} == found
    assert result["count"] == len(found)


# --- Run again ---


@pytest.fixture
def failed():
    """A task that failed, and the child that waits for it."""
    make_group(
        id="g",
        tasks=[
            wire(id="t", input={"n": 1}, remaining_attempts=1),
            wire(id="child", parent_ids=["t"]),
        ],
    )
    (lease,) = claim_all()
    fail(lease, "boom")


def test_run_again_with_another_input_is_one_call(api, failed):
    said = api.post(RERUN, f'{{"input":{{"n":{BIG}}},"remainingAttempts":2}}'.encode())

    assert said.status == 200
    assert (said.json["input"], said.json["remainingAttempts"]) == ({"n": BIG}, 2)
    assert (said.json["errors"], said.json["state"]) == ([], "ready")
    (lease,) = claim_all()
    assert json.loads(lease.input_json) == {"n": BIG}


def test_run_again_without_an_input_keeps_it(api, failed):
    said = api.post(RERUN, {})

    assert (said.json["input"], said.json["remainingAttempts"]) == ({"n": 1}, 5)


def test_run_again_leaves_an_input_that_is_null_and_clears_one_that_is_named(api, failed):
    before = api.get(TASK).json["input"]

    assert before is not None
    assert api.post(RERUN, {"input": None, "clear": None}).json["input"] == before
    assert api.post(RERUN, {"clear": ["input"]}).json["input"] is None
    assert api.post(RERUN, {"input": 5, "clear": ["input"]}).status == 400
    assert api.post(RERUN, {"clear": ["output"]}).status == 400


def test_run_again_of_a_complete_task_has_its_children_wait(api, failed):
    control.retry_tasks("g", ["t"])
    (lease,) = claim_all()
    complete(lease)
    assert Task.objects.get(pk="child").pending_parents == 0

    assert api.post(RERUN, {"input": 2}).json["isComplete"] is False

    assert Task.objects.get(pk="child").pending_parents == 1


def test_run_again_while_it_executes_changes_nothing(api, failed):
    control.retry_tasks("g", ["t"])
    claim_all()
    before = everything_stored()

    said = api.post(RERUN, {"input": 2})

    assert (said.status, said.type, said.why) == (409, PROBLEM, "task t is executing")
    assert everything_stored() == before


@pytest.mark.parametrize(
    "body",
    [
        {"input": 2, "remainingAttempts": -1},
        {"input": 2, "remainingAttempts": "many"},
        {"input": 2, "name": "x"},
        {"input": "x" * 1_100_000},
        b'{"input": NaN}',
        [],
    ],
    ids=["negative", "no number", "other field", "large", "NaN", "list"],
)
def test_run_again_of_what_cannot_be_changes_nothing(api, failed, body):
    before = everything_stored()

    said = api.post(RERUN, body)

    assert said.status in (400, 413)
    assert everything_stored() == before


def test_run_again_of_a_task_of_another_group_is_not_found(api, failed):
    make_task(make_group(id="other"), id="foreign")

    assert api.post(f"{GROUP}/task/foreign/rerun", {}).status == 404
    assert api.post(f"{GROUP}/task/nobody/rerun", {}).status == 404


def test_a_new_input_needs_write_as_well(settings, failed):
    del settings.CREW_AUTHENTICATION
    _, secret = tokens.issue(name="o", scopes=["read", "operate"], group_ids=None)
    operator = Api(secret)

    assert operator.post(RERUN, {"input": 2}).status == 403
    assert Task.objects.get(pk="t").input == {"n": 1}
    assert operator.post(RERUN, {}).status == 200


def test_complete_by_hand_with_an_output_is_one_call_and_refused_while_it_executes(api, failed):
    control.retry_tasks("g", ["t"])
    (lease,) = claim_all()
    before = everything_stored()

    refused = api.put(TASK, {"isComplete": True, "output": [1]})

    assert refused.status == 409
    assert everything_stored() == before
    fail(lease)
    assert api.put(TASK, {"isComplete": True, "output": [1]}).json["output"] == [1]
    assert claim_all()[0].task_id == "child"


# --- The call as it is ---


def call(api, id_):
    return api.get(reverse("crew:task-call", args=[id_]))


def test_the_call_is_what_a_claim_would_send(api, settings):
    settings.CREW_WORKER_BASE_URL = "http://127.0.0.1:9/"
    tasks = [
        wire(id="p", input={"n": BIG}, worker="w1"),
        wire(id="t", input=[1.5, "é"], parent_ids=["p"], worker="w2"),
    ]
    make_group(id="g", tasks=tasks)
    complete(claim_all()[0], {"rows": BIG})

    result = call(api, "t").json
    (lease,) = claim_all()

    sent = payload("t", "w2", lease.input_json, lease.parents)
    assert result["body"].encode() == sent
    assert (result["size"], result["isCut"], result["refused"]) == (len(sent), False, "")
    assert result["url"] == "http://127.0.0.1:9/w2"
    assert result["headers"]["X-Crew-Attempt"] == "1"
    assert result["body"].count(str(BIG)) == 2


def test_the_call_shows_no_secret(api, settings):
    settings.CREW_WORKER_AUTHORIZATION_HEADER = "Bearer hush-hush"
    settings.CREW_SIGNING_SECRETS = ["whsec_" + "QUJD" * 8]
    make_group(id="g", tasks=[wire(id="t")])

    said = call(api, "t")

    assert said.json["headers"]["Authorization"] == "(set, not shown)"
    assert said.json["headers"]["webhook-signature"] == "(set, not shown)"
    assert "hush" not in said.text
    assert "v1," not in said.text


@pytest.mark.parametrize(
    ("fields", "words"), [({"worker": ""}, "it has no worker"), ({"worker": "w"}, "base URL")]
)
def test_a_call_that_would_not_go_out_says_why(api, settings, fields, words):
    settings.CREW_WORKER_BASE_URL = ""
    make_group(id="g", tasks=[wire(id="t", **fields)])

    result = call(api, "t").json

    assert words in result["refused"]
    assert result["url"] == ""


def test_parents_that_bring_too_much_are_reported(api, settings):
    make_group(id="g", tasks=[wire(id="p", input="x" * 500), wire(id="t", parent_ids=["p"])])
    settings.CREW_MAX_PAYLOAD_BYTES = 300

    assert call(api, "t").json["refused"].startswith("not sent: the parents' inputs")


def test_a_large_call_is_shown_in_part(api, monkeypatch):
    monkeypatch.setattr("tasks.insight.preview.SHOWN", 100)
    make_group(id="g", tasks=[wire(id="t", input="é" * 200)])

    result = call(api, "t").json

    assert (len(result["body"]), result["isCut"]) == (100, True)
    assert result["size"] > 400


def test_the_run_that_a_duplicate_follows_is_shown(api):
    make_group(id="g", tasks=[wire(id="a", key="k"), wire(id="b", key="k")])
    (leader,) = claim_ids()
    follower = "b" if leader == "a" else "a"

    result = {id_: api.get(f"/api/v1/task/{id_}/explain").json["mergedInto"] for id_ in ("a", "b")}

    assert result == {leader: None, follower: leader}

"""Many tasks in one call, calls that may be repeated, and the routes that the old Crew had not."""

import json
import resource
import time
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tasks import control, create
from tasks.api.body import MOST_VALUES
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.models import Attempt, ParentEdge, RepeatableCall, Task, TaskGroup, Worker, Workgroup
from tasks.rules.transcript import Transcript
from tasks.upkeep import expired_rows
from tasks.verbs import slices

from .api_client import (
    GROUP,
    GROUPS,
    JSON,
    NDJSON,
    PROBLEM,
    TASK,
    TASKS,
    Api,
    everything_stored,
    row_counts,
)
from .factories import (
    answer,
    claim_all,
    claim_ids,
    claim_one,
    complete,
    completed,
    fail,
    in_threads,
    make_group,
    make_task,
    wire,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

BULK = f"{TASKS}/bulk"


def lines(tasks):
    return b"".join(json.dumps(task).encode() + b"\n" for task in tasks)


def ids_left():
    return set(Task.objects.values_list("id", flat=True))


# A diamond, the last first.
DIAMOND = [
    {"id": "d", "worker": "w", "parentIds": ["b", "c"]},
    {"id": "c", "worker": "w", "parentIds": ["a"]},
    {"id": "b", "worker": "w", "parentIds": ["a"]},
    {"id": "a", "worker": "w"},
]


# --- Whole graphs ---


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (GROUPS, {"id": "g", "tasks": DIAMOND}, "application/json"),
        (BULK, {"tasks": DIAMOND}, "application/json"),
        (BULK, DIAMOND, "application/json"),
        (BULK, lines(DIAMOND), NDJSON),
        (BULK, lines(DIAMOND).rstrip(), "application/jsonl"),
        (BULK, lines(DIAMOND).rstrip(), "application/ndjson"),
        (BULK, b"\n \r\n" + lines(DIAMOND).replace(b"\n", b"\r\n\r\n"), NDJSON),
    ],
    ids=["group", "object", "list", "ndjson", "jsonl", "plain-ndjson", "blank-lines"],
)
def test_a_whole_graph_comes_in_any_order(api, path, body, kind):
    if path == BULK:
        make_group(id="g")

    said = api.post(path, body, kind=kind)

    assert (said.status, said.type) == (200, JSON), said.text
    assert said.json == {"count": 4, "ids": ["d", "c", "b", "a"]} or path == GROUPS
    assert set(ParentEdge.objects.values_list("child_id", "parent_id")) == {
        ("d", "b"),
        ("d", "c"),
        ("c", "a"),
        ("b", "a"),
    }
    assert [task["id"] for task in api.get(TASKS).json["tasks"]] == ["d", "c", "b", "a"]
    assert api.get(f"{GROUP}/task/d").json["parentIds"] == ["b", "c"]
    assert claim_ids() == ["a"]


def test_a_graph_may_hang_on_tasks_that_are_there(api):
    make_group(id="g", tasks=[wire(id="done", is_complete=True), wire(id="open")])
    tasks = [
        {"id": "x", "worker": "w", "parentIds": ["done"]},
        {"id": "y", "worker": "w", "parentIds": ["open", "x"]},
    ]

    assert api.post(BULK, {"tasks": tasks}).status == 200
    assert sorted(claim_ids()) == ["open", "x"]


def test_a_group_may_come_paused_with_its_graph(api):
    said = api.post(GROUPS, {"id": "g", "isPaused": True, "tasks": DIAMOND})

    assert said.json["isPaused"] is True
    assert set(Task.objects.values_list("is_paused", flat=True)) == {True}


@pytest.mark.parametrize("tasks", [{}, 5, "x", False, 0, ""], ids=repr)
def test_the_tasks_of_a_group_are_a_list(api, tasks):
    said = api.post(GROUPS, {"id": "g", "tasks": tasks})

    assert (said.status, said.text) == (400, "tasks must be a list")
    assert not TaskGroup.objects.exists()


@pytest.mark.parametrize("body", [{}, {"task": []}, {"tasks": {}}, {"tasks": [], "x": 1}, 5, None])
def test_a_bulk_body_is_a_list_of_tasks(api, body):
    make_group(id="g")

    said = api.post(BULK, body)

    assert (said.status, said.type) == (400, PROBLEM)
    assert said.json["detail"] == 'the body must be {"tasks": [...]}'


@pytest.mark.parametrize("body", [{"tasks": []}, []])
def test_no_tasks_are_no_error(api, body):
    make_group(id="g")

    assert api.post(BULK, body).json == {"count": 0, "ids": []}
    assert api.post(BULK, b"\n", kind=NDJSON).json == {"count": 0, "ids": []}


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (GROUPS, {"id": "new", "tasks": DIAMOND}, "application/json"),
        (TASKS, {"id": "a"}, "application/json"),
        (BULK, {"tasks": DIAMOND}, "application/json"),
        (BULK, lines(DIAMOND), NDJSON),
    ],
)
def test_a_dry_run_stores_nothing_and_answers_alike(api, path, body, kind):
    make_group(id="g")
    before = everything_stored()

    dry = api.post(f"{path}?dryRun=1", body, kind=kind, Idempotency_Key="k")
    assert everything_stored() == before
    wet = api.post(path, body, kind=kind, Idempotency_Key="k")

    assert dry.status == wet.status == 200
    result = {"ids", "id", "count", "name", "parentIds"}
    assert {k: v for k, v in dry.json.items() if k in result} == {
        k: v for k, v in wet.json.items() if k in result
    }
    assert dry.json.get("dryRun", True) is True
    assert "Idempotency-Replayed" not in wet.headers


def test_10_000_tasks_in_one_call_and_not_one_more(api):
    make_group(id="g")
    tasks = [{"id": f"t{i}", "parentIds": [f"t{i - 1}"] if i else []} for i in range(10_001)]

    too_many = api.post(BULK, {"tasks": tasks})
    counts = row_counts()
    most = api.post(BULK, {"tasks": tasks[:-1]})

    assert (too_many.status, too_many.why) == (400, "more than 10000 tasks in one call")
    assert counts["Task"] == counts["Change"] - 1 == 0
    assert (most.status, most.json["count"]) == (200, 10_000)
    assert TaskGroup.objects.get().task_count == 10_000


def test_100_000_tasks_as_lines_and_memory_stays_sane(api):
    make_group(id="g")
    body = b"".join(
        b'{"id":"t%d","worker":"w","input":{"n":%d},"parentIds":[%s]}\n'
        % (i, i, b'"t%d"' % (i - 1) if i % 10 else b"")
        for i in range(100_000)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()

    said = api.post(BULK, body, kind=NDJSON)

    took = time.monotonic() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"100,000 tasks as NDJSON: {took:.1f} s, {grown:.0f} MiB more")
    assert (said.status, said.json["count"]) == (200, 100_000)
    assert Task.objects.count() == TaskGroup.objects.get().task_count == 100_000
    assert grown < 700


def test_a_line_has_the_limit_of_a_body(api, settings):
    settings.CREW_MAX_BODY_BYTES = 100
    make_group(id="g")

    said = api.post(BULK, b"{}\n" + b" " * 101 + b"\n", kind=NDJSON)

    assert (said.status, said.why) == (400, "line 2: longer than 100 bytes")
    assert api.post(BULK, b"{}".ljust(99) + b"\n", kind=NDJSON).status == 200


# --- Verbs on many ---


@pytest.fixture
def zoo():
    """Tasks in every state."""
    group = make_group(id="g")
    make_task(group, id="done", name="Done", is_complete=True)
    make_task(group, id="ready", name="Ready one", worker="a", workgroup="wg")
    make_task(group, id="paused", name="Paused", is_paused=True, key="k")
    make_task(group, id="failed", name="Failed", remaining_attempts=0, errors=["e"])
    make_task(group, id="later", name="Later", run_after="2090-01-01T00:00:00Z")
    make_task(group, id="blocked", name="Blocked", parent_ids=["later"])
    make_task(group, id="idle", name="Idle", worker="")
    make_task(make_group(id="other"), id="foreign", name="Ready one", worker="a")
    return group


FOUND = [
    ("state=ready", {"ready"}),
    ("state=ready,failed", {"ready", "failed"}),
    ("state=complete", {"done"}),
    ("state=paused", {"paused"}),
    ("state=scheduled", {"later"}),
    ("state=blocked", {"blocked"}),
    ("state=unassigned", {"idle"}),
    ("state=executing", set()),
    ("state=following", set()),
    ("worker=a", {"ready"}),
    ("worker=", {"idle"}),
    ("workgroup=wg", {"ready"}),
    ("key=k", {"paused"}),
    ("search=E", {"done", "ready", "paused", "failed", "later", "blocked", "idle"}),
    ("search=ed", {"paused", "failed", "blocked"}),
    ("skipCompleted=1", {"ready", "paused", "failed", "later", "blocked", "idle"}),
    ("skipCompleted=1&search=one&worker=a", {"ready"}),
    ("state=ready&worker=b", set()),
]


@pytest.mark.parametrize(("query", "found"), FOUND)
def test_filters_of_the_list(api, zoo, query, found):
    said = api.get(f"{TASKS}?{query}").json

    assert {task["id"] for task in said["tasks"]} == found
    assert said["count"] == len(found)


@pytest.mark.parametrize(("query", "found"), [*FOUND, ("all=1", set("1234567"))])
def test_the_preview_of_a_verb_counts_and_does_nothing(api, zoo, query, found):
    before = everything_stored()

    for verb in ("pause", "resume", "retry", "reset", "delete"):
        only_these = "&children=detach" if verb == "delete" else ""
        said = api.post(f"{TASKS}/{verb}?{query}{only_these}&dryRun=1")
        assert (said.status, said.json["count"]) == (200, len(found))
    assert everything_stored() == before


@pytest.mark.parametrize(("query", "found"), FOUND)
def test_delete_by_filter_deletes_these(api, zoo, query, found):
    before = ids_left()

    said = api.post(f"{TASKS}/delete?{query}&children=detach")

    assert said.json == {"count": len(found)}
    assert ids_left() == before - found


def test_pause_and_resume_by_filter(api, zoo):
    assert api.post(f"{TASKS}/pause?state=ready,scheduled").json == {"count": 2}
    assert set(Task.objects.filter(is_paused=True).values_list("id", flat=True)) == {
        "ready",
        "paused",
        "later",
    }
    assert api.post(f"{TASKS}/resume?all=1").json == {"count": 3}
    assert not Task.objects.filter(is_paused=True).exists()


def test_retry_by_filter(api, zoo):
    said = api.post(f"{TASKS}/retry?state=failed", {"remainingAttempts": "2"})

    assert said.json == {"count": 1}
    assert Task.objects.get(pk="failed").remaining_attempts == 2


def test_reset_by_ids(api, zoo):
    said = api.post(f"{TASKS}/reset", {"ids": ["done", "failed", "done"]})

    assert said.json == {"count": 2}
    assert Task.objects.get(pk="done").is_complete is False
    assert Task.objects.get(pk="failed").errors == []


def test_reset_of_one_that_executes_resets_none(api, zoo):
    claim_all()
    before = everything_stored()

    said = api.post(f"{TASKS}/reset?all=1")

    assert (said.status, said.type, said.why) == (409, PROBLEM, "task ready is executing")
    assert everything_stored() == before


def test_delete_takes_orphans_and_may_refuse(api, zoo):
    refused = api.post(f"{TASKS}/delete?children=refuse", {"ids": ["later"]})
    taken = api.post(f"{TASKS}/delete", {"ids": ["later"]})

    assert (refused.status, refused.why) == (409, "cannot delete tasks with children")
    assert taken.json == {"count": 2}
    assert ids_left() == {"done", "ready", "paused", "failed", "idle", "foreign"}


@pytest.mark.parametrize("ids", [["nobody"], ["ready", "foreign"], ["ready", "nobody"]])
def test_ids_that_are_not_in_the_group_stop_all(api, zoo, ids):
    before = everything_stored()

    for dry in ("", "?dryRun=1"):
        said = api.post(f"{TASKS}/delete{dry}", {"ids": ids})
        assert (said.status, said.type) == (400, PROBLEM)
    assert everything_stored() == before


def test_ids_and_a_filter_must_agree(api, zoo):
    said = api.post(f"{TASKS}/pause?state=failed", {"ids": ["ready", "failed"]})

    assert said.status == 400
    assert api.post(f"{TASKS}/pause?state=failed", {"ids": ["failed"]}).json == {"count": 1}


def test_no_ids_are_none(api, zoo):
    before = everything_stored()["Task"]

    assert api.post(f"{TASKS}/delete", {"ids": []}).json == {"count": 0}
    assert everything_stored()["Task"] == before


@pytest.mark.parametrize("ids", ["ready", [1], {"ready": 1}, [None], True], ids=repr)
def test_ids_of_a_wrong_type(api, zoo, ids):
    before = everything_stored()

    said = api.post(f"{TASKS}/delete?worker=a", {"ids": ids})

    assert (said.status, said.why[:24]) == (400, "ids must be a list of st")
    assert everything_stored() == before


def test_more_ids_than_a_statement_takes(api):
    ids = [f"t{i}" for i in range(10_000)]
    for some in range(0, 40_000, 10_000):
        tasks = [{"id": f"{id_}-{some}", "worker": "w"} for id_ in ids]
        api.post(
            f"{GROUPS}" if not some else BULK, {"id": "g", "tasks": tasks} if not some else tasks
        )
    every = list(Task.objects.values_list("id", flat=True))

    assert api.post(f"{TASKS}/pause", {"ids": every}).json == {"count": 40_000}
    assert not Task.objects.filter(is_paused=False).exists()


# --- Calls that may be repeated ---


def test_a_repeated_create_is_answered_and_not_done_again(api):
    make_group(id="g")
    calls = [
        (GROUPS, {"name": "G", "tasks": [{"id": "in-new"}]}),
        (TASKS, {"name": "T", "input": {"b": 1, "a": [1.0, 12345678901234567890]}}),
        (BULK, {"tasks": [{}, {}]}),
    ]

    for number, (path, body) in enumerate(calls):
        first = api.post(path, body, Idempotency_Key=f"k{number}")
        before = everything_stored()
        again = api.post(path, body, Idempotency_Key=f"k{number}")

        assert (again.status, again.type, again.body) == (200, JSON, first.body)
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        assert everything_stored() == before


@pytest.mark.django_db(transaction=True)
def test_50_parallel_calls_with_one_key_make_one_task():
    make_group(id="g")

    said = in_threads(lambda _: Api().post(TASKS, {"name": "T"}, Idempotency_Key="k"), range(50))

    assert {each.status for each in said} == {200}
    assert len({each.body for each in said}) == 1
    assert sum("Idempotency-Replayed" not in each.headers for each in said) == 1
    assert Task.objects.count() == RepeatableCall.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_parallel_creates_of_one_id_make_one_task():
    make_group(id="g")

    said = in_threads(lambda _: Api().post(TASKS, {"id": "t"}), range(20))

    assert sorted(each.status for each in said) == [200] + [409] * 19
    assert Task.objects.count() == 1


@pytest.mark.parametrize(
    ("path", "body"), [(TASKS, {"name": "b"}), (f"{TASKS}?x=1", {"name": "a"}), (GROUPS, {})]
)
def test_a_key_belongs_to_one_call(api, path, body):
    make_group(id="g")
    api.post(TASKS, {"name": "a"}, Idempotency_Key="k")
    before = everything_stored()

    said = api.post(path, body, Idempotency_Key="k")

    assert (said.status, said.why) == (422, "the Idempotency-Key was used for another call")
    assert everything_stored() == before


def test_a_call_that_failed_does_not_burn_its_key(api):
    failed = [
        api.post(TASKS, {"id": "t"}, Idempotency_Key="k").status,
        api.post(TASKS, {"id": "t", "name": 5}, Idempotency_Key="k").status,
        api.post(TASKS, {"id": "t", "parentIds": ["x"]}, Idempotency_Key="k").status,
    ]
    make_group(id="g")

    said = api.post(TASKS, {"id": "t"}, Idempotency_Key="k")

    assert failed == [404, 400, 404]
    assert (said.status, "Idempotency-Replayed" in said.headers) == (200, False)


def test_a_key_is_forgotten_after_a_day(api):
    make_group(id="g")
    first = api.post(TASKS, {}, Idempotency_Key="k")
    api.post(TASKS, {}, Idempotency_Key="young")
    old = RepeatableCall.objects.filter(key="k")
    old.update(at=Now() - timedelta(hours=25))

    again = api.post(TASKS, {}, Idempotency_Key="k")
    old.update(at=Now() - timedelta(hours=25))

    assert again.json["id"] != first.json["id"]
    assert expired_rows.prune()["calls"] == 1
    assert RepeatableCall.objects.get().key == "young"


def test_without_a_key_nothing_is_kept(api):
    make_group(id="g")

    assert api.post(TASKS, {}).json["id"] != api.post(TASKS, {}).json["id"]
    assert not RepeatableCall.objects.exists()


# --- Conditional reads ---


@pytest.mark.parametrize("path", [GROUP, TASK, "/api/v1/task/t"])
def test_what_has_not_changed_is_not_sent_again(api, path):
    make_task(make_group(id="g"), id="t")
    first = api.get(path)
    tag = first.headers["ETag"]

    same = api.get(path, If_None_Match=tag)
    weak = api.get(path, If_None_Match=f'"x", W/{tag}')
    other = api.get(path, If_None_Match='"x"')

    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
    assert weak.status == 304
    assert (other.status, other.body) == (200, first.body)
    assert "no-store" not in first.headers["Cache-Control"]


def test_what_has_changed_is_sent(api):
    make_task(make_group(id="g"), id="t")
    tags = {path: api.get(path).headers["ETag"] for path in (GROUP, TASK)}

    api.put(GROUP, {"name": "new"})
    claim_one()

    for path, tag in tags.items():
        said = api.get(path, If_None_Match=tag)
        assert (said.status, said.headers["ETag"] != tag) == (200, True)


# --- Conditional changes ---

CHANGES = [
    ("PUT", GROUP, {"name": "mine"}),
    ("PUT", TASK, {"name": "mine"}),
    ("PUT", TASK, {}),
    ("DELETE", TASK, b""),
    ("DELETE", GROUP, b""),
]


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_what_changed_since_it_was_read_is_left_as_it_is(
    api, monkeypatch, method, path, body, is_small
):
    make_task(make_group(id="g"), id="t")
    monkeypatch.setattr(slices, "is_small", lambda group_id: is_small)
    tag = api.get(path).headers["ETag"]
    api.put(path, {"name": "theirs"})
    before = everything_stored()

    for tags in (tag, f"W/{api.get(path).headers['ETag']}", "", "nonsense", f'"x", {tag}'):
        said = api.send(method, path, body, If_Match=tags)
        assert (said.status, said.why) == (412, "it was changed since it was read; read it again")

    assert everything_stored() == before


@pytest.mark.parametrize("tags", ["*", '"x", {}', "{}"])
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_what_did_not_change_since_it_was_read_is_changed(api, method, path, body, tags):
    make_task(make_group(id="g"), id="t")
    tag = api.get(path).headers["ETag"]

    said = api.send(method, path, body, If_Match=tags.format(tag))
    again = api.send(method, path, body, If_Match=tag)

    assert said.status == 200
    if method == "DELETE":
        assert again.status == 404
    else:
        assert again.status == (412 if body else 200)


def test_a_condition_is_refused_where_nobody_looks_at_it(api):
    make_task(make_group(id="g"), id="t")

    for path in (f"{GROUP}/pause", f"{TASK}/reset", f"{TASKS}/delete?all=1"):
        assert "If-Match is no header" in api.post(path, {}, If_Match="*").why


# --- One task, looked at ---


def test_attempts_newest_first(api):
    make_task(make_group(id="g"), id="t", error_delay_in_seconds=0, worker="w")
    fail(claim_one(), "boom")
    late = claim_one()
    control.reset_group("g")
    answer(late, 200, {"output": 1})

    said = api.get("/api/v1/task/t/attempts")

    assert (said.type, said.json["count"]) == (JSON, 2)
    newest, oldest = said.json["attempts"]
    assert (newest["number"], newest["outcome"], newest["late"]["outcome"]) == (
        2,
        "cancelled",
        "completed",
    )
    assert (oldest["number"], oldest["outcome"], oldest["error"]) == (1, "failed", "boom")
    assert (oldest["taskId"], oldest["worker"], oldest["status"]) == ("t", "w", 500)
    assert oldest["late"] is None
    assert oldest["startedAt"] <= oldest["finishedAt"]


def test_an_attempt_with_its_request_and_answer(api):
    make_task(make_group(id="g"), id="t")
    kept = Transcript("POST http://w/x\n\n{}", "HTTP 200\n\n<b>ü</b>")
    settle([Settlement(claim_one(), completed(1), 200, kept)])

    said = api.get("/api/v1/task/t/attempts/1").json

    assert (said["number"], said["outcome"], said["status"]) == (1, "completed", 200)
    assert (said["request"], said["answer"]) == (kept.request, kept.answer)
    (listed,) = api.get("/api/v1/task/t/attempts").json["attempts"]
    assert listed == {name: said[name] for name in said if name not in ("request", "answer")}


@pytest.mark.parametrize("number", ["2", "0", "-1", "x", "٣", "9999999999", "9" * 30])
def test_an_attempt_that_is_not_there(api, number):
    make_task(make_group(id="g"), id="t")
    complete(claim_one())

    said = api.get(f"/api/v1/task/t/attempts/{number}")

    assert (said.status, said.type) == (404, PROBLEM)


def test_attempts_in_pages(api):
    make_task(make_group(id="g"), id="t")
    Attempt.objects.bulk_create(
        Attempt(
            task_id="t", number=n, worker="w", outcome="failed", started_at=Now(), finished_at=Now()
        )
        for n in range(1, 6)
    )

    said = api.get("/api/v1/task/t/attempts?page=2&pageSize=2").json

    assert (said["count"], [row["number"] for row in said["attempts"]]) == (5, [3, 2])
    assert api.get("/api/v1/task/t/attempts?page=9").json == {"count": 5, "attempts": []}


def test_children_and_parents_in_their_order(api):
    group = make_group(id="g", tasks=[wire(id="p2"), wire(id="p1")])
    make_task(group, id="t", parent_ids=["p2", "p1"])
    # In one call: SQLite's clock counts milliseconds, and each call's tasks from there.
    born = create.create_tasks(group.pk, [wire(id=id_, parent_ids=["t"]) for id_ in "zam"])

    children = api.get("/api/v1/task/t/children").json
    parents = api.get("/api/v1/task/t/parents").json

    assert [task["id"] for task in parents["tasks"]] == ["p2", "p1"]
    assert [task["id"] for task in children["tasks"]] == born == ["z", "a", "m"]
    assert (children["count"], parents["count"]) == (3, 2)
    assert children["tasks"][0]["parentIds"] == ["t"]
    page = api.get("/api/v1/task/t/children?page=2&pageSize=2").json
    assert (page["count"], [task["id"] for task in page["tasks"]]) == (3, ["m"])


@pytest.mark.parametrize("what", ["attempts", "children", "parents"])
def test_an_unknown_task_has_none(api, what):
    said = api.get(f"/api/v1/task/nobody/{what}")

    assert (said.status, said.type) == (404, PROBLEM)
    assert said.json == {
        "type": "about:blank",
        "title": "Not found",
        "status": 404,
        "detail": "task not found",
    }


# --- Groups, workers, workgroups ---


def test_cancel_stops_a_group_for_good(api):
    make_group(id="g", tasks=[wire(), wire(), wire(is_complete=True)])
    lease = claim_all()[0]

    said = api.post(f"{GROUP}/cancel")

    assert (said.status, said.json) == (200, {"success": True, "count": 2})
    complete(lease, "late")
    assert claim_ids() == []
    assert api.get(f"{GROUP}/progress").json["failed"] == 2


def test_workers_with_their_limits(api, settings):
    settings.CREW_WORKER_MAX_CONCURRENCY = 9
    make_group(tasks=[wire(worker="b"), wire(worker="a/x"), wire(worker="a/x")])
    claim_all()

    limited = api.put("/api/v1/worker/a/x", {"maxConcurrency": 3})
    new = api.put("/api/v1/worker/c", {"maxConcurrency": 0})

    result = {"name": "a/x", "maxConcurrency": 3, "limit": 3, "inFlight": 2, "rest": None}
    assert (limited.status, limited.json) == (200, result)
    assert new.json == {"name": "c", "maxConcurrency": 0, "limit": 0, "inFlight": 0, "rest": None}
    assert api.get("/api/v1/workers").json == {
        "count": 3,
        "workers": [
            result,
            {"name": "b", "maxConcurrency": None, "limit": 9, "inFlight": 1, "rest": None},
            new.json,
        ],
    }
    assert api.get("/api/v1/workers?page=2&pageSize=2").json == {"count": 3, "workers": [new.json]}
    assert api.put("/api/v1/worker/c", {"maxConcurrency": None}).json["limit"] == 0
    assert api.put("/api/v1/worker/c", {"clear": ["maxConcurrency"]}).json["limit"] == 9
    assert Worker.objects.get(pk="c").max_concurrency is None


def test_workgroups_are_held_and_opened(api):
    make_task(workgroup="a/b")

    held = api.post("/api/v1/workgroup/a/b/hold", {"seconds": 90.5})
    while_held = claim_ids()
    listed = api.get("/api/v1/workgroups").json
    opened = api.post("/api/v1/workgroup/a/b/open")

    assert (held.status, held.json["name"], held.json["isHeld"]) == (200, "a/b", True)
    assert while_held == []
    assert listed == {"count": 1, "workgroups": [held.json]}
    assert (opened.status, opened.json["isHeld"]) == (200, False)
    assert len(claim_ids()) == 1


def test_an_unknown_workgroup_is_not_opened(api):
    said = api.post("/api/v1/workgroup/nobody/open")

    assert (said.status, said.type, said.why) == (404, PROBLEM, "workgroup not found")
    assert not Workgroup.objects.exists()


@pytest.mark.parametrize("path", [BULK, GROUPS])
def test_a_body_of_more_small_values_than_memory_is_for_is_refused(path):
    """Before they are made: a dict of one member takes 20 times its text."""
    zeros = b",".join([b"0"] * (MOST_VALUES + 1))

    said = Api().post(path, b'{"tasks":[{"worker":"w","input":[%s]}]}' % zeros)

    assert said.status == 400
    assert "too many values" in said.text

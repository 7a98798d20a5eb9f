"""The Python client in detail, by `responses`; `test_client_servers.py` has real servers."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import responses
from urllib3.exceptions import MaxRetryError, NewConnectionError

from tasks import client
from tasks.client import Attempt, Crew, Group, Task

from .servers import free_port
from .stub_worker import StubWorker, answer

BASE = "http://crew.test/crew"
API = BASE + "/api/v1/"
TOKEN = "canary-token-of-the-tests"
ROOT = Path(__file__).resolve().parent.parent

TASK = {
    "id": "t1",
    "taskGroupId": "g1",
    "name": "first",
    "worker": "worker-a",
    "workgroup": "w",
    "key": "k",
    "remainingAttempts": 4,
    "isPaused": False,
    "isComplete": True,
    "runAfter": "0001-01-01T00:00:00Z",
    "isSeed": True,
    "errorDelayInSeconds": 30,
    "input": {"n": 12345678901234567890},
    "output": [1],
    "errors": ["no"],
    "createdAt": "2026-11-24T06:18:00.796654483Z",
    "parentIds": ["t0"],
    "busyExecuting": False,
    "priority": 2,
}


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def crew():
    with Crew(BASE + "/", TOKEN) as crew:
        crew._sleep = Slept()
        yield crew


class Slept(list):
    """Stands in for time.sleep and keeps the seconds."""

    def __call__(self, seconds):
        self.append(seconds)


def never_sent():
    """How requests says that nothing listens there."""
    cause = NewConnectionError(None, "connection refused")
    return requests.ConnectionError(MaxRetryError(None, "/", cause))


# --- Alone -----------------------------------------------------------------------------------


def test_client_and_worker_kit_need_no_django():
    code = """
import sys

class NoDjango:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("django", "rest_framework", "channels", "uvloop"):
            raise ImportError(name)

sys.meta_path.insert(0, NoDjango())
import tasks.client, tasks.worker

call = tasks.worker.read_call(b'{"taskId":"t","worker":"w"}', {})
print(call.task_id, tasks.client.Crew("http://x/"), tasks.worker.hold(3).status)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("t Crew('http://x') 429\n", "")


# --- What goes out ---------------------------------------------------------------------------

CALLS = [
    (lambda c: c.group("g"), "GET", "task_group/g", {}, None),
    (lambda c: c.rename_group("g", "n"), "PUT", "task_group/g", {}, {"name": "n"}),
    (lambda c: c.delete_group("g"), "DELETE", "task_group/g", {}, None),
    (lambda c: c.pause_group("g"), "POST", "task_group/g/pause", {}, {}),
    (lambda c: c.resume_group(Group("g")), "POST", "task_group/g/resume", {}, {}),
    (lambda c: c.retry_group("g"), "POST", "task_group/g/retry", {}, {"remainingAttempts": 5}),
    (
        lambda c: c.reset_group("g", remaining_attempts=2),
        "POST",
        "task_group/g/reset",
        {},
        {"remainingAttempts": 2},
    ),
    (lambda c: c.cancel_group("g"), "POST", "task_group/g/cancel", {}, {}),
    (lambda c: c.task("t"), "GET", "task/t", {}, None),
    (
        lambda c: c.edit_task("g", "t", is_paused=True, run_after=None, parent_ids=None),
        "PUT",
        "task_group/g/task/t",
        {},
        {"isPaused": True},
    ),
    (
        lambda c: c.edit_task("g", "t", clear=["input", "parent_ids"], run_after="", errors=()),
        "PUT",
        "task_group/g/task/t",
        {},
        {"clear": ["input", "parentIds"], "runAfter": "", "errors": []},
    ),
    (
        lambda c: c.delete_task("g", Task("t"), children="detach"),
        "DELETE",
        "task_group/g/task/t",
        {"children": "detach"},
        None,
    ),
    (
        lambda c: c.reset_task("g", "t"),
        "POST",
        "task_group/g/task/t/reset",
        {},
        {"remainingAttempts": 5},
    ),
    (
        lambda c: c.retry_task("g", "t", remaining_attempts=1),
        "POST",
        "task_group/g/task/t/retry",
        {},
        {"remainingAttempts": 1},
    ),
    (
        lambda c: c.pause_tasks("g", ["a", Task("b")]),
        "POST",
        "task_group/g/tasks/pause",
        {},
        {"ids": ["a", "b"]},
    ),
    (
        lambda c: c.resume_tasks("g", worker="w", state=("paused", "failed"), dry_run=True),
        "POST",
        "task_group/g/tasks/resume",
        {"worker": "w", "state": "paused,failed", "dryRun": "1"},
        {},
    ),
    (
        lambda c: c.retry_tasks("g", everything=True),
        "POST",
        "task_group/g/tasks/retry",
        {"all": "1"},
        {"remainingAttempts": 5},
    ),
    (
        lambda c: c.reset_tasks("g", search="x", remaining_attempts=3),
        "POST",
        "task_group/g/tasks/reset",
        {"search": "x"},
        {"remainingAttempts": 3},
    ),
    (
        lambda c: c.delete_tasks("g", key="k", children="refuse"),
        "POST",
        "task_group/g/tasks/delete",
        {"key": "k", "children": "refuse"},
        {},
    ),
    (
        lambda c: c.limit_worker("team/b", None),
        "PUT",
        "worker/team%2Fb",
        {},
        {"clear": ["maxConcurrency"]},
    ),
    (lambda c: c.hold_workgroup("w g", 2.5), "POST", "workgroup/w%20g/hold", {}, {"seconds": 2.5}),
    (lambda c: c.open_workgroup("w"), "POST", "workgroup/w/open", {}, {}),
    (
        lambda c: c.count_tasks("g"),
        "GET",
        "task_group/g/tasks",
        {"page": "1", "pageSize": "1"},
        None,
    ),
]


@pytest.mark.parametrize(("call", "method", "path", "query", "body"), CALLS)
def test_each_method_makes_its_call(http, crew, call, method, path, query, body):
    sent = http.add(method, API + path, json=TASK | {"count": 3})

    call(crew)

    request = sent.calls[0].request
    parts = urlsplit(request.url)
    assert parts.path == "/crew/api/v1/" + path
    assert {name: value for name, (value,) in parse_qs(parts.query).items()} == query
    assert (request.body and json.loads(request.body)) == body
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert "Idempotency-Key" not in request.headers


def test_no_token_means_no_authorization_whatever_netrc_says(http, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine crew.test login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    sent = http.get(API + "task/t", json=TASK)

    Crew(BASE).task("t")

    assert "Authorization" not in sent.calls[0].request.headers


@pytest.mark.parametrize("id_", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_refused_unsent(crew, id_):
    with pytest.raises(client.InvalidInput, match="cannot be an id"):
        crew.delete_group(id_)


def test_an_id_is_quoted_as_one_part_of_the_path(http, crew):
    http.get(API + "task/a%2Fb%3Fc%23d%25", json=TASK)

    assert crew.task("a/b?c#d%").id == "t1"


@pytest.mark.parametrize(
    "url", ["crew.test", "ftp://x/", "http://u:p@x/", "http://x/?a=b", "http://x/#y", ""]
)
def test_an_unusable_base_url_is_refused(url):
    with pytest.raises(ValueError, match="base_url"):
        Crew(url)


def test_an_unusable_token_is_refused_without_telling_it():
    with pytest.raises(ValueError, match="header") as caught:
        Crew(BASE, "a b\r\nX: y")

    assert "a b" not in str(caught.value)


def test_a_graph_is_created_in_one_call_in_either_spelling(http, crew):
    sent = http.post(API + "task_groups", json={"id": "g", "name": "n"})
    when = datetime(2026, 11, 24, 12, tzinfo=UTC)

    group = crew.create_group(
        name="n",
        id="g",
        tasks=[
            {"id": "b", "worker": "w", "parent_ids": [Task("a")], "run_after": when},
            {"id": "a", "worker": "w", "parentIds": []},
        ],
    )

    assert group == Group("g", "n")
    assert json.loads(sent.calls[0].request.body) == {
        "id": "g",
        "name": "n",
        "tasks": [
            {"id": "b", "worker": "w", "parentIds": ["a"], "runAfter": "2026-11-24T12:00:00+00:00"},
            {"id": "a", "worker": "w", "parentIds": []},
        ],
    }


def test_a_field_no_task_has_is_refused_unsent(crew):
    with pytest.raises(TypeError, match="wroker"):
        crew.create_task("g", wroker="w")


@pytest.mark.parametrize(
    "which",
    [
        {"serach": "x"},
        {"dryRun": True},
        {"skipCompleted": True},
        {"page_size": 5},
        {"search": None},
        {"q": None},
        {"key": 5},
        {"worker": ["w1"]},
        {"seeds": "no"},
        {"skip_completed": None},
        {"state": None},
        {"state": [None]},
        {"state": b"failed"},
        {"everything": "no"},
        {"dry_run": "no"},
    ],
)
@pytest.mark.parametrize("verb", ["pause", "resume", "retry", "reset", "delete"])
def test_a_filter_that_is_none_is_an_error_before_anything_is_sent(http, crew, verb, which):
    with pytest.raises(TypeError):
        getattr(crew, f"{verb}_tasks")("g", **{"worker": "w1", **which})

    assert not http.calls


def test_a_time_without_a_zone_is_refused_unsent(crew):
    with pytest.raises(ValueError, match="time zone"):
        crew.create_task("g", run_after=datetime(2026, 1, 1))


# --- Many tasks ------------------------------------------------------------------------------


def bulk(http, **answer):
    """A bulk route that keeps what it was sent: (headers, query, body)."""
    got = []

    def take(request):
        body = request.body if isinstance(request.body, bytes) else request.body.read()
        got.append((request.headers, urlsplit(request.url).query, body))
        return 200, {}, json.dumps({"count": 2, "ids": ["a", "b"]} | answer)

    http.add_callback("POST", API + "task_group/g/tasks/bulk", take)
    return got


def test_a_large_body_is_given_minutes_for_its_answer(http, crew):
    bulk(http)

    crew.create_tasks("g", [{"id": "a"}])
    crew.create_tasks("g", ({"id": f"t{n}"} for n in range(1_001)))

    assert [call.request.req_kwargs["timeout"] for call in http.calls] == [(5, 30), (5, 300)]


def test_some_tasks_go_out_as_json(http, crew):
    got = bulk(http)

    made = crew.create_tasks("g", ({"id": id_} for id_ in "ab"), dry_run=True)

    headers, query, body = got[0]
    assert (made.count, made.ids) == (2, ("a", "b"))
    assert json.loads(body) == {"tasks": [{"id": "a"}, {"id": "b"}]}
    assert (headers["Content-Type"], query) == ("application/json", "dryRun=1")
    assert headers["Idempotency-Key"]


@pytest.mark.parametrize(("count", "size"), [(1_001, 1), (3, 600_000)])
def test_many_tasks_go_out_as_ndjson_of_known_length(http, crew, count, size):
    got = bulk(http)

    crew.create_tasks("g", ({"id": f"t{n}", "input": "x" * size} for n in range(count)))

    headers, _, body = got[0]
    lines = body.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"t{n}" for n in range(count)]
    assert headers["Content-Type"] == "application/x-ndjson"
    assert headers["Content-Length"] == str(len(body))
    assert "Transfer-Encoding" not in headers


def test_many_tasks_are_sent_again_whole_under_the_same_key(http, crew):
    http.post(API + "task_group/g/tasks/bulk", status=503)
    got = bulk(http)

    crew.create_tasks("g", ({"id": f"t{n}"} for n in range(2_000)))

    first = http.calls[0].request
    assert len(got[0][2].splitlines()) == 2_000
    assert first.headers["Idempotency-Key"] == got[0][0]["Idempotency-Key"]


# --- What comes back -------------------------------------------------------------------------


def test_a_task_is_typed_and_its_raw_form_kept(http, crew):
    http.get(API + "task/t1", json=TASK)

    task = crew.task("t1")

    assert task == Task(
        id="t1",
        task_group_id="g1",
        name="first",
        worker="worker-a",
        workgroup="w",
        key="k",
        remaining_attempts=4,
        is_complete=True,
        is_seed=True,
        error_delay_in_seconds=30,
        priority=2,
        input={"n": 12345678901234567890},
        output=[1],
        errors=("no",),
        parent_ids=("t0",),
        run_after=None,
        created_at=datetime(2026, 11, 24, 6, 18, 0, 796654, UTC),
    )
    assert task.raw == TASK


def test_the_old_crew_may_answer_null_for_lists(http, crew):
    http.get(API + "task/t1", json=TASK | {"errors": None, "parentIds": None})

    task = crew.task("t1")

    assert (task.errors, task.parent_ids) == ((), ())


def test_attempts_are_typed(http, crew):
    raw = {
        "taskId": "t",
        "number": 2,
        "worker": "w",
        "outcome": "failed",
        "status": 500,
        "error": "no",
        "note": "",
        "startedAt": "2026-11-24T06:18:00.000Z",
        "finishedAt": "2026-11-24T06:18:01.500Z",
        "late": None,
    }
    http.get(API + "task/t/attempts", json={"attempts": [raw], "count": 1})

    (attempt,) = crew.attempts("t")

    assert attempt == Attempt(
        "t",
        2,
        "w",
        "failed",
        500,
        "no",
        started_at=datetime(2026, 11, 24, 6, 18, tzinfo=UTC),
        finished_at=datetime(2026, 11, 24, 6, 18, 1, 500_000, UTC),
    )


def test_one_attempt_comes_with_its_request_and_answer(http, crew):
    raw = {"taskId": "t", "number": 2, "request": "POST http://w/x", "answer": None}
    http.get(API + "task/t/attempts/2", json=raw)

    attempt = crew.attempt("t", 2)

    assert (attempt.request, attempt.answer) == ("POST http://w/x", None)


def listed(http, ids, **more):
    """An answer to a question for a part of a list, which `more` completes."""
    query = {name: value for name, value in more.items() if name in ("after", "page")}
    query = query | {"pageSize": "2", "search": "x"}
    told = {name: value for name, value in more.items() if name not in query}
    http.get(
        API + "task_groups",
        json={"taskGroups": [{"id": id_} for id_ in ids]} | told,
        match=[responses.matchers.query_param_matcher(query)],
    )


def test_lists_are_read_part_by_part_and_only_as_far_as_wanted(http, crew):
    """A part may be short: its rows were too large together. The place counts, not the number."""
    listed(http, "ab", after="", count=5, next="2/b")
    listed(http, "c", after="2/b", next="3/c", isCut=True)
    listed(http, "de", after="3/c", next=None)

    groups = crew.groups("x", page_size=2)

    assert next(groups).id == "a"
    assert len(http.calls) == 1
    assert [group.id for group in groups] == ["b", "c", "d", "e"]
    assert len(http.calls) == 3


def test_the_old_crew_has_pages(http, crew):
    listed(http, "ab", after="", count=5)
    listed(http, "cd", page="2", count=5)
    listed(http, "e", page="3", count=5)

    assert [group.id for group in crew.groups("x", page_size=2)] == ["a", "b", "c", "d", "e"]


def test_pages_that_end_before_their_count_are_an_error(http, crew):
    listed(http, "ab", after="", count=5)
    listed(http, "", page="2", count=5)

    with pytest.raises(client.ServerError, match="ended at 2 of 5"):
        list(crew.groups("x", page_size=2))


def test_a_list_of_the_old_crew_that_shrinks_meanwhile_ends(http, crew):
    listed(http, "ab", after="", count=5)
    listed(http, "", page="2", count=2)

    assert len(list(crew.groups("x", page_size=2))) == 2


@pytest.mark.parametrize("size", [0, -1, 0.5, True, "5", None])
def test_a_page_of_no_rows_is_refused_unsent(http, crew, size):
    for call in (crew.groups, lambda **size: crew.tasks("g", **size)):
        with pytest.raises(client.InvalidInput, match="page_size"):
            call(page_size=size)


# --- Errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "body", "kind_of_body", "text"),
    [
        (400, client.InvalidInput, "unexpected EOF", "text/plain; charset=UTF-8", "unexpected EOF"),
        (
            401,
            client.Unauthorized,
            '{"message":"Unauthorized"}',
            "application/json",
            "Unauthorized",
        ),
        (403, client.Forbidden, "needs scope write", "text/plain", "needs scope write"),
        (404, client.NotFound, "task not found", "text/plain", "task not found"),
        (
            409,
            client.Conflict,
            '{"type":"about:blank","title":"Conflict","status":409,"detail":"it executes"}',
            "application/problem+json",
            "it executes",
        ),
        (413, client.TooLarge, "larger than 1 bytes", "text/plain", "larger than 1 bytes"),
        (418, client.CrewError, "", "text/plain", "no reason given"),
        (422, client.InvalidInput, "other call", "text/plain", "other call"),
        (500, client.ServerError, "<html>a page</html>", "text/html", "Internal Server Error"),
        (302, client.CrewError, "moved", "text/html", "redirects are not followed"),
    ],
)
def test_an_error_is_a_sentence_with_the_servers_words(
    http, crew, status, kind, body, kind_of_body, text
):
    http.get(API + "task/t", body=body, status=status, content_type=kind_of_body)

    with pytest.raises(client.CrewError) as caught:
        crew.task("t")

    error = caught.value
    assert type(error) is kind
    assert str(error).startswith(f"GET /api/v1/task/t was answered with {status}: ")
    assert (error.status, error.method, error.path) == (status, "GET", "/api/v1/task/t")
    if status != 418:
        assert text in error.text


def test_a_redirect_is_not_followed(http, crew):
    http.get(API + "task/t", status=302, headers={"Location": "http://elsewhere.test/"})

    with pytest.raises(client.CrewError, match="redirects are not followed"):
        crew.task("t")

    assert len(http.calls) == 1


def test_the_token_is_in_no_error_and_no_repr(http, crew):
    http.get(API + "task/t", body=f"what is {TOKEN}?", status=400)
    http.get(API + "task/u", body=requests.ConnectionError(f"to {TOKEN}"))

    errors = []
    for id_ in "tu":
        with pytest.raises(client.CrewError) as caught:
            crew.task(id_)
        errors.append(f"{caught.value} {caught.value.text}")

    assert TOKEN not in " ".join([*errors, repr(crew)])
    assert "***" in errors[0]


def test_an_answer_that_is_not_json_is_an_error(http, crew):
    http.get(API + "task/t", body="<html>hello</html>")

    with pytest.raises(client.ServerError, match="not with JSON"):
        crew.task("t")


# What a Crew never says: another server, a proxy's page, a newer shape.
STRANGE = [None, 5, "text", [], {}, {"id": None}, {"id": 5}, TASK | {"createdAt": "garbage"}]
STRANGE += [TASK | {"errors": 5}, TASK | {"parentIds": [5]}, TASK | {"isPaused": "no"}]
STRANGE += [TASK | {"remainingAttempts": "5"}, TASK | {"runAfter": 7}, TASK | {"name": ["x"]}]


@pytest.mark.parametrize("told", STRANGE)
def test_json_that_is_not_crews_is_an_error(http, crew, told):
    http.get(API + "task/t", body=json.dumps(told))

    with pytest.raises(client.ServerError, match="not Crew's"):
        crew.task("t")


@pytest.mark.parametrize("told", [None, [], {}, {"completedPercent": "1"}, {"completedPercent": 2}])
def test_progress_that_is_not_crews_is_an_error(http, crew, told):
    http.get(API + "task_group/g/progress", body=json.dumps(told))

    with pytest.raises(client.ServerError, match="not Crew's"):
        crew.progress("g")


@pytest.mark.parametrize("told", [None, {}, {"count": -1, "ids": []}, {"count": 1, "ids": "a"}])
def test_a_creation_that_is_not_crews_is_an_error(http, crew, told):
    http.post(API + "task_group/g/tasks/bulk", body=json.dumps(told))

    with pytest.raises(client.ServerError, match="not Crew's"):
        crew.create_tasks("g", [{"worker": "w"}])


@pytest.mark.parametrize("body", ["[" * 100_000, '{"id": NaN', "1" * 5_000, b"\xff\xfe\xff", ""])
def test_an_answer_that_cannot_be_read_is_an_error(http, crew, body):
    http.get(API + "task/t", body=body)

    with pytest.raises(client.ServerError):
        crew.task("t")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.create_group(idempotency_key="a\r\nb"),
        lambda c: c.create_group(idempotency_key="\u00fcber"),
        lambda c: c.create_group(idempotency_key=""),
        lambda c: c.create_group(idempotency_key="a b"),
        lambda c: c.create_group(idempotency_key="k" * 201),
        lambda c: c.create_task("g", input={1, 2}),
        lambda c: c.create_task("g", input=object()),
        lambda c: c.create_task("g", input=float("nan")),
        lambda c: c.rename_group("g", b"bytes"),
        lambda c: c.task("\ud800"),
        lambda c: c.count_tasks("g", worker="\ud800"),
        lambda c: c.edit_task("g", "t", id="u"),
        lambda c: c.edit_task("g", "t", run_after=datetime(2026, 1, 1)),
    ],
)
def test_what_cannot_be_sent_is_an_error_of_the_client(http, crew, call):
    with pytest.raises(client.InvalidInput):
        call(crew)

    assert not http.calls


# --- Repeating -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_read_is_repeated_with_growing_waits(http, crew, status):
    for _ in range(3):
        http.get(API + "task/t", status=status)
    http.get(API + "task/t", json=TASK)

    assert crew.task("t").id == "t1"
    assert len(crew._sleep) == 3
    for wait, base in zip(crew._sleep, (0.2, 0.4, 0.8), strict=True):
        assert base / 2 <= wait <= base * 1.5


def test_it_gives_up_after_the_retries_allowed(http, crew):
    for _ in range(4):
        http.get(API + "task/t", status=503, body="the database is busy, try again")

    with pytest.raises(client.ServerError, match="503: the database is busy") as caught:
        crew.task("t")

    assert caught.value.tries == 4


@pytest.mark.parametrize("error", [requests.ConnectionError("reset"), requests.ReadTimeout()])
def test_a_read_is_repeated_when_the_connection_breaks(http, crew, error):
    http.get(API + "task/t", body=error)
    http.get(API + "task/t", json=TASK)

    assert crew.task("t").id == "t1"


def test_retry_after_is_honoured(http, crew):
    http.get(API + "task/t", status=429, headers={"Retry-After": "7"})
    http.get(API + "task/t", json=TASK)

    crew.task("t")

    assert crew._sleep == [7.0]


def test_a_long_retry_after_is_reported_and_not_waited_for(http, crew):
    http.get(API + "task/t", status=429, headers={"Retry-After": "3600"}, body="slow down")

    with pytest.raises(client.RateLimited, match="slow down") as caught:
        crew.task("t")

    assert (caught.value.retry_after, crew._sleep) == (3600.0, [])


def test_a_create_is_repeated_under_the_same_key(http, crew):
    http.post(API + "task_group/g/tasks", body=requests.ConnectionError("reset"))
    http.post(API + "task_group/g/tasks", status=502)
    http.post(API + "task_group/g/tasks", json=TASK)
    http.post(API + "task_group/g/tasks", json=TASK)

    crew.create_task("g", name="a")
    crew.create_task("g", name="a")

    keys = [call.request.headers["Idempotency-Key"] for call in http.calls]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_a_key_of_ones_own_is_sent(http, crew):
    http.post(API + "task_groups", json={"id": "g"})

    crew.create_group(idempotency_key="order-7")

    assert http.calls[0].request.headers["Idempotency-Key"] == "order-7"


@pytest.mark.parametrize("failure", [{"status": 503}, {"body": requests.ConnectionError("reset")}])
def test_a_verb_is_not_repeated(http, crew, failure):
    http.post(API + "task_group/g/retry", **failure)

    with pytest.raises(client.CrewError) as caught:
        crew.retry_group("g")

    assert caught.value.tries == 1


def test_an_edit_of_what_was_read_is_not_repeated(http, crew):
    """The answer to one that was done, and repeated, would be that somebody else did it."""
    http.put(API + "task_group/g/task/t", body=requests.ConnectionError("reset"))

    with pytest.raises(client.Unreachable):
        crew.edit_task("g", "t", name="x", if_match='"tag"')

    assert len(http.calls) == 1


def test_a_verb_that_never_reached_the_server_is_repeated(http, crew):
    http.post(API + "task_group/g/retry", body=never_sent())
    http.post(API + "task_group/g/retry", json={"success": True})

    crew.retry_group("g")

    assert len(crew._sleep) == 1


def test_nothing_listening_is_reported_in_words(crew):
    crew = Crew(f"http://127.0.0.1:{free_port()}", retries=1)
    crew._sleep = Slept()

    with pytest.raises(client.Unreachable, match=r"no answer from http://127.*refused") as caught:
        crew.pause_group("g")

    assert (caught.value.never_sent, caught.value.tries) == (True, 2)


def test_a_delete_whose_answer_was_lost_succeeds(http, crew):
    http.delete(API + "task_group/g", body=requests.ConnectionError("reset"))
    http.delete(API + "task_group/g", status=404, body="task group not found")
    http.delete(API + "task_group/g", status=404, body="task group not found")

    crew.delete_group("g")

    with pytest.raises(client.NotFound):
        crew.delete_group("g")


@pytest.mark.parametrize("head", [b"HTTP/1.1 2", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Ty"])
@pytest.mark.parametrize("body", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{"])
def test_an_answer_that_is_cut_is_no_success(head, body):
    """A create is repeated under its key, a verb is an error: it may have been done."""
    keys = []

    def behave(exchange):
        keys.append(exchange.request.headers.get("idempotency-key"))
        if len(keys) in (1, 3):
            exchange.send(body or head)
            exchange.close()
        else:
            answer(body=json.dumps(TASK).encode())(exchange)

    with StubWorker(behave) as server, Crew(server.url) as crew:
        crew._sleep = Slept()
        assert crew.create_task("g", worker="w").id == "t1"
        with pytest.raises(client.Unreachable):
            crew.retry_task("g", "t1")

    assert len(keys) == 3
    assert keys[0] == keys[1] is not None


def test_a_success_that_cannot_be_read_is_repeated_where_that_is_safe(http, crew):
    http.post(API + "task_group/g/tasks", body='{"id":')
    http.post(API + "task_group/g/tasks", json=TASK)
    http.post(API + "task_group/g/pause", body="")

    assert crew.create_task("g").id == "t1"
    with pytest.raises(client.Unreadable, match="may be done"):
        crew.pause_group("g")

    keys = [call.request.headers.get("Idempotency-Key") for call in http.calls]
    assert keys[0] == keys[1] is not None


# --- Waiting ---------------------------------------------------------------------------------


class Waiting:
    """A group whose fraction complete is told at each question; time only passes in sleeps."""

    def __init__(self, http, crew, fractions, outage=(0, 0, None), **counts):
        self.now = 0.0
        self.waits = []
        self.result = []
        self.crew = crew
        left = list(fractions)
        crew._clock = lambda: self.now
        crew._sleep = self._sleep

        def progress(request):
            begins, ends, how = outage
            if begins <= self.now < ends:
                if isinstance(how, Exception):
                    raise how
                return (200, {}, '{"compl') if how == "cut" else (how, {}, "")
            fraction = left.pop(0) if len(left) > 1 else left[0]
            return 200, {}, json.dumps({"completedPercent": fraction})

        def tasks(request):
            query = parse_qs(urlsplit(request.url).query)
            states = query.get("state", ["left" if "skipCompleted" in query else "all"])
            count = sum(counts.get(state, 0) for state in states[0].split(","))
            return 200, {}, json.dumps({"count": count, "tasks": [TASK] * min(count, 1)})

        http.assert_all_requests_are_fired = False
        http.add_callback("GET", API + "task_group/g/progress", progress)
        http.add_callback("GET", API + "task_group/g/tasks", tasks)
        http.get(API + "task_group/g", json={"id": "g", "name": "done"})

    def _sleep(self, seconds):
        self.waits.append(round(seconds, 3))
        self.now += seconds

    def wait(self, **options):
        return self.crew.wait("g", progress=self.result.append, **options)


def test_waiting_returns_the_group_and_tells_progress(http, crew):
    waiting = Waiting(http, crew, [0, 0.5, 0.5, 1], all=4, executing=1, left=2)

    assert waiting.wait(poll=1) == Group("g", "done")
    assert waiting.result == [0, 0.5, 1]
    assert waiting.waits == [1, 1.5, 2.25]


def test_waiting_slows_down_to_ten_seconds(http, crew):
    waiting = Waiting(http, crew, [0.5] * 12 + [1], executing=1, left=1)

    waiting.wait()

    assert waiting.waits[:3] == [0.5, 0.75, 1.125]
    assert waiting.waits[-1] == 10


def test_waiting_ends_at_its_timeout(http, crew):
    waiting = Waiting(http, crew, [0.25], executing=1, left=1)

    with pytest.raises(client.WaitTimeout, match="within 3 s, but to 25%") as caught:
        waiting.wait(timeout=3, poll=1)

    assert (waiting.now, caught.value.fraction) == (3, 0.25)


OUTAGES = [requests.ConnectionError("reset"), never_sent(), 429, 502, 503, 504, "cut"]


@pytest.mark.parametrize("outage", OUTAGES)
def test_waiting_goes_on_through_an_outage_and_says_so(http, crew, outage):
    """As long as it waits at all: a server that restarts ends no wait."""
    times = (10, 900, outage)
    waiting = Waiting(http, crew, [0.5] * 7 + [1], executing=1, left=1, outage=times)
    told = []

    crew.wait("g", 3600, progress=lambda seen: told.append((seen, bool(seen.outage))))

    assert told == [(0.5, False), (0.5, True), (0.5, False), (1, False)]
    assert waiting.now > 900


def test_waiting_ends_in_an_outage_when_its_time_is_over(http, crew):
    waiting = Waiting(http, crew, [0.5], executing=1, left=1, outage=(2, 10_000, 503))

    with pytest.raises(client.WaitTimeout, match="within 60 s, but to 50%; the server did not"):
        waiting.wait(timeout=60)

    assert waiting.now <= 60


def test_waiting_ends_for_what_does_not_pass(http, crew):
    waiting = Waiting(http, crew, [0.5], executing=1, left=1, outage=(2, 10_000, 401))

    with pytest.raises(client.Unauthorized):
        waiting.wait(timeout=60)


def test_a_call_of_a_wait_takes_no_longer_than_the_wait():
    """A server that takes the call and never answers."""
    with (
        StubWorker(lambda exchange: exchange.stopping.wait()) as server,
        Crew(server.url) as crew,
        pytest.raises(client.WaitTimeout, match=r"within 0\.3 s"),
    ):
        crew.wait("g", 0.3)


def test_waiting_for_what_cannot_go_on_is_an_error(http, crew):
    waiting = Waiting(http, crew, [0.25], failed=1, blocked=2, left=3)

    with pytest.raises(
        client.GroupStuck, match=r"of its 3 tasks left 1 have no attempts left \(t1\)"
    ) as caught:
        waiting.wait()

    assert caught.value.failed == ("t1",)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"unassigned": 1, "left": 1}, r"of its 1 tasks left 1 have no worker \(t1\)$"),
        (
            {"unassigned": 1, "blocked": 4, "left": 5},
            r"of its 5 tasks left 1 have no worker \(t1\)$",
        ),
        (
            {"unassigned": 2, "failed": 3, "blocked": 1, "left": 6},
            r"3 have no attempts left \(t1, t1, t1\) and 2 have no worker \(t1, t1\)$",
        ),
    ],
)
def test_waiting_for_tasks_without_a_worker_is_an_error(http, crew, counts, words):
    with pytest.raises(client.GroupStuck, match=words):
        Waiting(http, crew, [0.5], **counts).wait()


@pytest.mark.parametrize(
    "counts",
    [
        {"failed": 1, "executing": 1, "left": 2},
        {"failed": 1, "scheduled": 1, "left": 2},
        {"failed": 1, "paused": 1, "left": 2},
        {"unassigned": 1, "ready": 1, "left": 2},
        {"unassigned": 1, "following": 1, "left": 2},
        {"blocked": 1, "left": 1},
    ],
)
def test_waiting_goes_on_while_anything_can(http, crew, counts):
    waiting = Waiting(http, crew, [0.5, 0.5, 0.5, 1], **counts)

    assert waiting.wait().id == "g"


def test_an_empty_group_is_not_waited_for(http, crew):
    assert Waiting(http, crew, [0]).wait(timeout=5).id == "g"


def test_interim_answers_are_skipped_whatever_their_number():
    """A proxy may send them; the answer behind one would be that of the next call."""

    def behave(exchange):
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        exchange.stopping.wait(0.01)
        exchange.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        exchange.stopping.wait(0.01)
        named = TASK | {"id": exchange.request.path.rpartition("/")[2]}
        answer(body=json.dumps(named).encode())(exchange)

    with StubWorker(behave) as server, Crew(server.url) as crew:
        result = [crew.task(f"t{n}").id for n in range(5)]

    assert result == [f"t{n}" for n in range(5)]
    assert server.connections == 1

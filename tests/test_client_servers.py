"""The common flows of the Python client, against a stub of the old Crew and the real API."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from urllib.parse import parse_qs, urlsplit

import pytest

from tasks import client
from tasks.api.bulk import VERB_TAKES
from tasks.api.query import FILTERS
from tasks.client import Crew
from tasks.client.many import Named
from tasks.rules.jsonio import dump
from tasks.rules.names import camel

TOKEN = "canary-token-of-the-tests"


class StubCrew(BaseHTTPRequestHandler):
    """As much of the old Crew's API as the flows below use, in memory."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and parts.path != "/login":
            return self.reply(401, {"message": "Unauthorized"})
        if self.headers.get("Content-Type") == "application/x-ndjson":
            sent = {"tasks": [json.loads(line) for line in body.splitlines()]}
        else:
            sent = json.loads(body) if body else {}
        key = self.headers.get("Idempotency-Key")
        if key in self.server.answered:
            return self.reply(*self.server.answered[key])
        answer = self.answer(self.command, parts.path.removeprefix("/api/v1"), query, sent)
        if key:
            self.server.answered[key] = answer
        return self.reply(*answer)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def answer(self, method, path, query, sent):
        groups, tasks = self.server.groups, self.server.tasks
        match [method, *path.strip("/").split("/")]:
            case ["POST", "login"]:
                good = sent == {"username": "admin", "password": "crew"}
                return (200, {"token": TOKEN}) if good else (401, "Invalid Credentials")
            case ["GET", "authcheck"]:
                return 200, "Authenticated!"
            case ["GET", "task_groups"]:
                found = [g for g in groups.values() if query.get("search", "") in g["name"]]
                return 200, self.page("taskGroups", found[::-1], query)
            case ["POST", "task_groups"]:
                if sent.get("id") in groups:
                    return 409, "there is such a group"
                id_ = sent.get("id") or f"g{len(groups)}"
                groups[id_] = {"id": id_, "name": sent["name"]}
                self.add(id_, sent.get("tasks", []))
                return 200, groups[id_]
            case ["GET", "task", id_] if id_ in tasks:
                return 200, tasks[id_]
            case [_, "task", _]:
                return 404, "task not found"
            case [_, "task_group", gid, *_] if gid not in groups:
                return 404, "task group not found"
            case [_, "task_group", gid, *rest]:
                return self.in_group(method, gid, rest, query, sent)

    def in_group(self, method, gid, rest, query, sent):
        groups, tasks = self.server.groups, self.server.tasks
        mine = [task for task in tasks.values() if task["taskGroupId"] == gid]
        match [method, *rest]:
            case ["GET"]:
                return 200, groups[gid]
            case ["PUT"]:
                groups[gid] |= sent
                return 200, groups[gid]
            case ["DELETE"]:
                del groups[gid]
                return 200, {"deleted": True, "id": gid}
            case ["GET", "progress"]:
                complete = sum(task["isComplete"] for task in mine)
                return 200, {"completedPercent": complete / len(mine) if mine else 0}
            case ["POST", "pause" | "resume" as verb]:
                for task in mine:
                    task["isPaused"] = verb == "pause"
                return 200, {"success": True}
            case ["GET", "tasks"]:
                left = [t for t in mine if not (query.get("skipCompleted") and t["isComplete"])]
                return 200, self.page("tasks", left, query)
            case ["POST", "tasks"]:
                return 200, tasks[self.add(gid, [sent])[0]]
            case ["POST", "tasks", "bulk"]:
                ids = self.add(gid, sent["tasks"])
                return 200, {"count": len(ids), "ids": ids}
            case ["PUT", "task", id_]:
                tasks[id_] |= sent
                return 200, tasks[id_]
            case ["DELETE", "task", id_]:
                del tasks[id_]
                return 200, {"deleted": True, "id": id_}
            case ["POST", "task", id_, "reset" | "retry"]:
                tasks[id_] |= sent | {"isComplete": False, "output": None}
                return 200, tasks[id_]

    def add(self, gid, tasks):
        made = [
            {"id": f"t{len(self.server.tasks) + n}", "isComplete": False, "parentIds": []}
            | task
            | {"taskGroupId": gid}
            for n, task in enumerate(tasks)
        ]
        self.server.tasks |= {task["id"]: task for task in made}
        return [task["id"] for task in made]

    def page(self, name, rows, query):
        size = int(query.get("pageSize", 20))
        start = (int(query.get("page", 1)) - 1) * size
        return {"count": len(rows), name: rows[start : start + size]}

    def reply(self, status, answer):
        is_text = isinstance(answer, str)
        data = (answer if is_text else f"{dump(answer)}\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@contextmanager
def stub_crew():
    server = ThreadingHTTPServer(("127.0.0.1", 0), StubCrew)
    server.daemon_threads = True
    server.groups, server.tasks, server.answered = {}, {}, {}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def prepare_site(request):
    """The real API, on the test's database, with a token and an operator."""
    settings = request.getfixturevalue("settings")
    settings.CREW_AUTH_TOKEN = TOKEN
    live_server = request.getfixturevalue("live_server")
    users = request.getfixturevalue("django_user_model")
    users.objects.create_superuser("admin", password="crew")
    return live_server.url


has_api = find_spec("tasks.urls") is not None
on_site = [
    pytest.mark.skipif(not has_api, reason="the API is not there"),
    pytest.mark.django_db(transaction=True),
]
live = pytest.param("live", marks=on_site)


@pytest.fixture(params=["stub", live])
def base_url(request):
    if request.param == "stub":
        with stub_crew() as url:
            yield url
    else:
        yield prepare_site(request)


@pytest.fixture
def real(base_url):
    with Crew(base_url, TOKEN, retries=0) as crew:
        yield crew


@pytest.fixture(params=[live])
def site(request):
    """The real API only: for what the stub does not do."""
    with Crew(prepare_site(request), TOKEN, retries=0) as crew:
        yield crew


def test_a_group_lives_and_dies(real):
    group = real.create_group(name="one", id="g-1")
    real.create_group(name="two")

    assert real.group(group) == group
    assert real.rename_group(group, "uno").name == "uno"
    assert [found.name for found in real.groups()] == ["two", "uno"]
    assert [found.id for found in real.groups("un")] == ["g-1"]

    real.delete_group(group)

    with pytest.raises(client.NotFound, match="task group not found"):
        real.group(group)


def test_a_task_lives_and_dies(real):
    group = real.create_group()
    first = real.create_task(group, name="first", worker="worker-a", input={"n": 2**64})
    second = real.create_task(group, name="second", worker="worker-a", parent_ids=[first])

    assert real.task(second).parent_ids == (first.id,)
    assert real.task(first).input == {"n": 2**64}
    assert real.edit_task(group, first, is_complete=True, output=[1]).output == [1]
    assert real.progress(group) == 0.5
    assert [task.name for task in real.tasks(group, skip_completed=True)] == ["second"]
    assert real.reset_task(group, first, remaining_attempts=2).output is None
    assert real.retry_task(group, second, remaining_attempts=9).remaining_attempts == 9

    real.delete_task(group, second)

    with pytest.raises(client.NotFound, match="task not found"):
        real.task(second)
    assert real.count_tasks(group) == 1


@pytest.mark.parametrize("count", [3, 2_500])
def test_many_tasks_come_in_at_once_and_are_listed_in_pages(real, count):
    group = real.create_group()

    made = real.create_tasks(group, ({"id": f"t-{n}", "worker": "w"} for n in range(count)))

    assert made.count == count
    assert made.ids == tuple(f"t-{n}" for n in range(count))
    assert sorted(task.id for task in real.tasks(group, page_size=400)) == sorted(made.ids)


def test_pausing_and_resuming_a_group(real):
    group = real.create_group(tasks=[{"worker": "w"}])

    real.pause_group(group)
    paused = [task.is_paused for task in real.tasks(group)]
    real.resume_group(group)

    assert paused == [True]
    assert [task.is_paused for task in real.tasks(group)] == [False]


def test_waiting_until_a_graph_is_complete(real):
    group = real.create_group(
        tasks=[
            {"id": "b", "worker": "w", "parent_ids": ["a"]},
            {"id": "a", "worker": "w"},
        ]
    )
    real._sleep = lambda seconds: None
    result = []

    def progress(fraction):
        # Somebody does the work, one task for each look.
        result.append(fraction)
        for task in list(real.tasks(group, skip_completed=True))[:1]:
            real.edit_task(group, task, is_complete=True)

    assert real.wait(group, progress=progress).id == group.id
    assert result == [0, 0.5, 1]


def test_a_call_repeated_under_its_key_is_done_once(real):
    groups = [real.create_group(name="n", idempotency_key="k-1") for _ in range(2)]

    assert groups[0] == groups[1]
    assert len(list(real.groups())) == 1


def test_the_wrong_token_and_the_right_password(base_url):
    with Crew(base_url, "wrong", retries=0) as crew:
        assert crew.authcheck() is False
        with pytest.raises(client.Unauthorized, match="Unauthorized"):
            crew.group("g")
        with pytest.raises(client.Unauthorized, match="Invalid Credentials"):
            crew.login("admin", "wrong")

        assert crew.login("admin", "crew") == crew.token
        assert crew.authcheck() is True


def test_an_id_in_use_is_a_conflict(real):
    real.create_group(id="g")

    with pytest.raises(client.Conflict):
        real.create_group(id="g")


# --- Against the real API --------------------------------------------------------------------


@pytest.fixture
def graph(site):
    """a -> b -> c, and d that has failed for good."""
    tasks = [
        {"id": "a", "worker": "w1", "workgroup": "wg"},
        {"id": "b", "worker": "w2", "parent_ids": ["a"], "key": "k"},
        {"id": "c", "worker": "w2", "parent_ids": ["b"]},
        {"id": "d", "worker": "w1", "remaining_attempts": 0},
    ]
    return site.create_group(id="g", tasks=tasks)


def ids(tasks):
    return [task.id for task in tasks]


def test_tasks_are_found_by_what_they_are(site, graph):
    assert sorted(ids(site.tasks(graph, state=("ready", "failed")))) == ["a", "d"]
    assert sorted(ids(site.tasks(graph, state="blocked", worker="w2"))) == ["b", "c"]
    assert ids(site.tasks(graph, workgroup="wg")) == ["a"]
    assert ids(site.tasks(graph, key="k")) == ["b"]
    assert ids(site.tasks(graph, q="D")) == ["d"]
    site.edit_task(graph, "c", is_seed=True)
    assert ids(site.tasks(graph, seeds=True)) == ["c"]
    assert ids(site.children("b")) == ["c"]
    assert ids(site.parents("b")) == ["a"]
    assert list(site.attempts("a")) == []


def test_verbs_on_many_tasks(site, graph):
    assert site.pause_tasks(graph, worker="w1", dry_run=True) == 2
    assert site.count_tasks(graph, state="paused") == 0
    assert site.pause_tasks(graph, ["a", "b"]) == 2
    assert site.resume_tasks(graph, everything=True) == 2
    assert site.retry_tasks(graph, state="failed", remaining_attempts=3) == 1
    assert site.task("d").remaining_attempts == 3
    assert site.reset_tasks(graph, ["d"]) == 1
    assert site.delete_tasks(graph, ["b"]) == 2
    assert sorted(ids(site.tasks(graph))) == ["a", "d"]
    with pytest.raises(client.InvalidInput, match="all=1"):
        site.delete_tasks(graph)


def test_the_client_knows_every_filter_of_the_api():
    words = {"everything": "all"}
    named = Named.__annotations__

    assert {camel(name) for name in client.Which.__annotations__} == set(FILTERS)
    assert {camel(words.get(name, name)) for name in named} == set(VERB_TAKES)


@pytest.mark.parametrize("states", [[], (), "", set(), iter(())])
def test_a_filter_of_no_states_matches_nothing(site, graph, states):
    assert site.delete_tasks(graph, worker="w1", state=states) == 0
    assert site.delete_tasks(graph, ids=[]) == 0
    assert site.count_tasks(graph, state=states) == 0
    assert list(site.tasks(graph, state=states)) == []
    assert site.count_tasks(graph) == 4


def test_what_is_done_while_a_list_is_read_shifts_nothing(site):
    group = site.create_group(tasks=[{"id": f"t{i}", "worker": "w"} for i in range(7)])
    names = {site.create_group(name=f"old {i}").name for i in range(5)}

    for task in (tasks := site.tasks(group, state="ready", page_size=2)):
        site.delete_task(group, task)
    seen = []
    for found in site.groups("old", page_size=2):
        seen.append(found.name)
        site.create_group(name="old and new")

    assert site.count_tasks(group) == 0
    assert list(tasks) == []
    assert sorted(seen) == sorted(names)


def test_what_somebody_else_changed_is_not_changed(site, graph):
    task, group = site.task("a"), site.group(graph)
    site.edit_task(graph, "a", name="theirs")
    site.rename_group(graph, "theirs")

    for call in (
        lambda: site.edit_task(graph, "a", name="mine", if_match=task),
        lambda: site.delete_task(graph, "a", if_match=task.etag),
        lambda: site.rename_group(graph, "mine", if_match=group),
        lambda: site.delete_group(graph, if_match=group),
    ):
        with pytest.raises(client.Changed, match="read it again"):
            call()
    with pytest.raises(client.InvalidInput, match="read alone"):
        site.delete_task(graph, "a", if_match=next(site.tasks(graph)))

    assert site.edit_task(graph, "a", name="mine", if_match=site.task("a")).name == "mine"
    assert site.rename_group(graph, "mine", if_match=site.group(graph)).name == "mine"


def test_a_verb_in_slices_goes_on_where_it_ended(site, graph):
    first = site.pause_tasks(graph, everything=True, limit=3)
    rest = site.pause_tasks(graph, everything=True, limit=3, after=first.next)

    assert (first, rest, rest.next) == (3, 1, None)
    assert site.count_tasks(graph, q="a", state="paused") == 1


def test_waiting_for_a_task_without_a_worker(site):
    group = site.create_group(tasks=[{"id": "idle"}])
    site._sleep = lambda seconds: None

    with pytest.raises(client.GroupStuck, match=r"1 have no worker \(idle\)"):
        site.wait(group)


def test_waiting_for_a_group_that_is_stuck(site, graph):
    site._sleep = lambda seconds: None
    for id_ in "abc":
        site.edit_task(graph, id_, is_complete=True)

    with pytest.raises(client.GroupStuck) as caught:
        site.wait(graph)

    assert caught.value.failed == ("d",)
    site.retry_group(graph)
    with pytest.raises(client.WaitTimeout):
        site.wait(graph, timeout=0.01)


def test_cancelling_a_group(site, graph):
    assert site.cancel_group(graph) >= 3


def test_a_dry_run_creates_nothing(site, graph):
    made = site.create_tasks(
        graph, [{"id": "new", "worker": "w", "parent_ids": ["a"]}], dry_run=True
    )

    assert (made.count, site.count_tasks(graph)) == (1, 4)


def test_workers_and_workgroups(site, graph):
    assert [worker.name for worker in site.workers()] == ["w1", "w2"]
    assert site.limit_worker("w1", 3).limit == 3
    assert site.hold_workgroup("wg", 60).is_held is True
    assert [(found.name, found.is_held) for found in site.workgroups()] == [("wg", True)]
    assert site.open_workgroup("wg").is_held is False


def test_the_same_key_for_another_call_is_refused(site):
    site.create_group(name="a", idempotency_key="k")

    with pytest.raises(client.InvalidInput, match="Idempotency-Key") as caught:
        site.create_group(name="b", idempotency_key="k")

    assert caught.value.status == 422

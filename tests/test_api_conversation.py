"""What the old Crew's clients say and hear (contract, part 1), row by row, without any auth."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.utils import timezone

from tasks.conf import SETTINGS
from tasks.models import Task, TaskGroup

from .api_client import GROUP, GROUPS, JSON, TASK, TASKS, TEXT, Api, UnderPrefix
from .factories import claim_one, fail, make_group, make_task, wire

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ZERO = "0001-01-01T00:00:00Z"
TASK_FIELDS = {
    "id": str,
    "taskGroupId": str,
    "name": str,
    "worker": str,
    "workgroup": str,
    "key": str,
    "remainingAttempts": int,
    "isPaused": bool,
    "isComplete": bool,
    "runAfter": str,
    "isSeed": bool,
    "errorDelayInSeconds": int,
    "input": object,
    "output": object,
    "errors": list,
    "createdAt": str,
    "parentIds": list,
    "busyExecuting": bool,
    "priority": int,
    "state": str,
}
# What the form of the old UI sends for a new task.
SPA_TASK = {
    "name": "T",
    "worker": "worker-a",
    "workgroup": "",
    "key": "",
    "remainingAttempts": 5,
    "isPaused": False,
    "isComplete": False,
    "isSeed": False,
    "errorDelayInSeconds": 30,
    "input": {},
    "parentIds": [],
    "id": "",
}


def is_json(said, status=200):
    assert (said.status, said.type) == (status, JSON), said.text
    assert said.body.endswith(b"\n")
    assert said.body != b"null\n"
    return said.json


def is_text(said, status, words):
    assert (said.status, said.type, said.text) == (status, TEXT, words)


def is_task(value, **expected):
    assert list(value) == list(TASK_FIELDS)
    for name, kind in TASK_FIELDS.items():
        assert isinstance(value[name], kind), name
    assert TIME.fullmatch(value["createdAt"])
    assert TIME.fullmatch(value["runAfter"])
    assert {name: value[name] for name in expected} == expected


def is_group(value, **expected):
    assert list(value) == ["id", "name", "createdAt", "isPaused"]
    assert TIME.fullmatch(value["createdAt"])
    assert {name: value[name] for name in expected} == expected


def at(seconds):
    """A time of the same day, for createdAt."""
    return f"2026-11-24T06:18:{seconds:02}.5Z"


# --- 1.1 General and 1.2 without auth ---------------------------------------------------------


def test_get_healthz(api):
    is_text(api.get("/healthz"), 200, "Healthy!")


def test_get_healthz_ready_says_whether_the_database_is_there(api, monkeypatch):
    is_text(api.get("/healthz/ready"), 200, "Ready!")

    monkeypatch.setattr(connection, "cursor", lost)
    is_text(api.get("/healthz/ready"), 503, "the database is away")
    is_text(api.get("/healthz"), 200, "Healthy!")


def lost():
    raise OperationalError("the server closed the connection")


def test_get_authcheck_without_auth_ignores_the_header(api):
    is_text(api.get("/authcheck", Authorization="Bearer"), 200, "Authenticated!")


def test_post_login_without_auth_is_not_there(api):
    said = api.post("/login", {"username": "a", "password": "b"})

    assert is_json(said, 405) == {"message": "Method Not Allowed"}


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/task_groups/", "/api/", "/api/v1"])
def test_an_unknown_path_got(api, path):
    is_text(api.get(path), 404, "404 page not found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_an_unknown_path_asked_otherwise(api, method):
    said = api.send(method, "/api/v1/task_groups/")

    assert (said.status, said.type) == (405, JSON)
    assert said.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD"])
def test_an_unknown_path_has_no_methods(api, method):
    assert api.send(method, "/api/v1/task_groups/").status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", GROUPS, "GET, POST, HEAD, OPTIONS"),
        ("PATCH", GROUP, "GET, PUT, DELETE, HEAD, OPTIONS"),
        ("POST", TASK, "GET, PUT, DELETE, HEAD, OPTIONS"),
        ("GET", f"{GROUP}/reset", "POST, OPTIONS"),
        ("PUT", "/healthz", "GET, HEAD, OPTIONS"),
        ("TRACE", TASKS, "GET, POST, HEAD, OPTIONS"),
    ],
)
def test_a_known_path_with_a_wrong_method(api, method, path, allowed):
    said = api.send(method, path)

    assert is_json(said, 405) == {"message": "Method Not Allowed"}
    assert said.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/healthz", "/authcheck", GROUPS, TASKS])
def test_head_is_get_without_its_body(api, path):
    """The old Crew refused it (405); whatever looks whether a page is there asks so."""
    said = api.send("HEAD", path)

    assert (said.status, said.body) == (200, b"")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "x/y"])
def test_the_content_type_is_ignored(api, kind):
    said = api.post(GROUPS, {"name": "G"}, kind=kind)

    is_group(is_json(said), name="G")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense"])
def test_the_accept_header_is_ignored(api, accept):
    assert is_json(api.get(GROUPS, Accept=accept)) == {"count": 0, "taskGroups": []}


def test_unknown_fields_and_parameters_are_ignored(api):
    make_group(id="g")

    is_task(is_json(api.post(f"{TASKS}?x=1", {"name": "T", "favouriteColour": 1})), name="T")
    assert is_json(api.get(f"{TASKS}?x=1"))["count"] == 1


def test_it_works_below_a_prefix(api, settings):
    settings.ROOT_URLCONF = UnderPrefix
    api = Api(prefix="/crew")

    is_text(api.get("/healthz"), 200, "Healthy!")
    is_group(is_json(api.post(GROUPS, {"id": "g", "name": "G"})), id="g")
    is_task(is_json(api.post(TASKS, SPA_TASK)), taskGroupId="g")
    is_text(api.get("/api/v1/nothing"), 404, "404 page not found")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not readable as JSON: empty"),
        (b'{"name":', "not readable as JSON: not JSON: no value at character 8"),
        (b"null", "the body must be a JSON object"),
        (b'{"remainingAttempts": "x"}', "remainingAttempts must be a whole number, not 'x'"),
        (b'{"runAfter": "yesterday"}', "runAfter must be an RFC 3339 time, not 'yesterday'"),
    ],
)
def test_a_body_that_is_not_what_it_should_be(api, body, words):
    make_group(id="g")

    is_text(api.post(TASKS, body), 400, words)


def test_get_of_the_stream_without_an_upgrade(api):
    is_text(api.get(f"{GROUP}/stream/-"), 400, "not websocket protocol")


# --- 1.2 With auth ---------------------------------------------------------------------------


@pytest.fixture
def operator(settings):
    settings.CREW_AUTHENTICATION = SETTINGS["CREW_AUTHENTICATION"].default
    User.objects.create_superuser("admin", password="crew")


def test_post_login_gives_the_token_that_all_routes_take(api, operator):
    said = is_json(api.post("/login", {"username": "admin", "password": "crew"}))

    assert list(said) == ["token"]
    for header in (f"Bearer {said['token']}", said["token"]):
        is_text(api.get("/authcheck", Authorization=header), 200, "Authenticated!")
        is_json(api.get(GROUPS, Authorization=header))


@pytest.mark.parametrize(
    "body", [{"username": "admin", "password": "x"}, {"username": "x", "password": "crew"}, {}]
)
def test_post_login_with_wrong_credentials(api, operator, body):
    is_text(api.post("/login", body), 401, "Invalid Credentials")


def test_post_login_with_bad_json(api, operator):
    said = api.post("/login", b'{"username":')

    assert (said.status, said.type) == (400, TEXT)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "bearer {}", "wrong"])
def test_get_authcheck_with_a_missing_or_wrong_token(api, operator, header):
    token = is_json(api.post("/login", {"username": "admin", "password": "crew"}))["token"]

    said = api.get("/authcheck", Authorization=header.format(token))

    assert is_json(said, 401) == {"message": "Unauthorized"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_auth_is_checked_before_body_and_existence(api, operator, method):
    said = api.send(method, "/api/v1/task_group/nowhere", b"{")

    assert is_json(said, 401) == {"message": "Unauthorized"}


# --- 1.3 Task groups --------------------------------------------------------------------------


def test_post_task_groups_as_the_old_ui_does(api):
    said = is_json(api.post(GROUPS, {"id": "", "name": "New one"}))

    is_group(said, name="New one", isPaused=False)
    assert re.fullmatch(r"[0-9a-f-]{36}", said["id"])
    assert is_json(api.get(f"/api/v1/task_group/{said['id']}")) == said


def test_post_task_groups_with_all_fields(api):
    sent = {"id": "g.1", "name": "G", "createdAt": "2026-11-10T01:02:03-07:00"}

    is_group(is_json(api.post(GROUPS, sent)), id="g.1", createdAt="2026-11-10T08:02:03.000Z")


def test_post_task_groups_with_an_id_in_use(api):
    make_group(id="g", name="first")

    said = api.post(GROUPS, {"id": "g", "name": "second"})

    is_text(said, 409, "a task group with the id g exists already")
    assert TaskGroup.objects.get().name == "first"


def test_get_task_groups_newest_first_and_ties_by_id(api):
    for id_, seconds in (("a", 1), ("b", 2), ("d", 1), ("c", 1)):
        api.post(GROUPS, {"id": id_, "createdAt": at(seconds)})

    said = is_json(api.get(f"{GROUPS}?page=1&pageSize=20&search="))

    assert list(said) == ["count", "taskGroups"]
    assert said["count"] == 4
    assert [group["id"] for group in said["taskGroups"]] == ["b", "d", "c", "a"]
    is_group(said["taskGroups"][0])


PAGES = [
    # query, the rows of five that come (counted from the first), contract 1.3
    ("", [0, 1, 2, 3, 4]),
    ("page=1&pageSize=2", [0, 1]),
    ("page=2&pageSize=2", [2, 3]),
    ("page=3&pageSize=2", [4]),
    ("page=4&pageSize=2", []),
    ("pageSize=0", [0, 1, 2, 3, 4]),
    ("page=1&pageSize=0", [0, 1, 2, 3, 4]),
    ("page=2&pageSize=0", []),
    ("page=0", []),
    ("page=-1", []),
    ("pageSize=-1", []),
    ("page=1000000000", []),
    ("page=999999999999999999&pageSize=500", []),
    # What is no integer to the old Crew is not given.
    ("page=abc&pageSize=x", [0, 1, 2, 3, 4]),
    ("page=", [0, 1, 2, 3, 4]),
    ("page=1.5&pageSize=2", [0, 1]),
    ("page=9999999999999999999999&pageSize=2", [0, 1]),
    ("page=%2B2&pageSize=2", [2, 3]),
]


@pytest.mark.parametrize(("query", "rows"), PAGES)
def test_paging_of_groups(api, query, rows):
    for number in range(5):
        api.post(GROUPS, {"id": f"g{number}", "createdAt": at(9 - number)})

    said = is_json(api.get(f"{GROUPS}?{query}"))

    assert said["count"] == 5
    assert [group["id"] for group in said["taskGroups"]] == [f"g{row}" for row in rows]


@pytest.mark.parametrize(("query", "rows"), PAGES)
def test_paging_of_tasks(api, query, rows):
    make_group(id="g", tasks=[wire(id=f"t{number}") for number in range(5)])

    said = is_json(api.get(f"{TASKS}?{query}"))

    assert said["count"] == 5
    assert [task["id"] for task in said["tasks"]] == [f"t{row}" for row in rows]


def test_a_page_has_20_rows_unless_said(api):
    make_group(id="g", tasks=[wire() for _ in range(25)])
    for _ in range(25):
        make_group()

    assert len(is_json(api.get(GROUPS))["taskGroups"]) == 20
    assert len(is_json(api.get(TASKS))["tasks"]) == 20


def test_pages_are_capped_and_the_count_is_true(api, settings):
    settings.CREW_MAX_PAGE = 3
    settings.CREW_MAX_PAGE_ALL = 4
    make_group(id="g", tasks=[wire() for _ in range(6)])

    large, every = (
        is_json(api.get(f"{TASKS}?pageSize=1000")),
        is_json(api.get(f"{TASKS}?pageSize=0")),
    )

    assert (large["count"], len(large["tasks"])) == (6, 3)
    assert (every["count"], len(every["tasks"])) == (6, 4)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", 4),
        ("report", 2),
        ("REPORT", 2),
        ("ly%20rep", 2),
        ("100%25", 1),
        ("_", 1),
        ("%25", 1),
        ("g1", 0),
        ("\u00fcber", 0),
    ],
)
def test_search_is_part_of_a_name_whatever_its_case(api, search, found):
    names = ["Monthly Report", "weekly report", "100%", "a_b"]
    make_group(id="g", tasks=[wire(id=f"g1-{i}", name=name) for i, name in enumerate(names)])
    for name in names:
        make_group(name=name)

    tasks = is_json(api.get(f"{TASKS}?search={search}"))
    groups = is_json(api.get(f"{GROUPS}?search={search}"))

    extra = 1 if search == "" else 0  # the group g itself has no name
    assert (tasks["count"], len(tasks["tasks"])) == (found, found)
    assert (groups["count"], len(groups["taskGroups"])) == (found + extra, found + extra)


def test_get_task_group(api):
    make_group(id="g", name="G")

    is_group(is_json(api.get(GROUP)), id="g", name="G", isPaused=False)


def test_put_task_group_renames_it(api):
    make_group(id="g", name="old")

    is_group(is_json(api.put(GROUP, {"name": "new"})), name="new")
    assert TaskGroup.objects.get().name == "new"


@pytest.mark.parametrize("sent", [{"name": 5}, {"name": None}, {}, {"id": "x", "isPaused": True}])
def test_put_task_group_ignores_anything_else(api, sent):
    make_group(id="g", name="old")
    before = TaskGroup.objects.values().get()

    is_group(is_json(api.put(GROUP, sent)), id="g", name="old", isPaused=False)
    assert TaskGroup.objects.values().get() == before


def test_delete_task_group(api):
    make_group(id="g", tasks=[wire(), wire()])

    assert is_json(api.delete(GROUP)) == {"deleted": True, "id": "g"}
    assert not Task.objects.exists()
    is_text(api.get(GROUP), 404, "task group not found")


def test_get_progress_is_a_fraction(api):
    make_group(id="g", tasks=[wire(is_complete=True), wire(), wire(), wire(is_paused=True)])

    said = is_json(api.get(f"{GROUP}/progress"))

    assert said["completedPercent"] == 0.25
    assert (said["total"], said["complete"], said["ready"], said["paused"]) == (4, 1, 2, 1)


def test_get_progress_of_an_empty_and_of_an_unknown_group(api):
    make_group(id="g")

    assert is_json(api.get(f"{GROUP}/progress"))["completedPercent"] == 0
    assert is_json(api.get("/api/v1/task_group/undefined/progress"))["completedPercent"] == 0


ATTEMPTS = [
    # the body, and the attempts it gives
    (b'{"remainingAttempts": 3}', 3),
    (b'{"remainingAttempts": "3"}', 3),
    (b'{"remainingAttempts": 1.9}', 1),
    (b'{"remainingAttempts": ""}', 5),
    (b'{"remainingAttempts": null}', 5),
    (b"{}", 5),
    (b"", 5),
    (b"{broken", 5),
    (b"[3]", 5),
    (b"null", 5),
]


@pytest.mark.parametrize("verb", ["reset", "retry"])
@pytest.mark.parametrize(("body", "attempts"), ATTEMPTS)
def test_post_reset_and_retry_of_a_group(api, verb, body, attempts):
    task = make_task(make_group(id="g"), remaining_attempts=0)

    assert is_json(api.post(f"{GROUP}/{verb}", body)) == {"success": True}
    task.refresh_from_db()
    assert task.remaining_attempts == attempts


@pytest.mark.parametrize("path", [GROUP, TASK])
@pytest.mark.parametrize("verb", ["reset", "retry"])
@pytest.mark.parametrize("value", ['"abc"', "-1", "true", "1e30", "[]"])
def test_attempts_that_cannot_be_are_refused(api, path, verb, value):
    make_task(make_group(id="g"), id="t", remaining_attempts=0)

    said = api.post(f"{path}/{verb}", f'{{"remainingAttempts": {value}}}'.encode())

    assert (said.status, said.type) == (400, TEXT)
    assert said.text.startswith("remainingAttempts must be")
    assert Task.objects.get().remaining_attempts == 0


@pytest.mark.parametrize("body", [b"{}", b""])
def test_post_pause_and_resume_of_a_group(api, body):
    make_task(make_group(id="g"), id="t")

    assert is_json(api.post(f"{GROUP}/pause", body)) == {"success": True}
    is_group(is_json(api.get(GROUP)), isPaused=True)
    is_task(is_json(api.get(TASK)), isPaused=True)
    is_task(is_json(api.post(TASKS, {"id": "later"})), isPaused=True)

    assert is_json(api.post(f"{GROUP}/resume", body)) == {"success": True}
    is_group(is_json(api.get(GROUP)), isPaused=False)
    assert not Task.objects.filter(is_paused=True).exists()


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/reset"),
        ("POST", "/retry"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/tasks"),
        ("PUT", "/task/t"),
        ("DELETE", "/task/t"),
        ("POST", "/task/t/reset"),
        ("POST", "/task/t/retry"),
    ],
)
def test_an_unknown_group_is_not_found(api, method, rest):
    body = {"name": "x"} if method == "PUT" or rest == "/tasks" else b""

    said = api.send(method, f"/api/v1/task_group/nowhere{rest}", body)

    is_text(said, 404, "task group not found")


def test_tasks_of_an_unknown_group_are_none(api):
    assert is_json(api.get(TASKS)) == {"count": 0, "tasks": []}


# --- 1.4 Tasks --------------------------------------------------------------------------------


def test_post_tasks_as_the_old_ui_does(api):
    make_group(id="g")

    said = is_json(api.post(TASKS, SPA_TASK))

    is_task(said, **(SPA_TASK | {"id": said["id"], "taskGroupId": "g", "errorDelayInSeconds": 30}))
    assert said["runAfter"] != ZERO
    assert is_json(api.get(f"/api/v1/task/{said['id']}")) == said


def test_post_tasks_with_nothing_gives_the_defaults(api):
    make_group(id="g")

    is_task(
        is_json(api.post(TASKS, {})),
        taskGroupId="g",
        name="",
        worker="",
        workgroup="",
        key="",
        remainingAttempts=5,
        isPaused=False,
        isComplete=False,
        isSeed=False,
        errorDelayInSeconds=60,
        input=None,
        output=None,
        errors=[],
        parentIds=[],
        busyExecuting=False,
        priority=0,
    )


def test_post_tasks_with_null_everywhere_gives_the_defaults_too(api):
    make_group(id="g")

    said = is_json(api.post(TASKS, dict.fromkeys(TASK_FIELDS)))

    is_task(said, remainingAttempts=5, errorDelayInSeconds=60, errors=[], parentIds=[], input=None)


def test_post_tasks_with_every_field(api):
    make_task(make_group(id="g"), id="p")
    sent = {
        "id": "t",
        "name": "T",
        "worker": "w/x",
        "workgroup": "wg",
        "key": "k",
        "remainingAttempts": 7,
        "isPaused": True,
        "isComplete": True,
        "runAfter": "2026-11-10T00:00:00.000-07:00",
        "isSeed": True,
        "errorDelayInSeconds": 0,
        "input": {"b": 1, "a": [12345678901234567890, 0.1, "\u00e9<&>"]},
        "output": "out",
        "errors": ["one"],
        "createdAt": "2026-01-02T03:04:05.123456789Z",
        "parentIds": ["p"],
        "priority": -3,
    }

    said = is_json(api.post(TASKS, sent))

    result = {"runAfter": "2026-11-10T07:00:00.000Z", "createdAt": "2026-01-02T03:04:05.123Z"}
    is_task(said, **(sent | result))


def test_fields_of_the_server_are_ignored_at_creation(api):
    make_group(id="g")

    is_task(
        is_json(api.post(TASKS, {"taskGroupId": "other", "busyExecuting": True})),
        taskGroupId="g",
        busyExecuting=False,
    )


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("remainingAttempts", "5", 5),
        ("remainingAttempts", 1.9, 1),
        ("remainingAttempts", "", 5),
        ("remainingAttempts", None, 5),
        ("errorDelayInSeconds", "60", 60),
        ("errorDelayInSeconds", "", 60),
        ("errorDelayInSeconds", 0, 0),
    ],
)
def test_numbers_as_old_clients_send_them(api, field, value, stored):
    make_group(id="g")

    is_task(is_json(api.post(TASKS, {field: value})), **{field: stored})


def test_post_tasks_with_an_id_in_use(api):
    make_task(make_group(id="g"), id="t", name="first")

    said = api.post(TASKS, {"id": "t", "name": "second"})

    is_text(said, 409, "a task with the id t exists already")
    assert Task.objects.get().name == "first"


def test_post_tasks_with_unknown_parents(api):
    make_group(id="g")

    said = api.post(TASKS, {"id": "t", "parentIds": ["nobody"]})

    is_text(said, 400, "cannot find all parents for task 0 (t): nobody")
    assert not Task.objects.exists()


def test_get_tasks_oldest_first_and_ties_by_id(api):
    make_group(id="g")
    for id_, seconds in (("b", 2), ("d", 1), ("c", 1), ("a", 3)):
        api.post(TASKS, {"id": id_, "createdAt": at(seconds)})

    said = is_json(api.get(f"{TASKS}?page=1&pageSize=20&search=&skipCompleted=false"))

    assert list(said) == ["count", "tasks"]
    assert [task["id"] for task in said["tasks"]] == ["c", "d", "b", "a"]
    is_task(said["tasks"][0])


@pytest.mark.parametrize(
    ("word", "count"),
    [(word, 1) for word in ("1", "t", "T", "TRUE", "true", "True")]
    + [(word, 2) for word in ("", "0", "false", "False", "yes", "maybe", "tRUE", "2")],
)
def test_skip_completed_before_count_and_paging(api, word, count):
    make_group(id="g", tasks=[wire(is_complete=True), wire(id="open")])

    said = is_json(api.get(f"{TASKS}?skipCompleted={word}"))

    assert (said["count"], len(said["tasks"])) == (count, count)
    assert said["tasks"][-1]["id"] == "open"


def test_get_task_by_both_paths(api):
    make_task(make_group(id="g"), id="t", name="T")

    with_group, alone = is_json(api.get(TASK)), is_json(api.get("/api/v1/task/t"))

    assert with_group == alone
    is_task(alone, id="t", name="T", taskGroupId="g")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", TASK),
        ("GET", "/api/v1/task/t"),
        ("PUT", TASK),
        ("DELETE", TASK),
        ("POST", f"{TASK}/reset"),
        ("POST", f"{TASK}/retry"),
    ],
)
def test_an_unknown_task_is_not_found(api, method, path):
    make_group(id="g")

    said = api.send(method, path, {"name": "x"} if method == "PUT" else b"")

    is_text(said, 404, "task not found")


def test_put_task_as_the_old_ui_does(api):
    make_task(make_group(id="g"), id="p")
    before = is_json(api.post(TASKS, SPA_TASK | {"id": "t"}))
    form = {name: before[name] for name in SPA_TASK if name != "id"}
    sent = form | {
        "runAfter": before["runAfter"],
        "name": "renamed",
        "worker": "worker-b",
        "workgroup": "wg",
        "key": "k",
        "parentIds": ["p"],
        "remainingAttempts": "9",
        "errorDelayInSeconds": "",
        "input": {"x": None},
    }

    said = is_json(api.put(TASK, sent))

    is_task(said, **(sent | {"remainingAttempts": 9, "errorDelayInSeconds": 30}))
    assert said["createdAt"] == before["createdAt"]


def test_put_task_changes_what_it_names_only(api):
    before = is_json(api.post(TASKS, {})) if make_group(id="g") else {}

    said = is_json(api.put(f"{GROUP}/task/{before['id']}", {"isPaused": True}))

    assert said == before | {"isPaused": True, "state": "paused"}


def test_put_task_with_nothing_known_changes_nothing(api):
    before = is_json(api.post(TASKS, {"id": "t"})) if make_group(id="g") else {}

    assert is_json(api.put(TASK, {"id": "x", "createdAt": at(1), "busyExecuting": True})) == before


@pytest.mark.parametrize("value", ["", ZERO])
def test_put_run_after_cleared_is_now(api, value):
    make_task(make_group(id="g"), id="t", run_after="2090-01-01T00:00:00Z")

    said = is_json(api.put(TASK, {"runAfter": value}))

    due = datetime.fromisoformat(said["runAfter"])
    assert abs(due - datetime.now(UTC)) < timedelta(minutes=1)


def test_put_null_leaves_input_and_output(api):
    make_task(make_group(id="g"), id="t", input={"a": 1}, output=2)

    is_task(is_json(api.put(TASK, {"input": None, "output": None})), input={"a": 1}, output=2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("isPaused", "true"),
        ("isComplete", 1),
        ("runAfter", "soon"),
        ("runAfter", 5),
        ("remainingAttempts", "many"),
        ("parentIds", "p"),
        ("worker", "../x"),
    ],
)
def test_put_task_refuses_wrong_types(api, field, value):
    before = is_json(api.post(TASKS, {"id": "t"})) if make_group(id="g") else {}

    said = api.put(TASK, {"name": "new", field: value})

    assert (said.status, said.type) == (400, TEXT)
    assert said.text.startswith(field)
    assert is_json(api.get(TASK)) == before


def test_delete_task(api):
    make_task(make_group(id="g"), id="t")

    assert is_json(api.delete(TASK)) == {"deleted": True, "id": "t"}
    is_text(api.get(TASK), 404, "task not found")


def family(group):
    """p and q have the child both; p alone has the child alone."""
    p, q = make_task(group, id="t"), make_task(group, id="q")
    make_task(group, id="both", parents=[p, q])
    make_task(group, id="alone", parents=[p])


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", {"q", "both"}),
        ("?children=cascade", {"q", "both"}),
        ("?children=detach", {"q", "both", "alone"}),
    ],
)
def test_delete_task_and_its_children(api, query, left):
    family(make_group(id="g"))

    assert is_json(api.delete(f"{TASK}{query}")) == {"deleted": True, "id": "t"}
    assert set(Task.objects.values_list("id", flat=True)) == left


def test_delete_task_with_children_may_be_refused(api):
    family(make_group(id="g"))

    is_text(api.delete(f"{TASK}?children=refuse"), 409, "cannot delete tasks with children")
    assert Task.objects.count() == 4


@pytest.mark.parametrize(("body", "attempts"), ATTEMPTS)
def test_post_reset_of_a_task(api, body, attempts):
    make_task(make_group(id="g"), id="t", is_complete=True, output=1, errors=["e"])

    is_task(
        is_json(api.post(f"{TASK}/reset", body)),
        remainingAttempts=attempts,
        isComplete=False,
        output=None,
        errors=[],
    )


@pytest.mark.parametrize(("body", "attempts"), ATTEMPTS)
def test_post_retry_of_a_task_answers_the_task(api, body, attempts):
    make_task(make_group(id="g"), id="t", remaining_attempts=0, errors=["e"])

    is_task(
        is_json(api.post(f"{TASK}/retry", body)), remainingAttempts=attempts, errors=["e"], id="t"
    )


def test_post_retry_of_a_complete_task_changes_nothing(api):
    make_task(make_group(id="g"), id="t", is_complete=True)
    before = is_json(api.get(TASK))

    assert is_json(api.post(f"{TASK}/retry", {"remainingAttempts": 9})) == before


def test_a_task_that_executes_shows_it(api):
    make_task(make_group(id="g"), id="t")
    lease = claim_one()
    while_running = is_json(api.get(TASK))

    fail(lease, "boom")

    is_task(while_running, busyExecuting=True, remainingAttempts=5)
    is_task(is_json(api.get(TASK)), busyExecuting=False, remainingAttempts=4, errors=["boom"])


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("PUT", "", {"name": "x"}),
        ("POST", "/reset", {}),
        ("PUT", "", {"isPaused": True, "key": ""}),
    ],
)
def test_a_task_that_executes_is_not_changed(api, method, rest, body):
    make_task(make_group(id="g"), id="t")
    claim_one()
    before = is_json(api.get(TASK))

    is_text(api.send(method, f"{TASK}{rest}", body), 409, "task t is executing")
    assert is_json(api.get(TASK)) == before


def test_a_task_that_executes_can_be_paused(api):
    make_task(make_group(id="g"), id="t")
    claim_one()

    is_task(is_json(api.put(TASK, {"isPaused": True})), isPaused=True, busyExecuting=True)


def test_a_hold_of_the_workgroup_shows_as_a_later_run_after(api):
    make_task(make_group(id="g"), id="t", workgroup="wg")

    assert api.post("/api/v1/workgroup/wg/hold", {"seconds": 3600}).status == 200

    due = datetime.fromisoformat(is_json(api.get(TASK))["runAfter"])
    assert due - timezone.now() > timedelta(minutes=59)


@pytest.mark.parametrize("id_", ["caf\u00e9", "a/b", "a?b", "a#b", "a%b", "a\\b", "\x7f", "a b"])
@pytest.mark.parametrize("path", [GROUPS, TASKS])
def test_ids_that_no_path_could_name_are_refused(api, path, id_):
    make_group(id="g")

    said = api.post(path, {"id": id_})

    assert (said.status, said.type) == (400, TEXT)
    assert said.text.startswith("id must be")


@pytest.mark.parametrize("id_", ["a.b", "a-b", "A_b:c", "0" * 200])
def test_ids_with_dots_and_dashes_work(api, id_):
    make_group(id="g")

    is_task(is_json(api.post(TASKS, {"id": id_})), id=id_)
    is_task(is_json(api.get(f"{GROUP}/task/{id_}")), id=id_)

"""Who may call what: every route and method for every kind of caller, from one table."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from tasks import limits_and_holds
from tasks.access import tokens
from tasks.models import Attempt, Limit, RepeatableCall, Task, TaskGroup, Token, Workgroup
from tasks.urls import urlpatterns

from .api_client import (
    GROUP,
    GROUPS,
    JSON,
    PROBLEM,
    TASK,
    TASKS,
    TEXT,
    Api,
    AtRoot,
    everything_stored,
)
from .factories import claim_ids, make_group, make_task, wire

pytestmark = pytest.mark.django_db

METHODS = ("GET", "POST", "PUT", "DELETE")
OTHER_METHODS = ("PATCH", "TRACE")

OPEN = "open"  # nobody is asked who they are
KNOWN = "known"  # any valid token
READ, WRITE, OPERATE = "read", "write", "operate"

# What a token that may do everything, but in other groups only, gets.
SAME = "same"  # as everyone else: nothing of a group is shown
OWN = "own"  # its own groups only
UNKNOWN = "unknown"  # the answer for a group or task that is not there
REFUSED = "refused"  # 403: it is not its to see or do


@dataclass(frozen=True)
class Row:
    needs: str
    other_groups: str
    body: object = b""
    query: str = ""
    status: int = 200


# Every route by name, every method that it takes; all others are 405.
TABLE: dict[str, dict[str, Row]] = {
    "healthz": {"GET": Row(OPEN, SAME)},
    "ready": {"GET": Row(OPEN, SAME)},
    "login": {"POST": Row(OPEN, SAME, {"username": "x", "password": "y"}, status=401)},
    "logout": {"POST": Row(KNOWN, SAME, status=400)},
    "authcheck": {"GET": Row(KNOWN, SAME)},
    "stream-ticket": {"POST": Row(READ, SAME)},
    "groups": {
        "GET": Row(READ, OWN),
        "POST": Row(WRITE, REFUSED, {"id": "new"}),
    },
    "groups-now": {"GET": Row(READ, SAME, query="ids=g")},
    "group": {
        "GET": Row(READ, UNKNOWN),
        "PUT": Row(WRITE, UNKNOWN, {"name": "x"}),
        "DELETE": Row(WRITE, UNKNOWN),
    },
    "group-progress": {"GET": Row(READ, UNKNOWN)},
    "group-reset": {"POST": Row(OPERATE, UNKNOWN)},
    "group-retry": {"POST": Row(OPERATE, UNKNOWN)},
    "group-pause": {"POST": Row(OPERATE, UNKNOWN)},
    "group-resume": {"POST": Row(OPERATE, UNKNOWN)},
    "group-cancel": {"POST": Row(OPERATE, UNKNOWN)},
    "group-stream": {"GET": Row(OPEN, SAME, status=400)},
    "tasks": {
        "GET": Row(READ, UNKNOWN),
        "POST": Row(WRITE, UNKNOWN, {"id": "new"}),
    },
    "tasks-bulk": {"POST": Row(WRITE, UNKNOWN, {"tasks": [{"id": "new"}]})},
    "tasks-pause": {"POST": Row(OPERATE, UNKNOWN, query="all=1")},
    "tasks-resume": {"POST": Row(OPERATE, UNKNOWN, query="all=1")},
    "tasks-retry": {"POST": Row(OPERATE, UNKNOWN, query="all=1")},
    "tasks-reset": {"POST": Row(OPERATE, UNKNOWN, query="all=1")},
    "tasks-delete": {"POST": Row(WRITE, UNKNOWN, query="all=1")},
    "task": {
        "GET": Row(READ, UNKNOWN),
        "PUT": Row(WRITE, UNKNOWN, {"name": "x"}),
        "DELETE": Row(WRITE, UNKNOWN),
    },
    "task-reset": {"POST": Row(OPERATE, UNKNOWN)},
    "task-retry": {"POST": Row(OPERATE, UNKNOWN)},
    "task-rerun": {"POST": Row(OPERATE, UNKNOWN)},
    "task-by-id": {"GET": Row(READ, UNKNOWN)},
    "task-attempts": {"GET": Row(READ, UNKNOWN)},
    "task-attempt": {"GET": Row(READ, UNKNOWN)},
    "task-history": {"GET": Row(READ, UNKNOWN)},
    "task-children": {"GET": Row(READ, UNKNOWN)},
    "task-parents": {"GET": Row(READ, UNKNOWN)},
    "task-explain": {"GET": Row(READ, UNKNOWN)},
    "task-call": {"GET": Row(READ, UNKNOWN)},
    "task-around": {"GET": Row(READ, UNKNOWN)},
    "group-graph": {"GET": Row(READ, UNKNOWN)},
    "graph-bucket": {"GET": Row(READ, UNKNOWN)},
    "group-timeline": {"GET": Row(READ, UNKNOWN)},
    "group-history": {"GET": Row(READ, UNKNOWN)},
    "failures": {"GET": Row(READ, SAME)},
    "failure-retry": {"POST": Row(OPERATE, SAME)},
    "overview": {"GET": Row(READ, SAME)},
    "fleet": {"GET": Row(READ, REFUSED)},
    "workers": {"GET": Row(READ, REFUSED)},
    "worker": {"GET": Row(READ, REFUSED), "PUT": Row(OPERATE, REFUSED, {"maxConcurrency": 3})},
    "workgroups": {"GET": Row(READ, REFUSED)},
    "workgroup-now": {"GET": Row(READ, REFUSED)},
    "workgroup-hold": {"POST": Row(OPERATE, REFUSED, {"seconds": 5})},
    "workgroup-open": {"POST": Row(OPERATE, REFUSED)},
    "openapi": {"GET": Row(OPEN, SAME)},
    "docs": {"GET": Row(OPEN, SAME)},
    "unknown": {"GET": Row(OPEN, SAME, status=404)},
}
# What a refusal may write: a token's use, and that somebody was refused.
NOT_COUNTED = {"Token": 0, "AuditEntry": 0}
# Of the open routes one leaves a trace.
FAILED_LOGIN = {name: {"AuditEntry": 0} if name == "login" else {} for name in TABLE}
ARGUMENTS = {"gid": "g", "tid": "t", "name": "w", "token": "-", "key": "k", "number": "1"}
ALL = [
    pytest.param(name, method, id=f"{method}-{name}")
    for name, rows in TABLE.items()
    for method in rows
]
OF_GROUPS = [
    pytest.param(name, method, id=f"{method}-{name}")
    for name, rows in TABLE.items()
    for method, row in rows.items()
    if row.other_groups == UNKNOWN
]


@pytest.fixture(autouse=True)
def site(settings):
    settings.ROOT_URLCONF = AtRoot


@pytest.fixture(autouse=True)
def stored(site):
    """A group with a task, a child, an attempt and a held workgroup; another group as well."""
    make_group(id="g", name="G", tasks=[wire(id="t"), wire(id="child", parent_ids=["t"])])
    Task.objects.filter(pk="t").update(attempt=1)
    Attempt.objects.create(
        task_id="t", number=1, worker="w", outcome="failed", started_at=Now(), finished_at=Now()
    )
    make_group(id="mine", name="mine", tasks=[wire(id="my-task")])
    limits_and_holds.limit_worker("w", 5)
    Api(token("admin")).post("/api/v1/workgroup/w/hold", {"seconds": 60})


def token(*scopes, **options):
    return tokens.issue(name="test", scopes=scopes, **options)[1]


def url(name, **changed):
    route = next(route for route in urlpatterns if route.name == name)
    words = route.pattern.converters
    path = reverse(f"crew:{name}", kwargs={word: (ARGUMENTS | changed)[word] for word in words})
    return f"{path}v1/nothing" if name == "unknown" else path


def call(caller, name, method, **changed):
    row = TABLE[name].get(method, Row(OPEN, SAME))
    return caller.send(method, f"{url(name, **changed)}?{row.query}", row.body)


def is_unauthorized(said):
    assert (said.status, said.type, said.body) == (401, JSON, b'{"message":"Unauthorized"}\n')


def test_every_route_has_a_row():
    assert [route.name for route in urlpatterns] == list(TABLE)
    assert {method for rows in TABLE.values() for method in rows} <= set(METHODS)


@pytest.mark.parametrize("name", TABLE)
def test_a_method_without_a_row_is_not_allowed_to_anybody(name):
    for caller in (Api(), Api("wrong"), Api(token("admin"))):
        for method in {*METHODS, *OTHER_METHODS} - TABLE[name].keys():
            said = call(caller, name, method)
            assert (said.status, said.type) == (405, JSON), (name, method)
            assert said.headers["Allow"] == allowed(name)


def allowed(name):
    head = ["HEAD"] if "GET" in TABLE[name] else []
    return ", ".join([*TABLE[name], *head, "OPTIONS"])


@pytest.mark.parametrize("name", TABLE)
def test_every_route_tells_its_methods_and_has_a_head_where_it_has_a_get(name):
    before = everything_stored()

    for caller in (Api(), Api(token("admin"))):
        told = call(caller, name, "OPTIONS")
        if name == "unknown":
            assert told.status == 404
        else:
            assert (told.status, told.headers["Allow"], told.body) == (204, allowed(name), b"")
        head = call(caller, name, "HEAD")
        if "GET" in TABLE[name]:
            whole = call(caller, name, "GET")
            assert (head.status, head.body) == (whole.status, b"")
            names = ("Content-Type", "ETag", "Cache-Control", "Allow")
            assert [head.headers.get(n) for n in names] == [whole.headers.get(n) for n in names]
            assert int(head.headers["Content-Length"]) > 0 or not whole.body  # with a clock in it
        else:
            assert head.status == 405
    assert everything_stored() | NOT_COUNTED == before | NOT_COUNTED


@pytest.mark.parametrize(("name", "method"), ALL)
def test_without_a_token_only_what_is_open(name, method):
    before = everything_stored()

    for secret in ("", "wrong", "crew_" + "x" * 43):
        said = call(Api(secret), name, method)

        if TABLE[name][method].needs == OPEN:
            assert said.status == TABLE[name][method].status
        else:
            is_unauthorized(said)
            assert said.headers["WWW-Authenticate"] == "Bearer"
    assert everything_stored() | FAILED_LOGIN[name] == before | FAILED_LOGIN[name]


@pytest.mark.parametrize(("name", "method"), ALL)
def test_a_token_may_do_what_its_scope_says(name, method):
    row = TABLE[name][method]
    scopes = ("read", "write", "operate", "admin")
    allowed = scopes if row.needs in (OPEN, KNOWN) else (row.needs, "admin")
    refused = [Api(token(scope)) for scope in scopes if scope not in allowed]
    before = everything_stored()

    for caller in refused:
        said = call(caller, name, method)

        assert (said.status, said.why) == (403, f"needs scope {row.needs}")
        assert said.type in (TEXT, PROBLEM)
    assert everything_stored() | NOT_COUNTED == before | NOT_COUNTED
    for scope in allowed:
        with transaction.atomic():
            said = call(Api(token(scope)), name, method)
            transaction.set_rollback(True)

        assert said.status == row.status, said.text


@pytest.mark.parametrize(("name", "method"), ALL)
def test_a_token_for_other_groups(name, method):
    row = TABLE[name][method]
    caller = Api(token("admin", group_ids=["mine"]))
    before = everything_stored()

    said = call(caller, name, method)

    assert everything_stored() | NOT_COUNTED == before | NOT_COUNTED
    if row.other_groups == REFUSED:
        assert (said.status, said.why) == (403, "this token is for some groups only")
    elif row.other_groups == OWN:
        assert (said.status, said.json["count"]) == (200, 1)
        assert [group["id"] for group in said.json["taskGroups"]] == ["mine"]
    elif row.other_groups == SAME:
        assert said.status == row.status


@pytest.mark.parametrize(("name", "method"), OF_GROUPS)
def test_what_is_in_another_group_looks_as_if_it_were_not_there(name, method):
    limited = Api(token("admin", group_ids=["mine"]))
    foreign = call(limited, name, method)
    missing = {"gid": "nowhere"} if "gid" in url(name) or "/task_group/" in url(name) else {}
    unknown = call(Api(token("admin")), name, method, **(missing or {"tid": "nothing"}))

    assert (foreign.status, foreign.type) == (unknown.status, unknown.type)
    assert foreign.body == unknown.body
    quiet = name == "group-progress" or (name, method) == ("tasks", "GET")
    assert foreign.status == (200 if quiet else 404)


@pytest.mark.parametrize(("name", "method"), OF_GROUPS)
def test_a_token_for_the_group_works_in_it(name, method):
    caller = Api(token("admin", group_ids=["g"]))

    assert call(caller, name, method).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_foreign_task_is_not_reached_through_an_own_group(method):
    caller = Api(token("admin", group_ids=["mine"]))

    body = {"name": "x"} if method == "PUT" else b""
    said = caller.send(method, "/api/v1/task_group/mine/task/t", body)

    assert (said.status, said.text) == (404, "task not found")
    assert Task.objects.get(pk="t").name == ""


def test_an_id_in_a_foreign_group_is_taken_and_no_more_is_shown():
    limited, free = Api(token("admin", group_ids=["mine"])), Api(token("admin"))
    path = "/api/v1/task_group/mine/tasks"
    before = everything_stored()["Task"]

    foreign, visible = limited.post(path, {"id": "t"}), free.post(path, {"id": "t"})

    assert (foreign.status, foreign.body) == (visible.status, visible.body)
    assert (foreign.status, foreign.text) == (409, "a task with the id t exists already")
    bulk = limited.post(f"{path}/bulk", {"tasks": [{"id": "t"}]})
    assert (bulk.status, bulk.why) == (409, "a task with the id t exists already")
    assert everything_stored()["Task"] == before


def test_a_foreign_parent_is_as_unknown_as_any():
    limited = Api(token("admin", group_ids=["mine"]))
    path = "/api/v1/task_group/mine/tasks"

    foreign = limited.post(path, {"id": "n", "parentIds": ["t"]})
    unknown = limited.post(path, {"id": "n", "parentIds": ["?"]})

    assert foreign.status == unknown.status == 400
    assert foreign.text == unknown.text.replace("?", "t")


FOREIGN = "foreign-secret"
WALKED = [
    (name, method)
    for name, rows in TABLE.items()
    for method, row in rows.items()
    if row.other_groups != REFUSED and name not in ("openapi", "docs")
]


@pytest.fixture
def side_by_side():
    """Two groups with one worker and workgroup, and whatever gate one can be to the other."""
    shared = {"worker": "w", "workgroup": "w"}
    make_group(
        id=f"{FOREIGN}-group",
        name=FOREIGN,
        tasks=[wire(id=f"{FOREIGN}-{n}", name=FOREIGN, input=FOREIGN, **shared) for n in range(3)],
    )
    some = Task.objects.filter(pk__in=[f"{FOREIGN}-0", f"{FOREIGN}-1"])
    some.update(leased_by="s", leased_at=Now(), attempt=1)
    Task.objects.filter(pk=f"{FOREIGN}-2").update(remaining_attempts=0, errors=[FOREIGN])
    Attempt.objects.create(
        task_id=f"{FOREIGN}-2",
        number=1,
        worker="w",
        outcome="failed",
        error=FOREIGN,
        started_at=Now(),
        finished_at=Now(),
    )
    Task.objects.filter(pk__in=["t", "child"]).update(**shared)
    Limit.objects.create(
        kind="worker",
        name="w",
        fails=20,
        rests=1,
        held_since=Now(),
        held_until=Now() + timedelta(hours=1),
        held_why=f"HTTP 500: {FOREIGN}",
    )
    limits_and_holds.limit_worker("w", 1)
    Workgroup.objects.filter(name="w").update(held_by=f"{FOREIGN}-1")
    everyone = Api(token("read")).get("/api/v1/task/t/explain").text
    assert everyone.count(FOREIGN) >= 4, everyone  # by whom it is held, who fills it, why it rests


def test_s9_no_route_names_anything_of_another_group(side_by_side):
    limited = Api(token("admin", group_ids=["g"]))

    for name, method in WALKED:
        for tid in ("t", "child"):
            with transaction.atomic():
                said = call(limited, name, method, tid=tid)
                transaction.set_rollback(True)

            assert FOREIGN not in said.text, (name, method, said.text)
            assert FOREIGN not in str(said.headers)


def test_bulk_verbs_do_not_reach_ids_of_other_groups():
    limited = Api(token("admin", group_ids=["mine"]))

    said = limited.post("/api/v1/task_group/mine/tasks/delete", {"ids": ["my-task", "t"]})

    assert said.status == 400
    assert Task.objects.count() == 3


# --- S8: tokens ---


def test_revoked_expired_and_orphaned_tokens_open_nothing():
    user = User.objects.create_superuser("u")
    revoked = tokens.issue(name="r", scopes=["admin"])
    tokens.revoke(revoked[0])
    expired = tokens.issue(name="e", scopes=["admin"], lifetime=timedelta(days=1))
    Token.objects.filter(pk=expired[0].pk).update(expires_at=Now())
    disabled = tokens.issue(name="d", scopes=["admin"], user=user)
    User.objects.update(is_active=False)

    for _, secret in (revoked, expired, disabled):
        is_unauthorized(Api(secret).get(GROUPS))


def test_a_stolen_row_is_no_token():
    secret = token("admin")
    for row in Token.objects.all():
        for value in (row.digest, row.prefix, f"crew_{row.digest}"):
            is_unauthorized(Api(value).get(GROUPS))
        assert secret not in str(vars(row))


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer   ", "bearer {}", "Token {}", "Basic {}", "{} {}"]
)
def test_headers_that_hold_no_token(header):
    secret = token("admin")

    is_unauthorized(Api().get(GROUPS, Authorization=header.format(secret, secret)))


def test_the_raw_token_is_taken_and_the_query_is_not():
    secret = token("read")

    assert Api().get(GROUPS, Authorization=secret).status == 200
    is_unauthorized(Api().get(f"{GROUPS}?token={secret}&access_token={secret}"))


# --- S12: sessions ---


@pytest.fixture
def browser():
    user = User.objects.create_superuser("boss")
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(user)
    return Api(client=client)


UNSAFE = [param for param in ALL if param.values[1] != "GET"]


@pytest.mark.parametrize(("name", "method"), UNSAFE)
def test_a_session_without_a_csrf_token_changes_nothing(browser, name, method):
    row = TABLE[name][method]
    before = everything_stored()

    said = call(browser, name, method)

    if row.needs == OPEN:
        assert said.status == row.status
    else:
        assert (said.status, said.why.split(":")[0]) == (403, "CSRF Failed")
    assert everything_stored() | FAILED_LOGIN[name] == before | FAILED_LOGIN[name]


@pytest.mark.parametrize(("name", "method"), UNSAFE)
def test_a_session_with_a_csrf_token_works(browser, name, method):
    browser.client.cookies["csrftoken"] = secret = "x" * 32
    row = TABLE[name][method]

    said = browser.send(method, f"{url(name)}?{row.query}", row.body, X_CSRFToken=secret)

    assert said.status == row.status, said.text


def test_a_csrf_token_in_a_form_is_not_read(browser):
    browser.client.cookies["csrftoken"] = secret = "x" * 32
    form = f"csrfmiddlewaretoken={secret}&name=x".encode()

    said = browser.post(GROUPS, form, kind="application/x-www-form-urlencoded")

    assert said.status == 403
    assert TaskGroup.objects.count() == 2


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ((), set()),
        (("view_task",), {"read"}),
        (("view_task", "change_task"), {"read", "operate"}),
        (("add_task", "change_task", "delete_task"), {"write", "operate"}),
    ],
)
def test_a_user_may_what_the_permissions_say(permissions, allowed):
    user = User.objects.create_user("u")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client(raise_request_exception=False)
    client.force_login(user)
    caller = Api(client=client)

    tried = {
        "read": caller.get(GROUP),
        "write": caller.put(GROUP, {"name": "x"}),
        "operate": caller.post(f"{GROUP}/pause"),
    }

    assert {scope for scope, said in tried.items() if said.status == 200} == allowed
    assert all(tried[scope].status == 403 for scope in tried.keys() - allowed)


@pytest.mark.parametrize(("name", "method"), [param for param in ALL if param.values[1] == "GET"])
def test_no_get_changes_anything(settings, name, method):
    settings.CREW_AUTHENTICATION = []
    before = everything_stored()

    call(Api(), name, method)

    assert everything_stored() == before


# --- S19: what only the server writes ---

SERVERS = {
    "attempt": 99,
    "leasedBy": "me",
    "leased_by": "me",
    "leasedAt": "2026-11-24T06:18:00Z",
    "leased_at": "2026-11-24T06:18:00Z",
    "busyExecuting": True,
    "taskGroupId": "mine",
    "group": "mine",
    "group_id": "mine",
    "completedAt": "2026-11-24T06:18:00Z",
    "completed_at": "2026-11-24T06:18:00Z",
    "pendingParents": 7,
    "pending_parents": 7,
    "mergedInto": "t",
    "merged_into": "t",
    "createdBy": "t",
    "created_by": "t",
    "heldCount": 5,
    "held_count": 5,
    "rescues": 5,
    "is_complete": True,
    "parent_ids": ["child"],
    "__class__": "x",
    "pk": "x",
}


@pytest.mark.parametrize("field", [*SERVERS, "id", "createdAt"])
def test_a_put_never_writes_what_is_the_servers(field):
    value = (SERVERS | {"id": "x", "createdAt": "2020-01-01T00:00:00Z"})[field]
    before = Task.objects.filter(pk="t").values().get()

    said = Api(token("admin")).put(TASK, {field: value, "name": "new"})

    is_told = field == "parent_ids"  # which only somebody writes who means parents
    assert said.status == (400 if is_told else 200)
    changed = {} if is_told else {"name": "new"}
    assert Task.objects.filter(pk="t").values().get() == before | changed


@pytest.mark.parametrize("field", SERVERS)
def test_a_post_never_writes_what_is_the_servers(field):
    caller = Api(token("admin"))
    caller.post(TASKS, {"id": "plain"})
    one = caller.post(TASKS, {"id": "odd", field: SERVERS[field]})
    many = caller.post(f"{TASKS}/bulk", {"tasks": [{"id": "bulk", field: SERVERS[field]}]})

    assert one.status == (400 if field == "parent_ids" else 200)
    assert many.status == (200 if field in ("busyExecuting", "taskGroupId") else 400)
    stored = {task["id"]: task for task in Task.objects.values()}
    assert ("odd" in stored, "bulk" in stored) == (one.status == 200, many.status == 200)
    plain = stored["plain"]
    own = ("id", "created_at", "run_after")
    for other in [stored[id_] for id_ in ("odd", "bulk") if id_ in stored]:
        assert {name: value for name, value in other.items() if name not in own} == {
            name: value for name, value in plain.items() if name not in own
        }


@pytest.mark.parametrize(
    "field", ["taskCount", "task_count", "count", "isPaused", "createdAt", "id"]
)
def test_a_put_of_a_group_writes_its_name_only(field):
    before = TaskGroup.objects.filter(pk="g").values().get()

    Api(token("admin")).put(GROUP, {field: 9, "name": "new"})

    assert TaskGroup.objects.filter(pk="g").values().get() == before | {"name": "new"}


def test_a_task_that_executes_keeps_its_lease_through_a_put():
    make_task(make_group(id="busy"), id="b", worker="lone")
    claim_ids()
    before = Task.objects.filter(pk="b").values().get()

    Api(token("admin")).put("/api/v1/task_group/busy/task/b", {"isPaused": True, "leasedBy": None})

    assert Task.objects.filter(pk="b").values().get() == before | {"is_paused": True}


def test_another_callers_key_is_another_call():
    first, second = Api(token("admin")), Api(token("admin"))

    calls = (first, second, first, second)
    said = [caller.post(TASKS, {}, Idempotency_Key="k") for caller in calls]

    assert [each.status for each in said] == [200, 200, 200, 200]
    assert [each.json["id"] for each in said[2:]] == [each.json["id"] for each in said[:2]]
    assert said[0].json["id"] != said[1].json["id"]
    assert RepeatableCall.objects.count() == 2


# --- S25, S21: headers ---


@pytest.mark.parametrize(("name", "method"), ALL)
@pytest.mark.parametrize("secret", ["", "admin"])
def test_every_answer_says_how_it_may_be_kept(name, method, secret):
    said = call(Api(secret and token(secret)), name, method)

    assert said.headers["X-Content-Type-Options"] == "nosniff"
    assert (
        "no-store" in said.headers["Cache-Control"] or "no-cache" in said.headers["Cache-Control"]
    )
    assert "Authorization" in said.headers["Vary"]


@pytest.mark.parametrize("wrong", [None, "", (name for name in ())])
def test_a_list_of_authentication_that_is_none_lets_nobody_in(settings, client, wrong):
    settings.CREW_AUTHENTICATION = wrong
    client.raise_request_exception = False

    assert client.get("/api/v1/task_groups").status_code == 500

"""The audit history: every act of a person, with who and when, whatever face it came by (S26)."""

import json
import logging
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks import audit, control, create, limits_and_holds
from tasks.access import tokens
from tasks.models import AuditEntry, Task, TaskGroup, Token
from tasks.models.audit import VERBS
from tasks.upkeep import expired_rows

from .api_client import Api

pytestmark = pytest.mark.django_db

GROUP = "/api/v1/task_group/g"
SECRET = "a payload that nobody should read"


@pytest.fixture(autouse=True)
def nobody_was_denied(monkeypatch):
    monkeypatch.setattr(audit, "_denied", {})


@pytest.fixture
def api() -> Api:
    create.create_group(
        id="g",
        name="G",
        tasks=[{"id": "t", "worker": "w"}, {"id": "u", "parentIds": ["t"]}, {"id": "v"}],
    )
    _, secret = tokens.issue(name="nightly", scopes=["admin"])
    return Api(secret)


@pytest.fixture
def admin(admin_client: Client, api: Api) -> Client:
    """Ann's own entries only: not that she logged in."""
    AuditEntry.objects.all().delete()
    return admin_client


def entries() -> list[dict[str, Any]]:
    """What was recorded, oldest first, in short; never a word that no filter knows."""
    rows = AuditEntry.objects.order_by("pk")
    assert {row.verb for row in rows} <= set(VERBS)
    return [
        {name: getattr(row, name) for name in ("verb", "kind", "target", "group_id", "count")}
        | ({"detail": row.detail} if row.detail else {})
        for row in rows
    ]


def entry(verb: str, kind: str, target: str = "", count: int = 1, **detail: Any) -> dict[str, Any]:
    group_id = "g" if kind in ("group", "task") else ""
    result = {"verb": verb, "kind": kind, "target": target, "group_id": group_id, "count": count}
    return result | ({"detail": detail} if detail else {})


# --- By the API --------------------------------------------------------------------------------

RETRY = {"remainingAttempts": 2}
CALLS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("POST", "/pause", b"", entry("pause", "group", "g", 3)),
    ("POST", "/resume", b"", entry("resume", "group", "g", 0)),
    ("POST", "/retry", RETRY, entry("retry", "group", "g", 3, **RETRY)),
    ("POST", "/reset", RETRY, entry("reset", "group", "g", 3, **RETRY, deleted=0)),
    ("POST", "/cancel", b"", entry("cancel", "group", "g", 3)),
    ("PUT", "", {"name": "x"}, entry("edit", "group", "g", fields=["name"])),
    ("DELETE", "", b"", entry("delete", "group", "g", 3)),
    (
        "PUT",
        "/task/t",
        {"input": SECRET, "parentIds": []},
        entry("edit", "task", "t", fields=["input", "parentIds"]),
    ),
    ("PUT", "/task/t", {"isPaused": True}, entry("pause", "task", "t")),
    ("PUT", "/task/t", {"isPaused": False}, entry("resume", "task", "t")),
    ("POST", "/task/t/retry", RETRY, entry("retry", "task", "t", **RETRY)),
    ("POST", "/task/t/reset", RETRY, entry("reset", "task", "t", **RETRY)),
    ("DELETE", "/task/t", b"", entry("delete", "task", "t", 2, children="cascade")),
    ("POST", "/tasks/pause?all=1", b"", entry("pause", "task", "", 3)),
    ("POST", "/tasks/pause?state=blocked", b"", entry("pause", "task", "u", state="blocked")),
    (
        "POST",
        "/tasks/retry?worker=w",
        RETRY,
        entry("retry", "task", "t", worker="w", **RETRY),
    ),
    (
        "POST",
        "/tasks/delete?children=detach",
        {"ids": ["t"]},
        entry("delete", "task", "t", children="detach"),
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [pytest.param(*call, id=f"{call[0]} {call[1]} {number}") for number, call in enumerate(CALLS)],
)
def test_what_is_done_by_the_api_is_recorded(api, method, path, body, expected):
    said = api.send(method, GROUP + path, body)

    assert said.status == 200
    assert entries() == [expected]


def test_an_entry_says_who_from_where_and_when(api):
    token = Token.objects.get()

    api.post(f"{GROUP}/pause", REMOTE_ADDR="")

    row = AuditEntry.objects.annotate(now=Now(), age=Now() - F("at")).get()
    assert (row.who, row.user) == (f"token:nightly ({token.prefix}…)", None)
    assert row.address == "127.0.0.1"
    assert 0 <= row.age.total_seconds() < 60


def test_behind_a_proxy_the_address_is_the_clients(api, settings):
    settings.CREW_TRUSTED_PROXIES = 1

    api.post(f"{GROUP}/pause", X_Forwarded_For="10.0.0.1, 192.0.2.7")

    assert AuditEntry.objects.get().address == "192.0.2.7"


def test_workers_and_workgroups_have_entries_without_a_group(api):
    api.put("/api/v1/worker/w", {"maxConcurrency": 3})
    api.post("/api/v1/workgroup/shop/hold", {"seconds": 5})
    api.post("/api/v1/workgroup/shop/open")

    assert entries() == [
        entry("limit", "worker", "w", maxConcurrency=3),
        entry("hold", "workgroup", "shop", seconds=5),
        entry("open", "workgroup", "shop"),
    ]


def test_a_retry_of_failures_is_recorded_in_each_group(api):
    create.create_group(id="h", tasks=[{"id": "x", "worker": "w"}])
    Task.objects.filter(pk__in=["t", "x"]).update(remaining_attempts=0)
    (failure,) = api.get("/api/v1/failures").json["found"]

    api.post(f"/api/v1/failure/{failure['key']}/retry")

    rows = AuditEntry.objects.order_by("group_id")
    assert list(rows.values_list("verb", "group_id", "target")) == [
        ("retry", "g", "t"),
        ("retry", "h", "x"),
    ]


def test_creating_and_looking_is_not_recorded(api):
    api.post("/api/v1/task_groups", {"id": "new", "tasks": [{"id": "n"}]})
    api.post(f"{GROUP}/tasks", {"id": "one"})
    api.post(f"{GROUP}/tasks/bulk", {"tasks": [{"id": "two"}]})
    for path in ("", "/history", "/tasks", "/graph", "/progress"):
        assert api.get(GROUP + path).status == 200

    assert entries() == []


def test_a_create_pays_nothing_for_the_history(api):
    with CaptureQueriesContext(connection) as asked:
        api.post(f"{GROUP}/tasks", {"id": "one"})

    assert asked.captured_queries
    assert "crew_auditentry" not in str(asked.captured_queries)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks/pause?all=1&dryRun=1", b""),
        ("/tasks/pause?worker=nobody", b""),
        ("/tasks/resume", {"ids": ["t", "v"]}),
        ("/task/nothing/retry", b""),
        ("/task/t/retry", {"remainingAttempts": -1}),
        ("/tasks/reset", {"ids": ["t", "nothing"]}),
    ],
)
def test_what_was_not_done_is_not_recorded(api, path, body):
    api.post(GROUP + path, body)

    assert entries() == []


def test_a_refused_reset_leaves_no_entry(api):
    Task.objects.filter(pk="t").update(leased_by="s", leased_at=Now())

    said = api.post(f"{GROUP}/task/t/reset")

    assert said.status == 409
    assert entries() == []


def test_an_entry_that_cannot_be_written_fails_the_act(api, monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("no room left")

    monkeypatch.setattr(AuditEntry, "save", broken)

    said = api.post(f"{GROUP}/pause")

    assert said.status == 500
    assert TaskGroup.objects.get(pk="g").is_paused is False


def test_one_callers_name_does_not_stay_for_the_next(api):
    api.post(f"{GROUP}/pause")

    control.resume_group("g")

    assert [row["verb"] for row in entries()] == ["pause"]


def test_without_authentication_it_was_anyone(api, settings):
    settings.CREW_AUTHENTICATION = []

    Api().post(f"{GROUP}/pause")

    assert AuditEntry.objects.get().who == "anyone"


# --- In the admin ------------------------------------------------------------------------------


def page(model: str, name: str, *args: str) -> str:
    return reverse(f"admin:crew_{model}_{name}", args=args)


def act(client: Client, model: str, action: str, *ids: str) -> None:
    data = {"action": action, ACTION_CHECKBOX_NAME: list(ids), "post": "yes", "confirmed": "1"}
    assert client.post(page(model, "changelist"), data).status_code == 302


def test_what_is_done_in_the_admin_is_recorded_as_the_persons(admin, admin_user):
    act(admin, "taskgroup", "pause", "g")

    row = AuditEntry.objects.get()
    assert (row.who, row.user, row.verb, row.target) == ("user:admin", admin_user, "pause", "g")


def test_actions_on_tasks_name_them_all(admin):
    act(admin, "task", "retry", "t", "v")

    row = AuditEntry.objects.get()
    assert (row.kind, row.target, row.group_id, row.count) == ("task", "", "g", 2)
    assert row.ids == "\nt\nv\n"


def test_creating_and_deleting_in_the_admin(admin):
    admin.post(page("taskgroup", "add"), {"new_id": "made", "name": "x"})
    act(admin, "task", "delete_selected", "v")
    act(admin, "worker", "delete_selected", "w")
    admin.post(page("taskgroup", "delete", "g"), {"post": "yes"})

    assert [(row["verb"], row["kind"], row["target"]) for row in entries()] == [
        ("create", "group", "made"),
        ("delete", "task", "v"),
        ("delete", "worker", "w"),
        ("delete", "group", "g"),
    ]


def test_tokens_made_renamed_revoked_and_deleted(admin):
    admin.post(page("token", "add"), {"name": "mine", "scopes": ["read"]})
    token = Token.objects.get(name="mine")
    admin.post(page("token", "change", str(token.pk)), {"name": "ours"})
    act(admin, "token", "revoke", str(token.pk))
    act(admin, "token", "delete_selected", str(token.pk))

    result = [(row["verb"], row["kind"], row["target"][:4]) for row in entries()]
    assert result == [
        ("create", "token", "mine"),
        ("edit", "token", "ours"),
        ("revoke", "token", "ours"),
        ("delete", "token", "ours"),
    ]
    assert entries()[0]["detail"] == {"scopes": ["read"]}


def test_the_history_can_be_looked_at_and_not_changed(admin):
    act(admin, "task", "pause", "t", "u")
    row = AuditEntry.objects.get()

    listed = admin.get(page("auditentry", "changelist"), {"q": "g", "verb": "pause"})
    shown = admin.get(page("auditentry", "change", str(row.pk)))

    assert "user:admin" in listed.content.decode()
    assert "t, u" in shown.content.decode()
    assert admin.get(page("auditentry", "add")).status_code == 403
    assert admin.post(page("auditentry", "delete", str(row.pk)), {"post": "yes"}).status_code == 403
    assert admin.post(page("auditentry", "change", str(row.pk)), {"who": "me"}).status_code == 403


def test_what_goes_by_the_search_is_the_whole_id(admin):
    act(admin, "taskgroup", "pause", "g")

    found = [
        admin.get(page("auditentry", "changelist"), {"q": word}).context["cl"].result_count
        for word in ("g", "user:admin", "user")
    ]

    assert found == [1, 1, 0]


# --- By commands and by code -------------------------------------------------------------------


def test_commands_that_act_are_recorded_with_the_machines_user(db):
    call_command("crewtoken", "ci", scope=["read"], stdout=StringIO(), stderr=StringIO())
    call_command("crewtoken", revoke=Token.objects.get().prefix, stdout=StringIO())
    call_command("crewtoken", listed=True, stdout=StringIO())

    assert [(row["verb"], row["kind"]) for row in entries()] == [
        ("create", "token"),
        ("revoke", "token"),
    ]
    assert AuditEntry.objects.filter(who__startswith="shell", address="").count() == 2


def test_a_repair_is_recorded(api):
    TaskGroup.objects.update(task_count=7)

    call_command("crewcheck", repair=True, stdout=StringIO())

    assert entries() == [
        {"verb": "repair", "kind": "", "target": "", "group_id": "", "count": 1}
        | {"detail": {"rule": "task_count", "count": 1}}
    ]


def test_code_without_a_name_leaves_no_entry_and_code_with_one_does(api):
    control.pause_group("g")
    with audit.by("nightly job"):
        control.resume_group("g")
        limits_and_holds.limit_worker("w", 2)

    assert [row.who for row in AuditEntry.objects.all()] == ["nightly job"] * 2


def test_a_user_who_is_no_row_of_ours_is_only_named(api):
    class Stranger:
        pk = 5

    with audit.by("user:5", user=Stranger()):
        control.pause_group("g")

    assert AuditEntry.objects.get().user is None


def test_a_user_who_goes_leaves_their_entries(api):
    user = User.objects.create_user("ann")
    with audit.by("user:ann", user=user):
        control.pause_group("g")

    user.delete()

    row = AuditEntry.objects.get()
    assert (row.who, row.user) == ("user:ann", None)


# --- The line in the log -----------------------------------------------------------------------


def lines(caplog: Any) -> list[tuple[str, str]]:
    result = [record for record in caplog.records if record.name == "crew.audit"]
    return [(record.levelname, record.getMessage()) for record in result]


def test_each_act_is_a_line_once_it_is_committed(api, caplog, django_capture_on_commit_callbacks):
    caplog.set_level(logging.INFO, "crew.audit")

    to_be_committed = django_capture_on_commit_callbacks(execute=True)

    with to_be_committed, audit.by("user:ann", address="192.0.2.7"):
        control.retry_tasks("g", ["t"])
        assert lines(caplog) == []

    line = "user:ann from 192.0.2.7: retry task t in group g, count 1, {'remainingAttempts': 5}"
    assert lines(caplog) == [("INFO", line)]


@pytest.mark.parametrize("name", ["a\r\nroot from 10.0.0.1: delete group g", "\x1b[31m", "\u2028"])
def test_a_name_cannot_forge_a_line(caplog, name, django_capture_on_commit_callbacks):
    caplog.set_level(logging.INFO, "crew.audit")

    with audit.by(f"token:{name}"), django_capture_on_commit_callbacks(execute=True):
        audit.record("hold", audit.Kind.WORKGROUP, name)

    ((_, line),) = lines(caplog)
    assert line.isprintable()
    assert len(line.splitlines()) == 1


# --- Logins and denials ------------------------------------------------------------------------


def test_logins_and_failures_are_recorded(settings):
    user = User.objects.create_user("ann", password="a good password")

    Api().post("/login", {"username": "ann", "password": "a good password"})
    Api().post("/login", {"username": "a\0nn\ud83d", "password": "wrong"})
    Api().post("/login", {"username": "ann", "password": "wrong"})

    rows = AuditEntry.objects.order_by("pk").values_list("verb", "who", "user", "target", "address")
    assert list(rows) == [
        ("login", "user:ann", user.pk, "ann", "127.0.0.1"),
        ("login failed", "unknown", None, "ann", "127.0.0.1"),
    ]
    assert "wrong" not in json.dumps(list(AuditEntry.objects.values("detail", "target")))


def test_a_logout_is_recorded(db):
    user = User.objects.create_user("ann")
    secret = tokens.login_token(user)

    Api(secret).post("/logout")

    row = AuditEntry.objects.get()
    assert (row.verb, row.kind, row.who) == ("logout", "token", "user:ann")


def test_a_flood_of_refused_calls_is_one_row_and_a_line_each(api, caplog):
    _, secret = tokens.issue(name="reader", scopes=["read"])
    reader = Api(secret)

    for _ in range(5):
        assert reader.post(f"{GROUP}/pause").status == 403

    row = AuditEntry.objects.get()
    assert (row.verb, row.who[:12]) == ("denied", "token:reader")
    asked = {"method": "POST", "path": f"{GROUP}/pause", "why": "needs scope operate"}
    assert row.detail == asked
    assert [level for level, _ in lines(caplog)] == ["WARNING"] * 5


def test_refused_looks_and_unknown_callers_are_lines_only(api, caplog):
    _, secret = tokens.issue(name="writer", scopes=["write"])
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("ann"))
    AuditEntry.objects.all().delete()
    caplog.clear()

    assert Api(secret).get(GROUP).status == 403
    assert Api(client=client).post(f"{GROUP}/pause").status == 403  # without the CSRF token

    assert entries() == []
    assert [line.partition(" ")[0] for _, line in lines(caplog)] == ["token:writer", "unknown"]


def test_who_is_refused_in_the_admin_is_recorded(api):
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_taskgroup"))
    client = Client()
    client.force_login(user)
    AuditEntry.objects.all().delete()

    answer = client.post(
        page("taskgroup", "changelist"), {"action": "pause", ACTION_CHECKBOX_NAME: "g"}
    )

    row = AuditEntry.objects.get()
    assert answer.status_code == 403
    assert (row.verb, row.user) == ("denied", user)
    assert row.detail["path"] == page("taskgroup", "changelist")


def test_a_denial_that_cannot_be_stored_is_still_a_denial(api, monkeypatch, caplog):
    _, secret = tokens.issue(name="reader", scopes=["read"])

    def broken(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("no room left")

    monkeypatch.setattr(AuditEntry, "save", broken)

    assert Api(secret).post(f"{GROUP}/pause").status == 403
    assert "no room left" in caplog.text


# --- The routes --------------------------------------------------------------------------------


def test_the_history_of_a_group_is_newest_first_and_paged(api):
    api.post(f"{GROUP}/pause")
    api.post(f"{GROUP}/task/t/retry", RETRY)

    said = api.get(f"{GROUP}/history").json
    second = api.get(f"{GROUP}/history?page=2&pageSize=1").json

    assert said["count"] == second["count"] == 2
    newest, oldest = said["entries"]
    assert newest == {
        "at": newest["at"],
        "who": oldest["who"],
        "verb": "retry",
        "kind": "task",
        "id": "t",
        "ids": [],
        "count": 1,
        "detail": RETRY,
        "isImported": False,
        "seal": None,
    }
    assert second["entries"] == [oldest]
    assert newest["at"] > "2026"


def test_the_history_of_a_group_outlives_it(api):
    api.delete(GROUP)

    said = api.get(f"{GROUP}/history")

    assert [one["verb"] for one in said.json["entries"]] == ["delete"]
    assert api.get("/api/v1/task_group/never/history").status == 404


def test_the_history_of_a_task_holds_what_concerned_it(api):
    with audit.by("user:ann"):
        control.retry_tasks("g", ["t"], remaining_attempts=1)
        control.retry_tasks("g", ["u"], remaining_attempts=2)
        control.retry_tasks("g", ["t", "u"], remaining_attempts=3)
        control.retry_tasks("g", ["u", "v"], remaining_attempts=4)
        control.retry_group("g", remaining_attempts=5)

    said = api.get("/api/v1/task/t/history").json

    assert [one["detail"]["remainingAttempts"] for one in said["entries"]] == [5, 3, 1]
    assert said["entries"][1]["ids"] == ["t", "u"]


def test_of_an_act_on_very_many_tasks_only_the_count_is_kept(api, monkeypatch):
    monkeypatch.setattr(audit, "LISTED", 2)
    with audit.by("user:ann"):
        control.pause_tasks("g", ["t", "u", "v"])

    said = api.get("/api/v1/task/t/history").json

    assert [(one["count"], one["ids"]) for one in said["entries"]] == [(3, [])]


# --- How long it is kept -----------------------------------------------------------------------


def test_entries_are_pruned_after_their_days(api, settings):
    settings.CREW_AUDIT_DAYS = 2
    with audit.by("user:ann"):
        control.pause_group("g")
        control.resume_group("g")
    AuditEntry.objects.filter(verb="pause").update(at="2020-01-01T00:00:00Z")

    assert expired_rows.prune()["audit"] == 1

    assert [row["verb"] for row in entries()] == ["resume"]


def test_many_old_entries_go_some_at_a_time(api):
    AuditEntry.objects.bulk_create(AuditEntry(who="w", verb="v") for _ in range(3))
    AuditEntry.objects.update(at="2020-01-01T00:00:00Z")

    assert [audit.prune(2), audit.prune(2), audit.prune(2)] == [2, 1, 0]

"""What the database refuses of a form is a sentence on its page, and nothing has changed."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from tasks.models import Task, TaskGroup, Token, Worker, Workgroup

from .factories import make_group, make_task
from .test_admin import act, new_task, task_form
from .test_refused import refuse

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("ann", password="x"))
    client.raise_request_exception = False
    return client


@pytest.fixture(autouse=True)
def rows() -> None:
    make_task(make_group(id="g", name="old"), id="t", name="old", input={"n": 1})
    Worker.objects.update_or_create(name="w")
    Workgroup.objects.create(name="wg")


def url(model: str, page: str, *args: str, app: str = "crew") -> str:
    return reverse(f"admin:{app}_{model}_{page}", args=args)


def is_told(answer: Any, status: int = 200) -> None:
    assert answer.status_code == status
    said = answer.content.decode()
    assert "the database refuses it: not here" in said or "could not be stored: not here" in said


FORMS = [
    ("crew_task", "UPDATE", "task", "change", ["t"], lambda: task_form("t", name="new")),
    ("crew_task", "INSERT", "task", "add", [], lambda: new_task(name="new")),
    ("crew_taskgroup", "UPDATE", "taskgroup", "change", ["g"], lambda: {"name": "new"}),
    ("crew_taskgroup", "INSERT", "taskgroup", "add", [], lambda: {"name": "new"}),
    ("crew_change", "INSERT", "taskgroup", "change", ["g"], lambda: {"name": "new"}),
    ("crew_auditentry", "INSERT", "taskgroup", "change", ["g"], lambda: {"name": "new"}),
    ("django_admin_log", "INSERT", "taskgroup", "change", ["g"], lambda: {"name": "new"}),
    ("crew_worker", "UPDATE", "worker", "change", ["w"], lambda: {"max_concurrency": 3}),
    ("crew_worker", "INSERT", "worker", "add", [], lambda: {"name": "new"}),
    ("crew_workgroup", "INSERT", "workgroup", "add", [], lambda: {"name": "new", "seconds": 5}),
    ("crew_token", "INSERT", "token", "add", [], lambda: {"name": "new", "scopes": ["read"]}),
]


@pytest.mark.parametrize(
    ("table", "event", "model", "page", "args", "form"), FORMS, ids=lambda x: str(x)[:20]
)
def test_a_refused_form_is_shown_again_with_a_sentence(
    admin, table, event, model, page, args, form
):
    refuse(table, event, "1 = 1")

    answer = admin.post(url(model, page, *args), form())

    is_told(answer)
    assert 'value="new"' in answer.content.decode() or model == "worker"
    assert not Task.objects.filter(name="new").exists()
    assert not TaskGroup.objects.filter(name="new").exists()
    assert not Worker.objects.filter(name="new").exists()
    assert not Workgroup.objects.filter(name="new").exists()
    assert not Token.objects.exists()


def test_a_value_that_a_check_refuses_is_shown(admin):
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            pytest.skip("SQLite takes no CHECK afterwards; its triggers are tried above")
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE crew_task ADD CHECK (name <> 'new')")

    answer = admin.post(url("task", "change", "t"), task_form("t", name="new"))
    assert "violates check constraint" in answer.content.decode()


def test_refused_people_and_roles_are_shown(admin):
    ann = str(User.objects.get().pk)
    refuse("auth_user", "INSERT", "1 = 1")
    passwords = {"password1": "Gr8 dragons!", "password2": "Gr8 dragons!"}
    options = {"username": "new", "usable_password": "true"} | passwords

    is_told(admin.post(url("user", "add", app="auth"), options))

    undo("auth_user")
    refuse("auth_group", "INSERT", "1 = 1")
    is_told(admin.post(url("group", "add", app="auth"), {"name": "new"}))

    undo("auth_group")
    refuse("auth_user", "UPDATE", "1 = 1")
    path = reverse("admin:auth_user_password_change", args=[ann])
    form = passwords | {"usable_password": "true", "set-password": "1"}
    is_told(admin.post(path, form, follow=True))
    assert not Group.objects.filter(name="new").exists()


ACTIONS = [
    ("crew_task", "UPDATE", "task", "pause", ["t"]),
    ("crew_task", "DELETE", "task", "delete_selected", ["t"]),
    ("crew_taskgroup", "UPDATE", "taskgroup", "pause", ["g"]),
    ("crew_taskgroup", "DELETE", "taskgroup", "delete_selected", ["g"]),
    ("crew_worker", "DELETE", "worker", "delete_selected", ["w"]),
    ("crew_workgroup", "UPDATE", "workgroup", "hold", ["wg"]),
]


@pytest.mark.parametrize(("table", "event", "model", "action", "ids"), ACTIONS)
def test_a_refused_action_is_shown(admin, table, event, model, action, ids):
    refuse(table, event, "1 = 1")

    is_told(act(admin, model, action, *ids, post="yes"))


@pytest.mark.parametrize(
    ("table", "model", "pk"), [("crew_task", "task", "t"), ("crew_taskgroup", "taskgroup", "g")]
)
def test_a_refused_delete_is_shown(admin, table, model, pk):
    refuse(table, "DELETE", "1 = 1")

    is_told(admin.post(url(model, "delete", pk), {"post": "yes"}, follow=True))


@pytest.mark.parametrize("junk", ["\0", "\ud800", "\U0010ffff", "\\ud800", "a" * 5_000])
def test_letters_that_no_database_takes_are_shown(admin, junk):
    for model, pk, form in (
        ("task", "t", task_form("t", name=junk)),
        ("task", "t", task_form("t", input=f'"{junk}"')),
        ("task", "t", task_form("t", parents=junk)),
        ("task", "t", task_form("t", run_after_0=junk)),
        ("taskgroup", "g", {"name": junk}),
    ):
        data = b"&".join(f"{k}=".encode() + quoted(v) for k, v in form.items())
        kind = "application/x-www-form-urlencoded"
        answer = admin.post(url(model, "change", pk), data, content_type=kind)
        assert answer.status_code in (200, 302)
    for page in ("task", "taskgroup", "worker", "workgroup", "attempt", "token"):
        path = url(page, "changelist")
        for asked in (b"q=", b"p=", b"o="):
            query = (asked + quoted(junk)).decode()
            assert admin.get(f"{path}?{query}", follow=True).status_code == 200
        answer = admin.post(path, {"action": "x" + ascii(junk), "_selected_action": ["t"]})
        assert answer.status_code < 500


def quoted(value: Any) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in str(value).encode(errors="surrogatepass"))


def undo(table: str) -> None:
    on = f" ON {table}" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER refuse{on}")

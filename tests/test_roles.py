"""Viewer, operator, admin: what each may do, in the admin, by the API and in the streams (S27)."""

from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.admin import site
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from crewsite import people
from tasks import create, limits_and_holds
from tasks.access import callers, roles, tokens
from tasks.models import Attempt, AuditEntry, SchedulerProcess, Token

from .api_client import Api, everything_stored
from .test_consumers import code_of
from .web import path_of

pytestmark = pytest.mark.django_db

VIEWER, OPERATOR, ADMIN = roles.VIEWER, roles.OPERATOR, roles.ADMIN
NONE = "no role"
EVERYONE = (NONE, VIEWER, OPERATOR, ADMIN)
# Pages with their least role, by the model's name.
SHOWN = ("taskgroup", "task", "attempt", "worker", "workgroup", "schedulerprocess", "auditentry")
WORKED_ON = ("taskgroup", "task", "worker", "workgroup")


def person(role: str, name: str = "", **fields: Any) -> User:
    user = User.objects.create_user(name or role.replace(" ", "-"), is_staff=True, **fields)
    if role != NONE:
        user.groups.add(Group.objects.get(name=role))
    return user


def client_of(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


@pytest.fixture
def stored() -> None:
    create.create_group(id="g", name="G", tasks=[{"id": "t", "worker": "w"}, {"id": "u"}])
    Attempt.objects.create(
        task_id="t", number=1, worker="w", outcome="failed", started_at=Now(), finished_at=Now()
    )
    limits_and_holds.hold_workgroup("shop", seconds=60)
    SchedulerProcess.objects.create(pk="s1", host="h", pid=1, slots=1)
    AuditEntry.objects.create(pk=1, who="user:ann", verb="pause", kind="group", target="g")
    tokens.issue(name="nightly", scopes=["read"])


def row_of(model: str) -> str:
    if model in ("user", "group"):
        kind = {"user": User, "group": Group}[model]
        return str(kind.objects.order_by("pk").first().pk)
    return str(apps.get_model("crew", model).objects.order_by("pk").first().pk)


def pages(model: str) -> dict[str, str]:
    app = "auth" if model in ("user", "group") else "crew"
    at = f"admin:{app}_{model}"
    return {
        "changelist": reverse(f"{at}_changelist"),
        "change": reverse(f"{at}_change", args=[row_of(model)]),
        "history": reverse(f"{at}_history", args=[row_of(model)]),
        "add": reverse(f"{at}_add"),
        "delete": reverse(f"{at}_delete", args=[row_of(model)]),
    }


# --- The groups --------------------------------------------------------------------------------


def test_the_site_has_the_roles_after_migrating():
    for name, allowed in roles.ROLES.items():
        has = Permission.objects.filter(group__name=name, content_type__app_label="crew")
        assert set(has.values_list("codename", flat=True)) == allowed


def test_crewroles_sets_back_what_a_role_means_and_leaves_the_rest():
    group = Group.objects.get(name=VIEWER)
    foreign = Permission.objects.get(codename="view_session")
    group.permissions.set(Permission.objects.filter(codename__in=["add_token", "view_session"]))
    Group.objects.get(name=OPERATOR).delete()
    user = person(VIEWER)
    out = StringIO()

    call_command("crewroles", stdout=out)

    ours = set(group.permissions.exclude(pk=foreign.pk).values_list("codename", flat=True))
    assert ours == roles.ROLES[VIEWER]
    assert foreign in group.permissions.all()
    assert user in group.user_set.all()
    assert out.getvalue().splitlines() == [
        "Crew viewer: set",
        "Crew operator: set",
        "Crew admin: as it should be",
    ]


def test_roles_that_are_right_are_not_written(django_assert_max_num_queries):
    with django_assert_max_num_queries(15):  # three roles, with a savepoint
        assert roles.ensure() == []


def test_every_model_of_the_admin_has_its_place_in_a_role():
    """A new admin page is for nobody until somebody decides who may see it."""
    registered = {model._meta.model_name for model in site._registry if _is_ours(model)}

    assert registered == {*SHOWN, "token"}


def _is_ours(model: Any) -> bool:
    return bool(model._meta.app_label == "crew")


# --- The admin ---------------------------------------------------------------------------------

MAY_SEE = {
    **{key: {VIEWER, OPERATOR, ADMIN} for key in SHOWN},
    "token": {ADMIN},
    "user": {ADMIN},
    "group": {ADMIN},
}
MAY_CHANGE = {
    **{key: set() for key in SHOWN},
    **{key: {OPERATOR, ADMIN} for key in WORKED_ON},
    "token": {ADMIN},
    "user": {ADMIN},
    "group": set(),
}
# Workgroups come and go with their holds.
NEVER_DELETED = {"workgroup"}


@pytest.mark.parametrize("role", EVERYONE)
@pytest.mark.parametrize("model", MAY_SEE)
def test_who_sees_which_pages(stored, role, model):
    client = client_of(person(role))

    got = {name: client.get(page, follow=True).status_code for name, page in pages(model).items()}

    may_see = 200 if role in MAY_SEE[model] else 403
    may_change = 200 if role in MAY_CHANGE[model] else 403
    assert got == {
        "changelist": may_see,
        "change": may_see,
        "history": may_see,
        "add": may_change,
        "delete": 403 if model in NEVER_DELETED else may_change,
    }


@pytest.mark.parametrize("role", [NONE, VIEWER])
@pytest.mark.parametrize("model", MAY_SEE)
def test_who_may_not_change_is_refused_every_post(stored, role, model):
    client = client_of(person(role))
    before = everything_stored() | {"AuditEntry": []}

    for name, page in pages(model).items():
        if name not in ("changelist", "history"):
            assert client.post(page, {"name": "x", "post": "yes"}).status_code == 403
    assert everything_stored() | {"AuditEntry": []} == before


ACTIONS = [
    (model, action)
    for model, actions in {
        "taskgroup": ("pause", "resume", "retry", "reset", "delete_selected"),
        "task": ("pause", "resume", "retry", "reset", "delete_selected"),
        "workgroup": ("hold", "open_now"),
        "worker": ("delete_selected",),
        "token": ("revoke", "delete_selected"),
    }.items()
    for action in actions
]


@pytest.mark.parametrize("role", EVERYONE)
@pytest.mark.parametrize(("model", "action"), ACTIONS)
def test_who_may_do_which_action(stored, role, model, action):
    client = client_of(person(role))
    before = everything_stored() | {"AuditEntry": []}
    data = {"action": action, ACTION_CHECKBOX_NAME: row_of(model), "post": "yes"}

    answer = client.post(pages(model)["changelist"], data | {"confirmed": "1"})

    if role in MAY_CHANGE[model]:
        assert answer.status_code == 302
    else:
        assert answer.status_code == 403
        assert everything_stored() | {"AuditEntry": []} == before


def test_the_front_page_shows_nothing_of_crew_to_who_has_no_role(stored):
    client = client_of(person(NONE))

    assert client.get("/admin/crew/").status_code == 404
    assert "crew/taskgroup" not in client.get("/admin/").content.decode()


def test_who_is_no_staff_gets_no_page(stored):
    user = person(ADMIN)
    User.objects.update(is_staff=False)

    answer = client_of(user).get(pages("task")["changelist"])

    assert (answer.status_code, answer.headers["Location"][:13]) == (302, "/admin/login/")


# --- The API and the streams -------------------------------------------------------------------

CALLS = {
    "read": [
        ("GET", "/api/v1/task_groups", b""),
        ("GET", "/api/v1/task_group/g/history", b""),
        ("GET", "/api/v1/workers", b""),
    ],
    "write": [
        ("POST", "/api/v1/task_groups", {"id": "new"}),
        ("PUT", "/api/v1/task_group/g/task/t", {"name": "x"}),
        ("DELETE", "/api/v1/task_group/g/task/u", b""),
    ],
    "operate": [
        ("POST", "/api/v1/task_group/g/pause", b""),
        ("POST", "/api/v1/task_group/g/tasks/retry?all=1", b""),
        ("PUT", "/api/v1/worker/w", {"maxConcurrency": 3}),
        ("POST", "/api/v1/workgroup/shop/hold", {"seconds": 5}),
    ],
}
SCOPES = {
    NONE: set(),
    VIEWER: {"read"},
    OPERATOR: {"read", "write", "operate"},
    ADMIN: {"read", "write", "operate", "admin"},
}


@pytest.mark.parametrize("role", EVERYONE)
def test_what_a_session_may_call(stored, role):
    api = Api(client=client_of(person(role)))

    for scope, calls in CALLS.items():
        for method, path, body in calls:
            said = api.send(method, path, body)
            assert said.status == (200 if scope in SCOPES[role] else 403), (method, path)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("role", EVERYONE)
def test_who_may_watch_a_group(stored, role):
    secret = tokens.login_token(person(role))

    code = async_to_sync(code_of)(path_of("g", secret))

    assert code == (None if "read" in SCOPES[role] else 4401)


@pytest.mark.parametrize("role", EVERYONE)
def test_what_scopes_a_role_bears(role):
    assert set(callers.of_user(person(role)).scopes) == SCOPES[role]


@pytest.mark.parametrize("role", EVERYONE)
def test_a_token_of_a_person_is_never_more_than_the_person(role):
    _, secret = tokens.issue(name="t", scopes=["admin"], user=person(role))

    found = callers.of_secret(secret)

    assert {scope for scope in callers.SCOPES if found.may(scope)} == SCOPES[role]


def test_most_permissions_of_an_admin_are_not_the_scope():
    user = person(OPERATOR)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_token", "add_token"]))

    assert "admin" not in callers.of_user(user).scopes


def test_an_admin_makes_tokens_of_their_own_rights_and_revokes_any(stored):
    user = person(ADMIN)
    form = {"name": "mine", "scopes": ["read", "admin"]}

    answer = client_of(user).post(reverse("admin:crew_token_add"), form)

    assert answer.status_code == 200  # the page with its secret
    assert "no-store" in answer.headers["Cache-Control"]
    made = Token.objects.get(name="mine")
    assert (made.user, made.scopes) == (user, ["read", "admin"])


# --- Nobody makes more of a person than they are -------------------------------------------------


@pytest.fixture
def boss() -> User:
    return User.objects.create_superuser("boss", password="of the boss")


def user_form(user: User, **changed: Any) -> dict[str, Any]:
    joined = user.date_joined
    at = {"date_joined_0": f"{joined:%Y-%m-%d}", "date_joined_1": f"{joined:%H:%M:%S}"}
    return {"username": user.username, "is_active": "on", "is_staff": "on"} | at | changed


def change(client: Client, user: User, **changed: Any) -> int:
    page = reverse("admin:auth_user_change", args=[user.pk])
    return int(client.post(page, user_form(user, **changed)).status_code)


def test_an_admin_gives_people_roles():
    admin, other = person(ADMIN), person(NONE)
    operator = Group.objects.get(name=OPERATOR)

    assert change(client_of(admin), other, groups=[operator.pk]) == 302

    assert list(other.groups.all()) == [operator]
    entry = AuditEntry.objects.get(verb="edit")
    assert (entry.who, entry.kind, entry.target) == ("user:Crew-admin", "user", "no-role")
    assert "Roles" in entry.detail["fields"]


@pytest.mark.parametrize("whom", ["themselves", "another"])
def test_an_admin_makes_nobody_a_superuser(whom):
    admin = person(ADMIN)
    user = admin if whom == "themselves" else person(VIEWER)
    session = Permission.objects.get(codename="delete_session")

    status = change(
        client_of(admin), user, is_superuser="on", user_permissions=[session.pk], groups=[]
    )

    assert status == 302  # what is read-only is passed over
    user.refresh_from_db()
    assert user.is_superuser is False
    assert user.user_permissions.count() == 0


def test_an_admin_gives_no_group_that_may_more_than_they():
    admin, other = person(ADMIN), person(NONE)
    beyond = Group.objects.create(name="beyond")
    beyond.permissions.add(Permission.objects.get(codename="delete_session"))

    assert change(client_of(admin), other, groups=[beyond.pk]) == 200  # an error of the form

    assert other.groups.count() == 0


@pytest.mark.parametrize("is_active", [True, False])
@pytest.mark.parametrize("kind", ["superuser", "permission", "group"])
def test_an_admin_does_not_touch_who_may_more(kind, is_active):
    admin, other = person(ADMIN), person(NONE)
    extra = Permission.objects.get(codename="delete_session")
    if kind == "permission":
        other.user_permissions.add(extra)
    elif kind == "group":
        group = Group.objects.create(name="beyond")
        group.permissions.add(extra)
        other.groups.add(group)
    User.objects.filter(pk=other.pk).update(
        is_superuser=kind == "superuser", is_active=is_active, password="as it was"
    )
    client = client_of(admin)
    secret = {"password1": "a new password 1", "password2": "a new password 1"}

    statuses = [
        change(client, other, username="mine"),
        client.post(reverse("admin:auth_user_delete", args=[other.pk]), {"post": "yes"}),
        client.post(reverse("admin:auth_user_password_change", args=[other.pk]), secret),
        client.post(
            reverse("admin:auth_user_changelist"),
            {"action": "delete_selected", ACTION_CHECKBOX_NAME: other.pk, "post": "yes"},
        ),
    ]

    assert [getattr(answer, "status_code", answer) for answer in statuses] == [403] * 4
    other.refresh_from_db()
    assert (other.username, other.password) == ("no-role", "as it was")


def test_an_admin_sets_the_password_of_who_may_not_more():
    admin, other = person(ADMIN), person(OPERATOR)
    secret = {"password1": "a new password 1", "password2": "a new password 1"}
    page = reverse("admin:auth_user_password_change", args=[other.pk])

    answer = client_of(admin).post(page, secret | {"usable_password": "true"})

    assert answer.status_code == 302
    other.refresh_from_db()
    assert other.check_password("a new password 1")


def test_a_superuser_may_all_of_it(boss):
    other = person(NONE)

    status = change(client_of(boss), other, is_superuser="on")

    other.refresh_from_db()
    assert (status, other.is_superuser) == (302, True)


def test_groups_are_changed_by_superusers_only(boss):
    page = reverse("admin:auth_group_change", args=[Group.objects.get(name=VIEWER).pk])
    everything = list(Permission.objects.values_list("pk", flat=True))
    data = {"name": VIEWER, "permissions": everything}

    assert client_of(person(ADMIN)).post(page, data).status_code == 403
    assert client_of(boss).post(page, data).status_code == 302


def test_a_migration_back_to_before_there_were_people_is_no_error():
    class NoApps:
        def get_model(self, *args: str) -> Any:
            raise LookupError

    people.ensure_roles(apps=NoApps())


def test_the_role_of_an_embedder_says_nothing_of_people():
    """In Django's own admin of users, who may change them may become a superuser."""
    Group.objects.filter(name=ADMIN).delete()

    roles.ensure()

    apps_of = Permission.objects.filter(group__name=ADMIN).values_list("content_type__app_label")
    assert {label for (label,) in apps_of} == {"crew"}

"""Tokens as people make and revoke them: `manage.py crewtoken` and the admin."""

import re
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from tasks.access import callers, tokens
from tasks.access.callers import ADMIN, READ, SCOPES, WRITE
from tasks.models import Token

pytestmark = pytest.mark.django_db

LIST = reverse("admin:crew_token_changelist")
ADD = reverse("admin:crew_token_add")
SECRET = re.compile(r"crew_[A-Za-z0-9_-]{43}")


def run(*args: str) -> str:
    out = StringIO()
    call_command("crewtoken", *args, stdout=out, stderr=StringIO())
    return out.getvalue()


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def made() -> Token:
    token, _ = tokens.issue(name="nightly", scopes=[READ])
    return token


# --- The command -------------------------------------------------------------------------------


def test_the_command_prints_the_secret_and_nothing_else():
    said = run("nightly", "--scope", "read", "--scope", "write")

    found = callers.of_secret(said.strip())
    assert SECRET.fullmatch(said.strip())
    assert {scope for scope in SCOPES if found.may(scope)} == {READ, WRITE}
    assert Token.objects.get().name == "nightly"


def test_the_command_limits_a_token_as_it_is_asked():
    user = User.objects.create_user("ann")
    said = run(
        *("nightly", "--scope", "admin", "--days", "2", "--group", "a", "--group", "b"),
        *("--user", "ann"),
    )

    found, token = callers.of_secret(said.strip()), Token.objects.get()
    assert (found.user, found.group_ids) == (user, frozenset("ab"))
    assert abs(token.expires_at - timezone.now() - timedelta(days=2)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((), "give the name"),
        (("a", "--list"), "give the name"),
        (("a", "--revoke", "b"), "give the name"),
        (("a",), "scopes are some of"),
        (("a", "--scope", "root"), "invalid choice"),
        (("", "--scope", "read"), "needs a name"),
        (("a", "--scope", "read", "--days", "0"), "lives from now on"),
        (("a", "--scope", "read", "--days", "1e300"), "."),
        (("a", "--scope", "read", "--days", "nan"), "."),
        (("a", "--scope", "read", "--group", "../x"), "id must be"),
        (("a", "--scope", "read", "--user", "nobody"), "there is no user nobody"),
        (("--revoke", "crew_nothing"), "no token is crew_nothing"),
        (("--revoke", "9" * 30), "no token is 999"),
    ],
)
def test_the_command_says_what_is_wrong_and_makes_nothing(args, why):
    with pytest.raises(CommandError, match=why):
        run(*args)

    assert not Token.objects.exists()


def test_the_command_lists_without_secrets():
    secret = run("nightly", "--scope", "read", "--group", "g").strip()
    Token.objects.update(name="night\nly")  # of a time when names might hold anything
    callers.of_secret(secret)
    tokens.revoke(Token.objects.get())
    tokens.login_token(User.objects.create_user("ann"))
    tokens.stream_ticket(callers.everything("fixed-token"))

    lines = run("--list").splitlines()

    assert len(lines) == 2
    today = f"{timezone.now():%Y-%m-%d}"
    pk = Token.objects.order_by("pk").values_list("pk", flat=True)[0]
    line = f"{pk}  {secret[:12]}  api  read  g  revoked {today}  last used {today}  'night\\nly'"
    assert lines[0] == line
    assert "its user's" in lines[1]
    assert secret not in run("--list")


@pytest.mark.parametrize("by", ["pk", "prefix"])
def test_the_command_revokes_once(by):
    token = made()
    given = str(getattr(token, by))

    said = run("--revoke", given)

    assert said == f"Revoked nightly ({token.prefix}…)\n"
    with pytest.raises(CommandError, match="was revoked before"):
        run("--revoke", given)


def test_the_command_revokes_none_of_two_with_the_same_prefix():
    for _ in range(2):
        made()
    Token.objects.update(prefix="crew_same123")

    with pytest.raises(CommandError, match="more than one"):
        run("--revoke", "crew_same123")

    assert not Token.objects.exclude(revoked_at=None).exists()


# --- The admin ---------------------------------------------------------------------------------


def test_the_admin_shows_the_secret_of_a_new_token_once(admin_client):
    given = {"name": "nightly", "scopes": ["read", "write"], "groups": "a\nb", "days": "7"}

    answer = admin_client.post(ADD, given)
    page = answer.content.decode()

    (secret,) = set(SECRET.findall(page))
    assert "no-store" in answer["Cache-Control"]
    assert secret not in str(answer.cookies) + str(admin_client.cookies)
    found = callers.of_secret(secret)
    assert {scope for scope in SCOPES if found.may(scope)} == {READ, WRITE}
    assert found.group_ids == frozenset("ab")
    assert Token.objects.get().expires_at > timezone.now() + timedelta(days=6)
    for url in (LIST, reverse("admin:crew_token_change", args=[Token.objects.get().pk])):
        assert secret not in admin_client.get(url).content.decode()


def test_s6_the_admin_keeps_neither_secret_nor_digest_on_its_pages(admin_client):
    admin_client.post(ADD, {"name": "nightly", "scopes": ["read"]}, follow=True)
    token = Token.objects.get()

    history = admin_client.get(reverse("admin:crew_token_history", args=[token.pk]))
    change = admin_client.get(reverse("admin:crew_token_change", args=[token.pk]))

    for page in (history, change, admin_client.get(LIST)):
        assert page.status_code == 200
        assert token.digest not in page.content.decode()
        assert not SECRET.search(page.content.decode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"name": ""},
        {"name": "a\0b"},
        {"groups": "../x"},
        {"groups": " , ,"},
        {"days": "0"},
        {"days": "99999999"},
        {"user": "12345"},
    ],
)
def test_the_admin_shows_what_is_wrong_and_makes_nothing(admin_client, wrong):
    answer = admin_client.post(ADD, {"name": "nightly", "scopes": ["read"]} | wrong)

    assert answer.status_code == 200
    (field,) = answer.context["adminform"].form.errors
    for said in answer.context["adminform"].form.errors[field]:
        assert escape(said) in answer.content.decode()
    assert not Token.objects.exists()


def test_a_token_can_be_renamed_in_the_admin_and_nothing_else(admin_client):
    token = made()
    before = Token.objects.values().get()
    sent = {"name": "weekly", "digest": "0" * 64, "scopes": ["admin"], "kind": "login", "days": "1"}

    admin_client.post(reverse("admin:crew_token_change", args=[token.pk]), sent)

    assert Token.objects.values().get() == before | {"name": "weekly"}


def test_the_admin_revokes(admin_client):
    ours, other = made(), made()
    sent = {"action": "revoke", "_selected_action": [ours.pk]}

    page = admin_client.post(LIST, sent, follow=True).content.decode()

    assert "Revoked 1 token." in page
    assert list(Token.objects.filter(revoked_at=None)) == [other]


def test_the_admin_lists_in_a_few_queries_and_without_tickets(
    admin_client, django_assert_max_num_queries
):
    for n in range(20):
        tokens.login_token(User.objects.create_user(f"user {n}"))
        tokens.stream_ticket(callers.everything("fixed-token"))
    admin_client.get(LIST)

    with django_assert_max_num_queries(7):
        page = admin_client.get(LIST).content.decode()

    assert "fixed-token" not in page
    assert all(f"login of user {n}" in page for n in range(20))


def test_nobody_without_the_permission_sees_or_makes_tokens():
    token = made()
    client = staff("view_task", "change_task")

    for url in (LIST, ADD, reverse("admin:crew_token_change", args=[token.pk])):
        assert client.get(url).status_code == 403
    assert client.post(ADD, {"name": "x", "scopes": ["read"]}).status_code == 403
    sent = {"action": "revoke", "_selected_action": [token.pk]}
    assert client.post(LIST, sent).status_code == 403
    assert not Token.objects.exclude(revoked_at=None).exists()


def test_who_may_only_look_at_tokens_cannot_revoke_them():
    token = made()

    staff("view_token").post(LIST, {"action": "revoke", "_selected_action": [token.pk]})

    assert not Token.objects.exclude(revoked_at=None).exists()


def test_nobody_gives_a_token_more_than_they_have():
    client = staff("add_token", "view_token", "view_task")
    root = User.objects.create_superuser("root")

    refused = client.post(ADD, {"name": "x", "scopes": [ADMIN]})
    page = client.post(ADD, {"name": "x", "scopes": ["read"], "user": root.pk}, follow=True)

    token = Token.objects.get()
    assert refused.status_code == 200
    assert token.user.username == "clerk"
    (secret,) = set(SECRET.findall(page.content.decode()))
    User.objects.get(username="clerk").user_permissions.clear()
    assert not callers.of_secret(secret).may(READ)

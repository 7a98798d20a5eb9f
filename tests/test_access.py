"""Who may do what: tokens, users' permissions, tickets, the operator (S8, S9, S14, T4)."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from tasks.access import callers, tokens
from tasks.access.callers import ADMIN, OPERATE, READ, SCOPES, WRITE
from tasks.errors import InvalidInputError
from tasks.models import Task, Token

from .factories import in_threads, make_group, make_task

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
FIXED = "a-fixed-token-of-the-site"


def make_user(name: str = "ann", *permissions: str, **fields: Any) -> User:
    user = get_user_model().objects.create_user(name, password="a password", **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def issue(*scopes: str, **fields: Any) -> str:
    _, secret = tokens.issue(name="t", scopes=scopes or (READ,), **fields)
    return secret


def change(secret: str, **fields: Any) -> None:
    Token.objects.filter(digest=callers.digest(secret)).update(**fields)


def queries(secret: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as caught:
        found = callers.of_secret(secret)
        assert found is not None
        found.may(READ)
    return len(caught)


# --- Scopes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "may"),
    [
        ((READ,), {READ}),
        ((WRITE,), {WRITE}),
        ((READ, OPERATE), {READ, OPERATE}),
        ((ADMIN,), set(SCOPES)),
    ],
)
def test_a_token_may_what_its_scopes_name_and_no_more(given, may):
    found = callers.of_secret(issue(*given))

    assert {scope for scope in SCOPES if found.may(scope)} == may


@pytest.mark.parametrize(
    ("permissions", "may"),
    [
        ((), set()),
        (("view_task",), {READ}),
        (("add_task",), set()),
        (("add_task", "change_task"), {OPERATE}),
        (("add_task", "change_task", "delete_task"), {WRITE, OPERATE}),
        (("view_task", "change_task"), {READ, OPERATE}),
    ],
)
def test_a_user_may_what_their_permissions_amount_to(permissions, may):
    user = make_user("ann", *permissions)

    assert set(callers.of_user(user).scopes) == may


def test_a_superuser_may_everything_and_a_disabled_one_nothing():
    root = make_user("root", is_superuser=True)
    gone = make_user("gone", is_superuser=True, is_active=False)

    assert set(callers.of_user(root).scopes) == set(SCOPES)
    assert set(callers.of_user(gone).scopes) == set()
    assert len(callers.of_user(gone).scopes) == 0


@pytest.mark.parametrize("given", [(READ, WRITE), (ADMIN,)])
def test_a_user_s_token_may_only_what_the_user_may_too(given):
    user = make_user("ann", "view_task")
    secret = issue(*given, user=user)

    found = callers.of_secret(secret)

    assert {scope for scope in SCOPES if found.may(scope)} == {READ}


def test_who_is_demoted_loses_the_scope_in_threads():
    user = make_user("ann", "view_task")
    secret, login = issue(READ, user=user), tokens.login_token(user)

    user.user_permissions.clear()

    assert not callers.of_secret(secret).may(READ)
    assert not callers.of_secret(login).may(READ)


def test_a_token_for_some_groups_sees_their_rows_only():
    mine, other = make_group(id="mine"), make_group(id="other")
    make_task(mine, id="a")
    make_task(other, id="b")

    found = callers.of_secret(issue(group_ids=["mine"]))

    assert found.sees("mine") and not found.sees("other")
    assert [task.pk for task in found.only(Task.objects.all())] == ["a"]


def test_a_token_for_all_groups_sees_every_row():
    make_task(make_group(id="g"), id="a")

    found = callers.of_secret(issue())

    assert found.sees("whatever")
    assert found.only(Task.objects.all()).count() == 1


# --- Tokens ------------------------------------------------------------------------------------


def test_s8_a_stolen_row_opens_nothing():
    secret = issue(ADMIN)
    row = Token.objects.values().get()

    assert len(secret) == len("crew_") + 43  # 256 bits
    assert secret not in str(row)
    for value in row.values():
        assert callers.of_secret(str(value)) is None


def test_two_tokens_are_never_the_same():
    assert len({issue() for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "wrong",
    ["", " ", "-", "Bearer", "crew_", "None", "\0", "\ud800", "é", "x" * 100_000],
)
def test_what_is_no_token_opens_nothing(wrong):
    issue()

    assert callers.of_secret(wrong) is None
    assert callers.of_stream_secret(wrong) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"expires_at": Now() - SECOND},
        {"revoked_at": Now() - SECOND},
    ],
    ids=["expired", "revoked"],
)
@pytest.mark.parametrize("kind", ["api", "login"])
def test_t4_a_token_that_is_over_opens_nothing(kind, changed):
    secret = tokens.login_token(make_user()) if kind == "login" else issue()
    assert callers.of_secret(secret)

    change(secret, **changed)

    assert callers.of_secret(secret) is None
    assert callers.of_stream_secret(secret) is None


def test_t4_tokens_of_a_disabled_or_deleted_user_open_nothing():
    user = make_user("ann", "view_task")
    secrets = [issue(user=user), tokens.login_token(user)]

    User.objects.update(is_active=False)
    disabled = [callers.of_secret(secret) for secret in secrets]
    User.objects.update(is_active=True)
    enabled = [callers.of_secret(secret) for secret in secrets]
    User.objects.get().delete()

    assert disabled == [None, None]
    assert None not in enabled
    assert [callers.of_secret(secret) for secret in secrets] == [None, None]


def test_a_token_lives_as_long_as_was_said(settings):
    settings.CREW_LOGIN_HOURS = 2.0
    login = tokens.login_token(make_user())
    api = issue(lifetime=timedelta(days=3))
    forever = issue()

    lives = {
        secret: token.expires_at and token.expires_at - token.created_at
        for secret in (login, api, forever)
        for token in Token.objects.filter(digest=callers.digest(secret))
    }

    assert abs(lives[login] - timedelta(hours=2)) < SECOND
    assert abs(lives[api] - timedelta(days=3)) < SECOND
    assert lives[forever] is None


def test_another_password_ends_the_logins_of_a_user():
    user = make_user()
    login, other = tokens.login_token(user), tokens.login_token(make_user("bob"))

    user.set_password("another one")
    user.save()

    assert callers.of_secret(login) is None
    assert callers.of_stream_secret(login) is None
    assert callers.of_secret(other) is not None
    assert callers.of_secret(tokens.login_token(user)) is not None


def test_revoking_takes_effect_once_and_keeps_the_row(caplog):
    caplog.set_level(logging.INFO, "crew.access.tokens")
    token, secret = tokens.issue(name="nightly", scopes=[READ])
    Token.objects.update(name="night\nly")  # of a time when names might hold anything
    token.refresh_from_db()

    assert tokens.revoke(token) is True
    assert tokens.revoke(token) is False

    assert callers.of_secret(secret) is None
    assert Token.objects.get().revoked_at is not None
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        f"Token {token.pk}",
        f"Token {token.pk}",
    ]
    assert secret not in caplog.text


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"scopes": []}, "scopes are some of read, write, operate, admin; got none"),
        ({"scopes": ["read", "root"]}, "got root"),
        ({"name": " "}, "needs a name"),
        ({"name": "a\0b"}, "NUL"),
        ({"name": "x" * 201}, "longer than 200"),
        ({"group_ids": []}, "names 1 to 1000"),
        ({"group_ids": ["../x"]}, "id must be"),
        ({"group_ids": [f"g{n}" for n in range(1001)]}, "names 1 to 1000"),
        ({"lifetime": timedelta(0)}, "lives from now on"),
        ({"lifetime": timedelta(days=-1)}, "lives from now on"),
        ({"lifetime": timedelta(days=400_000)}, "a hundred years"),
    ],
)
def test_what_can_be_no_token_is_refused_and_not_made(wrong, why):
    with pytest.raises(InvalidInputError, match=why):
        tokens.issue(**({"name": "t", "scopes": [READ]} | wrong))

    assert not Token.objects.exists()


# --- The fixed token ---------------------------------------------------------------------------


def test_the_fixed_token_may_everything_without_a_query(settings, django_assert_num_queries):
    settings.CREW_AUTH_TOKEN = FIXED

    with django_assert_num_queries(0):
        found = callers.of_secret(FIXED)

    assert set(found.scopes) == set(SCOPES)
    assert callers.of_stream_secret(FIXED).caller == "fixed-token"


@pytest.mark.parametrize("wrong", ["", FIXED[:-1], FIXED + "x", FIXED.upper(), f" {FIXED}"])
def test_what_is_nearly_the_fixed_token_is_not(settings, wrong):
    settings.CREW_AUTH_TOKEN = FIXED

    assert callers.of_secret(wrong) is None


def test_without_a_fixed_token_an_empty_one_opens_nothing(settings):
    settings.CREW_AUTH_TOKEN = ""

    assert callers.of_secret("") is None


# --- What a call costs -------------------------------------------------------------------------


def test_a_call_with_a_token_costs_one_query_and_a_write_a_minute():
    secret = issue()

    assert [queries(secret) for _ in range(3)] == [2, 1, 1]
    change(secret, last_used_at=Now() - timedelta(seconds=61))
    assert [queries(secret) for _ in range(3)] == [2, 1, 1]
    change(secret, last_used_at=Now() - timedelta(seconds=50))
    assert queries(secret) == 1


def test_a_superuser_s_login_costs_one_query():
    login = tokens.login_token(make_user(is_superuser=True))
    queries(login)

    assert queries(login) == 1


def test_permissions_are_only_looked_up_when_asked_for(django_assert_num_queries):
    login = tokens.login_token(make_user("ann", "view_task"))
    queries(login)

    with django_assert_num_queries(1):
        found = callers.of_secret(login)
    with django_assert_num_queries(2):
        assert [found.may(scope) for scope in SCOPES] == [True, False, False, False]


# --- Streams -----------------------------------------------------------------------------------


def test_s14_an_api_token_is_refused_in_a_stream_s_path():
    assert callers.of_stream_secret(issue(ADMIN)) is None


@pytest.mark.parametrize("prefix", ["", "Bearer "])
def test_s14_a_login_token_opens_streams_again_and_again(prefix):
    login = tokens.login_token(make_user("ann", "view_task"))

    assert all(callers.of_stream_secret(prefix + login).may(READ) for _ in range(2))


def test_s14_a_ticket_opens_one_stream_and_nothing_else():
    asked = callers.of_secret(issue(READ, group_ids=["g"]))

    ticket = tokens.stream_ticket(asked)

    assert callers.of_secret(ticket) is None
    assert callers.of_stream_secret(ticket) == asked
    assert callers.of_stream_secret(ticket) is None


def test_s14_a_ticket_is_over_within_a_minute():
    ticket = tokens.stream_ticket(callers.of_secret(issue()))
    token = Token.objects.get(kind="ticket")
    assert token.expires_at - token.created_at <= timedelta(seconds=60, milliseconds=50)

    change(ticket, expires_at=Now() - SECOND)

    assert callers.of_stream_secret(ticket) is None


@pytest.mark.parametrize("end", ["expires_at", "revoked_at"])
def test_s14_a_ticket_opens_nothing_once_its_token_has_ended(end):
    secret = issue(READ)
    change(secret, expires_at=Now() + 20 * SECOND)
    ticket = tokens.stream_ticket(callers.of_secret(secret))
    row = Token.objects.get(kind="ticket")
    assert row.expires_at - row.created_at <= 20.1 * SECOND

    change(secret, **{end: Now() - SECOND})

    assert callers.of_stream_secret(ticket) is None


def test_s8_the_row_of_a_ticket_does_not_tell_its_session():
    user = make_user("ann", "view_task")
    key = "k" * 32
    ticket = tokens.stream_ticket(callers.of_user(user, key))
    other = tokens.stream_ticket(callers.of_user(user, key))

    rows = [Token.objects.get(digest=callers.digest(each)).session for each in (ticket, other)]

    assert rows[0] != rows[1]
    assert key not in str(Token.objects.values())
    assert callers.unsealed(rows[0], ticket) == key


def test_a_ticket_has_the_rights_its_user_has_when_it_is_used():
    user = make_user("ann", "view_task", "change_task")
    kept = tokens.stream_ticket(callers.of_user(user))
    lost = tokens.stream_ticket(callers.of_user(user))

    before = callers.of_stream_secret(kept)
    had = set(before.scopes)
    user.user_permissions.clear()
    after = callers.of_stream_secret(lost)

    assert (before.caller, had) == (f"user:{user.pk}", {READ, OPERATE})
    assert not after.may(READ)


def test_a_ticket_of_the_fixed_token_or_of_nobody_may_what_they_may():
    for asked in (callers.everything("fixed-token"), callers.everything("anyone", user=object())):
        opened = callers.of_stream_secret(tokens.stream_ticket(asked))

        assert (opened.caller, set(opened.scopes)) == (asked.caller, set(SCOPES))
        assert callers.still_valid(opened)


def test_an_unused_ticket_goes_with_the_token_it_was_asked_for_with():
    token, secret = tokens.issue(name="t", scopes=[READ])
    ticket = tokens.stream_ticket(callers.of_secret(secret))

    tokens.revoke(token)

    assert callers.of_stream_secret(ticket) is None


@pytest.mark.django_db(transaction=True)
def test_of_many_that_use_a_ticket_in_threads_one_gets_in():
    ticket = tokens.stream_ticket(callers.of_user(make_user("ann", "view_task")))

    opened = in_threads(callers.of_stream_secret, [ticket] * 8)

    assert sum(found is not None for found in opened) == 1


def opened_by(kind: str, user: User) -> callers.Access:
    login = tokens.login_token(user)
    if kind == "login":
        return callers.of_stream_secret(login)
    asked = {
        "ticket of a login": lambda: callers.of_secret(login),
        "ticket of a session": lambda: callers.of_user(user),
        "ticket of a user's token": lambda: callers.of_secret(issue(READ, user=user)),
    }[kind]()
    return callers.of_stream_secret(tokens.stream_ticket(asked))


EVERY_WAY = ["login", "ticket of a login", "ticket of a session", "ticket of a user's token"]


@pytest.mark.parametrize("kind", EVERY_WAY)
def test_s14_a_stream_stays_open_past_the_ticket(kind):
    opened = opened_by(kind, make_user("ann", "view_task"))
    Token.objects.filter(kind="ticket").update(expires_at=Now() - SECOND)
    callers.prune(1_000)

    assert callers.still_valid(opened)


@pytest.mark.parametrize("kind", EVERY_WAY)
@pytest.mark.parametrize(
    "end",
    [
        lambda user: User.objects.update(is_active=False),
        lambda user: user.user_permissions.clear(),
        lambda user: user.delete(),
    ],
    ids=["disabled", "demoted", "deleted"],
)
def test_s14_a_stream_ends_with_the_rights_of_its_user(kind, end):
    user = make_user("ann", "view_task")
    opened = opened_by(kind, user)

    end(User.objects.get())

    assert not callers.still_valid(opened)


@pytest.mark.parametrize("kind", ["login", "ticket of a login"])
@pytest.mark.parametrize("end", ["logout", "expired", "another password"])
def test_s14_a_stream_ends_with_its_login(kind, end):
    user = make_user("ann", "view_task")
    opened = opened_by(kind, user)

    if end == "logout":
        assert tokens.log_out(opened)
    elif end == "expired":
        Token.objects.filter(kind="login").update(expires_at=Now() - SECOND)
    else:
        user.set_password("another one")
        user.save()

    assert not callers.still_valid(opened)


def test_a_demoted_superuser_s_stream_ends():
    user = make_user(is_superuser=True)
    opened = opened_by("ticket of a session", user)

    User.objects.update(is_superuser=False)

    assert not callers.still_valid(opened)


def test_only_a_login_can_log_out():
    user = make_user(is_superuser=True)
    for found in (
        callers.of_secret(issue(ADMIN)),
        callers.of_secret(issue(ADMIN, user=user)),
        callers.of_user(user),
        callers.everything("fixed-token"),
    ):
        assert tokens.log_out(found) is False
    assert not Token.objects.exclude(revoked_at=None).exists()


# --- Housekeeping ------------------------------------------------------------------------------


def test_logins_and_tickets_that_are_over_are_pruned_api_tokens_are_kept():
    user = make_user("ann", "view_task")
    login, api = tokens.login_token(user), issue(user=user)
    fresh = tokens.login_token(user)
    tokens.stream_ticket(callers.of_secret(login))
    Token.objects.exclude(digest=callers.digest(fresh)).update(
        expires_at=Now() - timedelta(minutes=61)
    )

    assert callers.prune(1_000) == 2

    left = {callers.digest(fresh), callers.digest(api)}
    assert set(Token.objects.values_list("digest", flat=True)) == left


@pytest.mark.django_db(transaction=True)
def test_a_login_is_kept_while_a_ticket_may_refer_to_it():
    login = tokens.login_token(make_user("ann", "view_task"))
    tokens.stream_ticket(callers.of_secret(login))
    change(login, expires_at=Now() - SECOND)

    assert callers.prune(1_000) == 0
    assert Token.objects.count() == 2


# --- The operator ------------------------------------------------------------------------------


@pytest.fixture
def operator(settings):
    settings.CREW_AUTH_USERNAME = "boss"
    settings.CREW_AUTH_PASSWORD = "a good password"


def boss() -> User:
    return User.objects.get(username="boss")


@pytest.mark.parametrize("missing", ["CREW_AUTH_USERNAME", "CREW_AUTH_PASSWORD"])
def test_without_both_settings_no_operator_is_made(settings, operator, missing):
    setattr(settings, missing, "")

    assert callers.ensure_operator() is False
    assert not User.objects.exists()


def test_the_operator_is_made_once(operator):
    assert [callers.ensure_operator() for _ in range(2)] == [True, False]

    assert boss().check_password("a good password")
    assert boss().is_superuser and boss().is_staff and boss().is_active


@pytest.mark.parametrize("field", ["is_superuser", "is_staff", "is_active"])
def test_the_operator_is_made_whole_again(operator, field):
    callers.ensure_operator()
    User.objects.update(**{field: False}, email="boss@example.com")

    assert callers.ensure_operator() is True

    assert getattr(boss(), field) is True
    assert boss().email == "boss@example.com"


def test_another_password_in_the_settings_ends_the_operator_s_logins(settings, operator):
    callers.ensure_operator()
    login = tokens.login_token(boss())
    settings.CREW_AUTH_PASSWORD = "a better password"

    assert callers.ensure_operator() is True

    assert boss().check_password("a better password")
    assert callers.of_secret(login) is None


def test_s7_a_password_that_was_changed_does_not_come_back_at_the_next_start(settings, operator):
    callers.ensure_operator()
    user = boss()
    user.set_password("changed in the admin")
    user.save()

    assert [callers.ensure_operator() for _ in range(2)] == [False, False]
    assert boss().check_password("changed in the admin")

    settings.CREW_AUTH_PASSWORD = "another of the settings"
    assert callers.ensure_operator() is True
    assert boss().check_password("another of the settings")


def test_an_account_that_was_there_keeps_its_password(operator):
    User.objects.create_user("boss", password="its own password")

    assert callers.ensure_operator() is True

    assert boss().check_password("its own password")
    assert boss().is_superuser


@pytest.mark.django_db(transaction=True)
def test_servers_that_start_in_threads_make_one_operator(operator):
    made = in_threads(lambda _: callers.ensure_operator(), list(range(6)))

    assert True in made
    assert boss().check_password("a good password")

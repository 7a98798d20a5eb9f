"""How a call says who it is, logging in and out, and the lock against guessing (S6-S14, T1-T14)."""

import json
import logging
import re
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from axes.models import AccessAttempt
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Permission, User
from django.core.handlers.asgi import ASGIRequest
from django.db.models.functions import Now
from django.test import AsyncClient, Client, RequestFactory
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from crewsite import lockout
from tasks.access import callers, tokens
from tasks.access.callers import READ, WRITE, sent_token
from tasks.access.http import TokenAuthentication, client_address
from tasks.models import TaskGroup, Token
from tasks.urls import urlpatterns

from .api_client import GROUPS, JSON, PROBLEM, TEXT, Api, Said
from .factories import in_threads, make_group
from .processes import ROOT
from .web import Raw, Web, path_of, web

pytestmark = pytest.mark.django_db

FIXED = "a-fixed-token-of-the-site"
PASSWORD = "a good password"
UNAUTHORIZED = (401, JSON, b'{"message":"Unauthorized"}\n')
INVALID = (401, TEXT, b"Invalid Credentials")
LOCKED = (429, TEXT, lockout.TEXT.encode())


@pytest.fixture
def ann() -> User:
    user = User.objects.create_user("ann", password=PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_task"))
    return user


def result(said: Said) -> tuple[int, str, bytes]:
    assert len(said.body) < 1024
    return said.status, said.type, said.body


def issue(*scopes: str, **fields: Any) -> str:
    _, secret = tokens.issue(name="t", scopes=scopes or (READ,), **fields)
    return secret


def log_in(username: Any = "ann", password: Any = PASSWORD, **headers: str) -> Said:
    return Api().post("/login", {"username": username, "password": password}, **headers)


def at_the_admin(username: str, password: str, **headers: str) -> Said:
    data = {"username": username, "password": password}
    answer = Client().post("/admin/login/", data, headers=headers)
    return Said(answer.status_code, answer.headers["Content-Type"], answer.content, answer)


# --- The header --------------------------------------------------------------------------------


def test_t1_without_a_header_a_call_is_refused():
    said = Api().get(GROUPS)

    assert result(said) == UNAUTHORIZED
    assert said.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header", ["", " ", "Bearer", "Bearer ", "Bearer    ", "Basic dXNlcjpwYXNzd29yZA=="]
)
def test_t2_a_header_without_a_token_is_none(settings, header):
    with_auth = Api().get(GROUPS, Authorization=header)
    settings.CREW_AUTHENTICATION = []
    without = Api().get(GROUPS, Authorization=header)

    assert result(with_auth) == UNAUTHORIZED
    assert without.status == 200


@pytest.mark.parametrize("form", ["Bearer {}", "{}", " Bearer {} "])
def test_a_token_comes_with_bearer_or_alone(form):
    assert Api().get(GROUPS, Authorization=form.format(issue())).status == 200


@pytest.mark.parametrize(
    "form",
    [
        "bearer {}",
        "BEARER {}",
        "Bearer  {}",
        "Bearer\t{}",
        "Token {}",
        "Basic {}",
        "Bearer Bearer {}",
        "Bearer {0},Bearer {0}",  # two headers, as a server joins them
        "{0},{0}",
        "Bearer é{}",
        "Bearer {}\x85",
        "Bearer {}x",
        "Bearer wrong",
    ],
)
def test_t2_anything_else_is_refused(form):
    assert result(Api().get(GROUPS, Authorization=form.format(issue()))) == UNAUTHORIZED


@pytest.mark.parametrize("form", ["Bearer {}", "{}"])
def test_t2_two_headers_are_refused_though_each_is_right(form):
    header = (b"authorization", form.format(issue()).encode())
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [header, header]}

    with pytest.raises(AuthenticationFailed):
        TokenAuthentication().authenticate(Request(ASGIRequest(scope, BytesIO())))


def test_t2_a_wrong_token_is_refused_even_beside_a_session(ann):
    client = Client()
    client.force_login(ann)

    alone = Api(client=client).get(GROUPS)
    empty = Api(client=client).get(GROUPS, Authorization="Bearer")
    wrong = Api(client=client).get(GROUPS, Authorization="Bearer wrong")

    assert (alone.status, empty.status) == (200, 200)
    assert result(wrong) == UNAUTHORIZED


def test_t5_a_token_in_the_query_or_a_cookie_is_not_read():
    secret = issue()
    client = Client()
    client.cookies["token"] = client.cookies["Authorization"] = secret

    for name in ("token", "access_token", "Authorization", "key"):
        said = Api(client=client).get(f"{GROUPS}?{name}={secret}")

        assert result(said) == UNAUTHORIZED


def test_t4_revoked_expired_and_disabled_all_look_the_same(ann):
    secrets = [issue(), issue(), issue(user=ann), tokens.login_token(ann), "crew_never_made"]
    first, second = Token.objects.order_by("pk")[:2]
    tokens.revoke(first)
    Token.objects.filter(pk=second.pk).update(expires_at=Now() - timedelta(seconds=1))
    User.objects.update(is_active=False)

    for secret in secrets:
        assert result(Api(secret).get(GROUPS)) == UNAUTHORIZED


def test_t7_a_scope_that_is_missing_is_named():
    said = Api(issue(READ)).post(GROUPS, {"name": "g"})

    assert result(said) == (403, TEXT, b"needs scope write")


def test_t8_a_foreign_group_looks_like_none():
    make_group(id="g")
    make_group(id="mine")
    api = Api(issue(READ, WRITE, group_ids=["mine"]))

    for path in ("{}", "{}/tasks", "{}/progress"):
        foreign = api.get(f"/api/v1/task_group/{path.format('g')}")
        unknown = api.get(f"/api/v1/task_group/{path.format('none')}")

        assert result(foreign) == result(unknown)
    assert result(api.get("/api/v1/task_group/g")) == (404, TEXT, b"task group not found")
    assert api.get("/api/v1/task_group/mine").status == 200
    assert [group["id"] for group in api.get(GROUPS).json["taskGroups"]] == ["mine"]


def test_s12_a_session_s_write_needs_its_csrf_token_a_token_s_does_not(ann):
    ann.is_superuser = True
    ann.save()
    client = Client(enforce_csrf_checks=True)
    client.force_login(ann)

    refused = Api(client=client).post(GROUPS, {"name": "g"})
    taken = Api(issue(WRITE), client=client).post(GROUPS, {"name": "g"})

    assert refused.status == 403
    assert taken.status == 200


def test_an_embedder_s_own_class_lets_in_whom_it_names(settings):
    settings.CREW_AUTHENTICATION = [f"{__name__}.OnlyTheSecretWord"]

    assert Api("open sesame").get(GROUPS).status == 200
    assert Api("please").get(GROUPS).status == 401


UI = "https://ui.example"
PAGES = [
    ({}, True),  # no browser
    ({"Origin": "http://testserver"}, True),
    ({"Origin": "HTTP://TestServer"}, True),
    ({"Origin": UI}, True),
    ({"Origin": UI, "Sec-Fetch-Site": "cross-site"}, True),
    ({"Origin": "https://forms.example"}, True),
    ({"Origin": "https://a.wild.example"}, True),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Origin": "null"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, False),
    ({"Origin": "https://testserver"}, False),
    ({"Origin": "http://testserver:81"}, False),
    ({"Origin": "http://testserver.evil.example"}, False),
    ({"Origin": "http://evil.example"}, False),
    ({"Origin": f"{UI}.evil.example"}, False),
    ({"Origin": f"{UI}, http://evil.example"}, False),
    ({"Origin": "https://wild.example"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "same-site"}, False),
]
TYPES = ["text/plain", "application/x-www-form-urlencoded", "", "application/json"]


@pytest.fixture
def without_authentication(settings):
    settings.CREW_AUTHENTICATION = []
    settings.CORS_ALLOWED_ORIGINS = [UI]
    settings.CSRF_TRUSTED_ORIGINS = ["https://forms.example", "https://*.wild.example"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("sent", "may"), PAGES, ids=str)
def test_without_authentication_only_our_own_pages_write(
    without_authentication, client, kind, sent, may
):
    said = client.post(GROUPS, b'{"id": "g"}', content_type=kind, headers=sent)

    assert (said.status_code, TaskGroup.objects.exists()) == ((200, True) if may else (403, False))
    assert client.get(GROUPS, headers=sent).status_code == 200


def test_without_authentication_no_route_is_for_other_s_pages(without_authentication, client):
    for route in urlpatterns:
        path = "/" + re.sub("<[^>]*>", "1", str(route.pattern))
        for method in set(getattr(route.callback.cls, "needs", {})) - {"GET"}:
            said = client.generic(method, path, headers={"Origin": "null"})

            is_no_route = route.name in ("login", "logout")
            assert said.status_code == (405 if is_no_route else 403), (method, path)


def test_without_authentication_any_page_writes_where_cors_says_so(settings, client):
    settings.CREW_AUTHENTICATION, settings.CORS_ALLOW_ALL_ORIGINS = [], True

    said = client.post(GROUPS, b"{}", content_type="", headers={"Origin": "http://any.example"})

    assert said.status_code == 200


def test_our_own_origin_is_known_by_its_default_port_too(settings, client):
    settings.CREW_AUTHENTICATION = []
    sent = {"Origin": "http://testserver", "Host": "testserver:80"}

    assert client.post(GROUPS, b"{}", content_type="", headers=sent).status_code == 200


class OnlyTheSecretWord:
    def authenticate(self, request: Any) -> Any:
        word = request.META.get("HTTP_AUTHORIZATION") == "Bearer open sesame"
        return (User(username="ali"), None) if word else None

    def authenticate_header(self, request: Any) -> str:
        return "Word"


@pytest.mark.parametrize(
    ("header", "token"),
    [("", ""), ("Bearer", ""), ("Bearer t", "t"), ("t", "t"), ("Basic t", ""), ("Basic", "Basic")],
)
def test_sent_token(header, token):
    assert sent_token(header) == token


# --- Login -------------------------------------------------------------------------------------


def test_a_login_gives_a_token_with_the_user_s_rights(ann):
    said = log_in()

    assert (said.status, said.type, list(said.json)) == (200, JSON, ["token"])
    api = Api(said.json["token"])
    assert api.get("/authcheck").text == "Authenticated!"
    assert api.get(GROUPS).status == 200
    assert api.post(GROUPS, {"name": "g"}).status == 403
    assert "Set-Cookie" not in said.headers


@pytest.mark.parametrize(
    "body",
    [
        {"Username": "ann", "PASSWORD": PASSWORD},
        {"username": "ann", "USERNAME": "bob", "password": PASSWORD, "more": [1]},
    ],
)
def test_the_fields_of_a_login_may_come_in_any_case(ann, body):
    assert Api().post("/login", body).status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_of_a_login_is_not_looked_at(ann, kind):
    said = Api().post("/login", {"username": "ann", "password": PASSWORD}, kind=kind)

    assert said.status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": None, "password": None},
        {"username": "", "password": ""},
        {"username": "ann"},
        {"password": PASSWORD},
        {"username": "ann", "password": "wrong"},
        {"username": "Ann", "password": PASSWORD},
        {"username": "nobody", "password": PASSWORD},
        {"username": "x" * 4_000, "password": "y" * 4_000},
        {"username": "\u202eann", "password": "\n"},
    ],
)
def test_a_login_that_is_wrong_is_answered_in_two_words(ann, body):
    assert result(Api().post("/login", body)) == INVALID
    assert not Token.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"username=ann",
        b'{"username":"ann","password":"a\\u0000b"}',
        b'{"username":"ann","password":"\\ud800"}',
        b'{"username":5,"password":"x"}',
        b'{"username":["ann"],"password":"x"}',
        b'{"username":"a","username":"b","password":"x"}',
    ],
)
def test_a_login_that_is_no_json_is_reported_why(body):
    said = Api().post("/login", body)

    assert (said.status, said.type) == (400, TEXT)
    assert len(said.body) < 1024


def test_a_disabled_user_cannot_log_in(ann):
    User.objects.update(is_active=False)

    assert result(log_in()) == INVALID


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_login_is_posted(method):
    said = Api().send(method, "/login")

    assert (said.status, said.json) == (405, {"message": "Method Not Allowed"})
    assert said.headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_without_authentication_there_is_no_login(settings, ann, path):
    settings.CREW_AUTHENTICATION = []

    said = Api().post(path, {"username": "ann", "password": PASSWORD})

    assert (said.status, said.json) == (405, {"message": "Method Not Allowed"})


def test_an_embedder_s_login_is_asked_instead_of_ours(settings, ann):
    settings.CREW_LOGIN = f"{__name__}.own_login"

    assert log_in("ali", "open sesame").json == {"token": "t-ali"}
    assert result(log_in()) == INVALID


def own_login(request: Any, username: str, password: str) -> str | None:
    assert request.META["REMOTE_ADDR"]
    return f"t-{username}" if password == "open sesame" else None


class CheapHasher(PBKDF2PasswordHasher):
    iterations = 50_000


def test_t11_an_unknown_user_takes_as_long_as_a_wrong_password(settings, ann):
    settings.PASSWORD_HASHERS = [f"{__name__}.CheapHasher"]
    ann.set_password(PASSWORD)
    ann.save()
    took: dict[str, list[float]] = {"ann": [], "nobody": []}
    said = set()

    for _ in range(4):
        for name, times in took.items():
            started = time.thread_time()  # of this thread alone, however busy the machine
            said.add(result(log_in(name, "wrong")))
            times.append(time.thread_time() - started)

    assert said == {INVALID}
    known, unknown = (statistics.median(times) for times in took.values())
    assert 0.5 < known / unknown < 2


def test_s6_a_password_that_was_tried_is_stored_nowhere(ann, caplog):
    caplog.set_level(logging.DEBUG)

    log_in("ann", "canary-password")
    at_the_admin("ann", "canary-password")

    rows = [*AccessAttempt.objects.values(), *User.objects.values()]
    assert "canary-password" not in str(rows) + caplog.text


# --- Authcheck, logout, tickets ----------------------------------------------------------------


def test_authcheck_costs_one_query_and_is_never_limited(ann, django_assert_num_queries):
    api = Api(tokens.login_token(ann))
    api.get("/authcheck")

    with django_assert_num_queries(50):
        said = {result(api.get("/authcheck")) for _ in range(50)}

    assert said == {(200, TEXT, b"Authenticated!")}


def test_authcheck_asks_for_a_token_and_no_scope(settings):
    nothing = User.objects.create_user("bob")

    assert result(Api().get("/authcheck")) == UNAUTHORIZED
    assert Api(tokens.login_token(nothing)).get("/authcheck").status == 200
    settings.CREW_AUTHENTICATION = []
    assert Api().get("/authcheck").status == 200


def test_a_logout_ends_its_own_login_and_no_other(ann):
    mine, other = log_in().json["token"], log_in().json["token"]

    said = Api(mine).post("/logout")

    assert (said.status, said.json) == (200, {"success": True})
    assert result(Api(mine).get("/authcheck")) == UNAUTHORIZED
    assert Api(other).get("/authcheck").status == 200


def test_a_logout_takes_no_program_s_token_back(settings):
    settings.CREW_AUTH_TOKEN = FIXED
    for secret in (issue(), FIXED):
        said = Api(secret).post("/logout")

        assert result(said) == (400, TEXT, b"only the token of a login can log out")
        assert Api(secret).get("/authcheck").status == 200


def test_s14_a_ticket_is_given_to_who_may_read():
    said = Api(issue(READ)).post("/api/v1/stream_ticket")

    assert said.status == 200
    assert list(said.json) == ["ticket", "expiresInSeconds"]
    assert callers.of_stream_secret(said.json["ticket"]).may(READ)
    assert said.json["expiresInSeconds"] == 60
    assert Api(said.json["ticket"]).get(GROUPS).status == 401


def test_s14_no_ticket_for_who_may_not_read():
    said = Api(issue(WRITE)).post("/api/v1/stream_ticket")

    assert (said.status, said.type) == (403, PROBLEM)
    assert Api().post("/api/v1/stream_ticket").status == 401
    assert not Token.objects.filter(kind="ticket").exists()


# --- The lock (S10) ----------------------------------------------------------------------------


@pytest.mark.parametrize("door", [log_in, at_the_admin], ids=["api", "admin"])
def test_t10_the_sixth_try_is_refused_even_with_the_right_password(ann, door):
    before = [door("ann", f"wrong {n}").status for n in range(5)]

    for password in ("wrong", PASSWORD):
        said = door("ann", password)

        assert result(said) == LOCKED
        assert said.headers["Retry-After"] == "900"
    assert 429 not in before


def test_t10_the_sixth_try_is_refused_by_an_asynchronous_server_too(ann):
    async def tries() -> list[int]:
        data = {"username": "ann", "password": "wrong"}
        door = AsyncClient()
        return [
            (await door.post("/login", data, content_type="application/json")).status_code
            for _ in range(6)
        ]

    assert async_to_sync(tries)() == [401] * 5 + [429]


def test_t10_one_door_locks_the_other(ann):
    for n in range(5):
        (log_in if n % 2 else at_the_admin)("ann", "wrong")

    assert result(log_in()) == result(at_the_admin("ann", PASSWORD)) == LOCKED


def test_t10_another_user_agent_is_the_same_guesser(ann):
    for n in range(5):
        log_in("ann", "wrong", User_Agent=f"agent {n}")

    assert result(log_in(User_Agent="agent 9")) == LOCKED


def test_the_lock_is_for_a_name_from_an_address(ann):
    User.objects.create_user("bob", password=PASSWORD)
    for _ in range(6):
        log_in("ann", "wrong")

    elsewhere = Client(REMOTE_ADDR="203.0.113.9")
    body = {"username": "ann", "password": PASSWORD}

    assert log_in("bob").status == 200
    assert Api(client=elsewhere).post("/login", body).status == 200
    assert result(log_in()) == LOCKED


def test_the_lock_opens_by_itself_and_further_tries_do_not_keep_it_shut(ann):
    for _ in range(5):
        log_in("ann", "wrong")
    AccessAttempt.objects.update(attempt_time=Now() - timedelta(minutes=14))
    still = log_in()
    AccessAttempt.objects.update(attempt_time=Now() - timedelta(minutes=15, seconds=1))

    assert result(still) == LOCKED
    assert log_in().status == 200


def test_failures_of_long_ago_do_not_count(ann):
    for _ in range(4):
        log_in("ann", "wrong")
    AccessAttempt.objects.update(attempt_time=Now() - timedelta(minutes=16))

    assert [log_in("ann", "wrong").status for _ in range(5)] == [401] * 5


@pytest.mark.parametrize("door", [log_in, at_the_admin], ids=["api", "admin"])
def test_a_success_takes_the_count_back(ann, door):
    for _ in range(3):
        for _ in range(4):
            assert door("ann", "wrong").status != 429
        assert door("ann", PASSWORD).status in (200, 302)

    assert not AccessAttempt.objects.exists()


def test_s10_an_address_that_tries_many_names_is_refused(ann):
    for n in range(lockout.ADDRESS_LIMIT):
        assert log_in(f"user {n}", "wrong").status == 401

    assert result(log_in()) == LOCKED
    assert result(log_in("one more", "wrong")) == LOCKED


@pytest.mark.django_db(transaction=True)
def test_s10_no_number_of_tries_at_once_gets_past_the_count(ann):
    said = in_threads(lambda n: log_in("ann", f"wrong {n}").status, range(20))

    assert said.count(401) <= 5
    assert said.count(401) + said.count(429) == 20


def test_s26_logins_are_reported_in_the_log_on_one_line(ann, caplog):
    caplog.set_level(logging.INFO, "crew.audit")

    log_in()
    log_in("ann\r\nroot logged in", "wrong")

    lines = [record for record in caplog.records if record.name == "crew.audit"]
    result = [(record.levelname, record.message) for record in lines]
    assert result[0] == ("INFO", "user:ann from 127.0.0.1: login user ann, count 1, {}")
    refused = r"unknown from 127.0.0.1: login failed user ann\r\nroot logged in, count 1, {}"
    assert result[1:] == [("WARNING", refused)]


def test_what_no_name_can_hold_is_refused_at_the_admin_too(ann):
    for name in ("a\0b", "x" * 100_000, "\ud800".encode("utf-16", "surrogatepass"), ""):
        assert at_the_admin(name, PASSWORD).status == 200


EMBEDDED = """
import sys
sys.modules["axes"] = sys.modules["corsheaders"] = None  # an import of them would fail
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="k" * 40, ALLOWED_HOSTS=["*"], ROOT_URLCONF="tasks.urls", DEBUG=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "tasks"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CREW_WORKER_BASE_URL="https://workers.example/", CREW_AUTH_PASSWORD="a good password",
    CREW_AUTH_USERNAME="boss",
)
django.setup()
from django.core.management import call_command
from django.test import Client
from tasks.access import callers
call_command("check")
call_command("migrate", verbosity=0)
callers.ensure_operator()
body = {"username": "boss", "password": settings.CREW_AUTH_PASSWORD}
answer = Client().post("/login", body, content_type="application/json")
token = {"Authorization": "Bearer " + answer.json()["token"]}
print([Client().get(path, headers=token).status_code for path in ("/authcheck", "/api/v1/workers")])
"""


def test_a_project_that_embeds_the_app_needs_no_axes():
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED], cwd=ROOT, capture_output=True, text=True, timeout=100
    )

    assert done.stdout.splitlines()[-1:] == ["[200, 200]"], done.stderr


# --- Proxies (S11) -----------------------------------------------------------------------------


def test_t13_a_forged_header_does_not_dodge_the_lock(ann):
    for n in range(5):
        log_in("ann", "wrong", X_Forwarded_For=f"203.0.113.{n}", Forwarded=f"for=203.0.113.{n}")

    assert result(log_in(X_Forwarded_For="203.0.113.99")) == LOCKED


def test_t13_nor_does_it_behind_a_proxy(settings, ann):
    settings.CREW_TRUSTED_PROXIES = 1
    for n in range(5):
        log_in("ann", "wrong", X_Forwarded_For=f"203.0.113.{n}, 198.51.100.7")

    assert result(log_in(X_Forwarded_For="203.0.113.99, 198.51.100.7")) == LOCKED
    assert log_in(X_Forwarded_For="198.51.100.8").status == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.1", "127.0.0.1"),
        (1, "203.0.113.1", "203.0.113.1"),
        (1, "203.0.113.1, 198.51.100.7", "198.51.100.7"),
        (2, "203.0.113.1, 198.51.100.7, 10.0.0.1", "198.51.100.7"),
        (2, "203.0.113.1", "127.0.0.1"),  # came past the proxies
        (1, None, "127.0.0.1"),
        (1, "", "127.0.0.1"),
        (1, "nonsense", "0.0.0.0"),  # noqa: S104
        (1, "::ffff:203.0.113.1", "203.0.113.1"),
        (1, "2001:DB8::1", "2001:db8::1"),
        (1, "fe80::1%eth0", "fe80::1"),
        (1, "203.0.113.1:5678", "203.0.113.1"),
        (1, "[2001:db8::1]:5678", "2001:db8::1"),
        (1, "[2001:db8::1", "2001:db8::1"),
    ],
)
def test_s11_the_client_s_address_is_what_a_trusted_proxy_saw(
    settings, proxies, forwarded, address
):
    settings.CREW_TRUSTED_PROXIES = proxies
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}

    assert client_address(RequestFactory().get("/", headers=headers)) == address


def test_all_addresses_of_an_ipv6_network_are_one_guesser(ann):
    def door(address: str) -> Api:
        return Api(client=Client(REMOTE_ADDR=address))

    body = {"username": "ann", "password": "wrong"}
    for n in range(5):
        door(f"2001:db8::{n}:1").post("/login", body)

    assert result(door("2001:db8::99:99").post("/login", body)) == LOCKED
    assert result(door("2001:db8:0:1::1").post("/login", body)) == INVALID


def test_a_request_without_any_address_has_one_all_the_same():
    assert client_address(RequestFactory().get("/", REMOTE_ADDR="")) == "0.0.0.0"  # noqa: S104


# --- A real server -----------------------------------------------------------------------------

BOSS_PASSWORD = "canary-password-of-the-boss"


def over_http(server: Web, method: str, path: str, body: Any = None, *headers: str) -> Said:
    """One request, byte by byte as it is written here."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    with Raw(server) as raw:
        raw.send("\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data)
        head, _, rest = raw.read_all().partition(b"\r\n\r\n")
    first, *others = head.decode().split("\r\n")
    result = dict(line.split(": ", 1) for line in others)
    return Said(int(first.split()[1]), result.get("Content-Type", ""), rest, result)


def at_the_server(server: Web, password: str, *headers: str) -> Said:
    return over_http(server, "POST", "/login", {"username": "boss", "password": password}, *headers)


@pytest.fixture
def server(transactional_db):
    operator = {"CREW_AUTH_USERNAME": "boss", "CREW_AUTH_PASSWORD": BOSS_PASSWORD}
    with web(CREW_AUTH_TOKEN=FIXED, **operator) as running:
        yield running


def test_a_real_server_makes_its_operator_and_keeps_its_secrets(server):
    login = at_the_server(server, BOSS_PASSWORD).json["token"]
    header = f"Authorization: Bearer {login}"
    checked = over_http(server, "GET", "/authcheck", None, header)
    ticket = over_http(server, "POST", "/api/v1/stream_ticket", None, header).json["ticket"]
    twice = over_http(server, "GET", "/authcheck", None, header, header)
    asked = over_http(server, "GET", f"/authcheck?token={login}")
    for token in (login, ticket, FIXED):
        over_http(server, "GET", path_of("g", token), None, f"Authorization: Bearer {token}x")
        over_http(server, "GET", f"/nowhere/{token}")
    left = over_http(server, "POST", "/logout", None, header)
    after = over_http(server, "GET", "/authcheck", None, header)
    server.stop()

    assert checked.text == "Authenticated!"
    assert [twice.status, asked.status, left.status, after.status] == [401, 401, 200, 401]
    assert User.objects.get().is_superuser
    log = "".join(server.lines)
    assert "/stream/[redacted]" in log
    for secret in (login, ticket, FIXED, BOSS_PASSWORD):
        assert secret not in log


def test_t10_t13_a_real_server_locks_out_who_guesses_all_at_once(server):
    def guess(n: int) -> int:
        forged = f"X-Forwarded-For: 203.0.113.{n}"
        return at_the_server(server, f"wrong {n}", forged, f"User-Agent: {n}").status

    said = in_threads(guess, range(20))
    locked = at_the_server(server, BOSS_PASSWORD, "X-Forwarded-For: 198.51.100.1")

    assert said.count(401) <= 5
    assert said.count(401) + said.count(429) == 20
    assert result(locked) == LOCKED
    assert locked.headers["Retry-After"] == "900"

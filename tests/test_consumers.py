"""The stream on any ASGI server: close codes, and what is looked up again and again."""

import asyncio
import functools
import json
import time
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.db import OperationalError
from django.test import override_settings

from tasks.access import tokens
from tasks.access.callers import of_secret
from tasks.live import messages as tell
from tasks.live import socket as consumers
from tasks.live.hub import hub
from tasks.routing import websocket_urlpatterns

from .factories import make_group, make_task
from .web import path_of

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "a-fixed-token-for-this"
JSON = {"content_type": "application/json"}


@pytest.fixture(autouse=True)
def settings_and_end():
    with override_settings(CREW_AUTH_TOKEN=TOKEN, CREW_MAX_STREAMS=1):
        yield
    assert hub.count() == 0
    hub.close()


def socket(path, *headers, prefix=""):
    application = URLRouter(websocket_urlpatterns(prefix))
    return WebsocketCommunicator(application, path, headers=[(b"host", b"testserver"), *headers])


def in_a_loop(test):
    """Run an async test; what it gives to `sync_to_async` runs in the test's own thread."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async_to_sync(test)(*args, **kwargs)

    return run


async def code_of(path, *headers):
    """The code with which a handshake is refused; None if it is not."""
    one = socket(path, *headers)
    opened, code = await one.connect()
    await one.disconnect()
    return None if opened else code


@in_a_loop
async def test_a_session_that_no_database_could_look_for():
    group = await sync_to_async(make_group)()
    cookie = (b"cookie", rb'sessionid="\000aaaaaaaaaaa"')

    code = await code_of(path_of(group.pk, "-"), (b"origin", b"http://testserver"), cookie)

    assert code == 4401


@in_a_loop
async def test_a_server_that_cannot_refuse_by_http_closes_with_a_code():
    group = await sync_to_async(make_group)()
    origin = (b"origin", b"http://evil.example")

    assert await code_of(path_of(group.pk, TOKEN)) is None
    assert await code_of(path_of(group.pk, "wrong")) == 4401
    assert await code_of(path_of("unknown", TOKEN)) == 4404
    with override_settings(CREW_STREAM_ORIGINS=["https://ours.example"]):
        assert await code_of(path_of(group.pk, TOKEN), origin) == 4403
    first = socket(path_of(group.pk, TOKEN))
    assert (await first.connect())[0]
    consumers.SHARED["fixed-token"], kept = 1, consumers.SHARED["fixed-token"]
    try:
        assert await code_of(path_of(group.pk, TOKEN)) == 4429
    finally:
        consumers.SHARED["fixed-token"] = kept
        await first.disconnect()


@in_a_loop
async def test_the_stream_is_found_under_any_prefix():
    group = await sync_to_async(make_group)()
    for prefix, at in (("", ""), ("crew", "/crew"), ("/a/b/", "/a/b")):
        one = socket(at + path_of(group.pk, TOKEN), prefix=prefix)
        assert (await one.connect())[0]
        await one.disconnect()


@in_a_loop
async def test_news_come_and_long_frames_end_the_stream():
    group = await sync_to_async(make_group)()
    one = socket(path_of(group.pk, TOKEN, since=""))
    assert (await one.connect())[0]
    assert json.loads(await one.receive_from())["type"] == "ready"
    await one.send_to(text_data="x" * 4096)
    await one.send_to(bytes_data=b"\0")
    await sync_to_async(make_task)(group, id="t")

    assert json.loads(await one.receive_from())["task"]["id"] == "t"
    await one.send_to(text_data="x" * 4097)
    assert (await one.receive_output())["code"] == 1009
    await one.wait()


@in_a_loop
async def test_what_could_not_be_told_is_told_later(monkeypatch):
    group = await sync_to_async(make_group)()
    one = socket(path_of(group.pk, TOKEN))
    assert (await one.connect())[0]
    failures = iter([OperationalError("away"), OperationalError("still away")])

    def fail_twice(*args, **kwargs):
        for error in failures:
            raise error
        return messages(*args, **kwargs)

    messages = tell.messages
    monkeypatch.setattr(tell, "messages", fail_twice)
    await sync_to_async(make_task)(group, id="t")

    told = json.loads(await one.receive_from(timeout=10))
    assert (told["type"], told["task"]["id"]) == ("create", "t")
    await one.disconnect()


@in_a_loop
async def test_a_watcher_who_may_no_longer_watch_is_sent_away(monkeypatch):
    monkeypatch.setattr(consumers, "RECHECK", 0.05)
    group = await sync_to_async(make_group)()
    token, secret = await sync_to_async(tokens.issue)(name="x", scopes=["read"])
    one = socket(path_of(group.pk, "-"), (b"authorization", secret.encode()))
    assert (await one.connect())[0]
    assert await one.receive_nothing(0.3, 0.05)

    await sync_to_async(tokens.revoke)(token)

    assert (await one.receive_output())["code"] == 4401
    await one.wait()


@in_a_loop
async def test_so_is_one_whose_session_has_ended(monkeypatch, client):
    monkeypatch.setattr(consumers, "RECHECK", 0.05)
    group = await sync_to_async(make_group)()
    user = await sync_to_async(get_user_model().objects.create_superuser)("u", password="p")
    await sync_to_async(client.force_login)(user)
    cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
    with override_settings(ALLOWED_HOSTS=["testserver"], SESSION_COOKIE_NAME="sessionid"):
        one = socket(path_of(group.pk, "-"), (b"cookie", cookie), (b"origin", b"http://testserver"))
        assert (await one.connect())[0]

        await sync_to_async(client.logout)()

        assert (await one.receive_output())["code"] == 4401
        await one.wait()


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        (b"http://testserver", None),
        (b"https://ui.example", None),
        (b"https://watch.example", None),
        (b"http://evil.example", 4403),
        (b"null", 4403),
    ],
)
@in_a_loop
async def test_without_authentication_our_own_pages_watch(origin, code):
    group = await sync_to_async(make_group)()
    streams = ["*", "https://watch.example"]

    with override_settings(
        CREW_AUTHENTICATION=[],
        CORS_ALLOWED_ORIGINS=["https://ui.example"],
        CREW_STREAM_ORIGINS=streams,
    ):
        assert await code_of(path_of(group.pk, "-"), (b"origin", origin)) == code


async def stream_of_a_session(client, group, *, by_ticket):
    """An open stream of a user who has logged in, and the user."""
    users = get_user_model().objects
    user = await sync_to_async(users.create_superuser)("u", password="p")
    await sync_to_async(client.force_login)(user)
    if by_ticket:
        answer = await sync_to_async(client.post)("/api/v1/stream_ticket", **JSON)
        one = socket(path_of(group.pk, answer.json()["ticket"]))
    else:
        cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
        one = socket(path_of(group.pk, "-"), (b"cookie", cookie), (b"origin", b"http://testserver"))
    assert (await one.connect(10))[0]
    return one, user


def give_another_password(client, user):
    user.set_password("another")
    user.save()


def take_a_permission(client, user):
    user.is_superuser = False
    user.save()


@pytest.mark.parametrize("by_ticket", [True, False], ids=["ticket", "cookie"])
@pytest.mark.parametrize(
    "end",
    [
        lambda client, user: client.logout(),
        lambda client, user: type(user).objects.get().delete(),
        lambda client, user: setattr(user, "is_active", False) or user.save(),
        give_another_password,
        take_a_permission,
    ],
    ids=["logout", "deleted", "disabled", "password", "demoted"],
)
@in_a_loop
async def test_s14_a_stream_ends_at_once_with_the_session_that_opened_it(client, by_ticket, end):
    group = await sync_to_async(make_group)()
    with override_settings(ALLOWED_HOSTS=["testserver"]):
        one, user = await stream_of_a_session(client, group, by_ticket=by_ticket)
        await sync_to_async(make_task)(group, id="t")
        assert json.loads(await one.receive_from(5))["task"]["id"] == "t"

        await sync_to_async(end)(client, user)

        assert await one.receive_output(5) == {"type": "websocket.close", "code": 4401}
        await one.wait()


@in_a_loop
async def test_s14_a_ticket_opens_nothing_when_its_session_has_ended(client):
    group = await sync_to_async(make_group)()
    user = await sync_to_async(get_user_model().objects.create_superuser)("u", password="p")
    await sync_to_async(client.force_login)(user)
    answer = await sync_to_async(client.post)("/api/v1/stream_ticket", **JSON)

    await sync_to_async(client.logout)()

    assert await code_of(path_of(group.pk, answer.json()["ticket"])) == 4401


@pytest.mark.parametrize(
    "end",
    [
        lambda token: tokens.revoke(token),
        lambda token: token.delete(),
        lambda token: setattr(token.user, "is_active", False) or token.user.save(),
    ],
    ids=["revoked", "deleted", "disabled"],
)
@pytest.mark.parametrize("by_ticket", [True, False], ids=["ticket", "header"])
@in_a_loop
async def test_s14_a_stream_ends_at_once_with_its_token(end, by_ticket):
    group = await sync_to_async(make_group)()
    user = await sync_to_async(get_user_model().objects.create_superuser)("u", password="p")
    token, secret = await sync_to_async(tokens.issue)(name="x", scopes=["read"], user=user)
    other = await sync_to_async(tokens.issue)(name="y", scopes=["read"])
    ticket = await sync_to_async(lambda: tokens.stream_ticket(of_secret(secret)))()
    one = (
        socket(path_of(group.pk, ticket))
        if by_ticket
        else socket(path_of(group.pk, "-"), (b"authorization", secret.encode()))
    )
    assert (await one.connect(10))[0]
    stays = socket(path_of(group.pk, "-"), (b"authorization", other[1].encode()))
    assert (await stays.connect(10))[0]

    await sync_to_async(end)(token)

    assert await one.receive_output(5) == {"type": "websocket.close", "code": 4401}
    await one.wait()
    await sync_to_async(make_task)(group, id="t")
    assert json.loads(await stays.receive_from(5))["task"]["id"] == "t"
    await stays.disconnect()


@in_a_loop
async def test_s14_a_stream_ends_when_its_token_expires():
    group = await sync_to_async(make_group)()
    made = functools.partial(tokens.issue, name="x", scopes=["read"])
    _, secret = await sync_to_async(made)(lifetime=timedelta(seconds=1))
    ticket = await sync_to_async(lambda: tokens.stream_ticket(of_secret(secret)))()
    one = socket(path_of(group.pk, ticket))
    assert (await one.connect(10))[0]

    assert await one.receive_output(10) == {"type": "websocket.close", "code": 4401}
    await one.wait()


@in_a_loop
async def test_our_own_origin_is_the_one_that_the_proxy_was_asked_for():
    group = await sync_to_async(make_group)()
    path, origin = path_of(group.pk, TOKEN), (b"origin", b"https://testserver")
    with override_settings(
        CREW_STREAM_ORIGINS=[],
        ALLOWED_HOSTS=["testserver"],
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    ):
        assert await code_of(path, origin) == 4403
        assert await code_of(path, origin, (b"x-forwarded-proto", b"https")) is None
    with override_settings(ALLOWED_HOSTS=["elsewhere"]):
        assert await code_of(path, origin) == 4400


@in_a_loop
async def test_a_caller_has_so_many_streams_and_each_that_ends_makes_room():
    group = await sync_to_async(make_group)()
    _, secret = await sync_to_async(tokens.issue)(name="x", scopes=["read"])
    bearer = (b"authorization", f"Bearer {secret}".encode())
    path = path_of(group.pk, "-")
    first = socket(path, bearer)
    assert (await first.connect())[0]

    assert await code_of(path, bearer) == 4429
    await first.disconnect()

    assert await code_of(path, bearer) is None
    assert await code_of(path, bearer) is None


@in_a_loop
async def test_a_ticket_is_not_used_up_by_a_foreign_page():
    group = await sync_to_async(make_group)()
    _, secret = await sync_to_async(tokens.issue)(name="x", scopes=["read"])
    ticket = await sync_to_async(lambda: tokens.stream_ticket(of_secret(secret)))()
    with override_settings(CREW_STREAM_ORIGINS=[], ALLOWED_HOSTS=["testserver"]):
        origin = (b"origin", b"http://evil.example")
        assert await code_of(path_of(group.pk, ticket), origin) == 4403
        assert await code_of(path_of(group.pk, ticket)) is None
        assert await code_of(path_of(group.pk, ticket)) == 4401


@in_a_loop
async def test_one_who_does_not_keep_up_is_warned_and_dropped(monkeypatch):
    monkeypatch.setattr("tasks.live.socket_queue.MOST_MESSAGES", 3)
    group = await sync_to_async(make_group)()
    taken = asyncio.Event()
    sent = []

    async def send(message):
        sent.append(message)
        if message.get("type") == "websocket.send" and "resync" not in message["text"]:
            await taken.wait()  # forever

    queue = asyncio.Queue()
    queue.put_nowait({"type": "websocket.connect"})
    path = path_of(group.pk, TOKEN)
    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
    application = URLRouter(websocket_urlpatterns())
    running = asyncio.ensure_future(application(scope, queue.get, send))
    while not sent:
        await asyncio.sleep(0.01)
    for number in range(6):
        await sync_to_async(make_task)(group, id=f"t{number}")
    await asyncio.wait_for(running, 10)

    assert [message["type"] for message in sent[-2:]] == ["websocket.send", "websocket.close"]
    assert json.loads(sent[-2]["text"]) == {"type": "resync"}
    assert sent[-1]["code"] == 4429


@in_a_loop
async def test_a_request_waits_for_a_socket_that_is_stuck_only_once():
    """And never for long: who does not read must not slow down those who work."""
    group = await sync_to_async(make_group)()

    async def send(message):
        if message["type"] == "websocket.send":
            await asyncio.Event().wait()

    queue = asyncio.Queue()
    queue.put_nowait({"type": "websocket.connect"})
    scope = {"type": "websocket", "path": path_of(group.pk, TOKEN), "headers": []}
    application = URLRouter(websocket_urlpatterns())
    running = asyncio.ensure_future(application(scope, queue.get, send))
    while not hub.count():
        await asyncio.sleep(0.01)

    times = []
    for number in range(4):
        started = time.monotonic()
        await sync_to_async(make_task)(group, id=f"t{number}")
        times.append(time.monotonic() - started)
    queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await asyncio.wait_for(running, 10)

    assert times[0] < 1.0
    assert sorted(times)[2] < 0.2


class OnlyTheSecretWord:
    """An embedder's own class."""

    word = "open sesame"

    def authenticate(self, request):
        if request.META.get("HTTP_AUTHORIZATION") == f"Bearer {self.word}":
            return get_user_model()(username="ali"), None
        return None


@in_a_loop
async def test_an_embedder_s_own_class_opens_a_stream_and_ends_it(monkeypatch):
    monkeypatch.setattr(consumers, "RECHECK", 0.05)
    group = await sync_to_async(make_group)()
    with override_settings(CREW_AUTHENTICATION=[f"{__name__}.OnlyTheSecretWord"]):
        assert await code_of(path_of(group.pk, "please")) == 4401
        by_header = (b"authorization", b"Bearer open sesame")
        assert await code_of(path_of(group.pk, "-"), by_header) is None
        one = socket(path_of(group.pk, "open sesame"))
        assert (await one.connect())[0]

        monkeypatch.setattr(OnlyTheSecretWord, "word", "another")

        assert (await one.receive_output())["code"] == 4401
        await one.wait()


class ByCookie:
    """An embedder's own class that looks at what a browser sends by itself."""

    def authenticate(self, request):
        is_known = request.COOKIES.get("pass") == "word"
        return (get_user_model()(username="ali"), None) if is_known else None


@in_a_loop
async def test_no_foreign_page_opens_a_stream_with_an_embedder_s_cookie():
    group = await sync_to_async(make_group)()
    cookie, foreign = (b"cookie", b"pass=word"), (b"origin", b"https://evil.example")
    own = (b"origin", b"http://testserver")
    with override_settings(
        CREW_AUTHENTICATION=[f"{__name__}.ByCookie"], ALLOWED_HOSTS=["testserver"]
    ):
        assert await code_of(path_of(group.pk, "anything"), cookie, foreign) == 4401
        assert await code_of(path_of(group.pk, "-"), cookie, foreign) == 4403
        assert await code_of(path_of(group.pk, "-"), cookie, own) is None

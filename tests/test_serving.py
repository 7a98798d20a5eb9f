"""The web process against hostile bytes: bodies, heads, handshakes, frames (rows A and K)."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError

import pytest
from django.contrib.auth import get_user_model
from django.contrib.staticfiles import finders
from django.test import override_settings

from tasks.access import tokens
from tasks.live.socket_queue import FRAMES_AT_ONCE
from tasks.serving import bounds
from tasks.serving.middleware import BodyLimit, ConnectionLimit

from .factories import make_group, make_task
from .processes import ROOT
from .web import TOKEN, Clients, Raw, Web, framed, path_of, web

pytestmark = pytest.mark.django_db(transaction=True)

BODY = 2 * 1024 * 1024
# A process with short limits of time; they are constants, not settings.
HASTY = """
import sys, django
django.setup()
import daphne.server
from tasks.serving import flow, http, bounds, server
server.PING_EVERY = 1
bounds.BODY_WITHIN = http.HEAD_WITHIN = flow.TAKEN_WITHIN = 1.0
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


@pytest.fixture(scope="module")
def served(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        running = Web(CREW_MAX_STREAMS="3")
    yield running
    assert running.stop() == 0
    assert running.errors() == ""


@pytest.fixture(scope="module")
def hasty(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        running = Web(code=HASTY)
    yield running
    assert running.stop() == 0


@pytest.fixture
def clients():
    clients = Clients()
    yield clients
    clients.close()


def answer(web: Web, text: str | bytes) -> bytes:
    with Raw(web) as raw:
        raw.send(text)
        return raw.read_all()


def head(method="POST", path="/login", **headers) -> str:
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""])


def ok(web: Web) -> bool:
    return answer(web, head("GET", "/healthz", Host="localhost", Connection="close")).startswith(
        b"HTTP/1.1 200"
    )


# --- Bodies -----------------------------------------------------------------------------------


KNOWN = {"Authorization": f"Bearer {TOKEN}"}
TASKS = "/api/v1/task_group/g/tasks"
BULK = f"{TASKS}/bulk"
LINES = "application/x-ndjson"
MEBI = 1024 * 1024


@pytest.mark.parametrize(
    ("path", "kind", "limit"),
    [
        (TASKS, "application/json", 2 * MEBI),
        ("/api/v1/task_groups", "application/json", 16 * MEBI),
        (BULK, "application/json", 16 * MEBI),
        (BULK, f"{LINES}; charset=utf-8", 128 * MEBI),
        (f"{TASKS}/pause", LINES, 2 * MEBI),
    ],
)
def test_a1_a_declared_body_that_is_too_long_is_refused_before_it_comes(served, path, kind, limit):
    length = {"Content_Type": kind, "Content_Length": limit + 1}
    said = answer(served, head(path=path, Host="localhost", **KNOWN, **length))

    assert said.startswith(b"HTTP/1.1 413 ")
    assert said.endswith(b"\r\n\r\nrequest body larger than %d bytes\n" % limit)


def test_a1_a_body_at_the_limit_is_read(served):
    text = head(path=TASKS, Host="localhost", Content_Length=BODY, Connection="close", **KNOWN)
    said = answer(served, text.encode() + b" " * BODY)

    assert said.startswith(b"HTTP/1.1 400 ")  # not JSON: the view has seen it


def test_a1_a_client_that_sends_on_still_reads_why_it_is_refused(served):
    with Raw(served) as raw:
        raw.send(head(path=TASKS, Host="localhost", Content_Length=8 * BODY, **KNOWN))
        raw.send(b"x" * 200_000)
        said = raw.read_all()

    assert said.startswith(b"HTTP/1.1 413 ")


# --- Bodies of strangers ----------------------------------------------------------------------

STRANGERS = [
    ("POST", BULK, {}, 401),
    ("POST", BULK, {"Authorization": "Bearer wrong"}, 401),
    ("POST", f"{BULK}?dryRun=1", {"Cookie": "sessionid=forged"}, 401),
    ("POST", "/api/v1/task_groups", {}, 401),
    ("PUT", "/api/v1/task_group/g/task/t", {}, 401),
    ("POST", "/login", {}, 413),
    ("POST", "/login", KNOWN, 413),
    ("POST", "/admin/login/", {}, 413),
    ("POST", "/admin/crew/task/add/", KNOWN, 413),  # a token opens no page
    ("POST", "/x/tasks/bulk", {}, 405),
    ("POST", "/x/tasks/bulk", KNOWN, 405),
    ("POST", "/api/v1/x/tasks/bulk", {}, 405),
    ("GET", "/static/tasks/bulk", {}, 404),
    ("DELETE", "/", {}, 413),
    ("PATCH", BULK, KNOWN, 405),
]


@pytest.mark.parametrize(("method", "path", "said", "status"), STRANGERS)
def test_a_stranger_sends_no_long_body(served, method, path, said, status):
    """Neither one that says how long it is, nor one that does not."""
    about = {"Host": "localhost", "Content_Type": LINES, **said}
    declared = answer(served, head(method, path, Content_Length=50 * MEBI, **about))
    with Raw(served) as raw:
        raw.send(head(method, path, Transfer_Encoding="chunked", **about))
        raw.send(b"4000\r\n" + b" " * 0x4000 + b"\r\n")  # and more would come
        chunked = raw.read_all()

    for answered in (declared, chunked):
        # With DEBUG Django tells of unknown paths by itself.
        assert int(answered[9:12]) in {status, 404 if status == 405 else status}
        assert b"\r\nConnection: close\r\n" in answered
    assert ok(served)


def test_a_stranger_is_not_told_to_go_on(served):
    about = {"Host": "localhost", "Expect": "100-continue", "Content_Length": 10_000}
    with Raw(served) as raw:
        raw.send(head(path=TASKS, **about))
        assert raw.read_all().startswith(b"HTTP/1.1 401 ")
    with Raw(served) as raw:
        raw.send(head(path=TASKS, Connection="close", **about, **KNOWN))
        assert raw.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.send(b" " * 10_000)
        assert raw.read_all().startswith(b"HTTP/1.1 400 ")


def test_a_token_that_may_only_read_sends_no_long_body(served):
    _, secret = tokens.issue(name="reader", scopes=["read"])
    about = {"Host": "localhost", "Content_Length": MEBI, "Authorization": f"Bearer {secret}"}

    assert answer(served, head(path=BULK, **about)).startswith(b"HTTP/1.1 403 ")


def test_who_is_logged_in_sends_long_forms_and_calls(served, cookie):
    form = {"Host": "localhost", "Connection": "close", "Content_Length": 10_000}
    form |= {"Content_Type": "application/x-www-form-urlencoded", "Cookie": cookie[8:]}
    said = answer(served, head(path="/admin/crew/taskgroup/", **form) + "x" * 10_000)
    assert said.startswith(b"HTTP/1.1 403 ")  # of CSRF, whose token the body may have had

    said = answer(served, head(path=TASKS, **form) + "x" * 10_000)
    assert b"CSRF" in said and said.startswith(b"HTTP/1.1 403 ")


def test_a_view_that_tells_its_callers_by_itself_takes_long_bodies(served):
    about = {"Host": "localhost", "Content_Length": 10_000, "Connection": "close"}

    said = answer(served, head(path="/demo/worker-a", **about) + "x" * 10_000)

    assert said.startswith(b"HTTP/1.1 200 "), said


def test_a_short_and_a_long_body_follow_each_other_on_one_connection(served):
    group = make_group()
    path = f"/api/v1/task_group/{group.pk}/tasks/bulk"
    body = json.dumps({"tasks": [{"name": "n", "worker": "w", "input": "x" * 100_000}]})
    with Raw(served) as raw:
        for length in (len(body), 2, len(body)):
            part = body if length > 2 else "{}"
            about = {"Host": "localhost", "Content_Type": "application/json", **KNOWN}
            raw.send(head(path=path, Content_Length=length, **about) + part)
            said = raw.read_head()
            assert said.startswith(b"HTTP/1.1 2" if length > 2 else b"HTTP/1.1 400"), said
            raw.read(int(said.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        half = len(body) // 2
        raw.send(head(path=path, Transfer_Encoding="chunked", Connection="close", **about))
        for piece in (body[:half], body[half:]):
            raw.send(f"{len(piece):x}\r\n{piece}\r\n")
        raw.send("0\r\n\r\n")
        assert raw.read_all().startswith(b"HTTP/1.1 2")
    assert group.tasks.count() == 3


def test_a_file_in_a_form_is_stored_nowhere(client, user, monkeypatch):
    """Django reads a form before it asks for its CSRF token."""
    monkeypatch.setattr("tempfile.NamedTemporaryFile", None)  # what it writes files with
    file = io.BytesIO(b"x" * 4_000_000)
    user.set_password("a long enough one")
    user.save()
    said = client.post(
        "/admin/login/",
        {"file": file, "username": user.username, "password": "a long enough one"},
    )

    assert said.status_code == 302  # its fields were read
    assert not said.wsgi_request.FILES


# --- Connections of one address ---------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        running = Web(CREW_MAX_CONNECTIONS="3", CREW_MAX_STREAMS="50")
    yield running
    assert running.stop() == 0
    assert running.errors() == ""


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_address_has_so_many_connections(crowded):
    until(lambda: ok(crowded))
    group = make_group()
    stream, quiet, begun = Raw(crowded), Raw(crowded), Raw(crowded)
    with stream, quiet, begun:
        stream.open(path_of(group.pk))
        begun.send("POST /login HT")
        with Raw(crowded) as one_more:
            said = one_more.read_all()
        assert said.startswith(b"HTTP/1.1 429 ")
        assert said.endswith(b"too many connections from this address\n")
    until(lambda: ok(crowded))


@pytest.fixture(scope="module")
def proxied(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        running = Web(CREW_MAX_CONNECTIONS="2", CREW_TRUSTED_PROXIES="1", CREW_MAX_STREAMS="50")
    yield running
    assert running.stop() == 0


def test_behind_a_proxy_the_address_that_it_names_counts(proxied):
    """What the client itself wrote stands before it, and does not."""

    def slow(client):
        raw = Raw(proxied)
        raw.send(head(Host="localhost", Content_Length=10, X_Forwarded_For=client))
        return raw

    def status(client):
        return answer(
            proxied,
            head("GET", "/healthz", Host="localhost", Connection="close", X_Forwarded_For=client),
        )[9:12]

    group = make_group()
    with slow("1.1.1.1, 192.0.2.1") as first, Raw(proxied) as second:
        second.open(path_of(group.pk), "X-Forwarded-For: 2.2.2.2, 192.0.2.1")
        until(lambda: status("3.3.3.3, 192.0.2.1") == b"429")
        assert status("192.0.2.2") == b"200"
        assert status("192.0.2.1, 192.0.2.2") == b"200"
        first.send(b" " * 10)  # the request ends, its connection stays
        until(lambda: status("192.0.2.1") == b"200")
    network = [slow(f"2001:db8::{host}") for host in (1, 2)]
    until(lambda: status("2001:db8::3") == b"429")
    assert status("2001:db8:0:1::3") == b"200"
    for raw in network:
        raw.socket.close()


def test_a2_a_chunked_body_is_cut_at_the_limit(served):
    before = served.memory()
    part = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with Raw(served) as raw:
        raw.send(head(path=TASKS, Host="localhost", Transfer_Encoding="chunked", **KNOWN))
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 64 * BODY:
                raw.send(part)
                sent += 65536
    assert served.memory() - before < 16 * 1024 * 1024
    assert served.line("request body larger than 2097152 bytes")
    assert ok(served)


def test_a2_a_chunked_body_within_the_limit_is_read(served):
    body = json.dumps({"username": "x", "password": "y"})
    text = head(Host="localhost", Transfer_Encoding="chunked", Connection="close")
    said = answer(served, f"{text}{len(body):x}\r\n{body}\r\n0\r\n\r\n")

    assert said.startswith(b"HTTP/1.1 401 ")  # understood


def test_a4_a_body_that_does_not_come_is_not_waited_for(hasty):
    started = time.monotonic()
    said = answer(hasty, head(Host="localhost", Content_Length=100) + "{")

    assert said.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 5


def test_a4_a_body_that_drips_is_cut(hasty):
    started = time.monotonic()
    with Raw(hasty) as raw:
        raw.send(head(path=TASKS, Host="localhost", Content_Length=100_000, **KNOWN))
        with pytest.raises(ConnectionError):
            while time.monotonic() < started + 15:
                raw.send(b"x")
                time.sleep(0.02)

    assert time.monotonic() - started < 6


def test_a5_a_body_longer_than_it_says_is_no_second_request(served):
    text = head(Host="localhost", Content_Length=2)
    said = answer(served, text + "{}rubbish\r\n\r\n")

    assert said.startswith(b"HTTP/1.1 4")
    assert b"HTTP/1.1 400 " in said


def test_a_long_body_is_read_without_keeping_it_in_memory(served):
    _, secret = tokens.issue(name="elsewhere", scopes=["write"], group_ids=["other"])
    before = served.memory()
    lines = json.dumps({"worker": "w", "input": "x" * 100_000}) + "\n"
    count = 600
    with Raw(served) as raw:
        raw.send(
            head(
                path=BULK,
                Host="localhost",
                Authorization=f"Bearer {secret}",
                Content_Type=LINES,
                Content_Length=count * len(lines),
                Connection="close",
            )
        )
        for _ in range(count):
            raw.send(lines)
        said = raw.read_all()

    assert said.startswith(b"HTTP/1.1 404 ")  # the view does not look at it
    assert served.memory() - before < 24 * 1024 * 1024


CHUNKED = "5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("version", "codings"),
    [
        ("1.1", ["identity"]),
        ("1.1", ["chunked, identity"]),
        ("1.1", ["identity, chunked"]),
        ("1.1", ["chunked", "identity"]),
        ("1.1", ["identity", "chunked"]),
        ("1.1", ["chunked", "chunked"]),
        ("1.1", ["gzip, chunked"]),
        ("1.1", [""]),
        ("1.1", ["xchunked"]),
        ("1.0", ["chunked"]),
        ("1.0", ["identity"]),
    ],
    ids=str,
)
def test_a_body_that_others_may_see_end_elsewhere_is_refused(served, version, codings):
    lines = [f"POST /authcheck HTTP/{version}", "Host: localhost"]
    lines += [f"Transfer-Encoding: {coding}" for coding in codings]

    said = answer(served, "\r\n".join([*lines, "", CHUNKED]))

    assert said.startswith(b"HTTP/1.1 400 "), said[:200]
    assert said.count(b"HTTP/1.1 ") == 1
    assert ok(served)


# --- Heads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (head("GET", "/healthz"), 400),
        (head("GET", "/healthz", Host="localhost", host="localhost"), 400),
        (head("GET", "/authcheck", Host="evil.example", Connection="close"), 400),
        (head("GET", "/healthz", Host="localhost", X_Long="x" * 100_000), 431),
        (head("GET", f"/{'x' * 8_000}", Host="localhost"), 414),
        (head("GET", "/healthz", Host="localhost", **{f"X_{i}": "1" for i in range(101)}), 400),
        ("GET /healthz\r\n\r\n", 400),
        (head("GET", "/healthz", Host="localhost", Upgrade="websocket", X="a\x0bb"), 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x85b\r\n\r\n".encode("latin-1"), 400),
    ],
)
def test_a7_a8_k13_a_bad_head_is_refused(served, text, status):
    said = answer(served, text)

    assert said.startswith(f"HTTP/1.1 {status} ".encode()), said[:300]
    assert ok(served)


def test_k10_connections_that_say_nothing_are_ended(hasty):
    quiet = [Raw(hasty) for _ in range(300)]
    slow = Raw(hasty)
    slow.send("GET /healthz HTTP/1.1\r\nHost: loc")

    for raw in quiet:
        assert raw.read_all() == b""
    assert slow.read_all().startswith(b"HTTP/1.1 408 ")
    for raw in [*quiet, slow]:
        raw.socket.close()
    assert ok(hasty)


# --- Handshakes -------------------------------------------------------------------------------


def handshake(web: Web, path: str, *headers: str) -> tuple[int, str]:
    """Status and body of what a handshake is answered."""
    with Raw(web) as raw:
        raw.upgrade(path, *headers)
        first = raw.read_head()
        status = int(first.split()[1])
        return status, "" if status == 101 else raw.read_all().decode()


@pytest.fixture
def user(db):
    return get_user_model().objects.create_superuser("u", password="p")


@pytest.fixture
def cookie(client, user):
    client.force_login(user)
    return "Cookie: " + "; ".join(f"{each.key}={each.value}" for each in client.cookies.values())


def test_a_wrong_token_is_reported_before_the_upgrade(served):
    group = make_group()
    _, api = tokens.issue(name="x", scopes=["read"])

    for token in ("wrong", api):
        status, body = handshake(served, path_of(group.pk, token), "Origin: http://a.example")
        assert (status, json.loads(body)) == (401, {"message": "Unauthorized"})


def test_every_way_to_say_who_one_is(served, user, cookie):
    group = make_group()
    access_of = tokens.login_token(user)
    _, api = tokens.issue(name="x", scopes=["read"])
    own = f"Origin: http://127.0.0.1:{served.address[1]}"

    def opens(token, *headers):
        return handshake(served, path_of(group.pk, token), *headers)[0] == 101

    assert opens(TOKEN)
    assert opens(f"Bearer {TOKEN}")
    assert opens(access_of)
    assert opens("-", f"Authorization: Bearer {api}")
    assert opens("-", f"Authorization: {api}")
    assert opens("-", cookie, own)
    assert not opens("-", own)
    assert not opens("-")


def test_k1_a_cookie_counts_for_our_own_origin_only(served, cookie):
    group = make_group()
    port = served.address[1]

    def status(*headers):
        return handshake(served, path_of(group.pk, "-"), cookie, *headers)[0]

    assert status(f"Origin: http://127.0.0.1:{port}") == 101
    assert status() == 403
    assert status("Origin: http://evil.example") == 403
    assert status(f"Origin: http://127.0.0.1:{port + 1}") == 403
    assert status(f"Origin: https://127.0.0.1:{port}") == 403
    assert status("Origin: null") == 403


def test_k1_a_token_may_come_from_the_origins_that_are_allowed():
    group = make_group()
    with web(CREW_STREAM_ORIGINS="https://ui.example") as served:
        statuses = [
            handshake(served, path_of(group.pk), f"Origin: {origin}")[0]
            for origin in ("https://ui.example", "http://ui.example", "null", served.url)
        ]
        assert statuses == [101, 403, 403, 101]
        assert handshake(served, path_of(group.pk))[0] == 101


def test_without_authentication_anyone_may_watch_but_no_foreign_page():
    group = make_group()
    with web(CREW_NO_AUTH="1") as served:
        assert handshake(served, path_of(group.pk, "-"))[0] == 101
        assert handshake(served, path_of(group.pk, "-"), f"Origin: {served.url}")[0] == 101
        status, _ = handshake(served, path_of(group.pk, "-"), "Origin: http://evil.example")
        assert status == 403


def test_k3_k4_a_group_that_one_may_not_see_is_not_there(served):
    mine, other = make_group(), make_group()
    _, secret = tokens.issue(name="x", scopes=["read"], group_ids=[mine.pk])

    def said(group_id):
        return handshake(served, path_of(group_id, "-"), f"Authorization: {secret}")

    assert said(mine.pk)[0] == 101
    assert said(other.pk) == said("unknown") == (404, "task group not found\n")
    assert handshake(served, "/api/v1/elsewhere")[0] == 404


def test_k10_a_caller_has_so_many_streams_and_no_more(served, clients, user):
    group = make_group()
    secret = tokens.login_token(user)
    mine = [clients.open(served, group.pk, token=secret) for _ in range(3)]

    assert handshake(served, path_of(group.pk, secret))[0] == 429
    mine[0].close()
    served.wait(lambda: handshake(served, path_of(group.pk, secret))[0] == 101)


def test_a_ticket_opens_one_stream_once(served, user):
    group = make_group()
    secret = tokens.login_token(user)
    ticket = served.call("POST", "/api/v1/stream_ticket", {}, token=secret)["ticket"]

    assert handshake(served, path_of(group.pk, ticket))[0] == 101
    assert handshake(served, path_of(group.pk, ticket))[0] == 401


def test_an_ordinary_request_for_a_stream_is_reported(served):
    text = head("GET", path_of("g"), Host="localhost", Connection="close")
    assert answer(served, text).endswith(b"not websocket protocol")


def test_no_token_is_in_the_log(served, clients):
    group = make_group()
    clients.open(served, group.pk, since=3)
    handshake(served, path_of(group.pk, "some-wrong-secret"))
    answer(served, head("GET", "/healthz?token=in-the-query", Host="localhost", Connection="close"))
    served.wait(lambda: served.line('"GET /healthz" 200'))

    log = "".join(served.lines)
    assert group.pk in log
    for secret in (TOKEN, "some-wrong-secret", "in-the-query"):
        assert secret not in log


# --- Frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 12", "Sec-WebSocket-Protocol: a, a"],
)
def test_a_broken_handshake_is_refused(served, line):
    assert handshake(served, path_of("g"), line)[0] == 400
    assert ok(served)


@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "Connection"])
def test_a_refused_handshake_repeats_nothing_that_was_sent(served, name):
    given = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    lines = [f"{each}: {value}" for each, value in (given | {name: "x-what-was-sent"}).items()]

    said = answer(served, "\r\n".join([f"GET {path_of('g')} HTTP/1.1", *lines, "", ""]))

    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n"), said[:200]
    assert b"x-what-was-sent" not in said


def test_what_clients_say_is_ignored(served):
    group = make_group()
    with Raw(served) as raw:
        raw.open(path_of(group.pk))
        raw.frame(b"x" * 4096)
        raw.frame(b"\x00\xff", opcode=2)
        raw.frame(b"{not json")
        make_task(group, id="t")

        assert json.loads(raw.read_frame()[1])["task"]["id"] == "t"


@pytest.mark.parametrize("length", [4097, 5_000, 2 * 1024 * 1024])
def test_k6_a_frame_that_is_too_long_ends_the_stream(served, length):
    group = make_group()
    with Raw(served) as raw:
        raw.open(path_of(group.pk))
        raw.frame(b"x" * length)

        assert raw.close_code() == 1009


def test_k6_fragments_are_counted_together(served):
    group = make_group()
    with Raw(served) as raw:
        raw.open(path_of(group.pk))
        raw.frame(b"x", final=False)
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                raw.frame(b"x", opcode=0, final=False)
            raw.read_frame()
            raw.read_frame()
    assert ok(served)


@pytest.mark.parametrize(
    ("opcode", "payload", "final"),
    [
        (9, b"x" * 125, True),  # pings
        (10, b"", True),  # pongs of nothing
        (1, b"x" * 4096, True),
        (2, b"", True),
        (1, b"", False),  # the beginning of a message, and its pings
    ],
)
def test_a_stream_that_sends_too_many_frames_is_closed(served, opcode, payload, final):
    """Also one that never reads: what it is owed does not grow."""
    group = make_group()
    before = served.memory()
    with Raw(served, buffer=4096) as raw:
        raw.open(path_of(group.pk))
        with contextlib.suppress(ConnectionError, TimeoutError):
            raw.frame(payload, opcode=opcode, final=final)
            many = framed(payload, opcode=opcode if final else 9) * 100
            for _ in range(200):
                raw.send(many)
        served.wait(lambda: served.line(f"Stream of group {group.pk} closed"))
    assert served.memory() - before < 8 * 1024 * 1024
    assert ok(served)


def test_a_stream_that_sends_too_many_frames_is_told_so(served):
    group = make_group()
    with Raw(served) as raw:
        raw.open(path_of(group.pk))
        for _ in range(FRAMES_AT_ONCE + 20):
            raw.frame(b"", opcode=9)
        assert raw.close_code() == 4429


def test_a_stream_that_pings_now_and_then_is_answered(served):
    group = make_group()
    with Raw(served) as raw:
        raw.open(path_of(group.pk))
        for number in range(FRAMES_AT_ONCE // 2):
            raw.frame(b"%d" % number, opcode=9)
            assert raw.read_frame() == (10, b"%d" % number)


def test_k12_an_abrupt_end_in_the_middle_of_a_send_hurts_nobody(served, clients):
    group = make_group()
    steady = clients.open(served, group.pk)
    for number in range(10):
        with Raw(served, buffer=4096) as raw:
            raw.open(path_of(group.pk))
            make_task(group, id=f"t{number}", input="x" * 500_000)
    steady.wait(lambda client: len(client.messages) == 10)
    steady.close()
    served.wait(served.nobody_watches)


def test_k9_a_client_that_reads_nothing_more_is_cut_off(hasty):
    """By time, also when too little comes for it to be dropped by size."""
    group = make_group()
    with Raw(hasty, buffer=4096) as raw:
        raw.open(path_of(group.pk))
        for number in range(12):
            make_task(group, id=f"t{number}", input="x" * 1_000_000)

        hasty.wait(hasty.nobody_watches)


def test_a_quiet_socket_is_pinged(hasty):
    group = make_group()
    with Raw(hasty) as raw:
        raw.open(path_of(group.pk))

        assert raw.read_frame()[0] == 9


def test_long_answers_come_whole_and_the_connection_is_used_again(served):
    path = "/static/admin/css/base.css"
    size = int(Path(finders.find("admin/css/base.css")).stat().st_size)
    with Raw(served, buffer=4096) as raw:
        for _ in range(3):
            raw.send(head("GET", path, Host="localhost"))
            said = raw.read_head()
            assert said.startswith(b"HTTP/1.1 200 ")
            assert f"content-length: {size}".encode() in said.lower()
            assert len(raw.read(size)) == size


# --- Start and stop ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sends_the_sockets_away_and_ends_the_process(number):
    group = make_group()
    with web() as served, Raw(served) as raw:
        raw.open(path_of(group.pk))
        served.process.send_signal(number)

        assert raw.close_code() == 1001
        raw.socket.close()
        assert served.process.wait(10) == 0
        served.stop()
        assert served.line("Stopped serving")
        assert served.errors() == ""


def test_a_request_that_waits_and_those_that_come_meanwhile_do_not_keep_it_from_ending():
    """The demo workers are async views: each waits in the loop, and a thread waits for it."""
    group = make_group()
    body = json.dumps({"input": {"seconds": 60}})
    with web() as served, Raw(served) as raw, Raw(served) as waits, Raw(served) as comes:
        raw.open(path_of(group.pk))
        comes.send(head("GET", "/healthz", Host="localhost"))
        assert comes.read_head().startswith(b"HTTP/1.1 200")
        waits.send(head(path="/demo/worker-a", Host="localhost", Content_Length=len(body)) + body)
        served.process.send_signal(signal.SIGTERM)
        assert raw.close_code() == 1001  # now it stops
        raw.socket.close()

        comes.send(head(path="/demo/worker-a", Host="localhost", Content_Length=len(body)) + body)

        refused = comes.read_all()
        assert b"HTTP/1.1 503 " in refused and b"\r\nRetry-After: 1\r\n" in refused
        assert served.process.wait(15) == 0
        assert served.errors() == ""


def test_a_port_in_use_is_said_in_one_line(served):
    done = subprocess.run(
        [sys.executable, "manage.py", "crewweb", "-b", "127.0.0.1", "-p", str(served.address[1])],
        cwd=ROOT,
        env=os.environ | {"DEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert "Couldn't listen" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_starts_without_its_database_and_says_so(tmp_path):
    missing = f"sqlite:///{tmp_path}/missing/crew.sqlite3"
    with web(DATABASE_URL=missing, CREW_AUTH_USERNAME="x", CREW_AUTH_PASSWORD="y" * 20) as served:
        assert served.line("account was not looked at")
        assert ok(served)


def test_the_operator_is_made_at_the_start(db):
    with web(CREW_AUTH_USERNAME="boss", CREW_AUTH_PASSWORD="y" * 20):
        assert get_user_model().objects.get(username="boss").is_superuser


# --- The same limits on any ASGI server -------------------------------------------------------


def through(parts, *, declared=None, method="POST", path=TASKS, **said):
    """What the limits make of a body that comes in parts; a None is a part that never comes."""
    left = list(parts)
    sent, read = [], []

    async def receive():
        part = left.pop(0)
        if part is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    async def application(scope, receive, send):
        more = True
        while more:
            message = await receive()
            read.append(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    headers = [(name.lower().encode(), value.encode()) for name, value in said.items()]
    headers += [(b"host", b"testserver")]
    headers += [] if declared is None else [(b"content-length", str(declared).encode())]
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    scope |= {"query_string": query.encode(), "client": ["192.0.2.1", 1]}
    asyncio.run(BodyLimit(application)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], sum(map(len, read))


def test_the_middleware_refuses_what_is_too_long():
    said = (413, b"request body larger than 10000 bytes\n")
    with override_settings(CREW_MAX_BODY_BYTES=10_000, CREW_AUTH_TOKEN=TOKEN):
        assert through([b"x" * 10_000], **KNOWN) == (200, b"ok", 10_000)
        assert through([b""], declared=10_001, **KNOWN) == (*said, 0)
        assert through([b"x" * 6_000, b"x" * 5_000], **KNOWN) == (*said, 6_000)
        assert through([b"x" * 10_001], **KNOWN) == (*said, 0)


@pytest.mark.parametrize(("method", "path", "said", "status"), STRANGERS)
def test_behind_any_server_a_stranger_sends_no_long_body(method, path, said, status):
    with override_settings(CREW_AUTH_TOKEN=TOKEN):
        about = {"Content-Type": LINES, **said}
        declared = through([], declared=50 * MEBI, method=method, path=path, **about)
        unsaid = through([b"x" * 9_000, None], method=method, path=path, **about)

    assert (declared[0], unsaid[0]) == (status, status)
    assert declared[2] == unsaid[2] == 0


def test_behind_any_server_an_address_has_so_many_connections():
    """Requests and streams under way, together."""
    codes = []

    async def run():
        over = asyncio.Event()

        async def application(scope, receive, send):
            await over.wait()

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            codes.append(message.get("status") or message.get("code"))

        def call(kind, client):
            scope = {"type": kind, "headers": [], "client": [client, 1]}
            return asyncio.ensure_future(limited(scope, receive, send))

        limited = ConnectionLimit(application)
        begun = [call("http", "192.0.2.1"), call("websocket", "192.0.2.1")]
        begun += [call("http", "192.0.2.2")]
        await asyncio.sleep(0)
        await call("http", "192.0.2.1")
        await call("websocket", "192.0.2.1")
        over.set()
        await asyncio.gather(*begun)
        await call("http", "192.0.2.1")

    with override_settings(CREW_MAX_CONNECTIONS=2):
        asyncio.run(run())
    assert [code for code in codes if code] == [429, 4429]


def test_the_middleware_refuses_what_does_not_come(monkeypatch):
    monkeypatch.setattr(bounds, "BODY_WITHIN", 0.1)

    assert through([b"x", None]) == (408, b"request body too slow\n", 1)


def test_with_v_0_no_request_is_logged():
    with_line, without = Web(), Web("-v", "0")
    try:
        for served in (with_line, without):
            served.call("GET", "/api/v1/task_groups")
            with pytest.raises(HTTPError):
                served.call("GET", "/api/v1/task_group/none")
            with Raw(served) as stream:
                stream.open(path_of(make_group().pk))
        with_line.wait(with_line.nobody_watches)
        with_line.wait(lambda: with_line.line("GET /api/v1/task_group/none"))
    finally:
        with_line.stop()
        without.stop()

    assert not [
        line for line in without.lines if "GET" in line or "tream" in line or "/api" in line
    ]
    assert without.line("Serving on ")

"""The demo workers: what they answer, as Django views, and as a program of their own."""

import asyncio
import http.client
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from django.test import AsyncClient, Client

import crewsite.urls
from workers_demo.workers import Answer, Call, answer, read_call, wait

PROGRAM = Path(__file__).parent.parent / "workers_demo" / "standalone.py"
DEADLINE = 20  # seconds
NOW = datetime(2026, 11, 24, 6, 20, 6, 999_999, tzinfo=UTC)
NO_WAIT = {"seconds": 0}


def body(given: object = None, **fields: object) -> bytes:
    call = {"input": given, "worker": "w", "parents": [], "taskId": "T1"}
    return json.dumps(call | fields).encode()


# --- What they answer ------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"null", b"[1]", b"{", b"\xff\xfe\xfd", b"[" * 100_000])
def test_a_body_that_is_no_call_counts_as_no_input(data):
    assert read_call(data) == Call()


@pytest.mark.parametrize("given", [None, [], "throw", 7, True])
def test_an_input_that_is_no_object_counts_as_no_input(given):
    assert read_call(body(given)) == Call(task_id="T1")


@pytest.mark.parametrize("throw", ["", None, 1, True, ["x"], {"a": 1}])
def test_throw_is_ignored_unless_it_is_a_text(throw):
    assert read_call(body({"throw": throw})).throw == ""


@pytest.mark.parametrize("seconds", [0, 1, 0.25, 60])
def test_seconds_replace_the_wait(seconds):
    call = read_call(body({"seconds": seconds}))

    assert wait("worker-b", call) == seconds


@pytest.mark.parametrize("seconds", ["-1", "60.5", "1e400", "NaN", "true", "null", '"1"', "[1]"])
def test_seconds_that_are_no_wait_are_ignored(seconds):
    call = read_call(b'{"input":{"seconds":%b}}' % seconds.encode())

    assert wait("worker-b", call) == 7


@pytest.mark.parametrize(
    ("worker", "seconds"), [("worker-a", 5), ("worker-b", 7), ("worker-c", 2), ("worker-d", 5)]
)
def test_each_worker_has_a_wait_of_its_own(worker, seconds):
    assert wait(worker, Call()) == seconds


@pytest.mark.parametrize("letter", "ABD")
def test_a_worker_says_that_it_was_here_and_when(letter):
    output = {"message": f"Worker {letter} was here!", "at": "2026-11-24T06:20:06Z"}

    assert answer(f"worker-{letter.lower()}", Call(), now=NOW) == Answer(200, {"output": output})


def test_the_time_is_given_in_utc():
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-7)))

    result = answer("worker-a", Call(), now=elsewhere).body["output"]["at"]

    assert result == "2026-11-24T06:20:06Z"


@pytest.mark.parametrize("worker", ["worker-a", "worker-c"])
def test_throw_makes_the_call_fail_with_its_text(worker):
    failed = answer(worker, read_call(body({"throw": "no luck"})), now=NOW)

    assert failed == Answer(500, {"error": "no luck"})


def test_worker_c_answers_with_a_diamond_of_children():
    a, b, c, d = answer("worker-c", Call(), now=NOW).body["children"]

    ids = [child.pop("id") for child in (a, b, c, d)]
    assert a == {"name": "Child A", "worker": "worker-a", "parentIds": []}
    assert b == {"name": "Child B", "worker": "worker-a", "parentIds": [ids[0]]}
    assert c == {"name": "Child C", "worker": "worker-b", "parentIds": [ids[0]]}
    assert d == {"name": "Child D", "worker": "worker-a", "parentIds": [ids[1], ids[2]]}
    for child_id, letter in zip(ids, "ABCD", strict=True):
        prefix, number = child_id.split("-")
        assert prefix == letter
        assert 0 < int(number) < 2**63


def test_worker_c_chooses_new_ids_each_time():
    first, second = (answer("worker-c", Call(), now=NOW).body["children"] for _ in "12")

    assert {child["id"] for child in first}.isdisjoint(child["id"] for child in second)


def test_worker_c_hands_its_seconds_on_to_its_children():
    children = answer("worker-c", Call(seconds=0), now=NOW).body["children"]

    assert [child["input"] for child in children] == [NO_WAIT] * 4


# --- As Django views -------------------------------------------------------------------------


def post_sync(path, data):
    return Client(enforce_csrf_checks=True).post(path, data, content_type="application/json")


def post_async(path, data):
    client = AsyncClient(enforce_csrf_checks=True)
    return asyncio.run(client.post(path, data, content_type="application/json"))


@pytest.mark.urls("workers_demo.urls")
@pytest.mark.parametrize("post", [post_sync, post_async])
@pytest.mark.parametrize("letter", "abcd")
def test_a_view_answers_as_its_worker(post, letter):
    response = post(f"/worker-{letter}", body(NO_WAIT))

    assert response.status_code == 200
    assert response.json()["output"]["message"] == f"Worker {letter.upper()} was here!"
    assert len(response.json().get("children", [])) == (4 if letter == "c" else 0)


@pytest.mark.urls("workers_demo.urls")
@pytest.mark.parametrize("post", [post_sync, post_async])
def test_a_view_fails_when_asked_to(post):
    response = post("/worker-b", body(NO_WAIT | {"throw": "no luck"}))

    assert response.status_code == 500
    assert response.json() == {"error": "no luck"}


@pytest.mark.urls("workers_demo.urls")
@pytest.mark.parametrize("data", [b"", b"nonsense"])
def test_a_view_waits_as_usual_after_a_bad_body(data, monkeypatch):
    monkeypatch.setitem(wait.__globals__["WAITS"], "worker-a", 0)

    response = post_sync("/worker-a", data)

    assert response.status_code == 200


@pytest.mark.urls("workers_demo.urls")
def test_calls_that_wait_do_not_hold_each_other_up():
    async def first_answer():
        client = AsyncClient()
        calls = [
            client.post("/worker-a", body({"seconds": seconds}), content_type="application/json")
            for seconds in (60, 0)
        ]
        tasks = [asyncio.ensure_future(call) for call in calls]
        done, waiting = await asyncio.wait(
            tasks, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
        )
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return tasks.index(done.pop())

    assert asyncio.run(first_answer()) == 1


@pytest.mark.urls("workers_demo.urls")
@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_a_view_takes_nothing_but_post(method):
    response = getattr(Client(), method)("/worker-a")

    assert response.status_code == 405
    assert response["Allow"] == "POST"
    assert response.json() == {"message": "Method Not Allowed"}


@pytest.mark.urls("workers_demo.urls")
def test_a_view_refuses_a_body_larger_than_django_takes(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10

    response = post_sync("/worker-a", body(NO_WAIT))

    assert response.status_code == 413
    assert "error" in response.json()


@pytest.mark.parametrize("debug", [True, False])
def test_the_site_serves_the_demo_workers_only_when_debugging(settings, debug):
    settings.DEBUG = debug

    patterns = runpy.run_path(crewsite.urls.__file__)["urlpatterns"]

    assert ("demo/" in [str(pattern.pattern) for pattern in patterns]) is debug


def test_the_site_says_that_it_is_healthy():
    response = Client().get("/healthz")

    assert (response.status_code, response.content) == (200, b"Healthy!")


# --- As a program ----------------------------------------------------------------------------


@dataclass
class Program:
    process: subprocess.Popen
    port: int
    log: Path

    def connect(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


@contextmanager
def running(log: Path, *arguments: str, **environment: str) -> Iterator[Program]:
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, str(PROGRAM), "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=os.environ | environment,
            text=True,
        ) as process,
    ):
        try:
            assert select.select([process.stdout], [], [], DEADLINE)[0], "not ready in time"
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), log.read_text()
            yield Program(process, int(line.rstrip("/\n").rpartition(":")[2]), log)
        finally:
            process.kill()


@pytest.fixture
def log(tmp_path):
    return tmp_path / "stderr"


@pytest.fixture
def program(log):
    with running(log) as program:
        yield program


def ask(connection, path="/worker-a", data=None, *, method="POST", **headers):
    connection.request(method, path, body(NO_WAIT) if data is None else data, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_the_program_serves_the_same_workers(program):
    with program.connect() as connection:
        status, answered = ask(connection, "/worker-c")

    assert status == 200
    assert answered["output"]["message"] == "Worker C was here!"
    assert [child["input"] for child in answered["children"]] == [NO_WAIT] * 4


def test_the_program_answers_many_calls_on_one_connection(program):
    with program.connect() as connection:
        statuses = []
        for path in ("/worker-a", "/worker-x", "/worker-b"):
            statuses.append(ask(connection, path)[0])
            kept = connection.sock
        assert kept is not None

    assert statuses == [200, 404, 200]


def test_the_program_fails_when_asked_to(program):
    with program.connect() as connection:
        answered = ask(connection, data=body(NO_WAIT | {"throw": "no luck"}))

    assert answered == (500, {"error": "no luck"})


def test_the_program_takes_nothing_but_post(program):
    with program.connect() as connection:
        status, answered = ask(connection, data=b"", method="GET")

    assert (status, answered) == (405, {"error": "workers are called by POST"})


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Transfer-Encoding: chunked", b"411"),
        ("Content-Length: -1", b"411"),
        (f"Content-Length: {10 * 1024 * 1024 + 1}", b"413"),
    ],
)
def test_the_program_refuses_a_body_that_it_will_not_read(program, header, status):
    with socket.create_connection(("127.0.0.1", program.port), timeout=DEADLINE) as sock:
        sock.sendall(f"POST /worker-a HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        with sock.makefile("rb") as file:
            everything = file.read()  # to its end: the connection is closed

    assert everything.split()[1] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "secret"}, 401),
        ({"Authorization": "Bearer Secret"}, 401),
        ({"Authorization": "Bearer secret\u00e9"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
    ],
)
def test_the_program_works_only_for_those_who_know_the_token(log, headers, status):
    with running(log, "--token", "secret") as program, program.connect() as connection:
        assert ask(connection, **headers)[0] == status


def test_a_refused_call_leaves_its_connection_usable(log):
    with running(log, WORKER_TOKEN="secret") as program, program.connect() as connection:
        refused, _ = ask(connection)
        worked, _ = ask(connection, Authorization="Bearer secret")

    assert (refused, worked) == (401, 200)


def test_the_program_does_not_start_with_an_empty_token():
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--port", "0", "--token", ""],
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )

    assert done.returncode == 2
    assert b"the token is empty" in done.stderr


def test_the_program_runs_as_a_module_too():
    done = subprocess.run(
        [sys.executable, "-m", "workers_demo.standalone", "--help"],
        cwd=PROGRAM.parent.parent,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )

    assert done.returncode == 0


def test_each_call_leaves_one_line_in_the_log(program):
    with program.connect() as connection:
        ask(connection, data=body(NO_WAIT, taskId="T1\nforged"))
        ask(connection, "/worker-x")

    program.stop()
    lines = program.log.read_text().splitlines()
    assert len(lines) == 2
    assert "'/worker-a', task 'T1\\nforged': 200 after " in lines[0]
    assert "'/worker-x', task '': 404 after" in lines[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_stops_at_once_even_while_calls_wait(program, number):
    with program.connect() as waiting, program.connect() as other:
        waiting.request("POST", "/worker-a", body({"seconds": 60}))
        ask(other)  # connections are accepted in turn, so the first has been

        program.process.send_signal(number)
        code = program.process.wait(DEADLINE)

    assert code == 0
    assert "Traceback" not in program.log.read_text()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", program.port), timeout=DEADLINE)

"""The sink that benchmarks and chaos tests count on: nothing is lost, mixed up or miscounted."""

import json
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.sink import MAX_BODY, Connection, Sink

PROGRAM = Path(__file__).parent.parent / "benchmarks" / "sink.py"
DEADLINE = 20  # seconds


def request(path, call=None, *headers, method="POST"):
    data = b"" if call is None else json.dumps(call).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


def call(task_id="T1", **given):
    return {"input": given, "worker": "w", "parents": [], "taskId": task_id}


# --- The protocol, without a network ---------------------------------------------------------


class Transport:
    def __init__(self):
        self.written = b""
        self.is_closed = False

    def write(self, data):
        self.written += data

    def close(self):
        self.is_closed = True


def feed(*pieces, sink=None):
    transport = Transport()
    connection = Connection(sink or Sink())
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
    return transport


def answers(transport):
    """The bodies written, each as long as its head says."""
    rest, bodies = transport.written, []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = int(head.rpartition(b"Content-Length: ")[2])
        bodies.append(json.loads(rest[:length]))
        rest = rest[length:]
    return bodies


def test_a_request_may_be_cut_anywhere():
    whole = request("/echo", call(text="a\r\n\r\nb"))

    for cut in range(1, len(whole)):
        assert answers(feed(whole[:cut], whole[cut:])) == [{"output": call(text="a\r\n\r\nb")}]


def test_requests_may_come_byte_by_byte():
    both = request("/ok", call()) + request("/echo", call("T2"))

    pieces = [both[i : i + 1] for i in range(len(both))]

    assert answers(feed(*pieces)) == [{"output": {"n": 1}}, {"output": call("T2")}]


def test_requests_may_come_all_at_once():
    sink = Sink()

    transport = feed(request("/ok", call()) * 100 + request("/noop")[:-3], sink=sink)

    assert answers(transport) == [{"output": {"n": 1}}] * 100
    assert (sink.calls, sink.in_flight, sink.max_in_flight) == (100, 0, 1)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /noop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /noop HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), b"413"),
        (b"x" * 70_000, b"431"),
    ],
)
def test_what_cannot_be_read_on_is_answered_and_closed(data, status):
    transport = feed(data, request("/ok"))

    assert transport.written.split()[1] == status
    assert transport.written.count(b"HTTP/1.1") == 1
    assert transport.is_closed


@pytest.mark.parametrize(
    "last", [request("/ok", None, "Connection: close"), b"POST /ok HTTP/1.0\r\n\r\n"]
)
def test_a_caller_that_wants_to_close_is_closed_after_its_answer(last):
    transport = feed(last + request("/ok"))

    assert answers(transport) == [{"output": {"n": 1}}]
    assert transport.is_closed


@pytest.mark.parametrize(
    ("path", "status"), [("/other", b"404"), ("/echo?x", b"404"), ("/chain", b"400")]
)
def test_a_call_to_nobody_or_that_is_not_json_is_not_counted(path, status):
    sink = Sink()

    transport = feed(request(path).replace(b"Length: 0", b"Length: 1") + b"[", sink=sink)

    assert transport.written.split()[1] == status
    assert sink.calls == 0


# --- The workers -----------------------------------------------------------------------------


def ask(path, **given):
    return answers(feed(request(path, call(**given))))[0]


def test_noop_answers_null_whatever_it_is_sent():
    assert answers(feed(request("/noop").replace(b": 0", b": 1") + b"[")) == [{"output": None}]


def test_fan_answers_with_children_and_one_that_waits_for_all():
    *children, join = ask("/fan", children=3)["children"]

    assert [child["worker"] for child in children] == ["noop"] * 3
    assert join["name"] == "join"
    assert join["worker"] == "noop"
    assert join["parentIds"] == [child["id"] for child in children]
    assert len({join["id"], *join["parentIds"]}) == 4


def test_fan_has_five_thousand_children_unless_set_otherwise():
    assert len(ask("/fan")["children"]) == 5001


def test_fan_chooses_new_ids_each_time():
    first, second = (ask("/fan", children=1)["children"][0]["id"] for _ in "12")

    assert first != second


@pytest.mark.parametrize(("left", "children"), [(2, [1]), (1, [0]), (0, []), ("x", [])])
def test_chain_goes_on_until_nothing_is_left(left, children):
    answered = ask("/chain", left=left)["children"]

    assert answered == [{"worker": "chain", "input": {"left": n}} for n in children]


@pytest.mark.parametrize(("depth", "children"), [(3, [2, 2]), (1, []), (0, [])])
def test_tree_parts_in_two_until_its_depth_is_reached(depth, children):
    answered = ask("/tree", depth=depth)["children"]

    assert answered == [{"worker": "tree", "input": {"depth": n}} for n in children]


# --- The program -----------------------------------------------------------------------------


class Caller:
    """One connection to a sink."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def read(self):
        length = 0
        while line := self.file.readline().strip():
            if line.startswith(b"Content-Length: "):
                length = int(line.split()[1])
        return json.loads(self.file.read(length))

    def ask(self, *args, **options):
        self.send(request(*args, **options))
        return self.read()

    def stats(self):
        return self.ask("/stats", method="GET")


@contextmanager
def running(*arguments):
    command = [sys.executable, str(PROGRAM), "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert select.select([process.stdout], [], [], DEADLINE)[0], "not ready in time"
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:")
            yield process, int(line.rstrip("/\n").rpartition(":")[2])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def port():
    with running() as (_, port):
        yield port


@pytest.fixture
def caller(port):
    with Caller(port) as caller:
        caller.ask("/reset-stats")
        yield caller


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def test_a_connection_serves_many_calls(caller):
    answered = [caller.ask("/ok", call()) for _ in range(50)]

    assert answered == [{"output": {"n": 1}}] * 50
    assert caller.stats() == {"calls": 50, "in_flight": 0, "max_in_flight": 1}


def test_a_large_body_in_pieces_comes_back_whole(caller):
    large = call(text="x" * 3_000_000)
    data = request("/echo", large)

    for start in range(0, len(data), 50_000):
        caller.send(data[start : start + 50_000])

    assert caller.read() == {"output": large}


def test_an_answer_that_takes_its_time_goes_before_those_asked_for_later(caller):
    caller.send(request("/sleep", call(seconds=0.05)) + request("/ok", call()))

    assert caller.read() == {"output": None}
    assert caller.read() == {"output": {"n": 1}}


def test_calls_in_flight_are_counted_until_their_caller_leaves(port, caller):
    with Caller(port) as one, Caller(port) as two:
        one.send(request("/sleep", call(seconds=600)))
        two.send(request("/sleep", call(seconds=600)))
        wait_until(lambda: caller.stats()["in_flight"] == 2)

    wait_until(lambda: caller.stats()["in_flight"] == 0)
    assert caller.stats() == {"calls": 2, "in_flight": 0, "max_in_flight": 2}


def test_stats_can_be_reset(caller):
    caller.ask("/ok", call())

    caller.ask("/reset-stats")

    assert caller.stats() == {"calls": 0, "in_flight": 0, "max_in_flight": 0}


def test_each_call_is_in_the_log_when_it_is_answered(tmp_path):
    log = tmp_path / "calls.log"
    log.write_text("before 1\n")

    with running("--log", str(log)) as (_, port), Caller(port) as caller:
        caller.ask("/noop", call("T1"), "X-Crew-Attempt: 3")
        caller.ask("/chain", call("T 2", left=1), "x-crew-attempt: 12")
        caller.ask("/ok", call("T\n3"))
        logged = log.read_text()

    assert logged == 'before 1\nT1 3\nT 2 12\n"T\\n3" -\n'


def test_every_answered_call_is_in_the_log_after_sigterm(tmp_path):
    log = tmp_path / "calls.log"

    with running("--log", str(log)) as (process, port), Caller(port) as caller:
        caller.send(b"".join(request("/ok", call(f"T{n}")) for n in range(1000)))
        for _ in range(1000):
            caller.read()
        process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE)

    assert code == 0
    assert log.read_text().split("\n")[:-1] == [f"T{n} -" for n in range(1000)]

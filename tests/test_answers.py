"""One table of answers for both deliverers: each row has the verdict that docs/answers.md tells."""

import random
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.rules.answer_reader import Reader
from tasks.rules.decide import Bounds, Completed, Failed, Held, decide

from . import test_deliver
from .answers_table import LIMIT, ROWS, Row, interim, ok, sized
from .stub_worker import answer, in_turn
from .test_deliver import make_delivery

start, worker = test_deliver.start, test_deliver.worker  # fixtures
PAGE = Path(__file__).resolve().parent.parent / "docs" / "answers.md"
NEXT = b'{"output":"of the next"}'
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def sends(row: Row):
    def behave(exchange):
        for piece in [row.sent] if isinstance(row.sent, bytes) else row.sent:
            exchange.send(piece)
            exchange.stopping.wait(0.0005)
        if row.closes:
            exchange.close()

    return behave


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.comes)
def test_an_answer_has_one_meaning(start, worker, row):
    worker.behaviour = in_turn(sends(row), answer(body=NEXT))
    calls = start(worker.url)

    got = calls.one()
    following = calls.one()

    outcome = decide(got, workgroup="", bounds=Bounds(answer_bytes=LIMIT), now=NOW)
    if row.held:
        assert outcome == Held(row.held, row.error, note=row.note)
    elif row.error:
        assert outcome == Failed(row.error, note=row.note)
    else:
        assert outcome == Completed(None if row.output == "null" else row.output, note=row.note)
    assert (following.status, following.body) == (200, NEXT)
    first, second = (request.connection for request in worker.requests)
    assert (first == second) is row.kept


def test_the_page_tells_the_table():
    result = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]

    assert [line for line in result if not line.startswith("| what comes")] == [
        row.line for row in ROWS
    ]


# What depends on when it comes


def test_twelve_tasks_behind_interim_answers_have_each_its_own_output(start, worker):
    def behave(exchange):
        exchange.send(interim(102))
        exchange.stopping.wait(0.02)
        exchange.send(sized(b'{"output":%s}' % exchange.request.body))

    worker.behaviour = behave
    calls = start(worker.url, CREW_SLOTS=2)

    calls.deliverer.send([make_delivery(f"t{n}", body=b"%d" % n) for n in range(12)])
    calls.wait(12)
    for n in range(12, 24):
        calls.one(make_delivery(f"t{n}", body=b"%d" % n))

    outputs = {delivery.task_id: got.body for delivery, got in calls.answers}
    assert outputs == {f"t{n}": b'{"output":%d}' % n for n in range(24)}


def test_what_comes_between_two_calls_is_no_answer(start, worker):
    """The next call is sent from the very callback that gave the first answer."""
    sent, given = threading.Event(), threading.Event()

    def behave(exchange):
        exchange.send(ok())
        given.wait(10)
        exchange.send(ok(body=b'{"output":9}'))
        sent.set()

    worker.behaviour = in_turn(behave, answer(body=NEXT))
    calls = start(worker.url)
    take = calls._on_answer

    def on_answer(delivery, got):
        if delivery.task_id == "first":
            given.set()
            sent.wait(10)
            calls.deliverer.send([make_delivery("second")])
        take(delivery, got)

    calls.deliverer.stop()
    calls.deliverer.start(on_answer)
    calls.deliverer.send([make_delivery("first")])
    calls.wait(2)

    got = {delivery.task_id: answer.body for delivery, answer in calls.answers}
    assert got == {"first": b'{"output":1}', "second": NEXT}


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_an_answer_before_the_call_was_read_ends_its_connection(start, worker, size):
    """The worker neither reads the rest nor closes; what it sends then is nobody's answer."""
    worker.reads_bodies = size < 100
    answers = in_turn(lambda exchange: exchange.send(ok()), answer(body=NEXT))

    def behave(exchange):
        worker.reads_bodies = True
        answers(exchange)
        if size > 100 and len(worker.requests) == 1:
            exchange.stopping.wait()

    worker.behaviour = behave
    calls = start(worker.url)

    first = calls.one(make_delivery(body=b" " * size))
    second = calls.one()

    assert (first.body, second.body) == (b'{"output":1}', NEXT)
    one, other = (request.connection for request in worker.requests)
    assert (one == other) is (size < 100)


@pytest.mark.parametrize(
    ("greeting", "status", "error"),
    [
        (b"HTTP/1.1 503 Full\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n", 503, ""),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", None, "the worker did not answer in HTTP/1.1"),
        (b"", None, "the worker closed the connection without an answer"),
    ],
    ids=["a full server", "another protocol", "nothing"],
)
def test_a_server_that_speaks_first_is_understood(start, greeting, status, error):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calls = start(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        calls.deliverer.send([make_delivery()])
        server, _ = listener.accept()
        with server:
            server.sendall(greeting)
            server.shutdown(socket.SHUT_WR)
            (got,) = calls.wait(1)

    assert (got.status, got.error) == (status, error)


def test_a_rate_limit_counts_though_its_body_never_comes(start, worker):
    worker.behaviour = lambda exchange: (
        exchange.send(b"HTTP/1.1 429 Slow\r\nRetry-After: 5\r\nContent-Length: 9\r\n\r\nsl"),
        exchange.stopping.wait(),
    )

    got = start(worker.url, CREW_DELIVERY_TIMEOUT_SECONDS=0.4).one()

    assert (got.status, got.retry_after) == (429, "5")
    assert got.error == "no complete answer within 0.4 s"


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("row", [row for row in ROWS if len(row.sent) < 2_000 and not row.closes])
def test_an_answer_means_the_same_in_any_pieces(row, size):
    sent = row.sent if isinstance(row.sent, bytes) else b"".join(row.sent)
    whole, pieces = Reader(LIMIT), Reader(LIMIT)

    at_once = whole.feed(sent)
    came = None
    for at in range(0, len(sent), size):
        came = came or pieces.feed(sent[at : at + size])

    assert came == at_once


@pytest.mark.parametrize("seed", range(40))
def test_no_bytes_are_too_odd_for_the_reader(seed):
    """Rows cut, mixed and damaged: an answer or a sentence, and the same in any pieces."""
    chance = random.Random(seed)
    known = [row.sent for row in ROWS if isinstance(row.sent, bytes) and 0 < len(row.sent) < 2_000]
    for _ in range(50):
        first, second = chance.choice(known), chance.choice(known)
        mixed = bytearray(first[: chance.randrange(len(first))])
        mixed += second[chance.randrange(len(second)) :]
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(mixed) + 1)
            mixed[at : at + chance.randrange(3)] = chance.choice(
                [b"", b"\r", b"\n", b"\0", b" ", b",", b"\x1f", b"0", b"\r\n", interim(102)]
            )
        whole, pieces = Reader(LIMIT), Reader(LIMIT)
        size = chance.randint(1, 30)

        at_once = whole.feed(bytes(mixed)) or whole.end()
        came = None
        for at in range(0, len(mixed), size):
            came = came or pieces.feed(bytes(mixed[at : at + size]))

        assert (came or pieces.end()) == at_once
        assert at_once.status or at_once.error


def test_an_answer_in_a_million_chunks_takes_no_square_of_time():
    reader = Reader(1_000_000)
    reader.feed(ok(b"Transfer-Encoding: chunked\r\n", b""))
    part = b"1\r\nx\r\n" * 50_000

    began = time.process_time()
    for _ in range(4):
        reader.feed(part)

    assert time.process_time() - began < 10  # it takes 0.3 s; squared it would be minutes

"""What a scheduler holds for its calls is one sum, and who waits for room has it in turn."""

import json
import queue
import threading
from contextlib import contextmanager

import pytest

from tasks.delivery.calls import LARGE, Delivery, make_deliverer
from tasks.engine import set_aside
from tasks.engine.lease import Lease
from tasks.engine.ledger import Ledger, weight
from tasks.engine.scheduler import Scheduler
from tasks.engine.set_aside import Aside
from tasks.engine.settlement import Left, Settlement, Why
from tasks.rules.decide import CANCELLED, Answer, Completed
from tasks.rules.transcript import Transcript

from .stub_worker import StubWorker, answer, by_task, never

KB = 1_000
DELIVERERS = pytest.mark.parametrize("deliverer", ["asyncio", "requests"])


@pytest.fixture(autouse=True)
def small(settings):
    settings.CREW_CALLS_BYTES = 1_000 * KB


class Asking:
    """A ledger, and whose answers it let go on."""

    def __init__(self):
        self.aside = 0
        self.ledger = Ledger(lambda: self.aside)
        self.went = []

    def ask(self, name, size, group="g"):
        return self.ledger.ask((name, 1), group, size * KB, lambda: self.went.append(name))

    def came(self, name, size):
        self.ledger.came((name, 1), Answer(200, b"x" * size * KB))

    def keep(self, *names, closed=()):
        self.ledger.keep({(name, 1) for name in names}, closed)


def settlement(name, group="g", size=1):
    lease = Lease(name, 1, group, "w", "", "", "me")
    return Settlement(lease, Completed("x" * size * KB))


# --- The sum ---


def test_bodies_and_answers_and_what_is_aside_share_the_room():
    all_ = Asking()
    all_.ledger.sends({("body", 1): 300 * KB})
    all_.aside = 200 * KB

    assert all_.ask("a", 400)
    assert all_.ledger.room() == 100 * KB
    assert not all_.ask("b", 200)
    assert all_.ledger.room() == 0  # a claim takes nothing from those that wait
    assert all_.ledger.sent(("body", 1))
    all_.keep("a")

    assert all_.went == ["b"]
    assert all_.ledger.room() == 200 * KB


def test_who_waits_has_room_in_turn_and_what_is_written_is_free():
    all_ = Asking()

    assert all_.ask("a", 5_000)  # alone it has room, however large
    assert [all_.ask(name, 600) for name in "bc"] == [False, False]
    assert not all_.ask("d", 10)  # it would have room, but they were first
    all_.came("a", 800)  # as large as it turned out to be
    all_.came("c", 0)  # cut while it waited
    all_.keep("a", "b", "d")
    assert all_.went == []
    all_.keep("b", "d")

    assert all_.went == ["b", "d"]
    all_.came("b", 0)
    all_.came("d", 0)
    assert not all_.ledger.has_answers
    assert all_.ledger.room() == 1_000 * KB


def test_an_answer_that_came_whole_counts_whatever_the_room():
    all_ = Asking()
    all_.came("a", 3_000)

    assert all_.ledger.room() < 0
    assert not all_.ask("b", 100)
    all_.keep()
    assert all_.went == ["b"]


def test_no_answer_is_read_for_a_memory_that_is_full_of_what_is_aside():
    all_ = Asking()
    all_.aside = 1_000 * KB

    assert not all_.ask("a", 100)
    all_.aside = 0
    all_.keep()

    assert all_.went == ["a"]


def test_answers_of_stuck_groups_wait_and_stop_no_others():
    all_ = Asking()
    all_.keep(closed={"locked"})

    assert not all_.ask("a", 100, "locked")
    assert not all_.ask("b", 100)
    all_.keep(closed={"locked"})
    assert all_.went == ["b"]
    all_.keep("b", closed=())

    assert all_.went == ["b", "a"]


def test_what_is_kept_of_a_call_to_be_shown_counts_until_it_ends(settings):
    settings.CREW_KEEP_CALL_BYTES = 100 * KB
    all_ = Asking()
    all_.ledger.sends({("a", 1): 300 * KB})

    all_.ledger.sent(("a", 1))
    assert all_.ledger.room() == 900 * KB
    kept = Answer(200, b"{}", transcript=Transcript("x" * 100 * KB, "{}"))
    all_.ledger.came(("a", 1), kept)

    assert all_.ledger.room() == 900 * KB - 4
    all_.keep()
    assert all_.ledger.room() == 1_000 * KB


def test_small_answers_count_for_nothing():
    all_ = Asking()
    all_.ledger.came(("a", 1), Answer(200, b"x" * LARGE))

    assert not all_.ledger.has_answers


def test_weight_is_what_a_text_takes_in_memory_not_its_length():
    lease = Lease("t", 1, "g", "w", "", "", "me")
    plain, wide = (weight(Settlement(lease, Completed("x" * 9_000 + c))) for c in ("x", "😀"))

    assert wide > 3 * plain


# --- What is aside ---


def test_a_stuck_group_has_half_of_the_memory(settings):
    held = Aside("me", None)
    held._stopped = True  # no thread
    held.put([Left(settlement("a", "locked", 400), Why.GROUP)])
    assert list(held.full()) == []
    held.put([Left(settlement("b", "locked", 400), Why.GROUP)])
    assert list(held.full()) == ["locked"]
    assert held.has_room
    held.put([Left(settlement("c", "other", 400), Why.TASK)])
    assert list(held.full()) == ["locked"]
    assert not held.has_room


def test_large_answers_that_are_aside_are_not_written_at_once(monkeypatch):
    monkeypatch.setattr(set_aside, "BATCH_BYTES", 100 * KB)
    held = Aside("me", None)
    held._stopped = True
    held.put(Left(settlement(f"t{n}", size=30), Why.GROUP) for n in range(10))
    held.put([Left(settlement("huge", size=900), Why.GROUP)])

    batches = [len(batch) for batch in set_aside._batches(held._due("g"))]

    assert batches == [3, 3, 3, 1, 1]


# --- The deliverers ---


@contextmanager
def asking(settings, deliverer, behave):
    """A deliverer, what came of its calls, and what asked for room with the call that goes on."""
    settings.CREW_DELIVERER = deliverer
    answers, asked = queue.Queue(), queue.Queue()
    calls = make_deliverer(deliverer)
    calls.ask = lambda delivery, size, go_on: asked.put((size, go_on))
    with StubWorker(behave) as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        calls.start(lambda delivery, each: answers.put((delivery.task_id, each)))
        try:
            yield calls, answers, asked
        finally:
            calls.stop()


def send(calls, name="t"):
    calls.send([Delivery(name, 1, "w", json.dumps({"taskId": name}).encode())])


@DELIVERERS
def test_a_call_that_awaits_room_gets_new_time(settings, deliverer):
    """Another call, begun when it is held, is over meanwhile: twice its time and more."""
    settings.CREW_DELIVERY_TIMEOUT_SECONDS = 1
    body = json.dumps({"output": "x" * 1_000_000}).encode()
    behave = by_task({"never": never}, answer(body=body))
    with asking(settings, deliverer, behave) as (calls, answers, asked):
        send(calls, "held")
        size, go_on = asked.get(timeout=30)
        for _ in range(2):
            send(calls, "never")
            assert answers.get(timeout=30)[0] == "never"
        go_on()
        name, came = answers.get(timeout=30)

        send(calls, "cut")
        asked.get(timeout=30)
        calls.cut({("cut", 1)})
        _, cut = answers.get(timeout=30)

    assert (name, came.status, came.body, came.error) == ("held", 200, body, "")
    assert size == len(body)
    assert cut.error == CANCELLED


@DELIVERERS
@pytest.mark.parametrize("ending", ["length", "chunks", "close"])
def test_an_answer_is_read_on_only_when_there_is_room(settings, deliverer, ending):
    """And until then no more of it than is needed to see that it is large."""
    output = b'{"output":"' + b"x" * 500_000 + b'"}'
    head, body = {
        "length": (b"Content-Length: %d\r\n" % len(output), output),
        "chunks": (
            b"Transfer-Encoding: chunked\r\n",
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(output), output),
        ),
        "close": (b"Connection: close\r\n", output),
    }[ending]

    def behave(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)
        exchange.close()

    with asking(settings, deliverer, behave) as (calls, answers, asked):
        send(calls)
        size, go_on = asked.get(timeout=30)
        assert answers.empty()
        go_on()
        _, came = answers.get(timeout=30)

    assert (came.status, came.body, came.error) == (200, output, "")
    assert size == (len(output) if ending == "length" else settings.CREW_MAX_ANSWER_BYTES)


@DELIVERERS
def test_a_worker_that_gives_up_while_we_do_not_read_costs_no_attempt(settings, deliverer):
    has_given_up = threading.Event()

    def behave(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 40_000)
        exchange.reset()
        has_given_up.set()

    with asking(settings, deliverer, behave) as (calls, answers, asked):
        send(calls)
        _, go_on = asked.get(timeout=30)
        assert has_given_up.wait(30)
        go_on()
        _, came = answers.get(timeout=30)

    assert came.error == CANCELLED
    assert came.may_run


def test_a_scheduler_counts_what_came_until_it_is_written(settings):
    settings.CREW_WORKER_BASE_URL = "http://127.0.0.1:9/"
    scheduler = Scheduler(slots=4)
    lease = Lease("t", 1, "g", "w", "", "", scheduler.me)
    scheduler._in_flight["t", 1] = lease
    scheduler._on_answer(Delivery("t", 1, "w", b""), Answer(200, b'"' + b"x" * 700 * KB + b'"'))
    went = []

    assert not scheduler._ask(Delivery("u", 1, "w", b""), 400 * KB, lambda: went.append("u"))
    scheduler._take_answers()
    scheduler._let_answers_go_on()
    assert went == []
    scheduler._forget_settled()
    scheduler._let_answers_go_on()

    assert went == ["u"]

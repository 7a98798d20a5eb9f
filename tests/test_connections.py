"""Connections to workers: hosts with several addresses, and connections that their hosts close."""

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.client import Crew
from tasks.client.errors import Unreachable
from tasks.delivery import pool, reach, thread_calls, unread
from tasks.engine.scheduler import Scheduler
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.models import Attempt, Limit, Task
from tasks.rules import keep_alive
from tasks.rules.answer_reader import CLOSED, UNREAD
from tasks.rules.decide import Answer, Failed, Interrupted, decide
from tasks.rules.keep_alive import Idle
from tasks.rules.outages import Fault

from . import stub_worker, test_deliver
from .factories import claim_one, from_now, make_group, make_task, wire
from .stub_worker import answer, in_turn
from .test_answers import NOW
from .test_deliver import OK, make_delivery, wait_until

start, worker = test_deliver.start, test_deliver.worker  # fixtures
kernel_knows = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


# --- Addresses ---


@contextmanager
def dropping(host: str, port: int) -> Iterator[None]:
    """An address that takes no packets: the place of who waits to be accepted is taken."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect((host, port))
        yield


def resolving(monkeypatch: Any, *addresses: str) -> None:
    """These are the addresses of the host "many.test"."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host != "many.test":
            return real(host, port, *args, **kwargs)
        found = []
        for address in addresses:
            is_six = ":" in address
            family = socket.AF_INET6 if is_six else socket.AF_INET
            place = (address, port, 0, 0) if is_six else (address, port)
            found.append((family, socket.SOCK_STREAM, 6, "", place))
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_the_next_address_is_tried_beside_one_that_drops_packets(start, worker, monkeypatch):
    monkeypatch.setattr(reach, "EACH", 60.0)
    monkeypatch.setattr(pool, "EACH", 60.0)
    resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
    worker.behaviour = stub_worker.raw(OK)  # each call has a connection of its own
    with dropping("127.0.0.2", worker.port):
        calls = start(f"http://many.test:{worker.port}/")

        assert calls.one().status == 200

        # From then on nobody waits for the first: there would be no time for the next.
        monkeypatch.setattr(reach, "APART", 60.0)
        monkeypatch.setattr(pool, "APART", 60.0)
        calls.deliverer.send([make_delivery(f"t{n}") for n in range(20)])
        assert [got.status for got in calls.wait(21)] == [200] * 21


@pytest.mark.parametrize("is_first", [True, False])
def test_without_a_spare_socket_the_next_address_waits_for_the_first(
    start, worker, monkeypatch, is_first
):
    monkeypatch.setattr(reach.Spare, "take", lambda self: False)
    monkeypatch.setattr(reach, "EACH", 0.1)
    monkeypatch.setattr(pool, "EACH", 0.1)
    addresses = ["127.0.0.2", "127.0.0.1"]
    resolving(monkeypatch, *(addresses if is_first else reversed(addresses)))
    with dropping("127.0.0.2", worker.port):
        assert start(f"http://many.test:{worker.port}/").one().status == 200


def test_all_spare_sockets_are_given_back(start, worker, monkeypatch):
    spares: list[reach.Spare] = []
    real = reach.Spare.__init__

    def note(self: reach.Spare, count: int = 2) -> None:
        spares.append(self)
        real(self, 2)

    monkeypatch.setattr(reach.Spare, "__init__", note)
    resolving(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.1")
    worker.behaviour = stub_worker.raw(OK)
    with dropping("127.0.0.2", worker.port), dropping("127.0.0.3", worker.port):
        calls = start(f"http://many.test:{worker.port}/")
        calls.deliverer.send([make_delivery(f"t{n}") for n in range(8)])

        assert [got.status for got in calls.wait(8)] == [200] * 8
        wait_until(lambda: sum(spare._left._value for spare in spares) == 2 * len(spares))


def test_a_host_that_drops_everything_is_not_connected(start, monkeypatch):
    monkeypatch.setattr(reach, "EACH", 0.1)
    monkeypatch.setattr(pool, "EACH", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    resolving(monkeypatch, "127.0.0.1", "127.0.0.2")
    with dropping("127.0.0.1", port), dropping("127.0.0.2", port):
        got = start(f"http://many.test:{port}/").one()

    url = f"http://many.test:{port}/worker-a"
    assert (got.status, got.error) == (None, f"no connection to {url}: connection timed out")
    assert (got.fault, got.may_run) == (Fault.REFUSED, False)


def test_a_connect_that_lasts_until_our_own_limit_is_no_connection(start, monkeypatch):
    monkeypatch.setattr(reach, "EACH", 60.0)
    monkeypatch.setattr(pool, "EACH", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    with dropping("127.0.0.1", port):
        calls = start(f"http://127.0.0.1:{port}/", CREW_DELIVERY_TIMEOUT_SECONDS=0.3)
        got = calls.one()

    assert got.error.startswith(f"no connection to http://127.0.0.1:{port}/worker-a: ")
    assert (got.status, got.fault, got.may_run) == (None, Fault.REFUSED, False)


def test_a_name_that_is_not_resolved_in_time_is_no_connection(start, monkeypatch):
    released = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        released.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    calls = start("http://slow.test:9/", CREW_DELIVERY_TIMEOUT_SECONDS=0.3)

    got = calls.one()

    released.set()
    assert got.error.startswith("no connection to http://slow.test:9/worker-a: ")
    assert got.fault is Fault.REFUSED


def test_the_last_of_many_addresses_is_reached(start, worker, monkeypatch):
    resolving(monkeypatch, *(f"127.0.1.{n}" for n in range(1, 31)), "127.0.0.1")

    assert start(f"http://many.test:{worker.port}/").one().status == 200


def test_an_address_without_a_route_costs_no_call(start, worker, monkeypatch):
    resolving(monkeypatch, "fd12::1", "::1", "127.0.0.1")

    assert start(f"http://many.test:{worker.port}/").one().status == 200


@pytest.mark.parametrize("forbidden", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"])
@pytest.mark.parametrize("is_first", [True, False])
def test_one_forbidden_address_keeps_us_from_all(start, worker, monkeypatch, forbidden, is_first):
    some = ["127.0.0.1", "127.0.0.2"]
    resolving(monkeypatch, *([forbidden, *some] if is_first else [*some, forbidden]))

    got = start(f"http://many.test:{worker.port}/").one()

    assert "is an address that workers are never called at" in got.error
    assert worker.connections == 0


def test_families_take_turns_and_what_was_reached_last_comes_first():
    six = [(socket.AF_INET6, 1, 6, "", (f"fd12::{n}", 80, 0, 0)) for n in range(3)]
    four = [(socket.AF_INET, 1, 6, "", (f"10.0.0.{n}", 80)) for n in range(2)]
    order = reach.Order()

    assert order.sort([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    order.reached(four[1])
    assert order.sort([*six, *four, four[0]])[:3] == [four[1], six[0], four[0]]
    assert order.sort(six[:1]) == six[:1]
    order.lost()
    assert order.sort([*four, *six])[-1] == four[1]


def test_an_address_that_shakes_no_hands_is_not_the_first_again(start, monkeypatch):
    monkeypatch.setattr(pool, "HANDSHAKE", 0.3)
    monkeypatch.setattr(thread_calls, "HANDSHAKE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        port = silent.getsockname()[1]
        with socket.create_server(("127.0.0.2", port)) as other:
            other.settimeout(10)
            resolving(monkeypatch, "127.0.0.1", "127.0.0.2")
            calls = start(f"https://many.test:{port}/")

            got = calls.one()
            calls.one()

            other.accept()[0].close()
    assert (got.fault, got.error[-22:]) == (Fault.REFUSED, ": connection timed out")


# --- Connections that are kept ---


@pytest.mark.parametrize(
    ("says", "seconds"),
    [
        ("", 1.5),
        ("timeout=5", 4.0),
        ("timeout=5, max=100", 4.0),
        ("max=100, Timeout = 75", 30.0),
        ('timeout="20"', 19.0),
        ("timeout=2", 1.0),
        ("timeout=1", 0.5),
        ("timeout=0", 0.0),
        ("timeout=999999999999", 30.0),
        ("timeout=soon", 1.5),
        ("timeout=-5", 1.5),
        ("mytimeout=3", 1.5),
    ],
)
def test_connections_are_kept_for_as_long_as_the_host_says(says, seconds):
    known = Idle()

    known.heard(says)

    assert known.seconds() == seconds


def test_a_host_that_closes_is_believed_for_a_while(monkeypatch):
    known = Idle()
    known.heard("timeout=60")
    known.closed_after(2.0)
    assert known.seconds() == 1.0
    known.closed_after(10.0)
    assert known.seconds() == 1.0
    known.closed_after(0.0)
    assert known.seconds() == keep_alive.LEAST

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + keep_alive.LEARNED_FOR + 1)

    assert known.seconds() == 30.0


@pytest.mark.parametrize(("says", "is_kept"), [("timeout=0", False), ("timeout=60", True)])
def test_what_an_answer_says_of_its_connection_counts(start, worker, monkeypatch, says, is_kept):
    monkeypatch.setattr(keep_alive, "UNSAID", 0.0 if is_kept else 60.0)
    worker.behaviour = answer(headers={"Keep-Alive": says})
    calls = start(worker.url)

    for _ in range(2):
        assert calls.one().status == 200

    one, other = (request.connection for request in worker.requests)
    assert (one == other) is is_kept


def test_an_idle_connection_that_the_host_closed_costs_nothing(start, worker, monkeypatch):
    seen: list[float] = []
    monkeypatch.setattr(Idle, "closed_after", lambda self, seconds: seen.append(seconds))
    calls = start(worker.url)
    assert calls.one().status == 200

    worker.hang_up()
    if start.name == "asyncio":
        wait_until(lambda: seen)
    got = calls.one()

    assert got.status == 200
    assert [request.connection for request in worker.requests] == [1, 2]
    assert len(seen) == 1


class Crossing:
    """Does something at the moment when a call is about to go out on a connection that is kept."""

    def __init__(self, monkeypatch: Any, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = None
        self._meant = act
        self._patch_asyncio(monkeypatch)
        self._patch_requests(monkeypatch)

    def once(self) -> None:
        self._act = self._meant

    def _now(self) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()

    def _patch_asyncio(self, monkeypatch: Any) -> None:
        head = pool.Pool.head

        def crossed(*args: Any) -> bytes:
            self._now()
            return head(*args)

        monkeypatch.setattr(pool.Pool, "head", staticmethod(crossed))

    def _patch_requests(self, monkeypatch: Any) -> None:
        crossing, poll = self, select.poll

        class Poll:
            def __init__(self) -> None:
                self._real = poll()
                self.register = self._real.register
                self.unregister = self._real.unregister

            def poll(self, *args: Any) -> Any:
                events = self._real.poll(*args)
                crossing._now()
                return events

        ours = SimpleNamespace(poll=Poll, POLLIN=select.POLLIN, POLLOUT=select.POLLOUT)
        monkeypatch.setattr(thread_calls, "select", ours)


@kernel_knows
def test_a_call_that_crossed_the_end_of_its_connection_was_not_read(start, worker, monkeypatch):
    crossing = Crossing(monkeypatch, worker.hang_up)
    calls = start(worker.url)
    assert calls.one(make_delivery(attempt=1)).status == 200

    crossing.once()
    got = calls.one(make_delivery(attempt=2))
    after = calls.one(make_delivery(attempt=3))

    assert (got.status, got.error, got.may_run, got.fault) == (None, UNREAD, False, Fault.NONE)
    assert decide(got, workgroup="", now=NOW) == Interrupted(UNREAD)
    assert after.status == 200
    assert [each.headers["x-crew-attempt"] for each in worker.requests] == ["1", "3"]


def test_a_call_that_is_ended_before_a_byte_went_out_was_not_read(start, worker, monkeypatch):
    """The end is here already when the call would go out."""
    note = thread_calls._record_connected
    ended = []

    def hang_up(sock: socket.socket) -> None:
        note(sock)
        if len(worker.requests) == 1 and not ended:
            ended.append(worker.hang_up())
            sock.recv(1, socket.MSG_PEEK)

    monkeypatch.setattr(thread_calls, "_record_connected", hang_up)
    if start.name == "asyncio":
        pytest.skip("it is not taken from the idle ones then")
    calls = start(worker.url)
    assert calls.one().status == 200

    assert calls.one().error == UNREAD


def reads_and_dies(exchange: stub_worker.Exchange) -> None:
    exchange.close()


def shuts_and_reads_on(exchange: stub_worker.Exchange) -> None:
    exchange.drain()


@pytest.mark.parametrize("dies", [reads_and_dies, shuts_and_reads_on, stub_worker.reset])
def test_a_call_that_may_have_been_read_is_a_failure_that_comes_back_soon(start, worker, dies):
    worker.behaviour = in_turn(answer(), dies, answer())
    calls = start(worker.url)
    assert calls.one(make_delivery(attempt=1)).status == 200

    got = calls.one(make_delivery(attempt=2))

    assert (got.status, got.may_run, got.fault) == (None, True, Fault.BROKEN)
    outcome = decide(got, workgroup="", now=NOW)
    assert isinstance(outcome, Failed) and outcome.is_soon
    assert [each.headers["x-crew-attempt"] for each in worker.requests] == ["1", "2"]


def test_a_call_that_was_worked_on_waits_as_ever():
    worked_on = Answer(None, error=CLOSED, seconds=2.5, was_kept=True)

    assert decide(worked_on, workgroup="", now=NOW) == Failed(CLOSED)


@kernel_knows
def test_a_worker_that_only_stopped_writing_may_read_the_call(start, worker, monkeypatch):
    crossing = Crossing(monkeypatch, lambda: worker.hang_up(socket.SHUT_WR))
    calls = start(worker.url)
    assert calls.one().status == 200

    crossing.once()
    got = calls.one()

    assert got.error == CLOSED and got.was_kept
    wait_until(lambda: len(worker.requests) == 2)


def test_the_first_call_on_a_connection_waits_as_ever(start, worker):
    worker.behaviour = reads_and_dies

    got = start(worker.url).one()

    assert got.error == CLOSED and not got.was_kept
    outcome = decide(got, workgroup="", now=NOW)
    assert isinstance(outcome, Failed) and not outcome.is_soon


def test_what_was_idle_for_longer_is_not_tried_after_one_that_ended(start, worker):
    calls = start(worker.url)
    if start.name == "requests":
        pytest.skip("each thread has one connection")
    release = threading.Event()

    def wait(exchange: stub_worker.Exchange) -> None:
        release.wait(10)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    worker.behaviour = wait
    calls.deliverer.send([make_delivery(f"t{n}") for n in range(3)])
    wait_until(lambda: len(worker.requests) == 3)
    release.set()
    calls.wait(3)
    worker.behaviour = in_turn(reads_and_dies, answer())

    assert calls.one().was_kept
    assert calls.one().status == 200
    assert worker.requests[-1].connection == 4


# --- What becomes of their tasks ---


@kernel_knows
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_a_task_whose_call_was_not_read_comes_back_at_once(
    worker, settings, monkeypatch, deliverer
):
    settings.CREW_WORKER_BASE_URL, settings.CREW_DELIVERER = worker.url, deliverer
    crossing = Crossing(monkeypatch, worker.hang_up)
    make_group(tasks=[wire(id="first"), wire(id="second", parent_ids=["first"])])
    worker.behaviour = in_turn(lambda one: (crossing.once(), answer()(one)), answer())

    Scheduler(once=True, slots=1).run()

    result = [
        (one.headers["x-crew-attempt"], json.loads(one.body)["taskId"]) for one in worker.requests
    ]
    assert result == [("1", "first"), ("2", "second")]
    second = Task.objects.get(pk="second")
    assert (second.is_complete, second.remaining_attempts, second.errors) == (True, 4, [])
    ended = Attempt.objects.filter(task="second").order_by("number")
    assert list(ended.values_list("number", "outcome", "error")) == [
        (1, "interrupted", UNREAD),
        (2, "completed", ""),
    ]
    assert not Limit.objects.exists()  # it says nothing of the worker


@pytest.mark.django_db
@pytest.mark.parametrize(("delay", "waits"), [(60, 1), (1, 1), (0, 0)])
def test_a_task_whose_call_may_have_been_read_comes_back_soon(delay, waits):
    task = make_task(error_delay_in_seconds=delay)
    lease = claim_one()

    settle([Settlement(lease, Failed(CLOSED, is_soon=True), fault=Fault.BROKEN)])

    after = Task.objects.get(pk=task.pk)
    assert (after.remaining_attempts, after.errors) == (4, [CLOSED])
    assert waits - 1 < from_now(after.run_after) <= waits
    assert Limit.objects.get().fails == 1


@kernel_knows
@pytest.mark.parametrize(
    ("ends", "is_refused"),
    [("closed before", True), ("read", False), ("took", None)],
)
def test_what_the_kernel_tells(ends: str, is_refused: bool | None) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
    ):
        theirs, _ = listener.accept()
        ours.sendall(b"x" * 100)
        theirs.recv(1000)
        theirs.sendall(b"y")
        ours.recv(10)
        if ends == "closed before":
            theirs.close()
        with suppress(OSError):
            ours.sendall(b"z" * 100)
        if ends == "read":
            theirs.recv(1000)
            theirs.close()
            wait_until(lambda: unread.was_refused(ours, 100) is False)
        result = unread.was_refused(ours, 100)
        if ends == "took":  # until its kernel says that it has it
            assert result in (None, False)
            theirs.close()
        else:
            assert result is is_refused


def test_where_the_kernel_does_not_tell_nothing_is_believed(monkeypatch):
    monkeypatch.setattr(unread, "_IS_KNOWN", False)
    with socket.socket() as sock:
        assert unread.was_refused(sock, 0) is False
    monkeypatch.setattr(unread, "_IS_KNOWN", True)
    with socket.socket(socket.AF_UNIX) as sock:
        assert unread.was_refused(sock, 0) is False


# --- Those of the Python client ---

EMPTY = b'{"count":0,"workgroups":[]}'


def test_the_client_tries_the_next_address_beside_the_first(worker, monkeypatch):
    monkeypatch.setattr(reach, "EACH", 60.0)
    worker.behaviour = answer(body=EMPTY)
    resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
    url = f"http://many.test:{worker.port}"
    with dropping("127.0.0.2", worker.port), Crew(url, retries=0) as crew:
        assert list(crew.workgroups()) == []


@pytest.mark.parametrize(("says", "is_kept"), [("timeout=0", False), ("timeout=60", True)])
def test_the_client_keeps_connections_as_the_server_says(worker, says, is_kept):
    worker.behaviour = answer(body=EMPTY, headers={"Keep-Alive": says})
    with Crew(worker.url, retries=0) as crew:
        for _ in range(2):
            assert list(crew.workgroups()) == []

    one, other = (request.connection for request in worker.requests)
    assert (one == other) is is_kept


def test_the_client_says_that_nobody_listens(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setattr(reach, "EACH", 0.1)

    with Crew(f"http://127.0.0.1:{port}", retries=0) as crew:
        with pytest.raises(Unreachable) as refused:
            crew.create_group(name="one")
        with dropping("127.0.0.1", port), pytest.raises(Unreachable) as dropped:
            crew.create_group(name="one")
    with Crew("http://nowhere.invalid", retries=0) as crew, pytest.raises(Unreachable):
        crew.create_group(name="one")

    assert "refused" in str(refused.value) and refused.value.never_sent
    assert "too long" in str(dropped.value) and dropped.value.never_sent

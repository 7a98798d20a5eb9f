"""What a connection of ours makes of bytes that come when nobody asked, and calls of their time.

By hand, without a network: there such bytes come when they like.
"""

import asyncio
import time

from tasks.delivery.calls import CallRules, Delivery, tls_context
from tasks.delivery.event_loop import _Call, _Calls
from tasks.delivery.http_exchange import Connection

FULL = b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Transport:
    def __init__(self):
        self.sent = []
        self.is_over = False

    def set_write_buffer_limits(self, high):
        pass

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return self.is_over

    def write(self, data):
        self.sent.append(data)

    def abort(self):
        self.is_over = True


class Owner:
    max_bytes = 1_000

    def __init__(self):
        self.kept = []
        self.piece = self.large_piece = memoryview(bytearray(1_000))

    def keep(self, connection, *_):
        self.kept.append(connection)

    def forget(self, connection):
        pass


def connected():
    owner, transport = Owner(), Transport()
    connection = Connection(owner)
    connection.connection_made(transport)
    return connection, owner, transport


def comes(connection, data):
    connection.get_buffer(len(data))[: len(data)] = data
    connection.buffer_updated(len(data))


def test_who_answers_before_it_was_asked_is_not_sent_the_call():
    connection, owner, transport = connected()
    got = []

    comes(connection, FULL)
    connection.send(b"POST", got.append)

    assert [received.status for received in got] == [503]
    assert (transport.sent, owner.kept, transport.is_over) == ([], [], True)


def test_what_comes_on_an_idle_connection_ends_it():
    connection, owner, transport = connected()
    got = []
    connection.send(b"POST", got.append)
    comes(connection, OK)
    assert ([received.body for received in got], owner.kept) == ([b"{}"], [connection])

    comes(connection, OK)

    assert transport.is_over and not connection.is_usable()
    assert len(got) == 1


def test_only_calls_whose_time_is_over_are_given_up(settings):
    settings.CREW_WORKER_BASE_URL = "http://127.0.0.1:9/"
    result = []
    rules = CallRules.from_conf()
    loop = asyncio.new_event_loop()
    calls = _Calls(
        rules,
        tls_context(""),
        lambda call, _: result.append(call.task_id),
        lambda _: None,
        lambda *_: True,
        loop,
    )
    now = time.monotonic()
    for name, deadline in (("old", now - 1.0), ("new", now + rules.timeout)):
        calls._running[_Call(Delivery(name, 1, "w", b""), now, deadline)] = None

    calls._expire()
    loop.close()

    assert result == ["old"]

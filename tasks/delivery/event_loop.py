"""The deliverer for thousands of calls in flight: an event loop in a thread of its own.

The connections are ours (`connections`, `exchange`): a general client costs more than all the
rest of a delivery.
"""

import asyncio
import functools
import logging
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import uvloop

from ..rules.answer_reader import BROKEN, Received
from ..rules.decide import CANCELLED, Answer
from .calls import (
    LARGE,
    Ask,
    CallRules,
    Delivery,
    Keys,
    OnAnswer,
    OnSent,
    no_answer,
    no_connection,
    tls_context,
)
from .destinations import DestinationError
from .http_exchange import Connection
from .pool import Pool

logger = logging.getLogger("crew.delivery.calls")

_CLOSES_WITHIN = 1.0  # seconds


@dataclass(slots=True, eq=False)
class _Call:
    """One call in flight: opening a connection, or on one."""

    delivery: Delivery
    started: float
    deadline: float
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    opening: asyncio.Task[None] | None = None
    connection: Connection | None = None
    sent: str | None = None  # what is kept of a request whose body is no longer in memory
    is_done: bool = False
    awaited_room: bool = False  # its answer waited for room

    @property
    def awaits_room(self) -> bool:
        return self.connection is not None and self.connection.awaits_room


class AsyncioDeliverer:
    """A `Deliverer`. Nothing here sends a request twice."""

    def __init__(self) -> None:
        self.on_sent: OnSent = lambda delivery: None
        self.ask: Ask = lambda delivery, size, go_on: True
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: _Calls | None = None
        self._thread: threading.Thread | None = None

    def start(self, on_answer: OnAnswer) -> None:
        rules = CallRules.from_conf()
        rules.meet_host()
        tls = tls_context(rules.ca_file)
        loop = uvloop.new_event_loop()
        calls = _Calls(rules, tls, on_answer, self.on_sent, self.ask, loop)
        opened = threading.Event()
        run = functools.partial(_run, loop, calls, opened)
        self._thread = threading.Thread(target=run, name="crew-deliver", daemon=True)
        self._thread.start()
        opened.wait()
        with self._lock:
            self._loop, self._calls = loop, calls

    def send(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            if self._loop is None or self._calls is None:
                raise RuntimeError("the deliverer is not running")
            # One wake-up of the loop for the whole batch: it costs more than a call's bookkeeping.
            self._loop.call_soon_threadsafe(self._calls.begin, tuple(deliveries))

    def cancel(self) -> None:
        with self._lock:
            if self._loop is not None and self._calls is not None:
                self._loop.call_soon_threadsafe(self._calls.cancel)

    def cut(self, keys: Keys) -> None:
        with self._lock:
            if self._loop is not None and self._calls is not None:
                self._loop.call_soon_threadsafe(self._calls.cut, keys)

    def stop(self) -> None:
        with self._lock:
            if self._loop is not None and self._calls is not None:
                self._loop.call_soon_threadsafe(self._calls.stopping.set)
            self._loop = self._calls = None
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _run(loop: asyncio.AbstractEventLoop, calls: "_Calls", opened: threading.Event) -> None:
    loop.run_until_complete(calls.serve(opened))
    loop.close()


class _Calls:
    """The calls in flight; everything here runs on the loop."""

    def __init__(
        self,
        rules: CallRules,
        tls: ssl.SSLContext,
        on_answer: OnAnswer,
        on_sent: OnSent,
        ask: Ask,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._rules = rules
        self._on_answer = on_answer
        self._on_sent = on_sent
        self._ask = ask
        self._loop = loop
        self._pool = Pool(rules, tls, loop)
        # In the order of their deadlines: whoever comes, or gets new time, has the same time left.
        self._running: dict[_Call, None] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self.stopping = asyncio.Event()

    async def serve(self, opened: threading.Event) -> None:
        opened.set()
        await self.stopping.wait()
        self._end_all(list(self._running))
        await self._pool.close(_CLOSES_WITHIN)

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        now = time.monotonic()
        deadline = now + self._rules.timeout
        calls = [_Call(delivery, now, deadline) for delivery in deliveries]
        self._running.update(dict.fromkeys(calls))
        # Once what has come is read: on an idle connection it would be taken for an answer.
        self._loop.call_soon(self._begin_all, calls)
        if self._alarm is None:
            self._set_alarm()

    def _begin_all(self, calls: Sequence[_Call]) -> None:
        for call in calls:
            if call.is_done:
                continue
            try:
                self._begin(call)
            except DestinationError as error:
                why = no_connection(self._rules.base, str(error))
                self._give(call, no_answer(why, call.started))
            except ValueError as error:
                self._give(call, no_answer(str(error), call.started))
            except Exception as error:
                # A bug must not cost the delivery its answer.
                logger.exception("Delivery of task %s failed", call.delivery.task_id)
                self._give(call, no_answer(f"not delivered: {type(error).__name__}", call.started))

    def cancel(self) -> None:
        self._end_soon(list(self._running))

    def cut(self, keys: Keys) -> None:
        self._end_soon([call for call in self._running if call.delivery.key in keys])

    def _end_soon(self, calls: Sequence[_Call]) -> None:
        """After what is there to be read now: an answer that came at the same moment counts."""
        self._loop.call_soon(self._end_all, calls)

    def _end_all(self, calls: Iterable[_Call]) -> None:
        for call in calls:
            self._end(call, CANCELLED)

    def _begin(self, call: _Call) -> None:
        call.url = self._rules.url(call.delivery.worker)
        call.headers = self._rules.headers(call.delivery)
        connection = self._pool.idle()
        if connection is not None:
            self._send(call, connection)
        else:
            call.opening = self._loop.create_task(self._open(call))

    async def _open(self, call: _Call) -> None:
        try:
            connection = await self._pool.open()
        except (OSError, DestinationError) as error:
            why = str(error) if isinstance(error, DestinationError) else error
            self._give(call, no_answer(no_connection(call.url, why), call.started))
        except Exception as error:
            logger.exception("Delivery of task %s failed", call.delivery.task_id)
            self._give(call, no_answer(f"not delivered: {type(error).__name__}", call.started))
        else:
            if call.is_done:
                connection.abort()
            else:
                self._send(call, connection)

    def _send(self, call: _Call, connection: Connection) -> None:
        call.connection, call.opening = connection, None
        connection.on_large = functools.partial(self._has_room, call, connection)
        received = functools.partial(self._received, call)
        body = call.delivery.body
        head = self._pool.head(call.url, call.headers, len(body))
        if len(body) <= LARGE:
            connection.send(head + body, received)
            return
        call.sent = self._sent(call)
        call.delivery = replace(call.delivery, body=b"")
        connection.send_large(head, body, received, functools.partial(self._on_sent, call.delivery))

    def _received(self, call: _Call, received: Received) -> None:
        if call.awaited_room and received.error.startswith(BROKEN):
            self._end(call, CANCELLED)  # its worker gave up, because we did not read on
            return
        self._give(call, self._rules.answer(received, call.started, self._sent(call)))

    def _has_room(self, call: _Call, connection: Connection, size: int) -> bool:
        def go_on() -> None:
            self._loop.call_soon_threadsafe(self._go_on, call, connection)

        has_room = self._ask(call.delivery, size, go_on)
        call.awaited_room = not has_room
        return has_room

    def _go_on(self, call: _Call, connection: Connection) -> None:
        if not call.is_done:
            self._give_time(call)
            connection.go_on()

    def _give_time(self, call: _Call) -> None:
        """Again: it was we who did not read on."""
        del self._running[call]
        call.deadline = time.monotonic() + self._rules.timeout
        self._running[call] = None

    def _sent(self, call: _Call) -> str | None:
        if call.connection is None or call.sent is not None:
            return call.sent
        return self._rules.sent(call.url, call.headers, call.delivery.body)

    def _end(self, call: _Call, reason: str) -> None:
        """Give up the call: end its connection, and only then say that it has ended."""
        if call.is_done:
            return
        if call.connection is not None:
            call.connection.abort()
        if call.opening is not None:
            call.opening.cancel()
        is_sent = call.connection is not None
        self._give(call, no_answer(reason, call.started, self._sent(call), may_run=is_sent))

    def _time_out(self, call: _Call) -> None:
        """A status that has come counts, though its body has not."""
        if call.connection is not None:
            why = self._rules.timed_out()
            answer = self._rules.answer(
                call.connection.give_up(why), call.started, self._sent(call)
            )
            self._give(call, replace(answer, may_run=True))
        else:
            self._end(call, self._rules.unconnected(call.url))

    def _give(self, call: _Call, answer: Answer) -> None:
        if call.is_done:
            return
        call.is_done = True
        del self._running[call]
        try:
            self._on_answer(call.delivery, answer)
        except Exception:
            logger.exception("The answer for task %s was not taken", call.delivery.task_id)

    def _set_alarm(self) -> None:
        """One timer for all: at the deadline of the oldest call."""
        self._alarm = None
        oldest = next(iter(self._running), None)
        if oldest is not None:
            left = oldest.deadline - time.monotonic()
            self._alarm = self._loop.call_later(max(left, 0.0), self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        overdue = []
        for call in self._running:
            if call.deadline > now:
                break
            overdue.append(call)
        for call in overdue:
            if call.awaits_room:
                self._give_time(call)
            else:
                self._time_out(call)
        self._set_alarm()

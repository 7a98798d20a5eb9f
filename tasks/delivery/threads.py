"""The deliverer on threads, by `requests`: for few calls in flight, and to compare with."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import requests
import urllib3

from ..rules.answer_reader import HEADERS_READ, UNREAD, Received, add_header
from ..rules.content_codings import Unreadable, decoded, listed, most_coded, too_large
from ..rules.decide import CANCELLED, Answer
from ..rules.names import check_base, check_within
from ..rules.outages import Fault
from .calls import (
    LARGE,
    Ask,
    CallRules,
    Delivery,
    Keys,
    OnAnswer,
    OnSent,
    broken,
    no_connection,
    tls_context,
)
from .destinations import DestinationError
from .thread_calls import (
    Adapter,
    Host,
    LargeBody,
    NoAnswerError,
    ThreadCall,
    WatchedTLSSocket,
    current,
)

logger = logging.getLogger("crew.delivery.calls")

_CHUNK = 65_536


class RequestsDeliverer:
    """A `Deliverer`: a thread for each call in flight, and a watchdog for their deadlines."""

    def __init__(self) -> None:
        self.on_sent: OnSent = lambda delivery: None
        self.ask: Ask = lambda delivery, size, go_on: True
        # In the order of their deadlines: whoever comes, or gets new time, has the same time left.
        self._calls: dict[ThreadCall, None] = {}
        self._changed = threading.Condition()
        self._is_stopping = True
        self._local = threading.local()
        self._adapters: list[Adapter] = []
        self._host = Host()

    def start(self, on_answer: OnAnswer) -> None:
        self._on_answer = on_answer
        self._rules = CallRules.from_conf()
        self._rules.meet_host()
        self._tls = tls_context(self._rules.ca_file)
        self._tls.sslsocket_class = WatchedTLSSocket
        self._executor = ThreadPoolExecutor(self._rules.slots, thread_name_prefix="crew-deliver")
        self._watchdog = threading.Thread(
            target=self._watch, name="crew-deliver-watch", daemon=True
        )
        self._is_stopping = False
        self._watchdog.start()

    def send(self, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            if self._is_stopping:
                raise RuntimeError("the deliverer is not running")
            for delivery in deliveries:
                call = ThreadCall(delivery, self._rules, self._host, self._wait_for_room)
                self._calls[call] = None
                self._executor.submit(self._make, call)
            self._changed.notify()

    def cancel(self) -> None:
        with self._changed:
            calls = list(self._calls)
        self._end_all(calls)

    def cut(self, keys: Keys) -> None:
        with self._changed:
            calls = [call for call in self._calls if call.delivery.key in keys]
        self._end_all(calls)

    def _end_all(self, calls: Iterable[ThreadCall]) -> None:
        for call in calls:
            self._give(call, call.no_answer(CANCELLED), shut=True)

    def stop(self) -> None:
        with self._changed:
            if self._is_stopping:
                return
            self._is_stopping = True
            self._changed.notify()
        self.cancel()
        self._watchdog.join()
        self._executor.shutdown()
        for adapter in self._adapters:
            adapter.close()

    def _make(self, call: ThreadCall) -> None:
        try:
            answer = self._answer(call)
        except Exception as error:
            # A bug must not cost the delivery its answer.
            logger.exception("Delivery of task %s failed", call.delivery.task_id)
            answer = call.no_answer(f"not delivered: {type(error).__name__}")
        finally:
            current.call = None  # or an idle thread would hold what it has read
        if call.awaited_room and answer.fault is Fault.BROKEN:
            answer = call.no_answer(CANCELLED)  # its worker gave up, because we did not read on
        self._give(call, answer)

    def _watch(self) -> None:
        """The answer of an overdue call comes from here, however stuck its thread."""
        while call := self._next_due():
            self._give(call, call.overdue(), shut=True)

    def _next_due(self) -> ThreadCall | None:
        """Wait for the deadline of the oldest call; None when there will be no more calls."""
        with self._changed:
            while True:
                oldest = next(iter(self._calls), None)
                if oldest is None:
                    if self._is_stopping:
                        return None
                    self._changed.wait()
                elif (left := oldest.deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                elif oldest.awaits_room:
                    self._give_time(oldest)
                else:
                    return oldest

    def _wait_for_room(self, call: ThreadCall) -> None:
        """In the call's thread, when its answer turns out to be large."""
        # Before we ask: it may be answered before we know that it was not.
        call.awaits_room = True
        waits = not self.ask(call.delivery, call.reader.most, call.go_on.set)
        if waits:
            call.awaited_room = True
            call.go_on.wait()
        with self._changed:
            call.awaits_room = False
            if waits and call in self._calls:
                self._give_time(call)

    def _give_time(self, call: ThreadCall) -> None:
        """Again: it was we who did not read on."""
        del self._calls[call]
        call.deadline = time.monotonic() + self._rules.timeout
        self._calls[call] = None

    def _give(self, call: ThreadCall, answer: Answer, *, shut: bool = False) -> None:
        if not call.finish(shut=shut):
            return
        with self._changed:
            del self._calls[call]
            if not self._calls:
                self._changed.notify()
        try:
            self._on_answer(call.delivery, answer)
        except Exception:
            # Or one bad callback would end the watchdog, and with it all deadlines.
            logger.exception("The answer for task %s was not taken", call.delivery.task_id)

    def _answer(self, call: ThreadCall) -> Answer:
        current.call = call
        try:
            call.url = self._rules.url(call.delivery.worker)
            call.headers = self._rules.headers(call.delivery)
            return self._post(call)
        except DestinationError as error:
            return call.no_answer(no_connection(call.url, str(error)))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return _unanswered(error, call)
        except ValueError as error:
            return call.no_answer(str(error))

    def _post(self, call: ThreadCall) -> Answer:
        prepared = requests.PreparedRequest()
        is_large = len(call.delivery.body) > LARGE
        data = LargeBody(call, self.on_sent) if is_large else call.delivery.body
        prepared.prepare("POST", call.url, call.headers, data=data)
        check_within(prepared.url or "", check_base(self._rules.base))
        response = self._adapter().send(prepared, stream=True, timeout=call.seconds_left())
        with response:
            if call.received is None:  # a stand-in for the network answered
                return call.answer(_read(response, self._rules.max_bytes))
            response.raw.release_conn()
        return call.answer(call.received)

    def _adapter(self) -> Adapter:
        adapter: Adapter | None = getattr(self._local, "adapter", None)
        if adapter is None:
            adapter = self._local.adapter = Adapter(self._tls)
            self._adapters.append(adapter)
        return adapter


def _read(response: requests.Response, most: int) -> Received:
    """An answer that `reading` did not read, by the same rules."""
    raw = response.raw
    values: dict[str, str] = {}
    headers = [(name.lower(), value) for name, value in raw.headers.items()]
    for name, value in headers:
        if name in HEADERS_READ:
            add_header(values, name, value)
    body = bytearray()
    try:
        codings = listed("Content-Encoding", values.get("content-encoding", ""))
        while part := raw.read(_CHUNK, decode_content=False):
            body += part
            if len(body) > (most_coded(most) if codings else most):
                raise too_large(most)
        whole = decoded(bytes(body), codings, most)
    except Unreadable as error:
        return Received(response.status_code, headers, values, error=str(error))
    return Received(response.status_code, headers, values, whole)


def _unanswered(error: Exception, call: ThreadCall) -> Answer:
    root = _root(error)
    if not call.is_connected:
        return call.no_answer(no_connection(call.url, root))
    if call.received is not None:
        return call.answer(call.received)
    match root:
        case TimeoutError():
            return call.no_answer(call.rules.timed_out())
        case OSError():  # while it was sent
            is_unread = call.bytes_before > 0 and not call.bytes_sent
            return call.answer(call.ended(UNREAD if is_unread else broken(root)))
    return call.no_answer(f"not delivered: {type(root).__name__}")


def _root(error: BaseException) -> BaseException:
    """The innermost error of the network or of HTTP; requests and urllib3 wrap it several times."""
    root, inner = error, error.__cause__ or error.__context__
    while inner:
        if isinstance(inner, (OSError, NoAnswerError)):
            root = inner
        inner = inner.__cause__ or inner.__context__
    return root

"""One attempt is POSTed to its worker and gives an `Answer`. No database here.

What both deliverers share: the exact bytes and headers that go out, and the sentences that say
why nothing came back. The calls themselves are in `event_loop` and `threads`.
"""

import base64
import errno
import functools
import hashlib
import hmac
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from django.utils.module_loading import import_string

from ..conf import conf
from ..redact import answer_scrubber
from ..rules.answer_reader import BROKEN, CLOSED, UNREAD, Received
from ..rules.charsets import transcoded
from ..rules.decide import Answer
from ..rules.jsonio import safe_text
from ..rules.names import check_base, worker_url
from ..rules.outages import Fault
from ..rules.scrubbing import Scrubber
from ..rules.signing import signing_keys
from ..rules.transcript import Transcript, message
from . import repeated
from .destinations import Destinations, meet_base

NO_CONNECTION = "no connection to"
TIMED_OUT = "no complete answer within"

_DELIVERERS = {
    "asyncio": "event_loop.AsyncioDeliverer",
    "requests": "threads.RequestsDeliverer",
}
_METHODS = ("start", "send", "cancel", "cut", "stop")
# Headers that say the same in every call.
ALWAYS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    # Gzip and deflate are read all the same, as proxies may compress unasked.
    "Accept-Encoding": "identity",
    "User-Agent": "crew",
}
# What a header can carry: begins with something visible, no line breaks, no NUL.
_HEADER_VALUE = re.compile(r"(?:[^\s\x00][^\r\n\x00]*)?")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, ready to send. `body` is the exact payload."""

    task_id: str
    attempt: int
    worker: str
    body: bytes

    @property
    def key(self) -> tuple[str, int]:
        return self.task_id, self.attempt


OnAnswer = Callable[[Delivery, Answer], None]
GoOn = Callable[[], None]
Ask = Callable[[Delivery, int, GoOn], bool]
Keys = Container[tuple[str, int]]  # task ids and attempts
OnSent = Callable[[Delivery], None]
# Bytes: from this size on we are told when a body is sent, and ask whether there is room for an
# answer.
LARGE = 16 * 1024


class Deliverer(Protocol):
    # Set by the scheduler: called from any thread when a large body is sent and held no longer.
    # Of one who never calls it, a body counts as in memory until the answer comes.
    on_sent: OnSent
    # Set by the scheduler: called from any thread, once, when an answer turns out to be large, with
    # the bytes that it may hold. False: there is no room, and no more of it is read before `go_on`
    # is called, from any thread; its time starts again then. Answers of one who never asks are
    # there when they come, and count from then on.
    ask: Ask

    def start(self, on_answer: OnAnswer) -> None:
        """`on_answer` is called exactly once for each delivery sent, from any thread.

        ValueError or OSError when a setting cannot be used.
        """

    def send(self, deliveries: Sequence[Delivery]) -> None:
        """Start these calls and return at once. Thread-safe."""

    def cancel(self) -> None:
        """End all calls in flight; each still gets its answer, whose error is `CANCELLED`.

        The connection of a call ends before its answer is given. One that was answered at the same
        moment keeps that answer.
        """

    def cut(self, keys: Keys) -> None:
        """End these calls in the same way, and no others. Those not in flight do not matter."""

    def stop(self) -> None:
        """Cancel, then release threads and sockets. All answers are given when it returns."""


def make_deliverer(name: str) -> Deliverer:
    """By "asyncio", "requests" or the dotted path of a class.

    ImportError if there is none, TypeError if it is no Deliverer.
    """
    known = _DELIVERERS.get(name)
    path = f"{__package__}.{known}" if known else name
    deliverer: Deliverer = import_string(path)()
    if missing := [each for each in _METHODS if not hasattr(deliverer, each)]:
        raise TypeError(f"{path} has no {' and no '.join(missing)}")
    return deliverer


@dataclass(frozen=True, slots=True)
class CallRules:
    """The settings that every call obeys, as they were when the deliverer started."""

    base: str
    authorization: str | None
    secrets: tuple[bytes, ...]
    ca_file: str
    timeout: float
    max_bytes: int
    kept_bytes: int
    slots: int
    destinations: Destinations
    scrubber: Scrubber

    @classmethod
    def from_conf(cls) -> "CallRules":
        """ValueError, which names the setting and never its secret, when one cannot be used.

        An unusable base URL is not an error here: each call then says so.
        """
        return cls(
            base=conf.CREW_WORKER_BASE_URL,
            authorization=_check_header(conf.CREW_WORKER_AUTHORIZATION_HEADER),
            secrets=_signing_keys(conf.CREW_SIGNING_SECRETS),
            ca_file=conf.CREW_WORKER_CA_FILE,
            timeout=conf.CREW_DELIVERY_TIMEOUT_SECONDS,
            max_bytes=conf.CREW_MAX_ANSWER_BYTES,
            kept_bytes=conf.CREW_KEEP_CALL_BYTES,
            slots=conf.CREW_SLOTS,
            destinations=Destinations.of(_host_base(), conf.CREW_WORKER_ALLOW_NETS),
            scrubber=answer_scrubber(),
        )

    def meet_host(self) -> None:
        """When calls begin to be made: see `destinations.meet_base`."""
        if base := _host_base():
            meet_base(self.destinations, base)

    def url(self, worker: str) -> str:
        """ValueError when this worker may not be called (S1)."""
        return _url(self.base, worker, self.destinations)

    def headers(self, delivery: Delivery) -> dict[str, str]:
        now = str(int(time.time()))
        message_id = _message_id(delivery)
        headers = ALWAYS | {
            "webhook-id": message_id,
            "webhook-timestamp": now,
            "X-Crew-Attempt": str(delivery.attempt),
        }
        if self.authorization is not None:
            headers["Authorization"] = self.authorization
        if self.secrets:
            signed = f"{message_id}.{now}.".encode() + delivery.body
            headers["webhook-signature"] = " ".join(_sign(key, signed) for key in self.secrets)
        return headers

    def sent(self, url: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """What is kept of a request that went out: not what would be the same in each of them."""
        if not self.kept_bytes:
            return None
        own = [header for header in headers.items() if header[0] not in ALWAYS]
        return message(f"POST {url}", own, body, most=self.kept_bytes)

    def answer(self, received: Received, started: float, request: str | None) -> Answer:
        """What came of a call that began at `started` on the monotonic clock and ends now.

        `request` is what was sent, as far as it is kept. A failure's status counts without its
        body; of a success the body is what counts.
        """
        status = received.status
        if status is None:
            may_run = received.error != UNREAD
            answer = no_answer(received.error, started, request, may_run=may_run)
            return replace(answer, was_kept=received.was_kept)
        received, charset, repeats = repeated.out_of_received(self.scrubber, received)
        retry_after = received.values.get("retry-after")
        return Answer(
            None if received.error and status == 200 else status,
            received.body,
            None if retry_after is None else safe_text(retry_after, 200),
            received.error,
            time.monotonic() - started,
            Transcript(request, self._came(received, charset)),
            charset,
            may_run=received.error.startswith(BROKEN),
            fault=_fault(received.error),
            repeats=repeats,
        )

    def _came(self, received: Received, charset: str) -> str | None:
        """What is kept of an answer."""
        if not self.kept_bytes:
            return None
        body, _ = transcoded(received.body, charset)
        start = f"HTTP {received.status}"
        return message(start, received.headers, body, most=self.kept_bytes)

    def timed_out(self) -> str:
        return f"{TIMED_OUT} {self.timeout:g} s"

    def unconnected(self, url: str) -> str:
        return no_connection(url or self.base, f"there was none within {self.timeout:g} s")


def no_answer(
    error: str, started: float, request: str | None = None, *, may_run: bool = False
) -> Answer:
    """`error` is one of the sentences here; `request` what was sent, as far as it is kept;
    `may_run`: it was, to somebody.
    """
    return Answer(
        None,
        error=error,
        seconds=time.monotonic() - started,
        transcript=Transcript(request),
        may_run=may_run,
        fault=_fault(error),
    )


def _fault(error: str) -> Fault:
    if not error:
        return Fault.NONE
    if error.startswith(NO_CONNECTION):
        return Fault.REFUSED
    if error.startswith(TIMED_OUT):
        return Fault.SILENT
    return Fault.BROKEN if error.startswith((CLOSED, BROKEN)) else Fault.NONE


def no_connection(url: str, why: BaseException | str) -> str:
    return f"{NO_CONNECTION} {url}: {_cause(why)}"


def broken(why: BaseException) -> str:
    return f"{BROKEN}: {_cause(why)}"


@functools.lru_cache(maxsize=8)  # reading the system's authorities takes 40 ms
def tls_context(ca_file: str) -> ssl.SSLContext:
    """Verifies certificates and host names, by `ca_file` alone or by the system's authorities."""
    return ssl.create_default_context(cafile=ca_file or None)


def _signing_keys(secrets: Sequence[str]) -> tuple[bytes, ...]:
    try:
        return signing_keys(secrets) if secrets else ()
    except ValueError as error:
        raise ValueError(f"CREW_SIGNING_SECRETS: {error}") from error


@functools.lru_cache(maxsize=4096)
def _url(base: str, worker: str, destinations: Destinations) -> str:
    url = worker_url(base, worker)
    destinations.check_literal(destinations.base_host)
    return url


def _host_base() -> str:
    try:
        return check_base(conf.CREW_WORKER_BASE_URL)
    except ValueError:
        return ""


def _message_id(delivery: Delivery) -> str:
    """Stable per attempt. A digest, because task ids may hold the dots that part a signature."""
    name = f"{delivery.task_id}\0{delivery.attempt}".encode(errors="surrogatepass")
    return "msg_" + hashlib.sha256(name).hexdigest()[:32]


def _sign(key: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _check_header(value: str | None) -> str | None:
    if value is not None and not (_HEADER_VALUE.fullmatch(value) and value.isascii()):
        raise ValueError("CREW_WORKER_AUTHORIZATION_HEADER holds what no header can carry")
    return value


def _cause(why: BaseException | str) -> str:
    """The cause in plain words: libraries put addresses, numbers and class names around it."""
    if isinstance(why, ssl.SSLCertVerificationError):
        return f"certificate refused: {why.verify_message}"
    if isinstance(why, ssl.SSLError):
        return f"TLS failed: {(why.reason or 'unknown reason').replace('_', ' ').lower()}"
    if isinstance(why, socket.gaierror):
        return (why.strerror or "name not found").lower()
    if isinstance(why, TimeoutError):
        return os.strerror(errno.ETIMEDOUT).lower()  # that of TLS has no number
    if isinstance(why, OSError) and why.errno:
        return os.strerror(why.errno).lower()
    return safe_text(str(why) or type(why).__name__, 200)

"""HTTP as crewweb takes it: every limit is checked before the work that it bounds."""

# Twisted's types say less than it does.
# mypy: disable-error-code="no-untyped-call,override,union-attr,call-arg,misc,arg-type,assignment"
# mypy: disable-error-code="method-assign,has-type,attr-defined,unused-ignore"

import asyncio
import time
from collections.abc import Iterable
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor
from twisted.web import http

from ..access.http import address_behind
from ..conf import conf
from . import admission, bounds
from .flow import Flow
from .seats import TOO_MANY

HEAD_WITHIN = 10.0  # seconds for the head of a request, from its first byte or the connection's
IDLE = 60.0  # seconds between two requests on a connection
REFUSED_READS_ON = 2.0  # seconds in which a client that still sends can read why it is refused
REFUSED_READS_MOST = 8 * 1024 * 1024  # bytes that it may send meanwhile
MOST_PATH = 8_000  # bytes
REASONS = http.RESPONSES
OURS = {b"connection", b"content-length"}  # headers of a refusal that `refuse` writes itself


class Channel(http.HTTPChannel):  # type: ignore[misc]
    """One connection. A request that breaks a limit is the last on it."""

    maxHeaders = 100
    totalHeadersSize = 16 * 1024
    abortTimeout = 2

    limit = 0
    is_refused = False
    _seat: str | None = None
    _judging: asyncio.Future[None] | None = None
    _is_judged = False
    _continues = False  # the client waits for a 100
    _is_complete = False
    _timer: Any = None
    _started = 0.0
    _received = 0

    def connectionMade(self) -> None:
        super().connectionMade()
        self._set_timer(HEAD_WITHIN)
        self._leave_at_the_end()
        if not conf.CREW_TRUSTED_PROXIES and not self._sit_down():
            self.refuse(429, TOO_MANY)
            self.loseConnection()

    def connectionLost(self, reason: Any) -> None:
        self._set_timer(None)
        if self._judging:
            self._judging.cancel()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self.is_refused:
            self._received += len(data)
            if self._received > REFUSED_READS_MOST:
                self.transport.abortConnection()
            return
        if self._timer is None and not self._handlingRequest:
            self._set_timer(HEAD_WITHIN)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        if not self.is_refused:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(431, "request head too large")

    def rawDataReceived(self, data: bytes) -> None:
        if self.is_refused:
            return
        if not self._handlingRequest:
            self._received += len(data)
        super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        request = self.requests[-1]
        self.limit = bounds.stranger()
        self._is_judged = self._is_complete = self._continues = False
        if self.factory.server.is_stopping:  # its thread would wait for a loop that stands still
            return self.refuse(503, "the server stops: try again")
        if len(self._path) > MOST_PATH:
            return self.refuse(414, "path too long")
        if not _has_one_host(request, self._version):
            return self.refuse(400, "a request names one host")
        if not _is_framed_plainly(request, self._version):
            return self.refuse(400, "the only Transfer-Encoding is chunked, in HTTP/1.1")
        if conf.CREW_TRUSTED_PROXIES and not self._sit_down(request):
            return self.refuse(429, TOO_MANY)
        self._started, self._received = time.monotonic(), 0
        self._set_timer(bounds.BODY_WITHIN)
        if self.length is not None and self.length > self.limit:
            self.judge()
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        self._is_complete = True
        if not self.is_refused and self._judging is None:
            self._set_timer(None)
            self._started = 0.0
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        if conf.CREW_TRUSTED_PROXIES:
            self._leave()
        super().requestDone(request)

    # --- Whose long body is taken ------------------------------------------------------------

    def judge(self) -> bool:
        """Read no more until the head is judged. False when it has been."""
        if self._is_judged:
            return False
        if self._judging is None:
            self.paused = True  # for the lines and bytes that have come already
            self._networkProducer.pauseProducing()
            self._judging = asyncio.ensure_future(self._judge())
        return True

    async def _judge(self) -> None:
        verdict = await admission.judge(self._scope())
        self._judging, self._is_judged, self.limit = None, True, verdict.limit
        if verdict.refusal is not None:
            answer = verdict.refusal
            self.refuse(answer.status_code, answer.reason_phrase, answer.content, verdict.headers)
        elif max(self.length or 0, self.requests[-1].body_length) > self.limit:
            self.refuse(413, bounds.too_large(self.limit))
        elif self._continues:
            super()._send100Continue()
        self.paused = False
        self._networkProducer.resumeProducing()
        if self._is_complete:
            self.allContentReceived()
        self.dataReceived(b"")

    def _scope(self) -> dict[str, Any]:
        request = self.requests[-1]
        path, _, query = self._path.partition(b"?")
        headers = [
            (name.lower(), value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
            if b"_" not in name
        ]
        peer, host = self.transport.getPeer(), self.transport.getHost()
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self._command.decode("latin-1"),
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "root_path": self.factory.server.root_path,
            "scheme": "https" if self.isSecure() else "http",
            "query_string": query,
            "headers": headers,
            "client": [getattr(peer, "host", ""), getattr(peer, "port", 0)],
            "server": [getattr(host, "host", ""), getattr(host, "port", 0)],
        }

    def _send100Continue(self) -> None:
        if self._judging is None:
            super()._send100Continue()
        self._continues = True

    # --- How many of one address there are ---------------------------------------------------

    def _sit_down(self, request: Any = None) -> bool:
        """Take a seat: for the connection, or behind proxies for a request on it."""
        self._leave()
        peer = getattr(self.transport.getPeer(), "host", "")
        headers = request.requestHeaders if request else None
        forwarded = headers.getRawHeaders(b"x-forwarded-for") if headers else None
        said = b",".join(forwarded or []).decode("latin-1")
        self._seat = self.factory.server.seats.take(address_behind(said, peer))
        return self._seat is not None

    def _leave(self) -> None:
        if self._seat is not None:
            self.factory.server.seats.leave(self._seat)
            self._seat = None

    def _leave_at_the_end(self) -> None:
        """Of the transport: a websocket takes it over from this channel."""
        lost = self.transport.connectionLost

        def connection_lost(reason: Any) -> None:
            self._leave()
            lost(reason)

        self.transport.connectionLost = connection_lost

    # --- What is refused ---------------------------------------------------------------------

    def refuse(
        self,
        status: int,
        text: str,
        body: bytes = b"",
        headers: Iterable[tuple[bytes, bytes]] = bounds.PLAIN,
    ) -> None:
        """Answer at once, read no more of the request, and close."""
        if self.is_refused:
            return
        self.is_refused = True
        self._received = 0
        self._set_timer(None)
        self.setTimeout(None)
        body = body or f"{text}\n".encode()
        lines = [b"HTTP/1.1 %d %s" % (status, REASONS.get(status, b""))]
        kept = [each for each in headers if each[0].lower() not in OURS]
        lines += [name.title() + b": " + value for name, value in kept]
        lines += [b"Retry-After: 1"] if status in (429, 503) else []
        lines += [b"Connection: close", b"Content-Length: %d" % len(body), b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.factory.server.log_refused(self.transport.getPeer(), status, text)
        self._networkProducer.unregisterProducer()
        # Closed as a whole while the client still sends, the answer would be lost on its way.
        self.transport.loseWriteConnection()
        self._timer = reactor.callLater(REFUSED_READS_ON, self.transport.abortConnection)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(400, "bad request")

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else reactor.callLater(seconds, self._time_is_over)

    def _time_is_over(self) -> None:
        self._timer = None
        left = self._started + bounds.time_allowed(self._received) - time.monotonic()
        if self._started and left > 0:
            self._set_timer(left)
        elif self.requests:
            self.refuse(408, bounds.TOO_SLOW if self._started else "request head too slow")
        else:
            self.transport.abortConnection()


class Request(WebRequest):  # type: ignore[misc]
    """One request. Its body is on disk when it is long, and goes to the application in parts."""

    flow: Flow | None = None
    body_length = 0

    def __init__(self, channel: Channel, queued: object = False) -> None:
        # The application parses bodies, not Twisted.
        super().__init__(channel, queued, parsePOSTFormSubmission=False)

    def handleContentChunk(self, data: bytes) -> None:
        self.body_length += len(data)
        if self.body_length > self.channel.limit and not self.channel.judge():
            self.channel.refuse(413, bounds.too_large(self.channel.limit))
        if not self.channel.is_refused:
            super().handleContentChunk(data)

    def take_body(self) -> Any:
        """The body, for whoever reads it in parts; the request itself has none from now on."""
        body, self.content = self.content, BytesIO()
        return body

    def start_flow(self) -> None:
        if self.finished or self.channel is None:
            return
        self.flow = Flow(self.channel.transport)
        self.registerProducer(self.flow, True)

    def finish(self) -> None:
        if self.producer:
            self.unregisterProducer()
        super().finish()

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """Without the HTML, for programs and people alike."""
        if self._response_started or not self.channel:
            if self.channel:
                self.channel.transport.abortConnection()
            return
        self.channel.persistent = 0  # who knows what comes next
        start = {"type": "http.response.start", "status": status, "headers": bounds.PLAIN}
        self.handle_reply(start)
        self.handle_reply({"type": "http.response.body", "body": f"{body}\n".encode()})


class Factory(HTTPFactory):  # type: ignore[misc]
    """Makes a `Channel` for each connection; HTTP/1.1 only, as a proxy in front speaks it."""

    timeOut = IDLE

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.timeOut = IDLE

    def buildProtocol(self, addr: Any) -> Channel:
        channel = Channel()
        channel.factory = self
        channel.requestFactory = Request
        channel.callLater = self.reactor.callLater
        channel.timeOut = self.timeOut
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


def _is_framed_plainly(request: Request, version: bytes) -> bool:
    """Another server in front may end the body elsewhere than we do."""
    codings = request.requestHeaders.getRawHeaders(b"transfer-encoding") or []
    one = [coding.strip().lower() for coding in codings]
    return not one or (one == [b"chunked"] and version == b"HTTP/1.1")


def _has_one_host(request: Request, version: bytes) -> bool:
    hosts = request.requestHeaders.getRawHeaders(b"host") or []
    return len(hosts) == 1 or (not hosts and version != b"HTTP/1.1")

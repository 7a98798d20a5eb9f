"""HTTP as crewweb takes it: every limit is checked before the work that it bounds."""

# Twisted's types say less than it does.
# mypy: disable-error-code="no-untyped-call,override,union-attr,call-arg,misc,arg-type,assignment"
# mypy: disable-error-code="method-assign,has-type,attr-defined,unused-ignore"

import time
from io import BytesIO
from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor
from twisted.web import http

from . import limits
from .flow import Flow

HEAD_WITHIN = 10.0  # seconds for the head of a request, from its first byte or the connection's
IDLE = 60.0  # seconds between two requests on a connection
REFUSED_READS_ON = 2.0  # seconds in which a client that still sends can read why it is refused
REFUSED_READS_MOST = 8 * 1024 * 1024  # bytes that it may send meanwhile
MOST_PATH = 8_000  # bytes
REASONS = http.RESPONSES


class Channel(http.HTTPChannel):  # type: ignore[misc]
    """One connection. A request that breaks a limit is the last on it."""

    maxHeaders = 100
    totalHeadersSize = 16 * 1024
    abortTimeout = 2

    limit = 0
    is_refused = False
    _timer: Any = None
    _started = 0.0
    _received = 0

    def connectionMade(self) -> None:
        super().connectionMade()
        self._set_timer(HEAD_WITHIN)

    def connectionLost(self, reason: Any) -> None:
        self._set_timer(None)
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
        method, path = self._command.decode("latin-1"), self._path.partition(b"?")[0]
        kind = request.getHeader(b"content-type") or b""
        self.limit = limits.body_limit(method, path.decode("latin-1"), kind.decode("latin-1"))
        if self.factory.server.is_stopping:  # its thread would wait for a loop that stands still
            return self.refuse(503, "the server stops: try again")
        if len(self._path) > MOST_PATH:
            return self.refuse(414, "path too long")
        if not _has_one_host(request, self._version):
            return self.refuse(400, "a request names one host")
        if self.length is not None and self.length > self.limit:
            return self.refuse(413, limits.too_large(self.limit))
        self._started, self._received = time.monotonic(), 0
        self._set_timer(limits.BODY_WITHIN)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if not self.is_refused:
            self._set_timer(None)
            self._started = 0.0
            super().allContentReceived()

    def refuse(self, status: int, text: str) -> None:
        """Answer at once, read no more of the request, and close."""
        if self.is_refused:
            return
        self.is_refused = True
        self._received = 0
        self._set_timer(None)
        self.setTimeout(None)
        body = f"{text}\n".encode()
        lines = [b"HTTP/1.1 %d %s" % (status, REASONS.get(status, b""))]
        lines += [name.title() + b": " + value for name, value in limits.PLAIN]
        lines += [b"Retry-After: 1"] if status == 503 else []
        lines += [b"Content-Length: %d" % len(body), b"", body]
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
        left = self._started + limits.time_allowed(self._received) - time.monotonic()
        if self._started and left > 0:
            self._set_timer(left)
        elif self.requests:
            self.refuse(408, limits.TOO_SLOW if self._started else "request head too slow")
        else:
            self.transport.abortConnection()


class Request(WebRequest):  # type: ignore[misc]
    """One request. Its body is on disk when it is long, and goes to the application in parts."""

    flow: Flow | None = None
    _body_length = 0

    def __init__(self, channel: Channel, queued: object = False) -> None:
        # The application parses bodies, not Twisted.
        super().__init__(channel, queued, parsePOSTFormSubmission=False)

    def handleContentChunk(self, data: bytes) -> None:
        self._body_length += len(data)
        if self._body_length > self.channel.limit:
            self.channel.refuse(413, limits.too_large(self.channel.limit))
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
        start = {"type": "http.response.start", "status": status, "headers": limits.PLAIN}
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


def _has_one_host(request: Request, version: bytes) -> bool:
    hosts = request.requestHeaders.getRawHeaders(b"host") or []
    return len(hosts) == 1 or (not hosts and version != b"HTTP/1.1")

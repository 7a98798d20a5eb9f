"""Websockets as crewweb takes them: back-pressure, refusals in HTTP, no tokens in logs."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from ..live.socket_queue import Frames
from . import bounds
from .flow import Flow

CLOSE = (b"connection", b"close")
MOST_RECEIVED = 4096  # bytes in one message
OPEN_WITHIN = 10  # seconds for the handshake
CLOSE_WITHIN = 3  # seconds from our close to theirs
PONG_WITHIN = 30  # seconds


class Protocol(WebSocketProtocol):  # type: ignore[misc]
    """One websocket."""

    flow: Flow
    client_addr: Any = None
    path = b""
    maxMessagePayloadSize: int
    maxFramePayloadSize: int
    _refusal: dict[str, Any] | None = None

    def connectionMade(self) -> None:
        self.flow = Flow(self.transport)
        self._frames = Frames()
        self.transport.unregisterProducer()  # the HTTP channel that it was
        self.transport.registerProducer(self.flow, True)
        super().connectionMade()

    def handle_reply(self, message: Any) -> None:
        if message["type"] == "websocket.http.response.start":
            self._refusal = message
        elif message["type"] == "websocket.http.response.body":
            self._refuse(message.get("body", b""))
        elif self.state != self.STATE_CLOSED:
            super().handle_reply(message)

    def sendMessage(self, payload: bytes, isBinary: bool = False, *args: Any) -> None:
        """The limits are for what comes in; autobahn applies them to what goes out too."""
        sizes = self.maxMessagePayloadSize, self.maxFramePayloadSize
        self.maxMessagePayloadSize = self.maxFramePayloadSize = 0
        try:
            super().sendMessage(payload, isBinary, *args)
        finally:
            self.maxMessagePayloadSize, self.maxFramePayloadSize = sizes

    def onFrameBegin(self) -> None:
        """Of each frame, control frames as well: a ping costs a pong, which may never be read."""
        super().onFrameBegin()
        if not self._frames.count() and self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=4429, reasonUtf8=b"", isReply=False)
            self.transport.pauseProducing()  # nothing more is read, also no reply

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.state == self.STATE_OPEN:  # what had come with the frame that was too many
            super().onMessage(payload, isBinary)

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: Any = None) -> None:
        """A handshake that cannot be read is refused in words of ours: the library's repeat what
        was sent, in the status line.
        """
        more = [(name.encode(), str(value).encode()) for name, value in responseHeaders or ()]
        words = f"{HTTPStatus(code).phrase.lower()}\n".encode()
        self._refuse_with(code, [*bounds.PLAIN, *more], words)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if hasattr(self, "application_queue"):  # the handshake came as far as to an application
            super().onClose(wasClean, code, reason)

    def go_away(self) -> None:
        """The server stops: the client may come back to the next one."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=1001, reasonUtf8=b"", isReply=False)

    def _refuse(self, body: bytes) -> None:
        """Answer the handshake by HTTP, in one piece, and close."""
        if self._refusal is None or self.state != self.STATE_CONNECTING:
            return
        status = self._refusal["status"]
        self._refuse_with(status, [*self._refusal.get("headers", []), CLOSE], body)
        self.wasNotCleanReason = f"refused with {status}"
        self.dropConnection(abort=False)
        self.server.protocol_disconnected(self)
        details = {"path": self.request.path, "status": status, "client": self.client_name}
        self.server.log_action("websocket", "rejected", details)

    def _refuse_with(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        lines += [b"Content-Length: %d" % len(body), b"", body]
        self.sendData(b"\r\n".join(lines))

    @property
    def client_name(self) -> str:
        return "{}:{}".format(*self.client_addr) if self.client_addr else "-"

    def __repr__(self) -> str:
        return f"<websocket of {self.client_name}>"


class Factory(WebSocketFactory):  # type: ignore[misc]
    protocol = Protocol

    def __init__(self, server: Any) -> None:
        super().__init__(server, server="")
        self.setProtocolOptions(
            autoPingTimeout=PONG_WITHIN,
            allowNullOrigin=True,  # whose origin is welcome is the application's matter
            openHandshakeTimeout=OPEN_WITHIN,
            closeHandshakeTimeout=CLOSE_WITHIN,
            failByDrop=False,  # say 1009 before the end
            maxMessagePayloadSize=MOST_RECEIVED,
            maxFramePayloadSize=MOST_RECEIVED,
        )

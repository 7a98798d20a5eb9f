"""The web process: daphne with our limits, until it is asked to stop."""

# Twisted's types say less than it does.
# mypy: disable-error-code="no-untyped-call,arg-type,misc,call-arg,list-item"

import asyncio
import logging
import re
import signal
from typing import Any

from daphne.server import Server as DaphneServer  # first: it installs the reactor
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.logger import globalLogBeginner

from . import http, websocket
from .middleware import COUNTED
from .seats import Seats

logger = logging.getLogger("crew.serving.server")
access_log = logging.getLogger("crew.serving.access")

STOPS_WITHIN = 5.0  # seconds for requests under way, once we are asked to stop
PING_EVERY = 20  # seconds


class Server(DaphneServer):
    """Serves one ASGI application on one address."""

    def __init__(self, application: Any, *, host: str, port: int) -> None:
        super().__init__(
            application,
            endpoints=[f"{host}:{port}"],
            action_logger=self._log,
            ping_interval=PING_EVERY,
            ping_timeout=websocket.PONG_WITHIN,
            websocket_timeout=-1,  # a stream may stay open as long as its caller may watch
            server_name="",
        )
        self.host = host
        self.port = port
        self.failure: str | None = None
        self.is_stopping = False
        self.seats = Seats()
        self.connections: dict[Any, dict[str, Any]] = {}
        self.http_factory = http.Factory(self)
        self.ws_factory = websocket.Factory(self)

    def run(self) -> str | None:
        """Serve until a signal comes; return why, when that was not the reason to end."""
        globalLogBeginner.beginLoggingTo(
            [lambda _: None], redirectStandardIO=False, discardBuffer=True
        )
        kind = TCP6ServerEndpoint if ":" in self.host else TCP4ServerEndpoint
        listening = kind(reactor, self.port, backlog=512, interface=self.host.strip("[]")).listen(
            self.http_factory
        )
        listening.addCallbacks(self._listens, self._does_not_listen)
        reactor.callLater(1, self.application_checker)
        reactor.callLater(2, self.timeout_checker)
        reactor.addSystemEventTrigger("before", "shutdown", self._stop_gently)
        asyncio.set_event_loop(reactor._asyncioEventloop)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: reactor.callFromThread(self.stop))
        if self.failure is None:
            reactor.run(installSignalHandlers=False)
        return self.failure

    # --- For the protocols -------------------------------------------------------------------

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """As daphne, but a body waits on disk until the application asks for it."""
        if scope["type"] == "websocket":
            scope["extensions"] = {"websocket.http.response": {}}
            scope[COUNTED] = True
            return super().create_application(protocol, scope)
        queue = _Requests(protocol.take_body())
        future = asyncio.ensure_future(
            self.application(
                scope | {"asgi": {"version": "3.0"}, COUNTED: True},
                queue.get,
                lambda message: self.handle_reply(protocol, message),
            )
        )
        self.connections[protocol]["application_instance"] = future
        return queue

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.send" or (kind == "http.response.body" and protocol.flow):
            await protocol.flow.wait()
        await super().handle_reply(protocol, message)
        if kind == "http.response.body" and message.get("more_body") and not protocol.flow:
            protocol.start_flow()

    def log_refused(self, peer: Any, status: int, text: str) -> None:
        access_log.info('%s "%s" %s', f"{getattr(peer, 'host', '-')}", text, status)

    def _log(self, kind: str, action: str, details: dict[str, Any]) -> None:
        path = shown_path(details["path"])
        if kind == "http":
            access_log.info(
                '%s "%s %s" %s %s bytes in %.0f ms',
                details["client"],
                details["method"],
                path,
                details["status"],
                details["size"],
                details["time_taken"] * 1000,
            )
        elif action != "connecting":
            status = details.get("status", "-")
            access_log.info('%s "websocket %s" %s %s', details["client"], path, action, status)

    # --- Start and stop ----------------------------------------------------------------------

    def _listens(self, port: Any) -> None:
        self.listeners = [port]
        self.port = port.getHost().port
        logger.info("Serving on http://%s:%s", _in_url(self.host), self.port)

    def _does_not_listen(self, failure: Any) -> None:
        self.failure = failure.getErrorMessage()
        if reactor.running:
            reactor.stop()

    def _stop_gently(self) -> Deferred[Any]:
        return Deferred.fromFuture(asyncio.ensure_future(self._drain()))

    async def _drain(self) -> None:
        """Take nobody new, send the websockets away, let requests finish, end what is left."""
        self.is_stopping = True  # for those who come on connections that they have already
        for listener in self.listeners:
            listener.stopListening()
        for protocol in list(self.connections):
            if isinstance(protocol, websocket.Protocol):
                protocol.go_away()
        under_way = [
            details["application_instance"]
            for details in self.connections.values()
            if "application_instance" in details
        ]
        if under_way:
            _, left = await asyncio.wait(under_way, timeout=STOPS_WITHIN)
            # What they began as well: a thread whose view waits in the loop would never end.
            begun = asyncio.all_tasks() - {asyncio.current_task()} if left else set()
            for task in begun:
                task.cancel()
            if begun:
                await asyncio.wait(begun, timeout=1)
        logger.info("Stopped serving")


class _Requests(asyncio.Queue[dict[str, Any]]):
    """What an HTTP application receives: the body in parts as it asks, then what is put here."""

    PART = 64 * 1024

    def __init__(self, body: Any) -> None:
        super().__init__()
        self._body = body

    def put_nowait(self, message: dict[str, Any]) -> None:
        if message["type"] != "http.request":  # the empty one that stands for what we have here
            super().put_nowait(message)

    async def get(self) -> dict[str, Any]:
        if self._body is None:
            return await super().get()
        part = self._body.read(self.PART)
        more = len(part) == self.PART
        if not more:
            self._body.close()
            self._body = None
        return {"type": "http.request", "body": part, "more_body": more}


def shown_path(uri: str) -> str:
    """A path for the log: without the query, and without the token of a stream."""
    path = uri.partition("?")[0]
    return re.sub(r"(/stream/)(?!-$)[^/]+", r"\1***", path)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host

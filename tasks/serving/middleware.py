"""The limits of bodies and connections for any ASGI server; `manage.py crewweb` has them before.

What a server has taken of a body before it is asked for is the server's own matter.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..access.http import address_behind
from . import admission, bounds
from .seats import TOO_MANY, Seats

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

COUNTED = "crew.counted"  # in the scope of a server that has these limits itself


class _Refused(Exception):
    def __init__(
        self, status: int, text: str, body: bytes = b"", headers: Any = bounds.PLAIN
    ) -> None:
        super().__init__(text)
        self.status = status
        self.body = body or f"{text}\n".encode()
        self.headers = headers


class ConnectionLimit:
    """Refuses an address that has too many requests and streams under way."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._seats = Seats()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope.get(COUNTED):
            await self.application(scope, receive, send)
            return
        seat = self._seats.take(_address(scope))
        if seat is None:
            await _refuse_connection(scope, receive, send)
            return
        try:
            await self.application(scope, receive, send)
        finally:
            self._seats.leave(seat)


class BodyLimit:
    """Refuses a body that is too long or too slow; the application never sees it whole."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope.get(COUNTED):
            await self.application(scope, receive, send)
            return
        request = _Request(scope, receive, send)
        try:
            await request.check_declared()
            await self.application(scope, request.receive, request.send)
        except _Refused as refused:
            if request.is_answered:
                raise
            await _answer(send, refused)


class _Request:
    """One request on its way through."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        self.declared = headers.get(b"content-length", b"").decode("latin-1")
        self.limit = bounds.stranger()
        self.is_answered = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._received = 0
        self._is_judged = False
        self._is_whole = False
        self._started = time.monotonic()

    async def check_declared(self) -> None:
        if self.declared.isdigit():
            await self._check(int(self.declared))

    async def _check(self, length: int) -> None:
        """Raise _Refused for a body of so many bytes; its head is judged when it is long."""
        if length > self.limit and not self._is_judged:
            verdict = await admission.judge(self._scope)
            self._is_judged, self.limit = True, verdict.limit
            if refusal := verdict.refusal:
                raise _Refused(refusal.status_code, "", refusal.content, verdict.headers)
        if length > self.limit:
            raise _Refused(413, bounds.too_large(self.limit))

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        left = self._started + bounds.time_allowed(self._received) - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                message = await self._receive()
        except TimeoutError as error:
            raise _Refused(408, bounds.TOO_SLOW) from error
        self._received += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        await self._check(self._received)
        return message

    async def send(self, message: Message) -> None:
        self.is_answered = True
        await self._send(message)


def _address(scope: Message) -> str:
    forwarded = [value for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
    said = b",".join(forwarded).decode("latin-1")
    return address_behind(said, str((scope.get("client") or [""])[0]))


async def _refuse_connection(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        headers = [*bounds.PLAIN, (b"retry-after", b"1")]
        await _answer(send, _Refused(429, TOO_MANY, headers=headers))
    else:
        await receive()  # websocket.connect
        await send({"type": "websocket.close", "code": 4429})


async def _answer(send: Send, refused: _Refused) -> None:
    given = [(name, value) for name, value in refused.headers if name != b"content-length"]
    headers = [*given, (b"content-length", str(len(refused.body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": refused.body})

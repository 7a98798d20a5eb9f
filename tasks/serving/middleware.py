"""The limits of bodies for any ASGI server; `manage.py crewweb` has them even before this."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from . import limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class BodyLimit:
    """Refuses a body that is too long or too slow; the application never sees it whole."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        request = _Request(scope, receive, send)
        try:
            request.check_declared()
            await self.application(scope, request.receive, request.send)
        except _Refused as refused:
            if request.is_answered:
                raise
            await _answer(send, refused)


class _Request:
    """One request on its way through."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        kind = headers.get(b"content-type", b"").decode("latin-1")
        self.declared = headers.get(b"content-length", b"").decode("latin-1")
        self.limit = limits.body_limit(scope["method"], scope["path"], kind)
        self.is_answered = False
        self._receive = receive
        self._send = send
        self._received = 0
        self._is_whole = False
        self._started = time.monotonic()

    def check_declared(self) -> None:
        if self.declared.isdigit() and int(self.declared) > self.limit:
            raise _Refused(413, limits.too_large(self.limit))

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        left = self._started + limits.time_allowed(self._received) - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                message = await self._receive()
        except TimeoutError as error:
            raise _Refused(408, limits.TOO_SLOW) from error
        self._received += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._received > self.limit:
            raise _Refused(413, limits.too_large(self.limit))
        return message

    async def send(self, message: Message) -> None:
        self.is_answered = True
        await self._send(message)


async def _answer(send: Send, refused: _Refused) -> None:
    body = f"{refused}\n".encode()
    headers = [*limits.PLAIN, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

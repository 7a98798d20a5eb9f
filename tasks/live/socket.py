"""The live stream of a group (contract 1.5): who may watch it, and what its socket is sent.

A plain ASGI application: it needs no channel layer, so none can break it. Nothing that a client
sends is read.
"""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import suppress
from io import BytesIO
from math import inf
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError

from ..access import callers, origins
from ..access.http import by_embedder, refused_token
from ..conf import conf
from ..models import TaskGroup
from ..rules import spelling
from ..rules.jsonio import dump
from .hub import hub
from .socket_queue import Frames, Watcher

logger = logging.getLogger("crew.live.socket")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RECHECK = 50.0  # seconds between two looks at whether a watcher may still watch, at most
AFTER_END = 0.1  # seconds
AGAIN = 1.0  # seconds until the next look when the database gave no answer
MOST_RECEIVED = 4096  # characters or bytes in one frame
RESYNC_WITHIN = 2.0  # seconds for the last words to a socket that is too slow
AT_A_TIME = 50  # messages until others have their turn
# These are many people, or may be: they have so many times the streams of one caller.
SHARED = {"anyone": 20, "fixed-token": 20}

_open: Counter[str] = Counter()


class Refused(Exception):
    """The socket is not opened, or not kept open. `code` is its close code."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code

    @property
    def body(self) -> tuple[bytes, bytes]:
        """Content type and body; 401 is JSON, as on all routes."""
        if self.status == 401:
            return b"application/json; charset=UTF-8", dump({"message": str(self)}).encode()
        return b"text/plain; charset=UTF-8", str(self).encode()


UNAUTHORIZED = (401, 4401, "Unauthorized")
FOREIGN = (403, 4403, "this origin may not open a stream")
NOT_FOUND = (404, 4404, "task group not found")
TOO_MANY = (429, 4429, "too many streams")
WRONG_TOKENS = (429, 4429, "too many wrong tokens from this address")


async def stream(scope: Message, receive: Receive, send: Send) -> None:
    """`…/task_group/{gid}/stream/{token}`."""
    await _Socket(scope, receive, send).run()


async def unknown(scope: Message, receive: Receive, send: Send) -> None:
    """Every other path: there is no socket."""
    await receive()
    await _refuse(scope, send, Refused(404, 4404, "404 page not found"))


class _Socket:
    """One socket, from its handshake to its end."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        arguments = scope["url_route"]["kwargs"]
        self.group_id: str = arguments["gid"]
        self.token: str = arguments["token"]
        self.query = parse_qs(
            scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True
        )
        self.since = _since(self.query)
        self.is_session = False
        self.is_embedders = False
        self.access: callers.Access

    async def run(self) -> None:
        await self.receive()  # websocket.connect
        try:
            self.access = await database_sync_to_async(self._admit)()
            with _Slot(self.access.caller):
                await self._watch()
        except Refused as refused:
            await _refuse(self.scope, self.send, refused)
        except DatabaseError as error:
            logger.warning("A stream could not be opened: %s", error)
            await _refuse(self.scope, self.send, Refused(503, 1013, "try again"))

    # --- Who may ---------------------------------------------------------------------------

    def _admit(self) -> callers.Access:
        """The caller's access, if this group may be watched with it. Raises Refused."""
        request = _request(self.scope)
        sent = _sent_token(request)
        self.is_session = bool(conf.CREW_AUTHENTICATION) and self.token == "-" and not sent  # noqa: S105
        self._check_origin(request)  # before a ticket is used up
        found = self._find(request, sent)
        if found is None and not self.is_session:
            refusal = refused_token(request)
            raise Refused(*(WRONG_TOKENS if refusal.status_code == 429 else UNAUTHORIZED))
        if found is None or not found.may(callers.READ):
            raise Refused(*UNAUTHORIZED)
        if not found.sees(self.group_id) or not _exists(self.group_id):
            raise Refused(*NOT_FOUND)
        _check_slips(self.query)
        return found

    def _find(self, request: ASGIRequest, sent: str) -> callers.Access | None:
        if not conf.CREW_AUTHENTICATION:
            return callers.everything("anyone")
        if self.is_session:
            found = _of_session(request)
        elif self.token == "-":  # noqa: S105
            found = callers.of_secret(sent)
        else:
            found = callers.of_stream_secret(self.token)
        self.is_embedders = found is None
        return found or by_embedder(request, sent or self.token)

    def _check_origin(self, request: ASGIRequest) -> None:
        """Raise Refused for a page that may not watch; what is no browser sends no origin."""
        origin = request.META.get("HTTP_ORIGIN", "").lower()
        if not origin and not self.is_session:
            return
        try:
            is_own = origin == origins.own(request)
        except DisallowedHost as error:
            raise Refused(400, 4400, "this host is not known here") from error
        if not is_own and (self.is_session or not _is_welcome(origin)):
            raise Refused(*FOREIGN)

    def _may_stay(self) -> bool:
        if self.is_embedders:
            request = _request(self.scope)
            found = by_embedder(request, _sent_token(request) or self.token)
            return found is not None and found.caller == self.access.caller
        return callers.still_valid(self.access)

    # --- What it gets ----------------------------------------------------------------------

    async def _watch(self) -> None:
        watcher = Watcher(self.group_id, self.access.names)
        try:
            # Before the client knows that it is open: what it loads then is not older.
            since = self.since if isinstance(self.since, int) else None
            place = await database_sync_to_async(hub.join)(watcher, since)
            await self.send({"type": "websocket.accept"})
            if self.since is not None:
                watcher.put([dump({"type": "ready", "change": place})])
            logger.info("Stream of group %s opened by %s", self.group_id, self.access.caller)
            await self._until_over(watcher)
        finally:
            hub.leave(watcher)
            logger.info("Stream of group %s closed, %s open", self.group_id, hub.count())

    async def _until_over(self, watcher: Watcher) -> None:
        """Send, until the client goes, may not stay, or does not keep up."""
        works: list[Coroutine[Any, Any, object]] = [
            self._listen(),
            self._send_all(watcher),
            self._recheck(watcher),
            watcher.dropped.wait(),
        ]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if watcher.is_too_slow and tasks[0] not in done:
            logger.warning("A socket of group %s does not keep up: dropped", self.group_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_WITHIN):
                    last = dump({"type": "resync"})
                    await self.send({"type": "websocket.send", "text": last})
            await self._close(4429)
        for task in done:
            task.result()

    async def _send_all(self, watcher: Watcher) -> None:
        count = 0
        with suppress(OSError):  # so some servers say that the client is gone
            async for text in watcher.messages():
                await self.send({"type": "websocket.send", "text": text})
                count += 1
                if count % AT_A_TIME == 0:
                    await asyncio.sleep(0)
        await watcher.dropped.wait()

    async def _listen(self) -> None:
        """Until the client goes. What it says is not looked at, but for how much it is."""
        frames = Frames()
        while (message := await self.receive())["type"] != "websocket.disconnect":
            if not frames.count():
                await self._close(4429)
                return
            if len(message.get("text") or message.get("bytes") or "") > MOST_RECEIVED:
                await self._close(1009)
                return

    async def _recheck(self, watcher: Watcher) -> None:
        """When somebody may have lost a right, when the access ends, and now and then."""
        left = self.access.expires_in
        ends_at = inf if left is None else time.monotonic() + left
        while True:
            # One that ends by the database's clock ends a moment later by ours.
            until_end = max(AFTER_END, ends_at + AFTER_END - time.monotonic())
            await watcher.doubt(min(RECHECK, until_end))
            try:
                if await database_sync_to_async(self._may_stay)():
                    continue
            except DatabaseError as error:
                logger.warning("A stream's access could not be looked up again: %s", error)
                await asyncio.sleep(AGAIN)
                watcher.doubted.set()
                continue
            await self._close(4401)
            return

    async def _close(self, code: int) -> None:
        await self.send({"type": "websocket.close", "code": code})


class _Slot:
    """One of the streams that a caller may have open in this process."""

    def __init__(self, caller: str) -> None:
        self.caller = caller

    def __enter__(self) -> None:
        most = conf.CREW_MAX_STREAMS * SHARED.get(self.caller, 1)
        if _open[self.caller] >= most:
            raise Refused(*TOO_MANY)
        _open[self.caller] += 1

    def __exit__(self, *_: object) -> None:
        _open[self.caller] -= 1
        if not _open[self.caller]:
            del _open[self.caller]


async def _refuse(scope: Message, send: Send, refused: Refused) -> None:
    """Say no: as HTTP where the server can, else by closing."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": refused.code})
        return
    kind, body = refused.body
    headers = [(b"content-type", kind), (b"cache-control", b"no-store")]
    if refused.status in (429, 503):
        headers.append((b"retry-after", b"5"))
    start = {"type": "websocket.http.response.start", "status": refused.status}
    await send(start | {"headers": headers})
    await send({"type": "websocket.http.response.body", "body": body + b"\n"})


def _is_welcome(origin: str) -> bool:
    """Whether pages of another origin may watch. Never with a cookie, which goes along with
    whatever page asks. Who has a token needs no more, where the settings say so.
    """
    named = [each.lower() for each in conf.CREW_STREAM_ORIGINS]
    if conf.CREW_AUTHENTICATION and "*" in named:
        return True
    return origin in named or (not conf.CREW_AUTHENTICATION and origins.is_trusted(origin))


def _request(scope: Message) -> ASGIRequest:
    """The handshake as Django's own request: hosts, cookies and proxies as its settings say."""
    scheme = "https" if scope.get("scheme") in ("wss", "https") else "http"
    return ASGIRequest({**scope, "type": "http", "method": "GET", "scheme": scheme}, BytesIO())


def _sent_token(request: ASGIRequest) -> str:
    return callers.sent_token(request.META.get("HTTP_AUTHORIZATION", ""))


def _of_session(request: ASGIRequest) -> callers.Access | None:
    if not any(path.endswith("SessionAuthentication") for path in conf.CREW_AUTHENTICATION):
        return None
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    return callers.of_session(key) if key else None


def _exists(group_id: str) -> bool:
    return "\0" not in group_id and TaskGroup.objects.filter(pk=group_id).exists()


def _check_slips(query: Mapping[str, list[str]]) -> None:
    """Raise Refused for what was meant as `since`: messages would be missed."""
    for name in query:
        if name != "since" and spelling.meant(name, ("since",)):
            words = f"unknown parameter {spelling.shown(name)}; did you mean since?"
            raise Refused(400, 4400, words)


def _since(query: Mapping[str, list[str]]) -> int | str | None:
    """The `since` of the query; "" when it is there without a number, None when it is not."""
    given = query.get("since")
    if given is None:
        return None
    return int(given[0]) if re.fullmatch(r"[0-9]{1,18}", given[0]) else ""

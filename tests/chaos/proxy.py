"""A TCP proxy that can hold bytes back, swallow an answer to COMMIT, and cut.

with Proxies(host, port) as proxies:
    door = proxies.open()  # connect to 127.0.0.1:door.port
    door.hold()
"""

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

PIECE = 65_536


class Proxies:
    """A thread with an event loop in which any number of doors to one server live."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._doors: list[Door] = []

    def __enter__(self) -> "Proxies":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for door in self._doors:
            self.run(door.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def open(self) -> "Door":
        door = Door(self)
        self.run(door.serve())
        self._doors.append(door)
        return door

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def call(self, work: Any, *args: Any) -> None:
        self._loop.call_soon_threadsafe(work, *args)


class Door:
    """One port, and the links that came through it. The verbs may be called from any thread."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self._links: set[Link] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._swallow_next = False
        self.swallowed = 0
        self.port = 0

    def hold(self) -> None:
        """Let nothing through in either direction, as a network that drops every packet."""
        self._proxies.call(self._passing.clear)

    def release(self) -> None:
        """What was held back goes on, late."""
        self._proxies.call(self._passing.set)

    def cut(self) -> None:
        """Reset every link."""
        self._proxies.call(self._cut)

    def swallow(self) -> None:
        """Of the next link that sends COMMIT, swallow the answer and then cut it."""
        self._proxies.call(self._swallow)

    async def serve(self) -> None:
        self._listener = await asyncio.start_server(self._link, "127.0.0.1", 0, backlog=512)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._listener.close()
        self._cut()

    def _cut(self) -> None:
        for link in list(self._links):
            link.abort()

    def _swallow(self) -> None:
        self._swallow_next = True

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._proxies.server)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, far_writer)
        self._links.add(link)
        try:
            there = asyncio.ensure_future(self._pump(link, reader, far_writer, is_sent=True))
            back = asyncio.ensure_future(self._pump(link, far_reader, writer, is_sent=False))
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            there.cancel()
            back.cancel()
            await asyncio.wait({there, back})
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(
        self,
        link: "Link",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_sent: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                await self._passing.wait()
                if is_sent and self._swallow_next and b"COMMIT" in data:
                    self._swallow_next = False
                    link.swallows = True
                elif not is_sent and link.swallows:
                    self.swallowed += 1
                    return
                writer.write(data)
                await writer.drain()


@dataclass(eq=False, slots=True)
class Link:
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    swallows: bool = field(default=False)

    def abort(self) -> None:
        for writer in (self.near, self.far):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                # A reset, not a farewell: neither side is to think that all was said.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

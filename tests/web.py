"""A real `manage.py crewweb` on the test's database, and clients of its streams."""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import aiohttp

from .processes import ROOT, database_url

TOKEN = "the-fixed-token-of-the-tests"
STARTS_WITHIN = 60.0


class Web:
    """The process, and all that it has logged."""

    def __init__(self, *options: str, code: str = "", port: int = 0, **env: str) -> None:
        """With `code` that is run instead of manage.py."""
        self.lines: list[str] = []
        program = ["-c", code] if code else [str(ROOT / "manage.py")]
        self.process = subprocess.Popen(
            [sys.executable, *program, "crewweb", "-b", "127.0.0.1", "-p", str(port), *options],
            cwd=ROOT,
            env=os.environ
            | {"DATABASE_URL": database_url(), "DEBUG": "1", "CREW_AUTH_TOKEN": TOKEN}
            | {"CREW_MAX_STREAMS": "100", "REDIS_URL": "", "PYTHONUNBUFFERED": "1"}
            | {"DJANGO_SETTINGS_MODULE": "crewsite.settings"}
            | env,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait(lambda: self.line("Serving on ") is not None, STARTS_WITHIN)
        self.url = self.line("Serving on ").split("Serving on ")[1].strip()
        self.address = ("127.0.0.1", urlsplit(self.url).port)

    def line(self, text: str) -> str | None:
        """The last line that says so."""
        return next((line for line in reversed(self.lines) if text in line), None)

    def errors(self) -> str:
        """The tracebacks in the log, but for Django's own words about unknown hosts."""
        found = [at for at, line in enumerate(self.lines) if line.startswith("Traceback")]
        texts = ["".join(self.lines[max(0, at - 1) : at + 40]) for at in found]
        return "".join(text for text in texts if "DisallowedHost" not in text.splitlines()[0])

    def wait(self, condition: Callable[[], Any], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s; the log:\n" + "".join(self.lines))
            time.sleep(0.01)

    def nobody_watches(self) -> bool:
        return (self.line("closed, ") or "").rstrip().endswith("closed, 0 open")

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def call(self, method: str, path: str, value: Any = None, token: str = TOKEN) -> Any:
        """What the API answers, as JSON."""
        body = None if value is None else json.dumps(value).encode()
        request = Request(f"{self.url}{path}", data=body, method=method)
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Content-Type", "application/json")
        with build_opener(ProxyHandler({})).open(request, timeout=20) as answer:
            return json.load(answer)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join(5)
        self.process.stderr.close()
        return code

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line)


@contextlib.contextmanager
def web(**env: str) -> Iterator[Web]:
    running = Web(**env)
    try:
        yield running
    finally:
        running.stop()


def path_of(group_id: str, token: str = TOKEN, since: int | str | None = None) -> str:
    path = f"/api/v1/task_group/{quote(group_id)}/stream/{quote(token)}"
    return path if since is None else f"{path}?since={since}"


# --- A client as browsers are ----------------------------------------------------------------


class Clients:
    """A thread with an event loop in which any number of clients live."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.session = self.run(self._open())
        self.all: list[Client] = []

    def run(self, work: Any, seconds: float = 30.0) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(seconds)

    def open(self, web: Web, group_id: str, **options: Any) -> "Client":
        """A client whose socket is open; raises aiohttp.WSServerHandshakeError."""
        headers = options.pop("headers", {})
        client = Client(self)
        url = web.url + path_of(group_id, **options)
        self.run(client.connect(url, headers))
        self.all.append(client)
        return client

    def close(self) -> None:
        for client in self.all:
            client.close()
        self.run(self.session.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession()


class Client:
    """One websocket and all it got."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self.messages: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.code: int | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, url: str, headers: dict[str, str]) -> None:
        self._socket = await self._clients.session.ws_connect(url, headers=headers, max_msg_size=0)
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            self.times.append(time.monotonic())
            self.messages.append(json.loads(message.data))
        self.code = self._socket.close_code

    def wait(self, condition: Callable[["Client"], Any], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition(self):
            if time.monotonic() > deadline:
                told = [self.told()[-10:], len(self.messages), self.code]
                raise AssertionError(f"not within {seconds} s; the last messages: {told}")
            time.sleep(0.01)

    def told(self) -> list[tuple[str, str]]:
        """Type and id of every message about a task or group, in order."""
        return [
            (each["type"], (each.get("task") or each.get("taskGroup") or {}).get("id", ""))
            for each in self.messages
        ]

    def last(self) -> dict[str, dict[str, Any]]:
        """The last state of each task."""
        return {each["task"]["id"]: each["task"] for each in self.messages if "task" in each}

    @property
    def change(self) -> int | None:
        """Where to go on from after a reconnect."""
        return self.messages[-1]["change"] if self.messages else None

    def send(self, data: str | bytes) -> None:
        send = self._socket.send_str if isinstance(data, str) else self._socket.send_bytes
        self._clients.run(send(data))

    def close(self) -> None:
        self._clients.run(self._close())

    def drop(self) -> None:
        """Go without a word."""
        self._clients.loop.call_soon_threadsafe(self._socket._response.connection.transport.abort)

    async def _close(self) -> None:
        await self._socket.close()
        await asyncio.wait([self._reading], timeout=5)


# --- A client of which every byte is ours ----------------------------------------------------


class Raw:
    """A socket whose owner reads when he likes, or never."""

    def __init__(self, web: Web, *, buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(20)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(web.address)
        self.host = "{}:{}".format(*web.address)

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def read_all(self) -> bytes:
        """Until the other side closes."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while part := self.socket.recv(65536):
                data += part
        return data

    def read_head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data and (part := self.socket.recv(1)):
            data += part
        return data

    def upgrade(self, path: str, *headers: str) -> None:
        """Ask for a websocket."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {self.host}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", *headers]
        lines += [f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}"]
        self.send("\r\n".join([*lines, "", ""]))

    def open(self, path: str, *headers: str) -> None:
        self.upgrade(path, *headers)
        head = self.read_head()
        assert head.startswith(b"HTTP/1.1 101"), head

    def frame(self, payload: bytes, *, opcode: int = 1, final: bool = True) -> None:
        self.send(framed(payload, opcode=opcode, final=final))

    def read_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame from the server."""
        first, second = self.read(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", self.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.read(8))
        return first & 15, self.read(length)

    def close_code(self) -> int:
        """Read up to the server's close frame."""
        opcode, payload = self.read_frame()
        while opcode != 8:
            opcode, payload = self.read_frame()
        return int(struct.unpack("!H", payload[:2])[0])

    def read(self, count: int) -> bytes:
        """Exactly so many bytes; raises ConnectionError when there are not."""
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data


def framed(payload: bytes, *, opcode: int = 1, final: bool = True) -> bytes:
    """A frame as a client sends it."""
    mask = b"\1\2\3\4"
    length = len(payload)
    head = bytes([opcode | (0x80 if final else 0)])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65536:
        head += bytes([0x80 | 126]) + struct.pack("!H", length)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", length)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))

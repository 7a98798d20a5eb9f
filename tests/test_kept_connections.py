"""Workers behind real servers that close idle connections: no attempt is used. Takes a minute.

CREW_REAL_SIZES=1 python -m pytest tests/test_kept_connections.py
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tasks.rules.decide import Completed, decide

from . import npm, test_deliver
from .test_answers import NOW
from .test_deliver import make_delivery, wait_until

start = test_deliver.start  # a fixture

pytestmark = pytest.mark.skipif("CREW_REAL_SIZES" not in os.environ, reason="takes a minute")

UVICORN = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"{}"})
"""
NODE = """
const server = require("http").createServer((request, response) => {
  request.resume();
  request.on("end", () => response.end("{}"));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
"""
KEPT_FOR = 5.0  # seconds, by both as they are shipped
TOGETHER = 8


def uvicorn(folder: Path, port: int) -> list[str]:
    (folder / "kept.py").write_text(UVICORN)
    own = ["--app-dir", str(folder), "--log-level", "warning", "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", *own, "kept:app"]


def node(folder: Path, port: int) -> list[str]:
    (folder / "kept.js").write_text(NODE)
    return [str(npm.node()), str(folder / "kept.js"), str(port)]


@contextmanager
def serving(command: Any, folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    process = subprocess.Popen(command(folder, port))
    try:
        wait_until(listens, 30)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("server", [uvicorn, node])
def test_no_attempt_is_used_by_a_server_that_closes_what_is_idle(start, server, tmp_path):
    with serving(server, tmp_path) as url:
        calls = start(url)
        for after in (0.0, KEPT_FOR - 0.02, KEPT_FOR, KEPT_FOR + 0.02, 1.49, 1.5):
            time.sleep(after)  # what is waited for is the server's own clock
            before = len(calls.answers)
            calls.deliverer.send([make_delivery(f"t{before + n}") for n in range(TOGETHER)])
            calls.wait(before + TOGETHER)

    outcomes = [decide(answer, workgroup="", now=NOW) for _, answer in calls.answers]
    assert outcomes == [Completed()] * len(outcomes)

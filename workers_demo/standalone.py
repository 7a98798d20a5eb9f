"""The demo workers as a program that needs nothing but Python: an example to copy.

    python workers_demo/standalone.py --port 9000

Crew POSTs each task as JSON to http://127.0.0.1:9000/<worker>. A worker answers 200 and
`{"output": ..., "children": [...]}` when the task is done; any other status says that it failed.
"""

import argparse
import contextlib
import hmac
import json
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

if __package__:
    from . import workers
else:  # run as a file, not as `python -m workers_demo.standalone`
    import workers  # type: ignore[import-not-found, no-redef]

MAX_BODY = 10 * 1024 * 1024  # bytes

logger = logging.getLogger("worker")


class RefusedError(Exception):
    """The call is not worked on; status and text say why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """Answers the calls of one connection, one after the other."""

    server: "Server"
    protocol_version = "HTTP/1.1"  # connections stay open between calls
    timeout = 60  # seconds after which a silent connection is closed
    disable_nagle_algorithm = True  # else some answers leave 40 ms late

    def do_POST(self) -> None:
        started = time.monotonic()
        call = workers.Call()
        try:
            body = self.read_body()
            self.check_token()
            worker = self.find_worker()
            call = workers.read_call(body)
            answer = work(worker, call)
        except RefusedError as refused:
            answer = workers.Answer(refused.status, {"error": str(refused)})
        except Exception as error:
            logger.exception("Task %a failed", call.task_id)
            answer = workers.Answer(500, {"error": f"{type(error).__name__}: {error}"})
        # Before the answer, so that each answer has its line even if the program is stopped now;
        # %a, because a path and an id may hold line breaks and worse.
        seconds = time.monotonic() - started
        logger.info("%a, task %a: %d after %.1f s", self.path, call.task_id, answer.status, seconds)
        self.send_json(answer.status, answer.body)

    def do_GET(self) -> None:
        self.close_connection = True  # there may be a body, which was not read
        logger.info("%a: 405, a %s was refused", self.path, self.command)
        self.send_json(405, {"error": "workers are called by POST"}, Allow="POST")

    do_PUT = do_PATCH = do_DELETE = do_GET

    def read_body(self) -> bytes:
        """Always first: a body left unread would be taken for the next call."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            self.close_connection = True
            raise RefusedError(411, "a Content-Length is needed")
        if int(length) > MAX_BODY:
            self.close_connection = True
            raise RefusedError(413, f"the body is larger than {MAX_BODY} bytes")
        return self.rfile.read(int(length))

    def check_token(self) -> None:
        if self.server.token is None:
            return
        expected = f"Bearer {self.server.token}".encode()
        given = self.headers.get("Authorization", "").encode("latin-1", "replace")
        # Takes the same time for every wrong token, so that none can be guessed bit by bit.
        if not hmac.compare_digest(given, expected):
            raise RefusedError(401, "the token is missing or wrong")

    def find_worker(self) -> str:
        worker = self.path.removeprefix("/")
        if worker not in workers.WAITS:
            raise RefusedError(404, "there is no such worker")
        return worker

    def send_json(self, status: int, body: dict[str, Any], **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """The base class logs each request as well: once is enough."""


def work(worker: str, call: workers.Call) -> workers.Answer:
    """Your own work goes here; the demo only waits."""
    time.sleep(workers.wait(worker, call))
    return workers.answer(worker, call, now=datetime.now(UTC))


class Server(ThreadingHTTPServer):
    """One thread per connection; none of them keeps the program from stopping."""

    request_queue_size = 1024  # Crew may open hundreds of connections at once

    def __init__(self, address: tuple[str, int], *, token: str | None) -> None:
        super().__init__(address, Handler)
        self.token = token

    def handle_error(self, request: object, client_address: object) -> None:
        is_lost = isinstance(sys.exception(), ConnectionError)
        logger.warning("A caller hung up" if is_lost else "A call broke", exc_info=not is_lost)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the demo workers of Crew.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 takes any free port")
    parser.add_argument(
        "--token",
        default=os.environ.get("WORKER_TOKEN"),
        help="answer only calls with 'Authorization: Bearer TOKEN'; "
        "other users of this machine cannot see it when given as WORKER_TOKEN",
    )
    options = parser.parse_args()
    if options.token == "":
        parser.error("the token is empty")

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as at Ctrl-C
    with contextlib.suppress(KeyboardInterrupt):
        server = Server((options.host, options.port), token=options.token)
        print(f"listening on http://{options.host}:{server.server_port}/", flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()

"""Single POSTs of a task, beside the same by plain Django REST framework on plain daphne.

    python -m benchmarks.posts [--database URL ...] [--rounds 7] [--json FILE]

Both servers run at once and are asked in turn, 100 calls by one client on one connection: what
the machine does meanwhile, it does to both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from tests.servers import free_port

from .stage import ROOT, databases, kind_of

CALLS = 100
TOKEN = "the-token-of-a-benchmark"


class Server:
    """A web server as a process, and its one client."""

    def __init__(self, name: str, command: list[str], path: str, env: dict[str, str]) -> None:
        self.name, self.path = name, path
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, *(part.format(port=self.port) for part in command)],
            env=env,
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        self.client = HTTPConnection("127.0.0.1", self.port, timeout=20)

    def post(self, path: str, value: object) -> dict[str, object]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        self.client.request("POST", path, json.dumps(value), headers)
        answer = self.client.getresponse()
        body = answer.read()
        if answer.status not in (200, 201):
            raise SystemExit(f"{self.name}: {answer.status} {body[:300]!r}")
        return json.loads(body)

    def wait(self) -> None:
        for _ in range(600):
            try:
                self.client.connect()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{self.name} does not start")

    def round(self) -> None:
        started, cpu = time.perf_counter(), self._cpu()
        for number in range(CALLS):
            self.post(self.path, {"worker": "w", "input": {"n": number}})
        self.wall.append((time.perf_counter() - started) / CALLS)
        self.cpu.append((self._cpu() - cpu) / CALLS)

    def _cpu(self) -> float:
        """Seconds of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", action="append", help="a DATABASE_URL; may be repeated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    results = []
    with databases(options.database) as found:
        for database in found:
            with _servers(database) as servers:
                for _ in range(options.rounds):
                    for server in servers:
                        server.round()
                results += [_report(server, database) for server in servers]
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def site_environment(database: str) -> dict[str, str]:
    """That of a web server as in production, which the token opens."""
    return os.environ | {
        "DATABASE_URL": database,
        "DEBUG": "0",
        "SECRET_KEY": "for a benchmark on this machine only, and long enough for it",
        "ALLOWED_HOSTS": "127.0.0.1",
        "CREW_WORKER_BASE_URL": "http://127.0.0.1:1/",
        "CREW_AUTH_TOKEN": TOKEN,
        "LOG_LEVEL": "WARNING",
    }


@contextmanager
def _servers(database: str) -> Iterator[list[Server]]:
    env = site_environment(database)
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], env=env, check=True, cwd=ROOT)
    crew = Server("Crew", ["manage.py", "crewweb", "-b", "127.0.0.1", "-p", "{port}"], "", env)
    plain = Server("plain DRF", ["-m", "benchmarks.plain", "{port}"], "/tasks", env)
    try:
        crew.wait()
        plain.wait()
        group = crew.post("/api/v1/task_groups", {"name": "posts"})["id"]
        crew.path = f"/api/v1/task_group/{group}/tasks"
        for server in (crew, plain):
            server.post(server.path, {"worker": "w"})  # the first call is no call
        yield [crew, plain]
    finally:
        for server in (crew, plain):
            server.process.terminate()
            server.process.wait()


def _report(server: Server, database: str) -> dict[str, object]:
    wall, cpu = statistics.median(server.wall), statistics.median(server.cpu)
    print(
        f"{server.name:10} {kind_of(database):10}: {1 / wall:5.0f} POST/s, {1000 * wall:5.2f} ms"
        f" (min {1000 * min(server.wall):.2f}), {1000 * cpu:5.2f} ms CPU of the server",
        flush=True,
    )
    return {
        "server": server.name,
        "database": kind_of(database),
        "wall_seconds": server.wall,
        "cpu_seconds": server.cpu,
    }


if __name__ == "__main__":
    main()

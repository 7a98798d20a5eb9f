"""What a run is set up on: a database, the worker, the fleet, and a door before each of them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from .. import servers
from ..processes import ROOT
from . import fleet
from .plan import LIMIT, LIMITED
from .proxy import Proxies
from .trouble import Scene

TOKEN = "the-fixed-token-of-chaos"
LEASE, SWEEP = 3.0, 0.5  # seconds; 30 and 5 in production

SETTINGS = {
    "DEBUG": "0",
    "SECRET_KEY": "a key for a run on this machine, of no other use",
    "ALLOWED_HOSTS": "127.0.0.1",
    "CREW_AUTH_TOKEN": TOKEN,
    "REDIS_URL": "",
    "CREW_LEASE_SECONDS": str(LEASE),
    "CREW_SWEEP_SECONDS": str(SWEEP),
    "CREW_DELIVERY_TIMEOUT_SECONDS": "6",
    "CREW_DRAIN_SECONDS": "0.4",  # less than many calls take
    "CREW_SLOTS": "50",
    "CREW_CALLS_BYTES": str(4 * 1024 * 1024),  # much less than a wide layer brings
}


@dataclass(frozen=True, slots=True)
class Options:
    """So many `tasks` and `kills` at least, and `minutes` at least."""

    tasks: int = 5_000
    kills: int = 60
    seed: int = 0
    minutes: float = 0.0
    database: str = "postgresql"
    schedulers: int = 4
    keep: Path = ROOT / "var" / "chaos"


@contextlib.contextmanager
def database(options: Options) -> Iterator[servers.Postgres | None]:
    """A PostgreSQL of our own, even where one is given: it is going to crash."""
    if options.database == "sqlite":
        yield None
        return
    given = os.environ.pop("TEST_DATABASE_URL", None)
    try:
        with servers.postgres() as server:
            assert isinstance(server, servers.Postgres)
            yield server
    finally:
        if given:
            os.environ["TEST_DATABASE_URL"] = given


def set_up_django(url: str) -> None:
    os.environ |= SETTINGS | {"DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
    os.environ["DJANGO_SETTINGS_MODULE"] = "crewsite.settings"
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0)
    from tasks.models import Worker

    Worker.objects.create(pk=LIMITED, max_concurrency=LIMIT)
    connections.close_all()  # it would not outlive what follows


@contextlib.contextmanager
def worker(folder: Path, seed: int) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.chaos.worker", "--seed", str(seed)]
    command += ["--log", str(folder / "worker.jsonl")]
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True,
            start_new_session=True,
            preexec_fn=fleet.die_with_parent,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def scene(
    options: Options,
    folder: Path,
    server: servers.Postgres | None,
    base: str,
    stack: ExitStack,
) -> tuple[Scene, str]:
    """Each process reaches the database through a door of its own."""
    env = SETTINGS | {"CREW_WORKER_BASE_URL": base, "LOG_LEVEL": "INFO"}
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}/"
    dice = Random(f"{options.seed} scene")
    if server is None:
        env |= {"DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}"}
        one = [fleet.scheduler("scheduler-0", folder, env)]
        return Scene(dice, LEASE, one, [fleet.web("web", folder, port, env)]), url
    proxies = stack.enter_context(Proxies("127.0.0.1", server.port))
    doors = [proxies.open() for _ in range(options.schedulers + 1)]
    envs = [env | {"DATABASE_URL": _through(server.url, door.port)} for door in doors]
    schedulers = [
        fleet.scheduler(f"scheduler-{i}", folder, envs[i]) for i in range(options.schedulers)
    ]
    web = fleet.web("web", folder, port, envs[-1])
    return Scene(dice, LEASE, schedulers, [web], doors, doors[-1], server), url


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.port}/", f":{port}/")

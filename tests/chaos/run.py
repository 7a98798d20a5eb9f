"""A whole run: set up, trouble while tasks are created and done, calm, and the checker's word."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from .. import servers
from ..processes import ROOT
from . import checker, fleet, journal, story
from .client import Clients
from .proxy import Proxies
from .trouble import Scene, troubles

TOKEN = "the-fixed-token-of-chaos"
LEASE, SWEEP = 3.0, 0.5  # seconds; 30 and 5 in production
GAP = (0.2, 1.2)  # seconds between two troubles
PATIENCE = 60.0  # seconds without any progress that make a run a stuck one
BEAT = 0.02  # seconds between two looks at the fleet
DOUBTS = 4  # answers to COMMIT that each process loses at the very end
STOPS_PER_KILL, CRASHES_PER_KILL = 1 / 3, 1 / 20

SETTINGS = {
    "DEBUG": "0",
    "SECRET_KEY": "a key for a run on this machine, of no other use",
    "ALLOWED_HOSTS": "127.0.0.1",
    "CREW_AUTH_TOKEN": TOKEN,
    "REDIS_URL": "",
    "CREW_LEASE_SECONDS": str(LEASE),
    "CREW_SWEEP_SECONDS": str(SWEEP),
    "CREW_DELIVERY_TIMEOUT_SECONDS": "6",
    "CREW_DRAIN_SECONDS": "10",
    "CREW_SLOTS": "50",
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


@dataclass(slots=True)
class Report:
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[checker.Violation] = field(default_factory=list)
    kept: Path | None = None


def run(options: Options, folder: Path) -> Report:
    """Logs and journal go into `folder`, and the database too when anything is wrong."""
    began = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(_database(options, folder))
        _set_up_django(server.url if server else f"sqlite:///{folder / 'db.sqlite3'}")
        told, by = _trouble(options, folder, server)
        calm = time.monotonic()
        found = story.load(told)
        report = Report(violations=checker.check(found))
        report.figures = _figures(found, by) | {
            "seconds": round(time.monotonic() - began),
            "of them in trouble": round(calm - began),
        }
        if report.violations:
            _keep(report, folder, server)
    return report


@contextlib.contextmanager
def _database(options: Options, folder: Path) -> Iterator[servers.Postgres | None]:
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


def _set_up_django(url: str) -> None:
    os.environ |= SETTINGS | {"DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
    os.environ["DJANGO_SETTINGS_MODULE"] = "crewsite.settings"
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0)
    connections.close_all()  # it would not outlive what follows


def _trouble(
    options: Options, folder: Path, server: servers.Postgres | None
) -> tuple[story.Story, Counter[str]]:
    notes = journal.Journal(folder / "journal.jsonl")
    with ExitStack() as stack:
        worker = stack.enter_context(_worker(folder, options.seed))
        scene, url = _scene(options, folder, server, worker, stack)
        stack.callback(_end, scene)
        clients = Clients(url, TOKEN, seed=options.seed, journal=notes)
        scene.bulks = lambda: clients.bulks
        _wait_ready(scene)
        clients.start()
        _make_trouble(options, scene, clients)
        _calm_down(scene, clients)
        fleet.end_all(scene.members)
        deaths = [text for member in scene.members for text in member.deaths]
        scene.done["answers to COMMIT swallowed"] = sum(door.swallowed for door in scene.doors)
    notes.close()
    told = story.Story(
        posts=story.read_log(folder / "worker.jsonl"),
        calls=journal.read(folder / "journal.jsonl"),
        plans=clients.plans,
        deaths=[*deaths, *clients.failures],
    )
    return told, scene.done


@contextlib.contextmanager
def _worker(folder: Path, seed: int) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.chaos.worker", "--seed", str(seed)]
    command += ["--log", str(folder / "worker.jsonl")]
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def _scene(
    options: Options,
    folder: Path,
    server: servers.Postgres | None,
    worker: str,
    stack: ExitStack,
) -> tuple[Scene, str]:
    """Each process reaches the database through a door of its own."""
    env = SETTINGS | {"CREW_WORKER_BASE_URL": worker, "LOG_LEVEL": "INFO"}
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


def _wait_ready(scene: Scene) -> None:
    deadline = time.monotonic() + 60
    while not all(member.is_ready for member in scene.members):
        scene.tend()
        time.sleep(BEAT)
        assert time.monotonic() < deadline, "the fleet does not start"


def _make_trouble(options: Options, scene: Scene, clients: Clients) -> None:
    """Round after round until all that was asked for has happened."""
    dice = Random(f"{options.seed} trouble")
    until = time.monotonic() + options.minutes * 60
    listed: list[str] = []
    while (left := _left(options, scene, clients)) or time.monotonic() < until:
        if not listed:
            listed = troubles(dice, on_postgres=scene.server is not None)
        # Tasks are created in step with the trouble, so that there are some at each of it.
        ahead = 0.05 + scene.done["kills"] / max(1, options.kills)
        clients.allow(int(options.tasks * min(ahead, 1.0)) if left else clients.planned + 1)
        name = listed.pop()
        if not getattr(scene, name)():
            listed.insert(dice.randrange(len(listed) + 1), name)
        _rest(scene, dice.uniform(*GAP))


def _rest(scene: Scene, seconds: float) -> None:
    """Let time pass, and the fleet be looked after."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        scene.tend()
        time.sleep(BEAT)


def _left(options: Options, scene: Scene, clients: Clients) -> bool:
    """Whether anything that was asked for has not happened yet."""
    crashes = options.kills * CRASHES_PER_KILL if scene.server else 0
    return (
        scene.done["kills"] < options.kills
        or scene.done["stops"] < options.kills * STOPS_PER_KILL
        or scene.done["database crashes"] < crashes
        or clients.created < options.tasks
    )


def _calm_down(scene: Scene, clients: Clients) -> None:
    """Let all that can be done be done; return when it is, or when nothing moves any more."""
    scene.calm()
    for _ in range(DOUBTS):
        clients.allow(clients.planned + 1)  # or there would be nothing to claim
        scene.doubt()
        _rest(scene, 1.0)
    finishing = _in_thread(clients.finish)
    while finishing.is_alive():
        scene.tend()
        time.sleep(BEAT)
    planned = {id_ for plan in clients.plans for id_ in (*plan.doomed, *plan.blocked)}
    last, since = -1, time.monotonic()
    while (left := _incomplete() - planned) and time.monotonic() - since < PATIENCE:
        if len(left) != last:
            last, since = len(left), time.monotonic()
        scene.tend()
        for group, ids in _exhausted(left):
            scene.done["tasks given attempts by hand"] += len(ids)
            clients.retry(group, ids)
        time.sleep(0.25)


def _in_thread(work: Any) -> Any:
    import threading

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _incomplete() -> set[str]:
    from tasks.models import Task

    return set(Task.objects.incomplete().values_list("id", flat=True))


def _exhausted(ids: set[str]) -> list[tuple[str, list[str]]]:
    """Tasks that lost their scheduler three times in a row, by group."""
    from tasks.models import Task

    groups: dict[str, list[str]] = {}
    for id_, group in Task.objects.exhausted().values_list("id", "group_id"):
        if id_ in ids:
            groups.setdefault(group, []).append(id_)
    return list(groups.items())


def _end(scene: Scene) -> None:
    for member in scene.members:
        if member.is_running:
            member.kill()


def _figures(found: story.Story, by: Counter[str]) -> dict[str, Any]:
    outcomes = Counter(row.outcome for rows in found.attempts.values() for row in rows)
    results = Counter(call.result for call in found.calls)
    acknowledged = sum(
        len(call.ids)
        for call in found.calls
        if call.verb in checker.CREATES and call.result == journal.DONE
    )
    return {
        "tasks acknowledged": acknowledged,
        "tasks at the end": len(found.tasks),
        "calls to the worker": len(found.posts),
        **dict(sorted(by.items())),
        **{f"attempts {name}": n for name, n in sorted(outcomes.items())},
        **{f"API calls {name}": n for name, n in sorted(results.items())},
    }


def _keep(report: Report, folder: Path, server: servers.Postgres | None) -> None:
    """What a person needs to find out more: rows in words, logs, and the database itself."""
    report.kept = folder
    (folder / "violations.txt").write_text("\n".join(map(str, report.violations)) + "\n")
    if server is not None:
        from django.db import connections

        connections.close_all()
        server.stop("fast")
        shutil.copytree(server.folder / "data", folder / "database")

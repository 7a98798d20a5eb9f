"""Peers run the workloads that they can: each by its own commands, in its own environment.

Everything is put into the queue first, then the workers start. The time is that between the first
and the last call as the worker sees them: what they do before the first and after the last call
costs them nothing, unlike Crew.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests import servers

from ..stage import ROOT, TEMPLATES, BrokenRunError, Store, environment, sink, wait_for, watched
from ..workloads import Workload

REQUIREMENTS = ROOT / "benchmarks" / "requirements-peers.txt"
FOLDER = ROOT / "var" / "peers"
BIN = FOLDER / "bin"
LONGEST = 120.0  # seconds; independent tasks that are not done by then are not counted


@dataclass(frozen=True, slots=True)
class Peer:
    """`commands` are the ways its documentation names to run workers, by name; all are measured.

    It does `most` independent tasks at most: its rate is seen with fewer.
    """

    name: str
    module: str
    broker: str
    commands: dict[str, str]
    can: tuple[str, ...]
    packages: tuple[str, ...]
    most: int = 10_000


_CELERY = "celery -A benchmarks.peers.celery_redis worker -Q bench -l WARNING --without-gossip"
_DRAMATIQ = "dramatiq benchmarks.peers.dramatiq_redis --skip-logging"
_HUEY = "huey_consumer benchmarks.peers.huey_redis.huey -q -n"
_QCLUSTER = "python -m django qcluster --settings benchmarks.peers.django_q_settings"
PEERS = [
    Peer(
        "Celery", "celery_redis", "Redis",
        {
            "prefork, 2 processes": f"{_CELERY} -P prefork -c 2",
            "gevent, 500": f"{_CELERY} -P gevent -c 500 --prefetch-multiplier 1",
            "threads, 32": f"{_CELERY} -P threads -c 32",
        },
        ("independent", "fan", "chain"), ("celery", "redis", "gevent"),
    ),
    Peer(
        "Dramatiq", "dramatiq_redis", "Redis",
        {
            "2 processes of 8 threads": f"{_DRAMATIQ} -p 2 -t 8",
            "2 processes of 250 threads": f"{_DRAMATIQ} -p 2 -t 250",
        },
        ("independent", "fan", "chain"), ("dramatiq", "redis"),
    ),
    Peer(
        "Huey", "huey_redis", "Redis",
        {
            "2 processes": f"{_HUEY} -k process -w 2",
            "16 threads": f"{_HUEY} -k thread -w 16",
            "500 greenlets": f"BENCH_GREENLETS=1 {_HUEY} -k greenlet -w 500",
        },
        ("independent", "fan", "chain"), ("huey", "redis", "gevent"),
    ),
    Peer(
        "Procrastinate", "procrastinate_postgres", "PostgreSQL",
        {
            "500 asynchronous": "procrastinate -a benchmarks.peers.procrastinate_postgres.app"
            " worker -q bench -c 500",
        },
        ("independent", "chain"), ("procrastinate", "psycopg", "aiohttp"), 5_000,
    ),
    Peer(
        "django-q2", "django_q", "PostgreSQL",
        {
            "ORM, 2 processes": _QCLUSTER,
            "Redis, 2 processes": _QCLUSTER,
        },
        ("independent", "chain"), ("django-q2", "Django"), 2_000,
    ),
]  # fmt: skip


def prepare() -> None:
    """The environment of the peers, recreated when what it holds was changed."""
    stamp = FOLDER / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == REQUIREMENTS.read_bytes():
        return
    print("making the environment of the peers in var/peers (this can take a minute)", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    pip = [str(BIN / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
    shutil.copyfile(REQUIREMENTS, stamp)


def versions() -> dict[str, str]:
    """Of what is installed in that environment."""
    (packages,) = FOLDER.glob("lib/python*/site-packages")
    names = {name for peer in PEERS for name in peer.packages}
    found = importlib.metadata.distributions(path=[str(packages)])
    return {dist.name: dist.version for dist in found if dist.name in names}


def run(peer: Peer, way: str, workload: Workload, store: Store | None) -> dict[str, float]:
    """One run, with a broker and a sink of its own."""
    count = workload.becomes
    if workload.name == "independent":
        count = min(count, peer.most)
    with sink() as worker, _broker(peer, way, store) as broker:
        env, command = _command(peer.commands[way])
        env = environment(**env, **broker, BENCH_BASE=worker.base, PYTHONPATH=str(ROOT))
        for name in ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL"):
            env.pop(name, None)
        # Imported, not run: a task is known by the name of its module.
        code = f"from benchmarks.peers.{peer.module} import main; main()"
        enqueue = [str(BIN / "python"), "-c", code]
        started = time.perf_counter()
        subprocess.run([*enqueue, workload.name, str(count)], env=env, cwd=ROOT, check=True)
        created = time.perf_counter() - started
        with watched(command, env) as (process,):
            deadline = time.monotonic() + LONGEST
            wait_for(
                lambda: (
                    not process.runs()
                    or worker.stats()["calls"] >= count
                    or time.monotonic() > deadline
                ),
                workload.title,
            )
            stats = worker.stats()
            if not process.runs():
                raise BrokenRunError(f"the process ended: {process.output()[-2_000:]}")
    if stats["calls"] < count:
        if workload.name != "independent" or not stats["calls"]:
            raise BrokenRunError(f"{stats['calls']} of {count} calls within {LONGEST:.0f} s")
        count = int(stats["calls"])  # enough to see its rate
    seconds = stats["last_at"] - stats["first_at"]
    return {
        "tasks": count,
        "seconds": seconds,
        "rate": count / seconds,
        "hop_ms": 1000 * seconds / (count - 1),
        "create_seconds": created,
        "in_flight": stats["max_in_flight"],
    }


def _command(text: str) -> tuple[dict[str, str], list[str]]:
    """What stands before a command as in a shell, and the command itself."""
    words = text.split()
    env = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    return env, [str(BIN / words[0]), *words[1:]]


@contextmanager
def _broker(peer: Peer, way: str, store: Store | None) -> Iterator[dict[str, str]]:
    """A fresh Redis, or a fresh database with the peer's tables, or both."""
    if peer.broker == "Redis":
        with servers.redis() as server:
            yield {"BENCH_BROKER": server.url}
        return
    assert store is not None
    with store.fresh(peer.module) as url:
        broker = {"BENCH_BROKER": url, "BENCH_DATABASE": url}
        if "Redis" not in way:
            yield broker
            return
        with servers.redis() as server:
            yield broker | {"BENCH_REDIS": server.url}


def _procrastinate_schema(url: str) -> None:
    module = "benchmarks.peers.procrastinate_postgres"
    _setup(url, "-c", f"from {module} import make_tables; make_tables()")


def _django_q_schema(url: str) -> None:
    _setup(url, "-m", "django", "migrate", "-v0", "--settings",
           "benchmarks.peers.django_q_settings")  # fmt: skip


def _setup(url: str, *arguments: str) -> None:
    env = os.environ | {"BENCH_BROKER": url, "BENCH_DATABASE": url, "BENCH_BASE": "http://none/"}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    subprocess.run([str(BIN / "python"), *arguments], env=env, cwd=ROOT, check=True)


TEMPLATES["procrastinate_postgres"] = _procrastinate_schema
TEMPLATES["django_q"] = _django_q_schema

"""The scheduler of an older version, out of git's history, on the tables of this one: F35."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from . import stub_worker
from .processes import ROOT, database_url, scheduler, wait_until
from .stub_worker import Barrier, StubWorker

pytestmark = pytest.mark.django_db(transaction=True)

MIGRATIONS = "tasks/migrations"


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    """The last version that lacks a migration of ours, and has none that we do not know."""
    commit = last_with_fewer_migrations()
    if commit is None:
        pytest.skip("git has no such version: this is no clone, a shallow one, or a young one")
    folder = tmp_path_factory.mktemp("old")
    archive = folder / "old.tar"
    archive.write_bytes(git("archive", "--format=tar", commit))
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "crew", filter="data")
    return folder / "crew"


# Where it is that looks at the version of the tables, today and once.
LOOKS = {"tasks/engine/table_version.py", "tasks/engine/schema_version.py", "tasks/schema.py"}


def last_with_fewer_migrations() -> str | None:
    ours = {path.name for path in (ROOT / MIGRATIONS).glob("0*.py")}
    try:
        touched = git("log", "--format=%H", "--", MIGRATIONS).decode().split()
        # Ours may not be committed yet.
        for commit in ["HEAD", *(f"{commit}^" for commit in touched)]:
            tree = git("ls-tree", "-r", "--name-only", commit, "tasks/").decode().split()
            names = {path.removeprefix(f"{MIGRATIONS}/") for path in tree}
            theirs = {name for name in names if name.startswith("0")}
            if theirs < ours and LOOKS & set(tree):  # which looks at the tables' version
                return commit
    except (OSError, subprocess.CalledProcessError):
        pass
    return None


def git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture
def database(tmp_path) -> Iterator[str]:
    """The URL of an empty database."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{tmp_path / 'old.sqlite3'}"
        return
    name = f"old_{uuid4().hex}"
    with psycopg.connect(database_url(), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        yield urlsplit(database_url())._replace(path=f"/{name}").geturl()
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def manage(root: Path, database: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(root / "manage.py"), *arguments],
        env=os.environ | {"DATABASE_URL": database, "DEBUG": "1"},
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def completed(database: str) -> int:
    """How many tasks; asked in SQL, as Django here is for the test's own database."""
    if database.startswith("sqlite"):
        opened = contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///")))
    else:
        opened = psycopg.connect(database)
    with opened as asked:
        return asked.execute("SELECT count(*) FROM crew_task WHERE is_complete").fetchone()[0]


def test_an_old_scheduler_works_on_newer_tables_until_it_notices_and_then_refuses(
    old, database, tmp_path
):
    """A rolling update: the tables are migrated under it, and it looks at their version later."""
    tasks = [{"id": f"t{n}", "worker": f"w{n}"} for n in range(6)]
    tasks += [{"id": "child", "worker": "w", "parentIds": [f"t{n}" for n in range(6)]}]
    file = tmp_path / "group.json"
    file.write_text(json.dumps({"id": "g", "tasks": tasks}))
    manage(old, database, "migrate", "-v", "0")
    manage(old, database, "crewimport", str(file))
    barrier = Barrier()

    env = {"DATABASE_URL": database, "CREW_LEASE_SECONDS": "30", "CREW_SWEEP_SECONDS": "100"}
    with StubWorker(barrier) as worker:
        with scheduler(worker.url, "--slots", "2", root=old, **env) as process:
            barrier.call(2)
            manage(ROOT, database, "migrate", "-v", "0")
            for n in range(1, 5):  # two claimed on the old tables, and two on the new ones
                barrier.call(n).release({"output": n})
            barrier.call(6)
            wait_until(lambda: completed(database) == 4)
            process.terminate()
            for n in (5, 6):
                barrier.call(n).release({"output": n})
            assert process.wait(20) == 0
            said = process.stderr.read()
        with scheduler(worker.url, root=old, **env) as process:
            assert process.wait(20) == 1
            refusal = process.stderr.read()
        worker.behaviour = stub_worker.answer()
        with scheduler(worker.url, **env):
            wait_until(lambda: completed(database) == 7)

    newest = max(path.stem for path in (ROOT / MIGRATIONS).glob("0*.py"))
    assert len(refusal.splitlines()) == 1
    assert "The database is newer than this version of Crew, which does not know" in refusal
    assert newest in refusal
    assert "Traceback" not in said and "A turn failed" not in said
    assert len(worker.requests) == 7
    manage(ROOT, database, "crewcheck")

"""What a command cannot do is a sentence and exit code 1, whatever stood in its way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError, OperationalError
from django.db.backends.utils import CursorWrapper

from .processes import ROOT

COMMANDS = [
    ("crewcheck",),
    ("crewexport", "--all"),
    ("crewexport", "--finished-before", "2026-01-01"),
    ("crewimport", "FILE"),
    ("crewprune", "--days", "1"),
    ("crewprune", "--days", "1", "--dry-run"),
    ("crewroles",),
    ("crewstatus", "g"),
    ("crewtoken", "t", "--scope", "read"),
    ("crewtoken", "--list"),
    ("crewtoken", "--revoke", "x"),
]


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError("gone\nDETAIL: x"), DataError("too long")])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_the_database_says_is_a_sentence(command, error, monkeypatch, tmp_path):
    file = tmp_path / "group.json"
    file.write_text('{"tasks": []}')
    command = [str(file) if word == "FILE" else word for word in command]

    def raises(*args):
        raise error

    monkeypatch.setattr(CursorWrapper, "execute", raises)
    with pytest.raises(CommandError, match=r"gone|too long") as result:
        call_command(*command)

    assert "DETAIL" not in str(result.value)


@pytest.mark.parametrize(
    "command", [("crewexport", "--all"), ("migrate",), ("runscheduler", "--once")]
)
def test_a_database_that_is_not_there_is_reported_without_a_traceback(command, tmp_path):
    done = manage(*command, DATABASE_URL=f"sqlite:///{tmp_path}/none/db.sqlite3")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "unable to open database file" in done.stderr
    assert f"{tmp_path}/none/db.sqlite3" in done.stderr
    assert "Traceback" in manage(*command, "--traceback", DATABASE_URL="sqlite:////x/y").stderr


def test_a_file_that_cannot_be_written_is_reported(tmp_path, db):
    with pytest.raises(CommandError, match=f"{tmp_path}/none/a.gz.*No such file or directory"):
        call_command("crewexport", "--all", "-o", f"{tmp_path}/none/a.gz")


@pytest.mark.parametrize("where", ["var", "database"])
def test_the_demo_says_where_it_cannot_write(where, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    (tmp_path / "site_of_a_test.py").write_text(
        f"from crewsite.settings import *\nBASE_DIR = type(BASE_DIR)({str(in_the_way)!r})\n"
    )
    env = {
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "PORT": "18090",
        "SECRET_KEY": "0123456789abcdef" * 3,
    }
    if where == "var":
        env |= {"DJANGO_SETTINGS_MODULE": "site_of_a_test", "SECRET_KEY": ""}
    else:
        env |= {"DATABASE_URL": f"sqlite:///{in_the_way}/db"}

    done = manage("demo", "--once", **env)

    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert str(in_the_way) in done.stderr.splitlines()[-1]


def manage(*command: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *command],
        cwd=Path(ROOT),
        env=os.environ | {"DEBUG": "1", "REDIS_URL": ""} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )

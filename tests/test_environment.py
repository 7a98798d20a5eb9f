"""A variable that cannot be is a line that names it, whatever is started, and no traceback."""

import ast
import os
import re
import runpy
import subprocess
import sys
import warnings

import pytest

from crewsite import environment
from tasks.checks.settings import check_settings
from tasks.conf import SETTINGS

from .processes import ROOT

ODD = ["abc", "maybe", "", "-1", "1.5", "9" * 30, "1e300", "nan", "inf", " ", ",", "\x1b[2J", "é"]
TEXTS = {name for name, one in SETTINGS.items() if one.kind in (str, list)}
TEXTS |= {"SECRET_KEY", "ALLOWED_HOSTS", "HOST", "TEST_SQLITE_FILE"}
STARTS = {
    "manage": ["manage.py", "check"],
    "crewweb": ["manage.py", "crewweb"],
    "runscheduler": ["manage.py", "runscheduler", "--once"],
    "wsgi": ["-c", "import crewsite.wsgi"],
    "asgi": ["-c", "import crewsite.asgi"],
}
GOOD = {
    "SECRET_KEY": "a-key-of-many-letters-0123456789-for-a-test",
    "CREW_WORKER_BASE_URL": "https://workers.example/",
    "DATABASE_URL": "sqlite://:memory:",
    "ALLOWED_HOSTS": "crew.example",
}


def variables() -> list[str]:
    """Every one that the site reads."""
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / "crewsite/settings.py").read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("env.") and node.args
    ]
    read = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    return sorted(read | {name for name, one in SETTINGS.items() if one.is_variable})


def lines_of_a_start() -> list[str]:
    """What the settings say as they are read; nothing if they take what there is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* found in sys.modules")
        try:
            runpy.run_module("crewsite.settings")
        except SystemExit as end:
            return str(end.code).splitlines()
    return []


def started(how: str, **env: str) -> subprocess.CompletedProcess:
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, *STARTS[how]],
        env=plain | {"PYTEST_VERSION": "any"} | GOOD | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("name", variables())
def test_odd_values_are_a_line_that_names_the_variable(monkeypatch, name):
    for value in ODD:
        monkeypatch.setenv(name, value)

        told = lines_of_a_start()

        assert len(told) <= 1
        assert all(line.startswith(f"{name} must be ") for line in told), (value, told)
        if value == "abc":
            assert bool(told) is (name not in TEXTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("DATABASE_URL", "mysql://host/name"),
        ("DATABASE_URL", "postgresql://"),
        ("DATABASE_URL", "postgresql://user:a-secret@host:port/name"),
        ("REDIS_URL", "http://:a-secret@host"),
        ("CORS_ORIGINS", "https://ui.example, ui.example"),
        ("CORS_ORIGINS", "https://ui.example/path"),
        ("CSRF_TRUSTED_ORIGINS", "*"),
        ("LOG_LEVEL", "loud"),
        ("CREW_THEME", "Plain"),
        ("CREW_SLOTS", "100001"),
        ("CREW_LOGIN_HOURS", "13"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    (line,) = lines_of_a_start()

    assert line.startswith(f"{name} must be ")
    assert "a-secret" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("DATABASE_URL", "postgresql:///?service=crew"),
        ("REDIS_URL", "rediss://host/1"),
        ("REDIS_URL", ""),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://ui.example, http://[::1]:5173,"),
        ("CSRF_TRUSTED_ORIGINS", "https://*.example.com"),
        ("LOG_LEVEL", "warning"),
        ("DEBUG", "off"),
        ("CREW_KEEP_DAYS", "0.5"),
    ],
)
def test_a_right_value_is_taken(monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    assert lines_of_a_start() == []


def test_each_of_many_wrong_ones_has_its_line(monkeypatch):
    for name, value in (("PORT", "abc"), ("DEBUG", "maybe"), ("CREW_SLOTS", "0")):
        monkeypatch.setenv(name, value)

    assert sorted(line.split()[0] for line in lines_of_a_start()) == ["CREW_SLOTS", "DEBUG", "PORT"]


def test_a_file_that_cannot_be_read_is_a_line(tmp_path):
    (tmp_path / ".env").write_bytes(b"DEBUG=\xff\n")
    env = environment.Environment()

    env.read_file(tmp_path / ".env")

    with pytest.raises(SystemExit, match=r"\.env cannot be read"):
        env.refuse_wrong()


@pytest.mark.parametrize("how", STARTS)
def test_whatever_starts_ends_with_lines_and_no_traceback(how):
    wrong = {"PORT": "abc", "CREW_SLOTS": "many", "DATABASE_URL": "nonsense"}

    said = started(how, **wrong)

    assert said.returncode == 1
    assert said.stdout == ""
    assert sorted(line.split()[0] for line in said.stderr.splitlines()) == sorted(wrong)


@pytest.mark.parametrize("how", ["crewweb", "wsgi", "asgi"])
def test_weak_secrets_start_no_server(how):
    weak = {
        "SECRET_KEY": "django-insecure-a-key-of-many-letters-0123456789",
        "ALLOWED_HOSTS": "crew.example,*",
        "CREW_AUTH_USERNAME": "operator",
        "CREW_AUTH_PASSWORD": "password1234",
    }

    said = started(how, **weak)

    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    for name in ("SECRET_KEY", "ALLOWED_HOSTS", "CREW_AUTH_PASSWORD"):
        assert len(re.findall(rf"(?m)^(?:\?: \(.*\) )?{name} ", said.stderr)) == 1
    assert "password1234" not in said.stderr


def test_settings_that_are_no_module_are_a_line():
    said = started("manage", DJANGO_SETTINGS_MODULE="no.such.module")

    assert (said.returncode, len(said.stderr.splitlines())) == (1, 1)
    assert "DJANGO_SETTINGS_MODULE" in said.stderr


@pytest.mark.parametrize(
    ("name", "value", "id_"),
    [
        ("CREW_AUTH_PASSWORD", "short", "crew.E019"),
        ("CREW_AUTH_PASSWORD", "eleven-char", "crew.E019"),
        ("CREW_AUTH_PASSWORD", "123456789012345", "crew.E019"),
        ("CREW_AUTH_PASSWORD", "password1234", "crew.E019"),
        ("CREW_AUTH_PASSWORD", "operator-ann-1", "crew.E019"),
        ("CREW_AUTH_PASSWORD", "a-password-of-words", None),
        ("SECRET_KEY", "django-insecure-" + "0123456789abcdef" * 3, "crew.E002"),
        ("SECRET_KEY", "ab" * 40, "crew.E002"),
        ("ALLOWED_HOSTS", ["*"], "crew.E020"),
        ("ALLOWED_HOSTS", ["crew.example", "*"], "crew.E020"),
        ("ALLOWED_HOSTS", [".example"], None),
    ],
)
@pytest.mark.parametrize("debug", [True, False])
def test_weak_secrets_are_refused_outside_debug(settings, debug, name, value, id_):
    settings.SECRET_KEY, settings.CREW_WORKER_BASE_URL = GOOD["SECRET_KEY"], "https://w.example/"
    settings.DEBUG, settings.CREW_AUTH_USERNAME = debug, "operator-ann"
    setattr(settings, name, value)

    found = [one.id for one in check_settings(None) if one.is_serious()]

    assert found == ([] if debug or not id_ else [id_])

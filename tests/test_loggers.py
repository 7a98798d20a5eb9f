"""Loggers have one name each, whatever the app is called where it is installed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .processes import ROOT

# Modules that speak with the voice of another one: the same log, from wherever it is written.
SHARED = {
    "delivery/event_loop.py": ["crew.delivery.calls"],
    "delivery/threads.py": ["crew.delivery.calls"],
    "management/commands/runscheduler.py": ["crew.engine.scheduler"],
    "management/commands/crewweb.py": ["crew.serving.server"],
    "serving/server.py": ["crew.serving.server", "crew.serving.access"],
}

INSTALLED = """
import logging, pkgutil, sys, importlib
from django.conf import settings
settings.configure(
    SECRET_KEY="k" * 40, INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.admin", "django.contrib.messages", "django.contrib.sessions", "rest_framework",
    "crew_tasks.apps.CrewConfig"], ROOT_URLCONF="crew_tasks.urls",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
import django
django.setup()
import crew_tasks
for found in pkgutil.walk_packages(crew_tasks.__path__, "crew_tasks."):
    if ".migrations" not in found.name:
        importlib.import_module(found.name)
print(*(name for name in logging.Logger.manager.loggerDict if "tasks" in name or "crew" in name))
"""


def test_each_module_logs_below_crew_by_its_place_in_the_house():
    wrong = {}

    for path in sorted((ROOT / "tasks").rglob("*.py")):
        place = path.relative_to(ROOT / "tasks").as_posix()
        own = ["crew." + place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")]
        names = list(logger_names(path))
        if names and names != SHARED.get(place, own):
            wrong[place] = names

    assert not wrong


def logger_names(path: Path) -> Iterator[str]:
    """What the module's loggers are called; a name that is computed is shown as its expression."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("logging.getLogger"):
            assert isinstance(node.value, ast.Call)
            name = node.value.args[0]
            yield name.value if isinstance(name, ast.Constant) else ast.unparse(name)


def test_an_app_of_another_name_logs_by_the_same_names(tmp_path):
    (tmp_path / "crew_tasks").symlink_to(ROOT / "tasks")

    done = subprocess.run(
        [sys.executable, "-c", INSTALLED], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    named = done.stdout.split()
    assert "crew.engine.scheduler" in named and "crew.serving.access" in named
    assert not [name for name in named if "tasks" in name.partition(".")[0]]

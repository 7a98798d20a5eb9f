"""The pictures of the house are true: its rooms, and the states of a task."""

import re
from pathlib import Path

from tasks.rules.states import State

from .processes import ROOT

PAGE = (ROOT / "docs/house.md").read_text()
NO_ROOMS = {"__pycache__", "migrations", "static", "templates", "templatetags"}
# What a host project names, not what code imports.
AT_THE_DOOR = {"apps", "routing", "testing", "urls"}


def picture(heading: str) -> str:
    return PAGE.partition(f"## {heading}")[2].partition("```")[2].partition("```")[0]


def names_in(folder: Path) -> set[str]:
    rooms = {path.name for path in folder.iterdir() if path.is_dir()} - NO_ROOMS
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"} - AT_THE_DOOR
    return rooms | modules


def test_the_picture_shows_every_room_and_no_other():
    lines = picture("The rooms").strip("\n").splitlines()

    drawn = {name for line in lines for name in line[14:].split()}

    assert drawn == names_in(ROOT / "tasks")


def test_every_room_is_described():
    rooms = {path.name for path in (ROOT / "tasks").iterdir() if path.is_dir()} - NO_ROOMS

    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\| (.*?) \|", PAGE)))) == rooms


def test_every_room_says_what_happens_in_it():
    for path in (ROOT / "tasks").iterdir():
        if path.is_dir() and path.name not in NO_ROOMS:
            assert (path / "__init__.py").read_text().startswith('"""'), path.name


def test_the_life_of_a_task_has_every_state():
    words = set(re.findall(r"\w+", picture("The life of a task")))

    assert {state.value for state in State} <= words

"""What other people's code may import is what docs/imports.md lists, no more and no less."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import ROOT

PAGE = (ROOT / "docs/imports.md").read_text()
# Names without an underscore that rooms of the house use, in modules that others import too.
INSIDE = {
    "tasks.control": {"P", "T", "group_verb", "locked", "refuse_executing"}
    | {"would_delete", "would_replace"},
    "tasks.create": {"MANY", "insert", "read_specs"},
    "tasks.limits_and_holds": {"FREED_PER_TRANSACTION", "MAX_CONCURRENCY"},
    "tasks.audit": {"logger", "Kind", "UNKNOWN", "REFUSED", "LISTED", "LONGEST", "DENIED_EVERY"}
    | {"Actor", "nobody", "name", "asking", "at_shell", "record", "record_groups", "denied"}
    | {"record_harmless", "of_group", "of_task", "prune"},
    "tasks.conf": {"MOST_DAYS", "MOST_WHOLE", "MIB", "Setting", "SETTINGS", "Conf"},
    "tasks.testing": {"NAMED"},
}


def table(heading: str) -> list[list[str]]:
    rows = re.findall(
        r"(?m)^\| `(.*) \|$", PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    )
    return [[cell.strip() for cell in f"`{row}".split(" | ")] for row in rows]


def listed() -> dict[str, set[str]]:
    """Names by module; of a module whose own list is the page's, that list."""
    found = {}
    for module, _, names in table("Modules"):
        path = module.strip("`")
        own = set(importlib.import_module(path).__all__)
        found[path] = own if names == "see its `__all__`" else set(re.findall(r"`(\w+)`", names))
    return found


LISTED = listed()
HOSTS = [name.strip("`") for name, _ in table("For a project that hosts Crew")]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])


@pytest.mark.parametrize("module", LISTED)
def test_a_module_gives_what_is_listed(module):
    found = importlib.import_module(module)

    assert set(found.__all__) == LISTED[module]
    assert found.__all__ == sorted(found.__all__)
    assert not [name for name in LISTED[module] if not hasattr(found, name)]


@pytest.mark.parametrize("module", LISTED)
def test_what_is_not_listed_is_private_or_known_to_be_for_the_house(module):
    defined = {name for name in names_defined(module) if not name.startswith("_")}

    assert defined - LISTED[module] == INSIDE.get(module, set())


def names_defined(module: str) -> Iterator[str]:
    """By the module's own text: not what it imports."""
    for node in ast.parse(source(module).read_text()).body:
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def source(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_no_other_module_says_that_it_is_public():
    says = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "tasks").rglob("*.py")
        if re.search(r"(?m)^__all__\b", path.read_text())
    }

    # The site takes what is a look of its own there, or Django's.
    assert says - {"tasks.admin.base"} == set(LISTED)


def test_every_module_at_the_top_is_listed_or_private():
    top = {f"tasks.{path.stem}" for path in (ROOT / "tasks").glob("*.py")} - {"tasks.__init__"}

    assert {each for each in top if not any(name.startswith(each) for name in HOSTS)} <= set(LISTED)


@pytest.mark.parametrize(
    "name", [name.strip("`") for name, _ in table("For a project that hosts Crew")]
)
def test_what_a_host_project_names_is_there(name):
    module, _, attribute = name.rpartition(".")

    found = importlib.import_module(module)

    assert hasattr(found, attribute) or importlib.import_module(name)


@pytest.mark.parametrize(
    "page", sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]), ids=str
)
def test_the_pages_import_nothing_else(page):
    taken = re.findall(r"(?m)^ *from (?:crew_)?(tasks[.\w]*) import ([\w, ]+)$", page.read_text())

    for module, names in taken:
        assert set(names.split(", ")) <= LISTED[module], module

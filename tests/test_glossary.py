"""One meaning for a word: the tables of `docs/glossary.md`, held against code and pages."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from .processes import ROOT

PAGE = (ROOT / "docs/glossary.md").read_text()
CODE = ("tasks", "crewsite", "workers_demo")
READ = (*CODE, "tests", "docs", "templates", "static/site", "benchmarks")
KINDS = {".py", ".md", ".html", ".js", ".css", ".toml", ".txt"}
OWN = {ROOT / "docs/glossary.md", Path(__file__)}


def table(heading: str) -> list[list[str]]:
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    return rows[1:]


WORDS = table("Words")
HOMES = {
    word.strip("`"): re.findall("`([^`]+)`", homes) for word, homes in table("Names with one home")
}
PHRASES = [phrase for row in table("Phrases that we do not use") for phrase in row[0].split(", ")]


@cache
def texts() -> dict[Path, str]:
    files = [path for folder in READ for path in (ROOT / folder).rglob("*")]
    files += [*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "crew"]
    return {
        path: path.read_text()
        for path in files
        if path.is_file() and path not in OWN and (path.suffix in KINDS or path.name == "crew")
    }


@cache
def names() -> dict[str, frozenset[str]]:
    """The names that each module of ours gives, reads or takes as an argument."""
    modules = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    return {
        str(path.relative_to(ROOT)): frozenset(_names(ast.parse(path.read_text())))
        for path in modules
        if "migrations" not in path.parts
    }


def _names(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        for field in ("id", "name", "arg", "attr", "asname"):
            if isinstance(found := getattr(node, field, None), str):
                yield found


def parts(name: str) -> str:
    """`HeldAnswer` and `held_answer` are `_held_answer_`."""
    return "_" + re.sub("([a-z])([A-Z])", r"\1_\2", name).lower() + "_"


def _starts(home: str) -> Callable[[str], bool]:
    return lambda module: module.startswith(home)


def turned(*phrases: str) -> re.Pattern[str]:
    """The phrases in text, over the end of a line, and in the names of tests."""
    between = r"(?:\s+(?:#\s+|//\s+|\*\s+)?|_)"
    any_of = "|".join(between.join(phrase.split()) for phrase in phrases)
    return re.compile(rf"(?<![a-z])(?:{any_of})(?![a-z])", re.IGNORECASE)


def test_no_word_stands_twice_or_is_refused_elsewhere():
    words = [word for row in WORDS for word in row[0].strip("*").split(", ")]

    assert len(WORDS) > 50
    assert len(set(words)) == len(words)
    assert (rows := [row[0] for row in WORDS]) == sorted(rows, key=str.lower)


@pytest.mark.parametrize("row", WORDS, ids=lambda row: row[0].strip("*"))
def test_each_word_is_in_the_code(row):
    everywhere = {name for module in names().values() for name in module}
    everywhere |= {Path(module).stem for module in names()}
    text = "\n".join(text for path, text in texts().items() if path.parent.name == "sql")

    for name in re.findall("`([^`]+)`", row[2]):
        assert name in everywhere or re.search(rf"\b{name}\b", text), name


@pytest.mark.parametrize("word", HOMES)
def test_a_word_is_a_name_only_where_it_has_its_meaning(word):
    found = {module for module, each in names().items() for n in each if f"_{word}_" in parts(n)}

    strangers = {module for module in found if not module.startswith(tuple(HOMES[word]))}
    assert strangers == set()
    empty = [home for home in HOMES[word] if not any(map(_starts(home), found))]
    assert empty == []


@pytest.mark.parametrize("name", ["Lane", "Limit", "Change"])
def test_a_class_has_one_definition(name):
    pattern = re.compile(rf"^class {name}\b", re.MULTILINE)

    found = [
        path for path, text in texts().items() if path.suffix == ".py" and pattern.search(text)
    ]
    assert len(found) == 1
    assert str(found[0].relative_to(ROOT)) in PAGE


def test_old_words_and_turned_sentences_are_nowhere():
    pattern = turned(*PHRASES)

    found = {str(path): each[0] for path, text in texts().items() if (each := pattern.search(text))}
    assert found == {}


@pytest.mark.parametrize(
    "text", ["what can not be", "it can\n    # not be", "def test_it_can_not_be():"]
)
def test_a_phrase_is_found_over_lines_and_in_names(text):
    assert turned("can not").search(text)


def test_the_pages_lead_here():
    for page in ("README.md", "CONTRIBUTING.md", "docs/house.md"):
        assert "glossary.md" in (ROOT / page).read_text()

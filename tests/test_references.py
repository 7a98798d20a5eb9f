"""Every reference to the contract, to a requirement or to a failure leads to a row or a heading."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import ROOT

PAGES = {
    "contract": (ROOT / "docs/contract.md").read_text(),
    "security": (ROOT / "docs/security.md").read_text(),
    "reliability": (ROOT / "docs/reliability.md").read_text(),
}
FOLDERS = ("tasks", "crewsite", "workers_demo", "tests", "benchmarks")
REFERENCE = re.compile(
    r"contract,? (?P<section>\d+(?:\.\d+)?)\b"
    r"|contract,? part (?P<part>\d)\b"
    r"|(?P<decisions>[Dd]ecisions? \d+(?:(?:, | and |-)\d+)*)"
    r"|\b(?P<row>[SBFATJPDQUWKM]\d{1,2})\b"
)


def known() -> set[str]:
    """What a reference may name: sections, parts, decisions, rows."""
    contract = PAGES["contract"]
    sections = re.findall(r"^## (\d\.\d) ", contract, re.M)
    parts = re.findall(r"^# Part (\d): ", contract, re.M)
    decisions = contract.partition("## Decisions")[2].partition("# Part 1")[0]
    rows = [row for page in PAGES.values() for row in re.findall(r"^\| ([A-Z]\d+)\b", page, re.M)]
    return {
        *(f"contract {each}" for each in sections + parts),
        *(f"decision {each}" for each in re.findall(r"^\| (\d+) \|", decisions, re.M)),
        *rows,
    }


def named(text: str) -> Iterator[str]:
    for found in REFERENCE.finditer(text):
        if number := found["section"] or found["part"]:
            yield f"contract {number}"
        elif found["decisions"]:
            yield from (f"decision {each}" for each in re.findall(r"\d+", found["decisions"]))
        else:
            yield found["row"]


def words(path: Path) -> Iterator[str]:
    """The comments and docstrings of a module."""
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and (doc := ast.get_docstring(node)):
            yield doc


def modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_every_reference_in_the_code_leads_somewhere():
    there = known()

    lost = {
        f"{path.relative_to(ROOT)}: {each}"
        for path in modules()
        for text in words(path)
        for each in named(text)
        if each not in there
    }

    assert lost == set()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_reference_in_a_page_leads_somewhere(page):
    there = known()

    assert {each for each in named(page.read_text()) if each not in there} == set()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("As the old Crew did (contract 1.1).", ["contract 1.1"]),
        ("contract, part 3", ["contract 3"]),
        ("decisions 7, 8 and 12", ["decision 7", "decision 8", "decision 12"]),
        ("Nobody gets in (S7, T14); B12 says why.", ["S7", "T14", "B12"]),
    ],
)
def test_what_counts_as_a_reference(text, names):
    assert list(named(text)) == names


@pytest.mark.parametrize("lost", ["contract 9.9", "contract 8", "decision 99", "S99", "B99", "F99"])
def test_a_reference_that_leads_nowhere_is_noticed(lost):
    assert [each for each in named(f"See {lost}.") if each not in known()] == [lost]

"""Every test that docs/reliability.md names is there, and every row names one."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "reliability.md"
NAMED = re.compile(r"`(?:tests/)?([\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("named", sorted(set(NAMED.findall(PAGE.read_text()))), ids="::".join)
def test_the_test_is_there(named):
    file, test = named
    path = TESTS / file

    assert path.exists()
    assert not test or f"def {test}(" in path.read_text()


@pytest.mark.parametrize("row", [*(f"F{n}" for n in range(1, 40)), *(f"{n}." for n in range(1, 7))])
def test_the_row_names_a_test(row):
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {row} ")]

    assert NAMED.search(line)

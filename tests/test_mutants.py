"""The bugs of `tests.mutants` can still be planted. To see them noticed takes minutes: not here."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from .mutants import MUTANTS
from .mutants_outside import OUTSIDE

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_text_is_found_once_and_its_tests_exist(mutant):
    text = (ROOT / mutant.file).read_text()

    assert text.count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert ast.parse(text.replace(mutant.old, mutant.new))
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text()


def test_each_has_a_name_of_its_own_and_all_rooms_of_the_engine_are_met():
    names = Counter(mutant.name for mutant in MUTANTS)
    rooms = {mutant.name.partition(":")[0] for mutant in MUTANTS}

    assert max(names.values()) == 1
    assert len(MUTANTS) >= 110
    assert len(OUTSIDE) >= 40
    assert rooms >= {"claim", "settle", "rescue", "sweep", "heartbeat", "hold", "merge", "limit"}
    assert rooms >= {"create", "edges", "reset", "delete", "pause", "deliver", "stream", "key"}

"""Dependencies: pinned, with hashes, above the versions that are known to be safe (S33)."""

import re

import pytest
from packaging.version import Version

from .lock import FILES, hashes, pinned, wanted
from .processes import ROOT
from .sbom import bom

# Below these there are holes that are known.
FLOOR = {"daphne": "4.2.2", "django": "5.2.19", "urllib3": "2.8"}


@pytest.mark.parametrize("name", FILES)
def test_the_lock_names_what_is_required_with_its_hashes(name):
    text = (ROOT / f"{name}.lock").read_text()

    assert pinned(text) == wanted(name)
    assert all(hashes(text).values())


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned(name):
    lines = (ROOT / f"{name}.txt").read_text().splitlines()
    said = [line for line in lines if line.strip() and not line.startswith(("#", "-r "))]

    assert [line for line in said if not re.match(r"[\w.\[\],-]+==\S+", line)] == []


@pytest.mark.parametrize(("name", "least"), FLOOR.items())
def test_no_version_is_below_what_is_safe(name, least):
    assert Version(wanted("requirements")[name]) >= Version(least)


def test_the_bill_of_materials_names_all_of_it():
    result = bom()

    assert (result["bomFormat"], result["specVersion"]) == ("CycloneDX", "1.6")
    assert {each["name"]: each["version"] for each in result["components"]} == wanted(
        "requirements"
    )
    assert all(each["hashes"] and each["licenses"] for each in result["components"])

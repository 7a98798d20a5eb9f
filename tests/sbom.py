"""What Crew is made of, as CycloneDX 1.6: `./crew sbom > sbom.json`. Read from the lock file."""

import json
import sys
import tomllib
from importlib import metadata
from typing import Any

from .lock import hashes, pinned
from .processes import ROOT


def bom() -> dict[str, Any]:
    text = (ROOT / "requirements.lock").read_text()
    sums = hashes(text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "crew",
                "name": project["name"],
                "version": project["version"],
            }
        },
        "components": [
            _component(name, version, sums[name]) for name, version in pinned(text).items()
        ],
        "dependencies": [
            {"ref": "crew", "dependsOn": [_url(*each) for each in pinned(text).items()]}
        ],
    }


def _component(name: str, version: str, sums: list[str]) -> dict[str, Any]:
    """The hashes are of all files that PyPI has of it: which one is installed, the machine says."""
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _url(name, version),
        "name": name,
        "version": version,
        "purl": _url(name, version),
        "hashes": [{"alg": "SHA-256", "content": each} for each in sums],
    }
    if licence := _licence(name):
        component["licenses"] = [{"license": {"name": licence}}]
    return component


def _licence(name: str) -> str:
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    said = about.get("License-Expression") or about.get("License") or ""
    kinds = [each for each in about.get_all("Classifier") or () if each.startswith("License ::")]
    return said if 0 < len(said) < 80 else kinds[0].rpartition(":: ")[2] if kinds else ""


def _url(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


if __name__ == "__main__":
    json.dump(bom(), sys.stdout, indent=2)

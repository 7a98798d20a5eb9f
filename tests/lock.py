"""The lock files: what requirements*.txt name, with a hash of every file of it that PyPI has.

python -m tests.lock        makes them again, with uv (`pip install uv`)
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from .processes import ROOT

FILES = ("requirements", "requirements-dev")
# All is pinned already: nothing is resolved, only the hashes are looked up.
COMPILE = ("pip", "compile", "--quiet", "--no-deps", "--universal", "--python-version", "3.11")
COMPILE += ("--generate-hashes", "--no-header", "--no-annotate")


def pinned(text: str) -> dict[str, str]:
    """Names and versions of a requirements or lock file, without its markers."""
    lines = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([^\s;\\]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lines}


def hashes(text: str) -> dict[str, list[str]]:
    """The SHA-256 sums that each package of a lock file may have."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        name = next(iter(pinned(line)), name)
        found.setdefault(name, []).extend(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


def wanted(name: str, root: Path = ROOT) -> dict[str, str]:
    """What the requirements say, those that they refer to as well."""
    text = (root / f"{name}.txt").read_text()
    others = re.findall(r"^-r (\S+)\.txt", text, re.MULTILINE)
    result = pinned(text)
    for other in others:
        result = wanted(other, root) | result
    return result


def main() -> int:
    uv = shutil.which("uv")
    if uv is None:
        print("uv is not here: pip install uv", file=sys.stderr)
        return 1
    for name in FILES:
        command = [uv, *COMPILE, f"{name}.txt", "-o", f"{name}.lock"]
        subprocess.run(command, cwd=ROOT, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

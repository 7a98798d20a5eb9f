"""Checks the pages' JavaScript: format and lint by biome, types by tsc. `--fix` formats it.

python -m tests.javascript [--fix]
"""

import subprocess
import sys

from . import npm
from .processes import ROOT

FOLDER = ROOT / ".ci" / "javascript"
SOURCES = (ROOT / "tasks" / "static" / "crew", ROOT / "static" / "site")


def main(*, fix: bool) -> int:
    try:
        modules = npm.modules(FOLDER)
    except npm.NpmError as error:
        print(error, file=sys.stderr)
        return 1
    biome = [npm.node(), modules / "@biomejs/biome/bin/biome", "check", f"--config-path={FOLDER}"]
    tsc = [npm.node(), modules / "typescript/bin/tsc", "-p", FOLDER / "tsconfig.json"]
    write = ["--write"] if fix else []
    checks = [[*biome, "--error-on-warnings", *write, *SOURCES], tsc]
    return max(subprocess.run(check, cwd=ROOT, check=False).returncode for check in checks)


if __name__ == "__main__":
    sys.exit(main(fix="--fix" in sys.argv[1:]))

"""Programs that some tests want and pip does not have; where they are missing, those are skipped.

python -m tests.debian    prints the Debian packages that would bring what is missing here
"""

import os
import shutil
from pathlib import Path

from .browser import chromium


def pgbouncer() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def faketime() -> Path | None:
    """The library that, loaded before the others, tells a process another time."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def missing() -> list[str]:
    found = {"chromium": _chromium(), "pgbouncer": pgbouncer(), "faketime": faketime()}
    return [package for package, program in found.items() if not program]


def _chromium() -> object:
    try:
        return chromium.find()
    except chromium.NoChromiumError:
        return None


if __name__ == "__main__":
    print(*missing())

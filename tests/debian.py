"""Programs that some tests want and pip does not have; where they are missing, those are skipped.

python -m tests.debian    prints the Debian packages that would bring what is missing here
"""

from pathlib import Path

from .browser import chromium
from .servers import ServerError, find_pooler


def faketime() -> Path | None:
    """The library that, loaded before the others, tells a process another time."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def missing() -> list[str]:
    found = {"chromium": _chromium(), "pgbouncer": _pgbouncer(), "faketime": faketime()}
    return [package for package, program in found.items() if not program]


def _chromium() -> object:
    try:
        return chromium.find()
    except chromium.NoChromiumError:
        return None


def _pgbouncer() -> object:
    try:
        return find_pooler()
    except ServerError:
        return None


if __name__ == "__main__":
    print(*missing())

"""Plants one bug at a time in a copy of the code, and says which test turns red.

    python -m tests.mutants              all of them (about 40 minutes); also `./crew mutants`
    python -m tests.mutants fence hold   those whose name holds one of these words
    python -m tests.mutants --list

Exits with 1 when a bug goes unnoticed, when its tests are red without it, or when the text it
replaces is not there any more. The bugs are in `mutants_table.py` and `mutants_outside.py`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import mutants_table, servers
from .mutants_outside import OUTSIDE
from .mutants_table import Mutant

MUTANTS = (*mutants_table.MUTANTS, *OUTSIDE)
ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 600  # seconds; tests that take longer show nothing
# To load all that are installed takes longer than many of the tests.
TESTS_FAILED = 1  # what pytest ends with then, and only then
PLUGINS = ("-p", "pytest_django.plugin", "-p", "pytest_timeout")
RED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """`test` turned red, and `why`; "" when none did."""

    test: str
    why: str
    seconds: float


def main(words: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("words", nargs="*", help="only mutants whose name holds one of these")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--unproven", action="store_true", help="do not first run the tests as is")
    options = parser.parse_args(words or None)
    chosen = [m for m in MUTANTS if not options.words or any(w in m.name for w in options.words)]
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name:32} {mutant.file:24} {' '.join(mutant.tests)}")
        return 0
    with _checkout() as folder, servers.postgres(durability=False) as database:
        bench = Bench(folder, database.url)
        missing = [m.name for m in chosen if not bench.fits(m)]
        if missing:
            print(f"their text is not found exactly once: {', '.join(missing)}")
            return 1
        if not options.unproven and not bench.is_green(chosen):
            return 1
        survivors = [mutant.name for mutant in chosen if not bench.is_noticed(mutant)]
    print(f"{len(chosen)} mutants, {len(survivors)} unnoticed: {', '.join(survivors) or 'none'}")
    return 1 if survivors else 0


class Bench:
    """A copy of the checkout with its databases."""

    def __init__(self, folder: Path, postgres: str) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "DEBUG": "1",
            "SECRET_KEY": "for-tests-only",
            "REDIS_URL": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "CREW_HYPOTHESIS_PROFILE": "terse",
            "TEST_SQLITE_FILE": str(folder / "test.sqlite3"),
        }
        self.urls = {"postgresql": postgres, "sqlite": "sqlite://:memory:"}
        self._made: set[str] = set()

    def fits(self, mutant: Mutant) -> bool:
        return (self.folder / mutant.file).read_text().count(mutant.old) == 1

    def is_green(self, mutants: Sequence[Mutant]) -> bool:
        """A test that is red anyway notices nothing."""
        for vendor in sorted({mutant.database for mutant in mutants}):
            here = [mutant for mutant in mutants if mutant.database == vendor]
            found = self.run(vendor, sorted({test for mutant in here for test in mutant.tests}))
            if found.test or found.why:
                print(f"red on {vendor} without any mutant: {found.test} {found.why}")
                return False
        return True

    def is_noticed(self, mutant: Mutant) -> bool:
        place = self.folder / mutant.file
        text = place.read_text()
        place.write_text(text.replace(mutant.old, mutant.new))
        try:
            compile(place.read_text(), mutant.file, "exec")
            found = self.run(mutant.database, mutant.tests)
        finally:
            place.write_text(text)
        word = found.test or "UNNOTICED"
        print(
            f"{mutant.name:32} {mutant.database:10} {found.seconds:5.1f} s  {word}  {found.why}",
            flush=True,
        )
        return bool(found.test)

    def run(self, vendor: str, tests: Sequence[str]) -> Found:
        command = [sys.executable, "-m", "pytest", "-x", "-q", *tests, *PLUGINS]
        command += ["-p", "no:cacheprovider", "--tb=no", "--reuse-db"]
        if vendor not in self._made:
            command.append("--create-db")
        started = time.monotonic()
        environment = self.environment | {"DATABASE_URL": self.urls[vendor], "COLUMNS": "200"}
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            result, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self._made.discard(vendor)
            return Found("", f"(hangs for {PATIENCE} s)", time.monotonic() - started)
        self._made.add(vendor)
        seconds = time.monotonic() - started
        if process.returncode in (0, TESTS_FAILED):
            red = RED.search(result)
            return Found(red[1], (red[2] or "")[:120], seconds) if red else Found("", "", seconds)
        # The tests could not be run, which shows nothing.
        return Found("", f"(pytest ended with {process.returncode}: {result[-500:]})", seconds)


@contextmanager
def _checkout() -> Iterator[Path]:
    """The files of the working tree that git knows, or would add, in a folder of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    with tempfile.TemporaryDirectory(prefix="crew-mutants-") as folder:
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, Path(folder) / name)
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.chaos`, which is `./crew chaos`."""

import argparse
import faulthandler
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from .run import Report, run
from .stage import Options

SHOWN = 20  # violations of each rule


def main() -> int:
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="./crew chaos",
        description="Break everything while tasks are created and done, and check what is left.",
    )
    parser.add_argument("--tasks", type=int, default=defaults.tasks, help="at least so many")
    parser.add_argument("--kills", type=int, default=defaults.kills, help="of schedulers, at least")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long at least")
    parser.add_argument("--seed", type=int, default=None, help="repeat the choices of another run")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--schedulers", type=int, default=defaults.schedulers)
    parser.add_argument("--keep", type=Path, default=defaults.keep, metavar="FOLDER",
                        help="where logs and database go if anything is wrong")  # fmt: skip
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int(time.time())
    options = Options(given.tasks, given.kills, seed, given.minutes, given.database,
                      given.schedulers, given.keep)  # fmt: skip
    faulthandler.register(signal.SIGUSR1)  # where is it?
    print(f"seed {seed}", flush=True)
    folder = options.keep.resolve() / f"{seed}-{int(time.time())}"
    folder.mkdir(parents=True)
    report = run(options, folder)
    _tell(report)
    if not report.violations:
        shutil.rmtree(folder)
    return 1 if report.violations else 0


def _tell(report: Report) -> None:
    for name, figure in report.figures.items():
        print(f"{name:32} {figure:>10,}")
    shown: Counter[str] = Counter()
    for violation in report.violations:
        shown[violation.rule] += 1
        if shown[violation.rule] <= SHOWN:
            print(violation)
    print(f"{len(report.violations)} violations", *(f"{n} {rule}" for rule, n in shown.items()))
    if report.kept:
        print(f"logs and database are in {report.kept}")


if __name__ == "__main__":
    sys.exit(main())

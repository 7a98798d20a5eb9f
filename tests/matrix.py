"""What looks at PostgreSQL's plans and dialect, on several versions of it.

    python -m tests.matrix [VERSION …] [ARGUMENTS OF PYTEST]

Without versions on each of `versions.ALL`, without a file on those below. A version that cannot be
had here is left out, and said so.
"""

import os
import subprocess
import sys
from pathlib import Path

from . import versions

FILES = [
    f"tests/{name}.py"
    for name in (
        "test_plans",
        "test_verb_plans",
        "test_control",
        "test_edit",
        "test_claim",
        "test_settle",
        "test_rescue",
        "test_create",
        "test_create_many",
        "test_growth",
        "test_crowding",
        "test_overview",
        "test_closeup",
        "test_failures",
        "test_retention",
        "test_crewcheck",
        "test_moves",
        "test_patience",
        "test_given_up",
        "test_table_settings",
    )
]


def main(arguments: list[str]) -> int:
    wanted = [int(each) for each in arguments if each.isdigit()] or list(versions.ALL)
    asked = [each for each in arguments if not each.isdigit()]
    if not any(each.startswith("tests") for each in asked):
        asked += [name for name in FILES if Path(name).exists()]
    results = {version: on(version, asked) for version in wanted}
    for version, result in results.items():
        say(f"PostgreSQL {version}: {result}")
    return 0 if set(results.values()) <= {"passed", "left out"} else 1


def on(version: int, asked: list[str]) -> str:
    try:
        versions.have(version)
    except versions.NotToBeHadError as error:
        say(f"leaving out PostgreSQL {version}: {error}")
        return "left out"
    say(f"testing on PostgreSQL {version}")
    command = [sys.executable, "-m", "tests.servers", "run", "--"]
    command += [sys.executable, "-m", "pytest", *asked]
    environment = os.environ | {"TEST_POSTGRES_VERSION": str(version)}
    return "passed" if subprocess.run(command, env=environment).returncode == 0 else "failed"


def say(text: str) -> None:
    print(f"crew: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Everything breaks for two minutes, and nothing is lost: `docs/reliability.md` says how."""

import os
import re
import subprocess
import sys

import pytest

from .processes import ROOT

WITHIN = 600  # seconds: two minutes on a machine of its own, more beside other work
TASKS, KILLS, STOPS, CRASHES = 5_000, 60, 20, 3
MORE = (
    "web kills",
    "web kills in a bulk create",
    "black holes",
    "links cut",
    "answers to COMMIT lost",
    "backends terminated",
)
SEED = 20_261_128


@pytest.mark.postgres
@pytest.mark.timeout(WITHIN + 30)
def test_nothing_is_lost_stuck_or_done_twice_while_everything_breaks(tmp_path):
    """It has a PostgreSQL of its own, which it crashes. What failed is kept in var/chaos."""
    command = [sys.executable, "-m", "tests.chaos", "--seed", str(SEED)]
    command += ["--tasks", str(TASKS), "--kills", str(KILLS)]

    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        capture_output=True, text=True, timeout=WITHIN,
    )  # fmt: skip

    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n0 violations\n" in done.stdout
    assert figure(done.stdout, "tasks acknowledged") >= TASKS
    assert figure(done.stdout, "kills") >= KILLS
    assert figure(done.stdout, "stops") >= STOPS
    assert figure(done.stdout, "database crashes") >= CRASHES
    for trouble in (
        "web kills",
        "web kills in a bulk create",
        "black holes",
        "backends terminated",
        "drains",
        "groups locked",
    ):
        assert figure(done.stdout, trouble) > 0
    assert figure(done.stdout, "answers to COMMIT lost") > 0


def figure(said: str, name: str) -> int:
    (number,) = re.findall(rf"^{name} +([\d,]+)$", said, re.MULTILINE)
    return int(number.replace(",", ""))

"""`manage.py demo` as a person runs it: to the end, then Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent


def processes_with(mark: str) -> list[int]:
    """Processes that have `mark` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # gone meanwhile, or another user's
    return found


@pytest.mark.sqlite
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_the_demo_completes_its_group_and_ctrl_c_leaves_no_process(tmp_path):
    mark = f"sqlite:///{tmp_path}/demo.sqlite3"
    demo = subprocess.Popen(
        [sys.executable, "manage.py", "demo"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": mark, "PORT": str(free_port())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        result = []
        for line in demo.stdout:
            result.append(line)
            if "Ctrl-C stops everything" in line:
                assert len(processes_with(mark)) == 3
                demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0, "".join(result)
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()

    text = "".join(result)
    assert "5 of 5 tasks complete (100 %)" in text
    assert "password" in text
    assert processes_with(mark) == []

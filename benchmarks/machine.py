"""Where a benchmark ran: a figure without it says little."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from .stage import ROOT, Store

PACKAGES = ("Django", "uvloop", "psycopg")


def describe(stores: list[Store]) -> dict[str, object]:
    """The machine, what else it does, and what runs on it."""
    return {
        "taken_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "sync_ms": round(_sync_ms(), 2),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "databases": {store.kind: store.settings() for store in stores},
    }


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                           capture_output=True)  # fmt: skip
    return found.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def _sync_ms() -> float:
    """What a commit pays at least: a page written and synced to where databases are put."""
    taken = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(50):
            started = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 8192, 0)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken)

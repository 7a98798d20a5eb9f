"""A PostgreSQL whose tables and whose log each have a disk of their own, so small that it fills.

The disks are file systems in memory, in a namespace that needs no rights where users may make
one. They are gone with the process that made them, however it ends.
"""

import contextlib
import errno
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import servers

TABLES, LOG = "data", "wal"  # folders, and the names of the disks
MEGABYTES = {TABLES: 128, LOG: 16}
PIECE = 65_536

# Prints a line when all is mounted, and stays until our end of its stdin closes.
KEEPER = """
while [ $# -gt 0 ]; do mount -t tmpfs -o "size=$2m" tmpfs "$1" || exit 1; shift 2; done
echo mounted
exec cat
"""


class NoDiskError(Exception):
    """No disk can be mounted here; the text says why."""


class Disks:
    """Both disks, under `folder` for whoever is in the namespace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        places: list[str] = []
        for name, size in MEGABYTES.items():
            (folder / name).mkdir()
            places += [str(folder / name), str(size)]
        namespace = ["unshare", "--user", "--map-root-user", "--mount"]
        try:
            self._keeper = subprocess.Popen(
                [*namespace, "sh", "-c", KEEPER, "sh", *places],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except OSError as error:
            raise NoDiskError(f"no disk can be mounted here: {error}") from error
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        if said != "mounted\n":
            self.close()
            raise NoDiskError(f"no disk can be mounted here: {said.strip()}")

    @property
    def prefix(self) -> list[str]:
        """What to put before a command that is to see the disks, and not find itself to be root."""
        namespace = ["--user", "--mount", f"--target={self._keeper.pid}"]
        nobody = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        return ["nsenter", "--preserve-credentials", *namespace, *nobody]

    @contextlib.contextmanager
    def full(self, name: str) -> Iterator[None]:
        """Not a byte more fits on this disk."""
        ballast = self._seen(name) / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file, _until_full():
                while True:
                    file.write(bytes(PIECE))
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        """The disks go with the last process that sees them."""
        self._keeper.communicate(timeout=servers.STOPS_WITHIN)

    def _seen(self, name: str) -> Path:
        """The disk, from outside of the namespace."""
        return Path(f"/proc/{self._keeper.pid}/root") / (self._folder / name).relative_to("/")


class OnSmallDisks(servers.Postgres):
    def __init__(self, folder: Path, disks: Disks) -> None:
        super().__init__(folder, durability=False)
        self.disks = disks
        self.prefix = disks.prefix
        # Segments as small as they can be: the log soon needs another one.
        self.initdb_options = ("--wal-segsize=1", f"--waldir={folder / LOG / 'segments'}")


@contextlib.contextmanager
def postgres() -> Iterator[OnSmallDisks]:
    """Raises NoDiskError where there can be none."""
    with (
        tempfile.TemporaryDirectory(prefix="crew-postgres-") as folder,
        contextlib.closing(Disks(Path(folder))) as disks,
        contextlib.closing(OnSmallDisks(Path(folder), disks)) as server,
    ):
        server.create()
        yield server


@contextlib.contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise

"""The file that groups travel in: NDJSON, one kind of thing a line, gzipped where asked.

The first line is {"crew": ...}. A group is a run of lines from {"group": ...} to {"groupEnd":
...}, which has their counts and the SHA-256 of all of them; {"crewEnd": ...} ends the file. The
same store gives the same bytes, whichever database it is in: keys are sorted, and a number
that databases write differently (1e16 or 10000000000000000) is written in one way.
"""

import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from json import JSONDecoder, JSONEncoder
from typing import IO, Any

from ...errors import InvalidInputError
from ...rules.jsonio import MAX_DIGITS, JSONError, read

FORMAT = 1
HEAD = b'{"crew":'  # how a file of ours begins
MAX_LINE = 64 * 1024 * 1024
MAX_DEPTH = 80  # a payload may be 64 deep, and stands in a line of its own
MAX_VALUES = 5_000_000
GZIP = b"\x1f\x8b"

KINDS = (
    "crew",
    "group",
    "output",
    "task",
    "attempt",
    "worker",
    "workgroup",
    "entry",
    "groupEnd",
    "crewEnd",
)


class Writer:
    """Writes lines, and keeps the digest of those of the running group."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def put(self, kind: str, value: Any) -> None:
        line = f"{_encode({kind: value})}\n".encode()
        if kind == "group":
            self._digest = hashlib.sha256()
        self._digest.update(line)
        self._file.write(line)

    def digest(self) -> str:
        return self._digest.hexdigest()


class Lines:
    """The lines of a file, one by one: each a kind and a value, or InvalidInputError.

    `number` is the line read last, `digest` the one before it of the running group.
    """

    def __init__(self, file: IO[bytes], head: bytes = b"") -> None:
        self._file = file
        self._head = head
        self._sha = hashlib.sha256()
        self.number = 0
        self.size = 0  # bytes of the line read last
        self.digest = ""

    def next(self) -> tuple[str, dict[str, Any]]:
        line = self._line()
        try:
            value = read(line, max_bytes=MAX_LINE, max_depth=MAX_DEPTH, max_nodes=MAX_VALUES).value
        except JSONError as error:
            if not line.endswith(b"\n"):
                raise InvalidInputError(f"the file ends here, within a line ({error})") from error
            raise InvalidInputError(str(error)) from error
        if not isinstance(value, dict) or len(value) != 1:
            raise InvalidInputError("a line must be an object with one key, its kind")
        ((kind, fields),) = value.items()
        if kind not in KINDS or not isinstance(fields, dict):
            raise InvalidInputError(f"{kind[:60]!r} is no kind of line that this Crew knows")
        self.digest = self._sha.hexdigest()
        if kind == "group":
            self._sha = hashlib.sha256()
        self._sha.update(line)
        return kind, fields

    def refuse_more(self) -> None:
        """Raise InvalidInputError if the file goes on."""
        if self._read():
            self.number += 1
            raise InvalidInputError("the file goes on after its end")

    def _line(self) -> bytes:
        line = self._head + self._read()
        self._head = b""
        self.number += 1
        self.size = len(line)
        if not line:
            raise InvalidInputError("the file ends here, before its last line")
        if len(line) > MAX_LINE:
            raise InvalidInputError(f"longer than {MAX_LINE} bytes")
        return line

    def _read(self) -> bytes:
        try:
            return self._file.readline(MAX_LINE + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.number += 1
            raise InvalidInputError(f"the file is cut or damaged after here ({error})") from error


def payload(text: str | None) -> Any:
    """A payload as a database gave it, ready to be written."""
    return None if text is None else _decode(text)


@contextmanager
def writing(name: str) -> Iterator[IO[bytes]]:
    """A new file, gzipped if its name ends in .gz; "-" is the standard output.

    It has its name when it is whole: a failure leaves what was there before. Only its owner may
    read it. A pipe or a device is written to as it is.
    """
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    name = os.path.realpath(name)
    is_file = os.path.isfile(name) or not os.path.exists(name)
    part = f"{name}.part" if is_file else name
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with _packing(file) if name.endswith(".gz") else nullcontext(file) as to:
                yield to
            if is_file:
                file.flush()
                os.fsync(file.fileno())
        if is_file:
            os.replace(part, name)
    except BaseException:
        if is_file:
            os.unlink(part)
        raise


def _packing(file: IO[bytes]) -> Any:
    """No name and no time of day in it: the same groups give the same bytes."""
    return gzip.GzipFile("", "wb", 6, file, mtime=0)


@contextmanager
def reading(name: str) -> Iterator[tuple[bytes, IO[bytes]]]:
    """How the file begins, and the rest of it, unpacked; "-" is the standard input."""
    with io.BytesIO() if name == "-" else open(name, "rb") as opened:
        file: IO[bytes] = sys.stdin.buffer if name == "-" else opened
        head = file.read(len(GZIP))
        if head == GZIP:
            packed: Any = _Joined(head, file)
            file = io.BufferedReader(gzip.GzipFile(fileobj=packed, mode="rb"))
            head = b""
        try:
            head += file.read(len(HEAD) - len(head))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidInputError(f"line 1: the file is cut or damaged ({error})") from error
        yield head, file


class _Joined:
    """The first bytes of a file, and the rest of it: a pipe cannot go back."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        return head + self._rest.read(size - len(head) if size >= 0 else -1)


def _integer(digits: str) -> int | float:
    """Nobody may send more digits than these: it was a float, of which a database wrote each."""
    return int(digits) if len(digits.lstrip("-")) <= MAX_DIGITS else float(digits)


def _float(digits: str) -> float:
    return float(digits) + 0.0  # never -0.0, which PostgreSQL does not know


_encode = JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode
_decode = JSONDecoder(parse_int=_integer, parse_float=_float).decode

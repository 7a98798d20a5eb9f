"""The bytes of one answer are read (RFC 9112), for a client that only POSTs. Pure.

Both deliverers read by this, so that each answer has one meaning; docs/answers.md is the table.
What is odd and can mean only one thing is read, and its connection is not used again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from .content_codings import PLAIN, Unreadable, decoded, listed, most_coded, too_large

MOST_HEADERS = 100
MOST_OVERHEAD = 65_536  # bytes that are no body: of a head, or trailers and chunk extensions
MOST_INTERIM = 1_000

CLOSED = "the worker closed the connection without an answer"
UNREAD = "the worker closed the connection, which was kept, before it read the call"
BROKEN = "the connection broke before the answer was complete"
NOT_HTTP = "the worker did not answer in HTTP/1.1"
BAD_HEADER = (
    "the answer has a line among its headers that is none: it has no colon, a name with a space,"
    " or a control character"
)
TOO_MANY_HEADERS = (
    "the worker did not answer in HTTP, or with headers too large:"
    f" more than {MOST_HEADERS} of them, or {MOST_OVERHEAD // 1024} kB"
)
TOO_MANY_INTERIM = f"the worker sent more than {MOST_INTERIM:,} interim answers"
SWITCHED = "the worker switched to another protocol (101), which was not asked for"
BAD_CHUNK = "the answer is chunked, and not as HTTP says: the size of a chunk cannot be read"
LONG_CHUNK = "the answer is chunked, and not as HTTP says: a chunk is longer than its size"
MANY_CHUNKS = "the answer says more about its chunks than is in them"
BAD_LENGTH = "the answer's Content-Length is no number"
TWO_LENGTHS = "the answer says twice how long it is, and not the same"

_START = b"HTTP/"
_STATUS_LINE = re.compile(rb"HTTP/1\.(\d) +([1-9]\d\d)(?: .*)?")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_UNFIT = re.compile(rb"[\r\0]")
_LONG_HEAD = 1_024  # bytes; from here on no head is remembered
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = re.compile(r"[0-9]{1,400}")
_CHUNK_SIZE = re.compile(rb"[ \t]*0*([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_BODILESS = (204, 304)
# The headers that say how an answer is to be read, or what it asks for.
HEADERS_READ = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "keep-alive",
        "retry-after",
        "transfer-encoding",
    }
)


@dataclass(frozen=True, slots=True)
class Received:
    """What came back on a connection.

    `status` is None when no head of an answer came. `values` is what the headers of `HEADERS_READ`
    say, as one list for each. `error` says why there is no body, in a sentence; status and headers
    count all the same. Names of headers are in small letters. `was_kept`: nothing came, on a
    connection that was used before: its worker may just have closed it as it always does.
    """

    status: int | None
    headers: Sequence[tuple[str, str]] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""
    was_kept: bool = False


class Reader:
    """Reads one answer; `feed` or `end` gives it, once."""

    # As it begins: a plain answer changes few of these, and each costs time for every call.
    _came = b""
    _at = 0  # so far it is read
    _searched = 0  # from here on there may be an end of the head
    _overhead = 0
    _interim = 0
    _status: int | None = None
    _headers: Sequence[tuple[str, str]] = ()
    _values: Mapping[str, str] = MappingProxyType({})
    _left = 0  # bytes of the body, or of a chunk
    _is_kept = False  # the worker keeps the connection
    _is_odd = False  # something was not as it should be

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._most = max_bytes  # bytes of the body, as it comes
        self._body = bytearray()
        self._codings: list[str] = []
        # Reads on; False when it needs more bytes. None behind the end.
        self._step: Callable[[], bool] | None = self._read_head

    def feed(self, data: bytes) -> Received | None:
        if self._at < len(self._came):
            data = self._came[self._at :] + data
        self._came, self._at = data, 0
        try:
            while (step := self._step) and step():
                pass
            if self._step is None:
                return self._complete()
            if self._at == len(self._came):
                self._came, self._at = b"", 0  # it may be long until there is more
            return None
        except Unreadable as error:
            self._is_odd = True
            return Received(self._status, self._headers, self._values, error=str(error))

    def end(self, error: str = "") -> Received:
        """The connection has ended: as it may, or by `error`. Or the call is given up for it."""
        self._is_odd = True
        is_whole = self._step == self._read_trailer
        if is_whole or (self._step == self._read_to_the_end and not error):
            try:
                return self._complete()
            except Unreadable as unreadable:
                error = str(unreadable)
        has_begun = self._overhead or self._interim or self._at < len(self._came)
        error = error or (BROKEN if has_begun else CLOSED)
        return Received(self._status, self._headers, self._values, error=error)

    @property
    def has_head(self) -> bool:
        return self._status is not None

    @property
    def has(self) -> int:
        """The bytes of the body that have come."""
        return len(self._body)

    @property
    def most(self) -> int:
        """The bytes that it may hold at most, by what is known now."""
        if self._codings:
            return self._most + self._max_bytes
        if self._step == self._read_length:
            return min(len(self._body) + self._left, self._most)
        return self._most

    @property
    def is_untouched(self) -> bool:
        """Not a byte has come."""
        return not (self._overhead or self._interim or self._came)

    @property
    def keep_alive(self) -> str:
        """What the answer's header of this name says; "" for none."""
        return self._values.get("keep-alive", "")

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can be used again: nothing of this answer is still to come."""
        is_over = self._step is None and self._at == len(self._came)
        return is_over and self._is_kept and not self._is_odd

    def _complete(self) -> Received:
        body = bytes(self._body)
        # The readers of idle connections must not hold what they have read.
        self._body = bytearray()
        self._came, self._at = self._came[self._at :], 0
        if self._codings:
            body = decoded(body, self._codings, self._max_bytes)
        return Received(self._status, self._headers, self._values, body)

    # The head

    def _read_head(self) -> bool:
        came, at = self._came, self._at
        end = came.find(b"\r\n\r\n", at + self._searched)
        if end < 0 or came[at : at + 1] != b"H":
            return self._read_odd_head()
        text = came[at:end]
        head = _head(text) if end - at < _LONG_HEAD else _read(text)
        if head is None:
            return self._read_odd_head()
        self._at, self._searched = end + 4, 0
        self._count_overhead(end + 4 - at)
        self._take_head(head)
        return True

    def _read_odd_head(self) -> bool:
        """One that has not come whole, begins with empty lines, or has lines that end in LF."""
        while self._came[self._at : self._at + 1] in (b"\r", b"\n"):
            self._at += 1
            self._count_overhead(1)
            self._is_odd = True
        came, at = self._came, self._at
        start = came[at : at + len(_START)]
        if start != _START[: len(start)]:
            raise Unreadable(NOT_HTTP)
        end = _HEAD_END.search(came, at + self._searched)
        if end is None:
            self._searched = max(0, len(came) - at - 3)
            self._count_overhead(0, len(came) - at)
            return False
        text = came[at : end.start()]
        self._at, self._searched = end.end(), 0
        self._count_overhead(end.end() - at)
        self._is_odd |= end[0] != b"\r\n\r\n" or text.count(b"\n") != text.count(b"\r\n")
        self._take_head(_read_lines(text.replace(b"\r\n", b"\n").split(b"\n")))
        return True

    def _take_head(self, head: "_Head") -> None:
        self._is_odd |= head.is_odd
        if head.status < 200:
            return self._skip(head)
        self._status, self._headers, self._values = head.status, head.headers, head.values
        self._is_kept = head.is_kept
        self._begin_body(head.values)

    def _skip(self, head: "_Head") -> None:
        """An interim answer, whatever its number: the answer is yet to come."""
        if head.status == 101:
            raise Unreadable(SWITCHED)
        self._interim += 1
        if self._interim > MOST_INTERIM:
            raise Unreadable(TOO_MANY_INTERIM)
        self._overhead = 0
        self._is_odd |= not head.is_kept or _says_a_body(head.values)

    # The body

    def _begin_body(self, values: Mapping[str, str]) -> None:
        if self._status in _BODILESS:
            self._step = None
            self._is_odd |= _says_a_body(values)
        elif "content-encoding" in values or "transfer-encoding" in values:
            self._begin_coded(values)
        else:
            self._begin_plain(values.get("content-length"))

    def _begin_coded(self, values: Mapping[str, str]) -> None:
        self._codings = listed("Content-Encoding", values.get("content-encoding", ""))
        transfer = [
            name
            for part in values.get("transfer-encoding", "").lower().split(",")
            if (name := part.strip()) not in PLAIN
        ]
        is_chunked = transfer[-1:] == ["chunked"]
        if "transfer-encoding" in values:
            self._is_odd |= values["transfer-encoding"].lower() != "chunked"
            self._is_odd |= "content-length" in values
        while transfer[-1:] == ["chunked"]:
            transfer.pop()  # said twice, as by a proxy and the server behind it: done once
        self._codings += listed("Transfer-Encoding", ",".join(transfer))
        if self._codings:
            self._most = most_coded(self._max_bytes)
        if is_chunked:
            self._step = self._read_chunk_size
        elif transfer:
            self._step = self._read_to_the_end
        else:
            self._begin_plain(values.get("content-length"))

    def _begin_plain(self, length: str | None) -> None:
        if length is None:
            self._step = self._read_to_the_end
        elif _LENGTH.fullmatch(length):
            self._begin_sized(int(length))
        else:
            self._is_odd = True
            self._begin_sized(_repeated(length.split(",")))

    def _begin_sized(self, length: int) -> None:
        self._expect(length)
        self._step = self._read_length

    def _read_length(self) -> bool:
        self._take_body()
        if self._left:
            return False
        self._step = None
        return True

    def _read_to_the_end(self) -> bool:
        self._left = len(self._came) - self._at
        self._take_body()
        return False

    def _expect(self, bytes_: int) -> None:
        """Of the body. A worker may send many for as long as we would let it."""
        if len(self._body) + bytes_ > self._most:
            raise too_large(self._max_bytes)
        self._left = bytes_

    def _take_body(self) -> None:
        part = self._came[self._at : self._at + self._left]
        self._at += len(part)
        self._left -= len(part)
        self._body += part
        if len(self._body) > self._most:
            raise too_large(self._max_bytes)

    # Chunks

    def _read_chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        size = _CHUNK_SIZE.fullmatch(line)
        if not size:
            raise Unreadable(BAD_CHUNK)
        self._expect(int(size[1], 16))
        self._step = self._read_chunk if self._left else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        self._take_body()
        if self._left:
            return False
        self._step = self._read_chunk_end
        return True

    def _read_chunk_end(self) -> bool:
        # Looked at here: a chunk that is too long would be read as an endless line.
        behind = self._came[self._at : self._at + 2]
        if behind not in (b"", b"\r", b"\r\n") and behind[:1] != b"\n":
            raise Unreadable(LONG_CHUNK)
        if self._line() is None:
            return False
        self._step = self._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        """Nothing is made of them: what matters stands in the head."""
        line = self._line()
        if line == b"":
            self._step = None
        return line is not None

    def _line(self) -> bytes | None:
        end = self._came.find(b"\n", self._at)
        if end < 0:
            self._count_overhead(0, len(self._came) - self._at)
            return None
        line = self._came[self._at : end]
        self._count_overhead(end + 1 - self._at)
        self._at = end + 1
        # One within it: others may have read the end of a line there.
        self._is_odd |= line[-1:] != b"\r" or line.count(b"\r") > 1
        return line.removesuffix(b"\r")

    def _count_overhead(self, read: int, unread: int = 0) -> None:
        """More may be said about a long body than about a short one."""
        self._overhead += read
        if self._overhead > MOST_OVERHEAD + 16 * len(self._body) or unread > MOST_OVERHEAD:
            raise Unreadable(MANY_CHUNKS if self._status else TOO_MANY_HEADERS)


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    headers: Sequence[tuple[str, str]]
    values: Mapping[str, str]
    is_kept: bool  # the worker keeps the connection
    is_odd: bool


def _read(text: bytes) -> _Head | None:
    """None for one with lines that do not end as they should."""
    lines = text.split(b"\r\n")
    return _read_lines(lines) if text.count(b"\n") == len(lines) - 1 else None


# Workers say the same in most answers.
_head = lru_cache(maxsize=256)(_read)


def _read_lines(lines: Sequence[bytes], *, is_odd: bool = False) -> _Head:
    started = _STATUS_LINE.fullmatch(lines[0])
    if not started:
        raise Unreadable(NOT_HTTP)
    headers: list[tuple[str, str]] = []
    values: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN) or _UNFIT.search(value):
            return _read_lines(_repaired(lines), is_odd=True)
        header = name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
        headers.append(header)
        if header[0] in HEADERS_READ:
            add_header(values, *header)
    if len(headers) > MOST_HEADERS:
        raise Unreadable(TOO_MANY_HEADERS)
    is_new = started[1] != b"0"
    is_kept = _keeps(values.get("connection", ""), is_new=is_new)
    # HTTP/1.0 has no chunks; who sends them may mean something else by them.
    is_odd |= b"\r" in lines[0] or (not is_new and "transfer-encoding" in values)
    return _Head(int(started[2]), headers, values, is_kept, is_odd)


def _repaired(lines: Sequence[bytes]) -> list[bytes]:
    """Without lines that go on with the one before, as in mails, or blanks before a colon."""
    whole = [lines[0]]
    for line in lines[1:]:
        if line[:1] in (b" ", b"\t") and len(whole) > 1:
            whole[-1] += b" " + line.strip()
        else:
            name, colon, value = line.partition(b":")
            whole.append(name.rstrip(b" \t") + colon + value)
    if whole == list(lines):
        raise Unreadable(BAD_HEADER)
    return whole


def _repeated(said: Sequence[str]) -> int:
    """A Content-Length that is given several times: as by a proxy and the server behind it."""
    lengths = [text for length in said if (text := length.strip(" \t"))]
    if not lengths or not all(map(_LENGTH.fullmatch, lengths)):
        raise Unreadable(BAD_LENGTH)
    if len(set(map(int, lengths))) > 1:
        raise Unreadable(TWO_LENGTHS)
    return int(lengths[0])


def _says_a_body(values: Mapping[str, str]) -> bool:
    """Of an answer that has none: who knows whether its worker sends one."""
    return "transfer-encoding" in values or values.get("content-length", "0") != "0"


def add_header(values: dict[str, str], name: str, value: str) -> None:
    """Add a header of `HEADERS_READ`, which may stand there already."""
    values[name] = f"{values[name]}, {value}" if name in values else value


def _keeps(connection: str, *, is_new: bool) -> bool:
    """Whether the connection stays open behind the answer."""
    options = {part.strip() for part in connection.lower().split(",")}
    return "close" not in options and (is_new or "keep-alive" in options)

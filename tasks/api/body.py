"""A request's body, read once and strictly: JSON whatever the Content-Type says."""

import hashlib
import re
from collections.abc import Collection, Iterator
from typing import Any

from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request

from ..errors import InvalidInputError
from ..rules.jsonio import JSONError, read
from ..store import memory_budget
from ..store.gc_pause import uncollected

LIGHT = 1024 * 1024  # bytes of a body that needs no room of its own
GROWS = 20  # times as large as the text may be what it holds: many small objects
# Of a graph in one call: 10,000 tasks of 20 fields and their payloads. Half as many objects of one
# member each take 80 MB.
MOST_VALUES = 1_000_000
UTF_8 = {"utf-8", "utf8", "us-ascii"}


class TooLargeError(InvalidInputError):
    """The body is over its limit (413)."""

    status = 413


class Body:
    """The body of one request. `digest` tells it apart from others once it has been read.

    `kinds` are the media types that may be in it, None for any; of a body without a byte the type
    says nothing.
    """

    def __init__(
        self, request: Request, max_bytes: int, kinds: Collection[str] | None = None
    ) -> None:
        self._unread = _unread(request, kinds)
        self._stream = request._request
        self._max_bytes = max_bytes
        self._length = _length(request, max_bytes)
        self._share: memory_budget.Share | None = None
        self._seen = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._seen.hexdigest()

    def json(self, max_nodes: int = 100_000, *, empty: Any = None) -> Any:
        """The value it holds. Raises InvalidInputError, and TooLargeError over the limit.

        `empty`, if given, stands for a body without a byte.
        """
        self._take_room()
        data = self._stream.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise self._too_large()
        self._seen.update(data)
        if data:
            self._check_kind()
        elif empty is not None:
            return empty
        with uncollected():
            return parse(data, max_nodes=max_nodes)

    def lines(self, max_line: int) -> Iterator[tuple[int, bytes]]:
        """Its lines that are not blank, with their numbers, one by one.

        Raises TooLargeError over the limit of the body, InvalidInputError over that of a line.
        """
        self._take_room()
        number, left = 0, self._max_bytes
        while line := self._stream.readline(min(left, max_line) + 1):
            self._check_kind()
            number += 1
            left -= len(line)
            if left < 0:
                raise self._too_large()
            if len(line) > max_line:
                raise InvalidInputError(f"line {number}: longer than {max_line} bytes")
            self._seen.update(line)
            if not line.isspace():
                yield number, line

    def done(self) -> None:
        """Nothing that it kept is needed any more."""
        if self._share:
            self._share.give_back()

    def _check_kind(self) -> None:
        if self._unread:
            raise self._unread

    def _take_room(self) -> None:
        if self._length > LIGHT and not self._share:
            self._share = memory_budget.bodies.take(GROWS * self._length)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"request body larger than {self._max_bytes} bytes")


def parse(data: bytes, *, max_nodes: int = 100_000) -> Any:
    """What has been read within its limit, as a value. Raises InvalidInputError."""
    try:
        return read(data, max_bytes=len(data), max_nodes=max_nodes).value
    except JSONError as error:
        raise InvalidInputError(f"not readable as JSON: {error}") from error


def consumed(items: list[Any]) -> Iterator[Any]:
    """Its items in their order, each let go of once it is read; nothing is left in the list.

    What a body holds takes more memory than the tasks it becomes.
    """
    items.reverse()
    while items:
        yield items.pop()


def _length(request: Request, most: int) -> int:
    """How long the body is; as long as it may be, if it comes in chunks."""
    if "HTTP_TRANSFER_ENCODING" in request.META:
        return most
    said = request.META.get("CONTENT_LENGTH", "")
    return min(int(said), most) if re.fullmatch("[0-9]{1,18}", said) else 0


def _unread(request: Request, kinds: Collection[str] | None) -> UnsupportedMediaType | None:
    """Why the body is not read: compressed, in another charset than UTF-8, or of another type."""
    if request.META.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        return UnsupportedMediaType("", detail="compressed bodies are not read")
    charset = (request._request.content_params or {}).get("charset", "utf-8")
    if charset.lower() not in UTF_8:
        return UnsupportedMediaType("", detail=f"charset {charset[:40]} is not read, only UTF-8")
    kind = request._request.content_type or ""
    if kinds is not None and kind not in kinds:
        return UnsupportedMediaType(kind[:100])
    return None

"""The Redis of an old Crew, read only: its records as they are, a hundred at a time."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

from ...errors import InvalidInputError

PREFIX = "go-crew/"
RECORDS_IN_MEMORY = 100  # records in memory
IDS_PER_REQUEST = 1_000


class Redis(Protocol):
    """What we need of a client; it gives bytes."""

    def scan(self, cursor: int, match: str, count: int) -> Any: ...
    def mget(self, keys: list[str]) -> Any: ...
    def lrange(self, name: str, start: int, end: int) -> Any: ...
    def llen(self, name: str) -> Any: ...
    def type(self, name: str) -> Any: ...


class OldCrew:
    """The old store, and what was met in it so far."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self.groups: set[str] = set()
        self.tasks: set[str] = set()

    def records(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """Ids and records of all groups or tasks; some may come twice."""
        start = self._prefix + kind
        match = re.sub(r"([\[\]*?\\])", r"\\\1", start) + "*"
        cursor = 0
        while True:
            cursor, keys = self._client.scan(cursor, match=match, count=IDS_PER_REQUEST)
            ids = (_text(key)[len(start) :] for key in keys)
            yield from self.get(kind, ids)
            if not cursor:
                return

    def get(self, kind: str, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Those of the records that are there."""
        left = iter(ids)
        while some := list(islice(left, RECORDS_IN_MEMORY)):
            found = self._client.mget([f"{self._prefix}{kind}{id_}" for id_ in some])
            # What is no text, as the lists of ids, gives nothing.
            for id_, record in zip(some, found, strict=True):
                if record is not None:
                    yield id_, record

    def listed(self, group_id: str) -> list[str]:
        """The ids of the group's tasks, oldest first, each once."""
        key = f"{self._prefix}task-groups/{group_id}/tasks"
        if self._client.type(key) not in (b"list", b"none"):
            raise InvalidInputError("its list of tasks is no list")
        ids: dict[str, None] = {}
        # From the old end, which stays where it is when a task is added.
        for end in range(-1, -1 - self._client.llen(key), -IDS_PER_REQUEST):
            some = self._client.lrange(key, end - IDS_PER_REQUEST + 1, end)
            ids |= dict.fromkeys(_text(id_) for id_ in reversed(some))
        return list(ids)


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")

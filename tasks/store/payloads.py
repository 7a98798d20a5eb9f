"""Reads what the calls of a claim bring, inputs and parents' outputs, within a budget of bytes.

Each text is read once, however many of the calls it goes into. What has no room is left out.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..conf import conf
from ..rules.jsonio import dump
from ..rules.payload import Brought, Parent
from ..sql import BoundStatement, run
from ..sql import payloads as sql

SLICE = 8 * 1024 * 1024  # bytes of texts that one statement gives, about
EDGES = 20_000  # from children to parents that one claim looks at, and twice what a task may have


def budget() -> int:
    """The bytes that the calls of a scheduler may hold at once."""
    return int(conf.CREW_CALLS_BYTES)


def asking(ids: Sequence[str]) -> BoundStatement:
    """The statement that tells of the parents of these tasks, for `Loader`."""
    largest = 2 * max(conf.CREW_MAX_ANSWER_BYTES, conf.CREW_MAX_INPUT_BYTES)
    params = {"ids": dump(ids), "edges": _edges(), "most": SLICE, "largest": largest}
    return sql.PARENTS, params


def of_task(id_: str, input_json: str | None) -> Brought:
    """What the call of this task would bring now."""
    loader = Loader(run(*asking([id_])), [id_], room=budget())
    return loader.fit(id_, input_json, is_heavy=False, is_child=True) or Brought(input_json)


class Loader:
    """Of one claim. `rows` is of the parents of `children`, in their order.

    `room` are the bytes for the texts and for the bodies that are made of them. A call of a few
    kB has room whatever it is, and so has the first when all of the budget is free.
    """

    def __init__(
        self, rows: Iterable[tuple[Any, ...]], children: Sequence[str], *, room: int
    ) -> None:
        self._room = room
        self._is_free = room >= budget()  # and so far nothing is promised of it
        self._is_full = room <= 0
        self._in_use = self._read = 0
        self._parents: dict[str, Parent] = {}
        self._sizes: dict[str, int] = {}  # of the parents whose texts were read
        self._unread: dict[str, int] = {}  # of the others, about
        self._named: dict[str, list[str]] = {}
        self._take(rows)
        known = [id_ for id_ in children if id_ in self._named]
        self._is_cut = sum(map(len, self._named.values())) >= _edges()
        # The last child may have more parents than are listed.
        self._last = known[-1] if self._is_cut and len(known) > 1 else None

    def fit(
        self, id_: str, input_json: str | None, *, is_heavy: bool, is_child: bool
    ) -> Brought | None:
        """What this task brings; None if that has no room now."""
        if is_child and self._is_cut and (id_ == self._last or id_ not in self._named):
            return None
        named = self._named.get(id_, ())
        missing = [parent for parent in named if parent not in self._parents]
        if (missing or is_heavy) and self._is_full:
            return None
        if self._is_too_large(named) or not self._read_parents(named, missing):
            return Brought(input_json, too_large=too_large())
        if is_heavy:
            ((_, _, input_json, _),) = self._texts([id_], outputs=False)
        size = _bytes(input_json) + sum(self._sizes.get(parent, 0) for parent in named)
        read = sys.getsizeof(input_json) if is_heavy else 0
        if size > sql.LIGHT and not self._reserve(size + read):
            return None
        parents = (self._parents.get(parent) for parent in named)
        return Brought(input_json, tuple(parent for parent in parents if parent))

    def _take(self, rows: Iterable[tuple[Any, ...]]) -> None:
        for id_, worker, input_json, output_json, unread, named in rows:
            if worker is None:
                self._named[id_] = [parent for _, parent in sorted(json.loads(named))]
            elif unread is None:
                self._keep(Parent(id_, worker, input_json, output_json))
            else:
                self._unread[id_] = unread

    def _is_too_large(self, named: Iterable[str]) -> bool:
        most: int = conf.CREW_MAX_PAYLOAD_BYTES
        return sum(self._sizes.get(parent, 0) for parent in named) > most

    def _read_parents(self, named: Sequence[str], missing: Sequence[str]) -> bool:
        """Read those that are missing; False, and none is kept, when it is too much for a call."""
        for some in self._slices(missing):
            for row in self._texts(some, outputs=True):
                self._keep(Parent(*row))
            if self._is_too_large(named):
                for id_ in missing:
                    self._drop(id_)
                return False
        return True

    def _slices(self, ids: Iterable[str]) -> Iterator[list[str]]:
        """As many as one statement may give, at least one."""
        some: list[str] = []
        size = 0
        for id_ in ids:
            size += self._unread.get(id_, 0)
            if some and size > SLICE:
                yield some
                some, size = [], self._unread.get(id_, 0)
            some.append(id_)
        if some:
            yield some

    def _texts(self, ids: Sequence[str], *, outputs: bool) -> list[tuple[Any, ...]]:
        return run(sql.TEXTS, {"ids": dump(ids), "outputs": outputs})

    def _keep(self, parent: Parent) -> None:
        self._parents[parent.task_id] = parent
        size = _bytes(parent.input_json) + _bytes(parent.output_json) + sql.AROUND
        self._sizes[parent.task_id] = size
        self._in_use += _memory(parent)
        self._read += size
        # What is read for calls that are too large is dropped, and yet has cost its time.
        self._is_full = self._is_full or self._read > 2 * budget()

    def _drop(self, id_: str) -> None:
        if parent := self._parents.pop(id_, None):
            self._in_use -= _memory(parent)

    def _reserve(self, size: int) -> bool:
        """Room for a body, if there is any."""
        if self._in_use + size > self._room and not self._is_free:
            self._is_full = True
            return False
        self._in_use += size
        self._is_free = False
        return True


def too_large() -> str:
    return (
        "not sent: the parents' inputs and outputs are more than CREW_MAX_PAYLOAD_BYTES"
        f" ({conf.CREW_MAX_PAYLOAD_BYTES})"
    )


def _edges() -> int:
    return int(EDGES + 2 * conf.CREW_MAX_PARENTS)


def _bytes(text: str | None) -> int:
    """As UTF-8."""
    if text is None:
        return len("null")
    return len(text) if text.isascii() else len(text.encode())


def _memory(parent: Parent) -> int:
    return sys.getsizeof(parent.input_json) + sys.getsizeof(parent.output_json)

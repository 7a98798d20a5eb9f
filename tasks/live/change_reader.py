"""Reads changes as they are committed: each once, none lost.

On PostgreSQL ids become visible out of order: a transaction that is slow to commit has a lower id
than some that were seen before it, and who asks for `id > last` never sees it. So a reader keeps
the id up to which nothing can come any more (`safe`) and the few ids above it that it has seen.
A transaction that started after a look gets ids above all that this look could see. As soon as
none that is older runs any more (the snapshot's xmin), nothing can come below that.

Nothing is kept back while an old transaction stays open. What one snapshot shows is complete: a
change is never seen before another that its transaction could see.
"""

import json
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..sql import on_postgres, run
from ..sql import stream as sql

# A transaction open when the reading starts may own an id this far below the newest one.
MARGIN = 10_000
MARKS = 1_000  # looks remembered while an old transaction stays open


@dataclass(frozen=True, slots=True)
class Seen:
    """One change. `deleted` are last states in the wire's words, or plain ids."""

    id: int
    group_id: str
    created: list[str]
    updated: list[str]
    deleted: list[Any]
    group_event: str
    workgroup: str


class Tail:
    """One reader's place. Not for two threads at once; any connection may do the reading."""

    def __init__(self) -> None:
        self.safe = 0  # no change up to this id is still to come
        self.newest = 0  # that could be seen at the last look
        self._seen: set[int] = set()
        self._marks: deque[tuple[int, int]] = deque()

    def start(self, groups: Collection[str]) -> None:
        """From here: what was committed before is not read, however much it is."""
        most, _ = run(sql.REACH, {"since": 0})[0]
        self.safe = max(0, most - MARGIN) if on_postgres() else most
        self.newest = self.safe
        rows = run(sql.UNREAD, self._place(groups))
        low, high, most = rows[0][:3]
        self._advance(low, high, most, [row[3] for row in rows if row[3] is not None])

    def read(self, groups: Collection[str]) -> list[Seen]:
        """What was committed since, of these groups and of all workgroups, in order."""
        rows = run(sql.CHANGES, self._place(groups))
        low, high, most = rows[0][:3]
        seen = [_seen(row[3:]) for row in rows if row[3] is not None]
        self._advance(low, high, most, [one.id for one in seen])
        return seen

    def has_gap(self, since: int) -> bool:
        """Whether changes behind the newest of a look were pruned by now: some may be unread."""
        newest, reaches_back = run(sql.REACH, {"since": since})[0]
        return newest > since and not reaches_back

    def missed(self, group_id: str, since: int, *, most: int) -> list[Seen] | None:
        """What a reader of the group did not get who had all up to `since`, as far as we read.

        None if that is not known any more, or more than `most`.
        """
        rows = run(sql.MISSED, {"group": group_id, "since": since, "most": most + 1})
        # Afterwards: what is pruned in between is missed too.
        newest, reaches_back = run(sql.REACH, {"since": since})[0]
        if since > newest or not reaches_back or len(rows) > most:
            return None
        return [_seen(row) for row in rows if row[0] <= self.safe or row[0] in self._seen]

    def _place(self, groups: Collection[str]) -> dict[str, Any]:
        if on_postgres():
            return {"safe": self.safe, "groups": list(groups), "seen": list(self._seen)}
        return {"safe": self.safe, "groups": json.dumps(list(groups))}

    def _advance(self, low: int, high: int, most: int, ids: list[int]) -> None:
        if not on_postgres():  # one writer: ids come in order
            self.safe = self.newest = max(self.safe, most)
            return
        self._seen.update(ids)
        # What was seen one look earlier: an id is drawn a moment before its transaction has one.
        self._marks.append((high, self.newest))
        self.newest = max(self.newest, most)
        while self._marks and self._marks[0][0] <= low:
            self.safe = max(self.safe, self._marks.popleft()[1])
        if len(self._marks) > MARKS:
            self._marks = deque(list(self._marks)[::2])
        self._seen = {id_ for id_ in self._seen if id_ > self.safe}


def _seen(row: tuple[Any, ...]) -> Seen:
    id_, group_id, created, updated, deleted, group_event, workgroup = row
    return Seen(
        id_,
        group_id,
        json.loads(created),
        json.loads(updated),
        json.loads(deleted),
        group_event,
        workgroup,
    )

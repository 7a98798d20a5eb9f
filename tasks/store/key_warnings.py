"""What may be a mistake about keys is logged when tasks are created. Nothing is refused for it, and
the look for it is bounded.

One call stands for all incomplete tasks of its key, so they should be the same work. And a task
never follows its own ancestor, so a key on both saves nothing.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from ..redact import one_line
from ..rules.graph import several_workers
from ..rules.jsonio import dump
from ..rules.spec import TaskSpec
from ..sql import keys as sql
from ..sql import run

logger = logging.getLogger("crew.store.key_warnings")

KEYS = 20  # of a call that are looked after in the store
STEPS = 100_000  # edges of a call that are walked
MOST = 10  # warnings of one call

_gathered: ContextVar[list[str] | None] = ContextVar("gathered", default=None)


@contextmanager
def gathered() -> Iterator[list[str]]:
    """The warnings about what is created in here."""
    warnings: list[str] = []
    token = _gathered.set(warnings)
    try:
        yield warnings
    finally:
        _gathered.reset(token)


def warn(group_id: str, specs: Sequence[TaskSpec]) -> None:
    """Tell what may be a mistake about the keys of these tasks, which are stored by now."""
    keyed = [spec for spec in specs if spec.key and not spec.is_complete]
    if not keyed:
        return
    found = [*_several_workers(group_id, keyed), *_in_one_line(group_id, keyed, specs)][:MOST]
    for words in found:
        logger.warning("Group %s: %s", one_line(group_id), one_line(words))
    warnings = _gathered.get()
    if warnings is not None:
        warnings.extend(found)


def _several_workers(group_id: str, keyed: Iterable[TaskSpec]) -> Iterator[str]:
    workers: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for spec in keyed:
        workers[spec.key][spec.worker] = None
    some = list(workers)[:KEYS]
    for key, worker in run(sql.WORKERS, {"group": group_id, "keys": dump(some)}):
        workers[key][worker] = None
    for key, names in workers.items():
        if len(names) > 1:
            yield several_workers(key, list(names))


def _in_one_line(
    group_id: str, keyed: Sequence[TaskSpec], specs: Iterable[TaskSpec]
) -> Iterator[str]:
    """A task and a descendant of it, for each key; those of the call first."""
    parents = {spec.id: spec.parent_ids for spec in specs}
    by_key: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for spec in keyed:
        by_key[spec.key][spec.id] = None
    steps = STEPS
    for place, (key, ids) in enumerate(by_key.items()):
        found, outside, walked = _above(ids, parents, steps)
        steps -= walked
        if found is None and outside and place < KEYS:
            rows = run(sql.ABOVE, {"group": group_id, "key": key, "ids": dump(list(outside))})
            found = rows[0][0] if rows else None
        if found is not None:
            yield (
                f"key {key} is that of task {found} and of a descendant of it: each of them runs,"
                " as a task never follows its own ancestor"
            )


def _above(
    ids: Mapping[str, None], parents: Mapping[str, Sequence[str]], most: int
) -> tuple[str | None, dict[str, None], int]:
    """One of the ids that is above another, the parents that are not of the call, and the steps."""
    waiting = [parent for id_ in ids for parent in parents[id_]]
    seen: dict[str, None] = {}
    outside: dict[str, None] = {}
    while waiting and len(seen) < most:
        id_ = waiting.pop()
        if id_ in ids:
            return id_, outside, len(seen)
        if id_ in seen:
            continue
        seen[id_] = None
        if id_ in parents:
            waiting += parents[id_]
        else:
            outside[id_] = None
    return None, outside, len(seen)

"""The other tasks of a key share the outcome of the one that ran."""

import time
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import uuid4

from ..rules.decide import Completed
from ..rules.jsonio import dump
from ..sql import on_postgres, run, run_together
from ..sql import shared_outcomes as sql
from . import parts
from .settlement import Settlement

COPIED = 1_000  # characters of an output that each duplicate gets for itself; longer, they share

# When this process begins to share, by `time.monotonic()`. A scheduler that starts beside others
# lets them look first whether the tables are too new for them: their claims would not see it.
shares_from = 0.0


def share(live: Sequence[Settlement]) -> list[tuple[Any, ...]]:
    """Those who shared the outcome: (id, group id, whether it is complete)."""
    if not live:
        return []
    given = {s.lease.task_id: _duplicated(s) for s in live}
    asked = {"rows": dump(list(given.values())), "most": parts.TASKS_PER_STATEMENT}
    if not on_postgres():
        return run_together((sql.IN_COMMON, asked), (sql.DUPLICATES, asked))[1]
    shared, after = parts.part(run(sql.DUPLICATES, asked | {"after": ""}))
    for part in parts.parts(sql.DUPLICATES_LEFT, asked, after):
        following = sorted((pair for pair in part if pair[1]), key=itemgetter(1))
        for leader, pairs in groupby(following, key=itemgetter(1)):
            ids = [id_ for id_, _ in pairs]
            some = {"rows": dump([given[leader]]), "ids": dump(ids)}
            shared += run(sql.DUPLICATES_SOME, some)
    return shared


def _duplicated(settlement: Settlement) -> dict[str, Any]:
    outcome = settlement.outcome
    is_long = isinstance(outcome, Completed) and len(outcome.output or "") > COPIED
    is_shared = is_long and time.monotonic() >= shares_from
    return {
        "id": settlement.lease.task_id,
        "outcome": settlement.kind,
        "error": settlement.error,
        "wait": getattr(outcome, "seconds", 0.0),
        "workgroup": settlement.lease.workgroup if settlement.is_of_hold else None,
        "shared": uuid4().hex if is_shared else None,
    }

"""Tasks that the database does not let be leased: claims go past them, and none of them stops all.

A constraint or trigger of somebody else's refuses the write. It is asked again from time to time.
"""

import logging
import random
import time
from collections.abc import Mapping

from django.db import DatabaseError, transaction

from ..insight.fleet import backlog
from ..redact import one_line
from ..rules.fair_share import Lane
from ..rules.jsonio import dump
from ..sql import Within, run, run_steered
from ..sql import claim as sql
from ..sql.patience import is_refusal
from .claim import lane_params

logger = logging.getLogger("crew.engine.barred")

AGAIN = 60.0  # seconds until they are tried again
LANES_PER_SEARCH, TASKS_PER_LANE = (
    20,
    50,
)  # looked at in one search: so many, and so many tasks of each
HASTE = Within(lock=0.1, statement=2.0)


class Barred:
    """Of one scheduler."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._lanes: dict[str, Lane] = {}
        self._until = 0.0

    def tasks(self) -> Mapping[str, Lane]:
        """Their ids and lanes."""
        if self._lanes and time.monotonic() > self._until:
            self._lanes = {}
        return self._lanes

    def look(self) -> bool:
        """Find those that come first in their lanes; whether there were any."""
        known = dump(list(self.tasks()))
        lanes = [lane for lane in backlog.lanes() if lane.has_due]
        random.shuffle(lanes)
        found: dict[str, Lane] = {}
        for some in lanes[:LANES_PER_SEARCH]:
            lane = Lane(some.worker, some.workgroup, some.priority)
            first = run(sql.FIRST, lane_params(lane, TASKS_PER_LANE) | {"barred": known})
            found |= dict.fromkeys(self._among([id_ for (id_,) in first]), lane)
        self._lanes = {**self._lanes, **found}
        self._until = time.monotonic() + AGAIN
        if found:
            text = "The database lets %s tasks not be started, the first of them %s"
            logger.error(text, len(found), one_line(next(iter(found))))
        return bool(found)

    def _among(self, ids: list[str]) -> list[str]:
        """Those of the tasks that are refused, by halves."""
        if not ids or self._may_be_leased(ids):
            return []
        middle = len(ids) // 2
        return self._among(ids[:middle]) + self._among(ids[middle:]) if middle else ids

    def _may_be_leased(self, ids: list[str]) -> bool:
        try:
            with transaction.atomic():
                run_steered((sql.LEASE, {"ids": dump(ids), "me": self._me}), within=HASTE)
                transaction.set_rollback(True)
        except DatabaseError as error:
            if not is_refusal(error):
                raise
            return False
        return True

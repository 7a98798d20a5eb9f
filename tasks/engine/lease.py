"""The right to one attempt at a task, and what its call brings. Never the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..rules.decide import ERROR_DELAY
from ..rules.payload import Brought, Parent

NOTHING = Brought(None)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to one attempt at a task, as long as its scheduler's heartbeat lasts.

    `(task_id, attempt, leased_by)` is the fence of the settle. `too_large` is a sentence when
    the parents' outputs are more than may be POSTed; such an attempt fails unsent. `error_delay`
    is the task's, in seconds. `has_made`: an earlier answer to the task made children.
    """

    task_id: str
    attempt: int
    group_id: str
    worker: str
    workgroup: str
    key: str
    leased_by: str
    input_json: str | None = None
    parents: tuple[Parent, ...] = ()
    too_large: str = ""
    error_delay: float = ERROR_DELAY
    has_made: bool = False


def lease_of(
    me: str,
    row: Sequence[Any],
    brought: Brought = NOTHING,
    error_delay: float = ERROR_DELAY,
    has_made: bool = False,
) -> Lease:
    id_, attempt, group_id, worker, workgroup, key = row[:6]
    return Lease(
        id_,
        attempt,
        group_id,
        worker,
        workgroup,
        key,
        me,
        brought.input_json,
        brought.parents,
        brought.too_large,
        error_delay,
        bool(has_made),
    )

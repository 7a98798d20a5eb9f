"""Calls that were given up keep their slot and their key until they have really ended.

Whoever takes a lease away from a call that may still run leaves a `CutCall`. The scheduler that
makes the call looks for those of its own, cuts the connection, and takes the row away in the
transaction that settles what came of the call.
"""

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from ..conf import conf
from ..models import CutCall
from ..rules.jsonio import dump
from ..sql import cuts as sql
from ..sql import run

if TYPE_CHECKING:
    from ..engine.lease import Lease


def give_up(ids: Sequence[str]) -> None:
    """Before a verb takes the leases of these tasks, which it has locked, away."""
    run(sql.GIVE_UP, {"ids": dump(ids)})


def given_up(me: str) -> set[tuple[str, int]]:
    """The calls of the scheduler `me` that are to be cut: task ids and attempts."""
    return {(id_, attempt) for id_, attempt in run(sql.GIVEN_UP, {"me": me})}


def end_unknown(me: str, *, known: Container[tuple[str, int]]) -> None:
    """Free what calls take that the scheduler `me` never made: their claim failed."""
    never_made = [key for key in given_up(me) if key not in known]
    if never_made:
        _end([{"id": id_, "attempt": n, "scheduler": me} for id_, n in never_made])


def settled(*, late: "Iterable[Lease]", may_run: "Iterable[Lease]") -> None:
    """The calls of these leases have ended, which were given up if they are `late`.

    Those of `may_run` ended for us only: their workers keep slot and key for a while, if it is set.
    """
    kept = list(may_run) if conf.CREW_SLOT_KEPT_SECONDS else []
    if kept:
        rows = [_row(lease) for lease in kept]
        run(sql.KEPT, {"rows": dump(rows), "seconds": conf.CREW_SLOT_KEPT_SECONDS})
    if over := [_row(lease) for lease in late if lease not in kept]:
        _end(over)


def sweep() -> None:
    """Free what calls of dead schedulers take, and what was kept for long enough."""
    if CutCall.objects.exists():
        run(sql.ORPHANED, {"seconds": conf.CREW_SLOT_KEPT_SECONDS})
        run(sql.OVER, {})


def _end(rows: list[dict[str, object]]) -> None:
    run(sql.ENDED, {"rows": dump(rows)})


def _row(lease: "Lease") -> dict[str, object]:
    return {
        "id": lease.task_id,
        "attempt": lease.attempt,
        "scheduler": lease.leased_by,
        "worker": lease.worker,
        "group": lease.group_id,
        "key": lease.key,
    }

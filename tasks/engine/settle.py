"""Outcomes and all that follows from them are written, in one transaction per batch.

Everything is fenced by (task id, attempt, leased_by): an answer whose lease is no longer held
changes nothing. Locks are taken in the order groups, keys, tasks, children, each by id.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from django.db import transaction

from ..rules.jsonio import dump
from ..sql import BoundStatement, leaders, on_postgres, run, run_steered
from ..sql import settle as sql
from ..sql.patience import is_locked, is_outage, is_overload
from ..store import changes, cut_calls
from ..verbs.earlier_children import TooManyError
from . import children, failpoints, haste, late_answers, shared_outcomes, worker_health
from .refused_answers import lesser
from .settlement import AnswersAgainError, Left, Settled, Settlement, Why, as_row

logger = logging.getLogger("crew.engine.settle")


@contextmanager
def whole() -> Iterator[None]:
    """A transaction of outcomes; tests may end it at each step."""
    with transaction.atomic():
        if failpoints.armed:
            transaction.on_commit(partial(failpoints.reach, "after_commit"))
        yield
        failpoints.reach("before_commit")
    failpoints.reach("after_publish")


def settle(settlements: Sequence[Settlement]) -> Settled:
    """Write a batch whole, or raise DatabaseError and write nothing of it.

    Raises AnswersAgainError if one of several has to be written by itself.
    """
    try:
        with whole():
            touched = changes.ChangedTasks()
            settled = settle_within(settlements, touched)
            touched.write()
            return settled
    except AnswersAgainError as found:
        if len(settlements) > 1:
            raise
        return settle(found.alone(settlements))


def settle_each(settlements: Sequence[Settlement]) -> Settled:
    """Write a batch, and behind it, each by itself, the answers of tasks that answer again.

    What the database refuses of a single one is dropped piece by piece, so that one poisoned
    answer never blocks the others. What waits for a lock, or takes too long, is left. A lost
    connection, a deadlock and the like (`is_outage`) are raised: the caller tries again.
    """
    ordinary = [s for s in settlements if not s.answers_again]
    batches = [ordinary, *([s] for s in settlements if s.answers_again)]
    return sum((_settle_batch(batch) for batch in batches if batch), Settled())


def _settle_batch(settlements: Sequence[Settlement]) -> Settled:
    """If it is refused as a whole, find the settlement at fault by halves."""
    try:
        return settle(settlements)
    except AnswersAgainError as found:
        return settle_each(found.alone(settlements))
    except Exception as error:
        why = why_not(error)
        if why is None:
            raise
        if why is not Why.REFUSED:
            return Settled(left=left(settlements, why))
        if len(settlements) == 1:
            return _settle_refused(settlements[0], error)
    middle = len(settlements) // 2
    return _settle_batch(settlements[:middle]) + _settle_batch(settlements[middle:])


def why_not(error: Exception) -> Why | None:
    """What the error says of the settlements it came with; None is an outage, not their fault."""
    if isinstance(error, TooManyError):
        return Why.MUCH
    if is_locked(error):
        return Why.LOCK
    if is_overload(error):
        return Why.SLOW
    return None if is_outage(error) else Why.REFUSED


def left(settlements: Iterable[Settlement], why: Why) -> tuple[Left, ...]:
    return tuple(Left(settlement, why) for settlement in settlements)


def _settle_refused(settlement: Settlement, error: Exception) -> Settled:
    """With less and less of what it holds, until the database takes it."""
    logger.warning("The answer to task %s was refused: %s", settlement.lease.task_id, error)
    for less in lesser(settlement, str(error)):
        try:
            return settle([less])
        except Exception as again:
            why = why_not(again)
            if why is None:
                raise
            if why is not Why.REFUSED:
                return Settled(left=left([settlement], why))
    if late_answers.is_late(settlement.lease):
        # Nothing of it would take effect; only the record of it was wanted.
        logger.error("The late answer to task %s is not kept", settlement.lease.task_id)
        with whole():
            cut_calls.settled(late=[settlement.lease], may_run=[])
        return Settled(late=1)
    return Settled(left=left([settlement], Why.REFUSED))


def settle_within(settlements: Sequence[Settlement], touched: changes.ChangedTasks) -> Settled:
    """Write a batch inside the caller's transaction, which an error leaves fit for nothing more.

    What changed comes into `touched`, which the caller writes. Raises AnswersAgainError.
    """
    given = settlements
    alone = any(s.answers_again for s in given)
    if alone:
        run_steered(*_locks(given, alone=True), within=haste.within())
    faulty = {s.lease.worker for s in given if worker_health.fault_of(s)}
    said = worker_health.results(given, faulty) if faulty else []
    weighed = worker_health.bear_with(given, worker_health.weigh(said, within=haste.within()))
    settlements = children.refuse_taken(weighed)
    well = {s.lease.worker for s in given if s.is_answer} - faulty
    locks, outcomes = _locks(settlements, alone=alone), _outcomes(settlements)
    results = run_steered(worker_health.look(well), *locks, *outcomes, within=haste.within())
    if ill := results.pop(0):
        worker_health.recover(ill, worker_health.results(given, {name for name, *_ in ill}))
    groups = _kept(results[0])
    written = {(id_, number): bool(is_parent) for id_, number, is_parent in results[len(locks)]}
    live = [s for s in settlements if s.key in written]
    merged = shared_outcomes.share([s for s in live if s.lease.key])
    _refuse_company(live, {leader for *_, leader in merged if leader})
    parents = [children.parent(s) for s in live if written[s.key]]
    parents += [{"id": id_, "done": 1, "wait": 0.0} for id_, _, complete, _ in merged if complete]
    touched.updated((s.lease.group_id, s.lease.task_id) for s in live)
    touched.updated((group_id, id_) for id_, group_id, *_ in merged)
    touched.updated(children.free(parents, touched))
    failpoints.reach("mid_settle")
    touched.created(children.create(live, groups, touched))
    for s in live if alone else ():
        touched.created(children.renew(s, groups, merged, touched))
    _hold_workgroups(live)
    # As they came: the ids of a late answer's children may be in use by those of the next answer.
    is_whole = len(live) == len(given)
    others = [] if is_whole else [s for s in weighed if s.key not in written]
    unwritten = _still_leased(others, groups)
    ended = [s for s in given if s.fence not in unwritten] if unwritten else given
    late = [] if is_whole else [s for s in ended if s.key not in written]
    late_answers.record(late)
    cut_calls.settled(late=[s.lease for s in late], may_run=[s.lease for s in ended if s.may_run])
    return Settled(len(live), len(others) - len(unwritten), tuple(unwritten.values()))


def _locks(settlements: Sequence[Settlement], *, alone: bool) -> list[BoundStatement]:
    """What keeps the groups, and decides alone about their keys."""
    ids = sorted({s.lease.group_id for s in settlements})
    keyed = sorted({s.lease.group_id for s in settlements if s.lease.key})
    which = (
        (sql.GROUPS_ALONE, sql.GROUPS_ALONE_SKIP_LOCKED)
        if alone
        else (sql.GROUPS, sql.GROUPS_SKIP_LOCKED)
    )
    return [
        (which[haste.skips()], {"groups": dump(ids)}),
        *([(leaders.KEY_LOCKS, {"groups": dump(keyed)})] if keyed else []),
    ]


def _refuse_company(live: Sequence[Settlement], leaders: Container[str]) -> None:
    """Raise AnswersAgainError for those that completed tasks of their key which ran before."""
    found = {s.lease.task_id for s in live if s.lease.task_id in leaders and not s.answers_again}
    if found:
        raise AnswersAgainError(found)


def _kept(results: Sequence[tuple[Any, ...]]) -> dict[str, bool]:
    """The groups that are ours until the commit, and which of them are paused."""
    rows = json.loads(results[0][0]).items() if haste.skips() else results
    return {id_: bool(paused) for id_, paused in rows}


def _still_leased(
    others: Sequence[Settlement], groups: Container[str]
) -> dict[tuple[str, int, str], Left]:
    """Of those that were not written, what somebody kept from us; by their fences.

    What they say of their workers is written with this transaction.
    """
    if not others or not haste.skips():
        return {}
    rows = [
        {"id": s.lease.task_id, "attempt": s.lease.attempt, "leased_by": s.lease.leased_by}
        for s in others
    ]
    leased = set(run(sql.STILL_LEASED, {"rows": dump(rows)}))
    return {
        s.fence: Left(
            replace(s, is_weighed=True), Why.TASK if s.lease.group_id in groups else Why.GROUP
        )
        for s in others
        if s.fence in leased
    }


def _outcomes(settlements: Sequence[Settlement]) -> list[BoundStatement]:
    """What writes the outcomes; the first gives the leases that still held."""
    rows = {"rows": "[" + ",".join(map(as_row, settlements)) + "]"}
    whats = [sql.OUTCOMES] if on_postgres() else [sql.LIVE, sql.HISTORY, sql.WRITE]
    if haste.skips():
        whats = [sql.OUTCOMES_SKIP_LOCKED]
    return [(what, rows) for what in whats]


def _hold_workgroups(live: Sequence[Settlement]) -> None:
    holds: defaultdict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    for s in live:
        if s.lease.workgroup and (wait := s.hold):
            given = (wait, s.lease.task_id)
            holds[s.lease.workgroup] = max(holds[s.lease.workgroup], given)
    rows = [{"name": name, "wait": wait, "by": by} for name, (wait, by) in sorted(holds.items())]
    if rows:
        run(sql.HOLD, {"rows": dump(rows)})
        changes.workgroup_changed(row["name"] for row in rows)  # type: ignore[misc]

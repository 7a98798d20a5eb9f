"""Outcomes and all that follows from them are written, in one transaction per batch.

Everything is fenced by (task id, attempt, leased_by): an answer whose lease is no longer held
changes nothing. Locks are taken in the order groups, keys, tasks, children, each by id.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import uuid4

from django.db import transaction

from .. import create
from ..models import Task
from ..rules import outages
from ..rules.decide import MAX_ERROR, Completed, Decided, Delays, Failed, Held, Interrupted
from ..rules.fair_share import Lane
from ..rules.jsonio import dump, quote
from ..rules.outages import Cost, Fault
from ..rules.transcript import NOTHING, Transcript
from ..sql import (
    Call,
    Statement,
    Within,
    children,
    leaders,
    on_postgres,
    run,
    run_steered,
    run_together,
    shared_outcomes,
)
from ..sql import settle as sql
from ..sql.patience import is_locked, is_outage, is_overload
from ..store import changes, cut_calls
from ..store.rows import Family, known
from ..verbs import earlier_children as again
from . import failpoints, worker_health
from .claim import Lease
from .late_answers import LateAnswer, record
from .refused_answers import lesser
from .worker_health import Result, Verdict

logger = logging.getLogger(__name__)

COPIED = 1_000  # characters of an output that each duplicate gets for itself; longer, they share
# When this process begins to share, by `time.monotonic()`. A scheduler that starts beside others
# lets them look first whether the tables are too new for them: their claims would not see it.
shares_from = 0.0
TASKS_PER_STATEMENT = (
    2_000  # tasks written by one statement of those that an answer touches beside its own
)
FOUND = 20_000  # of their ids looked up by one, or of parents whose children are


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The lease was lost with its scheduler. `seconds` is kept from the second loss in a row on."""

    seconds: float = 0.0
    error: str = "abandoned: the scheduler that ran this attempt died"


@dataclass(frozen=True, slots=True)
class Returned:
    """Never sent: back it goes for `seconds`, and no attempt is used up."""

    seconds: float = 0.0


Outcome = Decided | Abandoned | Returned


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one lease. `status` is the HTTP status, if there was one; else `fault` is
    how the worker failed, if it did. `is_weighed`: what it says of its worker is counted.

    `may_run`: the worker may still be at it, without a connection that would tell. `is_alone`: it
    is written by itself, with its group alone.
    """

    lease: Lease
    outcome: Outcome
    status: int | None = None
    transcript: Transcript = NOTHING
    may_run: bool = False
    fault: Fault = Fault.NONE
    is_weighed: bool = False
    is_alone: bool = False

    @property
    def answers_again(self) -> bool:
        """What earlier answers made has to make way for it."""
        return self.is_alone or (self.lease.has_made and isinstance(self.outcome, Completed))


class AnswersAgainError(Exception):
    """These tasks turned out to answer again: nothing was written, and they are to be alone."""

    def __init__(self, task_ids: Collection[str]) -> None:
        super().__init__("an answer changes what earlier answers made")
        self._task_ids = task_ids

    def alone(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        found = self._task_ids
        return [replace(s, is_alone=s.is_alone or s.lease.task_id in found) for s in settlements]


class Why(Enum):
    """Why a settlement could not be written, though nothing is wrong with the database."""

    GROUP = "its group is locked by somebody"
    TASK = "its row is locked by somebody"
    LOCK = "something that its answer changes is locked by somebody"
    SLOW = "the database did not get done with it"
    REFUSED = "the database refused it"


@dataclass(frozen=True, slots=True)
class Left:
    """A settlement of which nothing was written: its lease holds, its answer still counts."""

    settlement: Settlement
    why: Why


@dataclass(frozen=True, slots=True)
class Settled:
    """How many settlements took effect, how many came too late, and what was left."""

    live: int = 0
    late: int = 0
    left: tuple[Left, ...] = ()

    def __add__(self, other: "Settled") -> "Settled":
        return Settled(self.live + other.live, self.late + other.late, self.left + other.left)


@dataclass(frozen=True, slots=True)
class Haste:
    """How long a settle waits.

    `skips`: it does not wait at all for groups and tasks that others hold, but leaves them.
    """

    within: Within
    skips: bool = True


_haste: ContextVar[Haste | None] = ContextVar("haste", default=None)


@contextmanager
def hastily(haste: Haste) -> Iterator[None]:
    """What is settled in here waits no longer than that; without it, as long as it takes."""
    token = _haste.set(haste)
    try:
        yield
    finally:
        _haste.reset(token)


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
            note = changes.Note()
            settled = settle_within(settlements, note)
            note.write()
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
    if _is_late(settlement.lease):
        # Nothing of it would take effect; only the record of it was wanted.
        logger.error("The late answer to task %s is not kept", settlement.lease.task_id)
        with whole():
            cut_calls.settled(late=[settlement.lease], may_run=[])
        return Settled(late=1)
    return Settled(left=left([settlement], Why.REFUSED))


def _is_late(lease: Lease) -> bool:
    fence = {"pk": lease.task_id, "attempt": lease.attempt, "leased_by": lease.leased_by}
    return not Task.objects.filter(**fence).exists()


def settle_within(settlements: Sequence[Settlement], note: changes.Note) -> Settled:
    """Write a batch inside the caller's transaction, which an error leaves fit for nothing more.

    What changed comes into `note`, which the caller writes. Raises AnswersAgainError.
    """
    given = settlements
    alone = any(s.answers_again for s in given)
    if alone:
        run_steered(*_locks(given, alone=True), within=_within())
    faulty = {s.lease.worker for s in given if _fault(s)}
    said = _results(given, faulty) if faulty else []
    weighed = _bear_with(given, worker_health.weigh(said, within=_within()))
    settlements = _refuse_children(weighed)
    well = {s.lease.worker for s in given if _is_answer(s)} - faulty
    locks, outcomes = _locks(settlements, alone=alone), _outcomes(settlements)
    results = run_steered(worker_health.look(well), *locks, *outcomes, within=_within())
    if ill := results.pop(0):
        worker_health.recover(ill, _results(given, {name for name, *_ in ill}))
    groups = _kept(results[0])
    written = {(id_, number): bool(is_parent) for id_, number, is_parent in results[len(locks)]}
    live = [s for s in settlements if _key(s) in written]
    merged = _share_with_duplicates([s for s in live if s.lease.key])
    _refuse_company(live, {leader for *_, leader in merged if leader})
    parents = [_parent(s) for s in live if written[_key(s)]]
    parents += [{"id": id_, "done": 1, "wait": 0.0} for id_, _, complete, _ in merged if complete]
    note.updated((s.lease.group_id, s.lease.task_id) for s in live)
    note.updated((group_id, id_) for id_, group_id, *_ in merged)
    note.updated(_tell_children(parents, note))
    failpoints.reach("mid_settle")
    note.created(_create_children(live, groups, note))
    for s in live if alone else ():
        note.created(_renew_children(s, groups, merged, note))
    _hold_workgroups(live)
    # As they came: the ids of a late answer's children may be in use by those of the next answer.
    is_whole = len(live) == len(given)
    others = [] if is_whole else [s for s in weighed if _key(s) not in written]
    held = _still_held(others, groups)
    ended = [s for s in given if _fence(s) not in held] if held else given
    late = [] if is_whole else [s for s in ended if _key(s) not in written]
    _record_late(late)
    cut_calls.settled(late=[s.lease for s in late], may_run=[s.lease for s in ended if s.may_run])
    return Settled(len(live), len(others) - len(held), tuple(held.values()))


def _within() -> Within | None:
    haste = _haste.get()
    return haste.within if haste else None


def _skips() -> bool:
    haste = _haste.get()
    return haste is not None and haste.skips and on_postgres()


def _fault(settlement: Settlement) -> Fault:
    if settlement.is_weighed or not isinstance(settlement.outcome, Failed):
        return Fault.NONE
    return outages.fault(settlement.status, settlement.fault)


def _results(settlements: Sequence[Settlement], workers: Container[str]) -> list[Result]:
    """What they say of these workers; those that say nothing are left out."""
    results = []
    for s in settlements:
        lease, fault = s.lease, _fault(s)
        if lease.worker in workers and (fault or _is_answer(s)):
            results.append(
                Result(lease.worker, lease.task_id, lease.attempt, fault, _error(s.outcome))
            )
    return results


def _is_answer(settlement: Settlement) -> bool:
    return settlement.status is not None and not settlement.is_weighed


def _bear_with(
    settlements: Sequence[Settlement], verdicts: Mapping[tuple[str, int], Verdict]
) -> list[Settlement]:
    """Failures of a worker as a whole wait longer, and may cost their tasks no attempt."""
    if not verdicts:
        return list(settlements)
    return [_borne(s, verdicts.get(_key(s))) for s in settlements]


def _borne(settlement: Settlement, verdict: Verdict | None) -> Settlement:
    failed = settlement.outcome
    if verdict is None or not isinstance(failed, Failed):
        return settlement
    if verdict.cost is Cost.ATTEMPT:
        waits = 0.0 if failed.is_soon else verdict.seconds
        return replace(settlement, outcome=replace(failed, seconds=waits))
    is_spared = verdict.cost is Cost.NOTHING
    note = outages.SPARED + ("rests" if is_spared else "has too much")
    held = Held(verdict.seconds, failed.error, None, failed.delays, note, is_spared)
    return replace(settlement, outcome=held)


def _locks(settlements: Sequence[Settlement], *, alone: bool) -> list[Call]:
    """What keeps the groups, and decides alone about their keys."""
    ids = sorted({s.lease.group_id for s in settlements})
    keyed = sorted({s.lease.group_id for s in settlements if s.lease.key})
    which = (
        (sql.GROUPS_ALONE, sql.GROUPS_ALONE_SKIP_LOCKED)
        if alone
        else (sql.GROUPS, sql.GROUPS_SKIP_LOCKED)
    )
    return [
        (which[_skips()], {"groups": dump(ids)}),
        *([(leaders.KEY_LOCKS, {"groups": dump(keyed)})] if keyed else []),
    ]


def _refuse_company(live: Sequence[Settlement], leaders: Container[str]) -> None:
    """Raise AnswersAgainError for those that completed tasks of their key which ran before."""
    found = {s.lease.task_id for s in live if s.lease.task_id in leaders and not s.answers_again}
    if found:
        raise AnswersAgainError(found)


def _kept(results: Sequence[tuple[Any, ...]]) -> dict[str, bool]:
    """The groups that are ours until the commit, and which of them are paused."""
    rows = json.loads(results[0][0]).items() if _skips() else results
    return {id_: bool(paused) for id_, paused in rows}


def _still_held(
    others: Sequence[Settlement], groups: Container[str]
) -> dict[tuple[str, int, str], Left]:
    """Of those that were not written, what somebody kept from us; by their fences.

    What they say of their workers is written with this transaction.
    """
    if not others or not _skips():
        return {}
    rows = [
        {"id": s.lease.task_id, "attempt": s.lease.attempt, "leased_by": s.lease.leased_by}
        for s in others
    ]
    held = set(run(sql.STILL_HELD, {"rows": dump(rows)}))
    return {
        _fence(s): Left(
            replace(s, is_weighed=True), Why.TASK if s.lease.group_id in groups else Why.GROUP
        )
        for s in others
        if _fence(s) in held
    }


def _key(settlement: Settlement) -> tuple[str, int]:
    return settlement.lease.task_id, settlement.lease.attempt


def _fence(settlement: Settlement) -> tuple[str, int, str]:
    lease = settlement.lease
    return lease.task_id, lease.attempt, lease.leased_by


def _outcomes(settlements: Sequence[Settlement]) -> list[Call]:
    """What writes the outcomes; the first gives the leases that still held."""
    rows = {"rows": "[" + ",".join(map(_row, settlements)) + "]"}
    whats = [sql.OUTCOMES] if on_postgres() else [sql.LIVE, sql.HISTORY, sql.WRITE]
    if _skips():
        whats = [sql.OUTCOMES_SKIP_LOCKED]
    return [(what, rows) for what in whats]


def _row(settlement: Settlement) -> str:
    """The settlement as JSON; the output is spliced in as it came."""
    lease, outcome, transcript = settlement.lease, settlement.outcome, settlement.transcript
    status = "null" if settlement.status is None else settlement.status
    spared = "true" if getattr(outcome, "is_spared", False) else "false"
    soon = "true" if getattr(outcome, "is_soon", False) else "false"
    # Piece by piece: a dict would cost three times as much, for each task.
    return (
        f'{{"id":{quote(lease.task_id)},"group":{quote(lease.group_id)}'
        f',"attempt":{lease.attempt},"leased_by":{quote(lease.leased_by)}'
        f',"outcome":"{_kind(outcome)}","wait":{_wait(settlement)}'
        f',"spared":{spared},"soon":{soon},"status":{status},"error":{quote(_error(outcome))}'
        f',"note":{quote(getattr(outcome, "note", ""))}'
        f',"request":{quote(transcript.request)},"answer":{quote(transcript.answer)}'
        f',"output":{getattr(outcome, "output", None) or "null"}}}'
    )


def _wait(settlement: Settlement) -> float:
    """How long the task waits by itself: not at all where its workgroup's hold keeps it.

    So it is free with all others when somebody opens that.
    """
    is_of_hold = isinstance(settlement.outcome, Held) and _is_of_hold(settlement)
    return 0.0 if is_of_hold else getattr(settlement.outcome, "seconds", 0.0)


def _is_of_hold(settlement: Settlement) -> bool:
    outcome = settlement.outcome
    return isinstance(outcome, Held) and _hold(settlement) >= outcome.seconds


def _hold(settlement: Settlement) -> float:
    """How long the answer holds the task's workgroup; 0 for not at all."""
    is_meant = isinstance(settlement.outcome, Completed | Failed | Held)
    if not is_meant or not settlement.lease.workgroup:
        return 0.0
    return float(getattr(settlement.outcome, "delays", Delays()).workgroup)


def _kind(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()


def _error(outcome: Outcome) -> str:
    return getattr(outcome, "error", "")


def _refuse_children(settlements: Sequence[Settlement]) -> list[Settlement]:
    """Children whose ids are taken make their answer a failure; nothing of it is created."""
    makers = [s for s in settlements if isinstance(s.outcome, Completed) and s.outcome.children]
    if not makers:
        return list(settlements)
    named = [
        child.id
        for s in makers
        for child in s.outcome.children  # type: ignore[union-attr]
        if child.is_named
    ]
    if named:
        run_steered(within=_within())
    taken = _taken(makers, named)
    late = _late_among(makers) if len(set(named)) < len(named) else set()
    checked = []
    for settlement in settlements:
        children = getattr(settlement.outcome, "children", ())
        if _key(settlement) in late:
            children = ()
        clash = next((child.id for child in children if child.id in taken), None)
        if clash is not None:
            by = ", by a task that no answer to this one made" if settlement.answers_again else ""
            settlement = _failed(settlement, f"child id {clash!r} is in use already{by}")
        taken.update(child.id for child in children)
        checked.append(settlement)
    return checked


def _late_among(makers: Sequence[Settlement]) -> set[tuple[str, int]]:
    """Those whose lease is gone: a late answer must not take the ids of one that counts."""
    return {_key(s) for s in makers if _is_late(s.lease)}


def _taken(makers: Sequence[Settlement], named: Sequence[str]) -> set[str]:
    """Of these ids, those in use by tasks that no earlier answer to their makers made.

    Raises AnswersAgainError for a maker that turns out to have answered before.
    """
    taken = set(known(named)) if named else set()
    for s in makers:
        clashes = taken.intersection(child.id for child in s.outcome.children)  # type: ignore[union-attr]
        back = again.adoptable(s.lease, clashes) if clashes else set()
        if back and not s.answers_again:
            raise AnswersAgainError({s.lease.task_id})
        taken -= back
    return taken


def _failed(settlement: Settlement, error: str) -> Settlement:
    delays = getattr(settlement.outcome, "delays", Delays())
    return replace(settlement, outcome=Failed(error[:MAX_ERROR], None, delays))


def _share_with_duplicates(live: Sequence[Settlement]) -> list[tuple[Any, ...]]:
    """Those who shared the outcome: (id, group id, whether it is complete)."""
    if not live:
        return []
    given = {s.lease.task_id: _duplicated(s) for s in live}
    asked = {"rows": dump(list(given.values())), "most": TASKS_PER_STATEMENT}
    if not on_postgres():
        return run_together(
            (shared_outcomes.IN_COMMON, asked), (shared_outcomes.DUPLICATES, asked)
        )[1]
    shared, after = _part(run(shared_outcomes.DUPLICATES, asked | {"after": ""}))
    for part in _parts(shared_outcomes.DUPLICATES_LEFT, asked, after):
        following = sorted((pair for pair in part if pair[1]), key=itemgetter(1))
        for leader, pairs in groupby(following, key=itemgetter(1)):
            ids = [id_ for id_, _ in pairs]
            some = {"rows": dump([given[leader]]), "ids": dump(ids)}
            shared += run(shared_outcomes.DUPLICATES_SOME, some)
    return shared


def _parts(
    what: Statement, asked: Mapping[str, Any], after: str | None
) -> Iterator[list[tuple[Any, ...]]]:
    """What is left behind `after`, in parts that one statement may write; None is nothing."""
    while after is not None:
        found = run(what, {**asked, "after": after, "most": FOUND})
        yield from (
            found[at : at + TASKS_PER_STATEMENT] for at in range(0, len(found), TASKS_PER_STATEMENT)
        )
        after = found[-1][0] if len(found) == FOUND else None


def _part(rows: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], str | None]:
    """The rows, and the id behind which more may be left: the row without a group."""
    after = next((id_ for id_, group_id, *_ in rows if id_ and group_id is None), None)
    return [row for row in rows if row[0] is None or row[1] is not None], after


def _duplicated(settlement: Settlement) -> dict[str, Any]:
    outcome = settlement.outcome
    is_long = isinstance(outcome, Completed) and len(outcome.output or "") > COPIED
    is_shared = is_long and time.monotonic() >= shares_from
    return {
        "id": settlement.lease.task_id,
        "outcome": _kind(outcome),
        "error": _error(outcome),
        "wait": getattr(outcome, "seconds", 0.0),
        "workgroup": settlement.lease.workgroup if _is_of_hold(settlement) else None,
        "shared": uuid4().hex if is_shared else None,
    }


def _parent(settlement: Settlement) -> dict[str, Any]:
    """What the answer does to the children that the task has already."""
    return {
        "id": settlement.lease.task_id,
        "done": int(isinstance(settlement.outcome, Completed)),
        "wait": _children_delay(settlement),
    }


def _children_delay(settlement: Settlement) -> float:
    return float(getattr(settlement.outcome, "delays", Delays()).children)


def _tell_children(parents: Sequence[dict[str, Any]], note: changes.Note) -> list[tuple[str, str]]:
    """Free children of a parent and put them off; return those that look otherwise now.

    Nothing else tells of a child that is free and is not claimed, as it has no worker or no slot.
    """
    rows = [row for row in parents if row["done"] or row["wait"]]
    touched = []
    for at in range(0, len(rows), FOUND):
        touched += _tell_children_of(rows[at : at + FOUND])
    note.lanes.update(Lane(*lane) for _, _, *lane in touched if lane[0])
    waits = any(row["wait"] for row in rows)
    shown = [row for row in touched if row[1] and (waits or row[2] is not None)]
    return [(group_id, id_) for id_, group_id, *_ in shown]


def _tell_children_of(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    asked = {"rows": dump(rows), "after": "", "most": TASKS_PER_STATEMENT}
    touched, after = _part(run(children.CHILDREN, asked))
    for part in _parts(children.CHILDREN_LEFT, asked, after):
        some = [{"id": id_, "done": done, "wait": wait} for id_, done, wait in part]
        touched += run(children.CHILDREN_SOME, {"rows": dump(some)})
    return touched


def _create_children(
    live: Sequence[Settlement], paused: Mapping[str, bool], note: changes.Note
) -> list[tuple[str, str]]:
    """All children of each answer; their maker, complete by now, is their last parent."""
    makers = (s for s in live if getattr(s.outcome, "children", ()) and not s.answers_again)
    families = [_family(s, paused) for s in makers]
    create.insert(families)
    children = (child for family in families for child in family.specs)
    note.lanes.update(Lane(child.worker, child.workgroup, child.priority) for child in children)
    return [(family.group_id, child.id) for family in families for child in family.specs]


def _renew_children(
    settlement: Settlement,
    paused: Mapping[str, bool],
    merged: Sequence[tuple[Any, ...]],
    note: changes.Note,
) -> list[tuple[str, str]]:
    """The same for a repeated answer; return only those that were not there."""
    if not settlement.answers_again or not isinstance(settlement.outcome, Completed):
        return []
    lease = settlement.lease
    twins = [id_ for id_, *_, leader in merged if leader == lease.task_id]
    new = again.renew(_family(settlement, paused), twins, note)
    return [(lease.group_id, id_) for id_ in new]


def _family(settlement: Settlement, paused: Mapping[str, bool]) -> Family:
    lease = settlement.lease
    return Family(
        lease.group_id,
        getattr(settlement.outcome, "children", ()),
        paused[lease.group_id],
        created_by=lease.task_id,
        delay=_children_delay(settlement),
    )


def _hold_workgroups(live: Sequence[Settlement]) -> None:
    holds: defaultdict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    for s in live:
        if s.lease.workgroup and (wait := _hold(s)):
            given = (wait, s.lease.task_id)
            holds[s.lease.workgroup] = max(holds[s.lease.workgroup], given)
    rows = [{"name": name, "wait": wait, "by": by} for name, (wait, by) in sorted(holds.items())]
    if rows:
        run(sql.HOLD, {"rows": dump(rows)})
        changes.workgroup_changed(row["name"] for row in rows)  # type: ignore[misc]


def _record_late(late: Sequence[Settlement]) -> None:
    """Those that are answers: not what a rescue finds settled, was never sent, or we cut."""
    answers = [s for s in late if not isinstance(s.outcome, Abandoned | Returned | Interrupted)]
    record(
        [
            LateAnswer(s.lease, _kind(s.outcome), s.status, _error(s.outcome), s.transcript)
            for s in answers
        ]
    )

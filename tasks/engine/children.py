"""What an answer does below its task: children are created, freed, put off, or refused."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..create import insert
from ..rules.decide import MAX_ERROR, Completed, Delays, Failed
from ..rules.fair_share import Lane
from ..rules.jsonio import dump
from ..sql import children as sql
from ..sql import run, run_steered
from ..store import changes
from ..store.rows import Family, known
from ..verbs import earlier_children
from . import haste, parts
from .late_answers import is_late
from .settlement import AnswersAgainError, Settlement


def refuse_taken(settlements: Sequence[Settlement]) -> list[Settlement]:
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
        run_steered(within=haste.within())
    taken = _taken(makers, named)
    late = _late_among(makers) if len(set(named)) < len(named) else set()
    checked = []
    for settlement in settlements:
        children = getattr(settlement.outcome, "children", ())
        if settlement.key in late:
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
    return {s.key for s in makers if is_late(s.lease)}


def _taken(makers: Sequence[Settlement], named: Sequence[str]) -> set[str]:
    """Of these ids, those in use by tasks that no earlier answer to their makers made.

    Raises AnswersAgainError for a maker that turns out to have answered before.
    """
    taken = set(known(named)) if named else set()
    for s in makers:
        clashes = taken.intersection(child.id for child in s.outcome.children)  # type: ignore[union-attr]
        back = earlier_children.adoptable(s.lease, clashes) if clashes else set()
        if back and not s.answers_again:
            raise AnswersAgainError({s.lease.task_id})
        taken -= back
    return taken


def _failed(settlement: Settlement, error: str) -> Settlement:
    delays = getattr(settlement.outcome, "delays", Delays())
    return replace(settlement, outcome=Failed(error[:MAX_ERROR], None, delays))


def parent(settlement: Settlement) -> dict[str, Any]:
    """What the answer does to the children that the task has already."""
    return {
        "id": settlement.lease.task_id,
        "done": int(isinstance(settlement.outcome, Completed)),
        "wait": settlement.children_delay,
    }


def free(parents: Sequence[dict[str, Any]], touched: changes.ChangedTasks) -> list[tuple[str, str]]:
    """Free children of a parent and put them off; return those that look otherwise now.

    Nothing else tells of a child that is free and is not claimed, as it has no worker or no slot.
    """
    rows = [row for row in parents if row["done"] or row["wait"]]
    changed = []
    for at in range(0, len(rows), parts.FOUND):
        changed += _free_of(rows[at : at + parts.FOUND])
    touched.lanes.update(Lane(*lane) for _, _, *lane in changed if lane[0])
    waits = any(row["wait"] for row in rows)
    shown = [row for row in changed if row[1] and (waits or row[2] is not None)]
    return [(group_id, id_) for id_, group_id, *_ in shown]


def _free_of(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    asked = {"rows": dump(rows), "after": "", "most": parts.TASKS_PER_STATEMENT}
    touched, after = parts.part(run(sql.CHILDREN, asked))
    for part in parts.parts(sql.CHILDREN_LEFT, asked, after):
        some = [{"id": id_, "done": done, "wait": wait} for id_, done, wait in part]
        touched += run(sql.CHILDREN_SOME, {"rows": dump(some)})
    return touched


def create(
    live: Sequence[Settlement], paused: Mapping[str, bool], touched: changes.ChangedTasks
) -> list[tuple[str, str]]:
    """All children of each answer; their maker, complete by now, is their last parent."""
    makers = (s for s in live if getattr(s.outcome, "children", ()) and not s.answers_again)
    families = [_family(s, paused) for s in makers]
    insert(families)
    children = (child for family in families for child in family.specs)
    touched.lanes.update(Lane(child.worker, child.workgroup, child.priority) for child in children)
    return [(family.group_id, child.id) for family in families for child in family.specs]


def renew(
    settlement: Settlement,
    paused: Mapping[str, bool],
    merged: Sequence[tuple[Any, ...]],
    touched: changes.ChangedTasks,
) -> list[tuple[str, str]]:
    """The same for a repeated answer; return only those that were not there."""
    if not settlement.answers_again or not isinstance(settlement.outcome, Completed):
        return []
    lease = settlement.lease
    twins = [id_ for id_, *_, leader in merged if leader == lease.task_id]
    family = _family(settlement, paused)
    new = earlier_children.renew(family, twins, touched, is_small=not haste.clears())
    return [(lease.group_id, id_) for id_ in new]


def _family(settlement: Settlement, paused: Mapping[str, bool]) -> Family:
    lease = settlement.lease
    return Family(
        lease.group_id,
        getattr(settlement.outcome, "children", ()),
        paused[lease.group_id],
        created_by=lease.task_id,
        delay=settlement.children_delay,
    )

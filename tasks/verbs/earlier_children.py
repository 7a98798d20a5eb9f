"""A task that ran before answers again: the children that its earlier answers made come back or go.

A child of the same id and the same maker is the same child: what the new answer says of it takes
its place, and it is as if it had never run. Those that the new answer does not name go, with the
descendants that are left without any parent; seeds stay, and what is complete if a person chose so.
What is too much for the answer's own transaction is cleared away before it, in slices.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q

from .. import create
from ..models import ParentEdge, Task
from ..rules import graph
from ..rules.fair_share import Lane
from ..rules.jsonio import dump
from ..sql import Within, run, run_steered, run_together
from ..sql import again as sql
from ..sql import create as create_sql
from ..sql.control import ANCESTORS, BELOW, COUNT_BELOW
from ..sql.probes import among, probed
from ..store import changes, edges, rows
from ..store.rows import Family
from . import acting, deleting, slices

if TYPE_CHECKING:
    from ..engine.lease import Lease

WHY = "the task that made it has answered again"
MOST_BELOW = 2_000  # tasks below those that go, with which they go in the answer's transaction


class TooManyError(Exception):
    """More would have to go than one transaction takes: `clear` that away first."""

    def __init__(self) -> None:
        super().__init__("too much that earlier answers made has to go")


@dataclass(frozen=True, slots=True)
class Made:
    """What an earlier answer made. `hangs`: its maker is still one of its parents.

    `keeps` says that its maker keeps what is complete.
    """

    id: str
    is_complete: bool
    is_seed: bool
    hangs: bool
    keeps: bool


def adoptable(lease: "Lease", ids: Collection[str]) -> set[str]:
    """Of these tasks, those that an answer under the lease may name as its children.

    An earlier answer to its task made them, or one to a task of its key that it completes too.
    """
    found = run(sql.MAKERS, {"ids": dump(list(ids))})
    makers = {
        id_: (maker, maker == lease.task_id and hangs)
        for id_, group_id, maker, key, hangs in found
        if group_id == lease.group_id and (maker == lease.task_id or (key and key == lease.key))
    }
    if all(hangs for _, hangs in makers.values()):
        return set(makers)  # they are below it: nothing else is to be looked at
    below = {child for child, _ in run(BELOW, {"ids": dump([lease.task_id])})}
    ours = {
        id_ for id_, (maker, _) in makers.items() if maker == lease.task_id or maker not in below
    }
    return ours - _above(lease.task_id)


def renew(
    family: Family, twins: Sequence[str], touched: changes.ChangedTasks, *, is_small: bool = False
) -> list[str]:
    """Store the children of a task that ran before; return the ids of those that are new.

    `twins` were completed with it, and ran before. The caller holds the group alone. Raises
    TooManyError if it `is_small`, what may be done, and more has to go.
    """
    earlier = _earlier(family.created_by, twins)
    kept = {made.id for made in earlier.values() if made.is_complete and made.keeps}
    named = {spec.id for spec in family.specs}
    staying = {*named, *kept, *twins}
    if is_small:
        _refuse_many([id_ for id_ in earlier if id_ not in staying])
    touched.updated(_remove(family, earlier, staying=staying))
    back = [spec for spec in family.specs if spec.id in earlier.keys() - kept]
    new = [spec for spec in family.specs if spec.id not in earlier]
    touched.updated(_adopt(replace(family, specs=back, complete=kept)))
    for id_ in (made.id for made in earlier.values() if not made.hangs and made.id in named):
        parted = edges.part_from_ancestors(family.group_id, id_)
        touched.updated((family.group_id, one) for one in parted)
    create.insert([replace(family, specs=new, complete=kept)])
    waiting = edges.children([spec.id for spec in back])
    edges.recount(family.group_id, waiting)
    touched.updated((family.group_id, id_) for id_ in waiting)
    touched.lanes.update(Lane(spec.worker, spec.workgroup, spec.priority) for spec in family.specs)
    changes.wake_schedulers()
    return [spec.id for spec in new]


def clear(lease: "Lease", named: Collection[str], *, within: Within, seconds: float) -> bool:
    """Delete what an answer that names these children takes away; whether all of it is gone.

    In slices, whose lock and statements wait `within` that, for some `seconds`; children first, so
    that nothing starts for it. It ends where the lease does.
    """
    followers = Task.objects.filter(merged_into=lease.task_id, attempt__gt=0)
    twins = list(followers.values_list("id", flat=True))
    with slices.looking():
        earlier = _earlier(lease.task_id, twins).values()
        keeps = any(made.keeps for made in earlier)
        staying = {*named, *twins}
        going = _going(earlier, staying, keep_complete=keeps)
        ordered = graph.children_first(going, edges.below(going))
    work = partial(_clear_some, lease, staying, keeps)
    slices.each(lease.group_id, ordered, work, hold=partial(_alone, within), seconds=seconds)
    return not acting.found(lease.group_id, ordered[-1:], {})


def replaceable(ids: Sequence[str], *, keep_complete: bool) -> list[str]:
    """What goes if these tasks are reset, answer again and name nothing of it."""
    reset = set(ids)
    made = (
        replace(m, is_complete=m.is_complete and m.id not in reset) for m in _made(ids).values()
    )
    return _going(list(made), set(), keep_complete=keep_complete)


def _made(ids: Sequence[str]) -> dict[str, Made]:
    """What earlier answers to these tasks made, by id."""
    found = run(sql.MADE, {"ids": dump(list(ids))})
    return {
        id_: Made(id_, bool(is_complete), bool(is_seed), bool(hangs), bool(keeps))
        for id_, is_complete, is_seed, hangs, keeps in found
    }


def _earlier(maker: str, twins: Sequence[str]) -> dict[str, Made]:
    """The same of a task and its twins, but for what that has come to wait for."""
    earlier = _made([maker, *twins])
    if twins or not all(made.hangs for made in earlier.values()):
        for id_ in _above(maker) & earlier.keys():
            del earlier[id_]
    return earlier


def _above(maker: str) -> set[str]:
    """The task, and all that it waits or waited for."""
    return {id_ for (id_,) in run(ANCESTORS, {"ids": dump([maker])})}


def _remove(
    family: Family, earlier: dict[str, Made], *, staying: set[str]
) -> list[tuple[str, str]]:
    """Delete what the new answer does not name; return (group id, id) of what lost a parent."""
    group_id = family.group_id
    keeps = any(made.keeps for made in earlier.values())
    going = _going(earlier.values(), staying, keep_complete=keeps)
    edges.lock(group_id, going)
    gone = set(going)
    freed = [id_ for id_ in edges.children(going) if id_ not in gone]
    edges.remove(group_id, going)
    edges.recount(group_id, freed)
    return [(group_id, id_) for id_ in freed]


def _going(earlier: Iterable[Made], staying: set[str], *, keep_complete: bool) -> list[str]:
    """What goes of it, with what is left without any parent."""
    staying = staying | {
        made.id for made in earlier if made.is_seed or (keep_complete and made.is_complete)
    }
    unnamed = [made.id for made in earlier if made.id not in staying]
    return _with_orphans(unnamed, staying, keep_complete=keep_complete)


def _with_orphans(going: list[str], staying: Collection[str], *, keep_complete: bool) -> list[str]:
    """These, and the descendants that go with them."""
    if not going:
        return []
    stays = Q(is_seed=True) | Q(is_complete=True) if keep_complete else Q(is_seed=True)
    below = edges.with_orphans(going, staying)[len(going) :]
    exempt = Task.objects.filter(among("id", below)).filter(stays).values_list("id", flat=True)
    return edges.with_orphans(going, {*staying, *exempt}) if below else going


def _refuse_many(unnamed: list[str]) -> None:
    """Raise TooManyError; looks no further than it has to."""
    asked = {"ids": dump(unnamed), "most": len(unnamed) + MOST_BELOW}
    if unnamed and run(COUNT_BELOW, asked)[0][0] == asked["most"]:
        raise TooManyError


@contextmanager
def _alone(within: Within, group_id: str) -> Iterator[None]:
    """The group held alone, but nobody waited for."""
    with transaction.atomic():
        run_steered((create_sql.GROUP_ALONE, {"group": group_id}), within=within)
        yield


def _clear_some(lease: "Lease", staying: Collection[str], keeps: bool, ids: Sequence[str]) -> int:
    """A slice, whose descendants are gone: but for those made meanwhile."""
    fence = {"attempt": lease.attempt, "leased_by": lease.leased_by}
    if not acting.found(lease.group_id, [lease.task_id], fence):
        return 0
    there = acting.found(lease.group_id, ids, {})
    going = _with_orphans(there, staying, keep_complete=keeps)
    deleting.take_away(lease.group_id, going, is_told=False)
    return len(going)


def _adopt(family: Family) -> list[tuple[str, str]]:
    """Recreate these children in their place; return (group id, id) of each task changed."""
    ids = [spec.id for spec in family.specs]
    if not ids:
        return []
    edges.stop_attempts(family.group_id, ids, WHY)
    released = edges.release_followers(family.group_id, ids)
    edges.update(ids, **edges.UNRUN)
    edges.raw_delete(ParentEdge.objects.filter(probed("child_id", ids)))
    run_together(*rows.statements([family], sql.ADOPT))
    return [(family.group_id, id_) for id_ in [*ids, *released]]

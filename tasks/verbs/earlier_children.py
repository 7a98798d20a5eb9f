"""A task that ran before answers again: the children that its earlier answers made come back or go.

A child of the same id and the same maker is the same child: what the new answer says of it takes
its place, and it is as if it had never run. Those that the new answer does not name go, with the
descendants that are left without any parent; seeds stay, and what is complete if a person chose so.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.db.models import Q

from .. import create
from ..models import ParentEdge, Task
from ..rules.fair_share import Lane
from ..rules.jsonio import dump
from ..sql import again as sql
from ..sql import run, run_together
from ..sql.control import ANCESTORS, BELOW
from ..sql.probes import among, probed
from ..store import changes, edges, rows
from ..store.rows import Family

if TYPE_CHECKING:
    from ..engine.lease import Lease

WHY = "the task that made it has answered again"


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
        id_: maker
        for id_, group_id, maker, key in found
        if group_id == lease.group_id and (maker == lease.task_id or (key and key == lease.key))
    }
    if not makers:
        return set()
    below = {child for child, _ in run(BELOW, {"ids": dump([lease.task_id])})}
    ours = {id_ for id_, maker in makers.items() if maker == lease.task_id or maker not in below}
    return ours - _above(lease.task_id)


def renew(family: Family, twins: Sequence[str], touched: changes.Touched) -> list[str]:
    """Store the children of a task that ran before; return the ids of those that are new.

    `twins` were completed with it, and ran before. The caller holds the group alone.
    """
    earlier = _earlier(family, twins)
    kept = {made.id for made in earlier.values() if made.is_complete and made.keeps}
    named = {spec.id for spec in family.specs}
    touched.updated(_remove(family, earlier, staying={*named, *kept, *twins}))
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


def _earlier(family: Family, twins: Sequence[str]) -> dict[str, Made]:
    """The same of a task and its twins, but for what that has come to wait for."""
    maker = family.created_by
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
    if not unnamed:
        return []
    stays = Q(is_seed=True) | Q(is_complete=True) if keep_complete else Q(is_seed=True)
    below = edges.with_orphans(unnamed, staying)[len(unnamed) :]
    exempt = Task.objects.filter(among("id", below)).filter(stays).values_list("id", flat=True)
    return edges.with_orphans(unnamed, staying | set(exempt)) if below else unnamed


def _adopt(family: Family) -> list[tuple[str, str]]:
    """Recreate these children in their place; return (group id, id) of each task changed."""
    ids = [spec.id for spec in family.specs]
    if not ids:
        return []
    edges.stop_attempts(family.group_id, ids, WHY)
    released = edges.release_followers(family.group_id, ids)
    edges.update(ids, **edges.UNRUN)
    edges.raw_delete(ParentEdge.objects.filter(probed("child_id", ids)))
    run_together(*rows.calls([family], sql.ADOPT))
    return [(family.group_id, id_) for id_ in [*ids, *released]]

"""Due tasks become leases. Never any HTTP."""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction

from ..conf import conf
from ..rules import fair_share
from ..rules.fair_share import Lane
from ..rules.jsonio import dump
from ..rules.payload import Brought
from ..sql import claim as sql
from ..sql import lanes, leaders, on_postgres, run, run_steered, run_together, worker_rooms
from ..store import changes
from ..store.payloads import Loader, asking, budget
from . import failpoints
from .lane_walk import Part, Walk
from .lease import Lease, lease_of

NONE: Mapping[str, Lane] = {}

Run = Callable[..., list[list[tuple[Any, ...]]]]  # run_together or run_steered
Divide = Callable[..., dict[Lane, int]]  # `fair_share.share` for one scheduler as it is now


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one claim took, and when to look again.

    `unfit` are leases whose calls have no room in memory now: they go back. `more` says that due
    tasks were left behind; `wait` is the seconds until the next scheduled task is due, None if
    none is; `goes_on`: there are lanes that the next claim looks at, at once.
    """

    leases: tuple[Lease, ...] = ()
    unfit: tuple[Lease, ...] = ()
    more: bool = False
    wait: float | None = None
    goes_on: bool = False


def claim(
    me: str,
    *,
    slots: int,
    total: int,
    busy: Mapping[str, int],
    answering: Collection[str] = (),
    walk: Walk | None = None,
    beside: Sequence[str] = (),
    barred: Mapping[str, Lane] = NONE,
    chance: random.Random | None = None,
    room: int | None = None,
) -> Claimed:
    """Lease up to `slots` due tasks to the scheduler `me`, committed when this returns.

    `total` is all slots of the scheduler, `busy` its attempts in flight by worker, `answering` the
    workers that answered its last call: they only steer fairness (`fair_share.share`). `walk` is
    where its claims are in their way over all lanes; None begins one. `beside` are
    groups of which nothing is taken: their answers cannot be written for now; `barred` are tasks
    that cannot be leased, with their lanes. `chance` draws the lots of equal lanes.
    `room` are the bytes that the calls may hold; None = a budget of which nothing is used.
    """
    # On SQLite a transaction takes the one write lock, which an idle poll must not.
    walk, past = walk or Walk(), _Past(beside, barred)
    looked = None if on_postgres() else _look(slots, walk, past)
    if looked and not looked.due:
        return Claimed(wait=looked.wait, goes_on=looked.goes_on)
    divide = partial(
        fair_share.share, slots=slots, total=total, busy=busy, answering=answering, chance=chance
    )
    with transaction.atomic():
        looked = looked or _look(slots, walk, past)
        return _claim(me, looked, divide, past, room, changes.ChangedTasks())


def claim_within(
    me: str,
    *,
    slots: int,
    total: int,
    busy: Mapping[str, int],
    answering: Collection[str],
    walk: Walk,
    beside: Sequence[str],
    barred: Mapping[str, Lane] = NONE,
    room: int | None = None,
    touched: changes.ChangedTasks,
) -> Claimed:
    """The same inside the transaction of a settle: nothing of it may be sent before its commit.

    Writes the `touched` that the settle began, and looks at the lanes where that freed tasks.
    """
    walk.freed(touched.lanes, time.monotonic())
    past = _Past(beside, barred)
    looked = _look(slots, walk, past, run_together)  # the settle has steered
    divide = partial(fair_share.share, slots=slots, total=total, busy=busy, answering=answering)
    return _claim(me, looked, divide, past, room, touched)


def _claim(
    me: str,
    looked: "_Looked",
    divide: Divide,
    past: "_Past",
    room: int | None,
    touched: changes.ChangedTasks,
) -> Claimed:
    if not looked.due:
        touched.write()
        return Claimed(wait=looked.wait, goes_on=looked.goes_on)
    failpoints.reach("after_select")
    rooms = fair_share.tightest(_rooms(looked.limited), _rooms_of_ill(looked.ill))
    shares = divide(looked.due, rooms=rooms)
    rows = _take(me, shares, past, touched) if shares else []
    leases, unfit = _loaded(me, rows, touched, budget() if room is None else room)
    more = len(leases) < sum(looked.due.values()) or looked.is_part
    return Claimed(tuple(leases), tuple(unfit), more, looked.wait, looked.goes_on)


def lane_params(lane: Lane, n: int) -> dict[str, Any]:
    """The parameters of a statement for `n` tasks of a lane."""
    return {"worker": lane.worker, "workgroup": lane.workgroup, "priority": lane.priority, "n": n}


@dataclass(frozen=True, slots=True)
class _Past:
    """What a claim does not take."""

    groups: Sequence[str]
    barred: Mapping[str, Lane]


@dataclass(frozen=True, slots=True)
class _Looked:
    """How many tasks of each lane are due; which of their workers have a limit, or failed.

    `is_part`: other lanes may have due tasks too.
    """

    due: dict[Lane, int]
    wait: float | None
    limited: list[str]
    ill: list[str]
    goes_on: bool
    is_part: bool


def _look(slots: int, walk: Walk, past: _Past, ask: Run = run_steered) -> _Looked:
    part = walk.part(time.monotonic())
    found, known = _seen(part, slots + len(past.barred), ask)
    now = time.monotonic()
    walk.seen(part, found, known, now)
    rows = [row for row in (*known, *found) if row[3]]
    all_limited = conf.CREW_WORKER_MAX_CONCURRENCY is not None
    due = {Lane(*row[:3]): row[3] for row in rows}
    return _Looked(
        due=_without(due, Counter(past.barred.values()), slots) if past.barred else due,
        wait=walk.wait(now),
        limited=sorted({row[0] for row in rows if all_limited or row[5] is not None}),
        ill=sorted({row[0] for row in rows if row[6]}),
        goes_on=walk.goes_on,
        is_part=walk.goes_on or walk.hides_some,
    )


def _without(due: Mapping[Lane, int], barred: Mapping[Lane, int], most: int) -> dict[Lane, int]:
    """What is due beside that, or a lane would be given slots that it cannot use."""
    left = {lane: min(most, n - barred.get(lane, 0)) for lane, n in due.items()}
    return {lane: n for lane, n in left.items() if n > 0}


def _seen(part: Part, slots: int, ask: Run) -> list[list[tuple[Any, ...]]]:
    """The lanes of this part as they are now: those in turn, and those that are known."""
    worker, workgroup, priority = part.place
    behind = {"worker": worker, "workgroup": workgroup, "priority": priority}
    in_turn = (lanes.LANES, behind | {"lanes": part.count, "most": slots})
    known = (lanes.KNOWN_LANES, {"known": _sent(part.known), "most": slots})
    calls = [in_turn] * bool(part.count) + [known] * bool(part.known)
    results = ask(*calls) if calls else []
    return [results[0] if part.count else [], results[-1] if part.known else []]


def _sent(lanes: Iterable[Lane]) -> str:
    return dump([[lane.worker, lane.workgroup, lane.priority] for lane in lanes])


def _rooms(workers: Sequence[str]) -> dict[str, int | None]:
    """The room of each worker that has a limit, its row locked until the claim is committed.

    Nobody's while somebody else has the row: another claim for a moment, or whoever forgot it.
    """
    if not workers:
        return {}
    default = conf.CREW_WORKER_MAX_CONCURRENCY
    rows = run(worker_rooms.WORKERS, {"workers": dump(workers), "default": default})
    ours = {name: limit for name, limit, is_ours in rows if is_ours}
    rooms: dict[str, int | None] = {name: 0 for name, _, is_ours in rows if not is_ours}
    in_flight = run(worker_rooms.IN_FLIGHT, {"workers": dump(list(ours))}) if ours else []
    for name, count in in_flight:
        limit = default if ours[name] is None else ours[name]
        rooms[name] = fair_share.room(limit, count)
    return rooms


def _rooms_of_ill(workers: Sequence[str]) -> dict[str, int | None]:
    """The room of each worker that failed, its row locked until then; none where others hold it."""
    if not workers:
        return {}
    rows = run(worker_rooms.TRIED, {"workers": dump(workers)})
    trying = dict(run(worker_rooms.TRYING, {"workers": dump([name for name, _ in rows])}))
    known = {
        name: fair_share.room(None if allowed is None else int(allowed), trying[name])
        for name, allowed in rows
    }
    return {name: known.get(name, 0) for name in workers}


def _take(
    me: str, shares: Mapping[Lane, int], past: "_Past", touched: changes.ChangedTasks
) -> list[tuple[Any, ...]]:
    """Lease the shares; of the tasks with a key, those that are first of it."""
    if on_postgres():
        leased, keyed = _take_on_postgres(me, shares, past)
    else:
        leased, keyed = _take_on_sqlite(me, shares, past)
    if keyed:
        leased += _take_keyed(me, keyed, touched)
    return leased


def _take_on_postgres(
    me: str, shares: Mapping[Lane, int], past: "_Past"
) -> tuple[list[tuple[Any, ...]], list[tuple[str, str, str]]]:
    params = {"lanes": dump([lane_params(lane, n) for lane, n in shares.items()]), "me": me}
    if past.groups or past.barred:
        beside = {"groups": dump(past.groups), "barred": dump(list(past.barred))}
        rows = run(sql.CLAIM_BESIDE, params | beside)
    else:
        rows = run(sql.CLAIM, params)
    keyed = [(row[0], row[5], row[2]) for row in rows if row[1] is None]
    return [row for row in rows if row[1] is not None], keyed


def _take_on_sqlite(
    me: str, shares: Mapping[Lane, int], past: "_Past"
) -> tuple[list[tuple[Any, ...]], list[tuple[str, str, str]]]:
    barred = {"barred": dump(list(past.barred))}
    picked = [
        row for lane, n in shares.items() for row in run(sql.PICK, lane_params(lane, n) | barred)
    ]
    plain = [id_ for id_, key, _ in picked if not key]
    leased = run(sql.LEASE, {"ids": dump(plain), "me": me}) if plain else []
    return leased, [(id_, key, group) for id_, key, group in picked if key]


def _take_keyed(
    me: str, picked: Sequence[tuple[str, str, str]], touched: changes.ChangedTasks
) -> list[tuple[Any, ...]]:
    """Lease one task of each key; every other task of that key follows it (contract part 3)."""
    groups = sorted({group for _, _, group in picked})
    locked = {row[0] for row in run(leaders.KEY_LOCKS_SKIP_LOCKED, {"groups": dump(groups)})}
    ids = [id_ for id_, _, group in picked if group in locked]
    if not ids:
        return []
    first = [row[0] for row in run(leaders.LEADERS, {"ids": dump(ids)})]
    leased = run(sql.LEASE, {"ids": dump(first), "me": me}) if first else []
    keys = sorted({(group, key) for _, key, group in picked if group in locked})
    followed = run(
        leaders.FOLLOW, {"keys": dump([{"group_id": group, "key": key} for group, key in keys])}
    )
    touched.updated((group, id_) for id_, group in followed)
    return leased


def _loaded(
    me: str, rows: Sequence[Sequence[Any]], touched: changes.ChangedTasks, room: int
) -> tuple[list[Lease], list[Lease]]:
    """The leases with what their calls bring, read in the claim's own transaction; those unfit."""
    touched.updated((row[2], row[0]) for row in rows)
    calls = touched.statements()
    children = [row[0] for row in rows if row[8]]
    if children:
        calls.append(asking(children))
    results = run_together(*calls)
    if not children and not any(row[7] for row in rows):
        return [lease_of(me, row, Brought(row[6]), *row[9:]) for row in rows], []
    loader = Loader(results[-1] if children else [], children, room=room)
    leases, unfit = [], []
    for row in rows:
        brought = loader.fit(row[0], row[6], is_heavy=row[7], is_child=row[8])
        if brought is None:
            unfit.append(lease_of(me, row))
        else:
            leases.append(lease_of(me, row, brought, *row[9:]))
    return leases, unfit

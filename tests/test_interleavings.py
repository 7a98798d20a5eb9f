"""Every order in which two schedulers, three tasks, a fault and an operator can take their steps.

An abstract store whose guards are the fences of our SQL, and a search through all states that can
be reached. It proves the promises for these few; that it can fail is shown by guards that are
wrong. The SQL itself is held to the guards by the tests on the databases.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

A, B, C = range(3)  # C is the child of A and B
NOBODY = -1
FRESH, STALE, GONE = "fresh", "stale", "gone"
CLAIMED, SENT, GOOD, BAD = "claimed", "sent", "good", "bad"


class Task(NamedTuple):
    attempt: int = 0
    owner: int = NOBODY
    left: int = 2
    is_complete: bool = False
    is_there: bool = True


class Store(NamedTuple):
    """All that there is: rows, what schedulers have in memory, and what was seen happening.

    `calls` are what schedulers know of their leases: (task, attempt, scheduler, stage). `rescue`
    is a transaction under way: whose leases, and those it found; it has locked that row. `sent`
    and `ended` are for judging only: no guard reads them.
    """

    tasks: tuple[Task, ...] = (Task(), Task(left=1), Task())
    pending: int = 2  # of C
    beats: tuple[str, str] = (FRESH, FRESH)
    is_up: tuple[bool, bool] = (True, True)
    calls: frozenset[tuple[int, int, int, str]] = frozenset()
    rescue: tuple[int, tuple[tuple[int, int], ...]] | None = None
    faults: int = 0
    sent: frozenset[tuple[int, int]] = frozenset()
    ended: frozenset[tuple[int, int]] = frozenset()


class Broken(Exception):
    """A promise is broken."""


Fence = Callable[[Task, int, int], bool]


def our_fence(task: Task, attempt: int, owner: int) -> bool:
    """`_LIVE` in sql/settle.py."""
    return task.attempt == attempt and task.owner == owner


@dataclass(frozen=True)
class Engine:
    """The guards; the wrong ones differ in one."""

    fence: Fence = our_fence
    rescue_fence: Fence = our_fence
    meets_strangers: bool = True
    sends_once: bool = True
    faults: int = 2


# --- The steps, each one transaction or less ---


def steps(store: Store, engine: Engine) -> Iterator[Store]:
    """What must be able to go on: without these nothing more happens by itself."""
    for me in (0, 1):
        if store.is_up[me]:
            yield from claims(store, me)
    for call in store.calls:
        yield from call_steps(store, call, engine)
    yield from rescues(store, engine)
    if engine.meets_strangers:
        for owner in {task.owner for task in store.tasks} - {NOBODY}:
            if store.beats[owner] == GONE:
                yield with_beat(store, owner, STALE)
    for me in (0, 1):
        if not store.is_up[me] and store.beats[me] == FRESH:
            yield with_beat(store, me, STALE)  # the clock goes on


def disturbances(store: Store, engine: Engine) -> Iterator[Store]:
    """What may happen, but need not: heartbeats, faults, operators."""
    for me in (0, 1):
        is_locked = store.rescue is not None and store.rescue[0] == me
        if store.is_up[me] and store.beats[me] != FRESH and not is_locked:
            yield with_beat(store, me, FRESH)
    if store.faults == engine.faults:
        return
    hurt = store._replace(faults=store.faults + 1)
    for me in (0, 1):
        if store.is_up[me] and store.beats[me] == FRESH:
            yield with_beat(hurt, me, STALE)  # frozen for a lease; it does not know
        if all(store.is_up):
            left = frozenset(call for call in store.calls if call[2] != me)
            up = (me != 0, me != 1)
            # A transaction of its own is rolled back; whose the rescue is does not matter.
            yield hurt._replace(is_up=up, calls=left)
            yield hurt._replace(is_up=up, calls=left, rescue=None)
    yield reset(hurt)
    for id_ in (A, C):
        if store.tasks[id_].is_there:
            yield deleted(hurt, id_)


def claims(store: Store, me: int) -> Iterator[Store]:
    for id_, task in enumerate(store.tasks):
        is_ready = task.is_there and not task.is_complete and task.left > 0
        if is_ready and task.owner == NOBODY and (id_ != C or store.pending == 0):
            if id_ == C and open_parents(store):
                raise Broken("a child starts before its parents")
            taken = task._replace(attempt=task.attempt + 1, owner=me)
            call = (id_, taken.attempt, me, CLAIMED)
            yield with_task(store, id_, taken)._replace(calls=store.calls | {call})


def call_steps(store: Store, call: tuple[int, int, int, str], engine: Engine) -> Iterator[Store]:
    id_, attempt, me, stage = call
    rest = store.calls - {call}
    if stage == CLAIMED:
        if (id_, attempt) in store.sent:
            raise Broken("an attempt is sent twice")
        on = rest if engine.sends_once else store.calls
        on |= {(id_, attempt, me, SENT)}
        yield store._replace(calls=on, sent=store.sent | {(id_, attempt)})
    elif stage == SENT:
        for answer in (GOOD, BAD):
            yield store._replace(calls=rest | {(id_, attempt, me, answer)})
    else:
        settled = settle(store, id_, attempt, me, stage == GOOD, engine.fence)
        yield settled._replace(calls=rest)
        if settled is not store and store.faults < engine.faults:
            # The commit's answer was lost: it is settled again.
            yield settled._replace(faults=store.faults + 1)


def rescues(store: Store, engine: Engine) -> Iterator[Store]:
    """Any scheduler that lives finds what a silent one holds, then writes; both may be the same."""
    if store.rescue is None:
        for lost in (0, 1):
            if store.beats[lost] == STALE and any(store.is_up):
                held = tuple(
                    (id_, task.attempt)
                    for id_, task in enumerate(store.tasks)
                    if task.owner == lost and task.is_there
                )
                yield store._replace(rescue=(lost, held))
        return
    lost, held = store.rescue
    after = store._replace(rescue=None)
    if not held:
        yield with_beat(after, lost, GONE)
        return
    for id_, attempt in held:
        after = settle(after, id_, attempt, lost, None, engine.rescue_fence)
    yield after


def settle(
    store: Store, id_: int, attempt: int, me: int, is_good: bool | None, fence: Fence
) -> Store:
    """The outcome and all that follows from it, or nothing; None is an abandoned attempt."""
    task = store.tasks[id_]
    if not task.is_there or not fence(task, attempt, me):
        return store
    if (id_, attempt) in store.ended:
        raise Broken("an attempt ends twice")
    if task.is_complete:
        raise Broken("a complete task is settled again")
    ended = store.ended | {(id_, attempt)}
    after = task._replace(owner=NOBODY, left=max(0, task.left - 1), is_complete=bool(is_good))
    freed = int(bool(is_good) and id_ != C and store.tasks[C].is_there)
    return with_task(store, id_, after)._replace(ended=ended, pending=store.pending - freed)


def reset(store: Store) -> Store:
    """Of the group: attempts in flight are given up, everything is counted again."""
    given_up = {(n, t.attempt) for n, t in enumerate(store.tasks) if t.owner != NOBODY}
    unrun = tuple(task._replace(owner=NOBODY, is_complete=False, left=1) for task in store.tasks)
    return recounted(store._replace(tasks=unrun, ended=store.ended | given_up))


def deleted(store: Store, id_: int) -> Store:
    gone = store.tasks[id_]._replace(is_there=False, owner=NOBODY)
    return recounted(with_task(store, id_, gone))


def recounted(store: Store) -> Store:
    return store._replace(pending=open_parents(store))


def open_parents(store: Store) -> int:
    return sum(task.is_there and not task.is_complete for task in store.tasks[:C])


def with_task(store: Store, id_: int, task: Task) -> Store:
    return store._replace(tasks=(*store.tasks[:id_], task, *store.tasks[id_ + 1 :]))


def with_beat(store: Store, me: int, beat: str) -> Store:
    return store._replace(beats=(beat, store.beats[1]) if me == 0 else (store.beats[0], beat))


# --- The search ---

NOTHING = Task(is_there=False)
EVERYTHING = Store()
FAMILY = Store((Task(), NOTHING, Task(left=1)), pending=1)
ALONE = Store((Task(), NOTHING, NOTHING), pending=0)


def judge(store: Store, is_end: bool) -> None:
    if store.tasks[C].is_there and store.pending != open_parents(store):
        raise Broken("a counter is wrong")
    for task in store.tasks:
        waits = task is store.tasks[C] and task.owner == NOBODY and store.pending
        if is_end and task.is_there and not task.is_complete and task.left and not waits:
            raise Broken("a task is lost")


def search(engine: Engine, start: Store = EVERYTHING) -> int:
    """Go through every state that can be reached; return how many. Raises Broken."""
    seen, queue = {canonical(start)}, [start]
    while queue:
        store = queue.pop()
        going_on = list(steps(store, engine))
        judge(store, is_end=not going_on)
        for after in (*going_on, *disturbances(store, engine)):
            same = canonical(after)
            if same not in seen:
                seen.add(same)
                queue.append(after)
    return len(seen)


def canonical(store: Store) -> tuple[Any, ...]:
    """What makes a difference for what can follow: not which of the two schedulers is which, nor
    what was sent or has ended of which nobody knows any more.
    """
    return min(_seen_from(store, 0), _seen_from(store, 1))


def _seen_from(store: Store, me: int) -> tuple[Any, ...]:
    calls = sorted((id_, attempt, by ^ me, stage) for id_, attempt, by, stage in store.calls)
    known = {(id_, attempt) for id_, attempt, _, _ in calls}
    known |= {(id_, task.attempt) for id_, task in enumerate(store.tasks)}
    tasks = [
        (
            t.attempt,
            t.owner if t.owner == NOBODY else t.owner ^ me,
            t.left,
            t.is_complete,
            t.is_there,
        )
        for t in store.tasks
    ]
    rescue = store.rescue or (NOBODY, ())
    return (
        tuple(tasks),
        tuple(calls),
        store.faults,
        store.beats[me] + store.beats[1 - me],
        store.is_up[me],
        store.is_up[1 - me],
        rescue[0] if rescue[0] == NOBODY else rescue[0] ^ me,
        rescue[1],
        tuple(sorted(known & store.sent)),
        tuple(sorted(known & store.ended)),
        store.pending,
    )


# --- What it proves ---


@pytest.mark.parametrize(
    ("start", "faults", "least"),
    [(EVERYTHING, 1, 20_000), (FAMILY, 2, 20_000), (ALONE, 2, 2_000)],
    ids=["three tasks", "parent and child", "one task"],
)
def test_no_order_of_steps_breaks_a_promise(start, faults, least):
    """No attempt is sent or ends twice, no task is lost, no child is early, no counter is wrong."""
    if os.environ.get("CREW_HYPOTHESIS_PROFILE") == "long":
        faults += 1

    states = search(Engine(faults=faults), start)

    assert states > least


@pytest.mark.parametrize(
    ("promise", "wrong"),
    [
        ("an attempt ends twice", Engine(fence=lambda task, attempt, owner: True)),
        ("an attempt ends twice", Engine(fence=lambda task, attempt, owner: not task.is_complete)),
        ("an attempt ends twice", Engine(fence=lambda task, attempt, owner: task.owner != NOBODY)),
        ("an attempt ends twice", Engine(fence=lambda task, attempt, owner: task.owner == owner)),
        (
            "an attempt ends twice",
            Engine(fence=lambda task, attempt, owner: task.attempt == attempt),
        ),
        ("an attempt ends twice", Engine(rescue_fence=lambda task, attempt, owner: True)),
        ("a task is lost", Engine(meets_strangers=False)),
        ("an attempt is sent twice", Engine(sends_once=False)),
    ],
    ids=[
        "no fence",
        "fence by id",
        "fence by state",
        "fence by owner",
        "fence by attempt",
        "rescue without a re-check",
        "strangers are forgotten",
        "the client tries again",
    ],
)
def test_a_wrong_guard_is_found(promise, wrong):
    with pytest.raises(Broken, match=promise):
        search(wrong, ALONE)

"""Which groups a run has: shapes of graphs, and what people will do to them. Pure; by the seed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Json = dict[str, Any]

ATTEMPTS = 200  # more than all the trouble of a run takes from one task
LIMITED, LIMIT = "narrow", 3  # a worker, and how many calls at once it takes
BIG, WIDE = 120_000, 100_000  # characters of a big output, and of each of a wide layer
WORKGROUPS = 2_000  # of which each task of a crowd has one


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody does to the group `after` seconds from its creation.

    `name` is a method of the client, `ids` its tasks; `takes` are the tasks that a deletion is to
    take. A deed that is `needed` is repeated until it was done: without it the group cannot end.
    """

    after: float
    name: str
    ids: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    needed: bool = False


@dataclass(slots=True)
class GroupPlan:
    """A group. `doomed` tasks always fail; `blocked` ones wait for them forever."""

    id: str
    tasks: list[Json] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    doomed: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)

    def add(self, dice: Random, name: str, *, parents: list[str] | None = None, **what: Any) -> str:
        """A task by its short name; what is no field of a task goes to the worker."""
        fields = {k: what.pop(k) for k in _FIELDS if k in what}
        id_ = f"{self.id}.{name}"
        self.tasks.append(
            {
                "id": id_,
                "worker": f"w{dice.randrange(5)}",
                "remaining_attempts": ATTEMPTS,
                "error_delay_in_seconds": 0,
                "parent_ids": parents or [],
                "input": {"seconds": round(dice.uniform(0, 0.8), 3), **what},
            }
            | fields
        )
        return id_


_FIELDS = (
    "worker",
    "workgroup",
    "key",
    "remaining_attempts",
    "run_after",
    "error_delay_in_seconds",
)


def group_of(seed: int, number: int) -> GroupPlan:
    """The group of this number: the same for the same seed."""
    dice = Random(f"{seed} group {number}")
    group = GroupPlan(f"s{seed}-g{number}")
    SHAPES[number % len(SHAPES)](group, dice)
    dice.shuffle(group.tasks)  # a call may name them in any order
    return group


def independent(group: GroupPlan, dice: Random) -> None:
    for i in range(60):
        group.add(dice, f"i{i}", not_before=dice.choice([0, 0, 0, 0, 1.5, 4]))


def chain(group: GroupPlan, dice: Random) -> None:
    parents: list[str] = []
    for i in range(15):
        parents = [group.add(dice, f"c{i}", parents=parents)]


def fan(group: GroupPlan, dice: Random) -> None:
    root = group.add(dice, "root", children_delay=dice.choice([0, 0, 1.5]))
    middle = [group.add(dice, f"m{i}", parents=[root]) for i in range(25)]
    group.add(dice, "join", parents=middle)


def layers(group: GroupPlan, dice: Random) -> None:
    above: list[str] = []
    for layer in range(4):
        above = [
            group.add(dice, f"l{layer}-{i}", parents=dice.sample(above, min(len(above), 3)))
            for i in range(8)
        ]


def continuations(group: GroupPlan, dice: Random) -> None:
    """Tasks whose answers make more tasks, which make more again."""
    for i in range(4):
        before = group.add(dice, f"k{i}", children=dice.randint(2, 5), depth=dice.randint(1, 2))
        group.add(dice, f"after{i}", parents=[before])


def duplicates(group: GroupPlan, dice: Random) -> None:
    """Of each key one task runs for all; each of them has a child. Half of the outputs are big."""
    for i in range(18):
        fails, pad = dice.choice([0, 0, 1]), dice.randint(BIG // 2, BIG) * (i % 2)
        same = group.add(dice, f"d{i}", key=f"key {i % 6}", fails=fails, pad=pad)
        if i % 3 == 0:
            group.add(dice, f"after{i}", parents=[same])


def held(group: GroupPlan, dice: Random) -> None:
    """Some answers hold the whole workgroup; so does a person, now and then."""
    name = f"held {dice.randrange(4)}"
    for i in range(20):
        group.add(dice, f"h{i}", workgroup=name, hold=dice.choice([0, 0, 0, 0, 0.4]))


def crowd(group: GroupPlan, dice: Random) -> None:
    """Of many workgroups, more than a claim looks at, some of them held. Each frees another."""
    for i in range(30):
        ours, theirs = (f"crowd {dice.randrange(WORKGROUPS)}" for _ in range(2))
        first = group.add(dice, f"a{i}", workgroup=ours, hold=dice.choice([0, 0, 0, 1.5]))
        group.add(dice, f"b{i}", workgroup=theirs, parents=[first])


def failing(group: GroupPlan, dice: Random) -> None:
    for i in range(16):
        delay = dice.choice([0, 0, 1])
        group.add(dice, f"e{i}", fails=dice.randint(1, 3), error_delay_in_seconds=delay)
    doomed = group.add(dice, "doomed", fails=ATTEMPTS * 10, remaining_attempts=2)
    blocked = group.add(dice, "blocked", parents=[doomed])
    group.doomed.add(doomed)
    group.blocked.update((blocked, group.add(dice, "far", parents=[blocked])))


def big(group: GroupPlan, dice: Random) -> None:
    parents = [group.add(dice, f"b{i}", pad=dice.randint(1_000, BIG)) for i in range(4)]
    for i in range(3):
        group.add(dice, f"join{i}", parents=parents)


def wide(group: GroupPlan, dice: Random) -> None:
    """Each of a layer gets all of the one above it: 90 MB that must never be in memory at once."""
    above = [group.add(dice, f"w{i}", pad=WIDE) for i in range(30)]
    for i in range(30):
        group.add(dice, f"below{i}", parents=above)


def slow(group: GroupPlan, dice: Random) -> None:
    """Calls that outlast a lease: many of them meet the death of their scheduler."""
    first = [group.add(dice, f"s{i}", seconds=dice.uniform(2, 6)) for i in range(8)]
    group.add(dice, "join", parents=first)


def deleted(group: GroupPlan, dice: Random) -> None:
    """A task goes, and the chain that hangs on another."""
    loose = [group.add(dice, f"x{i}") for i in range(12)]
    chained: list[str] = []
    for i in range(8):
        chained.append(group.add(dice, f"c{i}", parents=chained[-1:]))
    gone = tuple(dice.sample(loose, 4))
    cut = dice.randrange(2, 7)
    when = dice.uniform(0, 2)
    group.deeds.append(Deed(when, "delete_tasks", gone, gone))
    group.deeds.append(Deed(when + 1, "delete_tasks", (chained[cut],), tuple(chained[cut:])))


def reset(group: GroupPlan, dice: Random) -> None:
    loose = [group.add(dice, f"r{i}") for i in range(20)]
    for id_ in dice.sample(loose, 6):
        group.deeds.append(Deed(dice.uniform(1, 6), "reset_tasks", (id_,)))


def paused(group: GroupPlan, dice: Random) -> None:
    loose = [group.add(dice, f"p{i}") for i in range(24)]
    some = tuple(dice.sample(loose, 8))
    whole = dice.random() < 0.5
    began = dice.uniform(0, 1)
    verb, ids = ("group", ()) if whole else ("tasks", some)
    group.deeds.append(Deed(began, f"pause_{verb}", ids))
    group.deeds.append(Deed(began + dice.uniform(1, 3), f"resume_{verb}", ids, needed=True))


def unmade(group: GroupPlan, dice: Random) -> None:
    """The whole group is reset, cancelled and tried again, or deleted while it runs."""
    parents: list[str] = []
    for i in range(6):
        parents = [group.add(dice, f"c{i}", parents=parents)]
    for i in range(14):
        group.add(dice, f"u{i}")
    began = dice.uniform(0.2, 3)
    match dice.randrange(3):
        case 0:
            group.deeds.append(Deed(began, "reset_group"))
        case 1:
            group.deeds.append(Deed(began, "cancel_group"))
            group.deeds.append(Deed(began + 2, "retry_group", needed=True))
        case _:
            group.deeds.append(Deed(began, "delete_group", takes=tuple(_ids(group))))


def narrow(group: GroupPlan, dice: Random) -> None:
    """Of a worker with a limit: given up in part and whole while they run."""
    ids = [group.add(dice, f"n{i}", worker=LIMITED) for i in range(16)]
    gone = tuple(dice.sample(ids, 4))
    group.deeds.append(Deed(dice.uniform(0.5, 3), "delete_tasks", gone, gone))
    group.deeds.append(Deed(dice.uniform(0.5, 6), "reset_group"))
    began = dice.uniform(6, 8)
    group.deeds.append(Deed(began, "cancel_group"))
    group.deeds.append(Deed(began + 1, "retry_group", needed=True))


def _ids(group: GroupPlan) -> list[str]:
    return [task["id"] for task in group.tasks]


SHAPES: tuple[Callable[[GroupPlan, Random], None], ...] = (
    independent,
    chain,
    deleted,
    continuations,
    duplicates,
    independent,
    fan,
    held,
    crowd,
    failing,
    reset,
    layers,
    independent,
    big,
    wide,
    paused,
    slow,
    narrow,
    unmade,
)

"""The speed table: what is run, what is measured of it, what the goal is, and what the old Crew
(the Go and TypeScript service of which this is the successor) was measured to do.

Goals hold on two cores that are shared with the database and the worker, PostgreSQL with fsync.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tasks.rules.fair_share import MOST_KEPT

BOTH = ("SQLite", "PostgreSQL")
SHARED = ("PostgreSQL",)  # for what needs several schedulers

Tasks = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a run. `goals` is by kind of database; `old` is the old Crew's."""

    key: str
    unit: str
    goals: dict[str, float] = field(default_factory=dict)
    old: float | None = None
    is_least: bool = False  # the goal is the least that it may be

    def is_met(self, kind: str, measured: float) -> bool | None:
        goal = self.goals.get(kind)
        if goal is None:
            return None
        return measured >= goal if self.is_least else measured <= goal


def rate(goal: float | None = None, old: float | None = None, key: str = "rate") -> Measure:
    goals = {} if goal is None else {"PostgreSQL": goal}
    return Measure(key, "tasks/s", goals, old, is_least=True)


@dataclass(frozen=True, slots=True)
class Workload:
    """`how` names the way it is run; a run becomes `becomes` tasks."""

    name: str
    title: str
    becomes: int
    measures: tuple[Measure, ...]
    tasks: Callable[[], Tasks] = list
    slots: int = 500
    schedulers: int = 1
    kinds: tuple[str, ...] = BOTH
    how: str = "run"


def workloads(scale: float = 1.0) -> list[Workload]:
    """All of them; with a smaller scale with fewer tasks, to see that they run."""
    return list(_workloads(scale))


def _workloads(scale: float) -> Iterator[Workload]:
    def size(full: int) -> int:
        return max(2, int(full * scale))

    for full, names in ((20_000, ("independent", "two")), (50_000, ("50k", "50k-two"))):
        count = size(full)
        tasks = _independent(count)
        old = {20_000: 1_530.0, 50_000: 398.0}[full]
        title = f"{count:,} independent tasks"
        yield Workload(names[0], title, count, (rate(5_000, old),), tasks)
        yield Workload(names[1], f"{title}, two schedulers", count, (rate(8_000, old),), tasks,
                       schedulers=2, kinds=SHARED)  # fmt: skip
    wide = size(5_000)
    yield Workload(
        "fan", f"fan 1 -> {wide:,} -> 1 by continuation", wide + 2, (rate(4_500, 357),),
        lambda: [{"worker": "fan", "input": {"children": wide}}],
    )  # fmt: skip
    yield Workload("fan-given", f"fan 1 -> {wide:,} -> 1, created whole", wide + 2, (rate(),),
                   _fan(wide))  # fmt: skip
    levels = size(8_191).bit_length()
    yield Workload(
        "tree", f"tree of continuations, depth {levels - 1}", 2**levels - 1, (rate(5_000, 2_280),),
        lambda: [{"worker": "tree", "input": {"depth": levels}}],
    )  # fmt: skip
    hops = size(100)
    hop = Measure("hop_ms", "ms a hop", {"PostgreSQL": 3.0, "SQLite": 2.0}, 3.1)
    yield Workload("chain", f"chain of {hops:,} by continuation", hops, (hop,),
                   lambda: [{"worker": "chain", "input": {"left": hops - 1}}])  # fmt: skip
    calls = size(10_000)
    in_flight = Measure("in_flight", "in flight", {"PostgreSQL": size(5_000)}, 3_400, is_least=True)
    memory = Measure("rss_mb", "MB at most", {"PostgreSQL": 300.0})
    yield Workload(
        "sleep", f"{calls:,} calls of 1 s", calls, (rate(3_000, 1_000), in_flight, memory),
        lambda: [{"worker": "sleep", "input": {"seconds": 1}}] * calls,
        slots=size(5_000) + MOST_KEPT,  # which no single worker gets
    )  # fmt: skip
    graph = size(100_000)
    yield Workload(
        "create", f"creating a graph of {graph:,} tasks by one bulk call", graph,
        (rate(20_000), rate(key="python_rate")), lambda: binary_tree(graph), how="create",
    )  # fmt: skip
    starts = size(200)
    for name, where, goal in (("start", "separate processes", 20.0),
                              ("start-inside", "same process", 5.0)):  # fmt: skip
        p95 = Measure("p95_ms", "ms p95", {"PostgreSQL": goal, "SQLite": goal})
        yield Workload(name, f"start of a new task on an idle system, {where}", starts,
                       (p95, Measure("p50_ms", "ms p50")), how=name)  # fmt: skip
    crowd = size(20_000)
    waits = Measure("waits", "waits over 5 ms", {"PostgreSQL": 0})
    yield Workload("claimers", f"{crowd:,} independent tasks, eight schedulers", crowd,
                   (waits, Measure("notify_waits", "of them at NOTIFY"),
                    Measure("longest_ms", "ms the longest wait"), rate()),
                   _independent(crowd), slots=64, schedulers=8, kinds=SHARED,
                   how="waits")  # fmt: skip


def binary_tree(count: int) -> Tasks:
    """A graph in which every task but the first waits for one other."""
    first: dict[str, object] = {"id": "t0", "worker": "noop"}
    rest = range(1, count)
    return [
        first,
        *({"id": f"t{n}", "worker": "noop", "parentIds": [f"t{(n - 1) // 2}"]} for n in rest),
    ]


def _independent(count: int) -> Callable[[], Tasks]:
    return lambda: [{"worker": "noop"}] * count


def _fan(wide: int) -> Callable[[], Tasks]:
    def tasks() -> Tasks:
        middle = [f"m{n}" for n in range(wide)]
        return [
            {"id": "root", "worker": "noop"},
            *({"id": id_, "worker": "noop", "parentIds": ["root"]} for id_ in middle),
            {"id": "join", "worker": "noop", "parentIds": middle},
        ]

    return tasks

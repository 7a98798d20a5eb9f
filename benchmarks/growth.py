"""Whether Crew gets slower as its tables fill.

    python -m benchmarks.growth [--tasks 10000] [--rounds 3] [--finished 5000000] [--json FILE]
        [--only WORD ...] [--store postgresql|sqlite] [--plans] [--churn 1000000]

Every setting has a database of its own, and runs in turns with an empty one: what the machine does
meanwhile, it does to both. `rate` is the setting's best round against the best empty one of the
same turns, `cost` the CPU seconds of a task, scheduler and database together: what a loaded
machine distorts less. `--churn` lets a group of so many tasks run to its end, and says what it
leaves behind.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import growth_store, growth_tables
from .growth_store import Round
from .stage import sink

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """What lies in the tables beside the work, over how many groups the work is spread, and how
    many schedulers do it.
    """

    name: str
    finished: int = 0
    beside: int = 0
    groups: int = 0
    in_group: int = 0
    spread: int = 1
    schedulers: int = 1


EMPTY = Setting("empty")


def settings(vendor: str, finished: int) -> list[Setting]:
    """`finished` is the most; the other sizes shrink with it, so that a trial is quick."""
    part = min(1.0, finished / 5_000_000)

    def of(count: int) -> int:
        return max(1_000, int(count * part))

    if vendor == "sqlite":
        return [Setting(f"{n:,} finished", finished=n) for n in (of(100_000), of(1_000_000))]
    million, groups = of(1_000_000), of(10_000)
    return [
        Setting(f"{of(100_000):,} finished", finished=of(100_000)),
        Setting(f"{of(5_000_000):,} finished", finished=of(5_000_000)),
        Setting(f"{million:,} blocked, {million:,} scheduled", beside=million),
        Setting(f"{groups:,} groups", groups=groups),
        Setting(f"one group of {million:,}", in_group=million),
        Setting(f"spread over {groups:,} groups", groups=groups, spread=groups),
        Setting("4 schedulers", schedulers=4),
        Setting("20 schedulers", schedulers=20),
    ]


class Store:
    """A database and the process that speaks to it."""

    def __init__(self, setting: Setting, url: str, base: str) -> None:
        self.setting = setting
        self._process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self.call(growth_store.open_store, url, base)

    def call(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        return self._process.submit(work, *args, **kwargs).result()

    def fill(self) -> None:
        it = self.setting
        self.call(
            growth_store.fill,
            finished=it.finished,
            beside=it.beside,
            groups=it.groups,
            in_group=it.in_group,
        )

    def round(self, tasks: int) -> Round:
        if self.setting == EMPTY:
            self.call(growth_store.empty)
        it = self.setting
        if it.schedulers > 1:
            return self.call(growth_store.measure_many, tasks, it.schedulers)
        return self.call(growth_store.measure, tasks, groups=it.spread)

    def close(self) -> None:
        self._process.shutdown()


def rows(
    vendor: str,
    *,
    tasks: int = 10_000,
    rounds: int = 3,
    finished: int = 5_000_000,
    only: Sequence[str] = (),
    show_plans: bool = False,
) -> list[Row]:
    """Measure every setting in turns with the empty store; a row for each."""
    found = []
    with stores(vendor) as open_:
        empty = open_(EMPTY)
        empty.round(1_000)  # the first one pays for what is cold
        for setting in settings(vendor, finished):
            if only and not any(word in setting.name for word in only):
                continue
            store = open_(setting)
            store.fill()
            if setting.schedulers == 1:
                store.round(1_000)
            turns = [(empty.round(tasks), store.round(tasks)) for _ in range(rounds)]
            found.append(_row(vendor, setting, turns))
            print(_line(found[-1]), flush=True)
            if show_plans and vendor == "postgresql":
                print("\n\n".join(store.call(growth_tables.plans)), flush=True)
            store.close()
        empty.close()
    return found


def prune(vendor: str, tasks: int) -> list[Row]:
    """How fast finished groups go, of a thousand tasks each and one that is as large as all."""
    with stores(vendor) as open_:
        store = open_(EMPTY)
        found = store.call(growth_tables.prune, tasks)
        store.close()
    database = "SQLite" if vendor == "sqlite" else "PostgreSQL"
    for row in found:
        print(f"{row['groups']:5} groups: {row['rate']:,.0f} tasks/s deleted", flush=True)
    return [{"database": database} | row for row in found]


def churn(tasks: int) -> list[Row]:
    """A group of so many tasks on PostgreSQL, from the first to the last."""
    with stores("postgresql") as open_:
        store = open_(EMPTY)
        found = store.call(growth_tables.churn, tasks)
        store.close()
    return [{"database": "PostgreSQL"} | row for row in found]


@contextmanager
def stores(vendor: str) -> Iterator[Any]:
    """Give a function that opens a fresh database for a setting; all are gone afterwards."""
    import psycopg

    from tests.servers import postgres

    with ExitStack() as stack:
        base = stack.enter_context(sink()).base
        if vendor == "sqlite":
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="crew-growth-")))
            names = iter(range(1_000))
            yield lambda setting: Store(setting, f"sqlite:///{folder}/{next(names)}.sqlite3", base)
            return
        url = stack.enter_context(postgres(durability=True)).url
        server, _, _ = url.rpartition("/")
        names = iter(range(1_000))

        def make(setting: Setting) -> Store:
            name = f"growth_{next(names)}"
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            return Store(setting, f"{server}/{name}", base)

        yield make


def _row(vendor: str, setting: Setting, turns: Sequence[tuple[Round, Round]]) -> Row:
    empty, full = (_best([turn[at] for turn in turns]) for at in (0, 1))
    return {
        "setting": setting.name,
        "database": "SQLite" if vendor == "sqlite" else "PostgreSQL",
        "tasks": turns[0][0].tasks,
        "rounds": len(turns),
        "empty": empty,
        "full": full,
        "rate": full["rate"] / empty["rate"],
        "cost": _cost(full) / _cost(empty),
        "seconds": [[each.seconds for each in turn] for turn in turns],
    }


def _cost(best: Row) -> float:
    return best["scheduler_cpu"] + (best["database_cpu"] or 0.0)


def _best(rounds: Sequence[Round]) -> Row:
    """The best of each figure: noise only ever adds."""

    def least(name: str) -> float | None:
        values = [value for each in rounds if (value := getattr(each, name)) is not None]
        return min(values) if values else None

    found: Row = {"rate": rounds[0].tasks / min(each.seconds for each in rounds)}
    names = ("create", "create_cpu", "create_wal", "scheduler_cpu", "database_cpu", "wal")
    found |= {name: least(name) for name in names}
    return found | {"connections": max(each.connections or 0 for each in rounds)}


def _line(row: Row) -> str:
    def side(which: str) -> str:
        it = row[which]
        micro = [
            "-" if it[name] is None else f"{1e6 * it[name]:.0f}"
            for name in ("create", "scheduler_cpu", "database_cpu")
        ]
        wal = "-" if it["wal"] is None else f"{it['wal']:,.0f}"
        return (
            f"{it['rate']:6,.0f}/s, µs a task: create {micro[0]}, scheduler {micro[1]},"
            f" database {micro[2]}; WAL {wal} B"
        )

    return (
        f"{row['setting']:32} {row['database']:10} rate {row['rate']:.2f},"
        f" cost {row['cost']:.2f}\n"
        f"    empty {side('empty')}\n    full  {side('full')};"
        f" {row['full']['connections']} connections"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", action="append", choices=["postgresql", "sqlite"])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--finished", type=int, default=5_000_000)
    parser.add_argument("--only", action="append", default=[], help="part of a setting's name")
    parser.add_argument("--plans", action="store_true", help="show how claim and settle are run")
    parser.add_argument("--churn", type=int, help="only this: run a group of so many tasks")
    parser.add_argument("--prune", type=int, help="only this: delete so many finished tasks")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    stores_asked = options.store or ["postgresql", "sqlite"]
    if options.churn:
        found = churn(options.churn)
    elif options.prune:
        found = [row for vendor in stores_asked for row in prune(vendor, options.prune)]
    else:
        found = [
            row
            for vendor in stores_asked
            for row in rows(
                vendor,
                tasks=options.tasks,
                rounds=options.rounds,
                finished=options.finished,
                only=options.only,
                show_plans=options.plans,
            )
        ]
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

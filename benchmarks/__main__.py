"""Run the workloads of the speed table: Crew, the reference loop and peers, in turns.

    python -m benchmarks [--only NAME ...] [--repeat 5] [--database sqlite|postgresql ...]
                         [--peers] [--json FILE] [--markdown DOCUMENT]

Every run has a fresh database, a fresh sink worker and fresh processes. Within a workload each
round runs every contestant once, so that what the machine does meanwhile hits all of them alike.
Exits with 1 when a run of Crew or of the reference loop failed.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError

from . import ceiling, machine, ours, report
from .peers import contest
from .report import OURS, REFERENCE, Result
from .stage import BrokenRunError, Store, stores
from .workloads import Workload, workloads

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who runs a workload, where, and with which of its settings."""

    name: str
    database: str
    run: Callable[[], Figures]
    way: str = ""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    chosen = [w for w in workloads(options.scale) if not options.only or w.name in options.only]
    kinds = options.database or ["sqlite", "postgresql"]
    if options.peers:
        contest.prepare()
    with stores(kinds) as found:
        figures = {
            "machine": machine.describe(found),
            "peers": contest.versions() if options.peers else {},
            "repeat": options.repeat,
            "scale": options.scale,
            "results": [],
        }
        print(json.dumps({"machine": figures["machine"], "peers": figures["peers"]}, indent=2),
              flush=True)  # fmt: skip
        for workload in chosen:
            contestants = list(_contestants(workload, found, with_peers=options.peers))
            results = in_turns(workload, contestants, options.repeat)
            for result in results:
                print(report.line(result, results, workload), flush=True)
            figures["results"] += results
            _store(figures, options)
    if options.scale != 1:
        print(f"Sizes were scaled by {options.scale}: these are no results.")
    failed = [r for r in figures["results"] if r["errors"] and r["contestant"] in (OURS, REFERENCE)]
    return 1 if failed else 0


def in_turns(workload: Workload, contestants: list[Contestant], repeat: int) -> list[Result]:
    """Each contestant once a round; a run that fails is reported, and the others go on."""
    results: list[Result] = [
        {"workload": workload.name, "title": workload.title, "contestant": who.name,
         "way": who.way, "database": who.database, "runs": [], "errors": []}
        for who in contestants
    ]  # fmt: skip
    for _ in range(repeat):
        for who, result in zip(contestants, results, strict=True):
            try:
                result["runs"].append(who.run())
                _tell(workload, who, result["runs"][-1])
            except (BrokenRunError, OSError, ValueError, CalledProcessError) as error:
                result["errors"].append(str(error)[:2_000])
                print(f"  {workload.name}: {who.name} {who.way}: {error}", file=sys.stderr)
    return results


def _tell(workload: Workload, who: Contestant, run: Figures) -> None:
    """That it goes on: a run with peers takes an hour."""
    measure = workload.measures[0]
    value = report.short(run[measure.key]) if measure.key in run else "?"
    print(f"  {workload.name}: {who.name} {who.way} {who.database}: {value} {measure.unit}",
          file=sys.stderr, flush=True)  # fmt: skip


def _contestants(
    workload: Workload, found: list[Store], *, with_peers: bool
) -> Iterator[Contestant]:
    for store in found:
        if store.kind not in workload.kinds:
            continue
        yield Contestant(OURS, store.kind, _bound(ours.run, workload, store))
        if workload.how in ceiling.CAN:
            yield Contestant(REFERENCE, store.kind, _bound(ceiling.run, workload, store))
    if with_peers:
        shared = next((store for store in found if store.kind == "PostgreSQL"), None)
        for peer in contest.PEERS:
            if workload.name in peer.can and (shared or peer.broker == "Redis"):
                for way in peer.commands:
                    run = _bound(contest.run, peer, way, workload, shared)
                    yield Contestant(peer.name, peer.broker, run, way)


def _bound(run: Callable[..., Figures], *arguments: object) -> Callable[[], Figures]:
    return lambda: run(*arguments)


def _store(figures: dict[str, object], options: argparse.Namespace) -> None:
    """After each workload: a run takes long, and may be ended."""
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.markdown:
        report.write(options.markdown, report.markdown(figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    names = [workload.name for workload in workloads()]
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument("--repeat", type=int, default=5, help="rounds (5)")
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--peers", action="store_true", help="installed into var/peers")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--markdown", type=Path, help="write the tables into this document")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes, to try it out")
    return parser


if __name__ == "__main__":
    # Ended like any other way of leaving: with all that was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())

"""What a batch of answers says of its workers is counted, in rows that all schedulers share.

Only a failure makes a row, so the workers that are well cost one look at a small table.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..rules import outages
from ..rules.decide import Failed, Held
from ..rules.jsonio import dump
from ..rules.outages import Cost, Fault, Health, Judged
from ..sql import BoundStatement, Within, run, run_steered
from ..sql import health as sql
from ..store import changes
from .settlement import Settlement

MAX_WHY = 500  # characters of the last error


@dataclass(frozen=True, slots=True)
class Result:
    """Of one attempt: an answer, or how its worker failed (`error` says it)."""

    worker: str
    task_id: str
    attempt: int
    fault: Fault = Fault.NONE
    error: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a fault means for its task: `seconds` to wait, and what it costs."""

    seconds: float
    cost: Cost


def weigh(results: Sequence[Result], within: Within | None) -> dict[tuple[str, int], Verdict]:
    """Judge the workers of these results, each of which has a fault; what it means by attempt.

    Their rows stay locked until the commit. A worker whose row somebody else holds is judged by
    him; here its tasks only wait.
    """
    faults = [result for result in results if result.fault]
    if not faults:
        return {}
    # Silence makes no row: it means something only of a worker that has one.
    made = {"workers": _names(one for one in faults if one.fault is not Fault.SILENT)}
    asked = {"workers": _names(faults)}
    rows = dump([{"id": one.task_id, "attempt": one.attempt} for one in faults])
    ask = [(sql.MAKE, made), (sql.HEALTH, asked), (sql.FAILED, {"rows": rows})]
    _, ill, failed = run_steered(*ask, within=within)
    costs = _judge(ill, results, {(id_, number): n for id_, number, _, n in failed})
    silent = {(one.task_id, one.attempt) for one in faults if one.fault is Fault.SILENT}
    verdicts = {}
    for id_, number, own, n in failed:
        key = (id_, number)
        cost = costs.get(key, Cost.ATTEMPT if key in silent else Cost.HOLD)
        if key not in silent or cost is Cost.NOTHING:
            verdicts[key] = Verdict(outages.wait_seconds(own, n), cost)
    return verdicts


def look(workers: Iterable[str]) -> BoundStatement:
    """What tells which of these workers, none of which failed now, were not well: for `recover`."""
    return sql.ILL, {"workers": dump(sorted(workers))}


def _names(results: Iterable[Result]) -> str:
    return dump(sorted({result.worker for result in results}))


def recover(ill: Sequence[tuple[Any, ...]], results: Sequence[Result]) -> None:
    """Count the answers of those that `look` found; `weigh` has counted all others."""
    _judge(ill, results, {})


def _judge(
    rows: Sequence[tuple[Any, ...]],
    results: Sequence[Result],
    before: Mapping[tuple[str, int], int],
) -> dict[tuple[str, int], Cost]:
    """Write how the workers of these rows are after the results; return what each cost."""
    of_worker: defaultdict[str, list[Result]] = defaultdict(list)
    for result in results:
        of_worker[result.worker].append(result)
    costs: dict[tuple[str, int], Cost] = {}
    written = []
    for name, fails, rests, ramp, is_resting in rows:
        given = of_worker[name]
        keys = [(one.task_id, one.attempt) for one in given]
        judged = outages.judge(
            Health(fails, rests, ramp, bool(is_resting)),
            [one.fault for one in given],
            [before.get(key, 0) for key in keys],
        )
        costs.update(zip(keys, judged.costs, strict=True))
        written.append(_row(name, judged, given))
        if rests and not judged.health.rests:
            changes.wake_schedulers()
    if written:
        run(sql.JUDGED, {"rows": dump(written)})
    return costs


def _row(name: str, judged: Judged, given: Sequence[Result]) -> dict[str, Any]:
    health = judged.health
    return {
        "name": name,
        "fails": health.fails,
        "rests": health.rests,
        "ramp": health.ramp,
        "rest": judged.rest,
        "why": next((one.error[:MAX_WHY] for one in reversed(given) if one.fault), ""),
    }


def fault_of(settlement: Settlement) -> Fault:
    if settlement.is_weighed or not isinstance(settlement.outcome, Failed):
        return Fault.NONE
    return outages.fault(settlement.status, settlement.fault)


def results(settlements: Sequence[Settlement], workers: Container[str]) -> list[Result]:
    """What they say of these workers; those that say nothing are left out."""
    said = []
    for s in settlements:
        lease, fault = s.lease, fault_of(s)
        if lease.worker in workers and (fault or s.is_answer):
            said.append(Result(lease.worker, lease.task_id, lease.attempt, fault, s.error))
    return said


def bear_with(
    settlements: Sequence[Settlement], verdicts: Mapping[tuple[str, int], Verdict]
) -> list[Settlement]:
    """Failures of a worker as a whole wait longer, and may cost their tasks no attempt."""
    if not verdicts:
        return list(settlements)
    return [_borne(s, verdicts.get(s.key)) for s in settlements]


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

"""Figures as a table: on the terminal while they come, and in Markdown from the JSON.

    python -m benchmarks.report FIGURES.json [DOCUMENT.md]

prints the tables, or writes them into the document, between the lines that name it.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .workloads import Measure, Workload, workloads

BEGIN, END = "<!-- figures: python -m benchmarks.report -->", "<!-- end of figures -->"
OURS, REFERENCE = "Crew", "reference loop"

Result = dict[str, Any]  # of one contestant at one workload: who, where, runs, errors


def median(result: Result, key: str) -> float | None:
    found = [run[key] for run in result["runs"] if key in run]
    return statistics.median(found) if found else None


def line(result: Result, results: list[Result], workload: Workload) -> str:
    """One contestant at one workload, for the terminal."""
    who = f"{result['contestant']}{', ' + result['way'] if result['way'] else ''}"
    head = f"{workload.title:56} {who:38} {result['database']:10}"
    parts = []
    for measure in workload.measures:
        measured = median(result, measure.key)
        if measured is None:
            continue
        text = f"{short(measured)} {measure.unit}{_spread(result, measure.key)}"
        parts.append(text + _beside(measure, measured, result, results))
    for error in result["errors"]:
        parts.append(f"FAILED: {error}")
    return f"{head} " + "; ".join(parts)


def short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 or value == int(value) else f"{value:.2f}"


def beside_reference(result: Result, results: list[Result], key: str) -> float | None:
    """How its median compares with that of the reference loop on the same kind of database."""
    if result["contestant"] == REFERENCE:
        return None
    database = "PostgreSQL" if result["database"] == "Redis" else result["database"]
    for other in results:
        same = other["workload"] == result["workload"] and other["database"] == database
        if same and other["contestant"] == REFERENCE:
            mine, ceiling = median(result, key), median(other, key)
            return mine / ceiling if mine is not None and ceiling else None
    return None


def _spread(result: Result, key: str) -> str:
    found = [run[key] for run in result["runs"] if key in run]
    if len(found) < 2:
        return ""
    return f" ({short(min(found))} to {short(max(found))})"


def _beside(measure: Measure, measured: float, result: Result, results: list[Result]) -> str:
    parts = []
    ratio = beside_reference(result, results, measure.key)
    if ratio:
        parts.append(f"{ratio:.2f} of the reference")
    if result["contestant"] == OURS:
        if measure.old:
            parts.append(f"{measured / measure.old:.1f} times the old")
        is_met = measure.is_met(result["database"], measured)
        if is_met is not None:
            goal = short(measure.goals[result["database"]])
            parts.append(f"goal {goal} {'ok' if is_met else 'MISSED'}")
    return f" [{', '.join(parts)}]" if parts else ""


# --- Markdown -----------------------------------------------------------------------------------


def markdown(figures: dict[str, Any]) -> str:
    """The tables of a run, and what it ran on."""
    table = workloads(figures["scale"])
    results = figures["results"]
    parts = [_conditions(figures), _ours(table, results), _two(results)]
    if any(result["contestant"] not in (OURS, REFERENCE) for result in results):
        parts.append(_peers(table, results))
    return "\n\n".join(part for part in parts if part)


def write(document: Path, text: str) -> None:
    """Put the tables between the marks of a document; ValueError if they are not there."""
    before, mark, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{document} lacks the lines {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _conditions(figures: dict[str, Any]) -> str:
    machine = figures["machine"]
    versions = {"Python": machine["python"], **machine["versions"], **figures["peers"]}
    lines = [
        f"Taken {machine['taken_at']} at commit `{machine['commit']}`, {figures['repeat']} rounds. "
        f"{machine['cpu']}, {machine['cores']} cores shared by database, worker and contestant, "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}; "
        f"a page written and synced {machine['sync_ms']} ms; "
        f"load when it began {machine['load'][0]}.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    for kind, settings in machine["databases"].items():
        listed = ", ".join(f"{name} {value}" for name, value in settings.items())
        lines.append(f"{kind}: {listed}.")
    if figures["scale"] != 1:
        lines.append(f"**Sizes were scaled by {figures['scale']}: these are no results.**")
    return "\n\n".join(lines)


def _ours(table: list[Workload], results: list[Result]) -> str:
    rows = [
        "| workload | database | Crew | goal | reference loop | Crew / reference | old Crew |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for workload in table:
        for result in results:
            if (result["workload"], result["contestant"]) == (workload.name, OURS):
                rows += _rows(workload, result, results)
    return "\n".join(rows)


def _rows(workload: Workload, result: Result, results: list[Result]) -> Iterator[str]:
    ceiling: Result = {"runs": []}
    for other in results:
        same = (other["workload"], other["database"]) == (workload.name, result["database"])
        if same and other["contestant"] == REFERENCE:
            ceiling = other
    failed = f" ({len(result['errors'])} runs failed)" if result["errors"] else ""
    for number, measure in enumerate(workload.measures):
        mine, top = median(result, measure.key), median(ceiling, measure.key)
        if mine is None:
            continue
        title = workload.title + failed if number == 0 else ""
        goal = measure.goals.get(result["database"])
        verdict = "" if measure.is_met(result["database"], mine) in (True, None) else " ✗"
        cells = [
            title if measure.key != "python_rate" else "the same by `create_group()`",
            result["database"] if number == 0 else "",
            f"**{short(mine)}** {measure.unit}{_spread(result, measure.key)}",
            "" if goal is None else f"{'≥' if measure.is_least else '≤'} {short(goal)}{verdict}",
            "" if top is None else short(top),
            f"{mine / top:.2f}" if top else "",
            short(measure.old) if measure.old else "",
        ]
        yield "| " + " | ".join(cells) + " |"


def _two(results: list[Result]) -> str:
    """What a second scheduler brings."""
    lines = []
    for one, two, title in (("independent", "two", "20,000"), ("50k", "50k-two", "50,000")):
        rates = [
            median(result, "rate")
            for name in (one, two)
            for result in results
            if (result["workload"], result["contestant"], result["database"])
            == (name, OURS, "PostgreSQL")
        ]
        if len(rates) == 2 and rates[0] and rates[1]:
            lines.append(f"{rates[1] / rates[0]:.2f} times one at {title} tasks")
    return f"Two schedulers (goal 1.4 times one): {', '.join(lines)}." if lines else ""


def _peers(table: list[Workload], results: list[Result]) -> str:
    rows = [
        "| workload | contestant | settings | broker | measured | Crew on PostgreSQL is |",
        "|---|---|---|---|--:|--:|",
    ]
    for workload in table:
        measure = workload.measures[0]
        group = [r for r in results if r["workload"] == workload.name]
        mine = [r for r in group if (r["contestant"], r["database"]) == (OURS, "PostgreSQL")]
        ours = median(mine[0], measure.key) if mine else None
        if all(r["contestant"] in (OURS, REFERENCE) for r in group):
            continue
        for number, result in enumerate(sorted(group, key=lambda r: _rank(r, measure))):
            measured = median(result, measure.key)
            text = "did not end" if measured is None else (
                f"{short(measured)} {measure.unit}{_spread(result, measure.key)}"
            )  # fmt: skip
            tasks = median(result, "tasks")
            if tasks is not None and tasks < workload.becomes:
                text += f", with {tasks:,.0f} tasks"
            is_ours = result["contestant"] == OURS
            cells = [workload.title if number == 0 else "", result["contestant"],
                     result["way"], result["database"], f"**{text}**" if is_ours else text,
                     "" if is_ours else _times(ours, measured, measure)]  # fmt: skip
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _rank(result: Result, measure: Measure) -> float:
    measured = median(result, measure.key)
    if measured is None:
        return float("inf")
    return -measured if measure.is_least else measured


def _times(ours: float | None, theirs: float | None, measure: Measure) -> str:
    if not ours or not theirs:
        return ""
    return f"{ours / theirs if measure.is_least else theirs / ours:.2g} times as fast"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("document", type=Path, nargs="?")
    options = parser.parse_args()
    text = markdown(json.loads(options.figures.read_text()))
    if options.document:
        write(options.document, text)
    else:
        print(text)


if __name__ == "__main__":
    main()

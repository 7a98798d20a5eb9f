"""A whole run: set up, trouble while tasks are created and done, calm, and the checker's word."""

import contextlib
import shutil
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from .. import servers
from . import checker, fleet, journal, stage, story
from .client import Clients
from .stage import Options
from .trouble import Scene, troubles

GAP = (0.1, 0.9)  # seconds between two troubles
PATIENCE = 60.0  # seconds without any progress that make a run a stuck one
BEAT = 0.02  # seconds between two looks at the fleet
LOOK = 0.25  # seconds between two looks at what is left
OPERATOR_LOOKS = 10.0  # seconds between two looks of an operator, while all breaks
DOUBTS = 4  # answers to COMMIT that each process loses at the very end
STOPS_PER_KILL, CRASHES_PER_KILL = 1 / 3, 1 / 20


@dataclass(slots=True)
class Report:
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[checker.Violation] = field(default_factory=list)
    kept: Path | None = None


def run(options: Options, folder: Path) -> Report:
    """Logs and journal go into `folder`, and the database too when anything is wrong."""
    began = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(stage.database(options))
        stage.set_up_django(server.url if server else f"sqlite:///{folder / 'db.sqlite3'}")
        tale, by = _trouble(options, folder, server)
        found = story.load(tale)
        report = Report(violations=checker.check(found))
        report.figures = _figures(found, by) | {
            "seconds in all": round(time.monotonic() - began),
        }
        if report.violations:
            _keep(report, folder, server)
    return report


def _trouble(
    options: Options, folder: Path, server: servers.Postgres | None
) -> tuple[story.Story, Counter[str]]:
    notes = journal.Journal(folder / "journal.jsonl")
    with ExitStack() as stack:
        base = stack.enter_context(stage.worker(folder, options.seed))
        scene, url = stage.scene(options, folder, server, base, stack)
        stack.callback(_end, scene)
        clients = Clients(url, stage.TOKEN, seed=options.seed, journal=notes)
        scene.bulks = lambda: clients.bulks
        scene.invite = lambda: clients.allow(clients.planned + 1)
        _wait_ready(scene)
        clients.start()
        began = time.monotonic()
        _make_trouble(options, scene, clients)
        scene.done["seconds of trouble"] = round(time.monotonic() - began)
        _calm_down(scene, clients)
        fleet.end_all(scene.members)
        deaths = [text for member in scene.members for text in member.deaths]
        if scene.doors:
            scene.done["answers to COMMIT lost"] = sum(door.swallowed for door in scene.doors)
    notes.close()
    tale = story.Story(
        posts=story.read_log(folder / "worker.jsonl"),
        calls=journal.read(folder / "journal.jsonl"),
        plans=clients.plans,
        deaths=[*deaths, *clients.failures],
        locks=scene.locks,
        memory={member.name: member.memory for member in scene.members},
    )
    return tale, scene.done


def _wait_ready(scene: Scene) -> None:
    deadline = time.monotonic() + 60
    while not all(member.is_ready for member in scene.members):
        scene.tend()
        time.sleep(BEAT)
        assert time.monotonic() < deadline, "the fleet does not start"


def _make_trouble(options: Options, scene: Scene, clients: Clients) -> None:
    """Round after round until all that was asked for has happened."""
    dice = Random(f"{options.seed} trouble")
    until = time.monotonic() + options.minutes * 60
    listed: list[str] = []
    looks_at = time.monotonic() + OPERATOR_LOOKS
    while (left := _left(options, scene, clients)) or time.monotonic() < until:
        if not listed:
            listed = troubles(dice, on_postgres=scene.server is not None)
        # Tasks are created in step with the trouble, so that there are some at each of it.
        ahead = 0.05 + scene.done["kills"] / max(1, options.kills)
        clients.allow(int(options.tasks * min(ahead, 1.0)) if left else clients.planned + 1)
        if time.monotonic() > looks_at:
            looks_at = time.monotonic() + OPERATOR_LOOKS
            _operate(scene, clients)
        name = listed.pop()
        if not getattr(scene, name)():
            listed.insert(dice.randrange(len(listed) + 1), name)
        _rest(scene, dice.uniform(*GAP))


def _rest(scene: Scene, seconds: float) -> None:
    """Let time pass, and the fleet be looked after."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        scene.tend()
        time.sleep(BEAT)


def _left(options: Options, scene: Scene, clients: Clients) -> bool:
    """Whether anything that was asked for has not happened yet."""
    crashes = options.kills * CRASHES_PER_KILL if scene.server else 0
    return (
        scene.done["kills"] < options.kills
        or scene.done["stops"] < options.kills * STOPS_PER_KILL
        or scene.done["database crashes"] < crashes
        or (scene.server is not None and not scene.locks)
        or clients.created < options.tasks
    )


def _calm_down(scene: Scene, clients: Clients) -> None:
    """Let all that can be done be done; return when it is, or when nothing moves any more."""
    scene.calm()
    for _ in range(DOUBTS):
        scene.invite()  # or there would be nothing to claim
        scene.doubt()
        _rest(scene, 1.0)
    finishing = _in_thread(clients.finish)
    while finishing.is_alive():
        scene.tend()
        time.sleep(BEAT)
    planned = _planned(clients)
    last, since = -1, time.monotonic()
    while (left := _incomplete() - planned) and time.monotonic() - since < PATIENCE:
        if len(left) != last:
            last, since = len(left), time.monotonic()
        _give_attempts(scene, clients)
        _rest(scene, LOOK)
    clients.end()


def _in_thread(work: Any) -> Any:
    import threading

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _incomplete() -> set[str]:
    from tasks.models import Task

    return set(Task.objects.incomplete().values_list("id", flat=True))


def _planned(clients: Clients) -> set[str]:
    """What is to stay incomplete."""
    return {id_ for plan in clients.plans for id_ in (*plan.doomed, *plan.blocked)}


def _give_attempts(scene: Scene, clients: Clients) -> None:
    """To tasks that lost their scheduler three times in a row, as an operator would."""
    from tasks.models import Task

    if clients.retrying:
        return
    planned = _planned(clients)
    groups: dict[str, list[str]] = {}
    exhausted = Task.objects.exhausted().filter(merged_into=None)
    for id_, group in exhausted.values_list("id", "group_id"):
        if id_ not in planned:
            groups.setdefault(group, []).append(id_)
    for group, ids in groups.items():
        scene.done["tasks given attempts by hand"] += len(ids)
        clients.retry(group, ids)


def _operate(scene: Scene, clients: Clients) -> None:
    """The same while the database comes and goes."""
    from django.db import DatabaseError, connection

    with contextlib.suppress(DatabaseError):
        _give_attempts(scene, clients)
    with contextlib.suppress(DatabaseError):
        connection.close()


def _end(scene: Scene) -> None:
    for member in scene.members:
        member.close()


def _figures(found: story.Story, by: Counter[str]) -> dict[str, Any]:
    outcomes = Counter(row.outcome for rows in found.attempts.values() for row in rows)
    results = Counter(call.result for call in found.calls)
    acknowledged = sum(
        len(call.ids)
        for call in found.calls
        if call.verb in checker.CREATES and call.result == journal.DONE
    )
    schedulers = [size for name, size in found.memory.items() if name.startswith("scheduler")]
    return {
        "tasks acknowledged": acknowledged,
        "tasks at the end": len(found.tasks),
        "calls to the worker": len(found.posts),
        "MB of the largest scheduler": max(schedulers) >> 20,
        **dict(sorted(by.items())),
        **{f"attempts {name}": n for name, n in sorted(outcomes.items())},
        **{f"API calls {name}": n for name, n in sorted(results.items())},
    }


def _keep(report: Report, folder: Path, server: servers.Postgres | None) -> None:
    """What a person needs to find out more: rows in words, logs, and the database itself."""
    report.kept = folder
    (folder / "violations.txt").write_text("\n".join(map(str, report.violations)) + "\n")
    if server is not None:
        from django.db import connections

        connections.close_all()
        server.stop("fast")
        shutil.copytree(server.folder / "data", folder / "database")

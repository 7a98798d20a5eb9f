"""`manage.py crewexport` and `crewimport`: backups, and moves from one store to another."""

import gzip
import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management import call_command

from tasks import audit, control, create, fleet
from tasks.invariants import INVARIANTS
from tasks.models import (
    Attempt,
    AuditEntry,
    Change,
    ParentEdge,
    Task,
    TaskGroup,
    Worker,
    Workgroup,
)

from .factories import claim_all, claim_one, complete, fail, hold, make_due, make_task

NULL = "\\u0000"


def export(folder: Path, *args: str, name: str = "out.ndjson") -> Path:
    file = folder / name
    call_command("crewexport", *(args or ["--all"]), "-o", str(file), stdout=io.StringIO())
    return file


def bring_in(file: Path, *args: str) -> str:
    told = io.StringIO()
    call_command("crewimport", str(file), *args, stdout=told)
    return told.getvalue()


def body(file: Path) -> bytes:
    """All but the header, which holds the time."""
    data = file.read_bytes()
    data = gzip.decompress(data) if file.suffix == ".gz" else data
    return data.partition(b"\n")[2]


def parsed(file: Path) -> list[tuple[str, dict[str, Any]]]:
    return [next(iter(json.loads(line).items())) for line in file.read_bytes().splitlines()]


def rewrite(file: Path, values: list[tuple[str, dict[str, Any]]]) -> Path:
    """Such lines, with checksums that fit: what a hand, or another program, may write."""
    written, digest = b"", hashlib.sha256()
    for kind, value in values:
        if kind == "groupEnd" and "sha256" in value:
            value = value | {"sha256": digest.hexdigest()}
        line = json.dumps({kind: value}).encode() + b"\n"
        digest = hashlib.sha256() if kind == "group" else digest
        digest.update(line)
        written += line
    file.write_bytes(written)
    return file


def empty() -> None:
    for model in (Attempt, ParentEdge, Task, TaskGroup, Worker, Workgroup, AuditEntry, Change):
        model.objects.all().delete()


def assert_sound() -> None:
    broken = {each.name: ids for each in INVARIANTS if (ids := list(each.find()))}
    assert not broken


def make_world() -> None:
    """A group in the middle of its work, with all that a group can have; and two others."""
    group = create.create_group(id="g", name="nightly ‖ \u2028 \"'\\", is_paused=False)
    ugly = {"b": 1e16, "a": [1.0, 1e308, -0.0, 1.5e-7, 10**299], "é": "\u2028\U0001f600", "": {}}
    first = make_task(group, id="first", input=ugly, is_seed=True, priority=10)
    lease = claim_one()
    fail(lease, 'it said: "no"\nand left')
    make_due(first)
    hold(claim_one(), 0.001)
    make_due(first)
    complete(claim_one(), {"z": 9007199254740993, "y": None}, [{"id": "made"}])
    make_task(group, id="leader", key="k", worker="w")
    twin = make_task(group, id="twin", key="k", worker="w")
    complete(next(each for each in claim_all() if each.task_id == "leader"), "for both")
    twin.refresh_from_db()
    assert twin.merged_into == "leader" and twin.is_complete
    make_task(group, id="runs", key="r", worker="slow")
    make_task(group, id="follows", key="r", worker="slow")
    claim_all()
    assert Task.objects.get(pk="follows").merged_into == "runs"
    make_task(group, id="later", run_after=datetime(2999, 1, 1, tzinfo=UTC), workgroup="wg")
    make_task(group, id="last", parents=[first, twin, Task.objects.get(pk="runs")], worker="w")
    make_task(group, id="stopped", is_paused=True, remaining_attempts=0, error_delay_in_seconds=0)
    create.create_group(id="empty", is_paused=True)
    other = create.create_group(id="Other")
    complete_all = make_task(other, id="done", worker="w")
    complete(next(each for each in claim_all() if each.task_id == complete_all.pk))
    Worker.objects.filter(pk="w").update(max_concurrency=7)
    with audit.by("user:ann", address="192.0.2.1"):
        fleet.hold_workgroup("wg", seconds=3600)
        control.pause_tasks("g", ["later"])
        control.rename_group("g", name="nightly")


def test_what_comes_in_goes_out_again_byte_for_byte(db: None, tmp_path: Path) -> None:
    make_world()
    first = export(tmp_path)
    empty()

    told = bring_in(first)

    assert told.splitlines() == ["Other 1 task", "empty 0 tasks", "g 9 tasks"]
    assert body(export(tmp_path, name="again")) == body(first)
    assert_sound()

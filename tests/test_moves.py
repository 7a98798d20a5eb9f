"""`manage.py crewexport` and `crewimport`: backups, and moves from one store to another."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks import audit, control, create, edit, limits_and_holds
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.errors import InvalidInputError
from tasks.models import (
    Attempt,
    AuditEntry,
    Change,
    ParentEdge,
    Task,
    TaskGroup,
    Token,
    Worker,
    Workgroup,
)
from tasks.rules.jsonio import dump
from tasks.rules.transcript import Transcript
from tasks.sql import steer
from tasks.store import portions
from tasks.upkeep import seals
from tasks.upkeep.invariants import INVARIANTS
from tasks.upkeep.moves import exported, into, lines, out, records

from . import factories
from .crowd import rows_read
from .factories import claim_all, claim_one, complete, fail, hold, make_due, make_task
from .processes import ROOT


def export(folder: Path, *args: str, name: str = "out.ndjson") -> Path:
    file = folder / name
    call_command("crewexport", *(args or ["--all"]), "-o", str(file), stdout=io.StringIO())
    return file


def bring_in(file: Path, *args: str) -> str:
    result = io.StringIO()
    call_command("crewimport", str(file), *args, stdout=result)
    return result.getvalue()


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
    kept = Transcript("POST http://w/x\n\n{}", "HTTP 200\n\n<é\u2028>")
    made = factories.completed({"z": 9007199254740993, "y": None}, [{"id": "made"}])
    settle([Settlement(claim_one(), made, 200, kept)])
    make_task(group, id="leader", key="k", worker="w")
    twin = make_task(group, id="twin", key="k", worker="w")
    complete(next(each for each in claim_all() if each.task_id == "leader"), "for both")
    twin.refresh_from_db()
    assert twin.merged_into == "leader" and twin.is_complete
    make_task(group, id="runs", key="r", worker="slow", run_after=datetime(2020, 1, 1, tzinfo=UTC))
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
        limits_and_holds.hold_workgroup("wg", seconds=3600)
        control.pause_tasks("g", ["later"])
        control.rename_group("g", name="nightly")


def test_what_comes_in_goes_out_again_byte_for_byte(db: None, tmp_path: Path) -> None:
    make_world()
    first = export(tmp_path)
    empty()

    result = bring_in(first)

    assert result.splitlines() == ["Other 1 task", "empty 0 tasks", "g 9 tasks"]
    assert body(export(tmp_path, name="again")) == body(first)
    assert_sound()


def test_a_file_of_before_calls_were_kept_comes_in_without(db: None, tmp_path: Path) -> None:
    make_world()
    file = export(tmp_path)
    values = parsed(file)
    assert [value["answer"] for _, value in values if value.get("answer")]
    for _, value in values:
        value.pop("request", None), value.pop("answer", None)
    empty()

    bring_in(rewrite(file, values))

    assert Attempt.objects.exists()
    assert not Attempt.objects.exclude(request=None, answer=None).exists()


def test_a_packed_file_and_pipes_say_the_same(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    make_world()
    Task.objects.update(leased_by=None, leased_at=None)  # or each export ends them again
    plain, packed = export(tmp_path), export(tmp_path, name="out.gz")
    assert packed.stat().st_mode & 0o777 == 0o600

    call_command("crewexport", "--all", stderr=io.StringIO())
    piped = capfdbinary.readouterr().out

    assert body(packed) == body(plain) == piped.partition(b"\n")[2]
    empty()
    stdin = type("Stdin", (), {"buffer": io.BytesIO(packed.read_bytes())})
    monkeypatch.setattr(sys, "stdin", stdin)
    call_command("crewimport", "-", stdout=io.StringIO())
    assert body(export(tmp_path)) == body(packed)


def test_a_task_in_flight_comes_in_ready_under_a_higher_number(db: None, tmp_path: Path) -> None:
    make_task(factories.make_group(id="g"), id="a", key="k")
    make_task(TaskGroup.objects.get(), id="b", key="k")
    lease = claim_one()
    assert lease.attempt == 1
    file = export(tmp_path)
    empty()

    bring_in(file)

    task = Task.objects.get(pk=lease.task_id)
    assert (task.leased_by, task.attempt, task.remaining_attempts) == (None, 1, 5)
    (attempt,) = Attempt.objects.all()
    assert (attempt.number, attempt.outcome, attempt.worker) == (1, "abandoned", "worker-a")
    assert attempt.error == "abandoned: it ran when its group was exported"
    assert complete(lease, "late").late == 1
    assert Attempt.objects.get().late_outcome == "completed"
    assert [each.attempt for each in claim_all() if each.task_id == lease.task_id] == [2]
    assert_sound()


def test_replacing_never_gives_a_number_out_twice(db: None, tmp_path: Path) -> None:
    task = make_task(factories.make_group(id="g"), id="a")
    fail(claim_one())
    file = export(tmp_path)
    make_due(task)
    fail(claim_one())
    make_due(task)
    lease = claim_one()
    make_task(TaskGroup.objects.get(), id="new")
    assert lease.attempt == 3

    assert bring_in(file, "--replace") == "g 1 task\n"

    task = Task.objects.get()
    assert (task.pk, task.attempt, task.leased_by, task.errors) == ("a", 3, None, ["boom"])
    assert complete(lease).late == 1
    make_due(task)
    assert claim_one().attempt == 4
    assert_sound()


def test_groups_whose_ids_are_in_use_stop_it_or_are_left_alone(db: None, tmp_path: Path) -> None:
    make_world()
    file = export(tmp_path)
    TaskGroup.objects.filter(pk="Other").delete()
    with pytest.raises(CommandError, match=r"line \d+: a task group with the id empty exists alr"):
        bring_in(file)
    # What came before it is kept, so that --skip-existing goes on from there.
    assert Task.objects.filter(pk="done").exists()
    TaskGroup.objects.get(pk="Other").delete()
    Task.objects.filter(pk="first").update(name="mine")

    result = bring_in(file, "--skip-existing")

    assert result.splitlines() == [
        "Other 1 task",
        "empty 0 tasks, left alone: its id is in use",
        "g 9 tasks, left alone: its id is in use",
    ]
    assert Task.objects.get(pk="first").name == "mine"
    assert Task.objects.filter(pk="done").exists()


def test_a_copy_comes_in_beside_its_original(db: None, tmp_path: Path) -> None:
    make_world()
    file = export(tmp_path, "--group", "g")

    bring_in(file, "--rename-suffix=.copy")

    copy = TaskGroup.objects.get(pk="g.copy")
    assert copy.task_count == copy.tasks.count() == 9
    assert set(
        ParentEdge.objects.filter(child="last.copy").values_list("parent_id", flat=True)
    ) == {
        "first.copy",
        "twin.copy",
        "runs.copy",
    }
    made = Task.objects.get(pk="made.copy")
    assert made.created_by == "first.copy"
    assert Task.objects.get(pk="twin.copy").merged_into == "leader.copy"
    assert Attempt.objects.filter(task="first.copy").count() == 3
    # Nobody did anything to it but bring it in.
    (entry,) = AuditEntry.objects.filter(group_id="g.copy")
    assert (entry.verb, entry.count, entry.detail) == ("create", 9, {"imported": "out.ndjson"})
    assert_sound()


def test_what_another_completed_comes_in_when_its_key_was_edited_since(
    db: None, tmp_path: Path
) -> None:
    make_world()
    edit.edit_task("g", "twin", {"key": ""})

    bring_in(export(tmp_path, "--group", "g"), "--rename-suffix=.copy")

    copy = Task.objects.get(pk="twin.copy")
    assert (copy.merged_into, copy.key) == ("leader.copy", "")


def test_a_dry_run_checks_all_and_stores_nothing(db: None, tmp_path: Path) -> None:
    make_world()
    Task.objects.update(leased_by=None, leased_at=None)  # or each export ends them again
    file = export(tmp_path)
    before = body(file)
    rows = [Worker, Workgroup, AuditEntry, Change]
    counts = [model.objects.count() for model in rows]

    result = bring_in(file, "--dry-run", "--replace")

    assert result.endswith("g 9 tasks\nDry run: nothing is stored\n")
    assert body(export(tmp_path)) == before
    assert [model.objects.count() for model in rows] == counts
    with pytest.raises(CommandError, match="exists already"):
        bring_in(file, "--dry-run")


def test_of_a_cut_file_no_half_group_is_stored(db: None, tmp_path: Path) -> None:
    make_world()
    whole = export(tmp_path).read_bytes().splitlines(keepends=True)
    kinds = [next(iter(json.loads(line))) for line in whole]
    assert kinds.count("groupEnd") == 3
    for cut in range(1, len(whole)):
        empty()
        half = whole[cut][: len(whole[cut]) // 2] if cut % 2 else b""
        file = tmp_path / "cut"
        file.write_bytes(b"".join(whole[:cut]) + half)

        with pytest.raises(CommandError, match=f"line {cut + 1}: .*the file ends here"):
            bring_in(file)

        assert TaskGroup.objects.count() == kinds[:cut].count("groupEnd")
        for group in TaskGroup.objects.all():
            assert group.task_count == group.tasks.count()


def test_a_packed_file_that_is_cut_says_so(db: None, tmp_path: Path) -> None:
    make_world()
    file = export(tmp_path, name="out.gz")
    file.write_bytes(file.read_bytes()[:-200])
    empty()

    with pytest.raises(CommandError, match=r"line \d+: .*cut or damaged"):
        bring_in(file)

    assert not TaskGroup.objects.filter(pk="g").exists()
    file.write_bytes(file.read_bytes()[:5])
    with pytest.raises(CommandError, match="line 1: the file is cut or damaged"):
        bring_in(file)


def test_a_changed_byte_is_found(db: None, tmp_path: Path) -> None:
    make_task(factories.make_group(id="g"), id="a", name="one")
    file = export(tmp_path)
    empty()
    file.write_bytes(file.read_bytes().replace(b'"name":"one"', b'"name":"two"'))

    with pytest.raises(CommandError, match=r"line 5: the checksum differs"):
        bring_in(file)

    assert not TaskGroup.objects.exists()


def _small(**fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """A whole file with a group of two tasks; `fields` change the first."""
    time = "2026-01-02T03:04:05.000006Z"
    task = {
        "id": "a",
        "runAfter": time,
        "createdAt": time,
        "attempt": 1,
        "pendingParents": 0,
        "heldCount": 0,
        "rescues": 0,
    }
    attempt = {
        "taskId": "a",
        "number": 1,
        "worker": "w",
        "scheduler": "s",
        "outcome": "failed",
        "status": 500,
        "error": "boom",
        "note": "",
        "startedAt": time,
        "finishedAt": time,
        "lateAt": None,
        "lateOutcome": "",
        "lateStatus": None,
        "lateError": "",
    }
    return [
        ("crew", {"format": 1}),
        ("group", {"id": "g", "name": "", "isPaused": False, "createdAt": time}),
        ("task", task | fields),
        ("task", task | {"id": "b"}),
        ("attempt", attempt),
        ("worker", {"name": "w", "maxConcurrency": 3}),
        ("workgroup", {"name": "wg", "heldUntil": time, "heldBy": ""}),
        ("groupEnd", {"id": "g", "tasks": 2, "attempts": 1, "entries": 0, "sha256": ""}),
        ("crewEnd", {"groups": 1, "tasks": 2}),
    ]


def _with(kind: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(k, value | fields if k == kind else value) for k, value in _small()]


def test_what_counts_is_counted_again(db: None, tmp_path: Path) -> None:
    tasks = _small(parentIds=["b"], pendingParents=7)

    bring_in(rewrite(tmp_path / "x", tasks))

    assert Task.objects.get(pk="a").pending_parents == 1
    assert TaskGroup.objects.get().task_count == 2
    assert_sound()


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (_small(parentIds=["x"]), "line 8: cannot find all parents for task a: x"),
        (_small(parentIds=["old"]), "line 8: cannot find all parents for task a: old"),
        (_small(parentIds=["a"]), "lines 3 to 4: task a names itself as a parent"),
        (_small(id="b"), "lines 3 to 4: duplicate task id: b"),
        (_small(id="old"), "lines 3 to 4: a task with the id old exists already, in group mine"),
        (_small(id=7), "line 3: id is missing"),
        (_small(id="a/b"), "line 3: id must be 1 to 200 letters"),
        (_small(attempt=None), "line 3: attempt is missing"),
        (_small(attempt=-1), "line 3: attempt must be between 0 and"),
        (_small(attempt=0), "line 5: attempt 1 of a: the task is not among"),
        (_small(createdAt=None), "line 3: createdAt is missing"),
        (_small(runAfter="soon"), "line 3: runAfter must be an RFC 3339 time"),
        (_small(isComplete=True), "line 3: completedAt is missing"),
        (_small(mergedInto="b"), "line 3: mergedInto is for complete tasks only"),
        (
            _small(isComplete=True, completedAt="2026-01-01T00:00:00Z", mergedInto="b", key="k"),
            "line 8: task a: no task of its group has completed for it",
        ),
        (_small(input="x" * 2_000_000), "line 3: input is larger than 1048576 bytes"),
        (_with("attempt", taskId="old"), "line 5: attempt 1 of old: the task is not among"),
        (_with("attempt", outcome="won"), "line 5: outcome must be one of completed, failed"),
        (_with("attempt", status="many"), "line 5: status must be a whole number"),
        (_with("attempt", error="x" * 20_000), "line 5: error must be a text of at most"),
        ([*_small()[:5], _small()[4], *_small()[5:]], "lines 5 to 6: an attempt comes twice"),
        (_with("worker", name=""), "line 6: name is missing"),
        (_with("worker", maxConcurrency=-1), "line 6: maxConcurrency must be between 0"),
        (_with("group", id=None), "line 2: id is missing"),
        (_with("group", isPaused="no"), "line 2: isPaused must be true or false"),
        (_with("groupEnd", tasks=3), "line 8: the group had 3 tasks, and 2 came"),
        (_with("groupEnd", attempts=0), "line 8: the group had 0 attempts, and 1 came"),
        (_with("crewEnd", groups=2), "line 9: there were 1 groups, of 2"),
        ([*_small(), _small()[-1]], "line 10: the file goes on after its end"),
        (_with("crew", format=2, version="9.9"), "line 1: written in format 2 by Crew 9.9; this"),
        ([_small()[0], *_small()[2:]], "line 2: a task where a group begins"),
        ([*_small()[:3], _small()[1], *_small()[3:]], "line 4: a group within a group"),
        ([_small()[0], ("tokens", {})], "line 2: 'tokens' is no kind of line that this Crew"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_line(
    db: None, tmp_path: Path, values: list[Any], error: str
) -> None:
    make_task(factories.make_group(id="mine"), id="old")

    with pytest.raises(CommandError) as raised:
        bring_in(rewrite(tmp_path / "x", values))

    assert error in str(raised.value)
    assert "\n" not in str(raised.value)
    if "line 9" not in error and "line 10" not in error:
        assert (TaskGroup.objects.count(), Task.objects.count()) == (1, 1)
        assert not Attempt.objects.exists() and not ParentEdge.objects.exists()
    assert_sound()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"{", "line 2: the file ends here, within a line"),
        (b"{\n", "line 2: not JSON"),
        (b"[]\n", "line 2: a line must be an object with one key"),
        (b'{"group":{},"task":{}}\n', "line 2: a line must be an object with one key"),
        (b'{"group":5}\n', "line 2: 'group' is no kind of line"),
        (b'{"group":{"id":"a","id":"b"}}\n', "line 2: key 'id' twice"),
        (b'{"group":{"id":"\\ud800"}}\n', "line 2: NUL or lone surrogate"),
        (b"\xff\n", "line 2: not UTF-8"),
    ],
)
def test_what_is_no_line_of_ours_is_refused(
    db: None, tmp_path: Path, line: bytes, error: str
) -> None:
    file = tmp_path / "x"
    file.write_bytes(b'{"crew":{"format":1}}\n' + line)

    with pytest.raises(CommandError, match=error):
        bring_in(file)


def test_a_line_without_end_is_not_read_to_its_end(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 1_000)
    file = tmp_path / "x"
    file.write_bytes(b'{"crew":{"format":1}}\n' + b"[" * 100_000)

    with pytest.raises(CommandError, match="line 2: longer than 1000 bytes"):
        bring_in(file)


def test_cycles_are_refused_also_among_complete_tasks(db: None, tmp_path: Path) -> None:
    values = _small(parentIds=["b"])
    values[3] = ("task", values[3][1] | {"parentIds": ["a"]})
    done = {"isComplete": True, "completedAt": "2026-01-01T00:00:00Z"}

    for more in ({}, done):
        with pytest.raises(CommandError, match="line 8: tasks form a cycle: a, b"):
            bring_in(
                rewrite(tmp_path / "x", [(k, v | (more if k == "task" else {})) for k, v in values])
            )

    assert not TaskGroup.objects.exists()


def test_the_limits_of_groups_and_parents_hold(db: None, tmp_path: Path, settings: Any) -> None:
    file = rewrite(tmp_path / "x", _small(parentIds=["b", "c"]))
    settings.CREW_MAX_PARENTS = 1
    with pytest.raises(CommandError, match="task a has more than 1 parents"):
        bring_in(file)
    settings.CREW_MAX_GROUP_TASKS = 1
    with pytest.raises(CommandError, match="a group holds at most 1 tasks"):
        bring_in(file)


def test_limits_and_holds_that_are_known_stay_as_they_are(db: None, tmp_path: Path) -> None:
    file = rewrite(tmp_path / "x", _small(worker="w2"))
    Worker.objects.create(name="w", max_concurrency=9)

    bring_in(file)

    assert dict(Worker.objects.values_list("name", "max_concurrency")) == {"w": 9, "w2": None}
    until = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert Workgroup.objects.get(pk="wg").held_until == until
    Workgroup.objects.update(held_until=None)
    bring_in(file, "--replace")
    assert Workgroup.objects.get(pk="wg").held_until is None


def test_the_history_comes_along_once_and_the_import_is_in_it(db: None, tmp_path: Path) -> None:
    make_world()
    file = export(tmp_path, "--group", "g")

    bring_in(file, "--replace")
    bring_in(file, "--replace")

    verbs = list(audit.of_group("g").order_by("id").values_list("verb", flat=True))
    assert verbs == ["pause", "edit", "delete", "create", "delete", "create"]
    assert all(
        who.startswith("shell") for who in audit.of_group("g").values_list("who", flat=True)[:4]
    )
    control.delete_group("g")
    AuditEntry.objects.all().delete()
    bring_in(file)
    first, second, last = audit.of_group("g").order_by("id")
    assert (first.who, first.verb, first.address) == ("user:ann", "pause", "192.0.2.1")
    assert (second.verb, second.detail) == ("edit", {"fields": ["name"]})
    assert last.verb == "create"
    assert [first.is_imported, second.is_imported, last.is_imported] == [True, True, False]
    assert (seals.seal_some(), seals.broken()) == (3, [])


def test_browsers_and_schedulers_are_told(db: None, tmp_path: Path) -> None:
    file = rewrite(tmp_path / "x", _small())

    bring_in(file)

    result = Change.objects.order_by("id").values_list("group_id", "workgroup", "group_event")
    assert list(result) == [("", "wg", ""), ("g", "", "update"), ("g", "", "reload")]


def test_no_secret_leaves(db: None, tmp_path: Path, settings: Any) -> None:
    settings.CREW_SIGNING_SECRETS = ["whsec_c2lnbmluZy1zZWNyZXQtb2Ytb3Vycw=="]
    settings.CREW_WORKER_AUTHORIZATION_HEADER = "Bearer to-the-workers"
    settings.CREW_AUTH_TOKEN = "a-fixed-token-of-ours"
    settings.SECRET_KEY = "the-secret-key-of-ours"
    result = io.StringIO()
    call_command("crewtoken", "nightly", "--scope", "read", stdout=result)
    make_world()

    data = export(tmp_path).read_bytes()

    secrets = [
        Token.objects.get().digest,
        *settings.CREW_SIGNING_SECRETS,
        *result.getvalue().split(),
    ]
    secrets = [each for each in secrets if len(each) > 20]
    secrets += [settings.CREW_AUTH_TOKEN, "to-the-workers", settings.SECRET_KEY]
    assert len(secrets) >= 5
    assert not [each for each in secrets if each.encode() in data]


def test_finished_groups_are_chosen_by_their_last_completion(db: None, tmp_path: Path) -> None:
    for id_ in ("old", "new", "open"):
        make_task(factories.make_group(id=id_), id=f"{id_}-task")
    for lease in claim_all():
        if lease.group_id != "open":
            complete(lease)
    TaskGroup.objects.update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
    Task.objects.filter(pk="old-task").update(completed_at=datetime(2026, 1, 31, 23, tzinfo=UTC))
    Task.objects.filter(pk="new-task").update(completed_at=datetime(2026, 2, 1, tzinfo=UTC))

    for text in ("2026-02-01", "2026-02-01T00:00:00Z", "2026-02-01T01:00:00+01:00"):
        file = export(tmp_path, "--finished-before", text)
        assert [v["id"] for kind, v in parsed(file) if kind == "group"] == ["old"]


def test_an_unknown_group_writes_nothing(db: None, tmp_path: Path) -> None:
    factories.make_group(id="g")
    file = export(tmp_path)
    before = file.read_bytes()

    with pytest.raises(CommandError, match="there is no task group nope"):
        export(tmp_path, "--group", "g", "nope")

    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_a_pipe_is_written_to_and_a_link_is_followed(db: None, tmp_path: Path) -> None:
    factories.make_group(id="g")
    pipe, link, real = (tmp_path / name for name in ("pipe", "link", "real"))
    os.mkfifo(pipe)
    link.symlink_to(real)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()

    export(tmp_path, name="pipe")
    export(tmp_path, name="link")

    reader.join(10)
    assert pipe.is_fifo() and link.is_symlink()
    assert body(real) == read[0].partition(b"\n")[2]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "pipe", "real"]


def test_the_header_says_which_crew_wrote_it(db: None, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    kind, header = parsed(export(tmp_path))[0]

    assert (kind, header["format"], header["version"]) == ("crew", 1, project["version"])
    assert datetime.fromisoformat(header["at"]).tzinfo


@pytest.mark.parametrize("args", [[], ["--all", "--group", "g"], ["--finished-before", "soon"]])
def test_it_must_be_said_which_groups(args: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("crewexport", *args)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--group", "g"], "--group is for a list of tasks"),
        (["--skip-existing", "--replace"], "not allowed with"),
        (["--rename-suffix=/x"], "line 2: id must be"),
        ([f"--rename-suffix={'x' * 200}"], "line 2: id must be"),
    ],
)
def test_options_that_do_not_go_together(
    db: None, tmp_path: Path, args: list[str], error: str
) -> None:
    with pytest.raises(CommandError, match=error):
        bring_in(rewrite(tmp_path / "x", _small()), *args)


def test_options_of_exports_are_refused_for_a_json_file(db: None, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"id": "g"}')

    with pytest.raises(CommandError, match="This is no export"):
        bring_in(file, "--replace")
    assert bring_in(file, "--dry-run") == "g 0 tasks\nDry run: nothing is stored\n"
    assert not TaskGroup.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_export_sees_one_moment_and_holds_nobody_up(tmp_path: Path) -> None:
    make_task(factories.make_group(id="a"), id="a1")
    make_task(factories.make_group(id="b"), id="b1")
    before = body(export(tmp_path))
    done = []

    class Slow(lines.Writer):
        def put(self, kind: str, value: Any) -> None:
            super().put(kind, value)
            if kind == "group" and not done:
                done.extend(factories.in_threads(lambda _: change(), [0]))

    def change() -> bool:
        make_task(TaskGroup.objects.get(pk="b"), id="b2")
        control.delete_tasks("a", ["a1"])
        claim_all()
        return True

    sink = io.BytesIO()
    with out.snapshot():
        out.write(Slow(sink))

    assert done == [True]
    assert sink.getvalue().partition(b"\n")[2] == before
    assert set(Task.objects.values_list("pk", flat=True)) == {"b1", "b2"}
    # The connection is as it was: a create may write.
    make_task(TaskGroup.objects.get(pk="a"), id="a2")


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
numbers = st.one_of(
    st.integers(-(10**300) + 1, 10**300 - 1),
    st.integers(-1000, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
)
labels = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@hypothesis_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    tasks=st.lists(
        st.fixed_dictionaries(
            {
                "name": labels,
                "key": labels.filter(lambda text: not text.isspace()),
                "workgroup": labels.filter(lambda text: not text.isspace()),
                "input": values,
                "output": values,
                "errors": st.lists(texts, max_size=3),
                "isComplete": st.booleans(),
                "isSeed": st.booleans(),
                "isPaused": st.booleans(),
                "priority": st.integers(-10, 10),
                "remainingAttempts": st.integers(0, 1000),
                "errorDelayInSeconds": st.integers(0, 31_536_000),
                "runAfter": st.datetimes(
                    datetime(1, 1, 2),
                    datetime(9999, 12, 30),
                ).map(lambda moment: f"{moment.isoformat()}Z"),
            }
        ),
        max_size=4,
    ),
    edges=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    name=labels,
)
def test_whatever_a_group_holds_comes_back(
    db: None, tmp_path: Path, tasks: list[dict[str, Any]], edges: set[tuple[int, int]], name: str
) -> None:
    empty()
    for place, task in enumerate(tasks):
        task["id"] = f"t{place}"
        parents = [f"t{parent}" for child, parent in sorted(edges) if child == place > parent]
        task["parentIds"] = parents
    create.create_group(id="g", name=name, tasks=reversed(tasks))
    rows = list(Task.objects.order_by("id").values())
    first = written()
    empty()

    result = list(exported.bring_in(lines.Lines(io.BytesIO(first)), into.How("a test")))

    assert [each.tasks for each in result] == [len(tasks)]
    assert written().partition(b"\n")[2] == first.partition(b"\n")[2]
    assert TaskGroup.objects.get().name == name
    for was, now in zip(rows, Task.objects.order_by("id").values(), strict=True):
        # 1e16 and 10000000000000000 are one number in JSON, and in PostgreSQL.
        for field in ("input", "output"):
            assert lines.payload(dump(now.pop(field))) == lines.payload(dump(was.pop(field)))
        assert now == was
    assert_sound()


def written() -> bytes:
    sink = io.BytesIO()
    with out.snapshot():
        out.write(lines.Writer(sink))
    return sink.getvalue()


@pytest.mark.postgres
@pytest.mark.django_db
def test_tasks_go_out_as_many_at_once_as_their_bytes_allow(monkeypatch: Any) -> None:
    monkeypatch.setattr(portions, "PORTION", 50_000)
    tasks = [{"id": f"t{n}", "input": token_urlsafe(15_000)} for n in range(5)]
    create.create_group(id="g", tasks=[*tasks, {"id": "u"}, {"id": "v"}])

    assert list(islice(out._portions("g"), 5)) == [2, 2, 3, 1, 1]
    assert written().count(b'{"task":') == 7


def test_what_comes_in_is_not_looked_for_among_all_of_its_group(fresh_tables: None) -> None:
    tasks = [{"id": f"t{n}"} for n in range(2_000)]
    group = create.create_group(id="g", tasks=tasks)
    Task.objects.update(attempt=1)
    incoming = into.Incoming(records.GroupRow(group.pk), is_replacing=False)
    row = records.attempt(dict(_small()[4][1]), "")

    def add() -> None:  # numbers that no task has come to: nothing is stored, all is looked at
        with pytest.raises(InvalidInputError), transaction.atomic():
            steer()
            incoming.add_attempts([row | {"task_id": f"t{n}", "number": 2} for n in range(50)])

    # The other way round it was 26,000.
    assert rows_read(add) < 1_000


@contextmanager
def peak() -> Iterator[list[int]]:
    """How many MiB the memory of this process grew meanwhile, at its highest."""
    grown: list[int] = []
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    before = _resident("VmRSS")
    yield grown
    grown.append((_resident("VmHWM") - before) // 1024)


def _resident(word: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(word))


# Another store of another kind, in a process of its own.
ELSEWHERE = """
import sys, django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("crewimport", sys.argv[1])
call_command("crewcheck")
call_command("crewexport", "--all", "-o", sys.argv[2])
"""


@pytest.mark.postgres
def test_from_postgresql_to_sqlite_and_back_it_is_the_same(
    transactional_db: None, tmp_path: Path
) -> None:
    make_world()
    first, second = export(tmp_path), tmp_path / "second.gz"
    elsewhere = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'other.sqlite3'}",
        "DEBUG": "1",
        "DJANGO_SETTINGS_MODULE": "crewsite.settings",
    }

    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(first), str(second)],
        cwd=ROOT,
        env=os.environ | elsewhere,
        capture_output=True,
        text=True,
        timeout=100,
    )
    empty()
    result = bring_in(second)

    assert done.returncode == 0, done.stderr
    assert result.splitlines() == ["Other 1 task", "empty 0 tasks", "g 9 tasks"]
    assert body(second) == body(first)
    assert body(export(tmp_path, name="third")) == body(first)
    assert_sound()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_the_group(db: None, tmp_path: Path, settings: Any) -> None:
    settings.DEBUG = True  # Django would keep all statements
    group = create.create_group(id="g", tasks=[{"id": f"t{n}"} for n in range(8_000)])
    Task.objects.update(input={"text": "x" * 8_000})
    ParentEdge.objects.bulk_create(
        ParentEdge(child_id=f"t{n}", parent_id=f"t{n - 1}", position=0) for n in range(1, 8_000)
    )
    Task.objects.exclude(pk="t0").update(pending_parents=1)

    with peak() as out_grown:
        file = export(tmp_path)
    with peak() as in_grown:
        bring_in(file, "--replace")

    assert file.stat().st_size > 64_000_000
    assert TaskGroup.objects.get(pk=group.pk).task_count == 8_000
    print(f"export {out_grown[0]} MiB, import {in_grown[0]} MiB")
    assert out_grown[0] < 40
    assert in_grown[0] < 55


def test_what_a_leader_completed_comes_in_when_its_id_was_given_again(
    db: None, tmp_path: Path
) -> None:
    make_world()
    control.delete_tasks("g", ["leader"], children="detach")
    make_task(TaskGroup.objects.get(pk="g"), id="leader")

    bring_in(export(tmp_path, "--group", "g"), "--rename-suffix=.copy")

    assert Task.objects.get(pk="twin.copy").merged_into is None
    assert_sound()

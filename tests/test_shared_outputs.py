"""A long output of a key is stored once: whoever shares it reads it, whatever becomes of the rest.

Its leader, its duplicates and their children; every face that shows an output.
"""

import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import responses
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now

from tasks import control, edit
from tasks.conf import conf
from tasks.engine import parts, repair, settle, shared_outcomes
from tasks.engine.heartbeat import Heart
from tasks.engine.settlement import Settlement
from tasks.engine.shared_outcomes import COPIED
from tasks.live import messages
from tasks.live.change_reader import Tail
from tasks.models import Change, ParentEdge, SchedulerProcess, SharedOutput, Task, TaskGroup
from tasks.models.output import READ
from tasks.rules.decide import Completed
from tasks.sql import OUTPUT
from tasks.store import edges
from tasks.testing import run_group
from tasks.upkeep import expired_rows
from tasks.upkeep.invariants import INVARIANTS

from .api_client import Api
from .factories import (
    claim_all,
    claim_one,
    complete,
    fail,
    hold,
    make_due,
    make_group,
    make_scheduler,
    make_task,
)
from .factories import wire as sent

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nobody_is_older(monkeypatch: Any) -> None:
    """Whatever scheduler an earlier test started beside another one."""
    monkeypatch.setattr(shared_outcomes, "shares_from", 0.0)


LONG = {"text": "x" * COPIED, "n": 7}


def shared(count: int = 3, output: Any = LONG) -> TaskGroup:
    """A leader and its duplicates d0, d1, ..., complete with this output; c waits for all."""
    group = make_group(id="g")
    make_task(group, id="leader", key="k")
    duplicates = [make_task(group, id=f"d{n}", key="k") for n in range(count)]
    make_task(group, id="c", parents=duplicates)
    (lease,) = claim_all()
    assert lease.task_id == "leader"
    complete(lease, output)
    return group


def outputs(*ids: str) -> list[Any]:
    found = dict(Task.objects.values_list("id", "output"))
    return [found[id_] for id_ in ids]


def stored(id_: str) -> tuple[Any, bool]:
    """What stands in the task's own column, and whether it refers to a shared output."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT output, shared_output_id FROM crew_task WHERE id = %s", [id_])
        own, refers_to = cursor.fetchone()
    return own, refers_to is not None


def assert_sound() -> None:
    rules = [each for each in INVARIANTS if not each.is_warning]
    assert not {rule.name: ids for rule in rules if (ids := rule.find())}


# --- What is stored ----------------------------------------------------------------------------


def test_a_long_output_is_stored_once_for_all_duplicates() -> None:
    shared(count=5)

    assert SharedOutput.objects.get().value == LONG
    assert [stored(f"d{n}") for n in range(5)] == [(None, True)] * 5
    assert stored("leader")[1] is False
    assert outputs("leader", *(f"d{n}" for n in range(5))) == [LONG] * 6
    assert_sound()


@pytest.mark.django_db(transaction=True)
def test_a_scheduler_that_starts_beside_others_shares_when_they_had_time_to_stop() -> None:
    """One of the version before looks once a sweep whether the tables are too new for it."""
    make_scheduler("of before")
    heart = Heart("new", slots=1, wake=threading.Event())
    now = time.monotonic()

    heart.start()
    heart.stop(gone=True)
    shared()
    assert shared_outcomes.shares_from == pytest.approx(now + 2 * conf.CREW_SWEEP_SECONDS, abs=5)
    assert (outputs("d0"), SharedOutput.objects.count()) == ([LONG], 0)

    SchedulerProcess.objects.all().delete()
    shared_outcomes.shares_from = 0.0
    heart = Heart("alone", slots=1, wake=threading.Event())
    heart.start()
    heart.stop(gone=True)
    assert shared_outcomes.shares_from == 0.0


def test_a_short_output_is_copied_and_read_without_a_second_look() -> None:
    shared(output={"n": 1})

    assert not SharedOutput.objects.exists()
    assert stored("d0")[1] is False
    assert outputs("d0", "d2") == [{"n": 1}] * 2


@pytest.mark.parametrize("key", ["", "k"])
def test_without_duplicates_nothing_is_shared(key: str) -> None:
    group = make_group()
    make_task(group, id="done", key=key, is_complete=True, output=1)
    make_task(group, id="alone", key=key)

    complete(claim_one(), LONG)

    assert not SharedOutput.objects.exists()
    assert outputs("done", "alone") == [1, LONG]


@pytest.mark.parametrize("most", [1, 2, 10])
def test_each_key_of_a_batch_shares_its_own(monkeypatch: Any, most: int) -> None:
    monkeypatch.setattr(parts, "TASKS_PER_STATEMENT", most)
    group = make_group()
    for key in "abc":
        make_task(group, id=f"{key}0", key=key)
        make_task(group, id=f"{key}1", key=key)
        make_task(group, id=f"{key}2", key=key)
    leases = claim_all()
    settle.settle(
        [Settlement(lease, Completed(json.dumps(lease.key * 2_000)), 200) for lease in leases]
    )

    assert outputs("a1", "b1", "c1") == ["a" * 2_000, "b" * 2_000, "c" * 2_000]
    assert outputs("a2", "b2", "c2") == ["a" * 2_000, "b" * 2_000, "c" * 2_000]
    assert SharedOutput.objects.count() == 3


def test_what_fails_or_is_held_shares_nothing() -> None:
    group = make_group()
    make_task(group, id="a", key="k", error_delay_in_seconds=0)
    make_task(group, id="b", key="k", error_delay_in_seconds=0, output=LONG)

    hold(claim_one(), 0.001)
    make_due()
    fail(claim_one(), "x" * 4_000)

    assert not SharedOutput.objects.exists()
    assert set(map(len, Task.objects.values_list("errors", flat=True))) == {1}
    assert outputs("b") == [LONG]


@pytest.mark.parametrize("outcome", ["completed", "failed", "held"])
def test_many_duplicates_and_children_are_written_some_at_a_time(
    monkeypatch: Any, outcome: str
) -> None:
    """None twice, none left out; the parts are one transaction."""
    monkeypatch.setattr(parts, "TASKS_PER_STATEMENT", 3)
    monkeypatch.setattr(parts, "FOUND", 7)
    tasks = [sent(id="leader", key="k")]
    tasks += [sent(id=f"d{n:02}", key="k") for n in range(20)]
    tasks += [sent(id=f"c{n:02}", parent_ids=["leader", f"d{n:02}"]) for n in range(20)]
    tasks += [sent(id="all", parent_ids=[f"d{n:02}" for n in range(20)])]
    make_group(id="g", tasks=tasks)
    (lease,) = claim_all()
    done = {"completed": complete, "failed": fail, "held": hold}[outcome]
    done(lease, *([LONG] if outcome == "completed" else []))

    duplicates = Task.objects.filter(id__startswith="d")
    pending = set(Task.objects.filter(id__startswith="c").values_list("pending_parents", flat=True))
    if outcome == "completed":
        assert set(duplicates.values_list("is_complete", flat=True)) == {True}
        assert [row.output for row in duplicates] == [LONG] * 20
        assert pending == {0}
        assert Task.objects.get(pk="all").pending_parents == 0
        assert SharedOutput.objects.count() == 1
    else:
        left = {"failed": 4, "held": 5}[outcome]
        assert set(duplicates.values_list("remaining_attempts", "merged_into")) == {(left, None)}
        assert {len(row.errors) for row in duplicates} == {5 - left}
        assert pending == {2}
    (told,) = Change.objects.order_by("-id")[:1]
    assert {f"d{n:02}" for n in range(20)} <= set(told.updated)
    assert_sound()


def test_children_put_off_by_one_of_many_answers_are_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(parts, "TASKS_PER_STATEMENT", 3)
    monkeypatch.setattr(parts, "FOUND", 3)
    children = [sent(id=f"c{n}", parent_ids=["p"]) for n in range(10)]
    make_group(id="g", tasks=[sent(id="p"), *children])
    Change.objects.all().delete()

    complete(claim_one(), 1, children_delay=30)

    told = {id_ for change in Change.objects.all() for id_ in change.updated}
    assert {f"c{n}" for n in range(10)} <= told
    assert not claim_all()
    assert set(Task.objects.filter(id__startswith="c").values_list("pending_parents")) == {(0,)}


@pytest.mark.postgres
def test_of_many_only_some_follow_most_and_all_are_settled() -> None:
    many = 2_050
    group = make_group(id="g")
    Task.objects.bulk_create(
        Task(group=group, id=f"t{n}", worker="w", key="k") for n in range(many)
    )
    TaskGroup.objects.update(task_count=many)

    (lease,) = claim_all(slots=1)
    followers = Task.objects.filter(merged_into=lease.task_id).count()
    complete(lease, LONG)

    assert followers == 2_000
    assert Task.objects.filter(is_complete=True, output__n=7).count() == many
    assert SharedOutput.objects.count() == 1


# --- What becomes of it ------------------------------------------------------------------------


def test_what_becomes_of_the_leader_changes_nothing_for_the_others() -> None:
    group = shared()

    control.reset_tasks("g", ["leader"])
    assert outputs("leader", "d0") == [None, LONG]
    complete(claim_next("leader"), "another")
    assert outputs("leader", "d0", "d1") == ["another", LONG, LONG]
    edit.edit_task("g", "leader", {"output": 5})
    assert outputs("leader", "d0") == [5, LONG]
    control.delete_tasks("g", ["leader"])
    make_task(group, id="leader", key="k", output="a stranger", is_complete=True)

    assert outputs("d0", "d1", "d2") == [LONG] * 3
    expired_rows.prune()
    assert outputs("d0", "d1", "d2") == [LONG] * 3
    assert_sound()


def test_what_becomes_of_one_duplicate_changes_nothing_for_the_others() -> None:
    shared(count=6)

    edit.edit_task("g", "d0", {"output": {"mine": 1}})
    edit.edit_task("g", "d1", {"output": None})
    control.reset_tasks("g", ["d2"])
    edit.complete_task("g", "d3", output="by hand")
    control.delete_tasks("g", ["d4"], children="detach")

    assert outputs("d0", "d1", "d2", "d3", "d5") == [{"mine": 1}, None, None, "by hand", LONG]
    assert [stored(f"d{n}")[1] for n in (0, 1, 2, 3, 5)] == [False] * 4 + [True]
    assert_sound()


def test_a_duplicate_that_is_not_complete_any_more_keeps_it_until_it_ends_again() -> None:
    shared()
    edit.edit_task("g", "d0", {"is_complete": False, "key": "", "remaining_attempts": 2})
    edit.edit_task("g", "d1", {"is_complete": False, "key": "", "remaining_attempts": 0})
    assert outputs("d0", "d1") == [LONG, LONG]

    fail(claim_next("d0"))
    assert outputs("d0") == [None]  # as of any answer: what came beside the error, nothing
    make_due()
    complete(claim_next("d0"), "its own")

    assert outputs("d0", "d1") == ["its own", LONG]
    assert stored("d0")[1] is False
    assert_sound()


def test_those_that_run_again_share_the_new_output() -> None:
    shared()
    first = SharedOutput.objects.get().pk
    control.reset_tasks("g", ["leader", "d0", "d1"])

    complete(claim_next("leader", "d0", "d1"), LONG | {"n": 8})

    assert [output["n"] for output in outputs("leader", "d0", "d1", "d2")] == [8, 8, 8, 7]
    assert SharedOutput.objects.count() == 2
    control.reset_tasks("g", ["d2"])
    assert expired_rows.prune()["outputs"] == 1
    assert SharedOutput.objects.get().pk != first
    assert outputs("d0") == [LONG | {"n": 8}]


def test_a_group_that_is_reset_or_deleted_leaves_nothing_behind() -> None:
    shared()

    control.reset_group("g")
    assert outputs("leader", "d0") == [None, None]
    assert sum(expired_rows.prune_outputs()) == 1
    assert sum(expired_rows.prune_outputs()) == 0
    complete(claim_next("leader", "d0", "d1", "d2"), LONG)
    control.delete_group("g")

    assert sum(expired_rows.prune_outputs()) == 1
    assert_sound()


def test_of_very_many_some_are_looked_at_each_time(monkeypatch: Any) -> None:
    shared()
    monkeypatch.setattr(expired_rows, "LOOKED_AT", 4)
    monkeypatch.setattr(expired_rows, "ROWS_PER_STATEMENT", 2)
    values = SharedOutput.objects.bulk_create(SharedOutput(value=n) for n in range(20))
    ids = sorted(value.pk for value in values)
    Task.objects.bulk_create(
        Task(id=f"u{n}", group_id="g", is_complete=True, completed_at=Now(), shared_output_id=id_)
        for n, id_ in enumerate(ids)
    )

    gone = list(expired_rows.prune_outputs())

    assert sum(gone) == 0 and len(gone) <= 3
    assert outputs("d0") == [LONG]


def test_where_many_can_go_all_are_looked_at_each_once(monkeypatch: Any) -> None:
    shared()
    monkeypatch.setattr(expired_rows, "LOOKED_AT", 4)
    monkeypatch.setattr(expired_rows, "ROWS_PER_STATEMENT", 2)
    SharedOutput.objects.bulk_create(SharedOutput(value=n) for n in range(20))

    gone = list(expired_rows.prune_outputs())

    assert sum(gone) == 20 and len(gone) <= 12
    assert outputs("d0") == [LONG]


def claim_next(*ids: str) -> Any:
    return next(lease for lease in claim_all() if lease.task_id in ids)


# --- Who reads it ------------------------------------------------------------------------------


def test_the_words_of_the_models_and_of_our_statements_are_the_same() -> None:
    assert READ == OUTPUT


def test_every_query_of_an_embedder_reads_it() -> None:
    shared()
    task = Task.objects.get(pk="d0")
    deferred = Task.objects.defer("output").get(pk="d0")

    assert task.output == deferred.output == LONG
    assert Task.objects.values("output").get(pk="d0") == {"output": LONG}
    assert Task.objects.filter(output__n=7).count() == 4
    assert Task.objects.filter(output__isnull=True).count() == 1
    assert Task.objects.values_list("output__n", flat=True).get(pk="d1") == 7
    assert ParentEdge.objects.filter(parent__output__n=7).count() == 3
    assert ParentEdge.objects.select_related("parent").first().parent.output == LONG
    assert [row.output["n"] for row in Task.objects.order_by("output__n").exclude(pk="c")] == [
        7
    ] * 4
    task.refresh_from_db(fields=["output"])
    assert task.output == LONG


def test_who_writes_an_output_by_the_model_lets_go_of_the_shared_one() -> None:
    shared()
    task = Task.objects.get(pk="d0")
    task.output = None
    task.save(update_fields=["output"])
    Task.objects.filter(pk="d1").update(output={"n": 1})
    other = Task.objects.get(pk="d2")
    other.name = "renamed"
    other.save(update_fields=["name"])

    assert outputs("d0", "d1", "d2") == [None, {"n": 1}, LONG]
    Task.objects.bulk_update([Task(pk="d2", output=[2])], ["output"])
    assert outputs("d2") == [[2]]
    assert_sound()


def test_children_get_it(settings: Any) -> None:
    shared()

    (lease,) = claim_all()

    assert [json.loads(parent.output_json) for parent in lease.parents] == [LONG] * 3
    settings.CREW_MAX_PAYLOAD_BYTES = 2 * COPIED  # it counts for each parent
    control.pause_group("g")


def test_what_is_too_large_with_it_is_not_sent(settings: Any) -> None:
    settings.CREW_MAX_PAYLOAD_BYTES = 2 * COPIED
    shared()

    (lease,) = claim_all()

    assert "more than CREW_MAX_PAYLOAD_BYTES" in lease.too_large
    assert not lease.parents


def test_the_api_shows_it_on_every_route(no_auth: None, api: Api) -> None:
    shared()

    assert api.get("/api/v1/task/d0").json["output"] == LONG
    assert api.get("/api/v1/task_group/g/task/d1").json["output"] == LONG
    listed = {
        row["id"]: row["output"] for row in api.get("/api/v1/task_group/g/tasks").json["tasks"]
    }
    assert listed == dict.fromkeys(["leader", "d0", "d1", "d2"], LONG) | {"c": None}
    parents = api.get("/api/v1/task/c/parents").json["tasks"]
    assert [row["output"] for row in parents] == [LONG] * 3
    called = api.get("/api/v1/task/c/call").json
    assert [row["output"] for row in json.loads(called["body"])["parents"]] == [LONG] * 3
    renamed = api.put("/api/v1/task_group/g/task/d0", {"name": "new", "output": LONG | {"n": 9}})
    assert renamed.json["output"] == LONG | {"n": 9}
    assert api.get("/api/v1/task/d1").json["output"] == LONG


def test_streams_show_it() -> None:
    tail = Tail()
    tail.start(["g"])
    shared()

    texts = messages.messages(tail.read(["g"]), {"g"}, 7, before={"g": 6})["g"]

    told = {m["task"]["id"]: m["task"]["output"] for m in map(json.loads, texts) if "task" in m}
    assert told["d0"] == told["d2"] == told["leader"] == LONG


def test_the_admin_shows_it_and_a_form_that_leaves_it_writes_nothing(admin_client: Any) -> None:
    shared()
    url = "/admin/crew/task/d0/change/"

    page = admin_client.get(url).content.decode()

    assert "x" * COPIED in page
    form = admin_client.get(url).context["adminform"].form
    assert form.initial["output"] == LONG


def test_run_group_hands_it_on(settings: Any) -> None:
    settings.CREW_WORKER_BASE_URL = "http://workers.test/"
    group = make_group(
        tasks=[
            sent(id="a", key="k"),
            sent(id="b", key="k"),
            sent(id="c", worker="worker-b", parent_ids=["a", "b"]),
        ]
    )
    with responses.RequestsMock() as http:
        http.post("http://workers.test/worker-a", json={"output": LONG})
        http.post("http://workers.test/worker-b", json={"output": 1})
        report = run_group(group)

    assert [parent.output for parent in report.calls[-1].parents] == [LONG, LONG]


def test_what_is_deleted_is_told_without_what_it_shares(
    monkeypatch: Any,
) -> None:
    """It would be read once for each of thousands."""
    monkeypatch.setattr(edges, "TASKS_IN_MEMORY", 2)
    shared()
    make_task(TaskGroup.objects.get(), id="other", output="its own", is_complete=True)
    Change.objects.all().delete()

    control.delete_tasks("g", ["d0", "d1", "d2", "other"], children="detach")

    gone = {last["id"]: last["output"] for c in Change.objects.all() for last in c.deleted}
    assert gone == {"d0": None, "d1": None, "d2": None, "other": "its own"}
    assert outputs("leader") == [LONG]


# --- Checks ------------------------------------------------------------------------------------


def test_a_reference_that_leads_nowhere_is_found_and_no_reader_stumbles(tmp_path: Path) -> None:
    shared()
    SharedOutput.objects.all().delete()

    out = io.StringIO()
    with pytest.raises(CommandError, match="shared_output"):
        call_command("crewcheck", "--repair", stdout=out)

    assert "BROKEN shared_output" in out.getvalue()
    assert outputs("d0") == [None]
    assert exported(tmp_path).read_text().count("x" * COPIED) == 1  # the leader's


def test_of_two_outputs_its_own_counts_and_the_other_is_let_go() -> None:
    """What a process of the version before writes beside a reference that it does not know."""
    shared()
    with connection.cursor() as cursor:
        cursor.execute("""UPDATE crew_task SET output = '"old"' WHERE id = 'd0'""")
    assert outputs("d0", "d1") == ["old", LONG]

    assert repair.repair("one_output") == 1

    assert outputs("d0", "d1") == ["old", LONG]
    assert_sound()


# --- Moves -------------------------------------------------------------------------------------


def exported(folder: Path, name: str = "out.ndjson") -> Path:
    file = folder / name
    call_command("crewexport", "--all", "-o", str(file), stdout=io.StringIO())
    return file


def bring_in(file: Path, *args: str) -> None:
    call_command("crewimport", str(file), *args, stdout=io.StringIO())


def test_it_stands_once_in_an_export_and_once_in_the_store_that_reads_it(tmp_path: Path) -> None:
    shared(count=50)
    file = exported(tmp_path)
    text = file.read_text()
    assert text.count("x" * COPIED) == 2  # the leader's own, and the one that 50 share
    control.delete_group("g")
    expired_rows.prune()

    bring_in(file)

    assert outputs("leader", "d0", "d49") == [LONG] * 3
    assert SharedOutput.objects.count() == 1
    assert_sound()
    again = exported(tmp_path, "again.ndjson")
    tasks = [line for line in text.splitlines() if '{"task"' in line or '{"output"' in line]
    assert [line for line in again.read_text().splitlines() if line in tasks] == tasks


def test_a_copy_beside_its_original_shares_among_itself(tmp_path: Path) -> None:
    shared()
    file = exported(tmp_path)
    bring_in(file, "--rename-suffix=-2")
    control.delete_group("g")
    expired_rows.prune()

    assert outputs("d0-2", "d2-2") == [LONG, LONG]
    bring_in(file, "--dry-run")
    bring_in(exported(tmp_path, "copy"), "--replace")
    expired_rows.prune()
    assert SharedOutput.objects.count() == 1
    assert outputs("d0-2") == [LONG]
    assert_sound()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda line: line.replace('"sharedOutput":1', '"sharedOutput":2'), "no output 2 before"),
        (lambda line: line.replace('"sharedOutput":1', '"sharedOutput":"x"'), "sharedOutput"),
        (lambda line: line.replace('{"output":{"number":1', '{"output":{"number":0'), "number"),
        (lambda line: f"{line}\n{line}" if line.startswith('{"output"') else line, "comes twice"),
        (
            lambda line: (
                line.replace('"output":null', '"output":1') if "sharedOutput" in line else line
            ),
            "without an output of their own",
        ),
        (lambda line: '{"output":{"number":1}}' if line.startswith('{"output"') else line, "value"),
    ],
)
def test_what_is_wrong_with_a_shared_output_is_said(tmp_path: Path, damage: Any, why: str) -> None:
    shared()
    file = exported(tmp_path)
    control.delete_group("g")
    file.write_text("\n".join(map(damage, file.read_text().splitlines())) + "\n")

    with pytest.raises(CommandError, match=why):
        bring_in(file)

    assert not Task.objects.exists()

"""A hold that is opened, and a worker that is tried, release what they stopped."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from tasks import control, limits_and_holds
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.insight.explain import explain
from tasks.insight.fleet import now
from tasks.models import Change, Limit, Task, TaskGroup, Workgroup
from tasks.rules.decide import Failed
from tasks.rules.outages import IN_A_ROW, Fault
from tasks.upkeep import invariants

from .api_client import Api
from .factories import (
    answer,
    claim,
    claim_all,
    claim_ids,
    complete,
    from_now,
    in_an_hour,
    make_due,
    make_group,
    make_task,
    row,
    wire,
)

pytestmark = pytest.mark.django_db

ASKED = [
    (429, {}, "1500"),
    (503, {}, "25m"),
    (200, {"error": "busy", "workgroupDelayInSeconds": 1500}, None),
    (500, {"workgroupDelayInSeconds": 1500}, None),
    (429, {"workgroupDelayInSeconds": 20}, "1500"),
]


def limited(count: int = 30, **fields: object) -> TaskGroup:
    """So many tasks of the workgroup "shop" whose worker answered 429."""
    group = make_group(tasks=[wire(workgroup="shop", **fields) for _ in range(count)])
    for lease in claim_all():
        answer(lease, 429, retry_after="1500")
    return group


def resting(count: int) -> None:
    """So many tasks whose worker cannot be reached, and rests."""
    make_group(tasks=[wire() for _ in range(count)])
    why = Failed("no connection to http://127.0.0.1:1/worker-a: connection refused")
    for lease in claim_all():
        settle([Settlement(lease, why, None, fault=Fault.REFUSED)])
    assert Limit.objects.get(kind="worker", name="worker-a").rests


@pytest.mark.parametrize(("status", "body", "header"), ASKED)
def test_an_opened_hold_lets_go_all_that_it_stopped(
    status: int, body: dict[str, object], header: str | None
) -> None:
    make_group(tasks=[wire(workgroup="shop") for _ in range(30)])
    for lease in claim_all():
        answer(lease, status, body, retry_after=header)
    assert claim_all() == []
    (hold,) = now.fleet()[1].holds
    assert (hold.workgroup, hold.waiting) == ("shop", 30)

    limits_and_holds.hold_workgroup("shop", seconds=0)

    assert len(claim_all()) == 30


def test_a_hold_that_a_person_shortens_is_shorter_for_all() -> None:
    limited()

    limits_and_holds.hold_workgroup("shop", seconds=60)

    assert claim(slots=100).wait == pytest.approx(60, abs=5)
    Workgroup.objects.update(held_until=Now() - timedelta(seconds=1))
    assert len(claim_all()) == 30


def test_what_people_see_of_it(api: Api, settings: object, no_auth: None) -> None:
    group = limited(2)
    (id_, _) = Task.objects.values_list("id", flat=True)
    path = f"/api/v1/task_group/{group.pk}/task/{id_}"
    result = explain(id_)
    assert result and [gate.code for gate in result.gates if gate.code != "no_scheduler"] == [
        "held"
    ]
    assert from_now(result.gates[0].until) == pytest.approx(1500, abs=10)  # type: ignore[arg-type]
    before = api.get(path).json
    assert before["state"] == "scheduled"
    Change.objects.all().delete()

    assert api.post("/api/v1/workgroup/shop/open").status == 200

    after = api.get(path).json
    assert after["state"] == "ready" and after["runAfter"] < before["runAfter"]
    assert Change.objects.filter(workgroup="shop").exists()
    result = explain(id_)
    assert result and [gate.code for gate in result.gates if gate.code != "no_scheduler"] == []
    assert list(invariants.left_over()) == []


def test_the_followers_of_a_key_are_let_go_too() -> None:
    group = make_group(
        tasks=[
            wire(id="a", key="k", workgroup="shop"),
            wire(id="b", key="k", workgroup="shop"),
            wire(id="c", key="k", workgroup="other"),
        ]
    )
    (lease,) = claim_all()
    assert lease.task_id in ("a", "b", "c")
    Task.objects.filter(pk="c").update(worker="")  # or it may be what runs
    if lease.task_id == "c":
        complete(lease)
        return
    answer(lease, 429, retry_after="1500")
    assert claim_ids() == []
    assert from_now(Task.objects.get(pk="c").run_after) == pytest.approx(1500, abs=10)

    limits_and_holds.hold_workgroup("shop", seconds=0)
    control.delete_tasks(group.pk, [lease.task_id])

    assert claim_ids() == [{"a": "b", "b": "a"}[lease.task_id]]


def test_a_task_that_is_scheduled_stays_so_when_the_hold_is_opened() -> None:
    limited(1)
    later = make_task(workgroup="shop", run_after=in_an_hour())

    limits_and_holds.hold_workgroup("shop", seconds=0)

    assert len(claim_all()) == 1
    assert from_now(row(later)["run_after"]) > 3_000


def test_paused_and_resumed_under_a_hold() -> None:
    group = limited()
    control.pause_group(group.pk)
    limits_and_holds.hold_workgroup("shop", seconds=0)
    assert claim_all() == []

    control.resume_group(group.pk)

    assert len(claim_all()) == 30


def test_a_task_held_again_and_again_gives_way_to_the_others() -> None:
    make_group(tasks=[wire(id=f"t{n}", workgroup="shop") for n in range(4)])
    order = []
    for _ in range(4):
        (lease,) = claim_all(slots=1)
        order.append(lease.task_id)
        answer(lease, 429, retry_after="1500")
        limits_and_holds.hold_workgroup("shop", seconds=0)

    assert sorted(order) == ["t0", "t1", "t2", "t3"]


def test_a_rate_limit_without_a_workgroup_is_the_tasks_own() -> None:
    task = make_task()

    for lease in claim_all():
        answer(lease, 429, retry_after="1500")

    assert from_now(row(task)["run_after"]) == pytest.approx(1500, abs=10)


@pytest.mark.parametrize("known", ["new", "over", "opened", "held"])
def test_a_hold_comes_with_what_it_stopped(tmp_path: Path, known: str) -> None:
    limited()
    until = Workgroup.objects.get().held_until
    file = tmp_path / "out.ndjson"
    call_command("crewexport", "--all", "-o", str(file), stdout=io.StringIO())
    control.delete_group(TaskGroup.objects.get().pk)
    rows = Workgroup.objects.all()
    match known:
        case "new":
            rows.delete()
        case "over":
            rows.update(held_until=Now() - timedelta(seconds=1))
        case "opened":
            limits_and_holds.hold_workgroup("shop", seconds=0)
        case "held":
            limits_and_holds.hold_workgroup("shop", seconds=7)

    call_command("crewimport", str(file), stdout=io.StringIO())

    held = Workgroup.objects.get().held_until
    if known in ("new", "over"):
        assert held == until
        assert claim_all() == []
        limits_and_holds.hold_workgroup("shop", seconds=0)
    elif known == "held":
        assert from_now(held) <= 7  # type: ignore[arg-type]
        limits_and_holds.hold_workgroup("shop", seconds=0)
    assert len(claim_all()) == 30


# --- A worker that rests ---


@pytest.mark.parametrize("count", [IN_A_ROW, IN_A_ROW + 10])
def test_a_worker_is_tried_at_once_though_all_its_tasks_wait(count: int) -> None:
    resting(count)
    assert not Task.objects.filter(run_after__lte=Now()).exists()

    limits_and_holds.try_worker("worker-a")

    (probe,) = claim_all()
    complete(probe)
    assert len(claim_all()) == 1  # the ramp begins
    assert Task.objects.filter(run_after__lte=Now()).count() == count


def test_what_people_put_off_or_an_answer_did_stays_so() -> None:
    later = make_task(id="later", run_after=in_an_hour())
    make_task(id="moved")
    resting(IN_A_ROW)
    Task.objects.filter(pk="moved").update(run_after=Now() + timedelta(hours=1))
    wrong, limited = make_task(id="wrong"), make_task(id="limited")
    fresh = {lease.task_id: lease for lease in _claimed_in_spite_of_the_rest()}
    answer(fresh["wrong"], 500)
    answer(fresh["limited"], 503, retry_after="1500")
    Limit.objects.update(rests=1, held_until=Now(), held_since=Now(), ramp=None)

    limits_and_holds.try_worker("worker-a")

    for task in (later, Task(pk="moved"), wrong, limited):
        assert from_now(row(task)["run_after"]) > 30, task.pk


def test_a_worker_that_is_well_frees_nothing() -> None:
    make_task(id="t")
    why = Failed("no connection to http://127.0.0.1:1/worker-a: connection refused")
    settle([Settlement(claim_all()[0], why, None, fault=Fault.REFUSED)])

    limits_and_holds.try_worker("worker-a")

    assert from_now(Task.objects.get().run_after) > 30


def test_all_that_waits_for_a_worker_is_freed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_and_holds, "FREED_PER_TRANSACTION", 7)
    resting(IN_A_ROW + 2)
    Change.objects.all().delete()

    limits_and_holds.try_worker("worker-a")

    assert not Task.objects.filter(run_after__gt=Now()).exists()
    result = [id_ for change in Change.objects.all() for id_ in change.updated]
    assert len(result) == IN_A_ROW + 2


def _claimed_in_spite_of_the_rest() -> list[object]:
    Limit.objects.all().delete()
    make_due(*Task.objects.filter(pk__in=["wrong", "limited"]))
    return claim_all()  # type: ignore[return-value]

"""The mistakes of the Crew that was (contract, part 4): each has a test that we do not make it."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import control, create, edit
from tasks.engine import settle
from tasks.engine.rescue import sweep_once
from tasks.engine.scheduler import Scheduler
from tasks.engine.settle import settle_each
from tasks.engine.settlement import Returned, Settlement
from tasks.errors import ConflictError, InvalidInputError, NotFoundError
from tasks.models import SchedulerProcess, Task, TaskGroup, Workgroup

from .api_client import GROUP, GROUPS, TASK, TASKS, TEXT, Api, AtRoot
from .factories import (
    answer,
    claim_all,
    claim_ids,
    claim_one,
    complete,
    completed,
    fail,
    from_now,
    in_an_hour,
    make_due,
    make_group,
    make_task,
    row,
    wire,
)
from .stub_worker import StubWorker

pytestmark = pytest.mark.django_db


def long_ago():
    return timezone.now() - timedelta(days=30)


def parent_and_child():
    return make_group(tasks=[wire(id="parent"), wire(id="child", parent_ids=["parent"])])


def test_b01_deleting_a_task_that_waits_leaves_nothing_behind():
    group = make_group(tasks=[wire(id="scheduled", run_after=in_an_hour()), wire(id="failed")])
    fail(claim_one())

    control.delete_tasks(group.pk, ["scheduled", "failed"])

    make_due()
    assert claim_ids() == []


def test_b05_children_delay_is_applied():
    parent_and_child()

    answer(
        claim_one(),
        200,
        {"childrenDelayInSeconds": 60, "children": [{"id": "new", "worker": "w"}]},
    )

    assert claim_ids() == []
    assert from_now(row(Task(pk="child"))["run_after"]) == pytest.approx(60, abs=10)
    assert from_now(row(Task(pk="new"))["run_after"]) == pytest.approx(60, abs=10)


@pytest.mark.parametrize("status", [200, 429, 500])
def test_b06_workgroup_delay_is_applied(status):
    make_task(workgroup="w")
    lease = claim_one()
    make_task(workgroup="w")

    answer(lease, status, {"workgroupDelayInSeconds": 60})

    assert claim_ids() == []
    assert from_now(Workgroup.objects.get().held_until) == pytest.approx(60, abs=10)


def test_b06_workgroup_delay_spares_tasks_without_a_workgroup_and_complete_ones():
    make_task()
    lease = claim_one()
    make_task(id="free")
    done = make_task(is_complete=True)
    before = row(done)

    answer(lease, 200, {"workgroupDelayInSeconds": 60})

    assert claim_ids() == ["free"]
    assert row(done) == before


def test_b07_a_key_merges_in_its_group_only_and_spares_complete_tasks():
    group = make_group()
    make_task(group, key="k")
    done = make_task(group, key="k", is_complete=True, output="old")
    stranger = make_task(key="k", is_paused=True)
    before = row(done), row(stranger)

    complete(claim_one(), "new")

    assert (row(done), row(stranger)) == before


def test_b07_a_key_is_assigned_once_and_children_of_duplicates_start():
    group = make_group()
    make_task(group, id="one", key="k")
    make_task(group, id="two", key="k")
    make_task(group, id="child-one", parent_ids=["one"])
    make_task(group, id="child-two", parent_ids=["two"])
    (lease,) = claim_all()

    complete(lease, 1)

    assert sorted(claim_ids()) == ["child-one", "child-two"]


def test_b07_an_error_is_shared_by_the_key():
    group = make_group()
    tasks = [make_task(group, key="k"), make_task(group, key="k")]

    fail(claim_one(), "boom")

    assert [(row(t)["errors"], row(t)["remaining_attempts"]) for t in tasks] == [(["boom"], 4)] * 2


def test_b08_deleting_a_group_deletes_all_of_it():
    group = make_group(tasks=[wire() for _ in range(100)])

    assert control.delete_group(group.pk) == 100
    assert not Task.objects.exists()


def test_b09_what_was_due_before_a_restart_runs_after_it():
    make_task(id="overdue", run_after=long_ago())
    make_task(id="was-running", run_after=long_ago())
    claim_all("before")
    make_task(id="never-started", run_after=long_ago())
    SchedulerProcess.objects.update(beat_at=long_ago())

    sweep_once()

    assert sorted(claim_ids("after")) == ["never-started", "overdue", "was-running"]


@pytest.mark.django_db(transaction=True)
def test_b10_a_drain_ignores_scheduled_tasks(settings):
    make_task(run_after="2090-01-01T00:00:00Z")
    with StubWorker() as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        scheduler = Scheduler()
        started = time.monotonic()
        timer = threading.Timer(0.1, scheduler.stop)
        timer.start()

        scheduler.run()

    timer.join()
    assert time.monotonic() - started < 5
    assert worker.requests == []
    assert SchedulerProcess.objects.count() == 0


@pytest.mark.parametrize("whole_group", [True, False])
def test_b16_a_task_deleted_while_it_runs_creates_no_children(whole_group):
    group = make_group(tasks=[wire(id="t")])
    lease = claim_one()
    if whole_group:
        control.delete_group(group.pk)
    else:
        control.delete_tasks(group.pk, ["t"])

    complete(lease, 1, [{"id": "ghost"}])

    assert not Task.objects.exists()


def test_b17_a_reset_is_not_mixed_with_the_running_attempt():
    task = make_task()
    lease = claim_one()

    control.reset_group(task.group_id, remaining_attempts=9)
    complete(lease, "old")

    after = row(task)
    assert (after["remaining_attempts"], after["output"], after["is_complete"]) == (9, None, False)


def test_b17_a_pause_while_it_runs_is_kept():
    task = make_task()
    lease = claim_one()

    edit.edit_task(task.group_id, task.pk, {"is_paused": True})
    fail(lease)

    make_due()
    assert row(task)["is_paused"] is True
    assert claim_ids() == []


def test_b18_a_duplicate_id_is_refused_and_changes_nothing():
    task = make_task(id="t", name="first")
    before = row(task)

    with pytest.raises(ConflictError):
        create.create_tasks(task.group_id, [wire(id="t", name="second")])
    with pytest.raises(ConflictError):
        create.create_group(id=task.group_id, name="second")

    assert row(task) == before
    assert TaskGroup.objects.get().task_count == 1


def test_b19_children_come_all_or_not_at_all_and_foreign_tasks_stay():
    foreign = make_task(id="foreign", is_paused=True)
    before = row(foreign)
    maker = make_task()

    complete(claim_one(), 1, [{"id": "x"}, {"id": "foreign"}, {"id": "y"}])

    assert row(foreign) == before
    assert set(Task.objects.values_list("id", flat=True)) == {"foreign", maker.pk}
    assert row(maker)["is_complete"] is False


def test_b20_a_child_never_runs_before_an_unknown_parent():
    group = make_group()

    with pytest.raises(InvalidInputError, match="cannot find all parents for task"):
        create.create_tasks(group.pk, [wire(parent_ids=["to-come"])])

    assert not Task.objects.exists()


def test_b21_a_delete_leaves_no_orphans():
    group = parent_and_child()

    control.delete_tasks(group.pk, ["parent"])

    assert not Task.objects.exists()


def test_b22_a_task_needs_a_group():
    with pytest.raises(NotFoundError):
        create.create_tasks("nowhere", [wire()])


def test_b23_completing_by_hand_starts_the_children():
    group = parent_and_child()

    edit.complete_task(group.pk, "parent")

    assert claim_ids() == ["child"]


def test_b24_children_created_later_do_not_escape_a_pause():
    group = make_group(tasks=[wire()])
    lease = claim_one()
    control.pause_group(group.pk)

    complete(lease, 1, [{"id": "x"}])
    create.create_tasks(group.pk, [wire(id="y")])

    assert claim_ids() == []


def test_b25_parents_are_read_at_dispatch():
    group = parent_and_child()
    complete(claim_one(), "old")
    Task.objects.filter(pk="child").update(run_after=in_an_hour())
    control.reset_tasks(group.pk, ["parent"])
    make_due()

    while_reset = claim_all()
    complete(while_reset[0], "new")
    (child,) = claim_all()

    assert [lease.task_id for lease in while_reset] == ["parent"]
    assert [parent.output_json for parent in child.parents] == ['"new"']


def test_b26_nothing_starts_half_way_through_a_group_reset():
    group = parent_and_child()
    complete(claim_one())
    complete(claim_one())

    control.reset_group(group.pk)

    assert claim_ids() == ["parent"]


@pytest.mark.parametrize(
    "change",
    [
        lambda task: control.pause_tasks(task.group_id, [task.pk]),
        lambda task: edit.complete_task(task.group_id, task.pk),
        lambda task: control.delete_tasks(task.group_id, [task.pk]),
    ],
    ids=["paused", "completed", "deleted"],
)
def test_b27_run_conditions_count_again_after_the_throttlers_wait(change):
    task = make_task()
    settle_each([Settlement(claim_one(), Returned(60))])

    change(task)

    make_due()
    assert claim_ids() == []


def test_b28_a_lost_database_loses_no_result(monkeypatch):
    task = make_task()
    batch = [Settlement(claim_one(), completed(1), 200)]

    with monkeypatch.context() as away:
        away.setattr(settle, "run_steered", broken)
        with pytest.raises(OperationalError):
            settle_each(batch)
    while_away = row(task)["leased_by"]
    settle_each(batch)

    assert while_away == "s1"
    assert row(task)["is_complete"] is True


def broken(*_, **__):
    raise OperationalError("the connection was lost")


def test_b29_a_settle_overwrites_only_what_it_owns():
    task = make_task(name="old")
    lease = claim_one()
    Task.objects.filter(pk=task.pk).update(name="new", is_seed=True, priority=3)

    fail(lease)

    after = row(task)
    assert (after["name"], after["is_seed"], after["priority"]) == ("new", True, 3)


def test_b29_a_settle_brings_no_deleted_task_back():
    task = make_task()
    lease = claim_one()
    control.delete_tasks(task.group_id, [task.pk])

    fail(lease)

    assert row(task) is None


def test_b30_a_lease_lasts_as_long_as_its_scheduler_beats():
    task = make_task()
    claim_one("s1")
    Task.objects.filter(pk=task.pk).update(leased_at=long_ago())

    swept = sweep_once()

    assert swept == 0
    assert claim_ids("s2") == []
    assert row(task)["leased_by"] == "s1"


# --- The API's ---


@pytest.fixture
def api(settings):
    settings.ROOT_URLCONF = AtRoot
    settings.CREW_AUTHENTICATION = []
    return Api()


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-24T06:18:00.796654483Z",
        "2026-11-24T06:18:00Z",
        "2026-11-24T06:18:00.796+00:00",
        "2026-11-23T23:18:00.796-07:00",
        "0001-01-01T00:00:00Z",
        "",
    ],
)
def test_b02_run_after_takes_every_form_of_a_time(api, value):
    make_task(make_group(id="g"), id="t", run_after=in_an_hour())

    said = api.put(TASK, {"runAfter": value})

    assert said.status == 200
    assert claim_ids() == ["t"]


def test_b02_the_old_uis_form_can_send_back_what_it_got(api):
    make_task(make_group(id="g"), id="t")
    got = api.get(TASK).json

    said = api.put(TASK, {name: value for name, value in got.items() if name != "id"})

    assert (said.status, said.json) == (200, got)


@pytest.mark.parametrize("path", [GROUP, TASK])
@pytest.mark.parametrize("verb", ["reset", "retry"])
def test_b03_attempts_may_come_as_a_string_or_null(api, path, verb):
    task = make_task(make_group(id="g"), id="t", remaining_attempts=0)

    asked = ["7", None, "many"]
    said = [api.post(f"{path}/{verb}", {"remainingAttempts": value}).status for value in asked]
    api.post(f"{path}/{verb}", {"remainingAttempts": "7"})

    assert said == [200, 200, 400]
    assert row(task)["remaining_attempts"] == 7


def test_b04_retry_answers_with_the_task(api):
    make_task(make_group(id="g"), id="t", remaining_attempts=0)

    said = api.post(f"{TASK}/retry")

    assert (said.json["id"], said.json["remainingAttempts"]) == ("t", 5)


@pytest.mark.parametrize("path", [GROUPS, TASKS, GROUP, TASK, f"{GROUP}/progress"])
def test_b31_a_lost_database_is_no_empty_list(api, path):
    make_task(make_group(id="g"), id="t")

    with connection.execute_wrapper(broken):
        said = api.get(path)

    assert (said.status, said.text) == (503, "the database is busy, try again")


def test_b31_a_list_takes_a_fixed_number_of_queries(api):
    counts = []
    for size in (1, 40):
        make_group(id=f"g{size}", tasks=[wire(id=f"p{size}")])
        create.create_tasks(f"g{size}", [wire(parent_ids=[f"p{size}"]) for _ in range(size)])
        with CaptureQueriesContext(connection) as queries:
            api.get(f"/api/v1/task_group/g{size}/tasks?pageSize=0")
            api.get(f"{GROUPS}?pageSize=0&search=x")
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 6


def test_b32_ids_are_no_parts_of_other_keys(api):
    odd = ["x/children", "g/tasks", "tasks/x/mutex", "../g"]

    for id_ in odd:
        assert api.post(GROUPS, {"id": id_}).status == 400
    make_group(id="x", tasks=[wire(id="x")])
    make_group(id="tasks", tasks=[wire(id="tasks")])

    assert api.get("/api/v1/task_group/tasks/tasks").json["count"] == 1
    assert api.get("/api/v1/task_group/x/task/x").json["taskGroupId"] == "x"
    assert api.get("/api/v1/task/x/children").json["count"] == 0


@pytest.mark.parametrize(
    ("method", "path"), [("POST", GROUPS), ("PUT", GROUP), ("POST", TASKS), ("PUT", TASK)]
)
def test_b33_a_null_body_is_a_clients_error(api, method, path):
    make_task(make_group(id="g"), id="t")

    assert api.send(method, path, b"null").status == 400


def test_b33_null_fields_are_survived(api):
    make_task(make_group(id="g"), id="t", name="n", input=1)
    got = api.get(TASK).json

    said = api.put(TASK, dict.fromkeys(got))

    assert (said.status, said.json) == (200, got)


@pytest.mark.parametrize("rest", ["", "/task/t"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_b34_what_is_not_there_is_404(api, method, rest):
    said = api.send(method, f"{GROUP}{rest}", {"name": "x"} if method == "PUT" else b"")

    assert (said.status, said.type) == (404, TEXT)
    assert said.text in ("task group not found", "task not found")


@pytest.mark.parametrize(
    ("method", "rest"),
    [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/reset"), ("POST", "/retry")],
)
def test_b35_a_task_is_not_reached_through_another_group(api, method, rest):
    make_group(id="g")
    task = make_task(make_group(id="its"), id="t")
    before = row(task)

    said = api.send(method, f"{TASK}{rest}", b"" if method == "DELETE" else {"name": "x"})

    assert (said.status, said.text) == (404, "task not found")
    assert row(task) == before


def test_b36_errors_workgroup_key_and_parents_can_be_edited(api):
    group = make_group(id="g", tasks=[wire(id="p"), wire(id="q")])
    make_task(group, id="t", parent_ids=["p"], errors=["old"])
    edit = {"errors": [], "workgroup": "w", "key": "k", "parentIds": ["q", "p"]}

    said = api.put(TASK, edit)

    assert {name: said.json[name] for name in edit} == edit
    assert sorted(claim_ids()) == ["p", "q"]


def test_b41_large_integers_keep_their_digits(api):
    make_group(id="g")

    api.post(TASKS, b'{"id": "t", "input": 12345678901234567890}')

    assert b'"input":12345678901234567890,' in api.get(TASK).body


def test_b42_resetting_a_parent_makes_its_open_children_wait_again(api):
    group = make_group(id="g", tasks=[wire(id="t"), wire(id="done", parent_ids=["t"])])
    complete(claim_one())
    complete(claim_one())
    make_task(group, id="open", parent_ids=["t"])

    api.post(f"{TASK}/reset")

    # What is complete stays so (contract, part 3); what is not waits for the new output.
    assert api.get(f"{GROUP}/task/done").json["isComplete"] is True
    assert claim_ids() == ["t"]


def test_b43_no_token_is_found_by_what_was_the_tokens_rule(settings):
    settings.ROOT_URLCONF = AtRoot

    assert Api("dae4082985ef202439d16f9b25a8823e").get(GROUPS).status == 401

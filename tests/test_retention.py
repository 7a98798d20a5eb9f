"""Finished groups go when they are old enough, and nothing else does."""

import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction
from django.db.models.functions import Now

from tasks import control, create
from tasks.engine import heartbeat
from tasks.models import AuditEntry, Change, Task, TaskGroup
from tasks.upkeep import chores, expired_rows, finished_groups
from tasks.upkeep.invariants import INVARIANTS

from .factories import claim_one, complete, in_threads, make_group, make_task
from .processes import wait_until
from .test_locked_rows import forgotten
from .test_refused import refuse

pytestmark = pytest.mark.django_db

OLD = timedelta(days=31)


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch):
    monkeypatch.setattr(finished_groups, "GROUPS", 1)
    monkeypatch.setattr(finished_groups, "TASKS_PER_TRANSACTION", 2)


def age(group, by=OLD):
    """As if all of it had been so long ago."""
    TaskGroup.objects.filter(pk=group.pk).update(created_at=Now() - by)
    group.tasks.filter(is_complete=True).update(completed_at=Now() - by)
    return group


def finished(tasks=1):
    group = make_group()
    create.create_tasks(group.pk, [{"isComplete": True} for _ in range(tasks)])
    return age(group)


def assert_whole():
    assert {each.name: found for each in INVARIANTS if (found := list(each.find()))} == {}


def test_an_old_finished_group_goes_with_all_it_holds():
    group = make_group()
    first = make_task(group)
    complete(claim_one(), 1)
    second = make_task(group, parents=[first])
    complete(claim_one(), 2)
    make_task(group, parents=[first, second], is_complete=True)
    age(group)
    other = finished()
    age(other, timedelta(days=29))

    gone = finished_groups.prune_groups(30, seconds=60)

    assert gone == (1, 3)
    assert list(TaskGroup.objects.all()) == [other]
    assert Task.objects.count() == 1
    assert_whole()
    entry = AuditEntry.objects.get()
    assert (entry.who, entry.verb, entry.target) == ("retention", "delete", group.pk)
    assert Change.objects.filter(group_id=group.pk, group_event="delete").exists()


@pytest.mark.parametrize(
    "left",
    [
        {"worker": "w"},
        {"worker": "w", "remainingAttempts": 0},
        {"worker": "w", "isPaused": True},
        {"isComplete": True},
    ],
)
def test_what_is_not_finished_or_was_so_only_lately_stays(left):
    group = finished()
    create.create_tasks(group.pk, [left])
    age(make_group())  # nothing was begun in it

    assert finished_groups.prune_groups(30, seconds=60) == (0, 0)
    assert TaskGroup.objects.count() == 2


def test_a_large_group_that_was_finished_only_lately_stays():
    """Of which only its last part was."""
    group = finished(5)
    last = group.tasks.order_by("created_at", "id").last()
    Task.objects.filter(pk=last.pk).update(completed_at=Now())

    assert finished_groups.prune_groups(30, seconds=60) == (0, 0)
    assert group.tasks.count() == 5


def test_when_the_time_is_over_the_rest_waits_for_the_next_time():
    group = finished(5)
    finished(1)

    assert finished_groups.prune_groups(30, seconds=0) == (0, 2)
    assert (group.tasks.count(), TaskGroup.objects.get(pk=group.pk).task_count) == (3, 3)
    assert_whole()
    assert finished_groups.prune_groups(30, seconds=60) == (2, 4)


def test_a_group_that_somebody_goes_on_with_is_left_alone(monkeypatch):
    group = finished(5)
    remove = finished_groups.edges.remove

    def gone_on_with(group_id, ids, **how):
        remove(group_id, ids, **how)
        control.resume_group(group_id)
        create.create_tasks(group_id, [{"worker": "w"}])

    monkeypatch.setattr(finished_groups.edges, "remove", gone_on_with)

    assert finished_groups.prune_groups(30, seconds=60) == (0, 2)
    assert group.tasks.count() == 4


def test_a_task_that_was_run_again_meanwhile_keeps_what_is_left(monkeypatch):
    group = finished(5)
    last = group.tasks.order_by("created_at", "id").last()
    remove = finished_groups.edges.remove

    def run_again(group_id, ids, **how):
        remove(group_id, ids, **how)
        Task.objects.filter(pk=last.pk).update(completed_at=Now())

    monkeypatch.setattr(finished_groups.edges, "remove", run_again)

    assert finished_groups.prune_groups(30, seconds=60) == (0, 2)
    assert group.tasks.count() == 3
    assert finished_groups.prune_groups(30, seconds=60) == (0, 0)


def test_a_crash_in_the_middle_leaves_all_whole_and_the_next_run_goes_on(monkeypatch):
    group = finished(5)
    raw_delete, calls = finished_groups.edges.raw_delete, []

    def die_late(rows):
        calls.append(rows)
        if len(calls) == 7:  # in the second part, after its edges
            raise OperationalError("the machine is gone")
        return raw_delete(rows)

    with monkeypatch.context() as patch, pytest.raises(OperationalError):
        patch.setattr(finished_groups.edges, "raw_delete", die_late)
        finished_groups.prune_groups(30, seconds=60)

    assert (group.tasks.count(), TaskGroup.objects.get(pk=group.pk).task_count) == (3, 3)
    assert_whole()
    assert finished_groups.prune_groups(30, seconds=60) == (1, 3)
    assert_whole()


def test_groups_that_cannot_go_do_not_hide_those_behind_them():
    for _ in range(3):
        create.create_tasks(age(make_group(), 2 * OLD).pk, [{"worker": "w"}])
        lately = finished(1)
        age(lately, 2 * OLD)
        lately.tasks.update(completed_at=Now())
    group = finished(1)

    assert finished_groups.prune_groups(30, seconds=60) == (1, 1)
    assert not TaskGroup.objects.filter(pk=group.pk).exists()
    assert TaskGroup.objects.count() == 6


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_one_at_a_time_deletes_and_nobody_waits_for_it(monkeypatch):
    finished(1)
    monkeypatch.setattr(finished_groups, "TURN_WITHIN", 0.0)
    assert expired_rows.is_our_turn("groups")  # that turn is over with its statement

    with transaction.atomic():
        expired_rows.is_our_turn("groups")
        meanwhile = in_threads(lambda days: finished_groups.prune_groups(days, seconds=60), [30])

    assert meanwhile == [(0, 0)]
    assert finished_groups.prune_groups(30, seconds=60) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_scheduler_does_it_by_itself(settings, monkeypatch):
    settings.CREW_KEEP_DAYS = 30
    settings.CREW_SWEEP_SECONDS = 0.02
    monkeypatch.setattr(heartbeat, "FIRST_CHORES", 0.0)
    monkeypatch.setattr(chores, "EVERY", 0.0)
    group, other = finished(5), make_group()
    beating = heartbeat.Heart("s1", slots=1, wake=threading.Event())

    beating.start()
    try:
        wait_until(lambda: not TaskGroup.objects.filter(pk=group.pk).exists())
    finally:
        beating.stop(gone=True)

    assert list(TaskGroup.objects.all()) == [other]
    assert group.tasks.count() == 0


def crewprune(*args):
    out = StringIO()
    call_command("crewprune", *args, stdout=out)
    return out.getvalue()


def test_the_command_says_what_would_go_what_went_and_what_is_left():
    group = finished(3)

    assert crewprune("--days", "30", "--dry-run") == f"{group.pk} {group.name}: 3 tasks\n"
    assert "0 groups and 2 tasks deleted\nNot all: the time is over" in crewprune(
        "--days=30", "--seconds=0"
    )
    assert crewprune("--days", "30") == "1 groups and 1 tasks deleted\n"


@pytest.mark.parametrize("args", [(), ("--days=-1",), ("--days=nan",), ("--days=1e9",)])
def test_without_a_time_that_can_be_nothing_goes(args):
    finished()

    with pytest.raises(CommandError, match="CREW_KEEP_DAYS"):
        crewprune(*args)

    assert TaskGroup.objects.exists()


def test_the_setting_is_the_command_s_default(settings):
    settings.CREW_KEEP_DAYS = 30
    finished()

    assert "1 groups" in crewprune()


def test_a_group_that_the_database_keeps_stops_no_other(caplog):
    kept, gone = finished(), finished()
    TaskGroup.objects.filter(pk=kept.pk).update(created_at=Now() - 2 * OLD)
    refuse("crew_task", "DELETE", f"OLD.group_id = '{kept.pk}'")

    assert finished_groups.prune_groups(30, seconds=60) == (1, 1)

    assert list(TaskGroup.objects.all()) == [kept]
    assert f"{kept.pk} cannot be deleted" in caplog.text
    assert not TaskGroup.objects.filter(pk=gone.pk).exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_group_that_somebody_holds_stops_no_other():
    kept = finished()
    TaskGroup.objects.filter(pk=kept.pk).update(created_at=Now() - 2 * OLD)
    finished()

    with forgotten(f"SELECT FROM crew_taskgroup WHERE id = '{kept.pk}' FOR UPDATE"):
        assert finished_groups.prune_groups(30, seconds=60) == (1, 1)

    assert finished_groups.prune_groups(30, seconds=60) == (1, 1)

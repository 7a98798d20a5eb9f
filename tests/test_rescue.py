"""Leases of schedulers that died come back, and no others."""

import threading
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tasks.engine import heartbeat, rescue
from tasks.models import Attempt, SchedulerProcess, Task

from .factories import (
    claim_all,
    claim_ids,
    claim_one,
    complete,
    from_now,
    make_due,
    make_group,
    make_task,
    row,
    wire,
)

pytestmark = pytest.mark.django_db

LEASE = 30.0


def die(me="s1", seconds=LEASE + 5):
    """The scheduler was last heard of so long ago."""
    SchedulerProcess.objects.filter(pk=me).update(beat_at=Now() - timedelta(seconds=seconds))


def test_tasks_of_a_dead_scheduler_are_given_back():
    task = make_task(id="t")
    claim_one()
    die()

    given = rescue.rescue(lease_seconds=LEASE)

    after = row(task)
    attempt = Attempt.objects.get()
    assert given == 1
    assert (after["leased_by"], after["leased_at"]) == (None, None)
    assert (after["remaining_attempts"], after["rescues"]) == (4, 1)
    assert after["errors"] == ["abandoned: the scheduler that ran this attempt died"]
    assert (attempt.outcome, attempt.scheduler, attempt.number) == ("abandoned", "s1", 1)
    assert claim_ids("s2") == ["t"]


def test_a_living_scheduler_keeps_its_tasks():
    make_task()
    claim_one("dead")
    kept = make_task()
    claim_one("alive")
    die("dead")
    die("alive", LEASE - 10)
    before = row(kept)

    count = rescue.sweep_once()

    assert count == 1
    assert row(kept) == before
    assert list(SchedulerProcess.objects.values_list("id", flat=True)) == ["alive"]


def test_a_heartbeat_keeps_no_other_scheduler_alive():
    task = make_task()
    claim_one("dead")
    die("dead")
    alive = heartbeat.Heart("alive", slots=1, wake=threading.Event())

    alive._beat()
    alive._beat()

    assert rescue.sweep_once() == 1
    assert row(task)["leased_by"] is None
    assert list(SchedulerProcess.objects.values_list("id", flat=True)) == ["alive"]


def test_who_was_given_up_and_lives_is_known_again_when_it_beats():
    """Its machine stood still for longer than a lease, and goes on."""
    frozen = heartbeat.Heart("s1", slots=1, wake=threading.Event())
    frozen._beat()
    die()
    rescue.sweep_once()

    frozen._beat()
    kept = make_task(leased_by="s1", leased_at=Now(), attempt=1)

    assert rescue.sweep_once() == 0
    assert row(kept)["leased_by"] == "s1"
    assert list(SchedulerProcess.objects.values_list("id", flat=True)) == ["s1"]


def test_the_row_of_a_dead_scheduler_goes_last():
    make_task()
    claim_one()
    die()

    first = rescue.rescue(lease_seconds=LEASE)
    still = SchedulerProcess.objects.count()
    second = rescue.rescue(lease_seconds=LEASE)
    third = rescue.rescue(lease_seconds=LEASE)

    assert (first, still, second, third) == (1, 1, 0, -1)
    assert SchedulerProcess.objects.count() == 0


def test_a_sweep_gives_back_more_than_one_batch_of_several_schedulers():
    group = make_group(tasks=[{"worker": "w"}] * 450)
    claim_all("s1", slots=250)
    claim_all("s2", slots=250)
    die("s1")
    die("s2")

    count = rescue.sweep_once()

    assert count == 450
    assert not Task.objects.claimed().exists()
    assert Task.objects.filter(group=group, remaining_attempts=4).count() == 450


def test_the_third_loss_in_a_row_leaves_no_attempts():
    task = make_task(remaining_attempts=50)
    left = []
    for n in range(3):
        make_due()
        claim_one(f"s{n}")
        die(f"s{n}")
        rescue.sweep_once()
        left.append(row(task)["remaining_attempts"])

    assert left == [49, 48, 0]
    assert claim_ids() == []


def test_tasks_lost_twice_in_a_row_come_back_apart_from_each_other():
    """One of them may be what kills its schedulers: the others are not to be lost with it again."""
    make_group(tasks=[wire() for _ in range(200)])
    waits = []
    for me in ("s1", "s2"):
        claim_all(me, slots=200)
        die(me)
        rescue.sweep_once()
        due = Task.objects.values_list("run_after", flat=True)
        waits.append(sorted(from_now(moment) for moment in due))

    first, second = waits
    assert first[-1] <= 0
    assert second[-1] == pytest.approx(LEASE / 3, abs=2)
    assert second[100] == pytest.approx(LEASE / 6, abs=3)


def test_an_answer_between_two_losses_restarts_the_count():
    task = make_task(remaining_attempts=50, rescues=2, error_delay_in_seconds=0)
    lease = claim_one("s1")
    complete(lease)

    assert row(task)["rescues"] == 0


def test_followers_of_a_lost_leader_are_let_go():
    group = make_group()
    make_task(group, id="a", key="k")
    make_task(group, id="b", key="k")
    lease = claim_one()
    follower = Task.objects.get(merged_into=lease.task_id)
    die()

    rescue.sweep_once()

    assert row(follower)["merged_into"] is None
    assert row(follower)["remaining_attempts"] == 5
    make_due()
    assert len(claim_ids("s2")) == 1


def test_the_answer_of_the_dead_is_kept_as_late():
    task = make_task()
    lease = claim_one()
    die()
    rescue.sweep_once()
    before = row(task)

    settled = complete(lease, "late")

    assert settled.late == 1
    assert row(task) == before
    assert Attempt.objects.get().late_outcome == "completed"


def test_children_of_a_lost_task_keep_waiting():
    group = make_group()
    parent = make_task(group)
    child = make_task(group, parents=[parent])
    claim_one()
    die()

    rescue.sweep_once()

    assert row(child)["pending_parents"] == 1


def test_bury_others_leaves_only_me():
    make_task(id="t")
    claim_one("old")
    SchedulerProcess.objects.create(pk="me", host="h", pid=1, slots=1)

    rescue.bury_others("me")

    assert list(SchedulerProcess.objects.values_list("id", flat=True)) == ["me"]
    assert claim_ids("me") == ["t"]


@pytest.mark.parametrize("seconds", [0.5, 30.0, 86_400.0])
def test_the_length_of_the_lease_decides(seconds):
    make_task()
    claim_one()

    die(seconds=seconds * 0.5)
    alive = rescue.rescue(lease_seconds=seconds)
    die(seconds=seconds + 5)

    assert alive == -1
    assert rescue.rescue(lease_seconds=seconds) == 1

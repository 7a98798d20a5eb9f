"""Which lanes a claim looks at, and that none with work is slept through."""

import pytest
from django.db import transaction
from django.db.models.functions import Now

from tasks.engine import claim as claiming
from tasks.engine.lane_walk import EVERY, FEW, KNOWN, PAGE, START, Walk
from tasks.engine.settle import settle_within
from tasks.engine.settlement import Returned, Settlement
from tasks.models import Workgroup
from tasks.rules.fair_share import Lane
from tasks.store import changes

from .factories import claim, completed, in_an_hour, make_group, make_task, wire

LANES = [Lane(f"w{n:05}", "", 0) for n in range(12_000)]


def look(walk, now, *, due=(), wait=None, lanes=LANES):
    """One claim that finds these lanes; how many it looks at."""
    part = walk.part(now)
    row = lambda lane: (lane.worker, lane.workgroup, lane.priority, int(lane in due), wait)  # noqa: E731
    behind = [lane for lane in lanes if (lane.worker, lane.workgroup, lane.priority) > part.place]
    known = [row(lane) for lane in part.known]
    walk.seen(part, [row(lane) for lane in behind[: part.count]], known, now)
    return part


def walked(now=0.0, **how):
    """A walk that has looked at all lanes once."""
    walk = Walk()
    look(walk, now, **how)
    while walk.goes_on:
        look(walk, now, **how)
    return walk


def test_a_few_lanes_are_looked_at_in_every_claim():
    walk = walked(lanes=LANES[:40], due=LANES[:9])

    parts = [look(walk, 0.0, lanes=LANES[:40], due=LANES[:9]) for _ in range(3)]

    assert all(part.place == START and part.count >= FEW for part in parts)
    assert not any(part.known for part in parts)
    assert not walk.goes_on


def test_of_many_lanes_a_claim_looks_at_those_with_work_and_at_few_others():
    due = LANES[7_000:7_010]
    walk = walked(due=due)

    quiet = look(walk, 0.5, due=due)
    walking = look(walk, EVERY, due=due)

    assert set(quiet.known) == set(walking.known) == set(due)
    assert quiet.count == 0
    assert FEW <= walking.count <= PAGE
    assert walk.goes_on


def test_all_lanes_are_looked_at_in_about_a_second_however_often_there_is_a_claim():
    due = LANES[:1]
    for pause in (0.002, 0.05):
        walk, now, claims = walked(due=due), 2.0, 0
        look(walk, now, due=due)
        while walk.goes_on:
            now, claims = now + pause, claims + 1
            look(walk, now, due=due)
        assert now - 2.0 < 1.3
        assert claims <= len(LANES) / FEW


def test_who_has_nothing_else_to_do_looks_at_many_lanes_at_once():
    walk = Walk()

    assert look(walk, 0.0).count == PAGE


def test_lanes_that_were_freed_are_looked_at_at_once():
    walk = walked()
    walk.freed([LANES[3]], 0.1)

    assert look(walk, 0.1).known == (LANES[3],)


@pytest.mark.parametrize("tell", [Walk.look_again, lambda walk: walk.hear(5)])
def test_work_from_elsewhere_restarts_the_walk(tell):
    walk = walked()
    assert look(walk, 0.1).count == 0

    tell(walk)

    part = look(walk, 0.1)
    assert (part.place, part.count) == (START, PAGE)


def test_what_arrives_in_the_middle_of_a_walk_begins_another_behind_it():
    walk = walked()
    walk.hear(1)
    look(walk, 0.1)
    walk.hear(2)
    while walk.goes_on:
        look(walk, 0.1)

    assert look(walk, 0.1).place == START
    assert walk.goes_on


def test_a_lane_is_looked_at_when_its_time_has_come():
    walk = walked(wait=0.25)

    assert walk.wait(0.1) == pytest.approx(0.15)
    assert look(walk, 0.2, wait=0.05).count == 0
    assert look(walk, 0.25).count == PAGE


def test_lanes_without_work_for_long_are_forgotten():
    walk = walked(due=LANES[:3])

    look(walk, 0.5)
    look(walk, EVERY + 0.1)

    assert look(walk, EVERY + 0.1).known == ()


def test_of_very_many_lanes_with_work_each_has_its_turn():
    due = LANES[:1_000]
    walk = walked(due=due)
    seen = set()
    for _ in range(200):
        part = look(walk, 0.0, due=due)
        assert len(part.known) == KNOWN
        assert walk.hides_some
        seen.update(part.known)

    assert len(seen) == 1_000


# --- With a database ---


@pytest.fixture
def many_held(db, monkeypatch):
    """More lanes than one claim looks at, before and behind all others; each held."""
    monkeypatch.setattr("tasks.engine.lane_walk.PAGE", 3)
    Workgroup.objects.bulk_create(
        Workgroup(name=f"h{n}", held_until=in_an_hour(), held_by="") for n in range(10)
    )
    make_group(tasks=[wire(worker=name, workgroup=f"h{n}") for name in "az" for n in range(10)])


def to_its_end(walk):
    """Claim until the walk is over."""
    leases = []
    while True:
        claimed = claim(walk=walk)
        leases += claimed.leases
        if not claimed.goes_on:
            return leases


def settled_and_claimed(lease, outcome, walk):
    with transaction.atomic():
        touched = changes.ChangedTasks()
        settle_within([Settlement(lease, outcome, 200)], touched)
        return claiming.claim_within(
            "s1", slots=9, total=18, busy={}, answering=(), walk=walk, beside=(), touched=touched
        )


@pytest.mark.parametrize("worker", ["a", "m", "zz"])
def test_a_child_that_is_freed_is_claimed_with_its_parents_settle(many_held, worker):
    group = make_group()
    parent = make_task(group, worker="m")
    child = make_task(group, worker=worker, parents=[parent])
    walk = Walk()
    (lease,) = to_its_end(walk)

    claimed = settled_and_claimed(lease, completed(1), walk)

    assert [lease.task_id for lease in claimed.leases] == [child.pk]


@pytest.mark.parametrize("worker", ["a", "m", "zz"])
def test_a_child_that_is_made_is_claimed_with_its_makers_settle(many_held, worker):
    make_task(make_group(), worker="m")
    walk = Walk()
    (lease,) = to_its_end(walk)

    claimed = settled_and_claimed(lease, completed(1, [{"worker": worker}]), walk)

    assert [lease.worker for lease in claimed.leases] == [worker]


def test_a_task_that_comes_back_is_claimed_with_its_settle(many_held):
    task = make_task(make_group(), worker="m")
    walk = Walk()
    (lease,) = to_its_end(walk)

    claimed = settled_and_claimed(lease, Returned(), walk)

    assert [lease.task_id for lease in claimed.leases] == [task.pk]


def test_a_hold_that_opens_is_met_in_the_next_walk(many_held):
    walk = Walk()
    assert to_its_end(walk) == []
    Workgroup.objects.filter(name="h7").update(held_until=Now())
    assert to_its_end(walk) == []

    walk.hear(1)

    assert {lease.workgroup for lease in to_its_end(walk)} == {"h7"}

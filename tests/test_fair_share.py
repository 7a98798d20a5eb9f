"""How slots are divided: a table, and what must hold for any input."""

import random
from collections import Counter

import pytest

from tasks.rules.fair_share import Lane, room, share


def lane(worker, priority=0, workgroup=""):
    return Lane(worker, workgroup, priority)


def divide(due, *, slots, total=2_000, rooms=None, busy=None, answering=(), chance=None):
    return share(
        due,
        slots=slots,
        total=total,
        rooms=rooms or {},
        busy=busy or {},
        answering=answering,
        chance=chance,
    )


A, B, C = lane("a"), lane("b"), lane("c")
A_HIGH, A_LOW, B_HIGH = lane("a", 5), lane("a", -5), lane("b", 5)
A_GROUP = lane("a", workgroup="w")


@pytest.mark.parametrize(
    ("limit", "in_flight", "left"),
    [(None, 99, None), (0, 0, 0), (3, 0, 3), (3, 2, 1), (3, 3, 0), (3, 5, 0)],
)
def test_room(limit, in_flight, left):
    assert room(limit, in_flight) == left


@pytest.mark.parametrize(
    ("due", "given", "expected"),
    [
        ({}, {"slots": 5}, {}),
        ({A: 5}, {"slots": 0}, {}),
        ({A: 5}, {"slots": 100}, {A: 5}),
        ({A: 20, B: 20}, {"slots": 10}, {A: 5, B: 5}),
        ({A: 20, B: 3}, {"slots": 10}, {A: 7, B: 3}),
        ({A: 20, B: 20, C: 1}, {"slots": 9}, {A: 4, B: 4, C: 1}),
        ({A: 1, B: 1}, {"slots": 2}, {A: 1, B: 1}),
        # priority
        ({A: 20, A_HIGH: 5}, {"slots": 8}, {A_HIGH: 5, A: 3}),
        ({A_LOW: 20, A: 20, B_HIGH: 2}, {"slots": 8}, {B_HIGH: 2, A: 6}),
        ({A_HIGH: 20, B: 20}, {"slots": 8}, {A_HIGH: 8}),
        # room
        ({A: 20}, {"slots": 10, "rooms": {"a": 0}}, {}),
        ({A: 20}, {"slots": 10, "rooms": {"a": None}}, {A: 10}),
        ({A: 20, B: 20}, {"slots": 10, "rooms": {"a": 2}}, {A: 2, B: 8}),
        ({A: 20, A_HIGH: 1, A_GROUP: 20}, {"slots": 10, "rooms": {"a": 1}}, {A_HIGH: 1}),
        # of lanes that share a room
        ({A: 500, A_GROUP: 10}, {"slots": 500, "rooms": {"a": 4}}, {A: 2, A_GROUP: 2}),
        ({A: 20, A_GROUP: 20, B: 20}, {"slots": 100, "rooms": {"a": 4}}, {A: 2, A_GROUP: 2, B: 20}),
        ({A: 20, A_GROUP: 1}, {"slots": 100, "rooms": {"a": 4}}, {A: 3, A_GROUP: 1}),
        # what is kept from a worker that holds much: an eighth, 16 at most
        ({A: 20}, {"slots": 10, "total": 20, "busy": {"a": 10}}, {A: 8}),
        ({A: 20}, {"slots": 20, "total": 20}, {A: 18}),
        ({A: 999}, {"slots": 500, "total": 500}, {A: 484}),
        ({A: 9_999}, {"slots": 5_000, "total": 5_000}, {A: 4_984}),
        ({A: 20}, {"slots": 2, "total": 20, "busy": {"a": 18}}, {}),
        ({A: 20, B: 2}, {"slots": 10, "total": 20, "busy": {"a": 10}}, {A: 6, B: 2}),
        ({A: 99}, {"slots": 16, "total": 1_000, "busy": {"a": 984}}, {}),
        # and not from one that holds little
        ({A: 99, B: 9}, {"slots": 16, "total": 1_000, "busy": {"a": 984}}, {B: 9}),
        ({A: 99, B: 99}, {"slots": 16, "total": 1_000, "busy": {"a": 984}}, {B: 12}),
        ({A: 99, B: 99}, {"slots": 4, "total": 1_000, "busy": {"a": 984, "b": 12}}, {}),
        ({A: 20, B: 2}, {"slots": 1, "total": 20, "busy": {"a": 19}}, {B: 1}),
        ({A: 20}, {"slots": 1, "total": 2, "busy": {"a": 1}}, {}),
        # the last, when the others have a worker each
        ({A: 1}, {"slots": 1, "total": 3, "busy": {"b": 1, "c": 1}}, {}),
        ({A: 1}, {"slots": 1, "total": 3, "busy": {"b": 1, "c": 1}, "answering": {"a"}}, {A: 1}),
        ({A: 1}, {"slots": 1, "total": 3, "busy": {"b": 2}}, {A: 1}),
        ({A: 1}, {"slots": 1, "total": 2, "busy": {"b": 1}}, {A: 1}),
        ({A: 9}, {"slots": 1, "total": 1}, {A: 1}),
    ],
    ids=range(34),
)
def test_share(due, given, expected):
    assert divide(due, **given) == expected


def test_a_share_is_never_too_large_and_leaves_nothing_lying():
    rng = random.Random(7)
    for _ in range(2_000):
        due = {
            Lane(rng.choice("abc"), rng.choice(["", "w"]), rng.randint(-1, 1)): rng.randint(1, 9)
            for _ in range(rng.randint(1, 8))
        }
        slots, rooms = rng.randint(0, 12), {w: rng.choice([None, 0, 1, 4]) for w in "abc"}

        given = divide(due, slots=slots, rooms=rooms, chance=rng)

        workers = Counter()
        for key, count in given.items():
            assert 0 < count <= due[key]
            workers[key.worker] += count
        assert sum(given.values()) <= slots
        assert all(rooms[w] is None or count <= rooms[w] for w, count in workers.items())
        if sum(given.values()) < slots:
            for key, count in due.items():
                full = rooms[key.worker] is not None and workers[key.worker] == rooms[key.worker]
                assert full or given.get(key, 0) == count


def test_the_order_is_the_lots_and_can_be_repeated():
    due = {lane(f"w{n}"): 1 for n in range(50)}

    firsts = {next(iter(divide(due, slots=1, chance=random.Random(n)))) for n in range(200)}

    assert len(firsts) > 40
    assert divide(due, slots=9, chance=random.Random(3)) == divide(
        due, slots=9, chance=random.Random(3)
    )


@pytest.mark.parametrize("seed", range(10))
def test_every_hungry_lane_has_half_its_fair_part_at_least(seed):
    """Over 10,000 rounds in all. What a round starts ends before the next."""
    rng = random.Random(seed)
    workers = [f"w{n}" for n in range(rng.randint(1, 8))]
    lanes = [Lane(rng.choice(workers), f"g{n}", 0) for n in range(rng.randint(1, 25))]
    rooms = {w: rng.choice([None, None, 1, 2, 5, 40]) for w in workers}
    due = {one: rng.choice([1, 3, 500]) for one in lanes}
    total = rng.choice([4, 7, 20, 100, 500])
    low = {Lane(rng.choice(workers), "low", -1): 500}
    got = Counter()
    for _ in range(1_000):
        got.update(divide(due | low, slots=total, total=total, rooms=rooms, chance=rng))

    for one, part in fair(due, rooms, total).items():
        assert got[one] >= 1_000 * part / 2, (one, due, rooms, total)


def fair(due, rooms, slots):
    """Each lane's part if slots and rooms could be cut as finely as one likes: none may have more
    than another but for what the other cannot take."""
    part = dict.fromkeys(due, 0.0)
    step = 1 / 64
    room = {worker: slots if most is None else most for worker, most in rooms.items()}
    while hungry := [one for one in due if part[one] < due[one] and room[one.worker] >= step]:
        for one in hungry:
            if slots < step:
                return part
            part[one] += step
            room[one.worker] -= step
            slots -= step
    return part


@pytest.mark.parametrize("total", [3, 10, 40, 500, 5_000])
@pytest.mark.parametrize("hanging", [1, 2, 3, 8, 9, 20, 61, 499, 600])
def test_workers_that_hang_never_take_all_slots(total, hanging):
    """However many they are; and who comes then starts at once, if slots are more than they."""
    due, busy = {lane(f"h{n}"): 9_999 for n in range(hanging)}, Counter()
    while given := divide(due, slots=total - busy.total(), total=total, busy=busy):
        busy.update({one.worker: count for one, count in given.items()})
    free = total - busy.total()
    new = divide(due | {A: 999}, slots=free, total=total, busy=busy)
    known = divide(due | {A: 999}, slots=free, total=total, busy=busy, answering={"a"})

    assert free > 0
    assert hanging >= total - 1 or (set(new) == {A} and new[A] >= free // 2)
    assert set(known) == {A}


@pytest.mark.parametrize("total", [1, 2, 10, 100, 500, 5_000])
def test_a_worker_alone_has_nearly_all_slots(total):
    (count,) = divide({A: 9_999}, slots=total, total=total).values()

    assert count >= max(1, total * 7 // 8)
    assert total - count <= 16

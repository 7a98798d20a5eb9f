"""How slots are divided: a table, and what must hold for any input."""

import random
from collections import Counter

import pytest

from tasks.limits import Lane, room, share


def lane(worker, priority=0, workgroup=""):
    return Lane(worker, workgroup, priority)


def divide(due, *, slots, total=1_000, rooms=None, busy=None):
    return share(due, slots=slots, total=total, rooms=rooms or {}, busy=busy or {})


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
        ({A: 5}, {"slots": 10}, {A: 5}),
        ({A: 5}, {"slots": 3}, {A: 3}),
        ({A: 20, B: 20}, {"slots": 10}, {A: 5, B: 5}),
        ({A: 20, B: 3}, {"slots": 10}, {A: 7, B: 3}),
        ({A: 20, B: 20, C: 1}, {"slots": 9}, {A: 4, B: 4, C: 1}),
        ({A: 1, B: 1, C: 1}, {"slots": 2}, {A: 1, B: 1}),
        # priority
        ({A: 20, A_HIGH: 5}, {"slots": 8}, {A_HIGH: 5, A: 3}),
        ({A_LOW: 20, A: 20, B_HIGH: 2}, {"slots": 8}, {B_HIGH: 2, A: 6}),
        ({A_HIGH: 20, B: 20}, {"slots": 8}, {A_HIGH: 8}),
        # room
        ({A: 20}, {"slots": 10, "rooms": {"a": 0}}, {}),
        ({A: 20}, {"slots": 10, "rooms": {"a": None}}, {A: 10}),
        ({A: 20, B: 20}, {"slots": 10, "rooms": {"a": 2}}, {A: 2, B: 8}),
        ({A: 20, A_HIGH: 1, A_GROUP: 20}, {"slots": 10, "rooms": {"a": 1}}, {A_HIGH: 1}),
        ({A: 20, A_GROUP: 20}, {"slots": 10, "rooms": {"a": 4}}, {A: 4}),
        # a worker that holds half of the scheduler
        ({A: 20}, {"slots": 10, "total": 20, "busy": {"a": 10}}, {A: 5}),
        ({A: 20}, {"slots": 11, "total": 20, "busy": {"a": 9}}, {A: 6}),
        ({A: 20}, {"slots": 10, "total": 20, "busy": {"a": 0}}, {A: 10}),
        ({A: 20}, {"slots": 20, "total": 20}, {A: 15}),
        ({A: 20, B: 2}, {"slots": 10, "total": 20, "busy": {"a": 10}}, {A: 5, B: 2}),
        ({A: 20, B: 2}, {"slots": 1, "total": 20, "busy": {"a": 19}}, {B: 1}),
        ({A: 20}, {"slots": 1, "total": 1, "busy": {"a": 1}}, {A: 1}),
        # and never the last eighth, 8 at most
        ({A: 20}, {"slots": 2, "total": 20, "busy": {"a": 18}}, {}),
        ({A: 20}, {"slots": 3, "total": 20, "busy": {"a": 17}}, {A: 1}),
        ({A: 99}, {"slots": 100, "total": 1_000, "busy": {"a": 900}}, {A: 50}),
        ({A: 99}, {"slots": 10, "total": 1_000, "busy": {"a": 990}}, {A: 2}),
        ({A: 99, B: 2}, {"slots": 8, "total": 1_000, "busy": {"a": 992}}, {B: 2}),
        ({A: 20}, {"slots": 1, "total": 2, "busy": {"a": 1}}, {}),
        ({A: 20}, {"slots": 10, "total": 20, "busy": {"a": 10}, "rooms": {"a": 2}}, {A: 2}),
    ],
    ids=range(30),
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

        given = divide(due, slots=slots, rooms=rooms)

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

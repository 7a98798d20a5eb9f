"""How long a scheduler waits between its turns, and how much one of them takes."""

import pytest

from tasks.delivery.calls import Delivery
from tasks.engine import idle, scheduler
from tasks.engine.lease import Lease
from tasks.engine.scheduler import Scheduler
from tasks.rules.decide import Answer


class Growing:
    """There is one more at each look."""

    def __init__(self):
        self.looks = 0

    def __len__(self):
        self.looks += 1
        return self.looks


def test_answers_that_keep_coming_are_gathered_for_a_moment_only(monkeypatch):
    now = 0.0

    def sleep(seconds):
        nonlocal now
        now += seconds
        assert now < 10 * idle.GATHER, "it would wait without end"

    monkeypatch.setattr(idle.time, "monotonic", lambda: now)
    monkeypatch.setattr(idle.time, "sleep", sleep)

    idle.gather(Growing(), range(1_000_000))

    assert idle.GATHER <= now <= idle.GATHER + 2 * idle.GATHER_STEP


def test_without_another_answer_the_gathering_ends(monkeypatch):
    sleeps = []
    monkeypatch.setattr(idle.time, "sleep", sleeps.append)

    idle.gather([1], range(1_000))

    assert sleeps == [idle.GATHER_STEP]


@pytest.mark.django_db
def test_so_many_answers_are_settled_at_once_and_the_rest_in_the_next_turn(monkeypatch):
    monkeypatch.setattr(scheduler, "BATCH", 3)
    one = Scheduler()
    for n in range(5):
        one._in_flight[f"t{n}", 1] = Lease(f"t{n}", 1, "g", "w", "", "", one.me)
        one._on_answer(Delivery(f"t{n}", 1, "w", b""), Answer(200, b"{}"))

    one._take_answers()

    assert [each.lease.task_id for each in one._unsettled] == ["t0", "t1", "t2"]
    assert len(one._answers) == 2 and one._wake.is_set()
    one._wake.clear()

"""Answers that the database does not get done with: only the one at fault fails."""

import threading

import pytest
from django.db import connection

from tasks.engine.haste import Haste, hastily
from tasks.engine.rescue import sweep_once
from tasks.engine.set_aside import Aside
from tasks.engine.settle import settle_each
from tasks.engine.settlement import Left, Settlement, Why
from tasks.models import SchedulerProcess, Task
from tasks.rules.decide import Completed
from tasks.sql import Within

from .factories import claim_all, make_group, wire
from .processes import wait_until
from .stub_worker import StubWorker
from .threads import running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A tenth of the time, for all."""
    quick = Haste(Within(lock=0.1, statement=0.2))
    for name in ("IN_TURN", "BESIDE", "AT_LAST"):
        monkeypatch.setattr(f"tasks.engine.set_aside.{name}", quick)
    monkeypatch.setattr("tasks.engine.scheduler.IN_TURN", quick)
    monkeypatch.setattr("tasks.engine.rescue.HASTE", quick)


@pytest.fixture
def slow():
    """`slow(table, when)`: what is written there takes too long, until the test is over."""
    tables = []

    def make(table, event, when):
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE OR REPLACE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_sleep(20); RETURN NEW; END $$"
            )
            cursor.execute(
                f"CREATE TRIGGER be_slow BEFORE {event} ON {table} FOR EACH ROW WHEN ({when})"
                " EXECUTE FUNCTION be_slow()"
            )
        tables.append(table)

    yield make
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DROP TRIGGER be_slow ON {table}")


def test_the_answer_at_fault_fails_in_words_and_its_neighbours_are_written(slow, settings):
    slow("crew_task", "UPDATE", "NEW.id = 'bad' AND NEW.is_complete")
    make_group(tasks=[wire(id="bad" if n == 15 else f"t{n:02}") for n in range(40)])
    make_group(tasks=[wire(id=f"other{n}") for n in range(3)])
    with StubWorker() as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        with running(slots=100) as scheduler:
            wait_until(lambda: Task.objects.filter(is_complete=True).count() == 42)
            wait_until(lambda: Task.objects.get(pk="bad").errors != [])
            wait_until(lambda: len(scheduler._aside) == 0)

    bad = Task.objects.get(pk="bad")
    assert "did not get done with it" in bad.errors[0]
    assert (bad.leased_by, bad.remaining_attempts) == (None, 4)
    good = Task.objects.exclude(pk="bad")
    assert set(good.values_list("remaining_attempts", flat=True)) == {4}
    assert len(worker.requests) == 43


def test_a_database_that_is_slow_for_everything_costs_no_task_anything(slow, monkeypatch):
    slow("crew_task", "UPDATE", "NEW.is_complete")
    make_group(tasks=[wire(id=f"t{n}") for n in range(3)])
    leases = claim_all()
    judged = threading.Event()

    def does_not_work(self):
        judged.set()
        return False

    monkeypatch.setattr(Aside, "_works", does_not_work)  # nor does a small write
    shelf = Aside("s1", threading.Event())

    shelf.put(Left(Settlement(lease, Completed("1")), Why.SLOW) for lease in leases)
    is_judged = judged.wait(20)
    shelf.stop(20)

    assert is_judged
    assert len(shelf) == 3
    assert set(Task.objects.values_list("remaining_attempts", flat=True)) == {5}
    assert set(Task.objects.values_list("leased_by", flat=True)) == {"s1"}


def test_what_takes_too_long_is_left_whole(slow):
    slow("crew_attempt", "INSERT", "NEW.task_id = 't'")
    make_group(tasks=[wire(id="t")])
    (lease,) = claim_all()

    with hastily(Haste(Within(lock=0.1, statement=0.1))):
        settled = settle_each([Settlement(lease, Completed("1"))])

    assert [each.why for each in settled.left] == [Why.SLOW]
    assert Task.objects.get().leased_by == "s1"


def test_a_sweep_goes_past_what_takes_too_long(slow):
    make_group(tasks=[wire(id="bad" if n == 5 else f"t{n:02}") for n in range(20)])
    claim_all("dead")
    SchedulerProcess.objects.update(beat_at="2000-01-01T00:00:00Z")
    slow("crew_task", "UPDATE", "NEW.id = 'bad' AND NEW.leased_by IS NULL")

    given = sweep_once()

    assert given == 19
    assert Task.objects.get(leased_by="dead").pk == "bad"
    assert SchedulerProcess.objects.filter(pk="dead").exists()

"""What happens between two steps: each test holds or fails a scheduler there, never by luck."""

import pytest
from django.core.management import call_command
from django.db import OperationalError

from tasks import failpoints, heart
from tasks.models import Attempt, SchedulerProcess, Task
from tasks.scheduler import Scheduler

from .factories import claim_one, make_group, make_task, row, wire
from .stub_worker import StubWorker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def at(monkeypatch):
    """`at(point, do)`: do it when the point is reached the first time."""

    def arm(point, do):
        def once():
            if failpoints.armed.pop(point, None):
                do()

        monkeypatch.setitem(failpoints.armed, point, once)

    return arm


@pytest.fixture
def worker(settings):
    with StubWorker() as stub:
        settings.CREW_WORKER_BASE_URL = stub.url
        yield stub


def lose_the_connection():
    raise OperationalError("the connection was lost")


# --- The claim ---


def test_a_claim_whose_commit_was_not_answered_is_taken_back(worker, at):
    at("after_claim", lose_the_connection)
    make_group(tasks=[wire(id="a"), wire(id="b", key="k"), wire(id="c", key="k")])

    Scheduler(once=True).run()

    assert Task.objects.filter(is_complete=True).count() == 3
    assert Task.objects.get(pk="a").remaining_attempts == 4
    assert len(worker.requests) == 2
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {"completed"}
    call_command("crewcheck")


def test_a_drain_takes_back_a_claim_whose_commit_was_not_answered(worker, at):
    scheduler = Scheduler()

    def stop_and_lose():
        scheduler.stop()
        lose_the_connection()

    at("after_claim", stop_and_lose)
    task = make_task()

    scheduler.run()

    assert (row(task)["leased_by"], row(task)["remaining_attempts"]) == (None, 5)
    assert SchedulerProcess.objects.count() == 0


class Moody:
    """A throttler with a bug: it breaks once, at the second task it is asked about."""

    asked = 0

    def push(self, task_id, worker):
        type(self).asked += 1
        if self.asked == 2:
            raise RuntimeError("a bug")
        return 0.0

    def pop(self, task_id, worker):
        pass


def test_a_throttler_that_breaks_loses_no_task(worker, settings):
    Moody.asked = 0
    settings.CREW_THROTTLER = f"{__name__}.Moody"
    make_group(tasks=[wire(), wire(), wire()])

    Scheduler(once=True).run()

    assert Task.objects.filter(is_complete=True, remaining_attempts=4).count() == 3
    assert len(worker.requests) == 3


def test_f25_leases_of_a_scheduler_without_a_row_are_given_back():
    task = make_task()
    claim_one("thawed")
    make_task(id="other")
    claim_one("alive")
    SchedulerProcess.objects.filter(pk="thawed").delete()

    count = heart.sweep_once()

    assert count == 1
    assert row(task)["leased_by"] is None
    assert Task.objects.get(pk="other").leased_by == "alive"
    assert list(SchedulerProcess.objects.values_list("id", flat=True)) == ["alive"]

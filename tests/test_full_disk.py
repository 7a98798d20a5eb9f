"""A disk that is full (F21), by SQLite's own limit on the size of its file."""

import threading
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection

from tasks import create
from tasks.engine.scheduler import Scheduler
from tasks.models import Task, TaskGroup

from .api_client import GROUPS
from .factories import make_group, wire
from .processes import wait_until
from .stub_worker import StubWorker, answer

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

UNLIMITED = 1_073_741_823


def limit(pages: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA max_page_count = {pages}")


@contextmanager
def full_disk():
    """This connection may not make the file any longer, nor use what is free in it."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA page_count")
        (pages,) = cursor.fetchone()
    limit(pages)
    try:
        yield
    finally:
        limit(UNLIMITED)


def many(count: int = 2_000):
    return [wire(input="x" * 500) for _ in range(count)]


def test_a_create_on_a_full_disk_is_a_503_and_stores_nothing(api, no_auth):
    kept = make_group(tasks=[wire()])

    with full_disk():
        refused = api.post(GROUPS, {"name": "too much", "tasks": many()})
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "1"
        assert api.get(f"{GROUPS}?page=1").status == 200
        assert list(TaskGroup.objects.values_list("pk", flat=True)) == [kept.pk]
        assert Task.objects.count() == 1

    assert api.post(GROUPS, {"name": "fits again", "tasks": many()}).status == 200
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check")
        assert cursor.fetchall() == [("ok",)]


def test_many_tasks_on_a_full_disk_are_none():
    group = make_group()

    with full_disk(), pytest.raises(OperationalError, match="full"):
        create.create_tasks(group.pk, many())

    assert Task.objects.count() == 0
    assert TaskGroup.objects.get().task_count == 0


def test_a_scheduler_on_a_full_disk_goes_on_when_there_is_room(settings, monkeypatch, caplog):
    """Its answers need room too; none is lost, and no task is called twice."""
    make_group(tasks=[wire(id=f"t{n}") for n in range(5)])
    scheduler = Scheduler()
    # A new connection would know nothing of the limit, which stands for the disk's.
    monkeypatch.setattr(scheduler, "_reconnect", lambda: None)
    large = answer(body=b'{"output":"' + b"y" * 200_000 + b'"}')

    with StubWorker(large) as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        once_full = threading.Event()
        tick = scheduler.tick

        def tick_on_a_full_disk():
            if worker.requests and not once_full.is_set():
                with full_disk():
                    try:
                        return tick()
                    except OperationalError as error:
                        assert "full" in str(error)
                        assert Task.objects.filter(is_complete=True).count() == 0
                        once_full.set()
                        raise
            return tick()

        monkeypatch.setattr(scheduler, "tick", tick_on_a_full_disk)
        watcher = threading.Thread(
            target=lambda: (wait_until(lambda: not scheduler._is_idle()), scheduler.stop())
        )
        watcher.start()
        scheduler.run()
        watcher.join()
        assert sorted(request.path for request in worker.requests) == ["/worker-a"] * 5

    assert once_full.is_set()
    assert Task.objects.filter(is_complete=True).count() == 5
    assert any("disk is full; trying again" in line for line in caplog.messages)

"""A scheduler and the version of the tables it works on."""

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from tasks import create
from tasks.engine import table_version
from tasks.models import SchedulerProcess, Task

from .processes import scheduler, sink, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

NEWER = "9001_from_the_future"


@pytest.fixture
def rows():
    """The rows of django_migrations, as they were before afterwards."""
    recorder = MigrationRecorder(connection)
    before = list(recorder.migration_qs.filter(app="crew").values_list("name", flat=True))
    yield recorder
    recorder.migration_qs.filter(app="crew").delete()
    for name in before:
        recorder.record_applied("crew", name)


def test_this_code_knows_these_tables():
    assert (table_version.newer(), table_version.missing()) == ([], [])


def test_a_scheduler_does_not_start_on_newer_tables(rows, tmp_path):
    rows.record_applied("crew", NEWER)

    assert f"does not know {NEWER}" in refusal()


def test_a_scheduler_does_not_start_on_tables_that_were_not_migrated(rows, tmp_path):
    last = sorted(table_version._own())[-1]
    rows.record_unapplied("crew", last)

    assert f"lacks {last}: run `manage.py migrate` first" in refusal()


def refusal() -> str:
    """The one line with which a scheduler refuses to start."""
    with scheduler("http://127.0.0.1:1/") as process:
        assert process.wait(30) == 1
        lines = process.stderr.read().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_scheduler_under_which_the_tables_are_migrated_claims_no_more(rows, tmp_path):
    """F35: what runs is settled; the rest is left to the new version."""
    create.create_group(tasks=[{"id": "runs", "worker": "sleep", "input": {"seconds": 2}}])

    with sink(tmp_path) as worker, scheduler(worker.url) as process:
        wait_until(lambda: worker.stats()["in_flight"] == 1)
        rows.record_applied("crew", NEWER)
        said = next(line for line in process.stderr if "No more claims" in line)
        create.create_group(tasks=[{"id": "waits", "worker": "noop"}])
        wait_until(lambda: Task.objects.filter(pk="runs", is_complete=True).exists())
        process.terminate()
        assert process.wait(10) == 0

    assert NEWER in said
    assert Task.objects.filter(pk="waits", attempt=0, leased_by=None).exists()
    assert SchedulerProcess.objects.count() == 0

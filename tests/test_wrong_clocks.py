"""Schedulers whose own clocks are wrong (F9): only the database's decides what is due or lost."""

from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from tasks import create
from tasks.models import Attempt, SchedulerProcess, Task

from . import debian
from .processes import scheduler, sink, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def clock(offset: str) -> dict[str, str]:
    """The environment of a process that thinks it is another time; its stopwatch is right."""
    library = debian.faketime()
    if not library:
        pytest.skip("needs faketime: ./crew test installs it as root, or apt install faketime")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def time_of(line: str) -> datetime:
    """When the process thought that it wrote this line of its log."""
    return datetime.fromisoformat(line[:19])


@pytest.mark.postgres
def test_schedulers_an_hour_ahead_and_behind_start_nothing_early_and_rescue_nobody(tmp_path):
    soon = timezone.now() + timedelta(seconds=4)
    create.create_group(
        tasks=[
            *[{"worker": "sleep", "input": {"seconds": 3}} for _ in range(20)],
            *[{"worker": "noop", "runAfter": soon.isoformat()} for _ in range(20)],
            {
                "id": "later",
                "worker": "noop",
                "runAfter": (soon + timedelta(minutes=30)).isoformat(),
            },
        ]
    )

    ahead, behind = clock("+1h"), clock("-1h")
    with (
        sink(tmp_path) as worker,
        scheduler(worker.url, "--slots", "15", **ahead) as first,
        scheduler(worker.url, "--slots", "15", **behind) as second,
    ):
        thought = [time_of(next(process.stderr)) for process in (first, second)]
        wait_until(lambda: Task.objects.filter(is_complete=True).count() == 40, 60)
        create.create_group(tasks=[{"id": "now", "worker": "noop"}])
        wait_until(lambda: Task.objects.get(pk="now").is_complete)
        beats = [timezone.now() - process.beat_at for process in SchedulerProcess.objects.all()]

    assert abs(thought[0] - thought[1] - timedelta(hours=2)) < timedelta(minutes=5)
    assert Counter(Attempt.objects.values_list("outcome", flat=True)) == {"completed": 41}
    early = Attempt.objects.filter(worker="noop", started_at__lt=soon).exclude(task_id="now")
    assert not early
    assert Task.objects.get(pk="later").attempt == 0
    assert len(beats) == 2
    assert all(abs(age) < timedelta(minutes=1) for age in beats)
    assert len(set(Attempt.objects.values_list("scheduler", flat=True))) == 2

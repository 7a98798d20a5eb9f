"""What pages and streams hold in memory: rows come some at a time, within a budget."""

from datetime import UTC, datetime
from secrets import token_urlsafe

import pytest

from tasks.models import Attempt, AuditEntry, Task
from tasks.store import portions

from .api_client import TASKS, Api
from .factories import make_group, wire

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]
KB = 1_000


@pytest.fixture
def group():
    tasks = [wire(id=f"t{n}", input="x" * 10 * KB, output="y" * 10 * KB) for n in range(9)]
    children = [wire(id="child", parent_ids=[f"t{n}" for n in range(9)])]
    return make_group(id="g", tasks=[*tasks, *children])


def test_a_page_ends_where_the_budget_does_and_count_stays_true(group, settings):
    settings.CREW_MAX_PAGE_BYTES = 70 * KB

    cut = Api().get(TASKS + "?pageSize=0").json
    whole = Api().get(TASKS + "?pageSize=2&page=2").json

    assert [task["id"] for task in cut["tasks"]] == ["t0", "t1", "t2"]
    assert (cut["count"], cut["isCut"]) == (10, True)
    assert [task["id"] for task in whole["tasks"]] == ["t2", "t3"]
    assert (whole["count"], "isCut" in whole) == (10, False)


def test_one_task_is_on_a_page_however_large_it_is(group, settings):
    settings.CREW_MAX_PAGE_BYTES = 5 * KB

    page = Api().get(TASKS).json

    assert [task["id"] for task in page["tasks"]] == ["t0"]


def test_relatives_obey_the_same_budget(group, settings):
    settings.CREW_MAX_PAGE_BYTES = 70 * KB

    page = Api().get("/api/v1/task/child/parents").json

    assert ([task["id"] for task in page["tasks"]], page["count"]) == (["t0", "t1", "t2"], 9)


def test_attempts_and_history_obey_it_too(group, settings):
    settings.CREW_MAX_PAGE_BYTES = 10 * KB
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        Attempt(task_id="t0", number=n, error="x" * 4 * KB, started_at=at, finished_at=at)
        for n in range(5)
    ]
    Attempt.objects.bulk_create(rows)
    entries = [AuditEntry(verb="edit", group_id="g", detail={"q": "x" * 4 * KB}) for _ in range(5)]
    AuditEntry.objects.bulk_create(entries)

    attempts = Api().get("/api/v1/task/t0/attempts").json
    history = Api().get("/api/v1/task_group/g/history").json

    assert ([each["number"] for each in attempts["attempts"]], attempts["count"]) == ([4, 3], 5)
    assert (len(history["entries"]), history["count"]) == (2, 5)
    assert attempts["isCut"] is history["isCut"] is True


@pytest.mark.parametrize("is_weighed", [True, False])
def test_rows_come_some_at_a_time_in_their_order(group, monkeypatch, is_weighed):
    monkeypatch.setattr(portions, "PORTION", 50 * KB)
    monkeypatch.setattr(portions, "FEW", 4)
    Task.objects.filter(pk="t2").update(input=token_urlsafe(75 * KB))
    ids = [f"t{n}" for n in range(9)]
    sizes = dict(portions.weighed(Task.objects.all())) if is_weighed else {}

    some = [[task.pk for task in part] for part in portions.portions([*ids, "gone"], sizes)]

    assert [id_ for part in some for id_ in part] == ids
    assert ["t2"] in some
    assert max(map(len, some)) <= 4

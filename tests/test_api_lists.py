"""Long lists: each page is found by an index, and counted by as few looks as can be."""

from datetime import timedelta
from urllib.parse import quote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import create
from tasks.insight import find
from tasks.insight.cursor import After
from tasks.insight.find import Page, TaskFilter
from tasks.models import Attempt, Task, TaskGroup

from .api_client import GROUPS
from .factories import make_group, wire

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

MANY = 5_000


@pytest.fixture
def many_groups(fresh_tables):
    """Of ten groups one is a report."""
    now = timezone.now()
    TaskGroup.objects.bulk_create(
        TaskGroup(
            id=f"g{i}",
            name=f"{'Report' if i % 10 == 0 else 'other'} {i}",
            created_at=now - timedelta(seconds=i),
        )
        for i in range(MANY)
    )
    analyze()


@pytest.fixture
def many_tasks(fresh_tables):
    """Two groups; of ten tasks one is a report, one is open."""
    for group in ("a", "b"):
        make_group(id=group)
        create.create_tasks(
            group,
            [
                wire(
                    id=f"{group}{i}",
                    name=f"{'Report' if i % 10 == 0 else 'other'} {i}",
                    is_complete=i % 10 != 0,
                )
                for i in range(MANY)
            ],
        )
    analyze()


def analyze():
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def looks(look):
    """What `look` gives, and the plans of its queries."""
    with CaptureQueriesContext(connection) as queries:
        found = look()
    plans = []
    with connection.cursor() as cursor:
        explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
        for query in queries:
            if "crew_" not in query["sql"]:
                continue  # the steering, which holds until the test's transaction ends
            cursor.execute(explain + query["sql"].replace("%", "%%"))
            plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))
    return found, plans


def is_walk(plan, index):
    """The rows come from this index, in its order."""
    assert index in plan, plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan


def passes_over(plan, index):
    """What comes before the page is passed over in this index, without a look at the rows."""
    scan = next(line for line in plan.splitlines() if index in line)
    assert "Index Only Scan" in scan or "COVERING INDEX" in scan, plan


@pytest.mark.parametrize("search", ["", "report"])
def test_a_page_of_groups_is_read_in_the_order_of_the_index(many_groups, search):
    (count, page), plans = looks(lambda: find.groups(TaskGroup.objects.all(), search, Page(20, 20)))

    step = 10 if search else 1
    assert [group.pk for group in page] == [f"g{i * step}" for i in range(20, 40)]
    assert count == MANY / step
    assert len(plans) == 2
    is_walk(plans[0], "crew_group_newest")


def test_a_deep_page_of_groups_is_read_in_the_order_of_the_index(many_groups):
    (count, page), plans = looks(lambda: find.groups(TaskGroup.objects.all(), "", Page(1_000, 20)))

    assert (count, [group.pk for group in page]) == (MANY, [f"g{i}" for i in range(1_000, 1_020)])
    assert len(plans) == 2
    passes_over(plans[0], "crew_group_newest")


@pytest.mark.parametrize("at", [999, 1_000, 4_990])
def test_a_deep_page_of_tasks_passes_over_the_rest_in_the_index(many_tasks, at):
    group = TaskGroup.objects.get(pk="b")

    found, plans = looks(lambda: find.tasks(group, TaskFilter(), Page(at, 20)))

    last = min(at + 20, MANY)
    assert (found.count, found.ids) == (MANY, [f"b{i}" for i in range(at, last)])
    if at == find.DEEP:  # with few rows after it, PostgreSQL may as well sort so small a table
        passes_over(plans[0], "crew_task_of_group")


@pytest.mark.parametrize(
    ("which", "queries", "index"),
    [
        (TaskFilter(), 1, "crew_task_of_group"),
        (TaskFilter(search="report"), 2, "crew_task_of_group"),
        (TaskFilter(skip_completed=True), 2, "crew_task_incomplete"),
        (TaskFilter(states=("ready",)), 2, "crew_task_incomplete"),
    ],
)
def test_a_page_of_tasks_is_read_in_the_order_of_the_index(many_tasks, which, queries, index):
    group = TaskGroup.objects.get(pk="b")

    found, plans = looks(lambda: find.tasks(group, which, Page(20, 20)))

    step = 1 if which.is_empty else 10
    assert found.ids == [f"b{i * step}" for i in range(20, 40)]
    assert found.count == MANY / step
    assert len(plans) == queries
    is_walk(plans[0], index)


@pytest.mark.parametrize(
    ("search", "at", "found", "queries"),
    [
        ("Report 10", Page(0, 20), 12, 1),
        ("nothing", Page(0, 20), 0, 1),
        ("Report 10", Page(10, 10), 2, 1),
        ("Report 10", Page(0, 12), 12, 2),
        ("Report 10", Page(40, 20), 0, 2),
        ("Report 10", Page(0, 0), 0, 1),
        ("Report 10", Page(2**63, 20), 0, 1),
    ],
)
def test_the_last_page_tells_how_many_there_are(many_groups, search, at, found, queries):
    (count, page), plans = looks(lambda: find.groups(TaskGroup.objects.all(), search, at))

    assert (count, len(page), len(plans)) == (0 if search == "nothing" else 12, found, queries)


def test_a_search_looks_for_every_character_itself():
    names = ["100% sure", "a_b", "back\\slash", "quo'te", "Straße"]
    for name in names:
        make_group(name=name)
    everything = TaskGroup.objects.all()

    for search, name in (
        ("0% S", "100% sure"),
        ("A_B", "a_b"),
        ("K\\S", "back\\slash"),
        ("o'T", "quo'te"),
        ("raße", "Straße"),
    ):
        count, page = find.groups(everything, search, Page(0, 20))
        assert (count, [group.name for group in page]) == (1, [name])
    for search in ("1%0", "a%b", "_", "__", "\\", "%"):
        count, page = find.groups(everything, search, Page(0, 20))
        assert count == sum(search in name for name in names), search


def test_ids_of_more_tasks_than_a_statement_takes(many_tasks):
    every = tuple(Task.objects.filter(group_id="a").values_list("id", flat=True))
    ids = (*every, *(f"nobody{i}" for i in range(40_000)))

    assert find.ids("a", TaskFilter(ids=ids)) == sorted(every)
    assert find.ids("b", TaskFilter(ids=ids)) == []


# --- Part by part ----------------------------------------------------------------------------


def parts(api, path, name, size):
    """A list read from place to place, and its parts."""
    after, found = "", []
    while after is not None:
        told = api.get(f"{path}after={quote(after)}&pageSize={size}").json
        assert ("count" in told) == (after == "")
        found.append(told[name])
        after = told["next"]
    return found


@pytest.mark.parametrize("size", [1, 2, 500])
def test_every_list_is_read_from_place_to_place(api, size):
    """As its pages give it, but for workgroups, which pages order by their holds."""
    head = {"id": "top", "worker": "w0"}
    below = [wire(id=f"t{i}", worker=f"w{i % 3}", parentIds=["top"]) for i in range(4)]
    last = wire(id="last", parentIds=["t3", "t0", "t2", "t1"])
    api.post(GROUPS, {"id": "g", "name": "one", "tasks": [head, *below, last]})
    for name in ("two", "three"):
        api.post(GROUPS, {"name": name})
    for name in ("b", "a", "c"):
        api.post(f"/api/v1/workgroup/{name}/hold", {"seconds": 60})
    now = timezone.now()
    for number in (1, 2, 3):
        Attempt.objects.create(task_id="top", number=number, started_at=now, finished_at=now)
    api.post("/api/v1/task_group/g/pause", {})
    api.post("/api/v1/task_group/g/resume", {})
    lists = [
        (GROUPS + "?", "taskGroups"),
        (GROUPS + "?search=t&", "taskGroups"),
        ("/api/v1/task_group/g/tasks?", "tasks"),
        ("/api/v1/task_group/g/tasks?worker=w1&", "tasks"),
        ("/api/v1/task_group/nobody/tasks?", "tasks"),
        ("/api/v1/task/top/children?", "tasks"),
        ("/api/v1/task/last/parents?", "tasks"),
        ("/api/v1/task/top/attempts?", "attempts"),
        ("/api/v1/task_group/g/history?", "entries"),
        ("/api/v1/task/top/history?", "entries"),
        ("/api/v1/workers?", "workers"),
        ("/api/v1/workgroups?", "workgroups"),
    ]

    for path, name in lists:
        found = parts(api, path, name, size)
        rows = [row for part in found for row in part]
        pages = api.get(f"{path}pageSize=500").json
        if name == "workgroups":
            rows.sort(key=lambda row: row["heldUntil"], reverse=True)
        assert rows == pages[name], path
        assert all(len(part) == size for part in found[:-1]), path


def test_a_part_whose_rows_are_too_large_together_goes_on_behind_the_last(api, settings):
    tasks = [wire(id=f"t{i}", input="x" * 50_000) for i in range(7)]
    api.post(GROUPS, {"id": "g", "tasks": tasks})
    settings.CREW_MAX_PAGE_BYTES = 120_000

    found = parts(api, "/api/v1/task_group/g/tasks?", "tasks", 5)

    assert [len(part) for part in found] == [2, 2, 2, 1]
    assert [row["id"] for part in found for row in part] == [f"t{i}" for i in range(7)]


@pytest.mark.parametrize(
    "query",
    [
        "after=&page=1",
        "after=&pageSize=0",
        "after=&pageSize=-1",
        "after=&pageSize=x",
        "after=%00",
        "after=" + "x" * 301,
        "after=garbage",
        "after=2026-01-01 00:00:00",
        "after=2026-99-01 00:00:00/x",
        "after=2026-01-01 00:00:00/%00",
    ],
)
@pytest.mark.parametrize("path", [GROUPS, "/api/v1/task_group/g/tasks"])
def test_a_place_that_is_none_is_refused(api, path, query):
    api.post(GROUPS, {"id": "g"})

    assert api.get(f"{path}?{quote(query, safe='=&%')}").status == 400


def test_a_number_that_is_no_place_is_refused(api):
    api.post(GROUPS, {"id": "g", "tasks": [{"id": "t", "worker": "w"}]})

    for place in ("x", "-1", "1.5", "9" * 19, "٣"):
        path = f"/api/v1/task/t/attempts?after={quote(place)}"
        assert api.get(path).status == 400, place


def test_a_part_is_read_in_the_order_of_the_index_however_deep(many_groups, many_tasks):
    group = TaskGroup.objects.get(pk="b")
    place = find.tasks_after(group, TaskFilter(), After("", 2_500)).going_on
    newest = find.groups_after(TaskGroup.objects.all(), "", After("", 2_500))[2]

    found, plans = looks(lambda: find.tasks_after(group, TaskFilter(), After(place, 20)))
    (_, page, _), group_plans = looks(
        lambda: find.groups_after(TaskGroup.objects.all(), "", After(newest, 20))
    )

    assert found.ids == [f"b{i}" for i in range(2_500, 2_520)]
    assert len(page) == 20
    is_walk(plans[0], "crew_task_of_group")
    is_walk(group_plans[0], "crew_group_newest")

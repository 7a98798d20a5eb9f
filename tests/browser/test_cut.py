"""Pages of lists that do not fit into one answer: they are whole all the same, or say what is left.

The server gives so little at once that each of these is cut.
"""

from typing import Any

import pytest

from tasks import audit, create

from ..factories import claim_one, fail, make_group, make_task
from ..web import web
from .driver import expect
from .visit import PHONE

# What a page shows is the same on every database.
pytestmark = pytest.mark.sqlite

MOST = 20_000  # bytes of a page
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any):
    with django_db_blocker.unblock(), web(CREW_MAX_PAGE_BYTES=str(MOST)) as running:
        yield running


def test_all_rows_of_a_page_of_tasks_are_shown_though_they_come_in_parts(visit, boss):
    group = make_group()
    tasks = [
        {"id": f"t{n:03}", "worker": "w", "input": "x" * (MOST * 2 if n == 30 else n % 7 * 1_000)}
        for n in range(60)
    ]
    create.create_tasks(group.pk, tasks)
    page = at_group(visit(boss), group)
    rows = page.locator("#panel-tasks tbody tr[data-id]")

    expect(rows).to_have_count(20)
    first = [row.get_attribute("data-id") for row in rows.all()]
    page.get_by_role("navigation", name="Pages").get_by_role("button", name="Next").click()
    expect(rows.first).not_to_have_attribute("data-id", first[0])
    expect(rows).to_have_count(20)
    second = [row.get_attribute("data-id") for row in rows.all()]

    assert len(set(first + second)) == 40


def test_all_of_a_history_can_be_reached_though_it_comes_in_parts(visit, boss):
    group = make_group()
    with audit.by("ann"):
        for _ in range(120):
            audit.record("hold", "group", group.pk, group_id=group.pk, why="y" * 900)
    page = at_group(visit(boss), group)
    page.get_by_role("tab", name="History").click()
    rows = page.locator("#panel-history tbody tr")

    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Older ones: 70").click()
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="Older ones: 20").click()
    expect(rows).to_have_count(120)
    expect(page.locator("#panel-history")).not_to_contain_text("Older ones")


def test_a_task_shows_all_of_its_key_and_says_where_older_attempts_are(visit, boss):
    group = make_group()
    task = make_task(group, key="same", remaining_attempts=30, error_delay_in_seconds=0)
    for _ in range(12):
        fail(claim_one(), "z" * 4_000)
    for _ in range(12):
        make_task(group, key="same", input="x" * 4_000)
    person = visit(boss, viewport=PHONE)
    page = person.settle(f"/admin/crew/task/{task.pk}/change/")

    expect(page.locator("#crew-attempts")).to_contain_text("older ones are in the list of attempts")
    expect(page.locator("#crew-duplicates li")).to_have_count(12)
    expect(page.locator("#crew-duplicates")).not_to_contain_text("No other task")
    assert page.evaluate(SIDEWAYS) <= 0


def at_group(person, group):
    return person.settle(f"/admin/crew/taskgroup/{group.pk}/change/")

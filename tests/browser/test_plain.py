"""Crew's pages in Django's own admin, which `CREW_THEME=plain` shows, leave nobody out either."""

from collections.abc import Iterator
from typing import Any

import pytest

from ..web import Web, web
from .axe import look_around
from .world import TABS, furnish, paths

# Those that Crew draws, and a page of each kind that Django draws of its rows.
PAGES = (
    "home",
    "app crew",
    *(f"a group, {tab}" for tab in TABS),
    "a task",
    *("taskgroup", "taskgroup, delete", "task, add"),
    *("worker, one", "workgroup, one", "workgroup, add"),
    *("attempt, one", "token, one", "auditentry"),
)

# What a page looks like is the same on every database.
pytestmark = pytest.mark.sqlite


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any) -> Iterator[Web]:
    with django_db_blocker.unblock(), web(CREW_THEME="plain") as running:
        yield running


def test_each_page_is_accessible_in_the_plain_theme(visit, boss):
    found = paths(furnish(boss))
    person = visit(boss, bypass_csp=True)
    wrong = []

    for name in PAGES:
        person.settle(found[name])
        assert person.page.locator("link[href*=unfold]").count() == 0
        wrong += [f"{name}, {each}" for each in look_around(person.page)]

    assert wrong == []

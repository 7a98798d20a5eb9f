"""What an operator meets in the course of a day: a login that ends, rows that changed meanwhile."""

import re

import pytest
from django.contrib.sessions.models import Session

from tasks import create, limits_and_holds
from tasks.models import Task

from ..factories import claim_one, complete, fail, make_group, make_task
from .driver import expect
from .visit import PHONE

LIVE = "#crew-live"
ROW = "#panel-tasks tbody tr"
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"

# What a page shows is the same on every database.
pytestmark = pytest.mark.sqlite


def test_who_is_logged_out_is_shown_and_goes_on_after_a_login(visit, boss):
    """Sessions end by themselves; the login in another tab makes another CSRF token."""
    group = make_group(name="Nightly")
    person = visit()
    person.forgive(r"status of 40[13]|WebSocket connection to")
    log_in(person.go("/admin/login/"))
    page = at_group(person, group)
    home = person.open()
    home.goto("/admin/")
    expect(home.locator(LIVE)).to_have_text("live")
    page.evaluate("window.stayed = true")

    Session.objects.all().delete()

    expect(page.locator(LIVE)).to_contain_text("You are logged out")
    expect(home.locator(LIVE)).to_contain_text("You are logged out")
    pause = page.locator("#crew-actions").get_by_role("button", name="Pause")
    pause.click()
    expect(page.get_by_role("alert")).to_contain_text("You are logged out")
    other = person.open()
    other.goto(page.get_by_role("link", name="Log in again").get_attribute("href"))
    log_in(other)
    expect(other.locator(LIVE)).to_have_text("live")

    expect(page.locator(LIVE)).to_have_text("live", timeout=30_000)
    expect(home.locator(LIVE)).to_have_text("live")
    pause.click()
    expect(page.locator("#crew-progress")).to_contain_text("group paused")
    assert page.evaluate("window.stayed")


def test_what_fails_while_one_looks_at_the_failures_is_seen(visit, boss):
    group = make_group()
    make_task(group, name="Fetch", remaining_attempts=1)
    page = at_group(visit(boss), group)
    page.get_by_role("tab", name="Failures").click()
    panel = page.locator("#panel-failures")
    expect(panel).to_contain_text("Nothing has failed")

    fail(claim_one(), "the disk is full")

    expect(page.locator("#crew-progress")).to_contain_text("1 failed")
    expect(panel).to_contain_text("the disk is full")


def test_the_failures_of_home_leave_the_focus_where_it_is(visit, boss):
    group = make_group()
    for error in ("the disk is full", "nobody is there"):
        make_task(group, remaining_attempts=1)
        fail(claim_one(), error)
    page = visit(boss).page
    page.clock.install()
    page.goto("/admin/")
    button = page.get_by_role("button", name="Retry 1").nth(1)
    button.focus()
    said = page.evaluate("document.activeElement.closest('li').querySelector('pre').textContent")

    with page_asks(page, "/failures"):
        page.clock.run_for(11_000)
    page.wait_for_load_state("networkidle")

    # The newest failure is a little older now, and so the list was drawn again.
    now = "document.activeElement.closest('li')?.querySelector('pre').textContent"
    assert page.evaluate(now) == said


@pytest.mark.parametrize("way", ["menu", "selection"])
def test_a_row_that_was_in_use_shows_what_happened_meanwhile(visit, boss, way):
    group = make_group()
    task = make_task(group, name="Fetch")
    lease = claim_one()
    page = at_group(visit(boss), group)
    row = page.locator(ROW)
    expect(row).to_contain_text("executing")
    if way == "menu":
        row.locator("summary").click()
    else:
        row.locator("code").click(click_count=3)
        assert page.evaluate("getSelection().toString()").strip() == task.pk

    complete(lease)
    expect(page.locator("#crew-progress")).to_contain_text("1 of 1")
    expect(row).to_contain_text("executing")  # not under the hand
    page.keyboard.press("Escape") if way == "menu" else page.locator("#crew-name").click()

    expect(row).to_contain_text("complete")


def test_how_long_ago_it_was_grows(visit, boss):
    group = make_group()
    make_task(group, name="Fetch")
    person = visit(boss)
    person.page.clock.install()
    page = at_group(person, group)
    created = page.locator(f"{ROW} td[data-label=Created]")
    expect(created).to_contain_text("sec. ago")

    page.clock.run_for(180_000)

    expect(created).to_have_text(re.compile("[34] min. ago"))


@pytest.mark.parametrize("screen", [{}, {"viewport": PHONE}], ids=["wide", "phone"])
def test_names_without_a_space_are_broken(visit, boss, screen):
    long = {"name": "n" * 200, "worker": "w" * 200, "workgroup": "g" * 200, "key": "k" * 200}
    group = create.create_group(id="i" * 200, tasks=[long | {"id": "t" * 200}])
    limits_and_holds.hold_workgroup("g" * 200, seconds=3_600)
    task = Task.objects.get()
    person = visit(boss, **screen)

    for path in (
        "/admin/",
        "/admin/crew/workgroup/",
        f"/admin/crew/taskgroup/{group.pk}/change/",
        f"/admin/crew/task/{task.pk}/change/",
    ):
        page = person.settle(path)
        expect(page.locator(LIVE)).to_have_text("live")
        assert page.evaluate(SIDEWAYS) <= 0, path
        for button in page.get_by_role("button", name=re.compile("^(Open now|Pause n)")).all():
            assert button.bounding_box()["x"] < page.viewport_size["width"] - 40, path


def test_the_timeline_stays_where_it_was_scrolled_to(visit, boss):
    group = make_group()
    make_task(group, name="Fetch")
    complete(claim_one())
    page = at_group(visit(boss, viewport=PHONE), group)
    page.get_by_role("tab", name="Timeline").click()
    place = page.locator("#panel-timeline .crew-scroll")
    link = place.get_by_role("listitem")
    link.focus()
    place.evaluate("(node) => (node.scrollLeft = 200)")

    make_task(group, name="Store")
    complete(claim_one())
    expect(link).to_have_count(2)

    assert place.evaluate("(node) => node.scrollLeft") == 200
    assert page.evaluate("document.activeElement.textContent").startswith("Fetch")


@pytest.mark.parametrize("what", ["taskgroup", "task", "worker"])
def test_the_button_history_tells_what_people_did(visit, boss, what):
    group = make_group(name="Nightly")
    task = make_task(group, worker="mailer")
    page = at_group(visit(boss), group)
    page.locator("#crew-actions").get_by_role("button", name="Pause").click()
    expect(page.locator("#crew-progress")).to_contain_text("group paused")
    page.get_by_role("button", name=re.compile("^Resume ")).click()
    limits_and_holds.limit_worker("mailer", 3)
    pk = {"taskgroup": group.pk, "task": task.pk, "worker": "mailer"}[what]

    page.goto(f"/admin/crew/{what}/{pk}/history/")

    did = {"taskgroup": "pause", "task": "resume", "worker": "limit"}[what]
    expect(page.locator(".crew-page").first).to_contain_text(did)
    expect(page.locator("body")).not_to_contain_text("a change history")


class page_asks:
    """Until the page has asked for a path, and been answered."""

    def __init__(self, page, path):
        self.page, self.path = page, path
        self.asked = []

    def __enter__(self):
        self.page.on("requestfinished", lambda request: self.asked.append(request.url))

    def __exit__(self, *_):
        for _ in range(100):
            if any(self.path in url for url in self.asked):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"it did not ask for {self.path}")


def at_group(person, group):
    page = person.go(f"/admin/crew/taskgroup/{group.pk}/change/")
    expect(page.locator(LIVE)).to_have_text("live")
    return page


def log_in(page):
    page.get_by_label("Username").fill("boss")
    page.get_by_label("Password").fill("a good password")
    page.get_by_role("button", name="Log in").click()

"""Every page leaves nobody out, and fits on a phone: axe-core's rules of WCAG 2 A and AA."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.db.models.functions import Now

from tasks.models import SchedulerProcess

from .axe import look_around
from .driver import expect
from .world import TABS, furnish, paths

MODELS = sorted(model._meta.model_name for model in admin.site._registry)
# Those of all models are the same template.
ALIKE = ("history", "delete")
# The line of each operation in Swagger UI is a button with buttons in it.
OF_SWAGGER = ("nested-interactive",)
# The body is what has the focus while it is on the browser's own buttons.
IS_WITHIN = """document.activeElement === document.body
    || document.activeElement.closest("dialog") !== null"""
# Before the browser tells that the dialog is closed, which is a task of its own.
PRESS_WHEN_CLOSED = """() => {
    const dialog = document.querySelector("dialog");
    const press = async () => {
        for (let i = 0; i < 50; i++) await null;
        document.activeElement.click();
        window.pressed = true;
    };
    new MutationObserver(press).observe(dialog, { attributeFilter: ["open"] });
}"""

# What a page looks like is the same on every database, and takes minutes to look at.
pytestmark = pytest.mark.sqlite


def test_the_login_is_accessible(visit):
    person = visit(bypass_csp=True)

    person.settle("/admin/login/")

    assert look_around(person.page) == []


def test_the_page_of_the_api_is_accessible(visit):
    person = visit(bypass_csp=True)

    person.settle("/api/v1/docs")

    expect(person.page.locator(".opblock-summary-method").first).to_be_visible()
    assert look_around(person.page, but=OF_SWAGGER) == []


@pytest.mark.parametrize("name", ["home", "password", "a task", *TABS, "app crew", "app auth"])
def test_each_page_is_accessible(visit, boss, name):
    found = paths(furnish(boss))
    person = visit(boss, bypass_csp=True)  # axe writes styles; other tests are about the policy

    person.settle(found[name if name in found else f"a group, {name}"])

    assert look_around(person.page) == []


def test_what_must_be_acted_on_is_on_the_first_page(visit, boss):
    ago = Now() - timedelta(minutes=20)
    SchedulerProcess.objects.create(pk="s", host="h", pid=1, slots=1, started_at=ago)
    person = visit(boss, bypass_csp=True)

    person.settle("/admin/")

    shown = person.page.locator("#crew-troubles")
    expect(shown).to_contain_text("do not keep up with deleting changes")
    expect(shown).to_contain_text("Since 20")
    assert look_around(person.page) == []


@pytest.mark.parametrize("model", MODELS)
def test_each_page_of_a_model_is_accessible(visit, boss, model):
    person = visit(boss, bypass_csp=True)
    found = paths(furnish(boss))
    wrong = []

    for name, path in found.items():
        if name.split(", ")[0] == model and (model == "worker" or not name.endswith(ALIKE)):
            person.settle(path)
            wrong += [f"{name}, {each}" for each in look_around(person.page)]

    assert wrong == []


def test_a_person_without_a_mouse_gets_around(visit, boss):
    """Tab to a button, Enter opens its dialog, Escape closes it and gives the focus back."""
    page = visit(boss).go(paths(furnish(boss))["a group, tasks"])
    expect(page.locator("#crew-actions")).not_to_be_empty()

    tab_to(page, "Retry…")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate(IS_WITHIN)
    page.keyboard.press("Escape")

    expect(dialog).to_have_count(0)
    assert focused(page) == "Retry…"
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("Attempts given back.")).to_be_visible()


def test_a_key_right_after_a_dialog_went_is_not_lost(visit, boss):
    """The browser tells that a dialog is closed some time after nobody sees it any more."""
    page = visit(boss).go(paths(furnish(boss))["a group, tasks"])
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_role("dialog")).to_be_visible()

    page.evaluate(PRESS_WHEN_CLOSED)
    page.keyboard.press("Escape")

    page.wait_for_function("window.pressed")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_tabs_are_walked_with_arrows(visit, boss):
    page = visit(boss).go(paths(furnish(boss))["a group, tasks"])
    expect(page.get_by_role("tab", name="Tasks")).to_have_attribute("aria-selected", "true")

    tab_to(page, "Tasks")
    page.keyboard.press("ArrowRight")

    expect(page.get_by_role("tab", name="Graph")).to_have_attribute("aria-selected", "true")
    assert focused(page) == "Graph"
    expect(page.get_by_role("tabpanel")).to_have_attribute("aria-labelledby", "tab-graph")


def tab_to(page, words):
    for _ in range(80):
        page.keyboard.press("Tab")
        if focused(page) == words:
            return
    raise AssertionError(f"no way to {words} by the Tab key")


def focused(page):
    return page.evaluate("document.activeElement.textContent.trim()")

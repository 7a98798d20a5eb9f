"""Every page leaves nobody out, and fits on a phone: axe-core's rules of WCAG 2 A and AA."""

import json
from importlib import resources

import pytest
from django.contrib import admin

from .driver import expect
from .visit import DESKTOP, PHONE
from .world import TABS, furnish, paths

AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
RULES = {
    "preload": False,
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
}
COLOURS = RULES | {"runOnly": ["color-contrast"]}
MODELS = sorted(model._meta.model_name for model in admin.site._registry)
# Those of all models are the same template.
ALIKE = ("history", "delete")
# The body is what has the focus while it is on the browser's own buttons.
IS_WITHIN = """document.activeElement === document.body
    || document.activeElement.closest("dialog") !== null"""

# What a page looks like is the same on every database, and takes minutes to look at.
pytestmark = pytest.mark.sqlite


def test_the_login_is_accessible(visit):
    person = visit(bypass_csp=True)

    person.settle("/admin/login/")

    assert look_around(person.page) == []


@pytest.mark.parametrize("name", ["home", "password", "a task", *TABS, "app crew", "app auth"])
def test_each_page_is_accessible(visit, boss, name):
    found = paths(furnish(boss))
    person = visit(boss, bypass_csp=True)  # axe writes styles; other tests are about the policy

    person.settle(found[name if name in found else f"a group, {name}"])

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


def look_around(page):
    """What is wrong with a page: in the light on a desk, and in the dark on a phone."""
    found = violations(page, "wide", RULES)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    found += violations(page, "narrow, dark", COLOURS)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("narrow: the page scrolls sideways")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESKTOP)
    return found


def violations(page, how, rules):
    page.evaluate(f"globalThis.axe ?? (0, eval)({json.dumps(AXE)})")
    said = page.evaluate("(rules) => axe.run(document, rules)", rules)
    return [
        f"{how}: {each['id']} at {node['target']}: {node['failureSummary']}"
        for each in said["violations"]
        for node in each["nodes"]
    ]


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

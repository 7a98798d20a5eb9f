"""axe-core's rules of WCAG 2 A and AA on a page, and whether it fits on a phone."""

import json
from importlib import resources
from typing import Any

from .driver import Handle
from .visit import DESKTOP, PHONE

SOURCE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
# Gives nothing: what it gave would be carried over piece by piece, and axe is large.
LOADED = f"() => {{ globalThis.axe ?? (0, eval)({json.dumps(SOURCE)}); }}"
# What still fades has neither its colour of before nor that of after.
RUN = """async (rules) => {
    const fades = document.getAnimations().filter((each) => each instanceof CSSTransition);
    await Promise.allSettled(fades.map((each) => each.finished));
    return axe.run(document, rules);
}"""
RULES = {
    "preload": False,
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
}
COLOURS = RULES | {"runOnly": ["color-contrast"]}


def look_around(page: Handle, but: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with a page: in the light on a desk, and in the dark on a phone.

    `but` names rules that are not for this page.
    """
    page.evaluate(LOADED)
    off = {"rules": {rule: {"enabled": False} for rule in but}}
    found = _violations(page, "wide", RULES | off)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    found += _violations(page, "narrow, dark", COLOURS)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("narrow: the page scrolls sideways")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESKTOP)
    return found


def _violations(page: Handle, how: str, rules: dict[str, Any]) -> list[str]:
    said = page.evaluate(RUN, rules)
    return [
        f"{how}: {each['id']} at {node['target']}: {node['failureSummary']}"
        for each in said["violations"]
        for node in each["nodes"]
    ]

"""The README and the pages it leads to are true: what they show runs, what they name is there."""

import json
import re
from pathlib import Path

import pytest
import responses

from tasks.create import create_group
from tasks.testing import run_group

from .processes import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"(?:\]\(|srcset=\"|src=\")(?!https?:)([^)\"#]+)(#[^)\"]*)?[)\"]")
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.S)


def blocks(text: str, kind: str) -> list[str]:
    return [body for word, body in BLOCK.findall(text) if word == kind]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {"#" + re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve()
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), path + anchor


def test_a_newcomer_reads_it_in_minutes():
    assert len(README.split()) <= 1_200


@pytest.mark.django_db
def test_the_first_group_runs(settings):
    settings.CREW_WORKER_BASE_URL = "http://workers.test/"
    first, called = map(json.loads, blocks(README, "json"))
    group = create_group(**first)

    with responses.RequestsMock() as http:
        http.post("http://workers.test/fetch/customers", json={"output": 3})
        http.post("http://workers.test/fetch/orders", json={"output": 4})
        http.post("http://workers.test/report", json={})
        report = run_group(group)
        body = json.loads(http.calls[-1].request.body)

    assert set(report.complete) == {"customers", "orders", "report"}
    assert body.keys() == called.keys()
    assert body["parents"][0] == called["parents"][0]


@pytest.mark.django_db
def test_the_python_creates_a_group():
    (shown,) = blocks(README, "python")

    exec(shown, {})  # noqa: S102


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_a_page_is_python(page):
    for shown in blocks(page.read_text(), "python"):
        compile(shown.replace("{...}", "{}"), page.name, "exec")

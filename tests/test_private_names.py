"""Private names of other projects that we lean on: a release without one of them says so here."""

import inspect
import re

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from .processes import ROOT

PSYCOPG = {"_fetch_gen"}
TWISTED = {
    "_handlingRequest",
    "_networkProducer",
    "_respondToBadRequestAndDisconnect",
    "_send100Continue",
}


def test_psycopg_has_what_the_pipeline_is_made_of():
    pipeline = pytest.importorskip("psycopg").Pipeline

    assert {name for name in PSYCOPG if not hasattr(pipeline, name)} == set()
    assert hasattr(BaseDatabaseWrapper, "_prepare_cursor")


def test_twisted_has_what_the_server_leans_on():
    http = pytest.importorskip("twisted.web.http")
    asyncioreactor = pytest.importorskip("twisted.internet.asyncioreactor")

    text = inspect.getsource(http)

    assert {name for name in TWISTED if not re.search(rf"\b{name}\b", text)} == set()
    assert "_asyncioEventloop" in inspect.getsource(asyncioreactor)


@pytest.mark.parametrize("package", ["psycopg", "daphne", "twisted"])
def test_releases_that_nobody_tried_are_not_taken(package):
    text = (ROOT / "pyproject.toml").read_text()

    assert re.search(rf'"{package}(\[[\w,]+\])?>=[\d.]+,<[\d.]+"', text)

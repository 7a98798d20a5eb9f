"""The benchmark still runs, the reference loop keeps its promises, and the tables say the truth."""

import asyncio
import json

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import reference, report, stage
from benchmarks.reference_sql import open_store
from benchmarks.workloads import Measure, binary_tree, workloads
from tests.processes import database_url

TINY = 0.002
SIZED = [w for w in workloads(TINY) if w.how == "run" and w.name != "sleep"]


@pytest.fixture(scope="module")
def sink():
    with stage.sink() as found:
        yield found


@pytest.fixture
def store_url(request, tmp_path):
    """Of the SQLite file or the PostgreSQL that the tests run on."""
    if request.config.getoption("reuse_db", None):
        pass
    return f"sqlite:///{tmp_path / 'reference.sqlite3'}"


@pytest.mark.parametrize("workload", SIZED, ids=[w.name for w in SIZED])
def test_the_reference_loop_does_the_whole_of_a_workload(workload, sink, store_url):
    store = open_store(store_url)
    store.create(workload.tasks())
    store.close()

    span = asyncio.run(reference.work(store_url, sink.base, slots=20))

    assert 0 < span["first_at"] < span["last_at"]
    assert stage.query(store_url, "SELECT is_complete, count(*) FROM task GROUP BY 1") == [
        (True, workload.becomes)
    ]

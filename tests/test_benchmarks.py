"""The benchmark still runs, the reference loop keeps its promises, and the tables say the truth."""

import asyncio
import json
import sqlite3
from contextlib import closing

import psycopg
import pytest
from django.db import connection

from benchmarks import __main__ as benchmarks
from benchmarks import bulk, reference, report, stage
from benchmarks.reference_sql import open_store
from benchmarks.stage import query
from benchmarks.workloads import workloads
from tests.processes import database_url

TINY = 0.002
SIZED = [w for w in workloads(TINY) if w.how == "run" and w.slots == 500]


@pytest.fixture(scope="module")
def base():
    with stage.sink() as sink:
        yield sink.base


@pytest.fixture
def url(db, tmp_path):
    """A SQLite file, or the PostgreSQL that the tests run on."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{tmp_path / 'reference.sqlite3'}"
        return
    yield database_url()
    with psycopg.connect(database_url()) as server:
        server.execute("DROP TABLE IF EXISTS task, edge")


@pytest.fixture
def store(url):
    with closing(open_store(url)) as store:
        yield store


def answer(lease, *, by, **given):
    return {
        "id": lease.task_id,
        "attempt": lease.attempt,
        "by": by,
        "ok": True,
        "output": None,
        "children": [],
    } | given


def claim(store, by="me"):
    return {lease.task_id: lease for lease in store.turn([], 10, by)}


# --- The reference loop --------------------------------------------------------------------------


@pytest.mark.parametrize("workload", SIZED, ids=[w.name for w in SIZED])
def test_the_reference_loop_does_the_whole_of_a_workload(workload, base, url, store):
    store.create(workload.tasks())

    span = asyncio.run(reference.work(url, base, slots=20))

    assert 0 < span["first_at"] < span["last_at"]
    assert query(url, "SELECT is_complete, count(*) FROM task GROUP BY 1") == [
        (True, workload.becomes)
    ]
    assert query(url, "SELECT max(attempt), min(attempt) FROM task") == [(1, 1)]


def test_a_task_is_claimed_once(store):
    store.create([{"id": "a", "worker": "w", "input": {"n": 1}}])

    first, second = claim(store, "me"), claim(store, "you")

    assert (list(first), list(second)) == (["a"], [])
    assert (first["a"].attempt, first["a"].worker, json.loads(first["a"].input)) == (
        1,
        "w",
        {"n": 1},
    )


@pytest.mark.parametrize("stale", [{"by": "you"}, {"by": "me", "attempt": 0}])
def test_a_stale_lease_settles_nothing(store, url, stale):
    store.create([{"id": "a", "worker": "w"}])
    lease = claim(store)["a"]

    store.turn([answer(lease, **{"children": [{"id": "c"}], **stale})], 0, "you")

    assert query(url, "SELECT id, leased_by FROM task") == [("a", "me")]


def test_a_child_waits_for_all_parents_and_sees_them(store):
    parents = [{"id": "a", "worker": "w"}, {"id": "b", "worker": "w"}]
    store.create([*parents, {"id": "c", "worker": "w", "parentIds": ["a", "b"]}])
    leases = claim(store)
    assert sorted(leases) == ["a", "b"]

    half = store.turn([answer(leases["a"], by="me", output={"n": 1})], 10, "me")
    whole = store.turn([answer(leases["b"], by="me")], 10, "me")

    assert half == []
    assert [lease.task_id for lease in whole] == ["c"]
    seen = {parent["taskId"]: parent["output"] for parent in json.loads(whole[0].parents)}
    assert seen == {"a": {"n": 1}, "b": None}


def test_a_failed_attempt_is_tried_again_later(store, url):
    store.create([{"id": "a", "worker": "w"}])
    lease = claim(store)["a"]

    again = store.turn([answer(lease, by="me", ok=False)], 10, "me")

    assert again == []
    assert query(url, "SELECT is_complete, remaining, leased_by FROM task") == [(False, 4, None)]


@pytest.mark.parametrize(
    ("status", "body", "is_good"),
    [
        (200, b"", True),
        (200, b'{"output":1}', True),
        (200, b'{"error":"no"}', False),
        (200, b"[]", False),
        (200, b"{", False),
        (500, b"{}", False),
        (0, b"", False),
    ],
)
def test_the_reference_loop_reads_an_answer(status, body, is_good):
    lease = reference.Lease("a", 1, "w", None, None)

    settlement = reference.settlement(reference.Answer(lease, status, body), "me")

    assert settlement["ok"] is is_good


# --- The runner and its tables -------------------------------------------------------------------


@pytest.fixture
def migrated(db, monkeypatch):
    """Migrating takes longest: take the tests' own tables."""

    def copy(url):
        tests = sqlite3.connect(connection.settings_dict["NAME"])
        fresh = sqlite3.connect(url.removeprefix("sqlite:///"))
        with closing(tests), closing(fresh):
            tests.backup(fresh)

    monkeypatch.setitem(stage.TEMPLATES, "crew", copy)


@pytest.mark.sqlite
@pytest.mark.usefixtures("migrated")
def test_crew_and_the_reference_loop_run_in_turns_and_fill_the_document(tmp_path, capsys):
    figures, document = tmp_path / "figures.json", tmp_path / "performance.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")

    options = f"--only fan --database sqlite --repeat 1 --scale {TINY}".split()
    code = benchmarks.main([*options, "--json", str(figures), "--markdown", str(document)])

    results = json.loads(figures.read_text())["results"]
    assert [(r["contestant"], r["database"], len(r["runs"]), r["errors"]) for r in results] == [
        ("Crew", "SQLite", 1, []),
        ("reference loop", "SQLite", 1, []),
    ]
    assert all(r["runs"][0]["rate"] > 0 for r in results)
    assert code == 0
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old\n" not in text
    assert "| fan 1 -> 10 -> 1 by continuation | SQLite | **" in text
    assert "fan 1 -> 10 -> 1 by continuation" in capsys.readouterr().out


def result(contestant, database, *rates, workload="independent", way="", **more):
    return {
        "workload": workload,
        "title": "",
        "contestant": contestant,
        "way": way,
        "database": database,
        "runs": [{"rate": rate} | more for rate in rates],
        "errors": [],
    }


def test_the_tables_compare_medians_with_goal_reference_and_peers():
    figures = {
        "machine": {
            "taken_at": "today", "commit": "c0ffee", "cpu": "a CPU", "cores": 2, "memory_gib": 4,
            "kernel": "6", "sync_ms": 1, "load": [0.5, 0, 0], "python": "3", "versions": {},
            "databases": {"PostgreSQL": {"fsync": "on"}},
        },
        "peers": {"celery": "5"}, "repeat": 3, "scale": 1.0,
        "results": [
            result("Crew", "PostgreSQL", 4_000, 4_500, 9_000),
            result("reference loop", "PostgreSQL", 18_000),
            result("Celery", "Redis", 900, way="threads", tasks=5_000),
            result("Crew", "PostgreSQL", 9_000, workload="two"),
        ],
    }  # fmt: skip

    text = report.markdown(figures)

    title = "20,000 independent tasks"
    assert (
        f"| {title} | PostgreSQL | **4,500** tasks/s (4,000 to 9,000) | ≥ 5,000 ✗ "
        "| 18,000 | 0.25 | 1,530 |"
    ) in text
    assert f"| {title}, two schedulers | PostgreSQL | **9,000** tasks/s | ≥ 8,000 |" in text
    assert "2.00 times one at 20,000 tasks" in text
    assert (
        "|  | Celery | threads | Redis | 900 tasks/s, with 5,000 tasks | 5 times as fast |"
    ) in text
    assert "fsync on" in text


def test_a_run_that_fails_is_reported_and_the_others_go_on():
    def fail():
        raise stage.BrokenRunError("it broke")

    workload = SIZED[0]
    contestants = [
        benchmarks.Contestant("Crew", "SQLite", fail),
        benchmarks.Contestant("reference loop", "SQLite", lambda: {"rate": 7.0}),
    ]

    broken, other = benchmarks.in_turns(workload, contestants, repeat=2)

    assert (broken["runs"], broken["errors"]) == ([], ["it broke", "it broke"])
    assert (other["runs"], other["errors"]) == ([{"rate": 7.0}] * 2, [])
    assert "FAILED: it broke" in report.line(broken, [broken, other], workload)


def test_waits_for_locks_are_read_from_the_log(tmp_path):
    log = tmp_path / "log"
    seen = b"LOG:  process 7 acquired ShareLock on transaction 9 after 99.0 ms\n"
    log.write_bytes(
        seen
        + b"LOG:  process 7 still waiting for ShareLock on transaction 9 after 5.1 ms\n"
        + b"LOG:  process 7 acquired ShareLock on transaction 9 after 12.5 ms\n"
        + b"LOG:  process 8 acquired AccessExclusiveLock on object 0 of class 1262 of database 0"
        + b" after 50.000 ms\n"
    )

    assert stage._waits(log, len(seen)) == [(0.0125, False), (0.05, True)]


@pytest.mark.sqlite
def test_large_creates_are_measured(tmp_path, capsys):
    created = bulk.creates(f"sqlite:///{tmp_path / 'db'}", "ndjson", count=50, rounds=1)

    assert (created["tasks"], len(created["seconds"])) == (50, 1)
    assert "tasks/s" in capsys.readouterr().out

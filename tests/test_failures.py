"""Failed tasks are grouped by worker and kind of error, newest first."""

import time
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tasks import control
from tasks.insight import failures as room
from tasks.insight.failures import failures, fingerprint, tasks_of
from tasks.insight.find import Page
from tasks.models import Attempt, Task

from . import crowd
from .factories import answer, claim_all, claim_one, complete, fail, from_now, make_group, make_task

pytestmark = pytest.mark.django_db


def failed(error: str = "boom", group=None, *, worker: str = "worker-a", age: int = 0) -> Task:
    """A task that failed for good, `age` minutes ago."""
    task = make_task(group, worker=worker, remaining_attempts=1)
    fail(claim_one(), error)
    if age:
        ago = Now() - timedelta(minutes=age)
        Attempt.objects.filter(task=task).update(finished_at=ago)
        Task.objects.filter(pk=task.pk).update(run_after=ago + timedelta(seconds=60))
    return task


# --- Fingerprints ---


@pytest.mark.parametrize(
    ("error", "print_"),
    [
        ("", ""),
        ("connection refused", "connection refused"),
        ("order 17 of 1,234.5 failed", "order <n> of <n> failed"),
        ("timeout after 30s", "timeout after <n>s"),
        ("worker_pool_12 is full", "worker_pool_<n> is full"),
        ("E1234: no such row", "E<n>: no such row"),
        ("HTTP 503: busy", "HTTP 503: busy"),
        ("HTTP 503: upstream gave 500", "HTTP 503: upstream gave <n>"),
        ("no user 550e8400-e29b-41d4-a716-446655440000", "no user <id>"),
        ("no user 550E8400-E29B-41D4-A716-446655440000.", "no user <id>."),
        ("commit 9f8e7d6c5b is gone", "commit <id> is gone"),
        ("at 0x7f3a9c", "at <id>"),
        ("charge ch_1a2b3c4d5e refused", "charge ch_<id> refused"),
        ("no run 01HXYZABCDEFGHJKMNPQRSTVWX", "no run <id>"),
        ("KeyError: 'customer_17'", "KeyError: <text>"),
        ('user "bob smith" is unknown', "user <text> is unknown"),
        ("column `a b` is missing", "column <text> is missing"),
        ("it can't and won't", "it can't and won't"),
        ("late since 2026-11-24T10:00:00.123Z", "late since <time>"),
        ("late since 2026-11-24T10:00:00+01:00!", "late since <time>!"),
        ("on 2026-11-24 at 10:00:00", "on <time> at <time>"),
        ("10.0.0.3:8000 refused", "<n>:<n> refused"),
        (
            "GET https://api.example.com/v1/users/12?token=abc&x=1 failed",
            "GET https://api.example.com/v<n>/users/<n>?<query> failed",
        ),
        ("is it there? yes", "is it there? yes"),
        (
            'HTTP 500: {"error": "disk full on node 7", "id": "ab12", "code": "E_IO"}',
            "HTTP 500: {error: disk full on node <n>, id: <text>, code: E_IO}",
        ),
        ("a\n  b\t c", "a b c"),
        ("Zahl ٣٤ und ß", "Zahl <n> und ß"),
    ],
)
def test_a_fingerprint_keeps_the_words_and_drops_what_varies(error, print_):
    assert fingerprint(error) == print_


def test_different_errors_have_different_fingerprints():
    errors = (
        "HTTP 500: a",
        "HTTP 503: a",
        '{"error": "timeout"}',
        '{"error": "refused"}',
        "timeout after 5s",
        "timeout after 5m",
    )

    assert len({fingerprint(error) for error in errors}) == len(errors)


@pytest.mark.parametrize(
    "piece", ["'", '"', "a'", '"a":"', "1-", "a1", "x", "0000-00-00 ", "?a=", "-", " ", "`", "1."]
)
def test_a_hostile_error_is_read_in_no_time(piece):
    started = time.perf_counter()

    fingerprint(piece * 5_000)

    assert time.perf_counter() - started < 0.1


# --- Failures ---


def test_where_nothing_failed_there_is_nothing():
    make_task()
    complete(claim_one())
    fail_once = make_task()
    fail(claim_one(), "tried again later")

    assert failures() == room.Failures((), 0, 0, False)
    assert Task.objects.get(pk=fail_once.pk).remaining_attempts == 4


def test_failures_of_one_kind_are_one_line_with_the_newest_as_its_sample():
    group, other = make_group(), make_group()
    failed("order 1 is lost", group, age=3)
    failed("order 2 is lost", group, age=2)
    newest = failed("order 3 is lost", other, age=1)

    seen = failures()

    (line,) = seen.found
    assert (line.worker, line.fingerprint, line.count) == ("worker-a", "order <n> is lost", 3)
    assert (line.error, line.task_id, line.status) == ("order 3 is lost", newest.pk, 500)
    assert line.group_ids == (other.pk, group.pk) and line.group_count == 2
    assert from_now(line.newest_at) == pytest.approx(-60, abs=20)
    assert (seen.kinds, seen.total, seen.is_capped) == (1, 3, False)


def test_kinds_come_newest_first_and_workers_apart():
    failed("b", age=5)
    failed("a", age=1)
    failed("a", worker="worker-b", age=3)

    lines = [(line.worker, line.fingerprint) for line in failures().found]

    assert lines == [("worker-a", "a"), ("worker-b", "a"), ("worker-a", "b")]
    assert len({line.key for line in failures().found}) == 3


def test_kinds_come_in_pages():
    for age, error in enumerate("abcde", 1):
        failed(error, age=age)

    seen = failures(at=Page(1, 2))

    assert [line.error for line in seen.found] == ["b", "c"]
    assert seen.kinds == 5


def test_only_the_groups_that_are_meant_are_looked_at():
    one, two, three = make_group(), make_group(), make_group()
    for group, error in ((one, "apples"), (two, "pears"), (three, "plums")):
        failed(error, group)

    def result(**scope) -> set[str]:
        return {line.group_ids[0] for line in failures(**scope).found}

    assert result(group_id=one.pk) == {one.pk}
    assert result(group_ids=[one.pk, two.pk, "gone"]) == {one.pk, two.pk}
    assert result(group_id=three.pk, group_ids=[one.pk]) == set()
    assert result(group_ids=[]) == set()


def test_the_status_is_what_the_worker_answered():
    make_task(remaining_attempts=1)
    answer(claim_one(), 404, body=b"no such page")

    (line,) = failures().found

    assert (line.status, line.fingerprint) == (404, "HTTP 404: no such page")


def test_a_task_that_failed_with_another_of_its_key_has_its_error():
    group = make_group()
    make_task(group, key="k", remaining_attempts=1)
    make_task(group, key="k", remaining_attempts=1)
    (lease,) = claim_all()
    fail(lease, "order 7 is lost")

    (line,) = failures().found

    assert (line.count, line.fingerprint) == (2, "order <n> is lost")


def test_tasks_without_attempts_or_cancelled_are_shown_too():
    group = make_group()
    make_task(group, remaining_attempts=0)
    running = make_task(group)
    claim_one()
    control.cancel_group(group.pk)

    result = {line.fingerprint: line.task_id for line in failures().found}

    assert set(result) == {"", "the group was cancelled"}
    assert result["the group was cancelled"] == running.pk


def test_a_long_error_is_cut():
    failed("x" * 4_000)

    (line,) = failures().found

    assert line.error == "x" * 300


def test_a_whole_kind_can_be_tried_again():
    one, two = make_group(), make_group()
    lost = [failed(f"order {n} is lost", group) for n, group in enumerate((one, two, two))]
    other = failed("something else", two)
    key = next(line.key for line in failures().found if line.count == 3)

    found = tasks_of(key)
    for group_id, ids in found.items():
        control.retry_tasks(group_id, ids)

    assert {g: sorted(ids) for g, ids in found.items()} == {
        one.pk: [lost[0].pk],
        two.pk: sorted([lost[1].pk, lost[2].pk]),
    }
    (line,) = failures().found
    assert line.task_id == other.pk
    assert tasks_of(key) == {}


def test_the_tasks_of_a_kind_are_those_the_caller_may_see():
    one, two = make_group(), make_group()
    failed("boom", one)
    failed("boom", two)
    (line,) = failures().found

    assert set(tasks_of(line.key, group_ids=[one.pk])) == {one.pk}
    assert set(tasks_of(line.key, group_id=two.pk)) == {two.pk}
    assert tasks_of("none") == {}


# --- Very many ---


def test_of_too_many_the_newest_are_grouped_and_it_says_so(monkeypatch):
    monkeypatch.setattr(room, "LOOKED_AT", 2)
    failed("old", age=9)
    failed("new 1", age=2)
    failed("new 2", age=1)

    seen = failures()

    assert [(line.fingerprint, line.count) for line in seen.found] == [("new <n>", 2)]
    assert (seen.total, seen.is_capped) == (3, True)


def test_they_are_counted_so_far_and_no_further(monkeypatch):
    monkeypatch.setattr(room, "LOOKED_AT", 1)
    monkeypatch.setattr(room, "COUNTED", 2)
    for _ in range(3):
        failed()

    assert failures().total == 2


def test_with_100_000_failed_tasks_no_table_is_read_whole(fresh_tables, monkeypatch):
    crowd.fill(done=50_000, failed=100_000)
    started = time.perf_counter()
    seen = failures()
    took = time.perf_counter() - started
    some = tasks_of(seen.found[0].key, group_id="crowd3")

    assert (seen.total, seen.is_capped, seen.kinds) == (100_000, True, 10)
    assert {line.count for line in seen.found} == {1_000}
    assert took < 10  # some 0.2 s on a quiet machine
    assert sum(map(len, some.values())) in (0, 1_000)
    monkeypatch.setattr(room, "LOOKED_AT", 100)
    monkeypatch.setattr(room, "COUNTED", 200)
    assert crowd.rows_read(failures) < 3_000
    assert crowd.rows_read(lambda: failures(group_id="crowd3")) < 4_000


def test_what_did_not_fail_costs_nothing(fresh_tables):
    crowd.fill(done=100_000)
    failed("boom")

    assert crowd.rows_read(failures) < 500
    assert crowd.rows_read(lambda: failures(group_ids=["crowd1", "crowd2"])) < 500

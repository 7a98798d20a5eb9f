"""What happens between two statements of ours, when somebody else commits just then.

Nothing here is left to luck: the other one acts at a chosen place, or is seen to wait for a lock.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from tasks import control, limits_and_holds
from tasks.engine import claim as claiming
from tasks.engine import rescue as rescuing
from tasks.engine.idle import Rest
from tasks.engine.scheduler import Scheduler
from tasks.models import CutCall, SchedulerProcess, Task, Worker, Workgroup
from tasks.store import changes

from .factories import (
    claim,
    claim_ids,
    claim_one,
    complete,
    fail,
    in_threads,
    make_group,
    make_scheduler,
    make_task,
    row,
    wire,
)
from .processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = 30.0


def elsewhere(work: Callable[[], object]) -> None:
    """By another connection, and committed when this returns."""
    in_threads(lambda _: work(), [None])


def act_after(monkeypatch, module, name: str, act: Callable[[], object]) -> None:
    """When the function has looked, and before its caller acts on it."""
    original = getattr(module, name)
    once = [act]

    def looked(*args, **kwargs):
        result = original(*args, **kwargs)
        if once:
            elsewhere(once.pop())
        return result

    monkeypatch.setattr(module, name, looked)


@contextmanager
def holding(work: Callable[[], object]) -> Iterator[None]:
    """`work` is done in a transaction of another connection, which stays open meanwhile."""
    done, release = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                work()
                done.set()
                assert release.wait(20)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        try:
            wait_until(lambda: done.is_set() or held.done())
            yield
        finally:
            release.set()
            held.result(20)


@contextmanager
def trying(work: Callable[[], object]) -> Iterator[Future]:
    """`work` was begun by another connection; it is done by now, or waits for a lock."""

    def attempt() -> object:
        try:
            return work()
        finally:
            connection.close()

    pool = ThreadPoolExecutor(1)
    future = pool.submit(attempt)
    try:
        wait_until(lambda: future.done() or somebody_waits())
        yield future
    finally:
        pool.shutdown(wait=False)  # it may go on when the other one has let go


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return cursor.fetchone()[0] > 0


# --- Claim ---


@pytest.mark.parametrize(
    "act",
    [
        lambda: limits_and_holds.hold_workgroup("shop", seconds=60),
        lambda: control.pause_group("g"),
        lambda: control.cancel_group("g"),
        lambda: control.delete_group("g"),
        lambda: claim_ids("other", slots=1),
    ],
    ids=["held", "paused", "cancelled", "deleted", "claimed"],
)
def test_what_is_no_longer_ready_when_it_is_taken_is_not_taken(monkeypatch, act):
    later = timezone.now() + timedelta(hours=1)
    make_group(
        id="g",
        tasks=[
            wire(id="due", workgroup="shop"),
            wire(id="later", workgroup="shop", run_after=later),
        ],
    )
    act_after(monkeypatch, claiming, "_look", act)

    taken = claim_ids("me")

    assert taken == []
    assert Task.objects.filter(leased_by="me").count() == 0


@pytest.mark.postgres
def test_a_claim_waits_for_nobodys_task():
    make_task(id="a")
    make_task(id="b")
    make_scheduler("s1")

    with (
        holding(lambda: list(Task.objects.select_for_update().filter(pk="a"))),
        trying(lambda: claim_ids("s1")) as taken,
    ):
        assert taken.done() and taken.result() == ["b"]


@pytest.mark.postgres
def test_nobody_counts_a_limited_worker_while_another_claims_for_it():
    """Nor waits for that: it may be somebody who forgot the row, and other workers have tasks."""
    group = make_group(tasks=[wire(), wire(), wire(), wire(id="other", worker="worker-b")])
    Worker.objects.update(max_concurrency=2)
    for me in ("s1", "s2"):
        make_scheduler(me)

    with holding(lambda: Worker.objects.select_for_update().get(pk="worker-a")):
        meanwhile = claim("s1")
    afterwards = claim_ids("s2")

    assert [lease.task_id for lease in meanwhile.leases] == ["other"]
    assert meanwhile.more
    assert len(afterwards) == 2
    assert Task.objects.claimed().filter(group=group).count() == 3


# --- Settle ---


@pytest.mark.postgres
def test_a_settle_locks_the_children_by_id():
    """Whoever waits for the first of them holds none of the others."""
    group = make_group(tasks=[wire(id="p")])
    ids = [f"c{n:02}" for n in range(30)]
    for id_ in reversed(ids):
        make_task(group, id=id_, parent_ids=["p"])
    lease = claim_one()

    with (
        holding(lambda: list(Task.objects.select_for_update().filter(pk=ids[0]))),
        trying(lambda: complete(lease)) as settled,
        transaction.atomic(),
    ):
        free = Task.objects.select_for_update(skip_locked=True).filter(pk__in=ids)
        assert not settled.done()
        assert sorted(task.pk for task in free) == ids[1:]
    assert settled.result(20).live == 1


def test_a_hold_is_committed_with_the_answer_that_asks_for_it():
    make_task(id="asks", workgroup="shop")
    lease = claim_one()
    seen = []

    with transaction.atomic():
        transaction.on_commit(
            lambda: seen.append(
                (
                    Task.objects.get(pk="asks").is_complete,
                    Workgroup.objects.filter(held_until__gt=Now()).exists(),
                )
            )
        )
        complete(lease, workgroup_delay=60)

    assert seen == [(True, True)]


def test_nobody_is_told_before_the_commit(monkeypatch):
    told = []
    monkeypatch.setattr(changes, "on_committed", told.append)

    with transaction.atomic():
        task = make_task()
        within = list(told)

    assert within == []
    assert told == [{task.group_id}]


@pytest.mark.postgres
@pytest.mark.own_session
def test_a_server_that_goes_right_after_the_commit_costs_a_line(monkeypatch, caplog):
    told = []
    monkeypatch.setattr(changes, "on_committed", told.append)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()

    with transaction.atomic():
        transaction.on_commit(lambda: elsewhere(lambda: end_session(pid)))
        task = make_task()
    connection.close()

    assert told == [{task.group_id}]
    assert Task.objects.filter(pk=task.pk).exists()
    assert [record.exc_info for record in caplog.records if record.levelname != "INFO"] == [None]


def end_session(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@pytest.fixture
def notified(monkeypatch, settings):
    """The channels that were notified, in order."""
    settings.CREW_NOTIFY = True
    told = []
    monkeypatch.setattr(changes, "_notify", told.extend)
    return told


@pytest.mark.postgres
def test_a_scheduler_notifies_when_the_calls_are_on_their_way(monkeypatch, notified):
    make_task()
    scheduler = Scheduler()
    scheduler._heart._beat()
    notified.clear()
    monkeypatch.setattr(scheduler._deliverer, "send", lambda _: notified.append("sent"))

    scheduler.tick()
    scheduler._rest.at_most(0, peeking=False)

    assert notified == ["sent", changes.CHANGES]


@pytest.mark.postgres
def test_short_turns_are_told_together_and_the_last_of_them_soon(monkeypatch, settings):
    settings.CREW_NOTIFY = True
    wake, told, news = threading.Event(), [], changes.News()
    monkeypatch.setattr(changes, "_notify", lambda channels: (told.append(channels), wake.set()))
    rest = Rest(wake, news)
    group = make_group()
    told.clear()

    def turn():
        with news.gathered():
            control.pause_tasks(group.pk, [make_task(group).pk])

    monkeypatch.setattr(changes, "TOLD_EVERY", 60)
    turn()
    rest.at_most(5, peeking=False)
    assert told == [{changes.CHANGES, changes.CHANNEL}]
    for _ in range(3):
        turn()
        wake.set()  # an answer is there already
        rest.at_most(5, peeking=False)
    assert len(told) == 1
    assert 0 < news.wait() <= 60

    monkeypatch.setattr(changes, "TOLD_EVERY", 0.01)
    rest.at_most(5, peeking=False)  # no answer comes

    assert told == [{changes.CHANGES, changes.CHANNEL}] * 2
    assert news.wait() is None


@pytest.mark.postgres
def test_who_gathers_no_more_notifies_at_once(notified):
    with pytest.raises(ZeroDivisionError), changes.News().gathered():
        make_task()
        raise ZeroDivisionError
    assert notified == []

    make_task()

    assert changes.CHANNEL in notified


@pytest.mark.postgres
def test_a_settle_waits_for_a_verb_on_its_group():
    task = make_task()
    lease = claim_one()

    with (
        holding(lambda: control.reset_group(task.group_id, remaining_attempts=3)),
        trying(lambda: complete(lease)) as settled,
    ):
        assert not settled.done()

    assert (settled.result(20).live, settled.result().late) == (0, 1)
    assert (row(task)["is_complete"], row(task)["remaining_attempts"]) == (False, 3)


@pytest.mark.postgres
def test_a_parent_does_not_complete_while_a_child_is_hung_under_it():
    parent = make_task()
    lease = claim_one()

    with (
        holding(lambda: make_task(parent.group, id="child", parents=[parent])),
        trying(lambda: complete(lease)) as settled,
    ):
        pass

    assert settled.result(20).live == 1
    assert claim_ids() == ["child"]


# --- Rescue ---


def make_silent(me: str) -> None:
    SchedulerProcess.objects.filter(pk=me).update(beat_at=Now() - timedelta(seconds=LEASE + 5))


@pytest.mark.postgres
def test_of_two_sweeps_one_gives_the_leases_back():
    task = make_task()
    claim_one("dead")
    make_silent("dead")

    with (
        holding(lambda: rescuing.find_lost(lease_seconds=LEASE, most=9, passed=rescuing.Passed())),
        trying(lambda: rescuing.rescue(lease_seconds=LEASE)) as given,
    ):
        assert given.done() and given.result() == -1

    assert row(task)["leased_by"] == "dead"


@pytest.mark.postgres
def test_a_heartbeat_that_comes_during_a_rescue_waits_for_its_end():
    """So nobody believes in a lease that is being taken from it."""
    make_task()
    claim_one("frozen")
    make_silent("frozen")
    beat = SchedulerProcess.objects.filter(pk="frozen")

    with (
        holding(lambda: rescuing.rescue(lease_seconds=LEASE)),
        trying(lambda: beat.update(beat_at=Now())) as beaten,
    ):
        assert not beaten.done()

    assert beaten.result(20) == 1
    assert Task.objects.claimed().count() == 0


@pytest.mark.postgres
def test_a_rescue_leaves_alone_what_was_settled_since_it_looked(monkeypatch):
    task = make_task(error_delay_in_seconds=0)
    lease = claim_one("frozen")
    make_silent("frozen")

    def settled_and_claimed_again():
        fail(lease)
        assert claim_ids("other") == [task.pk]

    act_after(monkeypatch, rescuing, "find_lost", settled_and_claimed_again)

    rescuing.rescue(lease_seconds=LEASE)

    after = row(task)
    assert (after["leased_by"], after["attempt"], after["rescues"]) == ("other", 2, 0)
    assert after["errors"] == ["boom"]


# --- A claim that looked before others did ---

HELD = """
    CREATE SCHEMA held;
    CREATE FUNCTION held.statement_timestamp() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        IF current_query() LIKE '%leased AS (%' THEN
            PERFORM pg_catalog.pg_advisory_lock(4711);
            PERFORM pg_catalog.pg_advisory_unlock(4711);
        END IF;
        RETURN pg_catalog.statement_timestamp();
    END $$;
"""
WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def execute(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


@contextmanager
def claim_on_its_way() -> Iterator[Future[list[str]]]:
    """A claim of `s2` whose one statement has looked at the rows, and goes on afterwards."""

    def claims() -> list[str]:
        try:
            execute("SET search_path = held, pg_catalog, public")
            return claim_ids("s2")
        finally:
            connection.close()

    execute(HELD)
    try:
        with ThreadPoolExecutor(1) as pool:
            execute("SELECT pg_advisory_lock(4711)")
            try:
                claiming_now = pool.submit(claims)
                wait_until(lambda: execute(WAITS) == (1,))
                yield claiming_now
            finally:
                execute("SELECT pg_advisory_unlock(4711)")
    finally:
        execute("DROP SCHEMA held CASCADE")


AWAY = {
    "reset": lambda: control.reset_group("g"),
    "cancelled and retried": lambda: (control.cancel_group("g"), control.retry_group("g")),
}


@pytest.mark.postgres
@pytest.mark.own_session
@pytest.mark.parametrize("verb", AWAY)
def test_a_claim_that_looked_before_takes_no_task_whose_call_is_being_ended(verb):
    make_scheduler("s2")
    make_group(id="g", tasks=[wire(id="t")])

    with claim_on_its_way() as late:
        assert claim_ids("s1") == ["t"]
        AWAY[verb]()
    taken = late.result()

    assert taken == []
    assert CutCall.objects.filter(task_id="t", scheduler="s1").exists()
    assert claim_ids("s2") == []


@pytest.mark.postgres
@pytest.mark.own_session
def test_a_claim_that_looked_before_takes_what_nobody_took():
    make_scheduler("s2")
    make_group(id="g", tasks=[wire(id="t")])

    with claim_on_its_way() as late:
        pass

    assert late.result() == ["t"]

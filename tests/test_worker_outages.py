"""A worker that cannot be reached: its tasks wait and keep their attempts, one call tries it."""

import random
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from tasks import audit, control, limits_and_holds
from tasks.engine import rescue
from tasks.engine.haste import Haste, hastily
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.models import Attempt, AuditEntry, Limit, SchedulerProcess, Task, TaskGroup
from tasks.rules.decide import Completed, Failed, Interrupted
from tasks.rules.outages import BORNE, IN_A_ROW, Fault
from tasks.sql import Within
from tasks.upkeep import expired_rows, invariants

from . import processes, stub_worker
from .factories import (
    answer,
    claim,
    claim_all,
    claim_one,
    complete,
    fail,
    from_now,
    in_threads,
    make_due,
    make_group,
    make_task,
    row,
    wire,
)
from .processes import wait_until
from .stub_worker import StubWorker
from .threads import running

pytestmark = pytest.mark.django_db

WHY = "no connection to http://127.0.0.1:1/worker-a: connection refused"


def refusal(lease):
    return Settlement(lease, Failed(WHY), None, fault=Fault.REFUSED)


def refuse(*leases):
    settle([refusal(lease) for lease in leases])


def tasks(count, **fields):
    make_group(tasks=[wire(**fields) for _ in range(count)])


def limit(name="worker-a"):
    return Limit.objects.filter(kind="worker", name=name).first()


def rest_over():
    """The time of the rest has passed."""
    Limit.objects.filter(rests__gt=0).update(held_until=Now() - timedelta(seconds=1))


def resting(count=100, **fields):
    """So many tasks of a worker that has just begun its first rest."""
    tasks(count, **fields)
    refuse(*claim_all(slots=IN_A_ROW))
    make_due()


# --- How long a task waits ---


@pytest.mark.parametrize("status", [None, 502, 503, 504])
def test_a_task_waits_its_delay_and_longer_each_time(status):
    task = make_task(error_delay_in_seconds=10, remaining_attempts=9)
    waits = []
    for _ in range(9):
        make_due()
        lease = claim_one()
        refuse(lease) if status is None else answer(lease, status)
        waits.append(from_now(Task.objects.get().run_after))

    for n, wait in enumerate(waits):
        longer = min(10 * (2**n - 1), 230)
        assert 9 + longer * 0.8 < wait < 12.5 + longer * 1.2, waits
    assert max(waits) < 10 + 300
    assert row(task)["remaining_attempts"] == 0


def test_no_two_come_again_together():
    tasks(19, error_delay_in_seconds=60)
    refuse(*claim_all())

    times = sorted(Task.objects.values_list("run_after", flat=True))

    assert len(set(times)) == 19
    assert (times[-1] - times[0]).total_seconds() > 2
    assert all(59 < from_now(moment) < 75 for moment in times)


def test_without_a_delay_an_outage_waits_a_second_and_a_failure_does_not():
    tasks(2, error_delay_in_seconds=0)
    down, wrong = claim_all()

    refuse(down)
    fail(wrong)

    assert 0.5 < from_now(Task.objects.get(pk=down.task_id).run_after) < 2
    assert from_now(Task.objects.get(pk=wrong.task_id).run_after) < 0.5


def test_an_answer_in_between_makes_the_wait_short_again():
    make_task(error_delay_in_seconds=10, remaining_attempts=9)
    for _ in range(4):
        make_due()
        refuse(claim_one())
    make_due()
    answer(claim_one(), 500)
    make_due()
    refuse(claim_one())

    assert 9 < from_now(Task.objects.get().run_after) < 13


@pytest.mark.parametrize("status", [400, 404, 500, 501, 505])
def test_an_answer_that_is_no_outage_is_none(status):
    task = make_task(error_delay_in_seconds=10)

    answer(claim_one(), status)

    assert 9 < from_now(Task.objects.get().run_after) <= 10.1
    assert row(task)["remaining_attempts"] == 4
    assert limit() is None


# --- The rest ---


def test_twenty_in_a_row_of_one_worker_and_it_rests():
    tasks(50)
    refuse(*claim_all(slots=IN_A_ROW - 1))
    assert limit().rests == 0

    refuse(claim_all(slots=1)[0])
    tasks(1, worker="worker-b")

    now = claim(slots=100)
    assert [lease.worker for lease in now.leases] == ["worker-b"]
    assert 0 < now.wait <= 6.1
    assert (limit().fails, limit().rests, limit().held_why) == (20, 1, WHY)
    used = Counter(Task.objects.values_list("remaining_attempts", flat=True))
    assert used == {4: 20, 5: 31}


@pytest.mark.parametrize("how", [complete, lambda lease: answer(lease, 500), fail])
def test_any_answer_of_the_worker_restarts_the_count(how):
    tasks(40)
    leases = claim_all()
    for lease in leases[:19]:
        refuse(lease)
    how(leases[19])
    for lease in leases[20:39]:
        refuse(lease)

    assert (limit().fails, limit().rests) == (19, 0)


def test_the_count_is_shared_by_all_schedulers():
    tasks(30)
    for n in range(IN_A_ROW):
        refuse(claim_all(f"s{n % 3}", slots=1)[0])

    assert limit().rests == 1
    assert claim_all("s9") == []


def test_calls_in_flight_when_the_rest_begins_keep_their_attempts():
    tasks(100)
    leases = claim_all()

    refuse(*leases[:70])
    refuse(*leases[70:])

    used = Counter(Task.objects.values_list("remaining_attempts", flat=True))
    assert used == {4: 20, 5: 80}
    assert Counter(Attempt.objects.values_list("outcome", flat=True)) == {"failed": 20, "held": 80}
    assert (limit().fails, limit().rests) == (100, 1)
    held = Attempt.objects.filter(outcome="held")
    assert set(held.values_list("note", flat=True)) == {"no attempt was used up: the worker rests"}


def test_a_rest_is_five_seconds_and_each_after_it_twice_as_long():
    resting()
    waits = [from_now(limit().held_until)]
    for _ in range(7):
        rest_over()
        make_due()
        refuse(claim_one())
        waits.append(from_now(limit().held_until))

    for wait, most in zip(waits, [5, 10, 20, 40, 80, 160, 250, 250], strict=True):
        assert most * 0.8 - 1 < wait < most * 1.2 + 0.1, waits


def test_one_call_tries_a_worker_that_has_rested_over_all_schedulers():
    resting()
    rest_over()

    taken = [*claim_all("s1"), *claim_all("s2"), *claim_all("s1")]
    crowded = claim("s3")

    assert len(taken) == 1
    assert crowded.more


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_one_call_tries_however_many_claim_at_once():
    resting()
    rest_over()

    claims = in_threads(lambda n: [claim_all(f"s{n}") for _ in range(5)], range(4))

    assert sum(len(leases) for each in claims for leases in each) == 1


def test_slow_calls_from_before_the_rest_do_not_keep_the_worker_from_being_tried():
    tasks(100)
    refuse(*claim_all()[:50])
    rest_over()
    make_due()

    assert len(claim_all("s2")) == 1


def test_a_call_that_tries_without_success_uses_no_attempt_however_often():
    make_task(worker="worker-b", id="only", remaining_attempts=1)
    Limit.objects.create(
        kind="worker", name="worker-b", fails=20, rests=1, held_until=Now(), held_since=Now()
    )
    for _ in range(120):
        rest_over()
        make_due()
        refuse(claim_one())

    assert row(Task.objects.get())["remaining_attempts"] == 1
    assert Limit.objects.get().fails == 140


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_a_call_that_tries_and_is_not_answered_uses_no_attempt(deliverer, settings):
    """It refused, and now it hangs. While it was well, that was the task's doing."""
    settings.CREW_DELIVERY_TIMEOUT_SECONDS = 0.2
    settings.CREW_DELIVERER = deliverer
    make_task(worker="w", id="only", remaining_attempts=9)

    with StubWorker(stub_worker.never) as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        with running():
            wait_until(lambda: Attempt.objects.count() == 1)
        assert (row(Task.objects.get())["remaining_attempts"], limit("w")) == (8, None)
        Limit.objects.create(
            kind="worker", name="w", fails=20, rests=1, held_until=Now(), held_since=Now()
        )
        make_due()
        with running():
            wait_until(lambda: Attempt.objects.count() == 2)

    assert row(Task.objects.get())["remaining_attempts"] == 8
    assert (limit("w").fails, limit("w").rests) == (21, 2)
    assert limit("w").held_why == "no complete answer within 0.2 s"


@pytest.mark.parametrize("ramp", [None, 4.0])
def test_silence_says_nothing_of_a_worker_that_does_not_rest(ramp):
    tasks(30)
    Limit.objects.create(kind="worker", name="worker-a", fails=19, ramp=ramp, held_why="x")

    silent = [Settlement(lease, Failed("late"), None, fault=Fault.SILENT) for lease in claim_all()]
    settle(silent)

    assert {task.remaining_attempts for task in Task.objects.exclude(attempt=0)} == {4}
    assert (limit().fails, limit().rests, limit().ramp) == (19, 0, ramp)


def test_a_scheduler_that_dies_with_the_call_that_tries_lets_another_try():
    resting()
    rest_over()
    (probe,) = claim_all("s1")
    SchedulerProcess.objects.filter(pk="s1").update(beat_at=Now() - timedelta(hours=1))
    assert claim_all("s2") == []

    rescue.rescue(lease_seconds=30)

    assert len(claim_all("s2")) == 1
    assert probe.task_id


def test_an_answer_ends_the_rest_and_more_go_as_more_are_answered():
    resting(count=400)
    rest_over()
    sizes = []
    while len(sizes) < 14:
        leases = claim_all(slots=100)
        sizes.append(len(leases))
        settle([Settlement(lease, Completed(), 200) for lease in leases])

    assert sizes[:6] == [1, 1, 1, 1, 1, 2]
    assert sizes == sorted(sizes)
    assert 5 < sizes[-1] < 20
    assert (limit().fails, limit().rests, limit().held_until) == (0, 0, None)


def test_a_ramp_ends_and_all_is_as_before():
    tasks(60)
    Limit.objects.create(kind="worker", name="worker-a", ramp=505.0, held_why="x")

    for lease in claim_all():
        complete(lease)

    assert (limit().ramp, limit().held_why) == (None, "")


def test_a_slow_answer_from_before_ends_the_rest():
    tasks(60)
    leases = claim_all()
    refuse(*leases[1:31])

    complete(leases[0])

    assert (limit().rests, limit().ramp) == (0, 1.0)
    make_due()
    assert len(claim_all("s2")) == 1


def test_a_worker_that_is_well_has_no_row_and_one_that_is_well_again_is_not_written():
    tasks(10)
    leases = claim_all()
    complete(leases[0])
    assert limit() is None
    refuse(leases[1])
    Limit.objects.update(fails=0, ramp=None, held_why="")
    statements = []

    def note(execute, sql, *args):
        statements.append(sql)
        return execute(sql, *args)

    with connection.execute_wrapper(note):
        complete(leases[2])

    assert not [sql for sql in statements if "UPDATE crew_limit" in sql]


# --- Calls that we ended ourselves ---


def drained(leases):
    settle([Settlement(lease, Interrupted(), may_run=True) for lease in leases])


def given_up(leases):
    """By a verb, which took the leases before the calls were cut."""
    for group in {lease.group_id for lease in leases}:
        control.reset_group(group)
    drained(leases)


def rescued(leases):
    """Their scheduler lost its heartbeat, and cut them when others had them back."""
    SchedulerProcess.objects.filter(pk="s1").update(beat_at=Now() - timedelta(hours=1))
    rescue.rescue(lease_seconds=30)
    drained(leases)


cuts = pytest.mark.parametrize("cut", [drained, given_up, rescued])


@cuts
def test_what_we_cut_is_no_failure_of_its_worker(cut):
    tasks(30)
    cut(claim_all())
    assert limit() is None

    make_due()
    refuse(*claim_all("s2", slots=IN_A_ROW - 1))
    make_due()
    cut(claim_all("s1", slots=5))

    assert (limit().fails, limit().rests) == (19, 0)


@cuts
def test_what_we_cut_is_no_answer_of_its_worker(cut):
    tasks(IN_A_ROW)
    make_group(tasks=[wire() for _ in range(5)])
    refuse(*claim_all("s2", slots=IN_A_ROW - 1))
    left = claim_all("s1")
    cut(left)
    make_due()
    refuse(claim_all("s2")[0])

    assert (limit().fails, limit().rests) == (20, 1)


@cuts
def test_a_call_that_tries_and_is_cut_leaves_the_rest_and_another_tries(cut):
    resting()
    rest_over()
    before = limit()

    cut(claim_all("s1"))

    after = limit()
    assert (after.fails, after.rests, after.ramp) == (before.fails, 1, None)
    make_due()
    assert len(claim_all("s2")) == 1


@cuts
def test_a_ramp_is_the_same_after_a_cut(cut):
    tasks(20)
    Limit.objects.create(kind="worker", name="worker-a", ramp=5.0, held_why="x")

    cut(claim_all("s1"))

    assert limit().ramp == 5.0
    make_due()
    assert len(claim_all("s2")) == 5


@pytest.mark.parametrize("ramp", [None, 3.0])
def test_a_call_that_was_given_up_counts_until_it_has_ended(ramp):
    resting()
    rest_over()
    if ramp:
        Limit.objects.update(rests=0, ramp=ramp, held_until=None)
    flying = claim_all("s1")
    control.reset_group(flying[0].group_id)
    make_due()

    meanwhile = claim_all("s2")
    drained(flying)
    make_due()

    assert meanwhile == []
    assert len(claim_all("s2")) == len(flying) == (ramp or 1)


@pytest.mark.parametrize("cut", [drained, rescued])
@pytest.mark.parametrize("times", [1, 12])
def test_what_we_cut_in_between_leaves_the_wait_long(cut, times):
    task = make_task(error_delay_in_seconds=10, remaining_attempts=99)
    for _ in range(4):
        make_due()
        refuse(claim_one())
    for _ in range(times):
        make_due()
        Task.objects.update(rescues=0)
        cut(claim_all("s1"))
    make_due()
    refuse(claim_one("s2"))

    assert from_now(Task.objects.get(pk=task.pk).run_after) > 10 + 150 * 0.8


# --- Crowded workers ---


@pytest.mark.parametrize(("fault", "borne"), [(Fault.REFUSED, 12), (Fault.BROKEN, BORNE)])
def test_what_fails_while_others_are_served_keeps_its_attempt(fault, borne):
    """What was cut off only for a while: it may be the task."""
    make_task(remaining_attempts=9)
    Limit.objects.create(kind="worker", name="worker-a", ramp=9.0, held_why="x")
    for _ in range(12):
        make_due()
        settle([Settlement(claim_one(), Failed(WHY), None, fault=fault)])

    ended = Attempt.objects.order_by("number").values_list("outcome", flat=True)
    assert list(ended) == ["held"] * borne + ["failed"] * (12 - borne)
    assert row(Task.objects.get())["remaining_attempts"] == 9 - (12 - borne)


@pytest.mark.parametrize("slots", [22, 40, 200])
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BROKEN])
def test_no_task_dies_of_a_worker_that_takes_20_at_a_time(slots, fault):
    """Of 20,000 that were resumed 17,051 died."""
    tasks(600, error_delay_in_seconds=0)
    rng = random.Random(slots)
    flying = []
    for _ in range(1_000):
        make_due()
        rest_over()
        flying += claim("s1", slots - len(flying), total=10_000).leases
        given, crowd = flying[:20], flying[20:]
        done = [lease for lease in given if rng.random() < 0.5]
        # Refusals come first: they take no time.
        settle([Settlement(lease, Failed("gone"), None, fault=fault) for lease in crowd])
        settle([Settlement(lease, Completed(), 200) for lease in done])
        flying = [lease for lease in given if lease not in done]
        if not Task.objects.filter(is_complete=False).exists():
            break

    assert not Task.objects.filter(is_complete=False).exists()
    assert Attempt.objects.exclude(outcome="completed").count() < 600 * 5


def test_a_task_that_breaks_its_worker_fails_in_the_end_though_others_are_served():
    tasks(400)
    make_task(id="poison", worker="worker-a", remaining_attempts=5, priority=10)
    calls = 0
    while Task.objects.get(pk="poison").remaining_attempts:
        make_due()
        for lease in claim_all(slots=3):
            if lease.task_id == "poison":
                calls += 1
                settle([Settlement(lease, Failed("cut"), None, fault=Fault.BROKEN)])
            else:
                complete(lease)

    assert 5 <= calls <= 12


# --- With a scheduler ---


class Crowded:
    """Takes so many calls at a time, and does `otherwise` with the others.

    The first that it takes are answered when many others were turned away, however slow we are.
    """

    def __init__(self, most, otherwise):
        self.most, self.otherwise = most, otherwise
        self.busy, self.turned_away, self.lock = 0, 0, threading.Lock()
        self.is_known = threading.Event()

    def __call__(self, exchange):
        with self.lock:
            takes = self.busy < self.most
            self.busy += takes
        if takes:
            self.is_known.wait(60)
            time.sleep(0.02)  # what the work takes
            with self.lock:
                self.busy -= 1
            stub_worker.answer(200, b"{}")(exchange)
            return
        self.otherwise(exchange)
        with self.lock:
            self.turned_away += 1
            if self.turned_away == IN_A_ROW + 5:
                self.is_known.set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
@pytest.mark.parametrize(
    "otherwise", [stub_worker.close_at_once, stub_worker.answer(503, b"full")], ids=["close", "503"]
)
def test_none_of_many_tasks_dies_of_a_crowded_worker(deliverer, otherwise):
    tasks(300, error_delay_in_seconds=0)

    def are_done():
        make_due()
        rest_over()
        return not Task.objects.filter(is_complete=False, remaining_attempts__gt=0).exists()

    with (
        StubWorker(Crowded(5, otherwise)) as worker,
        processes.scheduler(worker.url, "--slots", "60", CREW_DELIVERER=deliverer),
    ):
        wait_until(are_done, 120)

    assert Task.objects.filter(is_complete=True).count() == 300
    assert Attempt.objects.filter(outcome="held").exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_tasks_outlive_a_worker_that_is_away_for_long(deliverer):
    """Of 5,000 all were dead after four minutes."""
    tasks(200, error_delay_in_seconds=0)

    def tried_often():
        make_due()
        rest_over()
        return Limit.objects.filter(rests__gt=5).exists()

    def are_done():
        make_due()
        rest_over()
        return Task.objects.filter(is_complete=True).count() == 200

    with StubWorker(stub_worker.answer(200, b"{}")) as worker:
        with processes.scheduler("http://127.0.0.1:9/", "--slots", "50", CREW_DELIVERER=deliverer):
            wait_until(tried_often, 120)
        assert sum(Task.objects.values_list("remaining_attempts", flat=True)) == 200 * 5 - 20
        assert "no connection to http://127.0.0.1:9/worker-a" in limit().held_why
        with processes.scheduler(worker.url, "--slots", "50", CREW_DELIVERER=deliverer):
            wait_until(are_done, 120)


# --- Locks ---


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_the_row_of_a_worker():
    tasks(30)

    def other(_):
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '5s'")
        others = claim_all("s2")
        refuse(first)
        complete(second)
        return [lease.worker for lease in others]

    Limit.objects.create(kind="worker", name="worker-a", ramp=9.0)
    first, second = claim_all("s1", slots=2)
    tasks(1, worker="worker-b")
    with transaction.atomic():
        list(Limit.objects.select_for_update())
        (workers,) = in_threads(other, [0])

    assert workers == ["worker-b"]
    assert row(Task.objects.get(pk=first.task_id))["remaining_attempts"] == 5
    assert Task.objects.get(pk=second.task_id).is_complete
    assert limit().ramp == 9.0


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_schedulers_that_fail_and_answer_at_once_do_not_wait_for_each_other():
    for name in "abcd":
        tasks(60, worker=name, error_delay_in_seconds=0)
    rng = random.Random(4)
    fates = {pk: rng.random() < 0.6 for pk in Task.objects.values_list("pk", flat=True)}

    def work(n):
        with connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '50ms'")
        for _ in range(25):
            rest_over()
            leases = claim_all(f"s{n}", slots=12)
            settle(
                [
                    refusal(one) if fates[one.task_id] else Settlement(one, Completed(), 200)
                    for one in leases
                ]
            )

    in_threads(work, range(4))

    assert Task.objects.filter(leased_by__isnull=False).count() == 0


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_failure_that_cannot_be_written_at_once_is_counted_once():
    task = make_task()
    first = [refusal(claim_one())]

    def other(settlements):
        with hastily(Haste(Within(0.2, 5.0))):
            return settle(settlements).left

    with transaction.atomic():
        list(TaskGroup.objects.select_for_update())
        (left,) = in_threads(other, [first])
        (left,) = in_threads(other, [[one.settlement for one in left]])
    assert limit().fails == 1
    assert settle([one.settlement for one in left]).live == 1

    assert limit().fails == 1
    assert row(task)["remaining_attempts"] == 4
    assert from_now(Task.objects.get().run_after) > 50


# --- Beside it ---


def test_tasks_of_a_worker_that_rests_are_not_left_over():
    resting()
    Task.objects.update(run_after=Now() - timedelta(hours=1))
    rest_over()

    assert list(invariants.left_over()) == []
    Limit.objects.all().delete()
    assert len(list(invariants.left_over())) == 100


def test_rows_of_workers_that_are_well_or_gone_go():
    tasks(1)
    tasks(1, worker="ill")
    for name in ("worker-a", "gone"):
        Limit.objects.create(kind="worker", name=name, fails=int(name == "gone"))
    Limit.objects.create(kind="worker", name="ill", fails=3)

    assert expired_rows.prune()["limits"] == 2

    assert list(Limit.objects.values_list("name", flat=True)) == ["ill"]


def test_who_tries_a_worker_at_once_is_recorded_and_only_if_it_rests():
    resting()

    with audit.by("me"):
        limits_and_holds.try_worker("worker-a")
    make_due()

    assert AuditEntry.objects.filter(kind="worker", verb="open").count() == 1
    assert len(claim_all()) == 1
    Limit.objects.all().delete()
    with audit.by("me"):
        limits_and_holds.try_worker("worker-a")
    assert AuditEntry.objects.filter(kind="worker", verb="open").count() == 1

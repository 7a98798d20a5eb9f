"""A call whose lease is taken away is cut, and keeps its slot and key until it has ended."""

import random
from contextlib import ExitStack
from functools import partial

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now

from tasks import control
from tasks.engine import rescue
from tasks.engine.settle import settle
from tasks.engine.settlement import Returned, Settlement
from tasks.insight.explain import explain
from tasks.models import (
    Attempt,
    AuditEntry,
    CutCall,
    Limit,
    SchedulerProcess,
    Task,
    TaskGroup,
    Worker,
)
from tasks.models.queries import READY
from tasks.rules.decide import CANCELLED, Answer, Completed, Failed, Interrupted, decide
from tasks.store import cut_calls, edges
from tasks.verbs import slices

from .factories import (
    claim_all,
    claim_ids,
    claim_one,
    complete,
    from_now,
    in_threads,
    make_due,
    make_group,
    make_scheduler,
    make_task,
    wire,
)
from .processes import scheduler, wait_until
from .stub_worker import StubWorker, Watched

pytestmark = pytest.mark.django_db(transaction=True)


def prune():
    with slices.alone("g"):
        edges.remove("g", ["t"], is_told=False)


VERBS = {
    "group reset": lambda: control.reset_group("g"),
    "group cancel": lambda: control.cancel_group("g"),
    "group delete": lambda: control.delete_group("g"),
    "delete": lambda: control.delete_tasks("g", ["t"]),
    "pruned": prune,
}
verbs = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


def limited(limit: int, worker: str = "worker-a") -> None:
    Worker.objects.update_or_create(pk=worker, defaults={"max_concurrency": limit})


def rows():
    return list(CutCall.objects.order_by("id").values_list("task_id", "attempt", "scheduler"))


# --- The rows ---


@verbs
def test_a_call_that_is_given_up_takes_its_slot_until_it_has_ended(verb):
    make_group(id="g", tasks=[wire(id="t")])
    limited(1)
    lease = claim_one()
    make_task(id="other")

    verb()
    meanwhile = claim_ids("s2"), rows()
    settle([Settlement(lease, Interrupted())])

    assert meanwhile == ([], [("t", 1, "s1")])
    assert rows() == []
    assert len(claim_ids("s2")) == 1


@verbs
def test_what_does_not_run_leaves_nothing(verb):
    make_group(id="g", tasks=[wire(id="t")])

    verb()

    assert rows() == []


@verbs
def test_no_second_call_of_a_key_while_the_first_is_being_ended(verb):
    make_group(id="g", tasks=[wire(id="t", key="k")])
    lease = claim_one()

    verb()
    TaskGroup.objects.get_or_create(pk="g")
    make_task(TaskGroup(pk="g"), id="twin", key="k")
    make_task(TaskGroup(pk="g"), id="free", key="l")
    Task.objects.filter(pk="t").delete()
    meanwhile = claim_ids("s2")
    settle([Settlement(lease, Interrupted())])

    assert (meanwhile, claim_ids("s2")) == (["free"], ["twin"])


@pytest.mark.parametrize("key", ["", "k"])
def test_a_task_does_not_run_beside_its_own_old_call(key):
    make_group(id="g", tasks=[wire(id="t", key=key)])
    lease = claim_one()
    make_group(tasks=[wire()] * 3)

    control.reset_group("g")
    meanwhile = claim_ids("s2")
    settle([Settlement(lease, Completed("1"), 200)])

    assert len(meanwhile) == 3
    assert claim_ids("s2") == ["t"]


def test_a_task_recreated_waits_for_the_call_of_the_one_that_was_deleted():
    make_group(id="g", tasks=[wire(id="t")])
    lease = claim_one()
    control.delete_group("g")
    make_group(id="other", tasks=[wire(id="t")])

    meanwhile = claim_ids("s2")
    settle([Settlement(lease, Returned())])

    assert (meanwhile, claim_ids("s2")) == ([], ["t"])


def test_what_we_cut_is_no_late_answer_and_what_the_worker_said_is():
    make_group(id="g", tasks=[wire(id="a"), wire(id="b")])
    cut, answered = sorted(claim_all(), key=lambda lease: lease.task_id)
    control.reset_group("g")

    settle([Settlement(cut, Interrupted()), Settlement(answered, Failed("no"), 500)])

    late = Attempt.objects.exclude(late_at=None).values_list("task_id", "late_outcome")
    assert list(late) == [("b", "failed")]
    assert not AuditEntry.objects.filter(verb="late").exists()
    assert rows() == []


def test_a_cut_of_the_same_moment_as_the_settle_leaves_nothing():
    """Whichever comes first: the answer counts, or the call is given up; never half of each."""
    for _ in range(8):
        make_group(id="g", tasks=[wire(id="t")])
        settling = partial(complete, claim_one())

        in_threads(lambda work: work(), [settling, partial(control.reset_group, "g")])

        assert rows() == []
        control.delete_group("g")


# --- How long ---


def sweep_until_gone():
    while CutCall.objects.exists():
        rescue.sweep_once()


def test_what_a_dead_scheduler_was_to_cut_goes_with_its_lease():
    make_group(id="g", tasks=[wire(id="t")])
    claim_one()
    control.reset_group("g")

    rescue.sweep_once()
    alive = rows()
    SchedulerProcess.objects.update(beat_at="2000-01-01T00:00:00Z")
    sweep_until_gone()

    assert alive == [("t", 1, "s1")]
    assert claim_ids("s2") == ["t"]


def test_a_claim_that_failed_leaves_no_slot_taken():
    make_group(id="g", tasks=[wire(id="t"), wire(id="u")])
    claim_all()
    control.reset_group("g")

    cut_calls.end_unknown("s1", known={("u", 1)})

    assert rows() == [("u", 1, "s1")]


CUT = Answer(None, error=CANCELLED, may_run=True)
TIMEOUT = Answer(None, error="no complete answer within 1 s", may_run=True)
REFUSED = Answer(None, error="no connection")
ANSWERED = Answer(500, b"no")


@pytest.mark.parametrize("kept", [0, 60])
@pytest.mark.parametrize("came", [CUT, TIMEOUT, REFUSED, ANSWERED])
def test_the_setting_keeps_slot_and_key_after_a_connection_that_is_gone(settings, came, kept):
    settings.CREW_SLOT_KEPT_SECONDS = kept
    make_group(id="g", tasks=[wire(id=f"t{n}", key="k", error_delay_in_seconds=0) for n in (1, 2)])
    limited(1)
    lease = claim_one()
    outcome = decide(came, workgroup="", now=None)

    settle([Settlement(lease, outcome, came.status, came.transcript, came.may_run)])
    make_due()
    is_taken = bool(kept) and came.may_run
    meanwhile = claim_ids("s2")
    CutCall.objects.update(until=Now())

    assert len(meanwhile) == (0 if is_taken else 1)
    assert bool(meanwhile or claim_ids("s2"))


@pytest.mark.parametrize("kept", [0, 60])
def test_the_setting_keeps_what_was_given_up_after_its_end(settings, kept):
    settings.CREW_SLOT_KEPT_SECONDS = kept
    make_group(id="g", tasks=[wire(id="t")])
    lease = claim_one()
    control.reset_group("g")

    settle([Settlement(lease, Interrupted(), None, may_run=True)])

    assert claim_ids("s2") == ([] if kept else ["t"])
    if kept:
        assert 55 < from_now(CutCall.objects.get().until) <= 60


@pytest.mark.parametrize("kept", [0, 60])
def test_the_setting_keeps_what_a_dead_scheduler_had_running(settings, kept):
    settings.CREW_SLOT_KEPT_SECONDS = kept
    make_group(id="g", tasks=[wire(id="t"), wire(id="u")])
    make_task(make_group(id="h"), id="v")
    claim_all()
    control.reset_group("g")
    SchedulerProcess.objects.update(beat_at="2000-01-01T00:00:00Z")

    rescue.sweep_once()
    rescue.sweep_once()

    assert len(claim_ids("s2")) == (0 if kept else 3)
    assert CutCall.objects.filter(until=None).count() == 0
    CutCall.objects.update(until=Now())
    rescue.sweep_once()
    assert rows() == []


# --- Who is told ---


def test_explain_names_what_keeps_the_slot():
    make_group(id="g", tasks=[wire(id="t"), wire(id="twin", key="k"), wire(id="leader", key="k")])
    claim_all()
    control.reset_group("g")
    make_scheduler("s2")
    task = make_task(TaskGroup(pk="g"), id="late", key="k")
    limited(2)

    result = {id_: {gate.code: gate for gate in explain(id_).gates} for id_ in ("t", "late")}

    assert "still taken by a call that is being ended" in result["t"]["ending"].text
    assert set(result["t"]) == {"ending", "worker_full"}
    assert "of its key is still being ended" in result[task.pk]["ending"].text
    assert result["t"]["worker_full"].count == 2


# --- Processes ---


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_a_verb_of_another_process_cuts_the_call_and_no_other(deliverer):
    make_group(id="h", tasks=[wire(id="stays")])
    work = Watched()

    with StubWorker(work) as worker, scheduler(worker.url, CREW_DELIVERER=deliverer):
        for n, verb in enumerate(VERBS.values(), 1):
            make_group(id="g", tasks=[wire(id="t")])
            wait_until(lambda: work.now == 2)
            # What runs again runs later: the next verb is for a call of its own.
            Worker.objects.update(max_concurrency=1)
            verb()
            wait_until(lambda n=n: work.cut == ["t"] * n)
            wait_until(lambda: not CutCall.objects.exists())
            TaskGroup.objects.filter(pk="g").exists() and control.delete_group("g")
            Worker.objects.update(max_concurrency=None)
        work.released.set()
        wait_until(lambda: Task.objects.get().is_complete)

    assert work.most == 2
    assert Attempt.objects.filter(task_id="stays").count() == 1
    assert not Limit.objects.exists()


def test_a_reset_group_runs_again_and_never_beside_itself():
    make_group(id="g", tasks=[wire(id="t"), wire(id="u"), wire(id="v", key="k")])
    limited(1)
    work = Watched()

    with StubWorker(work) as worker, scheduler(worker.url):
        for n in range(1, 5):
            wait_until(lambda n=n: len(worker.requests) == n and work.now == 1)
            control.reset_group("g")
        work.released.set()
        wait_until(lambda: not Task.objects.incomplete().exists())

    assert work.most == 1
    call_command("crewcheck")


def test_random_verbs_and_kills_never_pass_the_limit():
    """Counted at the worker, from the request to the answer or the end of the connection."""
    dice = random.Random(8)
    limited(8)
    work = Watched(lambda: dice.uniform(0.0, 0.5))
    several = 2 if connection.vendor == "postgresql" else 1

    with StubWorker(work) as worker, ExitStack() as stack:
        fleet = [stack.enter_context(scheduler(worker.url)) for _ in range(several)]
        for n in range(60):
            _do_anything(dice, f"g{n % 4}")
            if n in (20, 40):
                fleet.pop(0).kill()
                fleet.append(stack.enter_context(scheduler(worker.url)))
            called = len(worker.requests)
            ready = Task.objects.filter(READY, run_after__lte=Now())
            wait_until(lambda c=called, r=ready: len(worker.requests) > c or not r.exists())

    assert len(worker.requests) >= 40
    assert work.cut
    assert 4 < work.most <= 8


def _do_anything(dice, group):
    TaskGroup.objects.filter(pk=group).exists() or make_group(id=group)
    made = [
        make_task(TaskGroup(pk=group), remaining_attempts=9, error_delay_in_seconds=0).pk
        for _ in range(6)
    ]
    verb = dice.choice([control.reset_group, control.cancel_group, control.delete_group, None])
    if verb is not None:
        verb(group)
    else:
        running = Task.objects.filter(group=group, leased_by__isnull=False)
        control.delete_tasks(group, list(running.values_list("id", flat=True)[:3]) or made[:1])


# --- What it costs ---


def test_a_sweep_writes_nothing_while_there_is_nothing(django_assert_num_queries):
    with django_assert_num_queries(1):
        cut_calls.sweep()

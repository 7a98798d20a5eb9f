"""What the calls of a claim may hold in memory, and that all of them are made all the same."""

import json
import threading

import pytest
from django.db import OperationalError

from tasks.engine.ledger import FEW
from tasks.engine.scheduler import Scheduler
from tasks.engine.settle import settle_each
from tasks.engine.settlement import Returned, Settlement
from tasks.insight import preview
from tasks.models import Task
from tasks.sql import run
from tasks.store import payloads

from .factories import claim, complete, make_due, make_group, wire
from .stub_worker import StubWorker

pytestmark = pytest.mark.django_db
KB = 1_000


def layers(parents, children, size, *, text="x", **fields):
    """A group in which each of the children waits for all of the parents, which are complete."""
    ids = [f"p{n}" for n in range(parents)]
    done = [wire(id=id_, is_complete=True, output=text * size) for id_ in ids]
    names = [f"c{n}" for n in range(children)]
    make_group(tasks=[*done, *(wire(id=id_, parent_ids=ids, **fields) for id_ in names)])
    make_due()


def brought(lease):
    return sum(len(parent.output_json or "") for parent in lease.parents)


def test_a_parents_text_is_there_once_however_many_children_name_it():
    layers(3, 50, 20 * KB)

    leases = claim().leases

    assert len(leases) == 50
    assert len({id(parent) for lease in leases for parent in lease.parents}) == 3
    assert {tuple(p.task_id for p in lease.parents) for lease in leases} == {("p0", "p1", "p2")}


@pytest.mark.parametrize("text", ["x", "é", "\N{GRINNING FACE}"])
def test_a_claim_takes_what_has_room_and_the_rest_goes_back(settings, text):
    settings.CREW_CALLS_BYTES = 500 * KB
    layers(5, 30, 10 * KB, text=text)

    claimed = claim()

    assert 0 < len(claimed.leases) < 30
    assert len(claimed.leases) + len(claimed.unfit) == 30
    assert sum(map(brought, claimed.leases)) < 500 * KB
    assert all(lease.parents == () and not lease.too_large for lease in claimed.unfit)


@pytest.mark.parametrize("size", [10 * KB, 300 * KB])
def test_one_call_has_room_however_little_there_is(settings, size):
    settings.CREW_CALLS_BYTES = 50 * KB
    layers(2, 4, size)

    turns = 0
    while Task.objects.filter(is_complete=False).exists():
        claimed = claim()
        settle_each([Settlement(lease, Returned()) for lease in claimed.unfit])
        for lease in claimed.leases:
            complete(lease)
        turns += 1

    assert turns <= 4


def test_what_is_small_has_room_when_there_is_none():
    layers(1, 3, 100 * KB)
    make_group(tasks=[wire(id="small", input=1)])
    make_due()

    claimed = claim(room=0)

    assert [lease.task_id for lease in claimed.leases] == ["small"]
    assert {lease.task_id for lease in claimed.unfit} == {"c0", "c1", "c2"}


def test_large_inputs_count_too(settings):
    settings.CREW_CALLS_BYTES = 1_010 * KB
    make_group(tasks=[wire(id=f"t{n}", input="y" * 100 * KB) for n in range(20)])

    claimed = claim()

    assert len(claimed.leases) == 5
    assert {len(lease.input_json) for lease in claimed.leases} == {100 * KB + 2}
    assert len(claimed.unfit) == 15


def test_calls_that_are_too_large_are_refused_and_nothing_of_them_is_kept(settings):
    settings.CREW_MAX_PAYLOAD_BYTES = 50 * KB
    layers(3, 10, 20 * KB)

    leases = claim().leases

    assert len(leases) == 10
    assert all("CREW_MAX_PAYLOAD_BYTES (50000)" in lease.too_large for lease in leases)
    assert all(lease.parents == () for lease in leases)


def test_what_was_read_of_a_call_that_is_too_large_is_dropped(settings, monkeypatch):
    settings.CREW_MAX_PAYLOAD_BYTES = 50 * KB
    monkeypatch.setattr(payloads, "SLICE", 10 * KB)
    layers(3, 1, 20 * KB)
    loader = payloads.Loader(run(*payloads.asking(["c0"])), ["c0"], room=payloads.budget())

    brought = loader.fit("c0", None, is_heavy=False, is_child=True)

    assert brought.too_large
    assert loader._parents == {}
    assert loader._in_use == 0


def test_parents_are_read_some_at_a_time_in_their_order(monkeypatch):
    monkeypatch.setattr(payloads, "SLICE", 30 * KB)
    layers(9, 2, 10 * KB)
    make_group(tasks=[wire(id="own", is_complete=True, output=1), wire(id="z", parent_ids=["own"])])
    make_due()

    leases = {lease.task_id: lease for lease in claim().leases}

    assert [p.task_id for p in leases["c1"].parents] == [f"p{n}" for n in range(9)]
    assert {len(p.output_json) for p in leases["c1"].parents} == {10 * KB + 2}
    assert [p.output_json for p in leases["z"].parents] == ["1"]


def test_a_claim_looks_at_so_many_edges_and_no_more(settings, monkeypatch):
    monkeypatch.setattr(payloads, "EDGES", 8)
    settings.CREW_MAX_PARENTS = 5
    layers(5, 10, 1)

    claimed = claim()

    assert [len(lease.parents) for lease in claimed.leases] == [5, 5, 5]
    assert len(claimed.unfit) == 7


def test_the_preview_of_a_call_obeys_the_same_limit(settings):
    settings.CREW_WORKER_BASE_URL = "http://127.0.0.1:9/"
    layers(3, 1, 20 * KB)
    shown = preview.call_of("c0")
    settings.CREW_MAX_PAYLOAD_BYTES = 50 * KB

    refused = preview.call_of("c0")

    assert len(json.loads(shown.body)["parents"]) == 3
    assert "CREW_MAX_PAYLOAD_BYTES" in refused.refused
    assert refused.size < 1 * KB


# --- The whole loop ---


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_more_than_there_is_room_for_runs_to_its_end(settings, deliverer):
    settings.CREW_DELIVERER = deliverer
    settings.CREW_CALLS_BYTES = 1_000 * KB
    layers(4, 40, 100 * KB)
    held = []
    with StubWorker() as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        scheduler = Scheduler(slots=20, once=True)
        begin = scheduler._deliverer.send

        def send(deliveries):
            held.append(scheduler._ledger.room())
            begin(deliveries)

        scheduler._deliverer.send = send
        scheduler.run()

    assert Task.objects.filter(is_complete=True).count() == 44
    assert Task.objects.filter(id__startswith="c", remaining_attempts=4).count() == 40
    assert min(held) >= 0
    assert scheduler._ledger._in_use() == 0
    assert {len(json.loads(r.body)["parents"]) for r in worker.requests} == {4}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_a_body_counts_until_it_is_sent_not_until_it_is_answered(settings, deliverer):
    settings.CREW_DELIVERER = deliverer
    settings.CREW_CALLS_BYTES = 1_000 * KB
    layers(4, 12, 100 * KB)
    together, all_are_there, too_late = [], threading.Event(), threading.Event()

    def behave(exchange):
        # None is answered before all of them are there.
        together.append(exchange)
        if len(together) == 12:
            all_are_there.set()
        if not too_late.is_set() and not all_are_there.wait(20):
            too_late.set()  # the others need not wait as long
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with StubWorker(behave) as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        settings.CREW_DELIVERY_TIMEOUT_SECONDS = 60
        Scheduler(slots=60, once=True).run()

    assert all_are_there.is_set()
    assert Task.objects.filter(is_complete=True).count() == 16


def test_a_turn_that_failed_claims_half_as_many_the_next_time(monkeypatch):
    scheduler = Scheduler(slots=40)
    monkeypatch.setattr(scheduler, "tick", lambda: raise_(OperationalError("timeout")))

    scheduler._safe_tick()
    scheduler._safe_tick()
    after_two = scheduler._appetite.most
    for _ in range(10):
        scheduler._safe_tick()
    at_last = scheduler._appetite.most
    scheduler._appetite.went(sent=1, unfit=0)

    assert (after_two, at_last, scheduler._appetite.most) == (10, 1, 2)


def test_a_claim_that_had_no_room_for_all_takes_little_more_than_had(settings):
    settings.CREW_CALLS_BYTES = 500 * KB
    layers(5, 30, 10 * KB)
    claimed = claim()
    scheduler = Scheduler(slots=40)

    scheduler._return(claimed.unfit, sent=len(claimed.leases))

    assert scheduler._appetite.most == max(FEW, len(claimed.leases) + 1)
    assert len(scheduler._unsettled) == len(claimed.unfit)


def raise_(error):
    raise error

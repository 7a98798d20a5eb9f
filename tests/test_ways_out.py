"""Loops beside the turns: what is too much for the database is not repeated as it is forever."""

import asyncio
import copy
import json
import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connections
from django.db.models.functions import Now

from tasks import control, create
from tasks.engine import heartbeat, rescue
from tasks.live import hub as stream
from tasks.live import messages as tell
from tasks.live.change_reader import Tail
from tasks.live.hub import Hub
from tasks.live.socket_queue import Watcher
from tasks.models import AuditEntry, Change, RepeatableCall, Task, TaskGroup, Token
from tasks.store import changes as publish
from tasks.store import edges
from tasks.upkeep import chores, expired_rows, finished_groups

from .factories import make_group
from .processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def too_much():
    """What PostgreSQL says of a statement that takes too long."""
    error = OperationalError("canceling statement due to statement timeout")
    error.__cause__ = Exception()
    error.__cause__.sqlstate = "57014"
    return error


def refuses(*_, **__):
    raise too_much()


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(stream, "AGAIN", 0.0)
    monkeypatch.setattr(stream, "LINGER", 0.0)
    hub = Hub()
    yield hub
    hub.close()
    publish.on_committed = None


async def in_a_thread(work, *given):
    def run():
        try:
            return work(*given)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


def told(hub, happen=lambda: None, *, since=None):
    """The first messages of who watches the group g while this happens."""

    async def watch():
        watcher = Watcher("g")
        await in_a_thread(hub.join, watcher, since)
        messages = watcher.messages()
        await in_a_thread(happen)
        async with asyncio.timeout(20):
            texts = [await anext(messages)]
            await in_a_thread(control.pause_group, "g")
            texts.append(await anext(messages))
        hub.leave(watcher)
        return [json.loads(text)["type"] for text in texts]

    return asyncio.run(watch())


def is_big(changes):
    return any("big" in each.created for each in changes)


@pytest.mark.parametrize("where", ["read", "told"])
def test_news_that_are_too_much_are_gone_past_with_a_reload(hub, monkeypatch, caplog, where):
    make_group(id="g")
    read, messages = Tail.read, tell.messages

    def read_little(tail, groups):
        before = copy.deepcopy(vars(tail))
        changes = read(tail, groups)
        if is_big(changes):
            vars(tail).update(before)  # a look that fails leaves the place as it was
            refuses()
        return changes

    def tell_little(news, *given, **named):
        return refuses() if is_big(news) else messages(news, *given, **named)

    if where == "read":
        monkeypatch.setattr(Tail, "read", read_little)
    else:
        monkeypatch.setattr(tell, "messages", tell_little)

    types = told(hub, lambda: create.create_tasks("g", [{"id": "big", "worker": "w"}]))

    assert types == ["reload", "update"]
    assert "loads its group again" in caplog.text


def test_who_missed_too_much_to_be_looked_up_loads_again(hub, monkeypatch):
    make_group(id="g")
    publish.group_changed("g", "update")
    since = Change.objects.order_by("id").first().pk
    monkeypatch.setattr(Tail, "missed", refuses)

    assert told(hub, since=since)[0] == "reload"


def test_what_is_cleared_away_goes_in_smaller_slices_at_last_one_by_one():
    left = list(range(25))
    asked = []

    def delete(most):
        asked.append(most)
        if most > 10:
            raise too_much()
        gone = left[:most]
        del left[:most]
        return len(gone)

    assert sum(expired_rows.in_slices("calls", delete)) == 25
    assert asked == [10_000, 1_000, 100, 10, 10, 10]


def test_what_is_too_much_even_alone_is_an_error():
    with pytest.raises(OperationalError):
        list(expired_rows.in_slices("calls", refuses))


def calls():
    return [RepeatableCall.objects.create(key=str(n)) for n in range(5)]


def changes():
    return [Change.objects.create(group_id="g", deleted=[]) for _ in range(6)]


def tickets():
    made = [Token(kind="ticket", digest=str(n)) for n in range(3)]
    return Token.objects.bulk_create([*made, *(Token(kind="login", digest=f"l{n}") for n in "ab")])


def entries():
    return AuditEntry.objects.bulk_create(AuditEntry(who="w", verb="v") for _ in range(5))


ROWS = {"changes": changes, "calls": calls, "tokens": tickets, "audit": entries}


@pytest.mark.parametrize("name", ROWS)
def test_all_that_is_over_goes_slice_by_slice(name, monkeypatch):
    monkeypatch.setattr(expired_rows, "SLICE", 2)
    model = type(ROWS[name]()[0])
    when = "expires_at" if name == "tokens" else "at"
    model.objects.update(**{when: Now() - timedelta(days=900)})

    assert sum(expired_rows.PARTS[name]()) == 5
    assert model.objects.count() == (name == "changes")


def test_where_one_kind_cannot_be_cleared_away_the_others_are(monkeypatch):
    entries()
    AuditEntry.objects.update(at=Now() - timedelta(days=900))
    monkeypatch.setattr(heartbeat, "FIRST_CHORES", 0.0)
    monkeypatch.setattr(chores, "EVERY", 0.0)
    monkeypatch.setattr(publish, "prune", refuses)
    beating = heartbeat.Heart("s", slots=1, wake=threading.Event())
    thread = threading.Thread(target=beating._chores_loop)
    thread.start()
    try:
        wait_until(lambda: not AuditEntry.objects.exists())
    finally:
        beating._stop.set()
        thread.join(20)


def test_an_old_group_that_is_too_much_at_once_goes_in_smaller_parts(monkeypatch):
    group = make_group()
    create.create_tasks(group.pk, [{"isComplete": True} for _ in range(90)])
    TaskGroup.objects.update(created_at=Now() - timedelta(days=31))
    Task.objects.update(completed_at=Now() - timedelta(days=31))
    remove = edges.remove

    def remove_few(group_id, ids, **named):
        return remove(group_id, ids, **named) if len(ids) <= 40 else refuses()

    monkeypatch.setattr(edges, "remove", remove_few)
    monkeypatch.setattr(finished_groups, "TASKS_PER_TRANSACTION", 50)
    monkeypatch.setattr(finished_groups, "PARTED", 2)

    assert finished_groups.prune_groups(30, seconds=60) == (1, 90)


def test_old_groups_that_cannot_even_be_found_are_an_error(monkeypatch):
    monkeypatch.setattr(finished_groups, "run_steered", refuses)

    with pytest.raises(OperationalError):
        finished_groups.prune_groups(30, seconds=60)


def test_tables_are_looked_at_though_a_sweep_fails(monkeypatch):
    looked = threading.Event()
    monkeypatch.setattr(rescue, "sweep_once", refuses)
    monkeypatch.setattr(heartbeat.table_version, "newer", lambda: looked.set() or [])
    beating = heartbeat.Heart("s", slots=1, wake=threading.Event())
    thread = threading.Thread(target=beating._sweep_loop)
    thread.start()
    try:
        assert looked.wait(20)
    finally:
        beating._stop.set()
        thread.join(20)

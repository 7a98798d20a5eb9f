"""The live stream against a real web process: nothing lost, nobody hindered, nothing left.

B11 to B15 are mistakes of the old Crew that this must not make (contract, part 4).
"""

import json
import threading

import pytest
from django.db import connection

from tasks import control, create, wire
from tasks.models import Task

from .factories import claim_all, complete, in_threads, make_group, make_task
from .web import Clients, Raw, Web, path_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def served(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        web = Web()
    yield web
    assert web.stop() == 0


@pytest.fixture
def clients(served):
    clients = Clients()
    yield clients
    clients.close()
    served.wait(served.nobody_watches)
    assert not served.line("Traceback"), "".join(served.lines)


def many(group, count, **fields):
    return create.create_tasks(
        group.pk, [{"id": f"{group.pk}-{i}", "worker": "worker-a"} | fields for i in range(count)]
    )


def wait_for(client, kind, ids, seconds=20.0):
    wanted = {(kind, id_) for id_ in ids}
    client.wait(lambda client: wanted <= set(client.told()), seconds)


def test_b11_clients_come_and_go_while_events_flow(served, clients):
    group = make_group()
    ids = many(group, 20)
    steady = clients.open(served, group.pk)
    over = threading.Event()

    def come_and_go(number):
        visits = 0
        while not over.is_set() or not visits:
            client = clients.open(served, group.pk)
            if visits % 2:
                client.drop()
            else:
                client.close()
            visits += 1
        return visits

    def edit(number):
        for round_ in range(40):
            control.edit_task(group.pk, ids[number * 5], {"name": f"{round_}"})
        return 0

    def work(item):
        what, number = item
        try:
            return what(number)
        finally:
            connection.close()

    visitors = threading.Thread(target=lambda: visits.extend(in_threads(come_and_go, range(8))))
    visits: list[int] = []
    visitors.start()
    in_threads(edit, range(4))
    over.set()
    visitors.join(60)

    assert len(visits) == 8
    assert min(visits) >= 1
    steady.wait(
        lambda client: (
            [client.last().get(ids[n * 5], {}).get("name") for n in range(4)] == ["39"] * 4
        )
    )
    assert served.process.poll() is None


def test_b12_a_pause_of_500_tasks_tells_all_500(served, clients):
    group = make_group()
    ids = many(group, 500)
    client = clients.open(served, group.pk)

    control.pause_group(group.pk)

    wait_for(client, "update", [*ids, group.pk])
    assert all(client.last()[id_]["isPaused"] for id_ in ids)
    assert len(client.messages) == 501


def test_b13_a_client_that_never_reads_hinders_nobody_and_is_dropped(served, clients):
    group = make_group()
    ids = many(group, 50, input="x" * 20_000)
    readers = [clients.open(served, group.pk) for _ in range(5)]
    with Raw(served, buffer=4096) as deaf:
        deaf.open(path_of(group.pk))
        before = served.memory()
        for round_ in range(30):
            (control.pause_group if round_ % 2 == 0 else control.resume_group)(group.pk)
            for reader in readers:
                reader.wait(lambda client, n=round_: len(client.messages) == (n + 1) * 51)

        served.wait(lambda: served.line("does not keep up"))
        served.wait(lambda: served.line("closed, 5 open"))
        assert served.memory() - before < 64 * 1024 * 1024
    assert all(client.last().keys() == set(ids) for client in readers)


def test_b14_an_abrupt_disconnect_leaves_no_watcher(served, clients):
    group = make_group()
    watching = [clients.open(served, group.pk) for _ in range(3)]

    for client in watching:
        client.drop()

    served.wait(served.nobody_watches)
    make_task(group)
    assert served.process.poll() is None


def test_b15_what_was_told_last_is_what_is_stored(served, clients):
    group = make_group()
    ids = many(group, 60)
    client = clients.open(served, group.pk)

    def edit(number):
        for round_ in range(10):
            for id_ in ids[number::3]:
                try:
                    control.edit_task(group.pk, id_, {"name": f"{number}-{round_}"})
                except Exception as error:  # noqa: BLE001  executing, or a busy database
                    assert "executing" in str(error) or "lock" in str(error)

    def work(number):
        for _ in range(20):
            for lease in claim_all(f"s{number}", 7):
                complete(lease, {"by": number})

    def both(item):
        what, number = item
        what(number)

    in_threads(both, [(edit, 0), (edit, 1), (edit, 2), (work, 1), (work, 2)])

    rows = {task["id"]: task for task in wire.tasks(list(Task.objects.filter(group=group)))}
    client.wait(lambda client: client.last() == json.loads(json.dumps(rows)))

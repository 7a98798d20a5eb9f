"""The live stream as it runs: a web process, a scheduler process, a worker, a browser."""

import json

import pytest
from django.db import connection

from tasks import create
from tasks.models import Task
from tasks.store import wire

from .factories import make_group
from .processes import scheduler, sink
from .web import Clients, web

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = 12


@pytest.fixture
def clients():
    clients = Clients()
    yield clients
    clients.close()


def run_and_watch(tmp_path, clients, **env):
    """Every task is seen as made, busy and complete, also by who comes back in the middle."""
    group = make_group()
    with (
        sink(tmp_path) as worker,
        web(**env) as served,
        scheduler(worker.url, "--slots", "4", **env),
    ):
        steady = clients.open(served, group.pk)
        leaving = clients.open(served, group.pk, since="")
        ids = create.create_tasks(
            group.pk,
            [{"id": f"t{i}", "worker": "sleep", "input": {"seconds": 0.4}} for i in range(COUNT)],
        )
        leaving.wait(lambda client: finished(client) >= 4)
        since = leaving.change
        leaving.drop()
        steady.wait(lambda client: finished(client) >= 8)
        back = clients.open(served, group.pk, since=since)
        steady.wait(lambda client: finished(client) == COUNT, 30)
        last = {task["id"]: task["isComplete"] for task in leaving.last().values()}
        missed = {id_ for id_ in ids if not last.get(id_)}
        back.wait(lambda client: missed <= {t["id"] for t in complete(client)}, 30)

        for id_ in ids:
            states = seen(steady, id_)
            assert states[0] == ("create", False, False)
            assert ("update", True, False) in states
            assert states[-1] == ("update", False, True)
        # Together, the two sockets of who went away say the same in the end.
        leaving.messages += back.messages
        rows = {task["id"]: task for task in wire.tasks(list(Task.objects.all()))}
        assert leaving.last() == steady.last() == json.loads(json.dumps(rows))
        assert {id_ for kind, id_ in leaving.told() if kind == "create"} == set(ids)
        for id_ in ids:
            assert seen(leaving, id_)[0][0] == "create"
        assert served.errors() == ""


def seen(client, id_):
    return [
        (each["type"], each["task"]["busyExecuting"], each["task"]["isComplete"])
        for each in client.messages
        if each.get("task", {}).get("id") == id_
    ]


def complete(client):
    return [task for task in client.last().values() if task["isComplete"]]


def finished(client) -> int:
    return len(complete(client))


def test_two_processes_and_nothing_else(tmp_path, clients):
    """On SQLite, and on PostgreSQL, without Redis."""
    run_and_watch(tmp_path, clients, REDIS_URL="")


def test_with_redis(tmp_path, clients, redis_url):
    run_and_watch(tmp_path, clients, REDIS_URL=redis_url)


def test_redis_may_be_away(tmp_path, clients):
    """It is never needed for news."""
    run_and_watch(tmp_path, clients, REDIS_URL="redis://127.0.0.1:1/0")


@pytest.mark.postgres
def test_without_notify(tmp_path, clients):
    """Behind a pooler that cannot LISTEN."""
    run_and_watch(tmp_path, clients, CREW_NOTIFY="0")


@pytest.mark.postgres
@pytest.mark.own_session
def test_news_come_again_when_the_database_was_away(clients):
    group = make_group()
    with web() as served:
        client = clients.open(served, group.pk)
        create.create_tasks(group.pk, [{"id": "before", "worker": "w"}])
        client.wait(lambda client: ("create", "before") in client.told())
        end_other_connections()
        create.create_tasks(group.pk, [{"id": "meanwhile", "worker": "w"}])

        client.wait(lambda client: ("create", "meanwhile") in client.told())
        assert served.line("No live news for now")


def end_other_connections():
    """As a restart of the server does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


def test_who_comes_back_to_another_web_process_misses_nothing(clients):
    group = make_group()
    with web() as first, web() as second:
        client = clients.open(first, group.pk, since="")
        create.create_tasks(group.pk, [{"id": "a", "worker": "w"}])
        client.wait(lambda client: ("create", "a") in client.told())
        since = client.change
        client.drop()
        create.create_tasks(group.pk, [{"id": "b", "worker": "w"}])

        back = clients.open(second, group.pk, since=since)
        create.create_tasks(group.pk, [{"id": "c", "worker": "w"}])

        back.wait(lambda client: ("create", "c") in client.told())
        assert ("create", "b") in back.told()
        assert not [each for each in back.messages if each["type"] == "reload"]

"""The live stream against a real web process: nothing lost, nobody hindered, nothing left.

B11 to B15 are mistakes of the old Crew that this must not make (contract, part 4).
"""

import json
import os
import re
import signal
import threading
import time

import psycopg
import pytest
from django.db import connection

from tasks import control, create
from tasks.edit import edit_task
from tasks.models import Change, Task
from tasks.store import wire

from .factories import claim_all, complete, in_threads, make_group, make_task
from .processes import database_url
from .web import TOKEN, Clients, Raw, Web, path_of

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
    assert served.errors() == ""


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
            edit_task(group.pk, ids[number * 5], {"name": f"{round_}"})
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
                    edit_task(group.pk, id_, {"name": f"{number}-{round_}"})
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


# --- The contract of the socket ----------------------------------------------------------------


def test_a_create_is_on_its_way_before_the_answer_to_the_post(served, clients):
    group = make_group()
    with Raw(served) as stream, Raw(served) as http:
        stream.open(path_of(group.pk))
        for number in range(20):
            post(http, group.pk, f"t{number}")
            stream.socket.setblocking(False)  # no waiting: it is there
            opcode, payload = stream.read_frame()
            stream.socket.settimeout(20)

            assert (opcode, json.loads(payload)["type"]) == (1, "create")
            assert json.loads(payload)["task"]["id"] == f"t{number}"


@pytest.mark.postgres
def test_so_it_is_while_another_transaction_stays_open(served, clients):
    group = make_group()
    with psycopg.connect(database_url()) as old, Raw(served) as stream, Raw(served) as http:
        old.execute("SELECT pg_current_xact_id()")
        stream.open(path_of(group.pk))
        for number in range(5):
            post(http, group.pk, f"t{number}")
            stream.socket.setblocking(False)
            _, payload = stream.read_frame()
            stream.socket.settimeout(20)

            assert json.loads(payload)["task"]["id"] == f"t{number}"
        old.rollback()
        control.pause_group(group.pk)
        ids = {json.loads(stream.read_frame()[1]).get("task", {}).get("id") for _ in range(6)}

    assert ids == {None, "t0", "t1", "t2", "t3", "t4"}  # and no create twice


def post(http, group_id, id_):
    body = json.dumps({"id": id_, "worker": "worker-a"})
    http.send(
        f"POST /api/v1/task_group/{group_id}/tasks HTTP/1.1\r\nHost: {http.host}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    head = http.read_head()
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    http.read(length)


def test_a_deleted_group_is_told_once_and_its_sockets_stay_open(served, clients):
    group = make_group(name="gone")
    many(group, 3)
    client = clients.open(served, group.pk)

    control.delete_group(group.pk)

    client.wait(lambda client: client.messages)
    assert client.told() == [("delete", group.pk)]
    assert client.messages[0]["taskGroup"]["name"] == "gone"
    make_group(id=group.pk)
    client.wait(lambda client: client.told()[-1] == ("update", group.pk))
    assert client.code is None


def test_who_comes_back_misses_nothing_and_is_told_nothing_twice(served, clients):
    group = make_group()
    first = clients.open(served, group.pk, since="")
    first.wait(lambda client: client.messages)
    assert first.messages[0]["type"] == "ready"
    make_task(group, id="t1")
    wait_for(first, "create", ["t1"])
    make_task(group, id="t2")
    wait_for(first, "create", ["t2"])
    first.drop()
    served.wait(served.nobody_watches)
    make_task(group, id="t3")
    edit_task(group.pk, "t1", {"name": "x"})
    control.delete_tasks(group.pk, ["t2"])

    back = clients.open(served, group.pk, since=first.change)
    make_task(group, id="t4")

    wait_for(back, "create", ["t4"])
    told = [each for each in back.told() if each != ("ready", "")]
    # A delete is told before what is new; nothing that the client knows is left out.
    assert told[:1] == [("delete", "t2")]
    assert told[-3:] == [("create", "t3"), ("update", "t1"), ("create", "t4")]


def test_who_is_cut_after_each_message_knows_all_in_the_end(served, clients):
    """Also what it missed comes as a batch that can be cut."""
    group = make_group()
    known, since = set(), place(served, group)
    tasks = [{"id": f"t{number}", "worker": "w"} for number in range(20)]
    with Raw(served) as stream:
        stream.open(path_of(group.pk, since=since))
        stream.read_frame()
        served.call("POST", f"/api/v1/task_group/{group.pk}/tasks/bulk", tasks)
        since = hear(stream, known)
    cut = 0
    while len(known) < 20:
        with Raw(served) as stream:
            stream.open(path_of(group.pk, since=since))
            for _ in range(cut := cut + 1):  # one more each time: else it never comes to an end
                since = hear(stream, known)

    assert known == {task["id"] for task in tasks}


@pytest.mark.parametrize("query", ["Since=1", "sinc=1", "SINCE="])
def test_a_place_under_another_name_is_refused(served, query):
    with Raw(served) as stream:
        stream.upgrade(f"{path_of(make_group().pk)}?{query}")
        assert stream.read_head().startswith(b"HTTP/1.1 400")


def place(served, group):
    """Where a watcher of the group stands now."""
    with Raw(served) as stream:
        stream.open(path_of(group.pk, since=""))
        return json.loads(stream.read_frame()[1])["change"]


def hear(stream, known):
    message = json.loads(stream.read_frame()[1])
    if "task" in message:
        known.add(message["task"]["id"])
    return message["change"]


def test_who_comes_back_too_late_is_told_to_reload(served, clients):
    group = make_group()
    make_task(group)
    Change.objects.all().delete()
    control.rename_group(group.pk, name="later")

    client = clients.open(served, group.pk, since=1)

    client.wait(lambda client: len(client.messages) == 2)
    assert [each["type"] for each in client.messages] == ["reload", "ready"]


FORGETFUL = """
import sys
import django
from django.core.management import execute_from_command_line
django.setup()
from tasks.live import hub
hub.FORGOTTEN = 0.0
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""


def test_a_server_that_stood_still_for_long_has_its_watchers_reload(clients):
    group = make_group()
    web = Web(code=FORGETFUL)
    try:
        client = clients.open(web, group.pk)
        make_task(group, id="heard")
        wait_for(client, "create", ["heard"])

        os.kill(web.process.pid, signal.SIGSTOP)
        for number in range(3):
            make_task(group, id=f"t{number}")
        Change.objects.exclude(pk=Change.objects.latest("id").pk).delete()  # minutes went by
        os.kill(web.process.pid, signal.SIGCONT)

        client.wait(lambda client: client.messages[-1]["type"] == "reload")
        make_task(group, id="after")
        wait_for(client, "create", ["after"])
        assert client.told().count(("reload", "")) == 1
    finally:
        web.stop()


def test_two_groups_do_not_hear_of_one_another(served, clients):
    one, other = make_group(), make_group()
    here, there = clients.open(served, one.pk), clients.open(served, other.pk)

    make_task(one, id="mine")
    make_task(other, id="theirs")

    wait_for(here, "create", ["mine"])
    wait_for(there, "create", ["theirs"])
    assert (len(here.messages), len(there.messages)) == (1, 1)


@pytest.mark.notify
def test_news_come_soon(served, clients):
    """From another process: 20 ms on SQLite, a NOTIFY on PostgreSQL."""
    group = make_group()
    client = clients.open(served, group.pk)
    latencies = []
    for number in range(30):
        started = time.monotonic()
        make_task(group, id=f"t{number}")
        committed = time.monotonic()
        wait_for(client, "create", [f"t{number}"])
        latencies.append(client.times[-1] - committed)
        assert client.times[-1] > started

    latencies.sort()
    print(f"latency p50 {latencies[15] * 1000:.1f} ms, most {latencies[-1] * 1000:.1f} ms")
    assert latencies[15] < 0.25


def test_who_does_not_keep_up_is_told_so_at_last(served, clients):
    group = make_group()
    many(group, 50, input="x" * 20_000)
    reader = clients.open(served, group.pk)
    with Raw(served, buffer=4096) as slow:
        slow.open(path_of(group.pk))
        told = "does not keep up"
        before = sum(told in line for line in served.lines)
        for round_ in range(30):
            (control.pause_group if round_ % 2 == 0 else control.resume_group)(group.pk)
            reader.wait(lambda client, n=round_: len(client.messages) == (n + 1) * 51)
            if sum(told in line for line in served.lines) > before:
                break

        last, (opcode, payload) = b"", slow.read_frame()
        while opcode == 1:
            last = payload
            opcode, payload = slow.read_frame()

    assert json.loads(last) == {"type": "resync"}
    assert (opcode, int.from_bytes(payload[:2])) == (8, 4429)


def test_very_many_are_told_after_the_answer_and_all_the_same(served, clients):
    group = make_group()
    client = clients.open(served, group.pk)

    tasks = [{"id": f"t{number}", "worker": "w"} for number in range(3_000)]
    served.call("POST", f"/api/v1/task_group/{group.pk}/tasks/bulk", tasks)

    client.wait(lambda client: len(client.messages) == 3_000)
    assert client.told() == [("create", f"t{number}") for number in range(3_000)]

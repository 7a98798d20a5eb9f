"""The count of a list and its rows are of one moment, whatever is committed between two looks."""

import threading

import pytest
from django.db import connection
from django.db.models.functions import Now

from tasks import audit, create
from tasks.models import Attempt, Worker, Workgroup
from tasks.store.memory_budget import Room

from .api_client import GROUPS, TASKS, Api, AtRoot
from .factories import make_group, wire

pytestmark = pytest.mark.django_db(transaction=True)

LISTS = {
    f"{TASKS}?pageSize=0": "tasks",
    f"{TASKS}?pageSize=500": "tasks",
    f"{TASKS}?pageSize=500&search=n": "tasks",
    f"{TASKS}?pageSize=3": "tasks",
    f"{GROUPS}?pageSize=500": "taskGroups",
    "/api/v1/task/t/children?pageSize=500": "tasks",
    "/api/v1/task/t/attempts?pageSize=500": "attempts",
    "/api/v1/task_group/g/history?pageSize=500": "entries",
    "/api/v1/workers?pageSize=500": "workers",
    "/api/v1/workgroups?pageSize=500": "workgroups",
    "/api/v1/failures?pageSize=500": "found",
}


@pytest.fixture(autouse=True)
def no_auth(settings):
    settings.ROOT_URLCONF = AtRoot
    settings.CREW_AUTHENTICATION = []


class Writer:
    """Commits something new for every list, from a connection of its own."""

    def __init__(self) -> None:
        self.number = 0

    def write(self) -> None:
        thread = threading.Thread(target=self._write)
        thread.start()
        thread.join()

    def _write(self) -> None:
        self.number += 1
        n = self.number
        try:
            child = {"id": f"c{n}", "name": f"n{n}", "worker": f"w{n}", "parentIds": ["t"]}
            failed = {"worker": f"f{n}", "remainingAttempts": 0}
            create.create_tasks("g", [child, failed])
            create.create_group(name="n")
            Workgroup.objects.create(name=f"wg{n}")
            _attempt(n)
            with audit.by("ann"):
                audit.record("pause", audit.Kind.GROUP, "g", group_id="g", count=1)
        finally:
            connection.close()


def _attempt(number: int) -> None:
    Attempt.objects.create(
        task_id="t",
        number=number,
        worker="w",
        outcome="failed",
        started_at=Now(),
        finished_at=Now(),
    )


@pytest.mark.parametrize("path", LISTS)
def test_the_count_of_a_list_and_its_rows_agree(path):
    make_group(id="g", tasks=[wire(id="t", name="n")])
    writer = Writer()
    writer.write()

    def written_after(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.lstrip().startswith(("SELECT", "WITH")):
            writer.write()
        return result

    with connection.execute_wrapper(written_after):
        said = Api().get(path)

    answer = said.json
    count = answer.get("count", answer.get("kinds"))
    rows = answer[LISTS[path]]
    assert writer.number > 1
    assert len(rows) == min(count, 3 if "pageSize=3" in path else 10**9)
    assert Worker.objects.count() > 2


def test_a_large_page_that_waits_for_room_holds_no_look_at_the_store(monkeypatch):
    make_group(id="g", tasks=[wire(id="t", input="x" * 300_000)])
    monkeypatch.setattr(Room, "take_now", lambda room, size: None)
    in_transaction = []
    take = Room.take

    def waits(room, size):
        in_transaction.append(connection.in_atomic_block)
        return take(room, size)

    monkeypatch.setattr(Room, "take", waits)

    said = Api().get(f"{TASKS}?pageSize=0")

    assert (said.status, said.json["count"], in_transaction) == (200, 1, [False])

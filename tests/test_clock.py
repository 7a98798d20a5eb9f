"""Only the database's clock decides what is due, held, leased or lost: ours is never asked."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
from django.db import connection

from tasks import control, limits_and_holds
from tasks.engine import claim as claiming
from tasks.engine import heartbeat, rescue
from tasks.models import Task

from .factories import claim_one, complete, fail, hold, make_group, wire

pytestmark = pytest.mark.django_db

MOMENT = re.compile(r"\b20\d\d-\d\d-\d\d[ T]\d\d:")


@contextmanager
def no_time_sent() -> Iterator[list[str]]:
    """Every statement goes out without a moment among its parameters; gives what was sent."""
    sent = []

    def watch(execute, sql, params, many, context):
        sent.append(sql)
        given = params.values() if isinstance(params, dict) else params or ()
        for value in given:
            assert not isinstance(value, datetime), (sql, value)
            assert not MOMENT.search(json.dumps(value, default=str)), (sql, value)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield sent


def test_no_statement_of_claim_settle_rescue_and_heartbeat_brings_a_time():
    group = make_group(tasks=[wire(id=id_, error_delay_in_seconds=0) for id_ in "ab"])
    mine = heartbeat.Heart("s1", slots=9, wake=threading.Event())
    mine._beat()

    with no_time_sent() as sent:
        mine._beat()
        fail(claim_one_of_two())
        hold(claim_one_of_two())
        control.retry_group(group.pk)
        complete(claim_one_of_two(), 1, [{"id": "c"}], children_delay=5, workgroup_delay=5)
        rescue.sweep_once()
        limits_and_holds.hold_workgroup("shop", seconds=5)
        control.reset_group(group.pk)

    assert sum("crew_task" in sql for sql in sent) > 10


def claim_one_of_two():
    (lease,) = claiming.claim("s1", slots=1, total=9, busy={}).leases
    return lease


def test_new_tasks_are_due_by_the_databases_clock():
    with no_time_sent():
        group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])

    assert Task.objects.filter(group=group).count() == 2
    assert claim_one().task_id == "a"

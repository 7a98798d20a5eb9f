"""A table that outgrew what the planner knows of it is analyzed at once."""

import pytest
from django.db import connection

from tasks import create
from tasks.models import ParentEdge, Task
from tasks.sql import statistics

from .factories import in_threads, make_group
from .processes import wait_until
from .test_plans import chain

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def expected(table):
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE relname = %s", [table])
        return cursor.fetchone()[0]


def test_a_table_that_fills_after_it_was_analyzed_empty_is_analyzed_again():
    make_group(id="g")
    create.create_tasks("g", chain("gone", 2_000))
    ParentEdge.objects.all().delete()
    Task.objects.all().delete()
    statistics.analyze()
    assert expected("crew_task") == 0
    create.create_tasks("g", chain("t", 2_000))
    result = []

    # The server hears of what a session wrote within a second.
    wait_until(
        lambda: result.extend(statistics.renew()) or {"crew_task", "crew_parentedge"} <= {*result}
    )

    assert expected("crew_task") == 2_000
    assert expected("crew_parentedge") == 1_999
    assert statistics.renew() == []


def test_a_table_that_grows_by_little_is_left_to_autovacuum():
    make_group(id="g")
    create.create_tasks("g", chain("t", 3_000))
    statistics.analyze()
    create.create_tasks("g", chain("more", 2_000))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")

    assert statistics.renew() == []


def test_it_does_not_wait_for_who_analyzes_already():
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK crew_task IN SHARE UPDATE EXCLUSIVE MODE")
    try:
        in_threads(lambda _: statistics.analyze(), [0])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")

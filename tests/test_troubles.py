"""What keeps old rows from being cleared away is said: who it is, since when, what to do."""

import logging
import sqlite3
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.db.models.functions import Now

from tasks.engine import heartbeat
from tasks.insight import troubles
from tasks.insight.troubles import CHORES, Trouble
from tasks.models import Chore, SchedulerProcess

from .factories import make_group, make_scheduler
from .processes import database_url, wait_until
from .test_crewstatus import status
from .test_fleet_now import get

pytestmark = pytest.mark.django_db

LONG = timedelta(minutes=20)


def keys():
    return {each.key for each in troubles.troubles()}


# --- We do not keep up ---


@pytest.fixture
def old_scheduler(settings):
    settings.CREW_KEEP_DAYS = 30
    make_scheduler()
    SchedulerProcess.objects.update(started_at=Now() - LONG)


def test_chores_without_an_end_for_long_are_behind(old_scheduler):
    assert keys() == {f"behind {name}" for name in CHORES}
    Chore.objects.bulk_create(Chore(name=name, done_at=Now()) for name in CHORES)
    assert keys() == set()

    Chore.objects.filter(name="groups").update(done_at=Now() - LONG)
    (one,) = troubles.troubles()

    assert (one.key, one.since) == ("behind groups", Chore.objects.get(name="groups").done_at)
    assert "finished groups" in one.what and "crewprune" in one.todo


def test_without_the_setting_groups_are_never_behind(old_scheduler, settings):
    settings.CREW_KEEP_DAYS = None

    assert "behind groups" not in keys() and "behind changes" in keys()


def test_who_has_only_begun_is_not_behind(old_scheduler):
    SchedulerProcess.objects.update(started_at=Now())
    Chore.objects.bulk_create(Chore(name=name, done_at=Now() - LONG) for name in CHORES)

    assert keys() == set()


def test_without_a_scheduler_nobody_is_behind(old_scheduler):
    SchedulerProcess.objects.all().delete()

    assert keys() == set()


# --- Who keeps rows, on PostgreSQL ---


@pytest.fixture
def at_once(monkeypatch):
    """What is long, is so at once."""
    monkeypatch.setattr(troubles, "OLD", 0.0)
    monkeypatch.setattr(troubles, "OTHERS", -1)


def sessions(*names):
    """Those of the troubles that tell of a session with one of these names."""
    return [each for each in troubles.troubles() if any(name in each.what for name in names)]


@contextmanager
def session(name, *statements):
    with psycopg.connect(database_url(), application_name=name) as other:
        for statement in statements:
            other.execute(statement)
        yield other
        other.rollback()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "begin",
    [
        ("SELECT 1",),
        ("CREATE TEMPORARY TABLE written (n int)",),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1"),
    ],
)
def test_who_left_a_transaction_open_is_named_and_how_to_end_it(at_once, begin):
    with session("a person's", *begin) as other:
        (one,) = sessions("a person's")
        pid = other.info.backend_pid

    assert one.key == f"session {pid}" and f"pg_terminate_backend({pid})" in one.todo
    assert "idle since" in one.what and one.since is not None
    assert connection.settings_dict["USER"] in one.what


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)  # within one, PostgreSQL looks once
def test_who_is_at_one_statement_for_long_is_named(at_once):
    lock = "SELECT pg_advisory_lock(4711)"
    with session("holder", lock), session("long query") as other:

        def wait_for_it():
            with suppress(psycopg.errors.QueryCanceled):
                other.execute(lock)

        thread = threading.Thread(target=wait_for_it)
        thread.start()
        try:
            wait_until(lambda: "still at work" in str(sessions("long query")), seconds=10)
        finally:
            other.cancel()
            thread.join(20)


@pytest.mark.postgres
def test_a_transaction_that_began_lately_is_nobodys_trouble():
    with session("a person's", "CREATE TEMPORARY TABLE written (n int)"):
        assert sessions("a person's") == []


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_what_postgresql_hides_is_said_plainly(at_once):
    """Of a stranger's transaction only how many others began since is to be seen."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE crew_hidden_test")
        try:
            cursor.execute("SET ROLE crew_hidden_test")
            with session("secret", "CREATE TEMPORARY TABLE written (n int)"):
                (hidden,) = troubles._hidden()
                (one,) = [each for each in troubles._sessions() if "secret" in each.what]
            cursor.execute("RESET ROLE")
            assert list(troubles._hidden()) == []
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP ROLE crew_hidden_test")

    assert connection.settings_dict["USER"] in hidden.what
    assert 'GRANT pg_read_all_stats TO "crew_hidden_test"' in hidden.todo
    assert one.since is None and "hides from us since when" in one.what


@pytest.mark.postgres
def test_a_prepared_transaction_and_a_slot_are_named(monkeypatch):
    """No server of the tests has any: the statements run, and the rows are made up."""
    assert list(troubles._prepared()) == list(troubles._slots()) == []
    rows = {
        troubles.sql.PREPARED: [("two'phase", "shop", None)],
        troubles.sql.SLOTS: [("standby", False, 20_000, True), ("replica", True, 30_000, False)],
    }
    monkeypatch.setattr(troubles, "run", lambda what, params: rows[what])

    (prepared,), (gone, slow) = troubles._prepared(), troubles._slots()

    assert "ROLLBACK PREPARED 'two''phase'" in prepared.todo and "shop" in prepared.what
    assert "is not connected" in gone.what and "20,000" in gone.what and "Dead rows" in gone.what
    assert "pg_drop_replication_slot('standby')" in gone.todo
    assert "reads slowly" in slow.what and "the disk fills" in slow.what


# --- Its twin on SQLite ---


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_a_reader_that_does_not_end_is_shown_by_the_log_that_grows(monkeypatch):
    monkeypatch.setattr(troubles, "LOG_LARGE", 40_000)
    name = connection.settings_dict["NAME"]
    reader = sqlite3.connect(name)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM crew_taskgroup").fetchall()
    for _ in range(30):
        make_group()

    (one,) = troubles.troubles()
    reader.rollback()
    reader.close()

    assert one.key == "log" and f"{name}-wal" in one.what and "fuser" in one.todo
    assert keys() == set()  # though the file is as large as it was


# --- Where it is said ---

AMISS = Trouble("session 7", None, "Process 7 left a transaction open.", "End it.")


def test_the_log_says_once_that_it_is_there_and_once_that_it_is_over(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="crew.engine.heartbeat")
    found = [AMISS]
    monkeypatch.setattr(heartbeat, "troubles", lambda: tuple(found))
    monkeypatch.setattr(heartbeat, "LOOK_EVERY", 0.0)
    beating = heartbeat.Heart("s1", slots=1, wake=threading.Event())

    beating._look_for_troubles()
    beating._look_for_troubles()
    found.clear()
    beating._look_for_troubles()

    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "Process 7 left a transaction open. End it."),
        ("INFO", "It is over: Process 7 left a transaction open."),
    ]


def test_it_is_looked_for_now_and_then_and_not_at_each_sweep(monkeypatch):
    looks = []
    monkeypatch.setattr(heartbeat, "troubles", lambda: looks.append(1) or ())
    beating = heartbeat.Heart("s1", slots=1, wake=threading.Event())

    beating._look_for_troubles()
    beating._look_for_troubles()

    assert len(looks) == 1


def test_crewstatus_says_it(monkeypatch):
    group = make_group()
    assert status() == (0, "Nothing is amiss.\n")

    monkeypatch.setattr("tasks.management.commands.crewstatus.troubles", lambda: (AMISS,))

    assert status() == (3, "Process 7 left a transaction open. End it.\n")
    assert "Process 7" not in status(group.pk)[1]


def test_the_overview_and_the_fleet_tell_of_it(monkeypatch):
    assert get("fleet")["troubles"] == get("overview")["fleet"]["troubles"] == []
    monkeypatch.setattr("tasks.insight.fleet.now.troubles", lambda: (AMISS,))

    assert get("fleet")["troubles"] == [
        {"key": "session 7", "since": None, "what": AMISS.what, "todo": "End it."}
    ]

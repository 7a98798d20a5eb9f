"""Answers that the database refuses: less and less of them, and never at their neighbours' cost."""

from contextlib import contextmanager
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection

from tasks import control
from tasks.engine import barred, set_aside
from tasks.engine.refused_answers import UNSTORABLE
from tasks.engine.settle import settle_each
from tasks.engine.settlement import Settlement, Why
from tasks.insight.explain import explain
from tasks.models import Attempt, Task
from tasks.rules.decide import Completed, Delays, Failed, Held
from tasks.rules.transcript import Transcript

from .api_client import GROUP, GROUPS, TASK, TASKS, Api, everything_stored
from .factories import claim_all, make_group, make_scheduler, make_task, row, wire
from .processes import database_url, wait_until
from .stub_worker import StubWorker
from .threads import running

pytestmark = pytest.mark.django_db

KEPT = Transcript("POST /w", "200 OK")
WITHOUT = (None, None)
TASK_SENT = {"id": "n", "worker": "w", "name": "bad"}


def refuse(table, event, when):
    """As a trigger or constraint of somebody else's would."""
    sqlite = f"CREATE TRIGGER refuse BEFORE {event} ON {table} WHEN {when} BEGIN SELECT RAISE"
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"{sqlite}(ABORT, 'not here'); END")
            return
        cursor.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'not here'; END $$"
        )
        cursor.execute(
            f"CREATE TRIGGER refuse BEFORE {event} ON {table} FOR EACH ROW WHEN ({when})"
            " EXECUTE FUNCTION refuse()"
        )


def unrefuse():
    with connection.cursor() as cursor:
        on = " ON crew_task" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER refuse{on}")


def twenty_one(outcome):
    """Settlements of as many tasks; the sixteenth, of the task `bad`, is as given."""
    make_group(tasks=[wire(id="bad" if n == 15 else f"t{n:02}") for n in range(21)])
    return [
        Settlement(lease, outcome if lease.task_id == "bad" else Completed("1"), 200, KEPT)
        for lease in claim_all()
    ]


def bad():
    task = Task.objects.get(pk="bad")
    attempt = Attempt.objects.filter(task="bad").first()
    return task, attempt, (attempt.request, attempt.answer) if attempt else None


def neighbours():
    return Task.objects.exclude(pk="bad").filter(is_complete=True, output=1).count()


def test_without_what_people_would_have_read_done_work_stays_done():
    refuse("crew_attempt", "INSERT", "NEW.answer IS NOT NULL AND NEW.task_id = 'bad'")

    settled = settle_each(twenty_one(Completed('{"n": 1}', note="seen")))

    task, attempt, kept = bad()
    assert (settled.live, settled.left, neighbours()) == (21, (), 20)
    assert (task.is_complete, task.output, task.remaining_attempts) == (True, {"n": 1}, 4)
    assert (kept, attempt.outcome, attempt.note) == (WITHOUT, "completed", "")


def test_without_its_output_an_answer_fails_in_words_and_is_shown():
    refuse("crew_task", "UPDATE", "NEW.output IS NOT NULL AND NEW.id = 'bad'")

    settled = settle_each(twenty_one(Completed('"日本"')))

    task, _, kept = bad()
    assert (settled.live, settled.left, neighbours()) == (21, (), 20)
    assert (task.is_complete, task.leased_by, task.remaining_attempts) == (False, None, 4)
    assert UNSTORABLE in task.errors[0]
    assert "not here" in task.errors[0]
    assert kept == (KEPT.request, KEPT.answer)


def test_what_is_refused_again_goes_too():
    words = "NEW.error <> 'the answer could not be stored'"
    refuse("crew_attempt", "INSERT", f"NEW.task_id = 'bad' AND {words}")

    settled = settle_each(twenty_one(Completed('{"n": 1}')))

    task, _, kept = bad()
    assert (settled.live, settled.left, neighbours()) == (21, (), 20)
    assert (task.errors, task.remaining_attempts, kept) == ([UNSTORABLE], 4, WITHOUT)


def test_a_rate_limit_stays_one():
    refuse("crew_attempt", "INSERT", "NEW.task_id = 'bad' AND NEW.error = 'slow down'")

    settle_each(twenty_one(Held(60.0, "slow down", "1", Delays(workgroup=5.0))))

    task, attempt, _ = bad()
    assert neighbours() == 20
    assert (task.remaining_attempts, task.held_count, attempt.outcome) == (5, 1, "held")


def test_what_is_refused_whatever_it_holds_is_left_and_costs_nothing():
    refuse("crew_task", "UPDATE", "NEW.id = 'bad' AND NEW.leased_by IS NULL")

    batch = twenty_one(Failed("no"))
    before = row(Task(pk="bad"))
    settled = settle_each(batch)

    assert (settled.live, neighbours()) == (20, 20)
    assert [(each.settlement, each.why) for each in settled.left] == [(batch[15], Why.REFUSED)]
    assert row(Task(pk="bad")) == before


@pytest.mark.parametrize("output", ["[" * 20_000 + "]" * 20_000, "1e200000", '"\\u0000"', "{"])
def test_no_output_that_slipped_through_stops_its_neighbours(output):
    settled = settle_each(twenty_one(Completed(output)))

    assert (settled.live, neighbours()) == (21, 20)
    assert Task.objects.get(pk="bad").leased_by is None


def test_an_error_that_is_none_of_the_databases_is_the_answers_too():
    settled = settle_each(twenty_one(Failed("a lone \ud800")))

    assert (settled.live, neighbours()) == (21, 20)


@pytest.mark.django_db(transaction=True)
def test_a_scheduler_works_on_beside_an_answer_that_it_cannot_write(settings, monkeypatch):
    monkeypatch.setattr(set_aside, "STUCK_PAUSES", (0.01, 0.01))
    refuse("crew_task", "UPDATE", "NEW.id = 'bad' AND NEW.leased_by IS NULL")
    with StubWorker() as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        group = make_group(tasks=[wire(id="bad", remaining_attempts=1), wire(id="t0")])
        with running() as scheduler:
            wait_until(lambda: len(scheduler._aside) == 1)
            make_task(group, id="t1", parent_ids=["t0"])
            wait_until(lambda: Task.objects.filter(is_complete=True).count() == 2)
            unrefuse()
            wait_until(lambda: Task.objects.get(pk="bad").leased_by is None)

    assert len(worker.requests) == 3


CALLS = [
    ("crew_task", "INSERT", "NEW.name = 'bad'", "POST", GROUPS, {"tasks": [TASK_SENT]}),
    ("crew_change", "INSERT", "NEW.group_id = 'new'", "POST", GROUPS, {"tasks": [TASK_SENT]}),
    ("crew_task", "INSERT", "NEW.name = 'bad'", "POST", TASKS, TASK_SENT),
    ("crew_task", "UPDATE", "NEW.name = 'bad'", "PUT", TASK, {"name": "bad"}),
    ("crew_auditentry", "INSERT", "NEW.verb = 'edit'", "PUT", TASK, {"name": "bad"}),
    ("crew_task", "DELETE", "OLD.id = 't'", "DELETE", TASK, None),
    ("crew_taskgroup", "UPDATE", "NEW.is_paused", "POST", f"{GROUP}/pause", None),
]


@pytest.mark.usefixtures("no_auth")
@pytest.mark.parametrize(("table", "event", "when", "method", "path", "sent"), CALLS)
def test_a_call_that_the_database_refuses_is_warned_and_stores_nothing(
    table, event, when, method, path, sent
):
    make_group(id="g", tasks=[wire(id="t"), wire(id="u")])
    refuse(table, event, when)
    before = everything_stored()
    sent = {"id": "new"} | sent if path == GROUPS else sent

    answer = Api().send(method, path, b"" if sent is None else sent)

    assert (answer.status, answer.why.partition(": ")[2]) == (409, "not here")
    assert everything_stored() == before


def test_a_late_answer_whose_record_is_refused_is_dropped_with_a_line(caplog):
    batch = twenty_one(Completed("1"))
    Task.objects.filter(pk="bad").delete()
    refuse("crew_auditentry", "INSERT", "NEW.target = 'bad'")

    settled = settle_each(batch)

    assert (settled.live, settled.late, settled.left, neighbours()) == (20, 1, (), 20)
    assert "The late answer to task bad is not kept" in caplog.text


@pytest.mark.parametrize("table", ["crew_task", "crew_attempt", "crew_change", "crew_auditentry"])
def test_an_import_that_the_database_refuses_ends_in_words_and_stores_nothing(table, tmp_path):
    batch = twenty_one(Completed("1"))
    settle_each(batch)
    file = str(tmp_path / "out.ndjson")
    call_command("crewexport", "--all", "-o", file, stdout=StringIO())
    control.delete_group(batch[0].lease.group_id)
    refuse(table, "INSERT", "1 = 1")
    before = everything_stored()

    with pytest.raises(CommandError, match="not here"):
        call_command("crewimport", file, stdout=StringIO())

    assert everything_stored() == before


@contextmanager
def database_in(encoding):
    """Our tables in another database of the same server."""
    name = f"crew_{encoding.lower()}"
    with psycopg.connect(database_url(), autocommit=True) as session:
        session.execute(f"DROP DATABASE IF EXISTS {name}")
        locale = "TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        session.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' {locale}")
        connection.close()
        before = connection.settings_dict["NAME"]
        connection.settings_dict["NAME"] = name
        try:
            yield
        finally:
            connection.close()
            connection.settings_dict["NAME"] = before
            session.execute(f"DROP DATABASE {name}")


@pytest.mark.postgres
@pytest.mark.own_session
@pytest.mark.django_db(transaction=True)
def test_in_a_database_that_cannot_hold_it_no_answer_stops_the_others():
    with database_in("LATIN1"):
        call_command("migrate", verbosity=0)
        batch = twenty_one(Completed('"日本"'))
        batch[15] = Settlement(batch[15].lease, Completed('"日本"'), 200, Transcript("日", "本"))

        settled = settle_each(batch)

        task, _, kept = bad()
        with pytest.raises(SystemCheckError, match=r"crew\.E018"):
            call_command("runscheduler", "--once", skip_checks=False)
        assert (settled.live, settled.left, neighbours()) == (21, (), 20)
        assert (task.leased_by, task.remaining_attempts, kept) == (None, 4, WITHOUT)
        assert UNSTORABLE in task.errors[0]


@pytest.mark.django_db
def test_explain_says_that_a_task_cannot_be_leased():
    make_scheduler()
    task = make_task(name="bad")
    Task.objects.update(run_after="2000-01-01T00:00:00Z")
    before = explain(task.pk).gates
    refuse("crew_task", "UPDATE", "NEW.name = 'bad' AND NEW.leased_by IS NOT NULL")

    (gate,) = explain(task.pk).gates

    assert before == ()
    assert (gate.code, gate.opens_itself) == ("refused", False)
    assert gate.text.startswith("The database does not let it be started: the database refuses it:")
    assert (row(task)["leased_by"], row(task)["attempt"]) == (None, 0)


@pytest.mark.django_db(transaction=True)
def test_tasks_that_cannot_be_leased_stop_no_others(settings, monkeypatch, caplog):
    """They come first, in lanes of their own and in that of the others, some with a key."""
    monkeypatch.setattr(barred, "AGAIN", 0.5)
    bad = [wire(id=f"bad{n}", name="bad", priority=n % 2, key="k" * (n % 3)) for n in range(70)]
    make_group(tasks=[*bad, *(wire(id=f"t{n}") for n in range(20))])
    refuse("crew_task", "UPDATE", "NEW.name = 'bad' AND NEW.leased_by IS NOT NULL")

    with StubWorker() as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        with running():
            wait_until(lambda: Task.objects.filter(is_complete=True).count() == 20)
            stopped = set(Task.objects.filter(name="bad").values_list("leased_by", "attempt"))
            unrefuse()
            wait_until(lambda: not Task.objects.incomplete().exists())

    assert stopped == {(None, 0)}
    assert "tasks not be started, the first of them bad" in caplog.text

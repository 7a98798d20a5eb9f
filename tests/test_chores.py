"""What has had its time is cleared away beside the claims, without a pause while there is more."""

import threading

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from tasks import create
from tasks.insight.troubles import CHORES
from tasks.models import AuditEntry, Chore, TaskGroup
from tasks.sql import on_postgres
from tasks.upkeep import chores, expired_rows, finished_groups
from tasks.upkeep.finished_groups import Gone

from .factories import in_threads, make_group
from .test_retention import OLD, age, assert_whole
from .test_verb_plans import refuse_whole_tables

pytestmark = pytest.mark.django_db


class Stop(threading.Event):
    """Never set; remembers how long was waited for it."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        return self.is_set()


def keeper(*, is_busy=False, stop=None):
    return chores.Chores(stop or Stop(), is_busy=lambda: is_busy)


def work(kept):
    """One round of all kinds."""
    for one in kept.works():
        one()


def finished(count, tasks=1):
    made = [make_group() for _ in range(count)]
    for group in made:
        create.create_tasks(group.pk, [{"isComplete": True} for _ in range(tasks)])
        age(group)
    return made


@pytest.fixture
def backlog(settings, monkeypatch):
    """Three groups, of which one goes with each step, in a round of its own."""
    settings.CREW_KEEP_DAYS = 30
    monkeypatch.setattr(finished_groups, "GROUPS", 1)
    monkeypatch.setattr(chores, "AT_A_TIME", 0.0)
    return finished(3)


def test_it_goes_on_at_once_while_there_is_more_and_rests_when_all_is_done(backlog):
    kept = keeper()

    left = []
    while not left or kept.seconds() == 0.0:
        work(kept)
        left.append(TaskGroup.objects.count())

    assert left[:3] == [2, 1, 0]
    assert kept.seconds() == chores.EVERY
    assert set(Chore.objects.values_list("name", flat=True)) == set(CHORES)
    assert_whole()


def test_every_kind_goes_on_at_once(monkeypatch, settings):
    settings.CREW_KEEP_DAYS = 30
    monkeypatch.setattr(chores, "AT_A_TIME", 0.0)
    did = []

    def steps(name):
        for number in range(3):
            did.append((number, name))
            yield 1

    monkeypatch.setattr(
        expired_rows, "PARTS", {name: lambda name=name: steps(name) for name in CHORES}
    )
    monkeypatch.setattr(finished_groups, "steps", lambda days: steps("groups"))
    kept = keeper()

    for _ in range(3):
        work(kept)

    assert kept.seconds() == 0.0
    assert did == [(number, name) for number in range(3) for name in CHORES]


def test_what_was_done_just_now_by_another_scheduler_is_not_done_again(backlog):
    Chore.objects.bulk_create(Chore(name=name, done_at=Now()) for name in CHORES)

    work(keeper())
    assert TaskGroup.objects.count() == 3

    Chore.objects.update(done_at=Now() - OLD)
    work(keeper())
    assert TaskGroup.objects.count() == 2


def test_without_the_setting_no_group_goes(backlog, settings):
    settings.CREW_KEEP_DAYS = None

    work(keeper())

    assert TaskGroup.objects.count() == 3


@pytest.mark.parametrize("is_busy", [True, False])
def test_it_gives_way_to_claims(is_busy, backlog, monkeypatch):
    """As long as a transaction took it rests: measured by a clock of the test's own.

    On SQLite somebody else may want to write, whether this scheduler is busy or not.
    """
    share = chores.IDLE_REST if on_postgres() and not is_busy else chores.BUSY_REST
    now = iter(range(1_000))
    monkeypatch.setattr(chores.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(expired_rows, "PARTS", {name: lambda: iter(()) for name in CHORES})
    monkeypatch.setattr(finished_groups, "steps", lambda days: iter([Gone(1, 1)]))
    stop = Stop()

    work(keeper(is_busy=is_busy, stop=stop))

    assert stop.waits == [pytest.approx(share)]
    assert chores.BUSY_REST >= 1.0


def test_one_that_stops_does_not_go_on(backlog):
    stop = Stop()
    stop.set()

    work(keeper(stop=stop))

    assert TaskGroup.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_several_side_by_side_share_the_groups(settings, monkeypatch):
    settings.CREW_KEEP_DAYS = 30
    monkeypatch.setattr(finished_groups, "GROUPS", 2)
    groups = finished(20)

    def keep(number):
        kept = keeper()
        work(kept)
        while kept.seconds() == 0.0:
            work(kept)

    in_threads(keep, range(3))
    gone = finished_groups.prune_groups(30, seconds=60)[0]

    deleted = list(AuditEntry.objects.filter(who="retention").values_list("target", flat=True))
    assert sorted(deleted) == sorted(group.pk for group in groups)
    assert gone + len(deleted) >= 20 and not TaskGroup.objects.exists()
    assert_whole()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", CHORES)
def test_what_another_process_is_at_is_left_to_it(name, settings):
    """It asks for its turn, and for nothing that the other one looks at."""
    settings.CREW_KEEP_DAYS = 30
    finished(1)

    def steps(_):
        made = finished_groups.steps(30) if name == "groups" else expired_rows.PARTS[name]()
        with CaptureQueriesContext(connection) as asked:
            return list(made), [each["sql"] for each in asked if "crew_" in each["sql"]]

    with transaction.atomic():
        assert expired_rows.is_our_turn(name)
        ((result, asked),) = in_threads(steps, [1])

    assert result in ([None], [])
    assert not [sql for sql in asked if sql.startswith("DELETE")]
    assert TaskGroup.objects.exists()


def test_many_small_groups_take_as_many_statements_as_few(settings):
    def statements():
        with CaptureQueriesContext(connection) as asked:
            list(finished_groups.steps(30))
        return len(asked)

    finished(2)
    few = statements()
    finished(30, tasks=3)

    assert statements() <= few + 2
    assert not TaskGroup.objects.exists()


@pytest.mark.postgres
def test_old_groups_are_found_by_indexes_whatever_the_planner_believes(fresh_tables):
    """Groups and tasks without number beside; of each statement no plan reads a whole table."""
    for _ in range(3):
        group = make_group()
        create.create_tasks(group.pk, [{"worker": "w"} for _ in range(300)])
    finished(20, tasks=20)
    plans = []

    def explain(execute, sql, params, many, context):
        if "crew_task " in sql and sql.strip().startswith("SELECT"):
            with connection.cursor() as cursor:
                cursor.cursor.execute("EXPLAIN (FORMAT JSON) " + sql, params)
                plans.append(cursor.cursor.fetchone()[0][0]["Plan"])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        list(finished_groups.steps(30))

    assert len(plans) >= 2
    for plan in plans:
        refuse_whole_tables(plan)

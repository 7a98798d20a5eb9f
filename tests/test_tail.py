"""Changes are read in the order of their commits, each once: also when ids come out of order."""

import random
from datetime import timedelta

import psycopg
import pytest
from django.db.models.functions import Now

from tasks.live.change_reader import Tail
from tasks.models import Change
from tasks.sql import stream as sql
from tasks.store import changes

from .processes import database_url

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = """
    INSERT INTO crew_change (group_id, created, updated, deleted, group_event, workgroup)
    VALUES (%s, '[]', '[]', '[]', '', '') RETURNING id
"""
GROUPS = ["g"]


@pytest.fixture
def others():
    """Any number of connections of others, each in a transaction of its own."""
    opened = []

    def open_one():
        opened.append(psycopg.connect(database_url()))
        # As ours, who lock or write something before they tell of it.
        opened[-1].execute("SELECT pg_current_xact_id()")
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def insert(one, group="g"):
    return one.execute(INSERT, [group]).fetchone()[0]


def start():
    tail = Tail()
    tail.start(GROUPS)
    return tail


def ids(tail, groups=GROUPS):
    return [change.id for change in tail.read(groups)]


def test_each_change_is_read_once_in_order():
    changes.group_changed("g", "update")
    tail = start()

    for id_ in "abc":
        changes.tasks_changed([("g", id_)])
    first = tail.read(GROUPS)
    changes.tasks_changed([("g", "d"), ("other", "x")])

    assert [change.updated for change in first] == [["a"], ["b"], ["c"]]
    assert [change.updated for change in tail.read(GROUPS)] == [["d"]]
    assert tail.read(GROUPS) == []


def test_the_place_to_come_back_to_catches_up_when_nothing_is_under_way():
    tail = start()
    changes.tasks_changed([("g", "a")])
    newest = Change.objects.latest("id").pk

    for _ in range(3):
        tail.read(GROUPS)

    assert tail.safe == newest


def test_who_comes_back_gets_what_it_missed():
    changes.tasks_changed([("g", "before")])
    tail = start()
    for _ in range(3):
        tail.read(GROUPS)
    since = tail.safe
    changes.tasks_changed([("g", "a")])
    changes.tasks_changed([("other", "b")])
    changes.tasks_changed([("g", "c")])
    tail.read(GROUPS)
    changes.tasks_changed([("g", "not read yet")])

    missed = tail.missed("g", since, most=10)

    assert [change.updated for change in missed] == [["a"], ["c"]]
    assert tail.missed("g", since, most=2) is None  # more than asked for
    assert tail.missed("g", 10**15, most=10) is None  # never given by us
    Change.objects.filter(pk__lte=since).delete()
    assert tail.missed("g", since, most=10) is None  # nobody knows any more


def test_what_is_too_much_for_a_look_is_told_as_a_reload():
    changes.tasks_changed([("g", "before")])
    tail = start()
    for _ in range(3):
        tail.read(GROUPS)
    since = tail.safe
    changes.tasks_changed([("g", "small")])
    changes.tasks_deleted("g", [{"id": "t", "input": "x" * sql.MOST_BYTES}])
    changes.group_changed("g", "update")
    changes.tasks_changed([("g", "behind")])

    read = tail.read(GROUPS)

    assert [(each.updated, each.deleted, each.group_event) for each in read] == [
        (["small"], [], ""),
        ([], [], "reload"),
        ([], [], "update"),
        ([], [], "reload"),
    ]
    for _ in range(3):
        tail.read(GROUPS)
    assert tail.missed("g", since, most=10) == read


def test_what_is_pruned_is_pruned_in_order_and_the_newest_stays():
    for id_ in "abcd":
        changes.tasks_changed([("g", id_)])
    ids = list(Change.objects.order_by("id").values_list("id", flat=True))
    old = Now() - timedelta(minutes=changes.KEPT_MINUTES + 1)

    Change.objects.filter(pk__in=[ids[0], ids[2]]).update(at=old)  # a slow one is in between
    assert changes.prune(1_000) == 1
    Change.objects.update(at=old)
    assert changes.prune(1_000) == 2
    assert list(Change.objects.values_list("id", flat=True)) == ids[-1:]
    assert changes.prune(1_000) == 0
    tail = start()
    assert tail.missed("g", ids[-1], most=10) == []  # nothing happened since
    assert tail.missed("g", ids[-2] - 1, most=10) is None


def test_who_read_nothing_while_changes_were_pruned_knows_that_some_may_be_missing():
    changes.tasks_changed([("g", "a")])
    tail = start()
    here = tail.newest
    assert not tail.has_gap(here)
    changes.tasks_changed([("other", "b")])
    Change.objects.filter(pk=here).delete()
    assert tail.has_gap(here)
    tail.read(GROUPS)
    assert not tail.has_gap(tail.newest)


@pytest.mark.postgres
def test_a_slow_commit_with_a_lower_id_is_lost_to_who_asks_for_higher_ids_and_not_to_us(others):
    slow, fast = others(), others()
    tail = start()
    low, high = insert(slow), insert(fast)
    assert low < high

    fast.commit()
    naive = list(Change.objects.order_by("id").values_list("id", flat=True))
    ours = ids(tail)
    slow.commit()
    naive += list(Change.objects.filter(id__gt=naive[-1]).values_list("id", flat=True))
    ours += ids(tail)

    assert naive == [high]  # the event of the slow one is lost
    assert ours == [high, low]
    assert ids(tail) == []


@pytest.mark.postgres
def test_an_old_open_transaction_holds_nothing_back_and_nothing_comes_twice(others):
    old = others()
    low = insert(old)
    tail = start()

    told = []
    for _ in range(50):
        one = others()
        id_ = insert(one)
        one.commit()
        one.close()
        assert ids(tail) == [id_]
        told.append(id_)

    assert tail.safe < low
    old.commit()
    assert ids(tail) == [low]
    for _ in range(2):
        assert ids(tail) == []
    assert tail.safe == told[-1]


@pytest.mark.postgres
def test_a_group_that_is_watched_later_gets_no_old_news(others):
    old = others()
    insert(old)
    tail = start()
    new = others()
    insert(new, "h")
    new.commit()

    assert [change.group_id for change in tail.read(["g", "h"])] == ["h"]  # at the join
    assert ids(tail, ["g", "h"]) == []


@pytest.mark.postgres
@pytest.mark.parametrize("seed", range(8))
def test_in_any_order_of_commits_all_is_read_once_and_found_again(others, seed):
    chance = random.Random(seed)
    changes.group_changed("g", "update")
    tail = start()
    open_ones, committed, read = [], set(), []
    places = []  # (place to come back to, how many were read by then)
    for _ in range(150):
        what = chance.choice(["open", "write", "write", "commit", "commit", "rollback", "read"])
        if what == "open" and len(open_ones) < 5:
            open_ones.append((others(), []))
        elif what == "read":
            read += ids(tail)
            places.append((tail.safe, len(read)))
        elif open_ones:
            one, written = chance.choice(open_ones)
            if what == "write":
                written.append(insert(one))
                continue
            open_ones.remove((one, written))
            if what == "commit":
                one.commit()
                committed.update(written)
            else:
                one.rollback()
            one.close()
    read += ids(tail)

    assert len(read) == len(set(read))
    assert set(read) == committed
    for place, count in places:
        missed = tail.missed("g", place, most=1_000)
        if missed is not None:  # None: a place before the first change there is
            assert set(read[count:]) <= {change.id for change in missed}


def test_reading_is_cheap_beside_many_changes_of_others(django_assert_num_queries):
    Change.objects.bulk_create(Change(group_id=f"other-{i}") for i in range(2_000))
    tail = start()
    changes.tasks_changed([("g", "a")])

    with django_assert_num_queries(1):
        assert len(tail.read(GROUPS)) == 1

"""How fast watchers are told: in order, nothing lost, and no more than a process can send."""

import pytest

from tasks import control, create, edit
from tasks.live import pacing
from tasks.live.change_reader import Seen
from tasks.live.messages import reload_text
from tasks.live.pacing import Pace, most_one_by_one

from .factories import make_group
from .web import Clients, Web


def change(id_, group="g", *, event="", workgroup=""):
    return Seen(id_, group, [], ["t"], [], event, workgroup)


def due(pace_, news=(), *, now, at_once=()):
    return [one.id for one in pace_.due(news, now=now, at_once=at_once)]


@pytest.fixture
def resting():
    """A pace whose group g rests from 0 to 2, and has a change kept back."""
    pace_ = Pace()
    pace_.told({"g": 100}, {"g": ["a message"] * 400}, now=0.0)
    assert due(pace_, [change(1)], now=0.1) == []
    return pace_


def test_few_messages_take_no_rest():
    pace_ = Pace()

    pace_.told({"g": 3}, {"g": ["a message"] * 10}, now=0.0)

    assert due(pace_, [change(1)], now=0.02) == [1]


def test_who_was_told_much_rests_as_long_as_that_takes_and_others_do_not(resting):
    assert due(resting, [change(2), change(3, "h")], now=1.0) == [3]
    assert resting.rest(now=1.5) == 0.5
    assert due(resting, now=2.0) == [1, 2]
    assert resting.rest(now=2.0) == float("inf")


def test_an_answer_that_waits_for_its_news_does_not_wait_for_a_rest(resting):
    assert due(resting, [change(2)], now=0.5, at_once=["g"]) == [1, 2]
    assert due(resting, [change(3)], now=0.6) == []


def test_a_deleted_group_is_told_at_once_and_nothing_of_it_afterwards(resting):
    assert due(resting, [change(2, event="delete")], now=0.5) == [2]
    assert due(resting, [change(3)], now=0.6) == [3]


def test_a_hold_goes_to_all_groups_and_overtakes_nothing(resting):
    assert due(resting, [change(2, "", workgroup="w")], now=0.5) == [1, 2]


def test_after_a_reload_the_rest_is_longer_the_more_come_to_load():
    pace_ = Pace()

    pace_.told({"g": 100}, {"g": [reload_text(7)]}, now=0.0)

    assert due(pace_, [change(1)], now=2.9) == []
    assert due(pace_, now=3.1) == [1]


@pytest.mark.parametrize(("watchers", "most"), [(0, 20_000), (1, 20_000), (100, 200)])
def test_the_more_watch_the_fewer_tasks_are_told_at_once(watchers, most):
    assert most_one_by_one(watchers) == most


SLOW = """
import sys
from django.core.management import execute_from_command_line
from tasks.live import pacing
pacing.FRAMES = 60
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""


@pytest.mark.django_db(transaction=True)
def test_where_too_many_watch_they_are_told_to_reload_and_others_hear_all():
    assert pacing.FRAMES != 60  # but there
    busy, calm = make_group(), make_group()
    ids = create.create_tasks(busy.pk, [{"worker": "w"}] * 40)
    (other,) = create.create_tasks(calm.pk, [{"worker": "w"}])
    served, clients = Web(code=SLOW), Clients()
    try:
        watchers = [clients.open(served, busy.pk) for _ in range(3)]
        quiet = clients.open(served, calm.pk)

        control.pause_group(busy.pk)  # 40 tasks, three watchers: more than 60 frames
        for client in watchers:
            client.wait(lambda client: ("reload", "") in client.told())
        edit.edit_task(busy.pk, ids[0], {"name": "the last"})  # while it rests
        edit.edit_task(calm.pk, other, {"name": "heard"})

        quiet.wait(lambda client: client.last().get(other, {}).get("name") == "heard")
        for client in watchers:
            client.wait(lambda client: client.last().get(ids[0], {}).get("name") == "the last")
            assert [told for told in client.told() if told[0] == "update"] == [
                ("update", busy.pk),
                ("update", ids[0]),
            ]
        assert served.errors() == ""
    finally:
        clients.close()
        served.stop()

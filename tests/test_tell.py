"""What a stream's messages say, and in which order (contract 1.5)."""

import json

import pytest
from django.db.models.functions import Now

from tasks import control, create, edit, limits_and_holds
from tasks.live import messages
from tasks.live.change_reader import Tail
from tasks.models import Task, Workgroup
from tasks.store import wire

from .factories import claim_one, complete, make_group, make_task
from .processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, BEHIND = 6, 7  # the places around each look


@pytest.fixture
def group():
    return make_group(name="a group")


@pytest.fixture
def news(group):
    """What is told to the group's watchers since the last time."""
    tail = Tail()
    tail.start([group.pk])

    def since_last():
        read, before = tail.read([group.pk]), {group.pk: BEFORE}
        texts = messages.messages(read, {group.pk}, BEHIND, before=before).get(group.pk, [])
        return [json.loads(text) for text in texts]

    return since_last


def kinds(messages):
    return [
        (each["type"], (each.get("task") or each.get("taskGroup") or {}).get("id"))
        for each in messages
    ]


def test_a_message_holds_the_whole_task_and_where_to_go_on(group, news):
    task = make_task(group)

    (message,) = news()

    assert message == {"type": "create", "task": wire.task(task), "change": BEHIND}


def test_a_run_is_told_as_busy_and_then_as_complete(group, news):
    make_task(group)
    news()

    lease = claim_one()
    (busy,) = news()
    complete(lease, {"n": 1})
    (done,) = news()

    assert busy["type"] == done["type"] == "update"
    assert busy["task"]["busyExecuting"] is True
    assert (done["task"]["isComplete"], done["task"]["output"]) == (True, {"n": 1})
    assert done["task"]["busyExecuting"] is False


def test_children_are_created_before_their_parent_is_updated(group, news):
    task = make_task(group)
    news()
    complete(claim_one(), None, [{"id": "c1"}, {"id": "c2", "parentIds": ["c1"]}])

    messages = kinds(news())

    assert messages == [("create", "c1"), ("create", "c2"), ("update", task.pk)]


def test_a_task_is_told_once_in_one_look_and_first_as_create(group, news):
    task = make_task(group)
    edit.edit_task(group.pk, task.pk, {"name": "new"})
    control.pause_tasks(group.pk, [task.pk])

    (message,) = news()

    assert message["type"] == "create"
    assert (message["task"]["name"], message["task"]["isPaused"]) == ("new", True)


def test_an_update_that_names_a_new_parent_comes_after_the_create_of_that(group, news):
    child = make_task(group, id="child")
    news()
    edit.edit_task(group.pk, "child", {"name": "x"})
    make_task(group, id="parent")
    edit.edit_task(group.pk, "child", {"parent_ids": ["parent"]})

    assert kinds(news()) == [("create", "parent"), ("update", child.pk)]


def test_only_the_last_message_of_a_look_says_that_all_of_it_came(group, news):
    create.create_tasks(group.pk, [{"worker": "w"}] * 50)
    control.rename_group(group.pk, name="other")

    told = news()

    assert [each["change"] for each in told] == [BEFORE] * 50 + [BEHIND]


def test_a_reload_behind_other_messages_is_the_last(group, news, monkeypatch):
    create.create_tasks(group.pk, [{"worker": "w"}] * 5)
    monkeypatch.setattr(messages, "TOLD_ONE_BY_ONE", 4)
    control.rename_group(group.pk, name="other")

    told = news()

    assert [(each["type"], each["change"]) for each in told] == [
        ("update", BEFORE),
        ("reload", BEHIND),
    ]


def test_a_task_made_and_deleted_in_one_look_may_have_been_loaded_in_between(group, news):
    task = make_task(group)
    control.delete_tasks(group.pk, [task.pk])

    assert kinds(news()) == [("delete", task.pk)]


def test_a_deleted_task_is_told_with_its_last_state(group, news):
    task = make_task(group, name="mine")
    last = wire.task(task)
    news()
    edit.edit_task(group.pk, task.pk, {"is_paused": True})
    control.delete_tasks(group.pk, [task.pk])

    assert news() == [
        {"type": "delete", "task": last | {"isPaused": True, "state": "paused"}, "change": BEHIND}
    ]


def test_a_task_that_came_back_under_its_id_is_deleted_first(group, news):
    make_task(group, id="t")
    news()
    control.delete_tasks(group.pk, ["t"])
    make_task(group, id="t")

    assert kinds(news()) == [("delete", "t"), ("create", "t")]


def test_a_deleted_group_is_one_message_and_no_task_is_told(group, news):
    make_task(group)
    last = wire.group(group)
    control.delete_group(group.pk)

    assert news() == [{"type": "delete", "taskGroup": last, "change": BEHIND}]


def test_a_renamed_group_is_told(group, news):
    control.rename_group(group.pk, name="other")

    (message,) = news()

    assert (message["type"], message["taskGroup"]["name"]) == ("update", "other")


def test_a_reset_with_seeds_deletes_the_rest_and_updates_the_seeds(group, news):
    make_task(group, id="seed", is_seed=True)
    make_task(group, id="rest")
    news()
    control.reset_group(group.pk)

    assert set(kinds(news())) == {("delete", "rest"), ("update", "seed")}


def test_a_hold_is_told_for_what_is_left_of_the_workgroup(group, news):
    make_task(group, id="held", workgroup="w")
    make_task(group, id="free")
    done = make_task(group, id="done", workgroup="w")
    edit.complete_task(group.pk, done.pk)
    news()
    limits_and_holds.hold_workgroup("w", seconds=500)

    (message,) = news()

    assert message["task"]["id"] == "held"
    assert message["task"]["runAfter"] > wire.time(Task.objects.get(pk="free").run_after)


def test_what_a_hold_told_is_so_when_it_has_passed_and_no_more_when_it_is_opened(group, news):
    make_task(group, id="held", workgroup="w")
    news()
    limits_and_holds.hold_workgroup("w", seconds=0.5)
    (held,) = news()
    wait_until(lambda: not Workgroup.objects.filter(held_until__gt=Now()).exists())

    passed = wire.task(Task.objects.get())
    limits_and_holds.hold_workgroup("w", seconds=0)
    (opened,) = news()

    assert passed == held["task"] | {"state": "ready"}
    assert passed["runAfter"] > opened["task"]["runAfter"]
    assert opened["task"]["runAfter"] == wire.time(Task.objects.get().run_after)


def test_a_hold_of_too_many_tasks_is_a_reload(group, news, monkeypatch):
    monkeypatch.setattr(messages, "MOST_HELD", 3)
    create.create_tasks(group.pk, [{"worker": "w", "workgroup": "w"}] * 4)
    news()
    limits_and_holds.hold_workgroup("w", seconds=5)

    assert news() == [{"type": "reload", "change": BEHIND}]


def test_too_many_tasks_are_a_reload(group, news, monkeypatch):
    create.create_tasks(group.pk, [{"worker": "w"}] * 5)
    news()
    monkeypatch.setattr("tasks.store.changes.TOLD_ONE_BY_ONE", 4)
    control.pause_group(group.pk)

    told = news()

    assert [each["type"] for each in told] == ["update", "reload"]
    assert told[0]["taskGroup"]["isPaused"] is True


def test_too_much_text_is_a_reload(group, news, monkeypatch):
    monkeypatch.setattr(messages, "MOST_CHARACTERS", 10_000)
    create.create_tasks(group.pk, [{"worker": "w", "input": "x" * 1_000}] * 20)

    assert news() == [{"type": "reload", "change": BEHIND}]


def test_groups_share_what_is_told_in_one_look(monkeypatch):
    names = ["a", "b"]
    for name in names:
        make_group(id=name)
    tail = Tail()
    tail.start(names)
    for name in names:
        create.create_tasks(name, [{"id": f"{name}-t", "input": "x" * 5_000}])
    monkeypatch.setattr(messages, "MOST_IN_ALL", 10_000)

    told = messages.messages(tail.read(names), names, BEHIND, before=dict.fromkeys(names, BEFORE))

    assert [json.loads(texts[-1])["type"] for texts in told.values()] == ["create", "reload"]


def test_what_is_gone_by_now_is_not_told(group, news):
    make_task(group, id="t")
    Task.objects.filter(pk="t").delete()  # by somebody who tells nobody

    assert news() == []


def test_nothing_of_other_groups_is_told(group, news):
    other = make_task()
    control.delete_group(other.group_id)

    assert news() == []

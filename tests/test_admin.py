"""The admin: every write is a verb, every refusal a sentence, every list a few queries."""

import re
from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tasks import control, create, edit, limits_and_holds
from tasks.admin import tasks as task_admin
from tasks.models import (
    Attempt,
    Change,
    Limit,
    ParentEdge,
    SchedulerProcess,
    Task,
    TaskGroup,
    Worker,
    Workgroup,
)
from tasks.upkeep import expired_rows

from .factories import claim_all, make_group, wire

FUTURE = "2999-01-01T00:00:00Z"


@pytest.fixture
def admin(admin_client: Client) -> Client:
    return admin_client


def url(model: str, page: str, *args: str) -> str:
    return reverse(f"admin:crew_{model}_{page}", args=args)


def make_graph() -> None:
    create.create_group(
        id="g",
        name="demo",
        tasks=[
            {"id": "a", "worker": "w", "isSeed": True, "input": {"n": 1}},
            {"id": "b", "worker": "w", "parentIds": ["a"]},
            {"id": "c", "worker": "w", "parentIds": ["a", "b"]},
        ],
    )


def lease(id_: str) -> None:
    Task.objects.filter(pk=id_).update(leased_by="s1", leased_at=Now(), attempt=1)


def attempts(id_: str, count: int) -> None:
    Task.objects.filter(pk=id_).update(attempt=count)
    for number in range(1, count + 1):
        Attempt.objects.create(
            task_id=id_,
            number=number,
            worker="w",
            scheduler="s1",
            outcome="failed",
            status=500,
            error=f"<b>boom {number}</b>",
            started_at=Now(),
            finished_at=Now(),
        )


def task_form(id_: str, **changed: Any) -> dict[str, Any]:
    """What a browser sends for the change form of a task when only these fields are touched."""
    task = Task.objects.get(pk=id_)
    parents = ParentEdge.objects.filter(child=id_).order_by("position")
    form = {
        "name": task.name,
        "worker": task.worker,
        "workgroup": task.workgroup,
        "key": task.key,
        "priority": task.priority,
        "remaining_attempts": task.remaining_attempts,
        "error_delay_in_seconds": task.error_delay_in_seconds,
        "run_after_0": f"{task.run_after:%Y-%m-%d}",
        "run_after_1": f"{task.run_after:%H:%M:%S}",
        "input": "" if task.input is None else '{\r\n  "n": 1\r\n}',
        "output": "",
        "parents": "\r\n".join(parents.values_list("parent_id", flat=True)),
        "attempts-TOTAL_FORMS": 0,
        "attempts-INITIAL_FORMS": 0,
    }
    for name in ("is_paused", "is_seed", "is_complete"):
        if getattr(task, name):
            form[name] = "on"
    return form | changed


def new_task(**fields: Any) -> dict[str, Any]:
    form = {
        "group": "g",
        "priority": 0,
        "remaining_attempts": 5,
        "error_delay_in_seconds": 60,
    }
    return form | fields


def act(client: Client, model: str, action: str, *ids: str, **more: Any) -> Any:
    data = {"action": action, "_selected_action": list(ids)} | more
    return client.post(url(model, "changelist"), data, follow=True)


def result(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])


# --- Pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["taskgroup", "task", "worker", "workgroup", "schedulerprocess", "attempt"]
)
def test_every_list_can_be_shown_and_searched(admin: Client, model: str) -> None:
    make_graph()
    attempts("a", 2)
    limits_and_holds.hold_workgroup("wg", seconds=5)
    SchedulerProcess.objects.create(pk="s1", host="h", pid=1, slots=1)

    assert admin.get(url(model, "changelist")).status_code == 200
    assert admin.get(url(model, "changelist"), {"q": "a"}).status_code == 200


@pytest.mark.parametrize("model", ["taskgroup", "task", "worker", "workgroup"])
def test_every_add_form_can_be_shown(admin: Client, model: str) -> None:
    assert admin.get(url(model, "add")).status_code == 200


@pytest.mark.parametrize("model", ["schedulerprocess", "attempt"])
def test_what_the_machine_writes_is_read_only(admin: Client, model: str) -> None:
    make_graph()
    attempts("a", 1)
    SchedulerProcess.objects.create(pk="s1", host="h", pid=1, slots=1)
    pk = "s1" if model == "schedulerprocess" else str(Attempt.objects.get().pk)

    assert admin.get(url(model, "change", pk)).status_code == 200
    assert admin.post(url(model, "change", pk), {}).status_code == 403
    assert admin.post(url(model, "delete", pk), {"post": "yes"}).status_code == 403
    assert admin.get(url(model, "add")).status_code == 403


def test_a_list_of_tasks_costs_the_same_for_one_and_for_fifty(admin: Client) -> None:
    create.create_group(id="g", tasks=[{"id": "t0", "worker": "w"}])
    with CaptureQueriesContext(connection) as one:
        admin.get(url("task", "changelist"))
    create.create_tasks("g", [{"id": f"t{n}", "parentIds": ["t0"]} for n in range(1, 50)])
    with CaptureQueriesContext(connection) as fifty:
        admin.get(url("task", "changelist"))

    assert len(fifty) == len(one) <= 8


def test_lists_of_groups_and_attempts_cost_the_same_for_many(admin: Client) -> None:
    make_graph()
    for n in range(20):
        create.create_group(id=f"g{n}")
    attempts("a", 20)

    for model in ("taskgroup", "attempt"):
        with CaptureQueriesContext(connection) as queries:
            admin.get(url(model, "changelist"))
        assert len(queries) <= 8


def test_the_list_says_in_words_what_each_task_waits_for(admin: Client) -> None:
    make_graph()
    create.create_tasks(
        "g",
        [
            {"id": "later", "worker": "w", "runAfter": FUTURE},
            {"id": "paused", "worker": "w", "isPaused": True},
            {"id": "failed", "worker": "w", "remainingAttempts": 0},
            {"id": "nobody"},
            {"id": "done", "isComplete": True},
            {"id": "ready", "worker": "w"},
            {"id": "merged", "worker": "w", "key": "k"},
        ],
    )
    lease("a")
    Task.objects.filter(pk="merged").update(merged_into="a")

    page = admin.get(url("task", "changelist")).content.decode()

    for text in (
        "executing",
        "waiting for 1 parent<",
        "waiting for 2 parents<",
        "scheduled 2999-01-01 00:00",
        ">paused<",
        ">no attempts left<",
        ">no worker<",
        ">complete<",
        ">ready<",
        "merged into a",
    ):
        assert text in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state": "blocked"}, {"b", "c"}),
        ({"state": "ready"}, {"a"}),
        ({"worker": "nobody"}, set()),
        ({"is_paused__exact": "0", "worker": "w"}, {"a", "b", "c"}),
        ({"group__id__exact": "g"}, {"a", "b", "c"}),
        ({"q": "a"}, {"a"}),
    ],
)
def test_the_list_of_tasks_is_filtered(
    admin: Client, query: dict[str, str], found: set[str]
) -> None:
    make_graph()

    page = admin.get(url("task", "changelist"), query)

    assert {task.pk for task in page.context["cl"].result_list} == found


def test_the_page_of_a_task_shows_graph_attempts_and_errors_escaped(admin: Client) -> None:
    make_graph()
    attempts("b", 60)
    Task.objects.filter(pk="b").update(errors=["<script>x</script>"])

    page = admin.get(url("task", "change", "b")).content.decode()

    assert f'<a href="{url("task", "change", "a")}">a</a>' in page
    assert f'<a href="{url("task", "change", "c")}">c</a>' in page
    assert "&lt;b&gt;boom 60&lt;/b&gt;" in page
    assert "boom 11&" in page and "boom 10&" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<script>x" not in page


def test_of_many_children_only_some_are_shown(admin: Client, monkeypatch: Any) -> None:
    make_graph()
    monkeypatch.setattr(task_admin, "LINKS", 1)

    page = admin.get(url("task", "change", "a")).content.decode()
    asked = act(admin, "task", "delete_selected", "a", "b", "c").content.decode()

    assert "</a> and more" in page
    assert "and 2 more" in asked


def test_the_list_of_tasks_does_not_load_their_data(admin: Client) -> None:
    make_graph()

    page = admin.get(url("task", "changelist"))

    task = page.context["cl"].result_list[0]
    assert task.get_deferred_fields() == {"input", "output", "errors"}


def test_the_page_of_a_task_asks_as_often_for_one_attempt_as_for_many(admin: Client) -> None:
    make_graph()
    attempts("a", 1)
    admin.get(url("task", "change", "a"))  # fills what is only asked for once
    with CaptureQueriesContext(connection) as one:
        admin.get(url("task", "change", "a"))
    Attempt.objects.all().delete()
    attempts("a", 30)
    with CaptureQueriesContext(connection) as many:
        admin.get(url("task", "change", "a"))

    assert len(many) == len(one)


def test_the_page_of_a_task_shows_its_json_pretty(admin: Client) -> None:
    make_graph()

    page = admin.get(url("task", "change", "a")).content.decode()

    assert "{\n  &quot;n&quot;: 1\n}" in page


def test_the_page_of_a_group_shows_its_progress(admin: Client) -> None:
    make_graph()

    page = admin.get(url("taskgroup", "change", "g")).content.decode()

    assert "0/3 complete, 0 executing, 2 blocked" in page


def test_ids_with_special_characters_have_pages(admin: Client) -> None:
    create.create_group(id="g:1_x.y", tasks=[{"id": "a:1_b", "worker": "w"}])

    page = admin.get(url("task", "changelist"))
    assert page.status_code == 200
    assert admin.get(url("task", "change", "a_3A1_5Fb")).status_code == 200
    assert "g_3A1_5Fx.y" in page.content.decode()


# --- Tasks -----------------------------------------------------------------------------------


def test_only_changed_fields_reach_the_verb(admin: Client, monkeypatch: Any) -> None:
    make_graph()
    seen: list[Any] = []
    monkeypatch.setattr(edit, "edit_task", lambda *args: seen.append(args))

    admin.post(url("task", "change", "a"), task_form("a", name="new", is_paused="on"))
    admin.post(url("task", "change", "c"), task_form("c", parents="b", input='{"x": 1}'))
    admin.post(url("task", "change", "b"), task_form("b"))

    assert seen == [
        ("g", "a", {"name": "new", "is_paused": True}),
        ("g", "c", {"input": {"x": 1}, "parent_ids": ("b",)}),
    ]


def test_saving_a_task_keeps_a_lease_taken_meanwhile(admin: Client) -> None:
    make_graph()
    form = task_form("a", is_paused="on")
    lease("a")

    admin.post(url("task", "change", "a"), form)

    task = Task.objects.get(pk="a")
    assert (task.is_paused, task.leased_by, task.attempt) == (True, "s1", 1)


def test_editing_an_executing_task_is_a_form_error(admin: Client) -> None:
    make_graph()
    form = task_form("a", name="new")
    lease("a")

    page = admin.post(url("task", "change", "a"), form)

    assert page.status_code == 200
    assert "task a is executing" in page.content.decode()
    assert 'value="new"' in page.content.decode()
    assert Task.objects.get(pk="a").name == ""


def shown(client: Client, model: str, id_: str) -> dict[str, Any]:
    """What a browser that opened the form would send back untouched."""
    form = client.get(url(model, "change", id_)).context["adminform"].form
    sent: dict[str, Any] = {"attempts-TOTAL_FORMS": 0, "attempts-INITIAL_FORMS": 0}
    for name in form.fields:
        value = form[name].field.prepare_value(form[name].value())
        if isinstance(value, datetime):
            value = timezone.localtime(value)
            sent |= {f"{name}_0": f"{value:%Y-%m-%d}", f"{name}_1": f"{value:%H:%M:%S}"}
        elif value is True:
            sent[name] = "on"
        elif value is not False:
            sent[name] = "" if value is None else value
    return sent


def test_the_second_of_two_operators_is_shown_that_the_task_changed_meanwhile(
    admin: Client,
) -> None:
    make_graph()
    first, second = shown(admin, "task", "a"), shown(admin, "task", "a")

    admin.post(url("task", "change", "a"), first | {"name": "first"})
    page = admin.post(url("task", "change", "a"), second | {"name": "second", "key": "k"})

    assert page.status_code == 200
    assert "changed meanwhile: name" in page.content.decode()
    assert 'value="second"' in page.content.decode()
    task = Task.objects.get(pk="a")
    assert (task.name, task.key) == ("first", "")


def test_saving_again_after_that_writes_what_stands_in_the_form(admin: Client) -> None:
    make_graph()
    stale = shown(admin, "task", "a") | {"name": "second"}
    edit.edit_task("g", "a", {"name": "first"})
    page = admin.post(url("task", "change", "a"), stale)
    seen = page.context["adminform"].form["seen"].value()

    admin.post(url("task", "change", "a"), stale | {"seen": seen})

    assert Task.objects.get(pk="a").name == "second"


@pytest.mark.parametrize("field", ["worker", "input", "parents", "priority", "is_paused"])
def test_a_change_of_any_field_by_another_is_shown(admin: Client, field: str) -> None:
    make_graph()
    changes = {
        "worker": {"worker": "other"},
        "input": {"input": [2]},
        "parents": {"parent_ids": ("a",)},
        "priority": {"priority": 3},
        "is_paused": {"is_paused": True},
    }[field]
    stale = shown(admin, "task", "c")
    edit.edit_task("g", "c", changes)

    page = admin.post(url("task", "change", "c"), stale | {"name": "mine"})

    assert "changed meanwhile" in page.content.decode()
    assert Task.objects.get(pk="c").name == ""


def test_what_an_attempt_wrote_meanwhile_is_kept_and_no_hindrance(admin: Client) -> None:
    make_graph()
    form = shown(admin, "task", "a")
    Task.objects.filter(pk="a").update(remaining_attempts=3, run_after=FUTURE, errors=["boom"])

    answer = admin.post(url("task", "change", "a"), form | {"name": "new"})

    assert answer.status_code == 302
    task = Task.objects.get(pk="a")
    assert (task.name, task.remaining_attempts, task.errors) == ("new", 3, ["boom"])
    assert task.run_after.year == 2999


def test_attempts_that_both_changed_are_shown(admin: Client) -> None:
    make_graph()
    form = shown(admin, "task", "a")
    Task.objects.filter(pk="a").update(remaining_attempts=3)

    page = admin.post(url("task", "change", "a"), form | {"remaining_attempts": 9})

    assert "changed meanwhile: remaining attempts" in page.content.decode()
    assert Task.objects.get(pk="a").remaining_attempts == 3


def test_a_big_number_survives_the_form(admin: Client) -> None:
    make_graph()
    form = shown(admin, "task", "a") | {"input": '{"n": 12345678901234567890}'}

    admin.post(url("task", "change", "a"), form)

    assert Task.objects.get(pk="a").input == {"n": 12345678901234567890}
    assert "12345678901234567890" in shown(admin, "task", "a")["input"]


def test_what_is_emptied_in_the_form_is_empty(admin: Client) -> None:
    make_graph()
    Task.objects.update(input={"n": 1}, output=2)
    form = shown(admin, "task", "b") | {"input": "", "output": "", "parents": "", "worker": ""}

    admin.post(url("task", "change", "b"), form)

    task = Task.objects.get(pk="b")
    assert (task.input, task.output, task.worker) == (None, None, "")
    assert not ParentEdge.objects.filter(child="b").exists()


def test_renaming_a_group_that_was_paused_meanwhile_does_not_resume_it(admin: Client) -> None:
    make_graph()
    form = shown(admin, "taskgroup", "g")
    control.pause_group("g")

    page = admin.post(url("taskgroup", "change", "g"), form | {"name": "new"})

    assert "changed meanwhile: is paused" in page.content.decode()
    group = TaskGroup.objects.get(pk="g")
    assert (group.name, group.is_paused) == ("demo", True)


def test_a_print_that_no_form_of_ours_made_is_as_none(admin: Client) -> None:
    make_graph()

    for seen in ("[1]", "{", "7"):
        admin.post(url("task", "change", "a"), task_form("a", name=f"n{seen}", seen=seen))
        assert Task.objects.get(pk="a").name == f"n{seen}"


def test_after_saving_comes_the_page_of_the_task_or_the_group(admin: Client) -> None:
    make_graph()

    pages = [
        admin.post(url("task", "change", "a"), task_form("a", name="x")),
        admin.post(url("task", "add"), new_task(new_id="n")),
        admin.post(url("task", "add"), new_task(new_id="m", _addanother="1")),
        admin.post(url("taskgroup", "add"), {"new_id": "h", "name": "H"}),
    ]

    assert [page["Location"] for page in pages] == [
        url("task", "change", "a"),
        url("task", "change", "n"),
        f"{url('task', 'add')}?group=g",
        url("taskgroup", "change", "h"),
    ]


def test_add_child_comes_with_group_and_parents(admin: Client) -> None:
    make_graph()

    page = admin.get(url("task", "add") + "?group=g&parents=a,b")

    form = page.context["adminform"].form
    assert (form["group"].value(), form["parents"].value()) == ("g", "a,b")


def test_completing_a_task_by_hand_frees_its_children(admin: Client) -> None:
    make_graph()

    admin.post(url("task", "change", "a"), task_form("a", is_complete="on", output="[1]"))

    assert Task.objects.get(pk="a").output == [1]
    assert Task.objects.get(pk="b").pending_parents == 0


@pytest.mark.parametrize("parents", ["nope", "c"])
def test_parents_that_cannot_be_are_a_form_error(admin: Client, parents: str) -> None:
    make_graph()

    page = admin.post(url("task", "change", "b"), task_form("b", parents=parents))

    assert page.status_code == 200
    assert page.context["adminform"].form.non_field_errors()
    assert Task.objects.get(pk="b").pending_parents == 1


def test_a_task_is_added_through_create(admin: Client) -> None:
    make_graph()
    form = new_task(new_id="d", worker="w2", input='{"k": [true]}', parents="a, b\r\nc")

    page = admin.post(url("task", "add"), form)

    assert page.status_code == 302
    task = Task.objects.get(pk="d")
    assert (task.input, task.pending_parents, task.worker) == ({"k": [True]}, 3, "w2")
    assert Worker.objects.filter(pk="w2").exists()
    assert TaskGroup.objects.get(pk="g").task_count == 4


def test_a_task_may_be_added_without_an_id_and_with_a_time(admin: Client) -> None:
    make_graph()
    form = new_task(name="x", run_after_0="2999-01-01", run_after_1="10:00:00")

    page = admin.post(url("task", "add"), form | {"_continue": "yes"})

    task = Task.objects.get(name="x")
    assert task.run_after.year == 2999
    assert page["Location"] == url("task", "change", task.pk)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", '{"a": 1, "a": 2}'),
        ("input", "NaN"),
        ("input", "[" * 100 + "]" * 100),
        ("input", '"\\u0000"'),
        ("worker", "../x"),
        ("new_id", "a b"),
        ("remaining_attempts", "1001"),
        ("error_delay_in_seconds", "-1"),
        ("priority", "11"),
        ("group", "nope"),
    ],
)
def test_a_field_that_cannot_be_is_a_form_error(admin: Client, field: str, value: str) -> None:
    make_graph()

    page = admin.post(url("task", "add"), new_task(**{field: value}))

    assert page.status_code == 200
    assert page.context["adminform"].form.errors
    assert Task.objects.count() == 3


def test_wrong_json_is_shown_again_as_typed(admin: Client) -> None:
    make_graph()

    page = admin.post(url("task", "change", "a"), task_form("a", input='{"n": <oops>'))

    assert "{&quot;n&quot;: &lt;oops&gt;" in page.content.decode()


def test_an_id_in_use_is_a_form_error(admin: Client) -> None:
    make_graph()

    page = admin.post(url("task", "add"), new_task(new_id="a"))

    assert page.status_code == 200
    assert "a task with the id a exists already" in page.content.decode()


def test_deleting_a_task_takes_what_is_left_without_parents(admin: Client) -> None:
    make_graph()

    asked = admin.get(url("task", "delete", "a"))
    admin.post(url("task", "delete", "a"), {"post": "yes"})

    assert "left without any parent" in asked.content.decode()
    assert not Task.objects.exists()
    assert TaskGroup.objects.get(pk="g").task_count == 0


def test_tasks_are_deleted_in_bulk_after_a_question(admin: Client) -> None:
    make_graph()

    asked = act(admin, "task", "delete_selected", "b", "c")
    assert Task.objects.count() == 3
    act(admin, "task", "delete_selected", "b", "c", post="yes")

    assert asked.status_code == 200
    assert list(Task.objects.values_list("id", flat=True)) == ["a"]
    assert TaskGroup.objects.get(pk="g").task_count == 1


def test_actions_on_tasks(admin: Client) -> None:
    make_graph()
    Task.objects.filter(pk="b").update(remaining_attempts=0, errors=["x"])

    assert result(act(admin, "task", "pause", "a", "b")) == "Paused 2 tasks."
    assert set(Task.objects.filter(is_paused=True).values_list("id", flat=True)) == {"a", "b"}
    act(admin, "task", "resume", "b")
    act(admin, "task", "retry", "b")
    page = act(admin, "task", "reset", "b").content.decode()
    assert "Yes, reset 1 task" in page
    assert Task.objects.get(pk="b").errors == ["x"]
    act(admin, "task", "reset", "b", confirmed="yes")

    task = Task.objects.get(pk="b")
    assert (task.is_paused, task.remaining_attempts, task.errors) == (False, 5, [])


def test_resetting_an_executing_task_is_shown(admin: Client) -> None:
    make_graph()
    lease("a")

    answer = act(admin, "task", "reset", "a", confirmed="yes")

    assert result(answer) == "task a is executing"


def test_actions_span_groups(admin: Client) -> None:
    make_graph()
    create.create_group(id="h", tasks=[{"id": "z"}])

    assert result(act(admin, "task", "pause", "a", "z")) == "Paused 2 tasks."


# --- Groups ----------------------------------------------------------------------------------


def test_a_group_is_added_and_renamed(admin: Client) -> None:
    admin.post(url("taskgroup", "add"), {"new_id": "g1", "name": "one", "is_paused": "on"})
    group = TaskGroup.objects.get(pk="g1")
    assert (group.name, group.is_paused) == ("one", True)

    admin.post(url("taskgroup", "change", "g1"), {"name": "two", "is_paused": "on"})

    assert TaskGroup.objects.get(pk="g1").name == "two"
    assert Change.objects.filter(group_id="g1", group_event="update").exists()


def test_a_group_id_in_use_is_a_form_error(admin: Client) -> None:
    make_graph()

    page = admin.post(url("taskgroup", "add"), {"new_id": "g", "name": "x"})

    assert page.status_code == 200
    assert "a task group with the id g exists already" in page.content.decode()


def test_pausing_a_group_in_its_form_pauses_its_tasks(admin: Client) -> None:
    make_graph()

    admin.post(url("taskgroup", "change", "g"), {"name": "demo", "is_paused": "on"})

    assert Task.objects.filter(is_paused=True).count() == 3


def test_actions_on_groups(admin: Client) -> None:
    make_graph()
    Task.objects.filter(pk="a").update(remaining_attempts=0)

    assert result(act(admin, "taskgroup", "pause", "g")) == "Paused 1 group: 3 tasks changed."
    assert TaskGroup.objects.get(pk="g").is_paused
    act(admin, "taskgroup", "resume", "g")
    assert not Task.objects.filter(is_paused=True).exists()
    act(admin, "taskgroup", "retry", "g")
    assert Task.objects.get(pk="a").remaining_attempts == 5


def test_a_reset_asks_first_and_says_what_goes(admin: Client) -> None:
    make_graph()
    create.create_group(id="h", name="plain", tasks=[{"id": "z"}])

    page = " ".join(act(admin, "taskgroup", "reset", "g", "h").content.decode().split())

    assert "demo: 1 seed stays, 2 tasks go." in page
    assert "plain: no seeds, so its 1 task stays." in page
    assert Task.objects.count() == 4

    answer = act(admin, "taskgroup", "reset", "g", "h", confirmed="yes")

    assert result(answer) == "Reset 2 groups; 2 tasks deleted."
    assert set(Task.objects.values_list("id", flat=True)) == {"a", "z"}


def test_groups_are_deleted_with_all_they_hold(admin: Client) -> None:
    make_graph()
    attempts("a", 2)
    create.create_group(id="h", tasks=[{"id": "z"}])

    assert "demo: 3 tasks" in admin.get(url("taskgroup", "delete", "g")).content.decode()
    admin.post(url("taskgroup", "delete", "g"), {"post": "yes"})
    act(admin, "taskgroup", "delete_selected", "h", post="yes")

    for model in (TaskGroup, Task, ParentEdge, Attempt):
        assert not model.objects.exists()
    assert Change.objects.filter(group_event="delete").count() == 2


def test_a_large_group_is_not_deleted_by_a_form_but_by_its_page(
    admin: Client, monkeypatch: Any
) -> None:
    make_graph()
    create.create_group(id="h", tasks=[{"id": "z"}])
    monkeypatch.setattr("tasks.admin.groups.LARGE", 2)

    answer = admin.post(url("taskgroup", "delete", "g"), {"post": "yes"}, follow=True)
    many = act(admin, "taskgroup", "delete_selected", "g", "h", post="yes")

    assert "has 3 tasks: press Delete on its own page" in answer.content.decode()
    assert "has 3 tasks: press Delete on its own page" in many.content.decode()
    assert list(TaskGroup.objects.values_list("pk", flat=True)) == ["g"]
    assert Task.objects.filter(group_id="g").count() == 3


def test_a_group_that_went_meanwhile_is_shown(admin: Client, monkeypatch: Any) -> None:
    make_graph()
    pause = control.pause_group

    def too_late(group_id: str) -> int:
        control.delete_group(group_id)
        return pause(group_id)

    monkeypatch.setattr(control, "pause_group", too_late)

    assert result(act(admin, "taskgroup", "pause", "g")) == "task group not found"


# --- Workers, workgroups, rights -------------------------------------------------------------


def test_a_worker_gets_a_limit(admin: Client) -> None:
    make_graph()

    admin.post(url("worker", "change", "w"), {"max_concurrency": "3"})
    admin.post(url("worker", "add"), {"name": "new", "max_concurrency": ""})
    refused = admin.post(url("worker", "add"), {"name": "../x"})

    assert Worker.objects.get(pk="w").max_concurrency == 3
    assert Worker.objects.get(pk="new").max_concurrency is None
    assert refused.status_code == 200
    assert Worker.objects.count() == 2


@pytest.mark.parametrize("how", ["one", "many"])
def test_a_worker_that_tasks_wait_for_is_deleted_to_its_defaults(
    admin: Client, settings: Any, how: str
) -> None:
    """Else neither the default limit nor its rest would hold for it any more."""
    settings.CREW_WORKER_MAX_CONCURRENCY = 1
    make_group(tasks=[wire(worker="w") for _ in range(3)])
    Worker.objects.filter(pk="w").update(max_concurrency=2)
    Worker.objects.create(pk="idle", max_concurrency=2)
    Limit.objects.create(kind="worker", name="w", ramp=100.0)

    if how == "one":
        for name in ("w", "idle"):
            admin.post(url("worker", "delete", name), {"post": "yes"})
    else:
        chosen = {"action": "delete_selected", "_selected_action": ["w", "idle"], "post": "yes"}
        admin.post(url("worker", "changelist"), chosen)
    expired_rows.prune()

    assert list(Worker.objects.values_list("name", "max_concurrency")) == [("w", None)]
    assert Limit.objects.filter(name="w").exists()
    assert len(claim_all()) == 1


def test_workgroups_are_held_and_opened(admin: Client) -> None:
    admin.post(url("workgroup", "add"), {"name": "wg", "seconds": "5"})
    first = Workgroup.objects.get(pk="wg").held_until
    act(admin, "workgroup", "hold", "wg")
    held = Workgroup.objects.get(pk="wg").held_until
    assert 50 < (held - first).total_seconds() < 70

    act(admin, "workgroup", "open_now", "wg")

    assert Workgroup.objects.get(pk="wg").held_until is None


@pytest.fixture
def viewer(db: None) -> Client:
    user = User.objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="crew", codename__startswith="view_")
    )
    client = Client()
    client.force_login(user)
    return client


def test_who_may_only_look_cannot_write(viewer: Client) -> None:
    make_graph()
    attempts("a", 1)

    assert viewer.get(url("task", "change", "a")).status_code == 200
    assert viewer.get(url("taskgroup", "change", "g")).status_code == 200
    assert viewer.post(url("task", "change", "a"), task_form("a", name="x")).status_code == 403
    assert viewer.post(url("task", "delete", "a"), {"post": "yes"}).status_code == 403
    act(viewer, "task", "pause", "a")
    act(viewer, "taskgroup", "reset", "g", confirmed="yes")
    act(viewer, "taskgroup", "delete_selected", "g", post="yes")

    task = Task.objects.get(pk="a")
    assert (task.name, task.is_paused, Task.objects.count()) == ("", False, 3)


@pytest.mark.parametrize("action", ["pause", "resume", "retry"])
def test_a_busy_database_is_shown_and_changes_nothing(admin: Client, monkeypatch, action) -> None:
    make_graph()
    for verb in ("pause_group", "resume_group", "retry_group"):
        monkeypatch.setattr(control, verb, _deadlock)

    answer = admin.post(
        url("taskgroup", "changelist"),
        {"action": action, "_selected_action": ["g"]},
        follow=True,
    )

    assert answer.status_code == 200
    assert "The database is busy; nothing was changed." in result(answer)


def _deadlock(*args: object, **kwargs: object) -> None:
    raise OperationalError("deadlock detected")


def test_a_reset_of_all_that_a_filter_finds_says_how_many_and_takes_no_others(
    admin: Client,
) -> None:
    make_graph()
    create.create_group(id="h", tasks=[{"id": f"z{n}", "name": "z"} for n in range(60)])
    Task.objects.update(errors=["x"])
    found = f"{url('task', 'changelist')}?q=z"
    asked = {"action": "reset", "_selected_action": ["z1"], "select_across": "1"}

    page = admin.post(found, asked)

    assert "Yes, reset 60 tasks" in page.content.decode()
    assert Task.objects.filter(errors=[]).count() == 0
    assert result(admin.post(found, asked | {"confirmed": "yes"}, follow=True)) == "Reset 60 tasks."
    assert set(Task.objects.exclude(errors=[]).values_list("group_id", flat=True)) == {"g"}


def test_times_in_lists_have_seconds_and_a_zone(admin: Client) -> None:
    make_graph()

    page = admin.get(url("taskgroup", "changelist")).content.decode()

    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", page)

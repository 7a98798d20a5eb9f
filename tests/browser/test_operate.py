"""What an operator does, by the pages alone; what came of it is looked up in the database."""

import re

import pytest

from tasks import create
from tasks.engine.settle import settle
from tasks.engine.settlement import Settlement
from tasks.models import AuditEntry, Task, TaskGroup, Worker, Workgroup
from tasks.rules.decide import Failed
from tasks.rules.transcript import Transcript

from ..factories import claim_one, complete, fail, make_group, make_task
from ..stub_worker import StubWorker, answer, in_turn
from .driver import expect

ROW = "#panel-tasks tbody tr"


def test_a_group_and_its_tasks_are_made_by_forms(visit, boss):
    page = visit(boss).go("/admin/crew/taskgroup/add/")
    page.get_by_label("Name").fill("Nightly import")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="Nightly import").first.click()

    page.get_by_role("link", name="Add task").click()
    fill_task(page, "Fetch", "worker-a", '{"url": "https://example.org"}')
    page.goto(f"/admin/crew/task/{Task.objects.get().pk}/change/")
    page.get_by_role("link", name="Add child").click()
    fill_task(page, "Store", "worker-b", "[12345678901234567890]")

    child = Task.objects.get(name="Store")
    parent = Task.objects.get(name="Fetch")
    assert child.group == parent.group == TaskGroup.objects.get(name="Nightly import")
    assert (child.worker, child.input, child.pending_parents) == (
        "worker-b",
        [12345678901234567890],
        1,
    )
    assert parent.input == {"url": "https://example.org"}


def test_a_large_group_goes_part_by_part(visit, boss):
    """So that nobody waits for it; what it holds does not start meanwhile."""
    group = make_group()
    first, *_ = create.create_tasks(group.pk, [{"worker": "worker-a"} for _ in range(2_050)])
    make_task(group, parents=[Task.objects.get(pk=first)])
    page = visit(boss).go(f"/admin/crew/taskgroup/{group.pk}/change/")

    page.locator("#crew-actions").get_by_role("button", name="Delete…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("its 2,051 tasks go for good")
    dialog.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/admin/crew/taskgroup/")

    assert not TaskGroup.objects.exists()
    entries = AuditEntry.objects.filter(group_id=group.pk).order_by("id")
    assert list(entries.values_list("verb", "kind", "count")) == [
        ("cancel", "group", 2_051),
        ("delete", "task", 2_000),
        ("delete", "task", 51),
        ("delete", "group", 0),
    ]


def test_what_a_form_refuses_is_shown_and_nothing_is_made(visit, boss):
    group = make_group()
    page = visit(boss).go(f"/admin/crew/task/add/?group={group.pk}")

    fill_task(page, "Fetch", "../elsewhere", "{not JSON")

    expect(page.locator(".errorlist, .text-red-600").first).to_be_visible()
    expect(page.get_by_text("This is not JSON we take")).to_be_visible()
    assert not Task.objects.exists()


def fill_task(page, name, worker, input_):
    page.get_by_label(re.compile("^Name:?$")).fill(name)
    page.get_by_label(re.compile("^Worker:?$")).fill(worker)
    page.get_by_label("Input").fill(input_)
    page.get_by_role("button", name="Save", exact=True).click()


def test_a_group_is_paused_and_resumed(visit, boss):
    group = make_group()
    make_task(group, name="Fetch")
    page = at_group(visit(boss), group)

    button(page, "Pause").click()
    expect(page.locator("#crew-progress")).to_contain_text("group paused")
    expect(page.locator(ROW)).to_contain_text("paused")
    button(page, "Resume").click()

    expect(page.locator("#crew-progress")).not_to_contain_text("group paused")
    expect(page.locator(ROW)).to_contain_text("ready")
    group.refresh_from_db()
    assert not group.is_paused


def test_a_task_is_paused_and_resumed_in_its_row(visit, boss):
    group = make_group()
    make_task(group, name="Fetch")
    make_task(group, name="Store")
    page = at_group(visit(boss), group)

    page.get_by_role("button", name="Pause Fetch").click()
    expect(row(page, "Fetch")).to_contain_text("paused")
    assert Task.objects.get(is_paused=True).name == "Fetch"
    page.get_by_role("button", name="Resume Fetch").click()

    expect(row(page, "Fetch")).to_contain_text("ready")
    assert not Task.objects.filter(is_paused=True).exists()


def test_a_failed_task_is_retried_and_completes(visit, boss, work):
    group = make_group()
    make_task(group, name="Fetch", worker="any", remaining_attempts=1, error_delay_in_seconds=0)
    wrong = answer(500, b'{"error": "the disk is full"}')
    with StubWorker(in_turn(wrong, answer())) as worker, work(worker.url):
        page = at_group(visit(boss), group)
        expect(row(page, "Fetch")).to_contain_text("failed")
        expect(row(page, "Fetch")).to_contain_text("the disk is full")

        page.get_by_role("button", name="Retry Fetch").click()
        page.get_by_role("dialog").get_by_role("button", name="Retry").click()

        expect(row(page, "Fetch")).to_contain_text("complete")


def test_all_that_failed_in_one_way_is_retried_at_once(visit, boss):
    group = make_group()
    for number in range(3):
        failed(group, f"disk {number} is full")
    other = failed(group, "nobody is there")
    page = at_group(visit(boss), group)
    page.get_by_role("tab", name="Failures").click()

    kind = page.locator("#panel-failures li").filter(has_text="is full")
    kind.get_by_role("button", name="Retry 3").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Retry 3 tasks")
    dialog.get_by_label("Attempts").fill("7")
    dialog.get_by_role("button", name="Retry").click()

    expect(kind).to_have_count(0)
    expect(page.locator("#panel-failures li")).to_contain_text("nobody is there")
    left = Task.objects.exclude(pk=other.pk).values_list("remaining_attempts", flat=True)
    assert set(left) == {7}
    other.refresh_from_db()
    assert other.remaining_attempts == 0


def test_a_reset_tells_how_many_seeds_stay_and_how_many_tasks_go(visit, boss):
    group = make_group()
    seed = make_task(group, name="Seed", is_seed=True)
    for _ in range(2):
        make_task(group, parents=[seed])
    page = at_group(visit(boss), group)

    button(page, "Reset…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(re.compile("1 seeds? stays?, and 2 other tasks are deleted"))
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert Task.objects.filter(group=group).count() == 3
    button(page, "Reset…").click()
    dialog.get_by_role("button", name="Reset").click()

    expect(page.locator(ROW)).to_have_count(1)
    assert Task.objects.get(group=group) == seed


def test_an_edited_input_runs_again(visit, boss):
    task = make_task(name="Fetch", input={"page": 1})
    complete(claim_one(), "first")
    page = at_task(visit(boss), task)

    button(page, "Edit input and run again…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Input").fill('{"page": 12345678901234567890}')
    dialog.get_by_role("button", name="Run").click()

    expect(page.locator("#crew-state")).to_contain_text("ready")
    task.refresh_from_db()
    assert (task.input, task.is_complete) == ({"page": 12345678901234567890}, False)


def test_null_typed_as_a_value_empties(visit, boss):
    task = make_task(name="Fetch", input={"page": 1}, output="left by a failure")
    page = at_task(visit(boss), task)
    dialog = page.get_by_role("dialog")

    button(page, "Complete by hand…").click()
    dialog.get_by_label("Output").fill("null")
    dialog.get_by_role("button", name="Complete").click()
    expect(page.locator("#crew-state")).to_contain_text("complete")
    task.refresh_from_db()
    assert (task.is_complete, task.output, task.input) == (True, None, {"page": 1})

    button(page, "Edit input and run again…").click()
    dialog.get_by_label("Input").fill(" null ")
    dialog.get_by_role("button", name="Run").click()
    expect(page.locator("#crew-state")).to_contain_text("ready")
    task.refresh_from_db()
    assert task.input is None


def test_a_task_is_completed_by_hand_and_its_child_may_start(visit, boss):
    task = make_task(name="Fetch")
    child = make_task(task.group, parents=[task])
    page = at_task(visit(boss), task)

    button(page, "Complete by hand…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Output").fill('{"done by": "a person"}')
    dialog.get_by_role("button", name="Complete").click()

    expect(page.locator("#crew-state")).to_contain_text("complete")
    task.refresh_from_db()
    child.refresh_from_db()
    assert (task.is_complete, task.output) == (True, {"done by": "a person"})
    assert child.pending_parents == 0


def test_a_held_workgroup_is_opened_from_home(visit, boss):
    Workgroup.objects.create(name="mail")
    make_task(workgroup="mail")
    page = visit(boss).go("/admin/crew/workgroup/")
    hold(page, "mail")
    page.goto("/admin/")

    line = page.locator("#crew-holds").get_by_text("mail")
    expect(line.first).to_be_visible()
    page.locator("#crew-holds").get_by_role("button", name="Open").click()

    expect(page.locator("#crew-holds")).to_contain_text("No workgroup is held")


def hold(page, name):
    page.get_by_role("row").filter(has_text=name).get_by_role("checkbox").check()
    # Django's own theme has words before it, and another name for the button.
    page.locator("select[name=action]").select_option("hold")
    page.get_by_role("button", name=re.compile("^(Go|Run)$")).click()
    expect(page.get_by_text("Held 1 workgroup.")).to_be_visible()


def test_the_limit_of_a_worker_is_changed_from_home(visit, boss):
    make_task(worker="mailer")
    page = visit(boss).go("/admin/")

    page.get_by_role("button", name="Set the limit of mailer").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Attempts in flight").fill("3")
    dialog.get_by_role("button", name="Set").click()

    expect(page.locator("#crew-workers")).to_contain_text("0 / 3")
    assert Worker.objects.get(name="mailer").max_concurrency == 3


@pytest.mark.parametrize("verb", ["Pause", "Resume"])
def test_all_that_fit_a_filter_are_changed_at_once(visit, boss, verb):
    group = make_group()
    for number in range(30):
        make_task(group, name=f"Fetch {number}", is_paused=verb == "Resume")
    make_task(group, name="Store", is_paused=verb == "Resume")
    page = at_group(visit(boss), group)
    page.get_by_label("Search by name or id").fill("Fetch")
    expect(page.locator(".crew-foot")).to_contain_text("of 30")

    page.locator("#crew-bulk summary").click()
    page.locator("#crew-bulk").get_by_role("button", name=verb).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("on every page")
    dialog.get_by_role("button", name=f"{verb} 30 tasks").click()

    state = "paused" if verb == "Pause" else "ready"
    expect(page.locator(ROW).filter(has_text=state)).to_have_count(20)
    changed = Task.objects.filter(is_paused=verb == "Pause")
    assert changed.count() == 30
    assert not changed.filter(name="Store").exists()


def test_what_is_selected_and_all_that_match_are_distinguished(visit, boss):
    group = make_group()
    for name in ("Fetch 1", "Fetch 2", "Fetch 3", "Store"):
        make_task(group, name=name)
    page = at_group(visit(boss), group)
    every = page.locator("#crew-bulk")
    expect(every.locator("summary")).to_have_text("All 4 tasks")
    page.get_by_label("Search by name or id").fill("Fetch")
    expect(every.locator("summary")).to_have_text("All 3 that match")
    page.get_by_label("Select Fetch 1").check()

    every.locator("summary").click()
    every.get_by_role("button", name="Pause").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(
        "All 3 tasks with “Fetch” in the name or id, on every page, not only the 1 you selected."
    )
    dialog.get_by_role("button", name="Cancel").click()
    picked = page.locator(".crew-picked")
    picked.get_by_role("button", name="Pause").click()
    expect(dialog).to_contain_text("The 1 task you selected: Fetch 1.")
    dialog.get_by_role("button", name="Pause 1 task").click()

    expect(row(page, "Fetch 1")).to_contain_text("paused")
    assert set(Task.objects.filter(is_paused=True).values_list("name", flat=True)) == {"Fetch 1"}


def test_those_that_are_selected_are_deleted_together(visit, boss):
    group = make_group()
    first = make_task(group, name="Fetch 1")
    make_task(group, name="Fetch 2")
    make_task(group, name="Child", parents=[first])
    make_task(group, name="Stays")
    page = at_group(visit(boss), group)

    page.get_by_label("Select Fetch 1").check()
    page.get_by_label("Select Fetch 2").check()
    picked = page.locator("#panel-tasks").get_by_text("2 selected").locator("xpath=..")
    picked.get_by_role("button", name="Delete", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 descendant that would have no parent left")
    dialog.get_by_role("button", name="Delete 2 tasks").click()

    expect(page.locator(ROW)).to_have_count(1)
    assert Task.objects.get().name == "Stays"


def test_an_attempt_shows_its_request_and_its_answer(visit, boss):
    task = make_task(error_delay_in_seconds=0)
    kept = Transcript(
        'POST http://w/x\nA: 1\n\n{"n":[1e400]}', "HTTP 500\n\n<img src=x onerror=alert(1)>"
    )
    settle([Settlement(claim_one(), Failed("boom"), 500, kept)])
    settle([Settlement(claim_one(), Failed("no complete answer within 300 s"))])
    page = at_task(visit(boss), task)

    page.get_by_role("button", name="Request and answer of attempt 1").click()
    dialog = page.get_by_role("dialog", name="Attempt 1")
    expect(dialog.locator("pre")).to_have_count(2)
    assert dialog.locator("pre").all_text_contents() == [
        'POST http://w/x\nA: 1\n\n{\n  "n": [\n    1e400\n  ]\n}',
        kept.answer,
    ]
    dialog.get_by_role("button", name="Close").click()

    page.get_by_role("button", name="Request and answer of attempt 2").click()
    dialog = page.get_by_role("dialog", name="Attempt 2")
    expect(dialog).to_contain_text("Nothing is kept of it")
    expect(dialog).to_contain_text("no complete answer within 300 s")


def at_group(person, group):
    page = person.go(f"/admin/crew/taskgroup/{group.pk}/change/")
    expect(page.locator("#crew-live")).to_have_text("live")
    return page


def at_task(person, task):
    page = person.go(f"/admin/crew/task/{task.pk}/change/")
    expect(page.locator("#crew-actions")).not_to_be_empty()
    return page


def button(page, name):
    """One of those at the head of the page."""
    return page.locator("#crew-actions").get_by_role("button", name=name, exact=True)


def row(page, name):
    return page.locator(ROW).filter(has_text=name)


def failed(group, error):
    task = make_task(group, remaining_attempts=1)
    fail(claim_one(), error)
    return task

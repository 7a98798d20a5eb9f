"""The way in: the login form, what keeps others out, and what a viewer cannot do."""

from crewsite.lockout import TEXT

from ..factories import make_group, make_task
from .driver import expect

# The browser tells each refusal in its console.
REFUSED = r"status of (403|429)"
# A plain text as a page has no icon, for which the browser asks then.
NO_ICON = r"status of 404.*/favicon\.ico"


def test_a_person_logs_in_and_out(visit, boss):
    page = visit().go("/")

    log_in(page, "boss", "a good password")

    expect(page.locator("#crew-home")).to_be_visible()
    # The themes have it in different menus; the form is the same.
    page.locator("form[action$='/logout/']").first.evaluate("(form) => form.submit()")
    expect(page.locator("#crew-home")).to_have_count(0)
    page.goto("/admin/crew/task/")
    expect(page.get_by_label("Password")).to_be_visible()


def test_a_wrong_password_is_refused_and_then_locked_out(visit, boss):
    person = visit()
    person.forgive(REFUSED)
    person.forgive(NO_ICON)
    page = person.go("/admin/login/")

    for _ in range(5):
        log_in(page, "boss", "a bad password")
        expect(page.get_by_text("Please enter the correct username and password")).to_be_visible()
    log_in(page, "boss", "a good password")

    expect(page.locator("body")).to_have_text(TEXT)


def test_a_viewer_has_no_buttons_and_is_refused_by_the_server(visit, viewer):
    group = make_group(name="Nightly")
    task = make_task(group, name="Fetch", remaining_attempts=0)
    person = visit(viewer)
    person.forgive(REFUSED)
    page = person.go(f"/admin/crew/taskgroup/{group.pk}/change/")
    expect(page.locator("#crew-progress")).to_contain_text("0 of 1 task")
    expect(page.get_by_role("link", name="Fetch")).to_be_visible()
    assert page.locator("#crew-actions button").count() == 0
    assert page.locator("#panel-tasks tbody button:not(.crew-copy)").count() == 0

    said = page.evaluate(
        """async (paths) => {
            const token = document.querySelector("[data-crew-csrf]").dataset.crewCsrf;
            const headers = { "X-CSRFToken": token, "Content-Type": "application/json" };
            const calls = paths.map((path) => fetch(path, { method: "POST", headers, body: "{}" }));
            return (await Promise.all(calls)).map((answer) => answer.status);
        }""",
        [
            f"/api/v1/task_group/{group.pk}/pause",
            f"/api/v1/task_group/{group.pk}/retry",
            f"/api/v1/task_group/{group.pk}/task/{task.pk}/reset",
            "/api/v1/workgroup/any/hold",
        ],
    )

    assert said == [403, 403, 403, 403]
    group.refresh_from_db()
    task.refresh_from_db()
    assert (group.is_paused, task.remaining_attempts) == (False, 0)


def log_in(page, name, password):
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()

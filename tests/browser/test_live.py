"""What the pages show by themselves, while work goes on and servers come and go."""

import re

import pytest

from tasks import control, create

from ..factories import claim_one, complete, make_group, make_task
from ..servers import free_port
from ..web import Web
from .driver import expect

LIVE = "#crew-live"
# Chromium's words for a server that is not there, or went in the middle of an answer.
AWAY = (
    r"ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE|CONTENT_LENGTH_MISMATCH"
    r"|INCOMPLETE_CHUNKED_ENCODING)|WebSocket connection to"
)


def test_a_group_completes_before_ones_eyes(visit, boss, work):
    start = {"name": "Start", "worker": "worker-c", "input": {"seconds": 0.2}}
    group = create.create_group(name="Nightly", tasks=[start])
    page = watch(visit(boss), group)

    with work():
        expect(page.locator("#crew-progress")).to_contain_text("100.00 %")

    expect(page.locator("#crew-progress")).to_contain_text("5 of 5 tasks complete")
    expect(page.get_by_role("row").filter(has_text="Child D")).to_contain_text("complete")
    assert_not_reloaded(page)


def test_a_change_is_seen_within_a_second(visit, boss, site):
    """From the answer of the API to the row, by the browser's own clock."""
    group = make_group()
    task = make_task(group, name="Fetch")
    page = watch(visit(boss), group)
    expect(page.get_by_role("row").filter(has_text="Fetch")).to_contain_text("ready")

    took = page.evaluate(
        SECONDS_UNTIL_SEEN, [f"/api/v1/task_group/{group.pk}/tasks/pause", task.pk]
    )

    assert took < 1.0


SECONDS_UNTIL_SEEN = """async ([path, id]) => {
    const row = document.querySelector(`#panel-tasks [data-id="${CSS.escape(id)}"]`);
    const token = document.querySelector("[data-crew-csrf]").dataset.crewCsrf;
    const seen = new Promise((resolve) =>
        new MutationObserver(() => row.textContent.includes("paused") && resolve(performance.now()))
            .observe(row, { childList: true, subtree: true, characterData: true }));
    const headers = { "X-CSRFToken": token, "Content-Type": "application/json" };
    const begun = performance.now();
    await fetch(path, { method: "POST", headers, body: JSON.stringify({ ids: [id] }) });
    return ((await seen) - begun) / 1000;
}"""


def test_a_killed_server_is_shown_and_what_happened_meanwhile_is_caught_up(visit, boss):
    port, first, person, group = before_a_server_that_dies(visit, boss)
    page = watch(person, group)
    expect(page.get_by_role("row").filter(has_text="Fetch")).to_be_visible()

    first.process.kill()
    first.stop()
    expect(page.locator(LIVE)).to_contain_text("connection lost")
    complete(claim_one())
    make_task(group, name="Made meanwhile")
    second = Web(port=port)
    try:
        expect(page.locator(LIVE)).to_have_text("live", timeout=30_000)
        expect(page.get_by_role("row").filter(has_text="Fetch")).to_contain_text("complete")
        expect(page.get_by_role("row").filter(has_text="Made meanwhile")).to_be_visible()
        expect(page.locator("#crew-progress")).to_contain_text("1 of 2 tasks complete")
        assert_not_reloaded(page)
        assert second.errors() == ""
    finally:
        second.stop()


@pytest.mark.sqlite  # a file that does not come is the same on every database
def test_a_tab_whose_script_did_not_come_says_so_and_opens_when_the_server_is_back(visit, boss):
    port, first, person, group = before_a_server_that_dies(visit, boss)

    async def stop_and_go_on(route):
        first.process.kill()
        first.process.wait()
        await route.continue_()

    person.page.route("**/crew/table.js", stop_and_go_on)
    page = person.go(f"/admin/crew/taskgroup/{group.pk}/change/")
    panel = page.get_by_role("tabpanel")
    expect(panel).to_contain_text("could not be loaded")
    expect(panel.get_by_role("button", name="Load the page again")).to_be_visible()
    page.evaluate("window.stayed = true")
    page.unroute("**/crew/table.js")
    first.stop()
    second = Web(port=port)
    try:
        expect(page.get_by_role("row").filter(has_text="Fetch")).to_be_visible(timeout=30_000)
        expect(page.locator(LIVE)).to_have_text("live")
        assert_not_reloaded(page)
    finally:
        second.stop()


@pytest.mark.sqlite
@pytest.mark.parametrize("path", ["/admin/", "group"])
def test_a_page_whose_scripts_did_not_come_offers_to_be_loaded_again(visit, boss, path):
    places = {"group": f"/admin/crew/taskgroup/{make_group().pk}/change/"}
    person = visit(boss)
    person.forgive("ERR_CONNECTION_REFUSED")

    async def refuse(route):
        await route.abort("connectionrefused")

    person.page.route("**/crew/api.js", refuse)
    page = person.go(places.get(path, path))
    expect(page.locator(LIVE)).to_contain_text("connecting…")
    offer = page.get_by_role("link", name="Load it again")
    expect(offer).not_to_be_visible()
    page.evaluate("document.getAnimations().forEach((each) => each.finish())")
    expect(offer).to_be_visible()
    page.unroute("**/crew/api.js")
    offer.click()

    expect(page.locator(LIVE)).to_have_text("live")


@pytest.mark.parametrize("path", ["/admin/", "group", "task"])
def test_a_hidden_tab_costs_nothing_until_it_is_looked_at(visit, boss, path):
    group = make_group()
    task = make_task(group, name="Fetch")
    places = {"group": f"/admin/crew/taskgroup/{group.pk}/change/"}
    places |= {"task": f"/admin/crew/task/{task.pk}/change/"}
    person = visit(boss)
    page = person.page
    page.clock.install()
    person.go(places.get(path, path))
    expect(page.locator(LIVE)).to_have_text("live")

    page.evaluate(HIDE, True)
    page.clock.run_for(15_000)
    page.wait_for_load_state("networkidle")
    asked = list(person.asked)
    page.clock.run_for(600_000)

    assert person.asked == asked
    assert all(socket.is_closed() for socket in person.sockets)

    control.pause_tasks(group.pk, ids=[task.pk])
    page.evaluate(HIDE, False)
    page.clock.run_for(5_000)
    expect(page.locator(LIVE)).to_have_text("live")
    assert len(person.asked) > len(asked)


HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    const state = hidden ? "hidden" : "visible";
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_the_graph_opens_a_task(visit, boss):
    group = make_group()
    first = make_task(group, name="Fetch")
    make_task(group, name="Store", parents=[first])
    page = watch(visit(boss), group)

    page.get_by_role("tab", name="Graph").click()
    node = page.get_by_role("button", name=re.compile("^Store: blocked"))
    expect(node).to_be_visible()
    node.press("Enter")
    page.get_by_role("dialog").get_by_role("link", name="Open the task").click()

    expect(page.locator("body")).to_contain_text("Why is it not running?")


def test_the_timeline_shows_each_attempt(visit, boss):
    group = make_group()
    make_task(group, name="Fetch")
    complete(claim_one())
    page = watch(visit(boss), group)

    page.get_by_role("tab", name="Timeline").click()

    row = page.get_by_role("listitem").filter(has_text="Fetch")
    expect(row.locator("rect title")).to_contain_text("Fetch, attempt 1: completed")


def before_a_server_that_dies(visit, boss):
    """A server of the test's own and its port, who looks at it, and a group of one task."""
    port = free_port()
    server = Web(port=port)
    group = make_group()
    make_task(group, name="Fetch")
    person = visit(boss, url=server.url)
    person.forgive(AWAY)
    return port, server, person, group


def watch(person, group):
    """The group's page, live."""
    page = person.go(f"/admin/crew/taskgroup/{group.pk}/change/")
    expect(page.locator(LIVE)).to_have_text("live")
    page.evaluate("window.stayed = true")
    return page


def assert_not_reloaded(page):
    assert page.evaluate("window.stayed") is True

"""The graph's tab while much happens: it asks for few pictures, and ends with the last."""

from tasks import create

from ..factories import make_group, make_task
from .driver import expect


def test_many_new_tasks_make_few_pictures(visit, boss):
    group = make_group()
    make_task(group, name="First")
    person = visit(boss)
    page = person.go(f"/admin/crew/taskgroup/{group.pk}/change/#graph")
    expect(page.locator("#crew-live")).to_have_text("live")
    expect(page.locator("#panel-graph .crew-node")).to_have_count(1)
    person.asked.clear()

    for _ in range(3):
        create.create_tasks(group.pk, [{"worker": "worker-a"} for _ in range(40)])

    expect(page.locator("#panel-graph .crew-node")).to_have_count(121)
    assert sum(url.endswith("/graph") for url in person.asked) <= 6

"""What large requests hold in memory together: who has no room waits, or is asked to try again."""

import threading
from secrets import token_urlsafe

import pytest
from django.test import RequestFactory
from rest_framework.request import Request

from tasks.api.answers import Page, json_page
from tasks.api.body import GROWS, Body
from tasks.insight import find
from tasks.models import Task
from tasks.store import memory_budget, portions
from tasks.store.memory_budget import NoRoomError, Room

from .api_client import NDJSON, TASKS, Api
from .factories import make_group, wire

KB = 1_000


@pytest.fixture
def small(settings):
    settings.CREW_WEB_BYTES = 200


def test_what_is_larger_than_the_room_has_it_alone(small, monkeypatch):
    monkeypatch.setattr(memory_budget, "WAITS", 0.0)
    own = Room()

    first = own.take(1_000)
    with pytest.raises(NoRoomError):
        own.take(1)
    first.give_back()
    first.give_back()

    assert own.in_use == 0
    own.take(50), own.take(50)
    with pytest.raises(NoRoomError):
        own.take(1)


@pytest.mark.django_db
def test_who_waits_goes_on_when_another_is_done(small):
    own = Room()
    first = own.take(100)
    got = threading.Event()

    waiting = threading.Thread(target=lambda: (own.take(40), got.set()))
    waiting.start()
    assert not got.is_set()
    first.shrink(60)

    assert got.wait(10)
    waiting.join(10)
    assert own.in_use == 100


@pytest.mark.django_db
def test_an_answer_keeps_its_room_until_it_was_sent_or_is_gone():
    answer = json_page(lambda: Page([b"[", b"1]"], True))
    assert (answer.content, memory_budget.answers.in_use) == (b"[1]\n", 4)
    answer.close()
    assert memory_budget.answers.in_use == 0

    answer = json_page(lambda: Page([b"[]"], True))
    answer.let_go()
    assert (answer.content, memory_budget.answers.in_use) == (b"", 0)

    answer = json_page(lambda: Page([b"[]"], True))
    assert memory_budget.answers.in_use == 3
    del answer
    assert memory_budget.answers.in_use == 0


@pytest.mark.django_db
def test_an_answer_that_cannot_be_made_gives_its_room_back():
    with pytest.raises(ZeroDivisionError):
        json_page(lambda: Page((b"%d" % (1 // n) for n in (1, 0)), True))

    assert memory_budget.answers.in_use == 0


@pytest.mark.django_db
def test_pages_of_few_bytes_take_none(no_auth, monkeypatch):
    make_group(id="g", tasks=[wire(input=token_urlsafe(75 * KB)) for _ in range(5)])
    page = find.tasks(Task.objects.first().group, find.TaskFilter(), find.Page(0, 20))

    assert page.is_large
    monkeypatch.setattr(portions, "LIGHT", 600 * KB)
    assert not page.is_large


@pytest.mark.django_db
@pytest.mark.parametrize("path", [TASKS + "?pageSize=500", "/api/v1/task/t/attempts?pageSize=500"])
def test_a_page_without_room_says_when_to_try_again(no_auth, settings, monkeypatch, path):
    make_group(id="g", tasks=[wire(id="t", input="x" * 300 * KB)])
    monkeypatch.setattr(memory_budget, "WAITS", 0.0)
    taken = memory_budget.answers.take(settings.CREW_WEB_BYTES)
    try:
        said = Api().get(path)
        small_one = Api().get("/api/v1/task/t")
    finally:
        taken.give_back()

    assert (said.status, said.headers["Retry-After"]) == (503, "1")
    assert small_one.status == Api().get(path).status == 200
    assert memory_budget.answers.in_use == 0


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["application/json", NDJSON])
def test_a_body_has_its_room_until_its_request_is_done(no_auth, settings, monkeypatch, kind):
    make_group(id="g")
    line = b'{"input":"%s"}' % (b"x" * 900 * KB)
    body = b"\n".join([line] * 2) if kind == NDJSON else b'{"tasks":[%s,%s]}' % (line, line)
    monkeypatch.setattr(memory_budget, "WAITS", 0.0)
    taken = memory_budget.bodies.take(settings.CREW_WEB_BYTES)
    try:
        refused = Api().post(TASKS + "/bulk", body, kind=kind)
        small_one = Api().post(TASKS + "/bulk", {"tasks": [{}]})
    finally:
        taken.give_back()
    done = Api().post(TASKS + "/bulk", body, kind=kind)

    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert (small_one.status, done.status, done.json["count"]) == (200, 200, 2)
    assert memory_budget.bodies.in_use == 0


def test_a_body_in_chunks_may_be_as_long_as_its_limit():
    sent = {"HTTP_TRANSFER_ENCODING": "chunked", "content_type": "application/json"}
    chunked = RequestFactory().generic("POST", "/", b"{}", **sent)
    body = Body(Request(chunked), 5_000_000)

    body.json()

    assert memory_budget.bodies.in_use == GROWS * 5_000_000
    body.done()
    assert memory_budget.bodies.in_use == 0

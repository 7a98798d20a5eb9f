"""`run_group`: a group runs to its end inside a test, with `responses` for its workers."""

import gzip
import json
import threading
import time
from datetime import timedelta

import pytest
import responses
from django.utils import timezone

from tasks.errors import NotFoundError
from tasks.models import Attempt, Task, Worker, Workgroup
from tasks.testing import GroupStuck, run_group
from tasks.worker import Parent

from .factories import make_group, make_task, wire

pytestmark = pytest.mark.django_db

BASE = "http://workers.test/"


@pytest.fixture(autouse=True)
def base(settings):
    settings.CREW_WORKER_BASE_URL = BASE
    settings.CREW_WORKER_AUTHORIZATION_HEADER = "Bearer w"
    settings.CREW_SIGNING_SECRETS = []


@pytest.fixture
def http():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def answering(http, worker, *replies):
    """The worker gives these (status, JSON or headers) in turn, the last one again and again."""
    for reply in replies:
        status, body, headers = (*reply, {})[:3] if isinstance(reply, tuple) else (200, reply, {})
        http.post(BASE + worker, json=body, status=status, headers=headers)


def test_a_diamond_runs_in_order_and_hands_outputs_on(http):
    http.add_callback(
        "POST",
        BASE + "worker-a",
        lambda request: (200, {}, json.dumps({"output": f"of {_task_id(request)}"})),
    )
    group = make_group(
        tasks=[
            wire(id="d", parent_ids=["b", "c"]),
            wire(id="b", parent_ids=["a"], input=1),
            wire(id="c", parent_ids=["a"], input=2),
            wire(id="a"),
        ]
    )

    report = run_group(group)

    ids = [call.task_id for call in report.calls]
    assert (ids[0], sorted(ids[1:3]), ids[3:]) == ("a", ["b", "c"], ["d"])
    assert report.calls[3].parents == (
        Parent("b", "worker-a", 1, "of b"),
        Parent("c", "worker-a", 2, "of c"),
    )
    assert report.is_complete
    assert set(report.complete) == {"a", "b", "c", "d"}
    assert (report.failed, report.progress.total, report.seconds) == ((), 4, 0.0)
    assert Task.objects.get(pk="d").output == "of d"
    assert Attempt.objects.filter(outcome="completed", status=200).count() == 4
    assert http.calls[0].request.headers["Authorization"] == "Bearer w"


def test_children_of_answers_run_and_their_delay_is_jumped(http):
    answering(
        http,
        "maker",
        {
            "output": 1,
            "childrenDelayInSeconds": 3600,
            "children": [{"id": "x", "worker": "worker-a"}, {"id": "y", "worker": "worker-a"}],
        },
    )
    answering(http, "worker-a", {"output": 2})
    group = make_group(tasks=[wire(id="m", worker="maker"), wire(id="p", parent_ids=["m"])])
    started = time.monotonic()

    report = run_group(group.pk)

    assert [call.worker for call in report.calls] == ["maker", *["worker-a"] * 3]
    assert report.seconds == pytest.approx(3600, abs=5)
    assert time.monotonic() - started < 60
    assert len(report.calls_of("worker-a")) == 3


def test_failures_are_repeated_after_their_delay(http):
    answering(http, "worker-a", (500, {"error": "no"}), (500, {"error": "still no"}), {"output": 3})
    task = make_task(error_delay_in_seconds=600)

    report = run_group(task.group)

    task.refresh_from_db()
    assert (task.output, task.errors) == (3, ["HTTP 500: no", "HTTP 500: still no"])
    assert [call.attempt for call in report.calls] == [1, 2, 3]
    assert report.seconds == pytest.approx(1200, abs=5)


def test_a_held_workgroup_waits_in_jumped_time_only(http):
    answering(http, "limited", (429, {}, {"Retry-After": "30"}), {"output": 1})
    answering(http, "other", {"output": 2})
    group = make_group(
        tasks=[
            wire(id="l", worker="limited", workgroup="w"),
            wire(id="o", worker="other", workgroup="w"),
            wire(id="z", worker="other"),
        ]
    )

    report = run_group(group)

    assert [call.task_id for call in report.calls[:2]] == ["l", "z"]
    assert report.seconds == pytest.approx(30, abs=2)
    assert Task.objects.get(pk="l").remaining_attempts == 4
    assert Workgroup.objects.get().held_until <= timezone.now()


def test_a_worker_that_rests_is_waited_for_in_jumped_time_only(http):
    answering(http, "worker-a", *[(503, {})] * 30, {"output": 1})
    group = make_group(tasks=[wire() for _ in range(30)])

    report = run_group(group)

    assert Task.objects.filter(is_complete=True).count() == 30
    assert report.seconds > 60
    assert Attempt.objects.filter(outcome="held").count() == 10


def test_each_delay_is_jumped_in_its_own_time(http):
    answering(http, "worker-a", {"output": 1})
    soon, later = (timezone.now() + timedelta(hours=hours) for hours in (1, 2))
    group = make_group(tasks=[wire(id="b", run_after=later), wire(id="a", run_after=soon)])

    report = run_group(group)

    assert [call.task_id for call in report.calls] == ["a", "b"]
    assert report.seconds == pytest.approx(7200, abs=5)


def test_delays_are_limited_in_all(http):
    answering(http, "worker-a", {"output": 1})
    soon, later = (timezone.now() + timedelta(hours=hours) for hours in (1, 2))
    group = make_group(tasks=[wire(id="b", run_after=later), wire(id="a", run_after=soon)])

    with pytest.raises(GroupStuck, match="b is due later") as caught:
        run_group(group, max_seconds_of_delays=5_400)

    assert caught.value.report.complete == ("a",)


def test_the_next_task_is_found_among_more_lanes_than_one_claim_looks_at(http, monkeypatch):
    monkeypatch.setattr("tasks.engine.lane_walk.PAGE", 1)
    times = {"a": 3, "b": 1, "c": 2, "d": 0}
    for worker in times:
        answering(http, worker, {"output": 1})
    now = timezone.now()
    group = make_group(
        tasks=[
            wire(worker=worker, run_after=now + timedelta(hours=hours))
            for worker, hours in times.items()
        ]
    )

    report = run_group(group)

    assert [call.worker for call in report.calls] == ["d", "b", "c", "a"]


def test_tasks_of_one_key_are_called_once(http):
    answering(http, "worker-a", {"output": "shared"})
    group = make_group(tasks=[wire(id="a", key="k"), wire(id="b", key="k")])

    report = run_group(group)

    assert len(report.calls) == 1
    assert set(Task.objects.values_list("output", flat=True)) == {"shared"}


def test_other_groups_do_not_run(http):
    answering(http, "worker-a", {"output": 1})
    mine, other, paused = make_task(), make_task(), make_task(is_paused=True)

    report = run_group(mine.group)

    assert [call.task_id for call in report.calls] == [mine.pk]
    for task, is_paused in ((other, False), (paused, True)):
        task.refresh_from_db()
        assert (task.attempt, task.is_complete, task.is_paused) == (0, False, is_paused)


def test_no_thread_is_started(http):
    seen = []
    http.add_callback(
        "POST",
        BASE + "worker-a",
        lambda request: seen.append(threading.current_thread()) or (200, {}, "{}"),
    )
    threads = set(threading.enumerate())

    run_group(make_task().group)

    assert seen == [threading.current_thread()]
    assert set(threading.enumerate()) == threads


def test_a_task_out_of_attempts_is_an_error_that_tells_the_last_one(http):
    answering(http, "worker-a", (500, {"error": "broken"}))
    group = make_group(
        tasks=[wire(id="a", remaining_attempts=2), wire(id="b", parent_ids=["a"])],
    )

    with pytest.raises(GroupStuck, match=r"a has no attempts left; .*worker-a: HTTP 500: broken"):
        run_group(group)

    task = Task.objects.get(pk="a")
    assert (task.remaining_attempts, len(task.errors)) == (0, 2)


def test_a_task_out_of_attempts_can_be_allowed(http):
    answering(http, "worker-a", (500, {"error": "broken"}))
    group = make_group(
        tasks=[wire(id="a", remaining_attempts=1), wire(id="b", parent_ids=["a"])],
    )

    report = run_group(group, failures_allowed=True)

    assert (report.complete, report.failed, report.is_complete) == ((), ("a",), False)
    assert (report.progress.failed, report.progress.blocked) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"is_paused": True}, "t is paused"),
        ({"worker": ""}, "t has no worker"),
        ({"run_after": "2090-01-01T00:00:00Z"}, "t is due later than max_seconds_of_delays"),
        ({"worker": "closed"}, "t is ready, but closed takes no calls"),
        ({"workgroup": "long"}, "t is held with long, longer than max_seconds_of_delays"),
    ],
)
def test_a_task_that_cannot_go_on_is_an_error(http, fields, why):
    answering(http, "worker-a", {"output": 1})
    Worker.objects.create(name="closed", max_concurrency=0)
    Workgroup.objects.create(name="long", held_until=timezone.now() + timedelta(days=2))
    group = make_group(tasks=[wire(id="t", **fields), wire(id="other", parent_ids=[])])

    with pytest.raises(GroupStuck) as caught:
        run_group(group)

    assert why in str(caught.value)
    assert len(caught.value.reasons) == 1
    assert caught.value.report.complete == ("other",)


def test_a_worker_that_always_asks_to_wait_is_an_error(http):
    answering(http, "worker-a", (429, {}, {"Retry-After": "1"}))
    task = make_task()

    with pytest.raises(GroupStuck, match=f"{task.pk} was called 7 times"):
        run_group(task.group, max_attempts=7)


def test_the_last_attempt_allowed_may_complete_the_task(http):
    answering(http, "worker-a", (429, {}, {"Retry-After": "1"}), {"output": 1})

    assert run_group(make_task().group, max_attempts=2).is_complete


def test_a_worker_whose_children_never_end_is_an_error(http):
    answering(http, "worker-a", {"children": [{"worker": "worker-a"}]})

    with pytest.raises(GroupStuck, match="workers were called 20 times"):
        run_group(make_task().group, max_calls=20)


def test_a_call_that_nothing_answers_is_a_failure_of_the_task(http):
    with pytest.raises(GroupStuck, match=r"no connection to http://workers\.test/worker-a"):
        run_group(make_task(remaining_attempts=1).group)


def test_an_assertion_in_a_mocked_worker_comes_through(http):
    def refuse(request):
        raise AssertionError("the input is wrong")

    http.add_callback("POST", BASE + "worker-a", refuse)

    with pytest.raises(AssertionError, match="the input is wrong"):
        run_group(make_task().group)


def test_an_unknown_group_is_an_error():
    with pytest.raises(NotFoundError):
        run_group("nowhere")


def test_many_tasks_named_are_cut_to_ten():
    group = make_group(tasks=[wire(is_paused=True) for _ in range(12)])

    with pytest.raises(GroupStuck, match="and 2 more") as caught:
        run_group(group)

    assert len(caught.value.reasons) == 11


@pytest.mark.django_db(transaction=True)
def test_it_works_outside_a_transaction_too(http):
    answering(http, "worker-a", {"output": 1})
    group = make_group(tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])

    assert run_group(group).complete == ("a", "b")


def _task_id(request):
    return json.loads(request.body)["taskId"]


def test_an_answer_is_read_as_a_scheduler_reads_it(http):
    """Compressed, and in another charset; and a rate limit whose body is neither."""
    body = gzip.compress('{"output": "ü"}'.encode("latin-1"))
    result = {"Content-Encoding": "gzip"}
    limited = result | {"Retry-After": "1m0s"}
    http.post(BASE + "worker-a", b"no gzip", status=429, headers=limited)
    http.post(BASE + "worker-a", body, headers=result, content_type="text/json; charset=latin-1")
    group = make_group(tasks=[wire(id="a")])

    report = run_group(group)

    task = Task.objects.get()
    assert (task.output, task.remaining_attempts) == ("ü", 4)
    assert report.seconds == pytest.approx(60, abs=1)

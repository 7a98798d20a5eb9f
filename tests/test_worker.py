"""The kit for worker authors: calls are read and proven, answers mean what they say."""

import asyncio
import base64
import json
import logging
import time
from collections import Counter
from datetime import UTC, datetime

import pytest
from django.http import HttpResponseNotAllowed
from django.test import AsyncRequestFactory, Client, RequestFactory
from django.urls import path
from standardwebhooks.webhooks import Webhook

from tasks import worker as kit
from tasks.delivery.calls import CallRules, Delivery
from tasks.engine.scheduler import Scheduler
from tasks.models import Attempt, Task
from tasks.rules.decide import Answer, Completed, Delays, Failed, Held, decide
from tasks.worker import (
    BadCall,
    Call,
    Parent,
    Unauthenticated,
    child,
    crew_worker,
    failure,
    hold,
    output,
    read_call,
)

from .factories import make_group, wire

SECRET = "whsec_" + base64.b64encode(b"a" * 24).decode()
NEW_SECRET = "whsec_" + base64.b64encode(b"b" * 32).decode()
AUTHORIZATION = "Bearer worker-token"
BODY = json.dumps(
    {
        "input": {"n": 1},
        "worker": "worker-a",
        "parents": [{"taskId": "p", "worker": "w", "input": None, "output": [2]}],
        "taskId": "t",
    }
).encode()


def signed(body=BODY, *secrets, at=None, id_="msg_1"):
    """Headers as the reference implementation signs them."""
    at = time.time() if at is None else at
    moment = datetime.fromtimestamp(at, UTC)
    text = body.decode()
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(Webhook(s).sign(id_, moment, text) for s in secrets),
    }


# --- Reading ---------------------------------------------------------------------------------


def test_a_call_is_read():
    headers = {"Webhook-Id": "msg_1", "WEBHOOK-TIMESTAMP": "1790000000", "X-Crew-Attempt": "2"}

    call = read_call(BODY, headers)

    assert call == Call(
        task_id="t",
        worker="worker-a",
        input={"n": 1},
        parents=(Parent("p", "w", None, [2]),),
        webhook_id="msg_1",
        sent_at=1_790_000_000,
        attempt=2,
    )


def test_the_old_crew_sends_no_headers_of_ours():
    call = read_call(b'{"taskId":"t","worker":"w","input":null,"parents":null}', {})

    assert call == Call("t", "w")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"1",
        b'{"worker":"w"}',
        b'{"taskId":1,"worker":"w"}',
        b'{"taskId":"t","worker":"w","parents":{"a":1}}',
        b'{"taskId":"t","worker":"w","parents":[1]}',
        b'{"taskId":"t","worker":"w","parents":[{}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_call_is_refused(body):
    with pytest.raises(BadCall) as caught:
        read_call(body, {})

    assert caught.value.status == 400


@pytest.mark.parametrize("value", ["-1", "1e3", "9" * 5_000, "²", "", "x"])
def test_numbers_that_are_none_are_none(value):
    call = read_call(BODY, {"x-crew-attempt": value, "webhook-timestamp": value})

    assert (call.attempt, call.sent_at) == (None, None)


# --- Proving ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([SECRET], [SECRET]),
        ([SECRET, NEW_SECRET], [SECRET]),
        ([SECRET, NEW_SECRET], [NEW_SECRET]),
        ([SECRET], [NEW_SECRET, SECRET]),
        ([NEW_SECRET, SECRET], [SECRET, NEW_SECRET]),
    ],
)
def test_a_signature_by_the_reference_is_accepted_while_secrets_rotate(ours, theirs):
    assert read_call(BODY, signed(BODY, *theirs), secrets=ours).task_id == "t"


@pytest.mark.parametrize("secrets", [[SECRET], [SECRET, NEW_SECRET]])
def test_what_crew_signs_is_accepted(settings, secrets):
    settings.CREW_WORKER_BASE_URL = "http://w.test/"
    settings.CREW_SIGNING_SECRETS = secrets
    settings.CREW_WORKER_AUTHORIZATION_HEADER = AUTHORIZATION
    headers = CallRules.from_conf().headers(Delivery("t", 3, "worker-a", BODY))

    call = read_call(BODY, headers, secrets=[SECRET], authorization=AUTHORIZATION)

    assert (call.attempt, call.webhook_id) == (3, headers["webhook-id"])
    assert abs(call.sent_at - time.time()) < 60


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"webhook-signature": ""}, "not signed"),
        ({"webhook-id": ""}, "not signed"),
        ({"webhook-timestamp": ""}, "not signed"),
        ({"webhook-id": "msg_2"}, "another secret"),
        ({"webhook-signature": "v1,AAAA v2,BBBB nonsense é"}, "another secret"),
        ({"webhook-timestamp": "x"}, "our clock"),
        ({"webhook-timestamp": "9" * 5_000}, "our clock"),
        ({"webhook-timestamp": "-1"}, "our clock"),
    ],
)
def test_a_call_that_is_not_signed_right_is_refused(change, why):
    headers = signed(BODY, SECRET) | change

    with pytest.raises(Unauthenticated, match=why) as caught:
        read_call(BODY, headers, secrets=[SECRET])

    assert caught.value.status == 401


def test_a_signature_by_another_secret_is_refused():
    with pytest.raises(Unauthenticated, match="another secret"):
        read_call(BODY, signed(BODY, NEW_SECRET), secrets=[SECRET])


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b"1", b"2"), b""])
def test_a_changed_body_is_refused_before_it_is_read(body):
    with pytest.raises(Unauthenticated, match="changed"):
        read_call(body, signed(BODY, SECRET), secrets=[SECRET])


@pytest.mark.parametrize(
    ("age", "is_good"), [(290, True), (-290, True), (320, False), (-320, False)]
)
def test_a_signature_counts_for_five_minutes(age, is_good):
    headers = signed(BODY, SECRET, at=time.time() - age)

    if is_good:
        assert read_call(BODY, headers, secrets=[SECRET])
    else:
        with pytest.raises(Unauthenticated, match="within 300 s"):
            read_call(BODY, headers, secrets=[SECRET])


@pytest.mark.parametrize(
    "given", ["", "worker-token", "bearer worker-token", "Bearer x", "Bearer é"]
)
def test_a_wrong_authorization_is_refused(given):
    with pytest.raises(Unauthenticated, match="Authorization"):
        read_call(BODY, {"Authorization": given}, authorization=AUTHORIZATION)


@pytest.mark.parametrize("secret", ["", "abc", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%", SECRET[6:]])
def test_a_secret_that_is_none_is_an_error_that_does_not_tell_it(secret):
    with pytest.raises(ValueError, match="whsec_") as caught:
        read_call(BODY, {}, secrets=[SECRET, secret])
    with pytest.raises(ValueError, match="whsec_"):
        crew_worker(secrets=[secret])

    assert not isinstance(caught.value, Unauthenticated)
    assert len(secret) < 7 or secret not in str(caught.value)


def from_generator(*secrets):
    yield from secrets


# Each gives its secrets to the first who goes through them, and nobody else.
ONCE_ONLY = [map, filter, from_generator, iter]


def once_only(kind):
    match kind.__name__:
        case "map":
            return map(str, [SECRET])
        case "filter":
            return filter(None, [SECRET])
        case "iter":
            return iter([SECRET])
        case _:
            return kind(SECRET)


@pytest.mark.parametrize("kind", ONCE_ONLY)
def test_secrets_that_can_be_gone_through_once_are_asked_for_at_every_call(rf, kind):
    view = crew_worker(secrets=once_only(kind))(lambda call: "done")

    def status(**headers):
        return view(
            rf.post("/", BODY, content_type="application/json", headers=headers)
        ).status_code

    assert [status(), status()] == [401, 401]
    assert status(**signed(BODY, SECRET)) == 200
    assert read_call(BODY, signed(BODY, SECRET), secrets=once_only(kind))
    with pytest.raises(Unauthenticated):
        read_call(BODY, {}, secrets=once_only(kind))


@pytest.mark.parametrize("secrets", [(), [], {}, set(), iter(()), map(str, []), "", SECRET, b""])
def test_secrets_that_are_none_are_refused_where_some_are_given(secrets):
    with pytest.raises(ValueError, match="signing secrets") as caught:
        read_call(BODY, {}, secrets=secrets)
    with pytest.raises(ValueError, match="signing secrets"):
        crew_worker(secrets=secrets)

    assert not isinstance(caught.value, Unauthenticated)


@pytest.mark.parametrize("authorization", ["", " "])
def test_an_empty_authorization_is_refused(authorization):
    with pytest.raises(ValueError, match="authorization is empty"):
        read_call(BODY, {}, authorization=authorization)
    with pytest.raises(ValueError, match="authorization is empty"):
        crew_worker(authorization=authorization)


# --- Answering -------------------------------------------------------------------------------


def decided(answer, workgroup=""):
    """What Crew makes of the answer."""
    came = Answer(answer.status, answer.to_bytes(), answer.headers.get("Retry-After"))
    return decide(came, workgroup=workgroup, now=datetime.now(UTC))


def test_an_output_completes_the_task():
    assert decided(output({"a": [1]})) == Completed('{"a":[1]}')
    assert decided(output()) == Completed()
    assert decided(output(1, children_delay=60, workgroup_delay=0.5)) == Completed(
        "1", delays=Delays(workgroup=0.5, children=60)
    )


def test_children_can_name_each_other_in_any_order():
    a = child("worker-a", name="A", input={"n": 1}, key="k", workgroup="g", priority=3)
    b = child("team/b", parents=[a], remaining_attempts=2, error_delay_in_seconds=0)
    when = datetime(2030, 1, 1, tzinfo=UTC)
    c = child("worker-a", id="c-1", parents=[a.id, b], run_after=when, is_paused=True)

    outcome = decided(output(children=[c, b, a]))

    assert isinstance(outcome, Completed)
    last, middle, first = outcome.children
    assert (first.id, first.name, first.input_json, first.key) == (a.id, "A", '{"n":1}', "k")
    assert (first.workgroup, first.priority, first.remaining_attempts) == ("g", 3, 5)
    assert (middle.worker, middle.parent_ids) == ("team/b", (a.id,))
    assert (middle.remaining_attempts, middle.error_delay_in_seconds) == (2, 0)
    assert (last.id, last.parent_ids) == ("c-1", (a.id, b.id))
    assert (last.run_after, last.is_paused) == (when, True)


def test_a_failure_costs_an_attempt():
    assert decided(failure("no")) == Failed("HTTP 500: no")
    assert decided(failure({"code": 7}, status=422)) == Failed('HTTP 422: {"code":7}')
    assert decided(failure("no", status=200)) == Failed("no")


def test_a_failure_that_holds_its_workgroup_costs_none():
    outcome = decided(failure("slow down", workgroup_delay=30), workgroup="g")

    assert outcome == Held(30, "HTTP 500: slow down", delays=Delays(workgroup=30))


@pytest.mark.parametrize(("seconds", "held"), [(30, 30), (0.2, 1), (86_400, 86_400)])
def test_a_hold_costs_no_attempt(seconds, held):
    assert decided(hold(seconds)) == Held(held, "HTTP 429: rate limited")
    assert decided(hold(seconds, "busy"), workgroup="g") == Held(
        held, "HTTP 429: busy", delays=Delays(workgroup=held)
    )


@pytest.mark.parametrize("seconds", [0, -1, 86_401, float("nan"), float("inf")])
def test_a_hold_of_no_use_is_refused(seconds):
    with pytest.raises(ValueError, match="a hold lasts"):
        hold(seconds)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_delay_of_no_use_is_refused(seconds):
    for build in (
        lambda: output(children_delay=seconds),
        lambda: output(workgroup_delay=seconds),
        lambda: failure("x", workgroup_delay=seconds),
    ):
        with pytest.raises(ValueError, match="must be 0 or more"):
            build()


def test_a_childs_time_must_know_its_zone():
    with pytest.raises(ValueError, match="time zone"):
        child("w", run_after=datetime(2030, 1, 1))


# --- In Django -------------------------------------------------------------------------------


def post(view, body=BODY, **headers):
    request = RequestFactory().post(
        "/", body, content_type="application/json", headers=headers or None
    )
    return view(request)


def said(response):
    return response.status_code, json.loads(response.content)


def test_a_function_becomes_a_view():
    @crew_worker()
    def double(call):
        """Doubles."""
        return call.input["n"] * 2

    response = post(double)

    assert said(response) == (200, {"output": 2})
    assert response["Content-Type"] == "application/json"
    assert (double.__name__, double.__doc__) == ("double", "Doubles.")


def test_an_async_function_becomes_an_async_view():
    @crew_worker()
    async def double(call):
        await asyncio.sleep(0)
        return call.input["n"] * 2

    request = AsyncRequestFactory().post("/", BODY, content_type="application/json")

    assert asyncio.iscoroutinefunction(double)
    assert said(asyncio.run(double(request))) == (200, {"output": 2})


def test_an_answer_is_given_as_it_is():
    response = post(crew_worker()(lambda call: hold(5)))

    assert said(response) == (429, {"error": "rate limited"})
    assert response["Retry-After"] == "5"


def test_what_is_raised_becomes_a_failure(caplog):
    def broken(call):
        raise KeyError("n")

    async def broken_too(call):
        raise KeyError("n")

    request = AsyncRequestFactory().post("/", BODY, content_type="application/json")

    with caplog.at_level(logging.CRITICAL, "crew.worker.view"):
        failed = post(crew_worker()(broken))
        failed_too = asyncio.run(crew_worker()(broken_too)(request))

    assert said(failed) == said(failed_too) == (500, {"error": "KeyError: 'n'"})


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), {"a": b"bytes"}])
def test_an_output_that_is_not_json_is_a_failure_in_words(value):
    status, body = said(post(crew_worker()(lambda call: value)))

    assert status == 500
    assert body["error"].startswith("the worker's answer is not JSON: ")


def test_a_view_takes_only_post():
    response = crew_worker()(lambda call: 1)(RequestFactory().get("/"))

    assert isinstance(response, HttpResponseNotAllowed)
    assert response["Allow"] == "POST"


def test_a_view_refuses_what_is_not_crews():
    @crew_worker(secrets=[SECRET], authorization=AUTHORIZATION)
    def work(call):
        raise AssertionError("it was let in")

    assert said(post(work))[0] == 401
    assert said(post(work, **signed(BODY, SECRET)))[0] == 401
    assert said(post(work, Authorization=AUTHORIZATION)) == (
        401,
        {"error": "the call is not signed"},
    )


def test_a_view_refuses_what_is_no_call():
    assert said(post(crew_worker()(lambda call: 1), b"{")) == (
        400,
        {"error": "the body is not JSON"},
    )


def test_a_call_larger_than_django_takes_is_reported(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10

    assert said(post(crew_worker()(lambda call: 1))) == (413, {"error": "the call is too large"})


# --- By real deliverers ----------------------------------------------------------------------

seen = Counter()
secured = {"secrets": [SECRET], "authorization": AUTHORIZATION}


@crew_worker(**secured)
def maker(call):
    a = child("adder", name="A", input={"add": 1})
    b = child("adder", name="B", input={"add": 2}, parents=[a])
    return output(call.input["start"], children=[b, a])


@crew_worker(**secured)
async def adder(call):
    return call.input["add"] + sum(parent.output for parent in call.parents)


@crew_worker(**secured)
def shy(call):
    seen[call.worker] += 1
    if seen[call.worker] == 1:
        raise RuntimeError("not at first")
    return {"attempt": call.attempt}


@crew_worker(secrets=[NEW_SECRET], authorization="Bearer other")
def foreign(call):
    return 1


urlpatterns = [path(view.__name__, view) for view in (maker, adder, shy, foreign)]


@pytest.mark.urls(__name__)
def test_a_view_needs_no_csrf_token(db):
    response = Client(enforce_csrf_checks=True).post(
        "/adder", BODY, content_type="application/json", headers=signed(BODY, NEW_SECRET)
    )

    assert response.status_code == 401


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
@pytest.mark.parametrize("secrets", [[SECRET], [NEW_SECRET, SECRET]])
def test_a_group_runs_on_workers_made_with_the_kit(live_server, settings, deliverer, secrets):
    settings.CREW_DELIVERER = deliverer
    settings.CREW_WORKER_BASE_URL = live_server.url + "/"
    settings.CREW_SIGNING_SECRETS = secrets
    settings.CREW_WORKER_AUTHORIZATION_HEADER = AUTHORIZATION
    seen.clear()
    make_group(
        tasks=[
            wire(id="m", worker="maker", input={"start": 10}),
            wire(id="s", worker="shy", error_delay_in_seconds=0),
            wire(id="f", worker="foreign", remaining_attempts=1),
        ]
    )

    Scheduler(once=True).run()

    outputs = {task.name or task.pk: task.output for task in Task.objects.all()}
    # A gets 10 from its maker and adds 1; B gets 11 from A, 10 from the maker, and adds 2.
    assert outputs == {"m": 10, "A": 11, "B": 23, "s": {"attempt": 2}, "f": None}
    errors = Attempt.objects.filter(outcome="failed").order_by("task_id")
    assert [(attempt.task_id, attempt.error) for attempt in errors] == [
        ("f", "HTTP 401: the Authorization header is missing or wrong"),
        ("s", "HTTP 500: RuntimeError: not at first"),
    ]


def test_the_kit_exports_what_its_readme_names():
    assert set(kit.__all__) <= set(dir(kit))

"""What every answer of a worker means, as tables."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tasks.rules.decide import Answer, Bounds, Completed, Delays, Failed, Held, decide

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
YEAR = 366 * 86_400.0


def ruling(status=200, body=b"", *, workgroup="", retry_after=None, bounds=None, **fields):
    """The outcome of an answer whose body is `body`, or an object of `fields`."""
    if fields:
        body = json.dumps(fields).encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    came = Answer(status, body, retry_after)
    return decide(came, workgroup=workgroup, now=NOW, bounds=bounds or Bounds())


# --- Success and failure ---


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b"", None),
        (b" \r\n", None),
        (b"null", None),
        (b"{}", None),
        (b'{"output": null, "error": null, "children": null}', None),
        (b'{"output": 0}', "0"),
        (b'{"output": false}', "false"),
        (b'{"output": ""}', '""'),
        (b'{"output": [1, {"a": null}]}', '[1,{"a":null}]'),
        (b'{"output": 12345678901234567890}', "12345678901234567890"),
        ('{"output": "Grüße 🙂"}'.encode(), '"Grüße 🙂"'),
        (b'{"output": 1, "unknown": {"x": 1}}', "1"),
        (b'{"output": 1, "output": 2}', "2"),
        (b'{"children": []}', None),
    ],
)
def test_a_200_is_success(body, output):
    assert ruling(200, body) == Completed(output)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("boom", "boom"),
        ("", "the worker answered with an empty error"),
        (False, "false"),
        (0, "0"),
        ({"code": 7, "msg": "m"}, '{"code":7,"msg":"m"}'),
        (["a", "b"], '["a","b"]'),
        ("<html>", "<html>"),
        ("x" * 1_000_000, "x" * 4_096),
        ("a\u0000b\ud800", "a\ufffdb\ufffd"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_200_with_an_error_is_a_failure_that_keeps_its_output(error, text):
    outcome = ruling(output={"part": 1}, error=error, children=[{"worker": "w"}])

    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.output) == (text, '{"part":1}')


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>hello</html>", "the answer is not JSON: "),
        (b"{", "the answer is not JSON: "),
        (b"{} {}", "the answer is not JSON: "),
        (b"[1]", "the answer must be a JSON object, not a list"),
        (b'"text"', "the answer must be a JSON object, not a str"),
        (b"5", "the answer must be a JSON object, not a int"),
        (b"true", "the answer must be a JSON object, not a bool"),
        (b'{"output": NaN}', "the answer is not JSON: NaN"),
        (b'{"output": Infinity}', "the answer is not JSON: Infinity"),
        (b'{"output": 1e999}', "the answer is not JSON: number too large"),
        (b'{"output": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper than 64"),
        (
            b"{" + b",".join(b'"%d":0' % n for n in range(110_000)) + b"}",
            "the answer is not JSON: ",
        ),
        (b'{"output": "' + b"x" * 1024 * 1024 + b'"}', "larger than 1048576 bytes"),
    ],
    ids=range(13),
)
def test_a_200_that_is_no_answer_is_a_failure(body, error):
    outcome = ruling(200, body)

    assert isinstance(outcome, Failed)
    assert error in outcome.error
    assert outcome.output is None


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (201, b'{"output": 1}', 'HTTP 201: {"output": 1}'),
        (202, b"", "HTTP 202: answers that come later are not supported"),
        (204, b"", "HTTP 204"),
        (206, b"part", "HTTP 206: part"),
        (300, b"choose", "HTTP 300: choose"),
        (302, b"moved", "HTTP 302: redirects are not followed"),
        (304, b"", "HTTP 304: not modified, which says nothing of the task"),
        (400, b"bad", "HTTP 400: bad"),
        (404, b"", "HTTP 404"),
        (409, b"  spaces  ", "HTTP 409: spaces"),
        (410, b"gone", "HTTP 410: gone"),
        (413, b"[1]", "HTTP 413: [1]"),
        (422, b'{"error": null}', 'HTTP 422: {"error": null}'),
        (429, b"slow", "HTTP 429: slow"),
        (500, b'{"error": "no"}', "HTTP 500: no"),
        (500, b'{"error": {"code": 7}}', 'HTTP 500: {"code":7}'),
        (500, b'{"error": ""}', "HTTP 500: the worker answered with an empty error"),
        (500, b'{"error": "no", "output": 1}', "HTTP 500: no"),
        (500, b"\xff\x00", "HTTP 500: \ufffd\ufffd"),
        (503, b"", "HTTP 503"),
    ],
)
def test_anything_but_200_is_a_failure(status, body, error):
    assert ruling(status, body) == Failed(error)


def test_a_long_error_page_is_cut():
    outcome = ruling(500, b"<p>" * 100_000)

    assert outcome.error.startswith("HTTP 500: <p><p>")
    assert len(outcome.error) == 4_096


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("no route to the worker", "no route to the worker"),
        ("", "the delivery failed"),
        ("a\0b", "a\ufffdb"),
        ("x" * 9_999, "x" * 4_096),
    ],
    ids=range(4),
)
def test_no_answer_is_a_failure(error, text):
    answer = Answer(None, error=error)

    assert decide(answer, workgroup="w", now=NOW) == Failed(text)


@pytest.mark.parametrize(
    ("output", "repaired"),
    [
        (rb'"a\u0000b"', '"a\ufffdb"'),
        (rb'"\ud800"', '"\ufffd"'),
        (rb'{"\udc00": [1]}', '{"\ufffd":[1]}'),
    ],
)
def test_unusable_characters_are_replaced_because_the_work_is_done(output, repaired):
    outcome = ruling(200, b'{"output": ' + output + b"}")

    assert outcome == Completed(repaired, note="unusable characters were replaced by U+FFFD")


# --- Delays ---


@pytest.mark.parametrize("field", ["workgroupDelayInSeconds", "childrenDelayInSeconds"])
@pytest.mark.parametrize(
    ("value", "seconds", "note"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (60, 60, ""),
        (1.5, 1.5, ""),
        ("60", 60, ""),
        (YEAR, YEAR, ""),
        (YEAR + 1, YEAR, "was cut to 366 days"),
        (1e18, YEAR, "was cut to 366 days"),
        (10**200, YEAR, "was cut to 366 days"),
        (-1, 0, "was ignored: -1"),
        ("-1", 0, "was ignored: '-1'"),
        ("abc", 0, "was ignored: 'abc'"),
        ("nan", 0, "was ignored: 'nan'"),
        ("inf", 0, "was ignored: 'inf'"),
        ("1e999", 0, "was ignored: '1e999'"),
        ("", 0, "was ignored: ''"),
        (True, 0, "was ignored: True"),
        ([5], 0, "was ignored: [5]"),
        ({}, 0, "was ignored: {}"),
    ],
    ids=repr,
)
def test_delays_are_read_leniently(field, value, seconds, note):
    outcome = ruling(**{"output": 1, field: value})

    delays = Delays(seconds, 0) if field.startswith("work") else Delays(0, seconds)
    assert outcome == Completed("1", (), delays, f"{field} {note}" if note else "")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"error": "busy", "workgroupDelayInSeconds": 60}),
        (429, {"error": "busy", "workgroupDelayInSeconds": 60}),
        (500, {"error": "busy", "workgroupDelayInSeconds": "60"}),
        (418, {"workgroupDelayInSeconds": 60, "childrenDelayInSeconds": 5}),
    ],
)
def test_a_failure_that_holds_the_workgroup_uses_no_attempt(status, body):
    outcome = ruling(status, body, workgroup="w")

    children = body.get("childrenDelayInSeconds", 0)
    assert isinstance(outcome, Held)
    assert (outcome.seconds, outcome.delays) == (60, Delays(60, children))


@pytest.mark.parametrize("status", [200, 429, 500])
def test_without_a_workgroup_its_delay_holds_nothing(status):
    outcome = ruling(status, error="busy", workgroupDelayInSeconds=60)

    assert isinstance(outcome, Failed)


def test_a_success_may_hold_its_workgroup():
    outcome = ruling(output=1, workgroupDelayInSeconds=60, workgroup="w")

    assert outcome == Completed("1", (), Delays(60, 0))


@pytest.mark.parametrize("header", ["120", "2 minutes", "Tue, 24 Nov 2026 06:02:00 GMT"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_holds_the_task(status, header):
    alone = ruling(status, b"slow", retry_after=header)
    together = ruling(status, b"slow", retry_after=header, workgroup="w")

    assert alone == Held(120, f"HTTP {status}: slow")
    assert together == Held(120, f"HTTP {status}: slow", None, Delays(120, 0))


@pytest.mark.parametrize("header", ["", " ", "soon", "²", "24 Nov", "60%", "nan", "inf"])
@pytest.mark.parametrize(("delay", "held"), [(30, 30), (0, 1), (1e9, 86_400)])
def test_a_retry_after_that_cannot_be_read_holds_for_the_error_delay(header, delay, held):
    came = Answer(429, b"slow", header)

    outcome = decide(came, workgroup="w", now=NOW, error_delay=delay)

    assert (outcome.seconds, outcome.delays) == (held, Delays(held, 0))
    assert "could not be read" in outcome.note


def test_a_wait_that_is_cut_is_reported():
    outcome = ruling(429, b"slow", retry_after="86401")

    assert outcome == Held(86_400, "HTTP 429: slow", note="Retry-After was cut to a day: '86401'")


@pytest.mark.parametrize(
    ("status", "header"), [(429, None), (503, None), (500, "120"), (404, "120"), (301, "120")]
)
def test_other_retry_afters_hold_nothing(status, header):
    outcome = ruling(status, b"slow", retry_after=header, workgroup="w")

    assert isinstance(outcome, Failed)
    assert outcome.note == ""


@pytest.mark.parametrize(("retry_after", "kind"), [("5", Held), (None, Failed)])
def test_a_failure_without_a_body_that_can_be_read_says_so(retry_after, kind):
    came = Answer(429, b"", retry_after, "answer larger than 10 bytes")

    outcome = decide(came, workgroup="", now=NOW)

    assert isinstance(outcome, kind)
    assert outcome.error == "HTTP 429: answer larger than 10 bytes"


def test_retry_after_of_a_success_is_not_looked_at():
    assert ruling(200, b"{}", retry_after="120", workgroup="w") == Completed()


@pytest.mark.parametrize(("header", "field", "longest"), [("120", 60, 120), ("60", 120, 120)])
def test_the_longer_of_header_and_body_counts(header, field, longest):
    outcome = ruling(
        429, error="no", workgroupDelayInSeconds=field, retry_after=header, workgroup="w"
    )

    assert outcome == Held(longest, "HTTP 429: no", None, Delays(longest, 0))


# --- Children ---


def child(**fields):
    return {"worker": "w"} | fields


def test_a_child_gets_the_contracts_defaults():
    (made,) = ruling(children=[{"worker": "w"}]).children

    assert len(made.id) == 36
    assert replace(made, id="") == replace(
        made,
        id="",
        name="",
        worker="w",
        workgroup="",
        key="",
        remaining_attempts=5,
        is_paused=False,
        is_complete=False,
        is_seed=False,
        run_after=None,
        error_delay_in_seconds=60,
        input_json=None,
        parent_ids=(),
        created_at=None,
    )


def test_a_child_says_what_it_may_say_and_no_more():
    (made,) = ruling(
        children=[
            child(
                id="c",
                name="C",
                workgroup="wg",
                key="k",
                remainingAttempts="3",
                isPaused=True,
                runAfter="2030-01-01T00:00:00Z",
                errorDelayInSeconds=0,
                input={"n": 12345678901234567890},
                isSeed=True,
                isComplete=True,
                output=1,
                errors=["x"],
                taskGroupId="g",
                createdAt="2000-01-01T00:00:00Z",
            )
        ]
    ).children

    assert (made.id, made.name, made.workgroup, made.key) == ("c", "C", "wg", "k")
    assert (made.remaining_attempts, made.error_delay_in_seconds) == (3, 0)
    assert (made.is_paused, made.run_after) == (True, datetime(2030, 1, 1, tzinfo=UTC))
    assert made.input_json == '{"n":12345678901234567890}'
    assert (made.is_seed, made.is_complete, made.output_json, made.errors) == (
        False,
        False,
        None,
        (),
    )
    assert made.created_at is None


@pytest.mark.parametrize(("attempts", "kept"), [(None, 5), (0, 5), ("", 5), (1, 1), (1_000, 1_000)])
def test_a_child_without_attempts_gets_the_default(attempts, kept):
    (made,) = ruling(children=[child(remainingAttempts=attempts)]).children

    assert made.remaining_attempts == kept


def test_children_keep_their_order_and_may_name_siblings_that_follow():
    outcome = ruling(
        children=[child(id="d", parentIds=["b", "a", "b"]), child(id="b"), child(id="a")]
    )

    assert [made.id for made in outcome.children] == ["d", "b", "a"]
    assert outcome.children[0].parent_ids == ("b", "a")


@pytest.mark.parametrize(
    ("children", "error"),
    [
        ({}, "children must be a list"),
        ("x", "children must be a list"),
        (5, "children must be a list"),
        ([None], "child 0: a task must be an object"),
        ([child(), 5], "child 1: a task must be an object"),
        ([child()] * 1_001, "more than 1000 children"),
        ([child(), {}], "child 1: worker is missing"),
        ([{"worker": ""}], "child 0: worker is missing"),
        ([{"worker": None}], "child 0: worker is missing"),
        ([child(worker="../admin")], "child 0: worker must be"),
        ([child(worker="http://evil/x")], "child 0: worker must be"),
        ([child(), child(id="a/b")], "child 1: id must be"),
        ([child(name=5)], "child 0: name must be text"),
        ([child(key="x" * 201)], "child 0: key is longer"),
        ([child(parentIds="a")], "child 0: parentIds must be a list of strings"),
        ([child(parentIds=[1])], "child 0: parentIds must be a list of strings"),
        ([child(parentIds=["stranger"])], "child 0: parent 'stranger' is not a child"),
        ([child(id="a", parentIds=["a"])], "(a) names itself"),
        ([child(id="a", parentIds=["b"]), child(id="b", parentIds=["a"])], "form a cycle: "),
        ([child(id="a"), child(id="a")], "duplicate task id: a"),
        ([child(runAfter="tomorrow")], "child 0: runAfter must be"),
        ([child(remainingAttempts=-1)], "child 0: remainingAttempts must be"),
        ([child(errorDelayInSeconds="x")], "child 0: errorDelayInSeconds must be"),
        ([child(isPaused="yes")], "child 0: isPaused must be"),
        ([child(input="x" * 2_000)], "child 0: input is larger"),
    ],
    ids=range(25),
)
def test_one_bad_child_fails_the_answer_and_makes_none(children, error):
    bounds = Bounds(input_bytes=1_000)

    outcome = ruling(output=1, children=children, childrenDelayInSeconds=7, bounds=bounds)

    assert isinstance(outcome, Failed)
    assert error in outcome.error
    assert outcome.output is None
    assert outcome.delays == Delays(0, 7)


def test_as_many_children_as_the_limit():
    outcome = ruling(children=[child()] * 1_000)

    assert len({made.id for made in outcome.children}) == 1_000


def test_a_failure_has_no_children():
    assert not hasattr(ruling(error="no", children=[child()]), "children")
    assert not hasattr(ruling(500, children=[child()]), "children")

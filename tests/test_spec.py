"""A task in the wire's words: what is taken, as what, and what is refused."""

from datetime import UTC, datetime
from math import inf, nan

import pytest

from tasks.errors import InvalidInputError
from tasks.rules.spec import TaskSpec, read_child, read_id, read_json, read_task

MAX = 1_000


def read(**fields):
    return read_task(fields, max_input=MAX)


def test_an_empty_object_is_a_task_of_defaults():
    spec = read()

    assert len(spec.id) == 36
    assert spec == TaskSpec(id=spec.id)
    assert (spec.remaining_attempts, spec.error_delay_in_seconds) == (5, 60)


def test_null_keeps_the_default():
    names = [
        "id",
        "name",
        "worker",
        "workgroup",
        "key",
        "remainingAttempts",
        "isPaused",
        "isComplete",
        "isSeed",
        "runAfter",
        "errorDelayInSeconds",
        "priority",
        "input",
        "output",
        "errors",
        "parentIds",
        "createdAt",
    ]

    spec = read(**dict.fromkeys(names))

    assert spec == TaskSpec(id=spec.id)


def test_what_only_the_server_sets_is_ignored_and_what_is_unknown_refused_or_named():
    assert read(id="t", taskGroupId="g", busyExecuting=True, state="ready") == TaskSpec(id="t")
    for word in ("attempt", "leasedBy", "Name", ""):
        with pytest.raises(InvalidInputError, match="unknown field"):
            read(id="t", **{word: None})

    ignored = []
    spec = read_task({"id": "t", "attempt": 9, "x": 1}, max_input=MAX, ignored=ignored)
    assert (spec, ignored) == (TaskSpec(id="t"), ["attempt", "x"])


@pytest.mark.parametrize("raw", [None, [], "x", 5, True])
def test_a_task_is_an_object(raw):
    with pytest.raises(InvalidInputError, match="must be an object"):
        read_task(raw, max_input=MAX)


@pytest.mark.parametrize("field", ["name", "workgroup", "key"])
@pytest.mark.parametrize("value", ["x" * 201, 5, ["a"], {}, True, "a\0b", "\ud800"], ids=repr)
def test_texts_that_are_refused(field, value):
    with pytest.raises(InvalidInputError, match=f"^{field} "):
        read(**{field: value})


@pytest.mark.parametrize(
    "value",
    [
        "<script>alert(1)</script>",
        "{{7*7}}",
        "'\"><img onerror=x>",
        "\u202ertl",
        "zero\u200bwidth",
        "🙂",
        "e" + "\u0301" * 199,
        "x" * 200,
    ],
    ids=range(8),
)
def test_texts_are_taken_as_they_are(value):
    spec = read(name=value, workgroup=value, key=value)

    assert (spec.name, spec.workgroup, spec.key) == (value, value, value)


@pytest.mark.parametrize(
    ("value", "attempts"),
    [("5", 5), (1.9, 1), (1e3, 1_000), (None, 5), ("", 5), (0, 0), ("0", 0), (1_000, 1_000)],
)
def test_attempts(value, attempts):
    assert read(remainingAttempts=value).remaining_attempts == attempts


@pytest.mark.parametrize(
    "value",
    ["abc", "1.9", True, -1, "-1", 1_001, 1e30, 2**31, 2**63, 10**200, nan, inf, -inf, [], {}],
    ids=repr,
)
def test_attempts_that_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"^remainingAttempts must be") as caught:
        read(remainingAttempts=value)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "delay"), [("60", 60), (0, 0), ("0", 0), (None, 60), (31_536_000, 31_536_000)]
)
def test_error_delay(value, delay):
    assert read(errorDelayInSeconds=value).error_delay_in_seconds == delay


@pytest.mark.parametrize("value", [-1, 1e12, 31_536_001, "soon", False, nan], ids=repr)
def test_error_delays_that_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"^errorDelayInSeconds must be"):
        read(errorDelayInSeconds=value)


@pytest.mark.parametrize("value", [-11, 11, "high"])
def test_priorities_that_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"^priority must be"):
        read(priority=value)


@pytest.mark.parametrize("field", ["isPaused", "isComplete", "isSeed"])
@pytest.mark.parametrize("value", ["true", 1, 0, "", []], ids=repr)
def test_only_booleans_are_booleans(field, value):
    with pytest.raises(InvalidInputError, match=f"^{field} must be true or false"):
        read(**{field: value})


@pytest.mark.parametrize("value", ["a", "A.b-c_d:e", "0", "x" * 200])
def test_ids(value):
    assert read_id(value) == value


def test_no_id_is_a_new_id():
    assert read_id("") != read_id(None)


@pytest.mark.parametrize(
    "value",
    [" ", "../x", "a/b", "a\\b", "a?b", "a#b", "%2e", ".", "-a", "x" * 201, "é", "a\n", "a\0", 5],
    ids=repr,
)
def test_ids_that_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"^id must be"):
        read(id=value)


@pytest.mark.parametrize("value", ["", "worker-a", "team/worker.b_1~x", "x" * 200])
def test_workers(value):
    assert read(worker=value).worker == value


@pytest.mark.parametrize(
    "value",
    [
        "../admin",
        "a/../../b",
        "%2e%2e/admin",
        "..%2fadmin",
        "https://evil.com/x",
        "//evil.com/x",
        "http:evil",
        "javascript:alert(1)",
        "a?x=1",
        "a#f",
        "a;b",
        "a\\..\\b",
        "a\r\nHost: x",
        "a\tb",
        " a",
        "a%00",
        "é/ü",
        "x" * 201,
        ".",
        "..",
        "/a",
        "a//b",
        "a/",
        5,
    ],
    ids=repr,
)
def test_workers_that_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"^worker must be"):
        read(worker=value)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-11-24T06:18:00Z", datetime(2026, 11, 24, 6, 18, tzinfo=UTC)),
        ("2026-11-24t06:18:00z", datetime(2026, 11, 24, 6, 18, tzinfo=UTC)),
        ("2026-11-24T06:18:00.796654483Z", datetime(2026, 11, 24, 6, 18, 0, 796654, UTC)),
        ("2026-11-24T06:18:00.5Z", datetime(2026, 11, 24, 6, 18, 0, 500000, UTC)),
        ("2026-11-10T00:00:00.000-07:00", datetime(2026, 11, 10, 7, tzinfo=UTC)),
        ("2026-11-10T00:30:00+01:00", datetime(2026, 11, 9, 23, 30, tzinfo=UTC)),
        ("", None),
        (None, None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00-07:00", None),
    ],
)
def test_times(value, time):
    assert read(runAfter=value).run_after == time


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-24",
        "2026-11-24T06:18:00",
        "2026-11-24T06:18Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-24T25:00:00Z",
        "2026-11-24T06:18:60Z",
        "2026-11-24T06:18:00+25:00",
        "9999-12-31T23:59:59-14:00",
        "tomorrow",
        " 2026-11-24T06:18:00Z",
        "2026-11-24T06:18:00Z\n",
        "२०२६-11-24T06:18:00Z",
        1_700_000_000,
        True,
        {},
    ],
    ids=repr,
)
def test_times_that_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"^runAfter "):
        read(runAfter=value)


@pytest.mark.parametrize(
    ("value", "parents"),
    [(None, ()), ([], ()), (["p"], ("p",)), (["q", "p", "q"], ("q", "p"))],
)
def test_parents_once_each_in_order(value, parents):
    assert read(parentIds=value).parent_ids == parents


@pytest.mark.parametrize("value", ["x", [1], [["a"]], {"a": 1}, [None], 5], ids=repr)
def test_parents_that_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"^parentIds must be a list of strings"):
        read(parentIds=value)


@pytest.mark.parametrize("value", ["x", [1], {}], ids=repr)
def test_errors_that_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"^errors must be a list of strings"):
        read(errors=value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (0, "0"),
        (False, "false"),
        ("", '""'),
        ({"n": 12345678901234567890}, '{"n":12345678901234567890}'),
        ("ü", '"ü"'),
    ],
    ids=repr,
)
def test_json_is_kept_as_text(value, text):
    spec = read(input=value, output=value)

    assert (spec.input_json, spec.output_json) == (text, text)


@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
def test_json_is_measured_in_bytes(letter):
    size = len(letter.encode())
    fits = letter * ((MAX - 2) // size)

    assert read_json(fits, "input", limit=MAX)
    with pytest.raises(InvalidInputError, match=r"^input is larger than 1000 bytes$"):
        read_json(fits + letter, "input", limit=MAX)


def test_a_child_needs_a_worker_and_a_task_does_not():
    assert read(worker="").worker == ""
    with pytest.raises(InvalidInputError, match=r"^worker is missing$"):
        read_child({"worker": ""}, max_input=MAX)


def test_of_the_errors_of_a_new_task_the_last_fifty_are_kept_and_cut():
    errors = [str(number) for number in range(59)] + ["x" * 5_000]

    spec = read_task({"errors": errors}, max_input=100)

    assert len(spec.errors) == 50
    assert spec.errors[0] == "10"
    assert len(spec.errors[-1]) == 4_096


@pytest.mark.parametrize("field", ["key", "workgroup"])
def test_a_label_of_spaces_only_is_refused(field):
    with pytest.raises(InvalidInputError, match=field):
        read_task({field: "  "}, max_input=100)

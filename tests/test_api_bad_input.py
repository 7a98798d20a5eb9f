"""Bad input, by example: a client's error, told in a few words, and nothing stored.

The tests are named after the rows of the table: A (HTTP), J (JSON), P (fields), D (graph),
Q (query) and M (headers of ours).
"""

import json
import re
import time

import pytest
from django.db import connection

from tasks import control
from tasks.models import Task
from tasks.rules.names import check_id
from tasks.urls import urlpatterns

from .api_client import (
    GROUP,
    GROUPS,
    NDJSON,
    PROBLEM,
    TASK,
    TASKS,
    TEXT,
    Api,
    everything_stored,
)
from .factories import claim_ids, claim_one, complete, in_threads, make_group, make_task, wire

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

BULK = f"{TASKS}/bulk"
ATTEMPTS = "/api/v1/task/t/attempts"


@pytest.fixture(autouse=True)
def group(request):
    if "transactional_db" not in request.fixturenames:
        return make_group(id="g", name="G")
    return None


def is_refusal(said, status, kind, match):
    assert (said.status, said.type) == (status, kind), said.text
    assert len(said.body) < 1024
    assert re.search(match, said.why), said.why
    assert not re.search(r"Traceback|SELECT|INSERT|/tasks/api|psycopg|sqlite", said.text)


def refused(api, method, path, body=b"", *, status=400, type=TEXT, match="", **options):
    """The call is refused, in words of its kind, and nothing has changed."""
    before = everything_stored()

    said = api.send(method, path, body, **options)

    is_refusal(said, status, type, match)
    assert everything_stored() == before


def refused_by_both(api, body, *, match):
    """As one task, and as the second of a bulk create, which names its place."""
    refused(api, "POST", TASKS, body, match=match)
    line = b"{}\n" + body
    refused(api, "POST", BULK, line, kind=NDJSON, type=PROBLEM, match=f"line 2: .*{match}")


# --- A. HTTP ---


def test_a1_a_body_over_the_limit(api, settings):
    settings.CREW_MAX_BODY_BYTES = 100
    at_limit = b'{"name": "x"}'.ljust(100)

    assert api.post(GROUPS, at_limit).status == 200
    refused(api, "POST", TASKS, at_limit + b" ", status=413, match="body larger than 100 bytes")


def test_a1_a_bulk_body_over_its_limit(api, settings):
    settings.CREW_MAX_BULK_BYTES = settings.CREW_MAX_NDJSON_BYTES = 100
    match = "body larger than 100 bytes"

    refused(api, "POST", GROUPS, b" " * 101, status=413, match=match)
    refused(api, "POST", BULK, b" " * 101, status=413, type=PROBLEM, match=match)
    lines = b"{}\n" * 34
    refused(api, "POST", BULK, lines, kind=NDJSON, status=413, type=PROBLEM, match=match)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a10_a_method_override_is_not_looked_at(api, name):
    said = api.post(GROUPS, {"id": "new"}, **{name: "DELETE"})

    assert (said.status, said.json["id"]) == (200, "new")
    assert api.post(f"{GROUP}?_method=DELETE").status == 405


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP", "gzip, identity", "x"])
def test_a11_compressed_bodies(api, coding):
    refused(api, "POST", TASKS, {}, status=415, match="compressed", Content_Encoding=coding)


@pytest.mark.parametrize("charset", ["utf-16", "bogus", "latin-1", "x" * 900, '"utf-7"'])
def test_a13_other_charsets(api, charset):
    kind = f"application/json; charset={charset}"

    refused(api, "POST", TASKS, {}, kind=kind, status=415, match="only UTF-8")
    refused(api, "POST", BULK, {"tasks": []}, kind=kind, status=415, type=PROBLEM, match="UTF-8")


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii"])
def test_a13_utf_8_by_name(api, charset):
    assert api.post(TASKS, {}, kind=f"application/json; charset={charset}").status == 200


FORMS = [
    ("application/x-www-form-urlencoded", b"name=x&worker=y"),
    (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n',
    ),
]


@pytest.mark.parametrize(("kind", "body"), FORMS)
def test_a14_forms(api, kind, body):
    refused(api, "POST", TASKS, body, kind=kind, match="not readable as JSON")
    for path in (BULK, f"{TASKS}/pause?all=1", f"{GROUP}/cancel", "/api/v1/workgroup/w/hold"):
        refused(api, "POST", path, body, kind=kind, status=415, type=PROBLEM, match="media type")


def test_a14_plain_text_is_what_a_form_could_send(api):
    body = {"tasks": [{}]}

    refused(api, "POST", BULK, body, kind="text/plain", status=415, type=PROBLEM)


@pytest.mark.parametrize("part", ["%00", "a%00b", "%ff", "%ed%a0%80", "%0a", "x" * 8000, "%2e%2e"])
def test_a16_and_a17_paths_that_name_nothing(api, part):
    for path in (f"/api/v1/task_group/{part}", f"/api/v1/task/{part}", f"{GROUP}/task/{part}"):
        refused(api, "GET", path, status=404)
    refused(api, "DELETE", f"{GROUP}/task/{part}", status=404)
    refused(api, "POST", f"/api/v1/task_group/{part}/pause", status=404)
    refused(api, "GET", f"/api/v1/task/{part}/attempts", status=404, type=PROBLEM)
    path = f"/api/v1/task_group/{part}/tasks/pause?all=1"
    refused(api, "POST", path, status=404, type=PROBLEM)
    refused(api, "GET", f"/api/{part}", status=404, match="404 page not found")


@pytest.mark.parametrize("part", ["%00", "a%00b"])
def test_a16_nul_in_the_names_of_workers_and_workgroups(api, part):
    refused(api, "PUT", f"/api/v1/worker/{part}", {"maxConcurrency": 1}, status=404, type=PROBLEM)
    for verb, body in (("hold", {"seconds": 1}), ("open", b"")):
        path = f"/api/v1/workgroup/{part}/{verb}"
        refused(api, "POST", path, body, status=404, type=PROBLEM)


# --- J. JSON ---


@pytest.mark.parametrize(
    ("body", "match"),
    [
        pytest.param(b" ", "empty", id="j1-blank"),
        pytest.param(b'{"name":', "no value at character 8", id="j2-cut"),
        pytest.param(b'{"name": "x', "not JSON", id="j2-cut-string"),
        pytest.param(b"{} x", "more text after the value", id="j3-trailing"),
        pytest.param(b"{}{}", "more text after the value", id="j3-two-values"),
        pytest.param(b"{'a': 1}", "not JSON", id="j4-quotes"),
        pytest.param(b'{"a": 1,}', "not JSON", id="j4-comma"),
        pytest.param(b"// {}", "not JSON", id="j4-comment"),
        *(
            pytest.param(b'{"input": %s}' % word, "is not JSON", id=f"j5-{word.decode()}")
            for word in (b"NaN", b"Infinity", b"-Infinity")
        ),
        pytest.param(b'{"input": 1e400}', "number too large", id="j6-1e400"),
        pytest.param(b'{"input": -1e400}', "number too large", id="j6--1e400"),
        pytest.param(b'{"input": %s}' % (b"9" * 301), "300 digits", id="j7-digits"),
        *(
            pytest.param(
                b'{"input": %s%s}' % (opener * depth, closer * depth),
                "nested deeper than 64",
                id=f"j9-{opener.decode()}-{depth}",
            )
            for opener, closer in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]"))
            for depth in (65, 1_000, 100_000)
        ),
        pytest.param(b'{"name": "a", "name": "b"}', "'name' twice", id="j10-twice"),
        pytest.param(rb'{"name": "a\u0000"}', r"in \$.name", id="j11-escaped"),
        pytest.param(rb'{"input": {"a\u0000": 1}}', r"a key of \$.input", id="j11-key"),
        pytest.param(b'{"name": "a\0"}', "not JSON", id="j11-raw"),
        pytest.param(rb'{"input": ["\ud800"]}', r"in \$.input\[0\]", id="j12-lone"),
        pytest.param(rb'{"input": "\udc00\ud800"}', r"in \$.input", id="j12-reversed"),
        pytest.param(rb'{"\ud800": 1}', "a key of", id="j12-key"),
        pytest.param(b'{"name": "\xff"}', "not UTF-8 at byte 10", id="j13-latin"),
        pytest.param(b'{"name": "\xed\xa0\x80"}', "not UTF-8", id="j13-surrogate"),
        pytest.param("\ufeff{}".encode(), "byte order mark", id="j13-bom"),
        pytest.param("{}".encode("utf-16"), "not UTF-8", id="j13-utf16"),
    ],
)
def test_j_json_that_is_refused(api, body, match):
    refused(api, "POST", TASKS, body, match=match)
    refused(api, "POST", GROUPS, body, match=match)
    refused(api, "POST", BULK, body, type=PROBLEM, match=match)


@pytest.mark.parametrize("body", [b"null", b"5", b'"x"', b"[]", b"[{}]", b"true"])
def test_j16_a_body_that_is_no_object(api, body):
    make_task(id="t", group=make_group(id="other"))

    refused(api, "POST", TASKS, body, match="must be a JSON object")
    refused(api, "PUT", GROUP, body, match="must be a JSON object")
    refused(api, "PUT", "/api/v1/task_group/other/task/t", body, match="must be a JSON object")


def test_j8_large_numbers_are_kept_exactly(api):
    body = b'{"id": "t", "input": [12345678901234567890, -9007199254740993, 0.1, 1e300]}'

    api.post(TASKS, body)

    said = api.get(TASK)
    assert b"[12345678901234567890,-9007199254740993,0.1," in said.body
    assert float(said.json["input"][3]) == 1e300


@pytest.mark.parametrize("name", ["input", "output"])
def test_j14_payloads_over_the_limit(api, settings, name):
    settings.CREW_MAX_INPUT_BYTES = 100
    text = json.dumps({name: "\u00e9" * 49}, ensure_ascii=False).encode()

    assert api.post(TASKS, text).status == 200
    too_long = text.replace(b'"}', b'x"}')
    refused_by_both(api, too_long, match=f"{name} is larger than 100 bytes")
    make_task(make_group(id="other"), id="t")
    path = "/api/v1/task_group/other/task/t"
    refused(api, "PUT", path, too_long, match=f"{name} is larger than 100 bytes")


def test_j15_too_many_values_cost_little(api):
    collisions = json.dumps(dict.fromkeys((str(2**61 * i) for i in range(70_000)), 1)).encode()
    many = json.dumps(dict.fromkeys(map(str, range(150_000)), 0)).encode()
    wide = b'{"input": [' + b"1," * 150_000 + b"1]}"
    started = time.process_time()

    for body in (many, wide):
        refused(api, "POST", TASKS, body, match="too many values")
    api.post(TASKS, collisions[: 2 * 1024 * 1024])

    assert time.process_time() - started < 3


# --- P. Fields ---


@pytest.mark.parametrize("field", ["name", "workgroup", "key", "worker"])
@pytest.mark.parametrize("value", ["x" * 201, 5, ["a"], {}, True, 1.5], ids=repr)
def test_p1_texts(api, field, value):
    refused_by_both(api, json.dumps({field: value}).encode(), match=f"{field} ")
    make_task(make_group(id="other"), id="t")
    refused(api, "PUT", "/api/v1/task_group/other/task/t", {field: value}, match=f"^{field} ")


@pytest.mark.parametrize("value", ["x" * 201, 5, ["a"], {}, True], ids=repr)
def test_p1_the_name_of_a_group(api, value):
    refused(api, "POST", GROUPS, {"name": value}, match="^name ")
    if isinstance(value, str):
        refused(api, "PUT", GROUP, {"name": value}, match="^name ")


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "{{7*7}}",
        "'\"><img onerror=x>",
        "\u202ertl",
        "zero\u200bwidth",
        "\U0001f642",
        "e" + "\u0301" * 199,
        "%s %(x)s \\",
    ],
    ids=ascii,
)
def test_p2_odd_names_are_kept_as_they_are(api, name):
    said = api.post(TASKS, {"id": "t", "name": name, "input": {name: name}})

    assert (said.json["name"], said.json["input"]) == (name, {name: name})
    assert api.get(TASK).json == said.json
    assert api.put(GROUP, {"name": name}).json["name"] == name


@pytest.mark.parametrize(
    "worker",
    [
        "../admin",
        "a/../../b",
        "%2e%2e/admin",
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
        "é",
        ".",
        "..",
        "/a",
        "a//b",
        "a/",
        " ",
    ],
)
def test_p3_worker_names(api, worker):
    refused_by_both(api, json.dumps({"worker": worker}).encode(), match="worker must be")
    make_task(make_group(id="other"), id="t")
    path = "/api/v1/task_group/other/task/t"
    refused(api, "PUT", path, {"worker": worker}, match="^worker must be")


NUMBERS = ["abc", True, -1, "-1", 1e30, 2**31, 2**63, 2**64, -(2**63) - 1, [], {}, "1.9", "9" * 30]


@pytest.mark.parametrize("field", ["remainingAttempts", "errorDelayInSeconds", "priority"])
@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_p4_p5_and_p15_numbers(api, field, value):
    if field == "priority" and value in (-1, "-1"):
        value = 11
    refused_by_both(api, json.dumps({field: value}).encode(), match=f"{field} must be")
    make_task(make_group(id="other"), id="t")
    refused(api, "PUT", "/api/v1/task_group/other/task/t", {field: value}, match=f"^{field} must")


@pytest.mark.parametrize(
    ("field", "edges"),
    [
        ("remainingAttempts", [0, 1_000]),
        ("errorDelayInSeconds", [0, 31_536_000]),
        ("priority", [-10, 10]),
    ],
)
def test_p4_numbers_at_their_limits(api, field, edges):
    for value in edges:
        assert api.post(TASKS, {field: value}).json[field] == value
    refused(api, "POST", TASKS, {field: edges[1] + 1}, match=f"^{field} must be between")


@pytest.mark.parametrize("field", ["runAfter", "createdAt"])
@pytest.mark.parametrize(
    "value",
    [
        "soon",
        5,
        True,
        [],
        "2026-11-24",
        "2026-11-24T06:18:00",
        "2026-13-24T06:18:00Z",
        "2026-02-30T06:18:00Z",
        "10000-01-01T00:00:00Z",
        "2026-11-24T25:00:00Z",
        "0000-01-01T00:00:00Z",
    ],
    ids=repr,
)
def test_p6_and_p12_times(api, field, value):
    refused_by_both(api, json.dumps({field: value}).encode(), match=f"{field} ")
    if field == "createdAt":
        refused(api, "POST", GROUPS, {field: value}, match="^createdAt ")


@pytest.mark.parametrize("field", ["isPaused", "isComplete", "isSeed"])
@pytest.mark.parametrize("value", ["true", 1, 0, "", []], ids=repr)
def test_p7_only_booleans_are_booleans(api, field, value):
    refused_by_both(
        api, json.dumps({field: value}).encode(), match=f"{field} must be true or false"
    )
    make_task(make_group(id="other"), id="t")
    path = "/api/v1/task_group/other/task/t"
    refused(api, "PUT", path, {field: value}, match=f"^{field} must be true or false")


def test_p8_complete_by_hand_is_whole(api):
    make_task(make_group(id="other"), id="t")
    make_task(Task.objects.get().group, id="child", parent_ids=["t"])
    path = "/api/v1/task_group/other"

    assert api.put(f"{path}/task/t", {"isComplete": True}).json["isComplete"] is True

    assert Task.objects.get(pk="t").completed_at is not None
    assert api.get(f"{path}/progress").json["completedPercent"] == 0.5
    assert claim_ids() == ["child"]


@pytest.mark.parametrize("value", ["x", {}, [1], [None], [["a"]], 5], ids=repr)
def test_p9_errors_are_a_list_of_strings(api, value):
    refused_by_both(api, json.dumps({"errors": value}).encode(), match="errors must be a list")


IDS = [" ", "../x", "a/b", "a?b", "%2e", ".", "..", "-a", "x" * 201, "\u00e9", 5, True, [], {}]


@pytest.mark.parametrize("value", IDS, ids=repr)
def test_p10_ids(api, value):
    refused(api, "POST", GROUPS, {"id": value}, match="^id must be")
    refused_by_both(api, json.dumps({"id": value}).encode(), match="id must be")


@pytest.mark.parametrize("value", ["", None])
def test_p10_no_id_is_a_new_one(api, value):
    for path in (GROUPS, TASKS):
        assert check_id(api.post(path, {"id": value}).json["id"])


def test_p10_ids_in_use_here_and_in_another_group(api):
    make_task(make_group(id="other"), id="t")
    refused(api, "POST", GROUPS, {"id": "g"}, status=409, match="id g exists already")
    match = "^a task with the id t exists already$"
    refused(api, "POST", TASKS, {"id": "t"}, status=409, match=match)
    refused(api, "POST", "/api/v1/task_group/other/tasks", {"id": "t"}, status=409, match=match)
    body = {"tasks": [{}, {"id": "t"}]}
    refused(api, "POST", BULK, body, status=409, type=PROBLEM, match=match)
    refused(api, "POST", GROUPS, {"id": "n"} | body, status=409, match=match)


def test_p11_the_group_of_the_path_wins(api):
    make_group(id="other")

    assert api.post(TASKS, {"taskGroupId": "other"}).json["taskGroupId"] == "g"


@pytest.mark.parametrize("field", ["key", "workgroup"])
@pytest.mark.parametrize("value", [" ", "\t\n", "\u00a0", "x" * 201])
def test_p13_labels(api, field, value):
    refused_by_both(api, json.dumps({field: value}).encode(), match=f"{field} ")


@pytest.mark.parametrize(
    "body", [{"name": "x"}, {"input": 1}, {"isComplete": True}, {"parentIds": []}, {"worker": "w"}]
)
def test_p14_a_task_that_executes_is_not_edited(api, group, body):
    make_task(group, id="t")
    claim_one()

    refused(api, "PUT", TASK, body | {"isPaused": True}, status=409, match="t is executing")


def test_p16_deleting_a_parent_takes_who_is_left_without_any(api, group):
    make_task(group, id="t")
    make_task(group, id="child", parent_ids=["t"])

    refused(api, "DELETE", f"{TASK}?children=refuse", status=409, match="with children")
    refused(api, "DELETE", f"{TASK}?children=all", match="cascade, detach or refuse")
    assert api.delete(TASK).status == 200
    assert not Task.objects.exists()


@pytest.mark.timeout(300)  # beside other tests it goes in many small slices
def test_p17_a_reset_that_removes_many(api, group):
    make_task(group, is_seed=True)
    for _ in range(2):
        body = {"tasks": [{"parentIds": []} for _ in range(10_000)]}
        assert api.post(BULK, body).status == 200

    assert api.post(f"{GROUP}/reset").json == {"success": True}
    assert Task.objects.count() == 1


# --- D. The graph ---


def chain(length):
    return [{"id": f"c{i}", "parentIds": [f"c{(i + 1) % length}"]} for i in range(length)]


def refused_in_bulk(api, tasks, *, status=400, match):
    body = {"tasks": tasks}
    lines = b"\n".join(json.dumps(task).encode() for task in tasks)
    refused(api, "POST", BULK, body, status=status, type=PROBLEM, match=match)
    refused(api, "POST", BULK, lines, kind=NDJSON, status=status, type=PROBLEM, match=match)
    refused(api, "POST", f"{BULK}?dryRun=1", body, status=status, type=PROBLEM, match=match)
    refused(api, "POST", GROUPS, {"id": "new"} | body, status=status, match=match)


def test_d1_a_task_that_is_its_own_parent(api):
    refused(api, "POST", TASKS, {"id": "t", "parentIds": ["t"]}, match="names itself as a parent")
    refused_in_bulk(api, [{}, {"id": "t", "parentIds": ["t"]}], match=r"task 1 \(t\) names itself")


@pytest.mark.parametrize("length", [2, 1_000])
def test_d2_cycles(api, length):
    refused_in_bulk(api, [{"id": "free"}, *chain(length)], match=r"cycle: c\d+ -> c\d+")


def test_d3_a_cycle_by_an_edge_added_later(api, group):
    make_task(group, id="t")
    make_task(group, id="child", parent_ids=["t"])
    make_task(group, id="grandchild", parent_ids=["child"])

    refused(api, "PUT", TASK, {"parentIds": ["t"]}, status=409, match="cycle: t -> t")
    refused(api, "PUT", TASK, {"parentIds": ["grandchild"]}, status=409, match="cycle: ")


@pytest.mark.django_db(transaction=True)
def test_d3_a_cycle_by_two_calls_at_once(transactional_db, api):
    for round_ in range(5):
        make_group(id=f"g{round_}", tasks=[wire(id=f"a{round_}"), wire(id=f"b{round_}")])
        path = f"/api/v1/task_group/g{round_}/task"
        calls = [
            (f"{path}/a{round_}", {"parentIds": [f"b{round_}"]}),
            (f"{path}/b{round_}", {"parentIds": [f"a{round_}"]}),
        ]

        said = in_threads(lambda call: Api().put(*call), calls)

        assert sorted(each.status for each in said) == [200, 409]


def test_d4_unknown_parents(api):
    refused(api, "POST", TASKS, {"parentIds": ["nobody"]}, match="cannot find all parents for task")
    refused_in_bulk(
        api,
        [{"id": "a"}, {"id": "b", "parentIds": ["a", "nobody"]}],
        match=r"cannot find all parents for task 1 \(b\): nobody",
    )


def test_d5_parents_of_another_group(api, group):
    make_task(make_group(id="other"), id="p")
    make_task(group, id="t")
    match = "cannot find all parents for task"

    refused(api, "POST", TASKS, {"parentIds": ["p"]}, match=match)
    refused(api, "PUT", TASK, {"parentIds": ["p"]}, match=match)
    refused_in_bulk(api, [{"parentIds": ["p"]}], match=match)


def test_d6_the_same_parent_twice_is_one_edge(api, group):
    make_task(group, id="p")

    said = api.post(TASKS, {"id": "t", "parentIds": ["p", "p"]})

    assert said.json["parentIds"] == ["p"]
    assert Task.objects.get(pk="t").pending_parents == 1


def test_d7_too_many_parents(api, group, settings):
    settings.CREW_MAX_PARENTS = 2
    control_ids = [make_task(group).pk for _ in range(3)]
    make_task(group, id="t")

    assert api.post(TASKS, {"parentIds": control_ids[:2]}).status == 200
    refused(api, "POST", TASKS, {"parentIds": control_ids}, match="more than 2 parents")
    refused(api, "PUT", TASK, {"parentIds": control_ids}, match="more than 2 parents")


@pytest.mark.parametrize("value", ["p", [1], [["p"]], [None], {"p": 1}, 5, True], ids=repr)
def test_d8_parents_of_a_wrong_type(api, group, value):
    refused_by_both(
        api, json.dumps({"parentIds": value}).encode(), match="parentIds must be a list"
    )
    make_task(group, id="t")
    refused(api, "PUT", TASK, {"parentIds": value}, match="parentIds must be a list")


def test_d8_null_is_no_parents(api):
    assert api.post(TASKS, {"parentIds": None}).json["parentIds"] == []


def test_d9_a_child_of_a_complete_parent_may_start(api, group):
    make_task(group, id="p", is_complete=True)

    api.post(TASKS, {"id": "t", "worker": "w", "parentIds": ["p"]})

    assert claim_ids() == ["t"]


def test_d10_a_parent_that_was_deleted(api, group):
    make_task(group, id="p")
    control.delete_tasks("g", ["p"])

    refused(api, "POST", TASKS, {"parentIds": ["p"]}, match="cannot find all parents for task")


@pytest.mark.parametrize("last", [{"name": 5}, {"remainingAttempts": "x"}, 5, {"id": "%"}])
def test_d11_the_last_of_many_is_bad(api, last):
    field = next(iter(last)) if isinstance(last, dict) else "a task must be an object"
    tasks = [{"id": f"t{i}"} for i in range(50)] + [last]
    lines = b"\n\n".join(json.dumps(task).encode() for task in tasks)

    for path in (BULK, f"{BULK}?dryRun=1"):
        refused(api, "POST", path, {"tasks": tasks}, type=PROBLEM, match=f"^task 50: {field}")
        refused(api, "POST", path, lines, kind=NDJSON, type=PROBLEM, match=f"^line 101: {field}")
    refused(api, "POST", GROUPS, {"tasks": tasks}, match=f"^task 50: {field}")


def test_d12_an_id_twice_in_one_call(api):
    refused_in_bulk(api, [{"id": "a"}, {"id": "b"}, {"id": "a"}], match="duplicate task id: a")


def test_d13_more_than_one_call_takes(api, settings):
    settings.CREW_MAX_TASKS_PER_CALL = settings.CREW_MAX_EDGES_PER_CALL = 3
    settings.CREW_MAX_NDJSON_TASKS = 4
    most = [{"id": "a"}, {"id": "b"}, {"id": "c", "parentIds": ["a", "b"]}]
    edges = [*most[:2], {"id": "c", "parentIds": ["a", "b"]}, {"id": "d", "parentIds": ["a", "b"]}]

    assert api.post(f"{BULK}?dryRun=1", {"tasks": most}).status == 200
    refused(api, "POST", BULK, {"tasks": [{}] * 4}, type=PROBLEM, match="more than 3 tasks")
    refused(api, "POST", BULK, b"{}\n" * 5, kind=NDJSON, type=PROBLEM, match="more than 4 tasks")
    refused(api, "POST", GROUPS, {"tasks": [{}] * 4}, match="more than 3 tasks")
    settings.CREW_MAX_TASKS_PER_CALL = 4
    refused(api, "POST", BULK, {"tasks": edges}, type=PROBLEM, match="more than 3 parents")


def test_d13_a_group_that_is_full(api, settings):
    settings.CREW_MAX_GROUP_TASKS = 2

    assert api.post(BULK, {"tasks": [{}, {}]}).status == 200
    refused(api, "POST", TASKS, {}, match="a group holds at most 2 tasks")


def test_d14_new_parents_of_a_task_that_runs_or_is_complete(api, group):
    make_task(group, id="p", is_paused=True)
    make_task(group, id="t")
    lease = claim_one()

    refused(api, "PUT", TASK, {"parentIds": ["p"]}, status=409, match="is executing")
    complete(lease)
    refused(api, "PUT", TASK, {"parentIds": ["p"]}, status=409, match="parents are history")


# --- Q. The query ---


@pytest.mark.parametrize(
    "query",
    [f"page={value}" for value in ("0", "-1", "abc", "1.5", "9" * 22, "", "%00", "1;2", "%D9%A1")]
    + [f"pageSize={value}" for value in ("0", "-1", "abc", "501", "1e9", "9" * 22)],
)
def test_q1_and_q2_pages(api, group, query):
    make_task(group, id="t")

    refused(api, "GET", ATTEMPTS + f"?{query}", type=PROBLEM, match="page counts from 1")
    for path in (GROUPS, TASKS):  # as the old Crew: a default, or an empty page
        assert (api.get(f"{path}?{query}").status, api.get(path).json["count"]) == (200, 1)


@pytest.mark.parametrize("name", ["search", "worker", "workgroup", "key", "state"])
@pytest.mark.parametrize(
    ("value", "status"), [("%00", 400), ("a%00b", 400), ("%ff", 200), ("%ed%a0%80", 200)]
)
def test_q3_bytes_that_are_no_text(api, name, value, status):
    said = api.get(f"{TASKS}?{name}={value}")

    if status == 200 and name != "state":
        assert (said.status, said.json) == (200, {"count": 0, "tasks": []})
    else:
        is_refusal(said, 400, TEXT, f"{name}|state")
    refused(api, "GET", f"{GROUPS}?search=%00", match="NUL")


def test_q4_a_long_search(api):
    for path in (GROUPS, TASKS):
        for search in ("x" * 5_000, "+".join(["word"] * 3_000)):
            refused(api, "GET", f"{path}?search={search}", match="search is longer than 200")
        assert api.get(f"{path}?search={'x' * 200}").json["count"] == 0


@pytest.mark.parametrize("search", ["%25", "_", "%5C", "%27", "%22", "%5C%25", "%27%20OR%201=1--"])
def test_q5_search_takes_every_character_for_itself(api, group, search):
    make_task(group, name="plain")

    assert api.get(f"{TASKS}?search={search}").json["count"] == 0
    assert api.get(f"{GROUPS}?search={search}").json["count"] == 0


def test_q6_a_flag_that_is_neither(api, group):
    make_task(group, is_complete=True)

    assert api.get(f"{TASKS}?skipCompleted=maybe").json["count"] == 1
    match = "skipCompleted must be true or false"
    path = f"{TASKS}/pause?worker=worker-a&skipCompleted=maybe"
    refused(api, "POST", path, type=PROBLEM, match=match)
    for path in (
        f"{TASKS}/pause?all=maybe",
        f"{TASKS}/pause?all=1&dryRun=yes",
        f"{BULK}?dryRun=yes",
    ):
        refused(api, "POST", path, {} if "pause" in path else {"tasks": []}, type=PROBLEM)
    refused(api, "POST", f"{TASKS}?dryRun=yes", {}, match="dryRun must be true or false")


VERBS = ["pause", "resume", "retry", "reset", "delete"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("query", ["wroker=a", "Worker=a", "stat=ready", "all=1&serach=x", "x"])
def test_q7_a_misspelt_filter_is_never_all(api, group, verb, query):
    make_task(group)

    refused(api, "POST", f"{TASKS}/{verb}?{query}", type=PROBLEM, match="unknown parameter")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("body", [b"", {}, {"id": ["t"]}, {"IDs": []}, {"remainingAttempts": 5}])
def test_q7_nothing_named_is_never_all(api, group, verb, body):
    make_task(group)

    for query in ("", "?search=", "?skipCompleted=false", "?all=0"):
        path = f"{TASKS}/{verb}{query}"
        refused(api, "POST", path, body, type=PROBLEM, match="unknown field|name the tasks by")


@pytest.mark.parametrize("path", [f"{TASKS}/pause?worker=a&worker=b", f"{ATTEMPTS}?page=1&page=2"])
def test_q8_a_parameter_twice(api, group, path):
    make_task(group, id="t")

    method = "GET" if "attempts" in path else "POST"
    refused(api, method, path, type=PROBLEM, match="comes twice")


UNKNOWN = [
    "ordering=password",
    "ordering=-id;--",
    "group__owner__password__startswith=a",
    "id__in=1",
    "created_at__gt=9999999999-01-01",
    "format=xml",
    "format=api",
]


@pytest.mark.parametrize("query", UNKNOWN)
def test_q9_to_q13_parameters_that_there_are_not(api, group, query):
    make_task(group, id="t")

    refused(api, "GET", f"{ATTEMPTS}?{query}", type=PROBLEM, match="unknown parameter")
    assert api.get(f"{TASKS}?{query}").body == api.get(TASKS).body
    assert api.get(f"{GROUPS}?{query}").body == api.get(GROUPS).body


@pytest.mark.parametrize("state", ["done", "", "ready,", "READY", "ready;executing", "x" * 200])
def test_q11_states_that_there_are_not(api, group, state):
    make_task(group)

    refused(api, "GET", f"{TASKS}?state={state}", match="^state is one of complete, ")
    path = f"{TASKS}/pause?state={state}"
    refused(api, "POST", path, type=PROBLEM, match="^state is one of complete, ")


ODD_VALUES = [
    "%00",
    "9" * 40,
    "-1",
    ",".join(["a"] * 2_000),
    "%1B[2J+%ED%A0%80",
    "0001-01-01T00:00:00%2B14:00",
]
ALONG = {"after": "limit=1", "limit": "all=1&dryRun=1"}  # some go only with others


@pytest.mark.parametrize(
    "route", [one for one in urlpatterns if one.name], ids=lambda one: one.name
)
def test_q14_every_parameter_of_every_route_takes_odd_values(api, group, route):
    make_task(group, id="t")
    path = "/" + re.sub("<[^>]*:(gid|tid|[a-z]+)>", _in_a_path, str(route.pattern))
    for method, names in getattr(route.callback.cls, "takes", {}).items():
        for name in names:
            for value in ODD_VALUES:
                asked = f"{path}?{name}={value}&{ALONG.get(name, 'all=1')}"

                said = api.send(method, asked)

                assert said.status < 500, (method, asked, said.text)


def _in_a_path(part):
    return {"gid": "g", "tid": "t"}.get(part[1], "1")


EMPTY = [
    "application/x-www-form-urlencoded",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/json; charset=latin-1",
    "image/png",
]
POSTS = ["/cancel", "/tasks/pause?all=1", "/tasks/retry?all=1", "/task/t/rerun", "/reset"]


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("path", POSTS)
def test_a_body_without_a_byte_is_of_any_type(api, group, path, kind):
    make_task(group, id="t")

    said = api.client.generic("POST", f"{GROUP}{path}", CONTENT_TYPE=kind)

    assert said.status_code == 200, said.content


@pytest.mark.parametrize("kind", EMPTY[:3])
def test_a_form_of_a_browser_is_none_of_ours_with_or_without_a_body(api, group, kind):
    for body in (b"", b"a=1"):
        sent = {"CONTENT_TYPE": kind, "HTTP_ORIGIN": "http://testserver"}
        assert api.client.generic("POST", f"{GROUP}/cancel", body, kind, **sent).status_code == 415


def test_q14_thousands_of_parameters(api, group):
    make_task(group, id="t")
    query = "&".join(f"p{i}=1" for i in range(2_000))

    refused(api, "GET", f"{TASKS}?{query}", match="the request cannot be read")
    refused(api, "GET", f"{ATTEMPTS}?{query}", type=PROBLEM, match="the request cannot be read")


# --- M. Headers of ours, and bodies of the routes that are ours ---


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "a\r\nb", "a b", "\u00e9", "a\0"], ids=repr)
def test_m10_idempotency_keys(api, key):
    for path, body, type_ in (
        (TASKS, {}, TEXT),
        (GROUPS, {}, TEXT),
        (BULK, {"tasks": [{}]}, PROBLEM),
    ):
        options = {"Idempotency_Key": key}
        refused(api, "POST", path, body, type=type_, match="Idempotency-Key must be", **options)


def test_m10_a_key_of_another_call(api):
    assert api.post(TASKS, {"name": "a"}, Idempotency_Key="k").status == 200

    match = "used for another call"
    refused(api, "POST", TASKS, {"name": "b"}, status=422, match=match, Idempotency_Key="k")
    refused(api, "POST", GROUPS, {"name": "a"}, status=422, match=match, Idempotency_Key="k")


@pytest.mark.parametrize("value", [-1, 1.5, "5", True, [], 10**6 + 1, 2**63], ids=repr)
def test_limits_of_a_worker(api, value):
    path = "/api/v1/worker/w"

    refused(api, "PUT", path, {"maxConcurrency": value}, type=PROBLEM, match="maxConcurrency must")
    refused(api, "PUT", path, {}, type=PROBLEM, match="maxConcurrency is missing")
    refused(api, "PUT", path, {"max": 1}, type=PROBLEM, match="unknown field max")


@pytest.mark.parametrize("name", ["%2e%2e/x", "a%0ab", "a%20b", "x" * 201, "a%3fb"])
def test_names_of_workers(api, name):
    said = api.put(f"/api/v1/worker/{name}", {"maxConcurrency": 1})

    assert (said.status, said.type) in ((400, PROBLEM), (405, said.type))
    assert len(said.body) < 1024


@pytest.mark.parametrize("value", [-1, "5", True, None, [], 31_622_401, 1e300], ids=repr)
def test_holds_of_a_workgroup(api, value):
    refused(api, "POST", "/api/v1/workgroup/w/hold", {"seconds": value}, type=PROBLEM)
    refused(api, "POST", "/api/v1/workgroup/w/hold", {}, type=PROBLEM, match="seconds must be")


def test_the_database_gives_up(api, monkeypatch):
    from django.db import OperationalError

    def locked(*_, **__):
        raise OperationalError("database is locked: SELECT secrets")

    monkeypatch.setattr("tasks.api.tasks.create.create_task", locked)
    said = api.post(TASKS, {})

    is_refusal(said, 503, TEXT, "the database is busy, try again")
    assert said.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("path", "type_"), [(TASKS, TEXT), (BULK, PROBLEM)])
def test_a_bug_of_ours_tells_nothing(api, monkeypatch, caplog, path, type_):
    def broken(*_, **__):
        raise ZeroDivisionError("secrets")

    monkeypatch.setattr("tasks.create.graph.check_new", broken)

    said = api.post(path, {} if path == TASKS else {"tasks": []})

    is_refusal(said, 500, type_, "^internal error$")
    assert "ZeroDivisionError: secrets" in caplog.text


def test_integers_that_no_database_holds(api):
    assert connection.vendor in ("postgresql", "sqlite")
    body = b'{"id": "t", "input": %s}' % (b"9" * 300)

    assert api.post(TASKS, body).status == 200
    assert api.get(TASK).body.count(b"9") >= 300

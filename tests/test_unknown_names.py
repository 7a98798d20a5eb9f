"""What is not understood is refused by name, or named: it never acts as if it were not there."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tasks import create
from tasks.checks.settings import check_settings
from tasks.client import Crew
from tasks.errors import InvalidInputError
from tasks.models import Task, TaskGroup
from tasks.rules.decide import Answer, Completed, Failed, decide
from tasks.rules.spec import TASK_WORDS
from tasks.store import wire

from .api_client import GROUP, GROUPS, NDJSON, PROBLEM, TASK, TASKS, TEXT, Api, AtRoot
from .factories import make_group, make_task

pytestmark = pytest.mark.django_db

PARENTS = ["parent_ids", "parents", "Parent_Ids", "parentids", "ParentIds", "parent", "parent-ids"]
DRY_RUNS = ["dryrun", "dry_run", "DRYRUN", "DryRun", "dry-run"]


@pytest.fixture(autouse=True)
def no_auth(settings):
    settings.ROOT_URLCONF = AtRoot
    settings.CREW_AUTHENTICATION = []


@pytest.fixture
def api() -> Api:
    return Api()


def ignored(said: Any) -> list[str]:
    header = said.headers.get("X-Crew-Ignored", "")
    return header.split(", ") if header else []


def refused(said: Any, *words: str) -> None:
    assert said.status == 400, said.text
    for word in words:
        assert word in said.why


# --- Many tasks: refused by name --------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("parent_ids", "did you mean parentIds?"),
        ("parents", "did you mean parentIds?"),
        ("run_after", "did you mean runAfter?"),
        ("ispaused", "did you mean isPaused?"),
        ("paused", "did you mean isPaused?"),
        ("attempts", "did you mean remainingAttempts?"),
        ("nmae", "did you mean name?"),
        ("favouriteColour", "unknown field favouriteColour"),
        ("", "unknown field ''"),
    ],
)
@pytest.mark.parametrize("value", [["a"], None, 1])
def test_a_bulk_create_refuses_unknown_fields_by_name(api, field, meant, value):
    make_group(id="g")
    tasks = [{"id": "a", "worker": "w"}, {"worker": "w", field: value}]
    lines = b"\n".join(json.dumps(task).encode() for task in tasks)

    refused(api.post(f"{TASKS}/bulk", {"tasks": tasks}), "task 1: unknown field", meant)
    refused(api.post(f"{TASKS}/bulk", tasks), "task 1: unknown field", meant)
    refused(api.post(f"{TASKS}/bulk", lines, kind=NDJSON), "line 2: unknown field", meant)
    refused(api.post(GROUPS, {"name": "G", "tasks": tasks}), "task 1: unknown field", meant)
    with pytest.raises(InvalidInputError, match="task 1: unknown field"):
        create.create_group(tasks=tasks)
    with pytest.raises(InvalidInputError, match="task 1: unknown field"):
        create.create_tasks("g", tasks)

    assert (Task.objects.count(), TaskGroup.objects.count()) == (0, 1)


@pytest.mark.parametrize("field", ["task", "taks", "Tasks", "TASKS", "task_list", "children"])
def test_a_group_is_never_made_without_the_tasks_that_were_sent(api, field):
    said = api.post(GROUPS, {"name": "G", field: [{"worker": "w"}]})

    refused(said, f"unknown field {field}")
    assert not TaskGroup.objects.exists()


@pytest.mark.parametrize("field", ["is_paused", "paused", "nmae"])
def test_a_group_with_tasks_refuses_what_it_does_not_know(api, field):
    said = api.post(GROUPS, {field: True, "tasks": [{"worker": "w"}]})

    refused(said, f"unknown field {field}; did you mean")
    assert not TaskGroup.objects.exists()


def test_a_group_without_tasks_is_made_as_the_old_crew_made_it(api):
    said = api.post(GROUPS, {"id": "g", "name": "G", "description": "x", "createdAt": None})

    assert (said.status, ignored(said)) == (200, ["description"])


def test_the_body_of_a_bulk_create_holds_nothing_but_tasks(api):
    make_group(id="g")

    for body in ({"task": [{"worker": "w"}]}, {"tasks": [], "dryRun": True}):
        refused(api.post(f"{TASKS}/bulk", body), 'the body must be {"tasks": [...]}')


def test_what_was_read_can_be_sent_again(api):
    row = make_task(make_group(id="g"), id="t")
    shown = api.get(TASK).json

    assert set(wire.task(row)) <= set(TASK_WORDS)
    assert api.post(f"{TASKS}/bulk", [shown | {"id": "u"}]).status == 200
    for said in (api.put(TASK, shown), api.post(TASKS, shown | {"id": "v"})):
        assert (said.status, ignored(said)) == (200, [])
    group = api.get(GROUP).json
    for said in (api.put(GROUP, group), api.post(GROUPS, group | {"id": "h"})):
        assert (said.status, ignored(said)) == (200, [])


# --- The old routes: refused where it can only be a mistake, named otherwise
# ------------------------


@pytest.mark.parametrize("field", PARENTS)
def test_the_old_routes_refuse_parents_by_another_name(api, field):
    make_task(make_group(id="g"), id="a")
    make_task(TaskGroup.objects.get(), id="t")

    refused(api.post(TASKS, {"worker": "w", field: ["a"]}), field, "did you mean parentIds?")
    refused(api.put(TASK, {field: ["a"], "name": "N"}), field, "did you mean parentIds?")

    assert Task.objects.count() == 2
    assert not Task.objects.filter(name="N").exists()


@pytest.mark.parametrize("field", ["parents_ids", "parntIds", "parentIdss"])
def test_the_old_routes_refuse_slips_of_parents(api, field):
    make_task(make_group(id="g"), id="t")

    refused(api.post(TASKS, {"worker": "w", field: ["t"]}), field, "did you mean parentIds?")

    assert Task.objects.count() == 1


@pytest.mark.parametrize("field", ["tasks", "task", "Tasks"])
@pytest.mark.parametrize("value", [[{"worker": "w"}], {"worker": "w"}])
def test_the_old_create_refuses_many_tasks(api, field, value):
    """Sent to the route of one task, they would become one task without a worker."""
    make_group(id="g")

    refused(api.post(TASKS, {field: value}), f"unknown field {field}")

    assert not Task.objects.exists()


def test_names_of_somebody_else_are_no_slips(api):
    make_group(id="g")
    own = {"patientIds": ["a"], "task": "of mine", "drying": 1}

    said = api.post(TASKS, {"worker": "w"} | own)

    assert (said.status, ignored(said)) == (200, [*own])


def test_the_old_routes_tell_what_they_ignore(api, caplog):
    make_task(make_group(id="g"), id="t")

    with caplog.at_level(logging.INFO, "crew.api"):
        said = api.post(f"{TASKS}?x=1", {"nmae": "T", "worker": "w"})

    assert (said.status, ignored(said)) == (200, ["x", "nmae"])
    assert "nmae (did you mean name?)" in caplog.text
    calls = [
        api.put(TASK, {"nmae": "T"}),
        api.put(GROUP, {"nmae": "T"}),
        api.post(f"{TASK}/reset", {"nmae": 3}),
        api.post(f"{TASK}/retry", {"nmae": 3}),
        *(api.post(f"{GROUP}/{verb}", {"nmae": 3}) for verb in VERBS),
        api.get(f"{TASKS}?nmae=3"),
        api.get(f"{GROUPS}?nmae=3"),
        api.get(f"{TASK}?nmae=3"),
    ]
    assert [(said.status, ignored(said)) for said in calls] == [(200, ["nmae"])] * len(calls)


VERBS = ["reset", "retry", "pause", "resume"]


def test_nothing_is_named_where_nothing_was_ignored(api):
    make_task(make_group(id="g"), id="t")

    for said in (
        api.get(f"{TASKS}?page=1&pageSize=20&search=&skipCompleted=false"),
        api.get(f"{GROUPS}?page=1&pageSize=20&search="),
        api.post(f"{GROUP}/reset", {"remainingAttempts": "3"}),
        api.post(f"{GROUP}/pause", {}),
        api.post(f"{GROUP}/resume"),
        api.post(f"{TASKS}?dryRun=1", {"name": "x"}),
    ):
        assert said.status == 200
        assert "X-Crew-Ignored" not in said.headers


def test_names_that_no_header_can_carry_are_reported_all_the_same(api):
    make_group(id="g")

    said = api.post(TASKS, {"a\r\nSet-Cookie: x": 1, "ü, v": 2, "": 3})

    assert said.status == 200
    assert ignored(said) == ["a%0D%0ASet-Cookie%3A%20x", "%C3%BC%2C%20v", '""']
    many = api.post(TASKS, {f"f{i}": 1 for i in range(1_000)})
    assert len(many.headers["X-Crew-Ignored"]) < 1_000


ACTS = [
    ("DELETE", TASK, b""),
    ("DELETE", GROUP, b""),
    ("PUT", TASK, {"name": "new"}),
    ("PUT", GROUP, {"name": "new"}),
    ("POST", f"{TASK}/reset", {}),
    ("POST", f"{TASK}/retry", {}),
    *(("POST", f"{GROUP}/{verb}", {}) for verb in (*VERBS, "cancel")),
]


@pytest.mark.parametrize(("method", "path", "body"), ACTS)
def test_a_dry_run_that_cannot_be_is_refused(api, method, path, body):
    make_task(make_group(id="g", name="old"), id="t", name="old", remaining_attempts=3)

    for name in ("dryRun", *DRY_RUNS):
        refused(api.send(method, f"{path}?{name}=1", body), name)
        refused(api.send(method, path, (body or {}) | {name: True}), name)

    assert Task.objects.filter(name="old", remaining_attempts=3, is_paused=False).exists()
    assert TaskGroup.objects.filter(name="old", is_paused=False).exists()


@pytest.mark.parametrize("name", DRY_RUNS)
@pytest.mark.parametrize("path", [TASKS, GROUPS, f"{TASKS}/bulk"])
def test_a_dry_run_in_another_spelling_creates_nothing(api, name, path):
    make_group(id="g")
    body = [{"worker": "w"}] if path.endswith("bulk") else {"name": "x"}

    refused(api.post(f"{path}?{name}=1", body), name, "did you mean dryRun?")
    if path != f"{TASKS}/bulk":
        refused(api.post(path, {"name": "x", name: True}), name)

    assert (Task.objects.count(), TaskGroup.objects.count()) == (0, 1)


@pytest.mark.parametrize(
    ("method", "path", "body"), [*ACTS, ("POST", TASKS, {}), ("POST", f"{TASKS}/bulk", [{}])]
)
def test_a_dry_run_asked_for_by_a_header_is_refused(api, method, path, body):
    make_task(make_group(id="g", name="old"), id="t", name="old")

    for header in ("Dry_Run", "X_Dry_Run", "DryRun", "X_DryRun"):
        refused(api.send(method, path, body, **{header: "1"}), "dryRun is a parameter of the query")

    assert Task.objects.get().name == TaskGroup.objects.get().name == "old"


@pytest.mark.parametrize(
    "query", ["child=refuse", "Children=refuse", "force=1", "x", "children=refuse&children=detach"]
)
def test_a_delete_takes_no_parameter_that_it_does_not_know(api, query):
    make_task(make_group(id="g"), id="t")
    make_task(TaskGroup.objects.get(), id="u", parent_ids=["t"])

    refused(api.send("DELETE", f"{TASK}?{query}"))
    refused(api.send("DELETE", f"{GROUP}?{query}"))

    assert Task.objects.count() == 2


def test_a_delete_takes_no_body_that_says_how(api):
    make_task(make_group(id="g"), id="t")

    refused(api.send("DELETE", TASK, {"children": "refuse"}), "children")
    refused(api.send("DELETE", GROUP, {"x": 1}), "x")
    assert Task.objects.exists()
    assert api.send("DELETE", TASK, {}).status == 200
    assert api.send("DELETE", GROUP, b"not JSON").status == 200


# --- Our own routes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (f"{GROUP}/cancel", {"ids": ["t"]}, "unknown field ids"),
        ("/api/v1/workgroup/w/open", {"seconds": 5}, "unknown field seconds"),
        ("/api/v1/workgroup/w/hold", {"second": 5}, "did you mean seconds?"),
        ("/api/v1/stream_ticket", {"group": "g"}, "unknown field group"),
        ("/api/v1/failure/k/retry", {"remaining_attempts": 5}, "did you mean remainingAttempts?"),
        ("/api/v1/failure/k/retry?dryRun=yes", {}, "dryRun must be true or false"),
        ("/api/v1/failure/k/retry?grop=g", {}, "did you mean group?"),
        (f"{TASKS}/pause?wroker=a", {}, "did you mean worker?"),
        (f"{TASKS}/retry?all=1", {"attempts": 5}, "did you mean remainingAttempts?"),
        (f"{TASK}/rerun", {"inputs": 5}, "did you mean input?"),
    ],
)
def test_our_own_routes_refuse_what_they_do_not_know(api, path, body, words):
    make_task(make_group(id="g"), id="t")

    said = api.post(path, body)

    refused(said, words)
    assert said.type == PROBLEM


@pytest.mark.parametrize(("method", "path", "body"), ACTS)
def test_a_change_under_a_condition_that_nobody_looks_at_is_refused(api, method, path, body):
    make_task(make_group(id="g", name="old"), id="t", name="old", remaining_attempts=3)

    # Changes and deletes of one group or task look at this one.
    looked_at = ["If_Match"] if method in ("PUT", "DELETE") else []
    for header in ("If_Match", "If_Unmodified_Since"):
        said = api.send(method, path, body, **{header: "x"})
        if header in looked_at:
            assert said.status == 412
        else:
            refused(said, header.replace("_", "-"), "none is looked at here")

    assert Task.objects.filter(name="old", remaining_attempts=3).exists()


def test_a_key_that_makes_nothing_happen_once_is_reported(api):
    make_task(make_group(id="g"), id="t")

    for path, header, named in (
        (f"{GROUP}/retry", "Idempotency_Key", ["Idempotency-Key"]),
        (f"{GROUP}/cancel", "Idempotency_Key", ["Idempotency-Key"]),
        (TASKS, "X_Idempotency_Key", ["X-Idempotency-Key"]),
        (TASKS, "Idempotency_Key", []),
        (f"{TASKS}/bulk", "Idempotency_Key", []),
    ):
        said = api.post(path, [{}] if path.endswith("bulk") else {}, **{header: path})
        assert (said.status, ignored(said)) == (200, named)


def test_a_setting_that_is_almost_one_is_warned_of(settings, monkeypatch):
    settings.CREW_SLOT = 5
    monkeypatch.setenv("CREW_WORKER_BASEURL", "http://x/")
    monkeypatch.setenv("CREW_WORKER_PORT", "3002")  # of the old kit for workers
    monkeypatch.setenv("CREW_WORKER_AUTH_TOKEN", "x")

    found = {found.msg.split()[0]: found.hint for found in check_settings(None)}

    assert found["CREW_SLOT"] == "Did you mean CREW_SLOTS?"
    assert found["CREW_WORKER_BASEURL"] == "Did you mean CREW_WORKER_BASE_URL?"
    assert not found.keys() & {"CREW_WORKER_PORT", "CREW_WORKER_AUTH_TOKEN"}


def test_the_client_leaves_no_filter_out():
    crew = Crew("http://127.0.0.1:9")

    with pytest.raises(TypeError, match=r"no filter sate \(did you mean state\?\)"):
        crew.delete_tasks("g", worker="w", sate="failed")
    with pytest.raises(TypeError, match="no filter workers"):
        list(crew.tasks("g", workers="w"))
    with pytest.raises(TypeError, match=r"parents \(did you mean parent_ids\?\)"):
        crew.create_task("g", parents=["a"])


@pytest.mark.parametrize(
    "options", [["--list", "--scope", "read"], ["--revoke", "x", "--group", "g"]]
)
def test_options_of_a_new_token_are_for_new_tokens_only(options):
    with pytest.raises(CommandError, match="for new tokens only"):
        call_command("crewtoken", *options)


# --- An answer's children -------------------------------------------------------------------------


def ruled(body: object) -> Any:
    return decide(Answer(200, json.dumps(body).encode()), workgroup="", now=datetime.now(UTC))


@pytest.mark.parametrize("field", PARENTS)
def test_a_child_with_parents_by_another_name_fails_the_attempt_in_words(field):
    children = [{"id": "a", "worker": "w"}, {"worker": "w", field: ["a"]}]

    outcome = ruled({"children": children})

    assert isinstance(outcome, Failed)
    assert f"child 1: unknown field {field}; did you mean parentIds?" in outcome.error


def test_other_unknown_fields_of_children_are_noted():
    children = [{"worker": "w", "nmae": "x"}, {"worker": "w", "nmae": "y", "color": 1}]

    outcome = ruled({"output": 1, "children": children})

    assert isinstance(outcome, Completed)
    assert len(outcome.children) == 2
    assert "nmae (did you mean name?)" in outcome.note
    assert "color" in outcome.note
    assert outcome.note.count("nmae") == 1


def test_fields_of_the_contract_are_never_unknown_in_a_child():
    child = dict.fromkeys(TASK_WORDS) | {"worker": "w", "isSeed": True, "isComplete": True}

    outcome = ruled({"children": [child | {"taskGroupId": "x", "createdAt": "2020"}]})

    assert isinstance(outcome, Completed)
    assert outcome.note == ""


@pytest.mark.parametrize(
    ("field", "meant"),
    [("childern", "children"), ("outputs", "output"), ("children_delay_in_seconds", "childrenDel")],
)
def test_a_field_of_the_answer_that_is_almost_one_is_noted(field, meant):
    assert f"{field} (did you mean {meant}" in ruled({field: 1}).note
    assert ruled({"ok": True, "unknown": 1, "data": {}}).note == ""


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"task": [{"worker": "w"}]}, "unknown field task; did you mean tasks?"),
        ({"paused": True, "tasks": []}, "unknown field paused; did you mean isPaused?"),
        ({"tasks": [{"worker": "w", "parents": ["a"]}]}, "task 0: unknown field parents"),
    ],
)
def test_an_import_refuses_unknown_fields_by_name(tmp_path, data, words):
    file = tmp_path / "group.json"
    file.write_text(json.dumps(data))

    with pytest.raises(CommandError, match=words.replace("?", r"\?")):
        call_command("crewimport", str(file))

    assert not TaskGroup.objects.exists()


def test_text_is_what_the_old_routes_say(api):
    make_group(id="g")

    assert api.post(TASKS, {"parents": []}).type == TEXT


def test_an_export_with_a_field_of_nobody_is_refused(tmp_path):
    make_task(make_group(id="g"), id="t")
    file, changed = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    call_command("crewexport", "--all", "-o", str(file))
    lines = file.read_text().splitlines()
    assert {word for line in lines for word in json.loads(line)} >= {"crew", "group", "task"}

    for number, line in enumerate(lines):
        ((kind, named),) = json.loads(line).items()
        changed.write_text(
            "\n".join(
                [*lines[:number], json.dumps({kind: named | {"nmae": 1}}), *lines[number + 1 :]]
            )
            + "\n"
        )
        with pytest.raises(CommandError, match=rf"line {number + 1}: .*unknown field.* nmae"):
            call_command("crewimport", str(changed), "--rename-suffix=-x")

"""What a terminal obeys is in no name that comes in, and in nothing that a command prints (M16)."""

import io
import json
from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from tasks import control, create, limits_and_holds
from tasks.access import tokens
from tasks.errors import InvalidInputError
from tasks.management.base import Terminal
from tasks.models import Task, TaskGroup, Token
from tasks.rules.decide import Answer, Failed, decide

from .api_client import GROUP, GROUPS, NDJSON, TASK, TASKS, Api, everything_stored
from .factories import make_group, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_auth")]

SIGNS = ["\x1b[2J", "\r", "\n", "\x07", "\x7f", "\x85", "\x9b31m"]
WORDS = "control character"


@pytest.fixture(params=SIGNS, ids=ascii)
def bad(request) -> str:
    return f"a{request.param}b"


def test_the_api_refuses_it_at_every_entrance(bad):
    make_task(make_group(id="g"), id="t")
    api, before = Api(), everything_stored()
    task = {"name": bad}

    said = [
        api.post(GROUPS, {"name": bad}),
        api.post(GROUPS, {"tasks": [task]}),
        api.put(GROUP, {"name": bad}),
        *(api.post(TASKS, {field: bad}) for field in ("name", "workgroup", "key")),
        *(api.put(TASK, {field: bad}) for field in ("name", "workgroup", "key")),
        api.post(f"{TASKS}/bulk", {"tasks": [task]}),
        api.post(f"{TASKS}/bulk", json.dumps(task).encode(), kind=NDJSON),
    ]

    assert [(one.status, WORDS in one.why) for one in said] == [(400, True)] * len(said)
    assert everything_stored() == before


def test_code_that_embeds_us_is_refused_too(bad):
    make_group(id="g")
    for make in (
        lambda: create.create_group(name=bad),
        lambda: create.create_tasks("g", [{"name": bad}]),
        lambda: control.rename_group("g", name=bad),
        lambda: limits_and_holds.hold_workgroup(bad, seconds=1),
        lambda: tokens.issue(name=bad, scopes=["read"]),
    ):
        with pytest.raises((InvalidInputError, ValueError), match=WORDS):
            make()


def test_a_child_of_an_answer_fails_it(bad):
    body = json.dumps({"children": [{"worker": "w", "name": bad}]}).encode()

    outcome = decide(Answer(200, body), workgroup="", now=datetime.now(UTC))

    assert isinstance(outcome, Failed)
    assert WORDS in str(outcome)


def test_an_import_stores_nothing_and_prints_it_escaped(bad, tmp_path):
    (tmp_path / "own.json").write_text(json.dumps({"id": "new", "name": bad, "tasks": []}))

    with pytest.raises(CommandError, match=WORDS) as caught:
        call_command("crewimport", str(tmp_path / "own.json"))

    assert str(caught.value).isprintable()
    assert not TaskGroup.objects.exists()


def test_forms_of_the_admin_say_so(bad, admin_client: Client, settings):
    settings.ROOT_URLCONF = "crewsite.urls"
    make_task(make_group(id="g"), id="t")
    token, _ = tokens.issue(name="plain", scopes=["read"])
    forms = {
        reverse("admin:crew_taskgroup_add"): {"name": bad},
        reverse("admin:crew_token_change", args=[token.pk]): {"name": bad},
        reverse("admin:auth_group_add"): {"name": bad},
    }

    for path, sent in forms.items():
        told = admin_client.post(path, sent).content.decode()

        assert WORDS in told, path
    assert not TaskGroup.objects.filter(name=bad).exists()
    assert Token.objects.get(pk=token.pk).name == "plain"


def test_what_is_there_from_before_is_printed_escaped(bad):
    make_task(make_group(id="g", name="n"), id="t", is_complete=True)
    Task.objects.update(completed_at="2020-01-01T00:00:00Z")
    TaskGroup.objects.update(name=bad)
    out = io.StringIO()

    call_command("crewprune", days=0, dry_run=True, stdout=out)
    call_command("crewcheck", stdout=out)

    assert all(line.isprintable() for line in out.getvalue().splitlines())


def test_whatever_a_command_writes_steers_no_terminal():
    out = io.StringIO()

    Terminal(out).write("one\r\x1b[2Jtwo\nthree\x9b")

    assert out.getvalue() == "one\\r\\x1b[2Jtwo\nthree\\x9b\n"

"""A day of everything with secrets that would be known again: none of them is anywhere (S6)."""

import base64
import io
import json
import logging
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from tasks import control
from tasks.access import tokens
from tasks.checks.settings import check_settings
from tasks.engine.scheduler import Scheduler
from tasks.models import Attempt, Task
from tasks.rules.decide import REPEATS

from .factories import make_group, wire
from .stub_worker import Exchange, StubWorker, answer

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "canary-Auth/0123+789"
SIGNING = "whsec_" + base64.b64encode(b"canary-signing-secret-0123456789").decode()
OTHERS = {
    "SECRET_KEY": "canary-of-the-secret-key-0123456789",
    "CREW_AUTH_PASSWORD": "canary-of-the-operator",
    "CREW_AUTH_TOKEN": "canary-of-the-fixed-token",
}
ALL = (SECRET, SIGNING, *OTHERS.values())


def said_by(spelled: Any) -> str:
    return " and ".join(spelled(each) for each in ALL)


def in_base64(text: str) -> str:
    return base64.b64encode(f"x: {text}".encode()).decode()


def echo(exchange: Exchange) -> None:
    """Repeats all it may know of, in the way that the worker's name says."""
    worker = exchange.request.path.rpartition("/")[2]
    said = said_by(quote if worker.endswith("u") else in_base64 if worker.endswith("b") else str)
    headers = {"X-Debug": said.replace("\n", "")}
    if worker.startswith("output"):
        child = {"name": said, "input": {said: [said]}, "worker": "error"}
        body = {"output": {said: said}, "children": [child], "workgroupDelayInSeconds": said}
        answer(200, json.dumps(body).encode(), headers)(exchange)
    elif worker.startswith("error"):
        answer(200, json.dumps({"error": {"a": said}}).encode(), headers)(exchange)
    elif worker.startswith("page"):
        answer(500, f"<html>{said}</html>".encode(), headers)(exchange)
    elif worker.startswith("held"):
        answer(429, said.encode(), headers | {"Retry-After": said})(exchange)
    else:
        answer(200, f"{said} is no JSON".encode(), headers)(exchange)


def everything_there_is() -> str:
    rows = [
        str(list(model._base_manager.values()))
        for model in apps.get_models()
        if model._meta.app_label in ("crew", "admin", "axes")
    ]
    return "\n".join(rows)


@pytest.mark.parametrize("deliverer", ["asyncio", "requests"])
def test_s6_after_a_day_no_secret_is_anywhere(
    deliverer: str, settings: Any, caplog: Any, client: Client
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in OTHERS.items():
        setattr(settings, name, value)
    settings.CREW_DELIVERER = deliverer
    settings.CREW_WORKER_AUTHORIZATION_HEADER = f"Bearer {SECRET}"
    settings.CREW_SIGNING_SECRETS = [SIGNING]
    kinds = [
        f"{kind}{how}" for kind in ("output", "error", "page", "held", "junk") for how in "rub"
    ]
    with StubWorker(echo) as worker:
        settings.CREW_WORKER_BASE_URL = worker.url
        settings.CREW_WORKER_ALLOW_NETS = ["127.0.0.0/8"]
        make_group(
            id="g", tasks=[wire(id=kind, worker=kind, remaining_attempts=1) for kind in kinds]
        )
        Scheduler(once=True).run()

    client.force_login(get_user_model().objects.create_superuser("root"))
    _, token = tokens.issue(name="reader", scopes=["read"])
    told = [everything_there_is(), caplog.text]
    for path in ("tasks?pageSize=0", "history", "graph", "timeline"):
        told.append(client.get(f"/api/v1/task_group/g/{path}").content.decode())
    for kind in kinds:
        for path in (f"/api/v1/task/{kind}/attempts", f"/api/v1/task/{kind}/attempts/1"):
            told.append(client.get(path).content.decode())
        told.append(client.get(f"/admin/crew/task/{kind}/change/").content.decode())
    told.append(client.get("/api/v1/failures").content.decode())
    told.append(client.get("/api/v1/fleet").content.decode())
    control.retry_group("g")
    for command in (("crewexport", "--all"), ("crewstatus",)):
        out = io.StringIO()
        with suppress(SystemExit):
            call_command(*command, stdout=out, stderr=out)
        told.append(out.getvalue())
    said = "\n".join(told)

    assert Attempt.objects.count() >= len(kinds)
    assert set(Attempt.objects.filter(number=1).values_list("note", flat=True)) != {""}
    assert all(note.startswith(REPEATS) for note in Attempt.objects.values_list("note", flat=True))
    assert Task.objects.get(pk="outputr").is_complete
    for secret in (*ALL, SIGNING.removeprefix("whsec_"), token):
        assert secret not in said
        assert quote(secret) not in said
        assert in_base64(secret)[8:-8] not in said


@pytest.mark.parametrize(("header", "warns"), [("Bearer short", True), (f"Bearer {SECRET}", False)])
def test_s6_a_short_credential_is_warned_of(settings: Any, header: str, warns: bool) -> None:
    settings.CREW_WORKER_AUTHORIZATION_HEADER = header

    assert ("crew.W006" in [found.id for found in check_settings(None)]) is warns

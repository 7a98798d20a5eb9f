"""The API's description is true: it names every route, and every route keeps to it."""

import inspect
import re
from collections.abc import Iterator

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.db.models.functions import Now
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tasks.access import tokens
from tasks.api.base import CrewView
from tasks.api.schema import DESCRIBED, describe
from tasks.api.schema.of_insight import Gate
from tasks.insight import explain
from tasks.models import Attempt
from tasks.urls import urlpatterns

from .factories import make_group, wire

pytestmark = pytest.mark.django_db

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
API = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application())
OPERATIONS = [found.ok() for found in API.get_all_operations()]
PARAMETER = re.compile(r"<\w+:(\w+)>")
NOT_DESCRIBED = {"group-stream", "openapi", "docs", "unknown"}


def views() -> Iterator[tuple[str, type[CrewView]]]:
    for pattern in urlpatterns:
        if pattern.name not in NOT_DESCRIBED:
            yield str(pattern.pattern), pattern.callback.view_class


def test_every_route_is_described_with_every_method_it_takes():
    described = {
        (path, method.upper())
        for path, methods in API.raw_schema["paths"].items()
        for method in methods
    }

    mounted = {
        ("/" + PARAMETER.sub(r"{\1}", path), method)
        for path, view in views()
        for method in view.needs
    }

    assert described == mounted


def test_every_operation_says_what_may_go_wrong_and_has_an_example_of_what_it_takes():
    for path, methods in API.raw_schema["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"] and operation["description"], where
            taken = operation.get("requestBody", {}).get("content", {}).get("application/json")
            assert taken is None or taken["examples"], where
            if "security" in operation:
                assert "401" in operation["responses"], where


def test_every_gate_that_there_is_has_its_code_in_the_document():
    codes = set(re.findall(r'Gate\(\s*"(\w+)"', inspect.getsource(explain)))

    assert codes == set(Gate().fields["code"].choices)


def test_whatever_writes_says_that_the_database_may_refuse_it():
    for path, methods in API.raw_schema["paths"].items():
        for method, operation in methods.items():
            result = operation["responses"]
            if method != "get":
                assert {"400", "409"} <= result.keys(), f"{method} {path}"
            if "application/problem+json" in result.get("403", {}).get("content", {}):
                assert "400" in result, f"{method} {path}"
            elif "403" in result:
                assert "X-Crew-Ignored" in result["200"]["headers"], f"{method} {path}"


def test_the_document_says_where_it_is_mounted():
    assert API.raw_schema["openapi"] == "3.1.0"
    assert API.raw_schema["servers"] == [{"url": "/"}]
    assert describe(urlpatterns, "/crew/")["servers"] == [{"url": "/crew"}]
    assert set(DESCRIBED) == {view for _, view in views()}


def test_swagger_ui_loads_nothing_from_elsewhere_and_runs_no_inline_script(client: Client):
    page = client.get("/api/v1/docs").content.decode()

    assert 'data-schema="/api/v1/openapi.json"' in page
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)


@pytest.fixture(autouse=True)
def one_connection() -> Iterator[None]:
    """Requests do not close the test's own connection, as Django's test client sees to it."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def token() -> str:
    _, secret = tokens.issue(name="fuzz", scopes=["admin"])
    return secret


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: found.label)
def test_every_operation_answers_as_described_whatever_comes(operation, mode, token):
    if mode is GenerationMode.NEGATIVE and operation.path.startswith("/healthz"):
        return  # takes nothing that could be wrong
    make_group(id="group", tasks=[wire(id="a"), wire(id="b", parent_ids=["a"])])
    Attempt.objects.create(
        task_id="b", number=1, worker="w", outcome="failed", started_at=Now(), finished_at=Now()
    )
    known = {"gid": "group", "tid": "b", "name": "worker-a", "key": "none", "number": "1"}

    @settings(
        max_examples=20,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), is_known=st.booleans())
    def call(case, is_known):
        if is_known:
            case.path_parameters = {name: known[name] for name in case.path_parameters or ()}
        (case.headers or {}).pop("Host", None)  # a wrong one is a 400 of the whole site
        answer = case.call(headers={"Authorization": f"Bearer {token}"})
        case.validate_response(answer, checks=CHECKS)

    call()

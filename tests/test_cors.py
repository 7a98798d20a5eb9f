"""CORS: closed by default, the named origins' pages may call the API (S13, contract 1.1)."""

import os
import subprocess
import sys

import pytest
from django.test import Client

from tasks.access import tokens

from .processes import ROOT

pytestmark = pytest.mark.django_db

OURS = "https://ui.example"
GROUPS = "/api/v1/task_groups"
PREFLIGHT = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.fixture(params=[OURS, "*"])
def opened(request, settings):
    settings.CORS_ALLOW_ALL_ORIGINS = request.param == "*"
    settings.CORS_ALLOWED_ORIGINS = [] if request.param == "*" else [OURS]
    return request.param


@pytest.mark.parametrize("method", ["get", "options"])
@pytest.mark.parametrize("path", [GROUPS, "/login", "/authcheck", "/healthz"])
def test_s13_by_default_no_origin_may_call(path, method):
    answer = getattr(Client(), method)(path, headers={"Origin": OURS} | PREFLIGHT)

    assert not [name for name in answer.headers if name.startswith("Access-Control-")]
    assert "origin" in answer.headers["Vary"].lower()


@pytest.mark.parametrize("path", [GROUPS, f"{GROUPS}/none", "/login", "/logout", "/authcheck"])
def test_a_preflight_is_answered_as_the_old_crew_did(opened, path):
    answer = Client().options(path, headers={"Origin": OURS} | PREFLIGHT)

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == opened
    assert answer.headers["Access-Control-Allow-Methods"] == "GET,HEAD,PUT,PATCH,POST,DELETE"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert "origin" in answer.headers["Vary"].lower()
    assert "Content-Length" not in answer.headers


def test_every_answer_may_be_read_errors_too(opened):
    _, secret = tokens.issue(name="t", scopes=["read"])
    headers = {"Origin": OURS}

    fine = Client().get(GROUPS, headers=headers | {"Authorization": f"Bearer {secret}"})
    refused = Client().get(GROUPS, headers=headers)
    locked = [
        Client().post(
            "/login", {"username": "a", "password": "b"}, "application/json", headers=headers
        )
        for _ in range(6)
    ][-1]

    assert [fine.status_code, refused.status_code, locked.status_code] == [200, 401, 429]
    for answer in (fine, refused, locked):
        assert answer.headers["Access-Control-Allow-Origin"] == opened
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


def test_s13_cookies_never_go_along(opened):
    for method in ("get", "options"):
        answer = getattr(Client(), method)(GROUPS, headers={"Origin": OURS} | PREFLIGHT)

        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "http://ui.example",
        "https://ui.example:8443",
        "https://ui.example.evil.example",
        "https://evil.example/https://ui.example",
        "null",
        "",
        "https://ui.example]",
    ],
)
def test_s13_another_origin_stays_out(settings, origin):
    settings.CORS_ALLOWED_ORIGINS = [OURS]

    for method in ("get", "options"):
        answer = getattr(Client(), method)(GROUPS, headers={"Origin": origin} | PREFLIGHT)

        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["/admin/login/", "/", "/demo/worker-a", "/static/x", "/loginx"])
def test_s13_only_the_api_is_opened(opened, path):
    answer = Client().get(path, headers={"Origin": OURS})

    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("given", "everyone", "named"),
    [("", False, []), ("*", True, []), (f"{OURS},http://localhost:5173", False, 2)],
)
def test_the_origins_come_from_the_environment(given, everyone, named):
    code = (
        "from crewsite import settings as s;"
        "print(s.CORS_ALLOW_ALL_ORIGINS, len(s.CORS_ALLOWED_ORIGINS))"
    )
    said = subprocess.check_output(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"CORS_ORIGINS": given, "DEBUG": "1"},
        text=True,
    )

    assert said.split() == [str(everyone), str(named or 0)]

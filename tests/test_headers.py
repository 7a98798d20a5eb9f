"""The headers of every answer (S21): of every route, of errors, of files, of refusals."""

import re
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.urls.resolvers import RegexPattern

from .web import Raw, Web

pytestmark = pytest.mark.django_db

# What no answer goes without; the policy has a test of its own.
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def paths() -> Iterator[str]:
    """A path for each route of the site, with a value for each parameter."""
    yield from _paths(get_resolver().url_patterns, "/")


def _paths(patterns: list[Any], prefix: str) -> Iterator[str]:
    for entry in patterns:
        if isinstance(entry.pattern, RegexPattern):
            yield prefix + _sample(entry.pattern.regex.pattern)
            continue
        here = prefix + re.sub(r"<(\w+:)?\w+>", "1", str(entry.pattern))
        if isinstance(entry, URLResolver):
            yield from _paths(entry.url_patterns, here)
        elif isinstance(entry, URLPattern):
            yield here


def _sample(regex: str) -> str:
    """Something that the few regexes of the URLconf match."""
    named = re.sub(r"\(\?P<\w+>([^()]*(?:\([^()]*\)[^()]*)*)\)", r"auth", regex)
    return named.strip("^$").replace("(?P<url>.*)", "nothing").replace(r"\Z", "")


def check(headers: Any) -> None:
    for name, value in ALWAYS.items():
        assert headers.get(name) == value, name
    assert "camera=()" in headers["Permissions-Policy"]
    assert "no-store" in headers["Cache-Control"] or "no-cache" in headers["Cache-Control"]
    check_policy(headers)


def check_policy(headers: Any) -> None:
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert not [value for value in policy.values() if "unsafe" in value or "*" in value]


def test_the_policy_lets_nothing_in_that_is_not_of_this_site(client: Client) -> None:
    policy = client.get(reverse("admin:login")).headers["Content-Security-Policy"]

    assert set(policy.split("; ")) == {
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "object-src 'none'",
    }


@pytest.mark.parametrize("path", sorted(set(paths())))
def test_every_route_has_the_headers(path: str, client: Client, admin_client: Client) -> None:
    for caller in (client, admin_client):
        check(caller.get(path).headers)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing/here", 404),
        ("GET", "/admin/nothing/", 404),
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/nothing/here", 405),
        ("PATCH", "/api/v1/task_groups", 405),
        ("POST", "/api/v1/task_groups", 401),
        ("POST", "/admin/login/", 403),
        ("GET", "/api/v1/task_groups?search=%00", 400),
    ],
)
def test_errors_have_the_headers(method: str, path: str, status: int, admin_client: Client) -> None:
    caller = admin_client if status in (400, 404) else Client(enforce_csrf_checks=True)

    answer = caller.generic(method, path)

    assert answer.status_code == status
    check(answer.headers)


def test_a_view_that_breaks_has_the_headers(admin_client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("tasks.api.unknown.Healthz.get", lambda *args: 1 / 0)
    admin_client.raise_request_exception = False

    answer = admin_client.get("/healthz")

    assert answer.status_code == 500
    check(answer.headers)


@pytest.fixture(scope="module")
def served(django_db_setup: None, django_db_blocker: Any) -> Iterator[Web]:
    with django_db_blocker.unblock():
        running = Web()
    yield running
    assert running.stop() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/static/site/crew.svg", "/static/crew/group.js"])
def test_files_have_the_policy_and_are_what_they_say(path: str, served: Web) -> None:
    answer = get(served, path)

    assert answer["status"] == "200"
    assert answer["X-Content-Type-Options"] == "nosniff"
    check_policy(answer)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n", 413),
        ("GET /%s HTTP/1.1\r\nHost: a\r\n" % ("x" * 9000), 414),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
    ],
)
def test_refusals_before_any_view_are_words_and_nothing_else(
    head: str, status: int, served: Web
) -> None:
    with Raw(served) as raw:
        raw.send(f"{head}\r\n")
        answer = raw.read_all().decode()

    assert answer.startswith(f"HTTP/1.1 {status} ")
    headers = dict(line.split(": ", 1) for line in answer.split("\r\n\r\n")[0].split("\r\n")[1:])
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    check_policy(headers)


def get(served: Web, path: str) -> HTTPMessage:
    """The headers of an answer, and its status as one."""
    connection = HTTPConnection(*served.address, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    answer.headers["status"] = str(answer.status)
    return answer.headers

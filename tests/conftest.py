"""What all tests share: which database they run on, and a Redis for those that ask."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from tasks.access import wrong_tokens
from tasks.conf import conf

from . import servers
from .api_client import Api, AtRoot


def pytest_configure() -> None:
    name = settings.DATABASES["default"].get("TEST", {}).get("NAME")
    if name:
        Path(name).parent.mkdir(parents=True, exist_ok=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for vendor, marker in (("postgresql", "postgres"), ("sqlite", "sqlite")):
        if item.get_closest_marker(marker) and connection.vendor != vendor:
            pytest.skip(f"needs {vendor}; this run is on {connection.vendor}")
    if connection.vendor == "postgresql":
        if item.get_closest_marker("notify") and not conf.CREW_NOTIFY:
            pytest.skip("is about NOTIFY; this run is without")
        if item.get_closest_marker("own_session") and is_pooled():
            pytest.skip("needs a session of its own; this run is through a pooler")


def pytest_report_header() -> list[str]:
    if connection.vendor != "postgresql":
        return []
    through = " through a pooler of transactions" if is_pooled() else ""
    return [f"crew: PostgreSQL{through}, {'with' if conf.CREW_NOTIFY else 'without'} NOTIFY"]


def is_pooled() -> bool:
    return bool(connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"])


@pytest.fixture(scope="session")
def on_postgres() -> bool:
    return connection.vendor == "postgresql"


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The Redis of REDIS_URL, or one started for this session."""
    given = os.environ.get("REDIS_URL")
    if given:
        yield given
        return
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(servers.redis())
        except servers.ServerError as error:
            pytest.skip(str(error))
        yield server.url


@pytest.fixture
def fresh_tables(db: None) -> None:
    """Tables as of a new database, for tests that fill them and look at the plans.

    Earlier tests leave free space and scattered index pages behind. Where new rows land in them,
    the planner counts that and may well prefer a sort; the test's rollback undoes this again.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # of what other fixtures wrote
            # The last ones refer to tasks without a constraint that would take them along.
            tables = "crew_taskgroup, crew_worker, crew_parentedge, crew_attempt"
            tables += ", crew_cutcall"
            cursor.execute(f"TRUNCATE {tables} CASCADE")


@pytest.fixture
def no_auth(settings: Any) -> None:
    """The API at the root, open to everyone."""
    settings.ROOT_URLCONF = AtRoot
    settings.CREW_AUTHENTICATION = []


@pytest.fixture
def api() -> Api:
    """Somebody without a token."""
    return Api()


@pytest.fixture(autouse=True)
def no_wrong_tokens_yet():
    """All tests come from one address."""
    wrong_tokens.forget()

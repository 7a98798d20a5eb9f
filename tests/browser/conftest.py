"""A server, a browser, and people; what the browser complains of fails the test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from ..processes import ROOT, scheduler
from ..web import Web, web
from . import chromium
from .driver import Handle, started
from .visit import Visit

# Before the tests get one of their own.
REAL_DATABASE = settings.DATABASES["default"]["NAME"]
FAILURES = ROOT / "var" / "browser"
# Made by migrations; the server remembers the ids.
KEPT = {ContentType, Permission, Group, Group.permissions.through}
# Quick, so that a test sees what follows from a dead scheduler or a due time.
SWEEPS = {"CREW_SWEEP_SECONDS": "0.3", "CREW_LEASE_SECONDS": "5"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def browser() -> Iterator[Handle]:
    try:
        program = chromium.find()
    except chromium.NoChromiumError as error:
        (pytest.fail if chromium.is_wanted() else pytest.skip)(str(error))
    with started(program) as browser:
        yield browser


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any) -> Iterator[Web]:
    """A server for the tests of a module: a start takes as long as a test."""
    with django_db_blocker.unblock(), web() as running:
        yield running


@pytest.fixture(autouse=True)
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The server's database, empty again afterwards.

    In place of pytest-django's, which flushes: that makes new content types, with other ids than a
    running server knows, and a TRUNCATE waits for every connection.
    """
    assert connection.settings_dict["NAME"] != REAL_DATABASE
    with django_db_blocker.unblock():
        yield
        empty()
        connection.close()


@transaction.atomic
def empty() -> None:
    for model in apps.get_models(include_auto_created=True):
        if model not in KEPT and model._meta.managed:
            rows = model._base_manager.all()
            rows._raw_delete(rows.db)
    # The site's own roles were made by migrations, too.
    Group.objects.exclude(name__startswith="Crew ").delete()


@pytest.fixture
def visit(
    request: pytest.FixtureRequest, browser: Handle, site: Web, transactional_db: None
) -> Iterator[Callable[..., Visit]]:
    """Makes visits, and checks at the end that no browser had to complain."""
    visits: list[Visit] = []

    def make(user: User | None = None, **options: Any) -> Visit:
        made = Visit(browser, options.pop("url", site.url), **options)
        visits.append(made)
        if user:
            made.log_in(user)
        return made

    yield make
    if request.node.stash.get(FAILED, True):
        for number, each in enumerate(visits):
            each.shoot(FAILURES / f"{request.node.name}-{connection.vendor}-{number}.png")
    for each in visits:
        each.close()
    for each in visits:
        each.check()
    assert site.errors() == ""


@pytest.fixture
def boss(transactional_db: None) -> User:
    """Who may do everything."""
    return User.objects.create_superuser("boss", password="a good password")


@pytest.fixture
def viewer(transactional_db: None) -> User:
    """Who may look at everything of Crew, and change nothing."""
    user = User.objects.create_user("viewer", password="a good password", is_staff=True)
    looks = Permission.objects.filter(content_type__app_label="crew", codename__startswith="view_")
    user.user_permissions.set(looks)
    return user


@pytest.fixture
def work(site: Web) -> Callable[..., Any]:
    """`with work(): ...`: a scheduler runs, and the demo workers do its tasks."""

    @contextmanager
    def running(base: str = "", *args: str) -> Iterator[Any]:
        with scheduler(base or f"{site.url}/demo/", *args, **SWEEPS) as process:
            yield process

    return running

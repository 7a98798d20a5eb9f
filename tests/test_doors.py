"""What stands open is told: on every page of the admin, and in the log of each start (S7)."""

import pytest
from django.test import Client
from django.urls import reverse

from tasks.checks.logins import open_doors

from .web import web

OFF = "Authentication is off"
KNOWN = "well-known login or token"
MD5 = "dae4082985ef202439d16f9b25a8823e"


def test_a_closed_site_says_nothing(admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:index"))

    assert open_doors() == []
    assert "site-open-door" not in page.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["index", "crew_task_changelist", "crew_taskgroup_add"])
def test_every_page_says_that_authentication_is_off(
    name: str, admin_client: Client, settings: object
) -> None:
    settings.CREW_AUTHENTICATION = []

    page = admin_client.get(reverse(f"admin:{name}")).content.decode()

    assert page.count('role="alert">Authentication is off') == 1
    assert KNOWN not in page


@pytest.mark.parametrize(
    ("setting", "value"), [("CREW_AUTH_TOKEN", MD5), ("CREW_AUTH_PASSWORD", "crew")]
)
def test_a_well_known_secret_is_reported(setting: str, value: str, settings: object) -> None:
    setattr(settings, setting, value)

    (result,) = open_doors()

    assert KNOWN in result


@pytest.mark.django_db(transaction=True)
def test_a_start_without_authentication_is_in_the_log() -> None:
    with web(CREW_NO_AUTH="1", CREW_AUTH_TOKEN=MD5) as server:
        pass

    assert "WARNING" in server.line(OFF)
    assert "WARNING" in server.line(KNOWN)

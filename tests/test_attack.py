"""`./crew attack` against the shipped site finds nothing; and would find something."""

import pytest

from .attack import NO, Try, attack, judged, report, site_of
from .web import TOKEN, Web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def site(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        running = Web(
            DEBUG="0",
            SECRET_KEY="0aF9-kq7Zt_Vn3xLr8cYw2Bd5Gh1Jm4Ps6Ue",
            ALLOWED_HOSTS="127.0.0.1",
            CREW_WORKER_BASE_URL="http://127.0.0.1:9/",
        )
    yield site_of(running.url, TOKEN)
    assert running.stop() == 0


def test_nothing_that_was_tried_opens_a_door(site):
    found = attack(site)

    assert [(each.what, wrong) for each, wrong in found if wrong] == []
    assert len(found) > 60


def test_what_is_wrong_is_said(site):
    well = Try("13.1", "healthz", site.request("GET", "/healthz"), NO)

    assert judged(site, well) == "answered 200"
    assert list(report([(well, "answered 200")]))[-1] == "| V13.1 | healthz | answered 200 |"

"""Fail-points are for tests: nobody else can turn them on."""

import os
import subprocess
import sys
import threading

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from tasks.engine import failpoints

from .processes import ROOT


@pytest.fixture(autouse=True)
def disarmed(settings):
    settings.DEBUG = True
    yield
    failpoints.armed.clear()


def test_without_debug_none_is_armed(settings):
    settings.DEBUG = False

    with pytest.raises(ImproperlyConfigured, match="DEBUG"):
        failpoints.arm("after_claim=lose")

    assert failpoints.armed == {}


@pytest.mark.parametrize("spec", ["after_lunch=lose", "after_claim", "after_claim=faint"])
def test_what_nobody_knows_is_refused(spec):
    with pytest.raises(ImproperlyConfigured, match=spec):
        failpoints.arm(spec)


def test_only_the_point_itself_fails_and_only_once():
    failpoints.arm("after_claim=lose,before_commit=lose")

    failpoints.reach("mid_settle")
    with pytest.raises(OperationalError):
        failpoints.reach("after_claim")
    failpoints.reach("after_claim")

    assert set(failpoints.armed) == {"before_commit"}


def test_a_fifo_holds_until_it_is_closed(tmp_path):
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    failpoints.arm(f"after_send=wait:{fifo}")
    held = threading.Thread(target=failpoints.reach, args=["after_send"])
    held.start()

    with fifo.open("wb"):
        is_held = held.is_alive()
    held.join(10)

    assert (is_held, held.is_alive()) == (True, False)


def test_outside_of_tests_the_environment_is_not_asked():
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"}
    env |= {"DEBUG": "1", "CREW_FAILPOINTS": "after_claim=kill"}
    code = "from crewsite import settings; print(getattr(settings, 'CREW_FAILPOINTS', 'unset'))"

    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=env, text=True)

    assert said == "unset\n"

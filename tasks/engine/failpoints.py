"""Points at which a test ends this process, holds it, or loses its connection; else nothing.

`CREW_FAILPOINTS="after_claim=kill,mid_settle=wait:/path/of/a/fifo"`; each happens once. Only a
process with DEBUG takes it, and the shipped settings read it under test only.
"""

import os
import signal
from collections.abc import Callable
from functools import partial

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

POINTS = (
    "after_select",  # due tasks were counted, none is leased
    "after_claim",  # leases are committed, nothing is sent
    "after_send",  # the deliverer has the calls
    "after_answer",  # answers are read, nothing is written
    "after_lost",  # the leases of a dead scheduler were found, none is given back
    "mid_settle",  # outcomes are written, children are not made
    "before_commit",  # a batch of outcomes is written whole
    "after_commit",  # ... and committed, browsers are not told
    "after_publish",  # ... and they are told; whoever settled does not know
)

# In-process tests put their own functions here.
armed: dict[str, Callable[[], None]] = {}


def reach(point: str) -> None:
    if armed and point in armed:
        armed[point]()


def arm(spec: str) -> None:
    """Raises ImproperlyConfigured outside of tests, and for what nobody knows."""
    if spec and not settings.DEBUG:
        raise ImproperlyConfigured("CREW_FAILPOINTS is for tests: it takes DEBUG")
    for part in filter(None, spec.split(",")):
        point, _, action = part.partition("=")
        verb, _, argument = action.partition(":")
        if point not in POINTS or verb not in _ACTIONS:
            raise ImproperlyConfigured(f"CREW_FAILPOINTS: nobody knows {part!r}")
        armed[point] = partial(_once, point, _ACTIONS[verb], argument)


def _once(point: str, action: Callable[[str], None], argument: str) -> None:
    if armed.pop(point, None):
        action(argument)


def _kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _lose(_: str) -> None:
    """After a commit: its answer is lost, and nobody knows whether it took effect."""
    raise OperationalError("the connection was lost (a fail-point)")


def _wait(fifo: str) -> None:
    """Whoever opens the fifo to write knows that we are here; we go on when it is closed."""
    with open(fifo, "rb") as gate:
        gate.read()


_ACTIONS: dict[str, Callable[[str], None]] = {"kill": _kill, "lose": _lose, "wait": _wait}

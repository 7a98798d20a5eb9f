"""How long a settle waits for what others hold: whoever settles says it for all that is below."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ..sql import Within, on_postgres


@dataclass(frozen=True, slots=True)
class Haste:
    """How long a settle waits.

    `skips`: it does not wait at all for groups and tasks that others hold, but leaves them.
    `clears`: an answer to a task that ran before deletes all that it replaces; else it is left if
    that is much.
    """

    within: Within
    skips: bool = True
    clears: bool = False


_haste: ContextVar[Haste | None] = ContextVar("haste", default=None)


@contextmanager
def hastily(haste: Haste) -> Iterator[None]:
    """What is settled in here waits no longer than that; without it, as long as it takes."""
    token = _haste.set(haste)
    try:
        yield
    finally:
        _haste.reset(token)


def within() -> Within | None:
    haste = _haste.get()
    return haste.within if haste else None


def clears() -> bool:
    haste = _haste.get()
    return haste is None or haste.clears


def skips() -> bool:
    haste = _haste.get()
    return haste is not None and haste.skips and on_postgres()

"""What failures of a worker as a whole mean, for it and for its tasks. Pure arithmetic.

A worker that cannot be reached says nothing about the task. After `IN_A_ROW` such failures it
rests; then one call tries it, and its other tasks keep their attempts. A worker that answers some
calls and refuses others is asked for less at a time: `ramp` bounds the attempts in flight.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

IN_A_ROW = 20  # failures, and the worker rests
FIRST_REST, LONGEST_REST = 5.0, 300.0  # seconds; each rest in a row is twice the one before
APART = (0.8, 1.2)  # of a rest or a wait: not all at once again
LONGER = 230.0  # seconds: the most, until it is spread, that a task waits beyond its own delay
MOST_WAIT = 301.0  # seconds that `wait_seconds` never goes beyond a task's own delay
BORNE = 5  # attempts in a row that were cut off by a worker that serves others
WIDEST = 512.0  # attempts in flight; a ramp that reaches it is none
LESS, MORE = 0.9, 0.25  # what a failure leaves of the ramp, what an answer adds


# How the note of an attempt begins that was held though its worker did not ask for it.
SPARED = "no attempt was used up: the worker "


class Fault(StrEnum):
    """How a worker failed as a whole."""

    NONE = ""
    REFUSED = "refused"  # it took no call: no connection, or 503
    BROKEN = "broken"  # the call was with it, or with a proxy before it: cut off, 502, 504
    SILENT = "silent"  # not answered in time: maybe the task's doing, unless the worker rests


_STATUSES = {502: Fault.BROKEN, 503: Fault.REFUSED, 504: Fault.BROKEN}


def fault(status: int | None, unanswered: Fault) -> Fault:
    """Of a failed attempt; `unanswered` says it where there is no status."""
    return unanswered if status is None else _STATUSES.get(status, Fault.NONE)


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a worker. The default is all well.

    `fails` in a row, `rests` in a row, `ramp` None when as many as you like may be in flight.
    """

    fails: int = 0
    rests: int = 0
    ramp: float | None = None
    is_resting: bool = False


class Cost(StrEnum):
    """What a failure costs its task."""

    ATTEMPT = "attempt"
    HOLD = "hold"  # none, as the worker serves others: one of the hundred in a row (decision 8)
    NOTHING = "nothing"  # the worker rests: its tasks can wait as long as it does


@dataclass(frozen=True, slots=True)
class Judged:
    """`costs` are of each result. `rest` is the seconds of a rest that begins."""

    health: Health
    costs: tuple[Cost, ...]
    rest: float | None = None


def judge(
    health: Health,
    results: Sequence[Fault],
    before: Sequence[int],
    chance: random.Random | None = None,
) -> Judged:
    """What the results, in their order, make of a worker; NONE is an answer.

    `before` is how many attempts of each one's task in a row have failed so already.
    """
    costs, rest = [], None
    for result, times in zip(results, before, strict=True):
        was, health = health, _after(health, result)
        costs.append(_cost(was, result, times))
        if health.rests > was.rests:
            rest = rest_seconds(health.rests, chance)
        elif not health.rests:
            rest = None
    return Judged(health, tuple(costs), rest)


def _cost(health: Health, result: Fault, before: int) -> Cost:
    if health.rests:
        return Cost.NOTHING
    if result is Fault.SILENT:
        return Cost.ATTEMPT
    # What was not taken says nothing against its task. What was cut off may be too much for the
    # worker, or the worker's end: such a task is borne with for a while.
    is_borne = result is Fault.REFUSED or before < BORNE
    return Cost.HOLD if health.ramp is not None and is_borne else Cost.ATTEMPT


def _after(health: Health, result: Fault) -> Health:
    if result is Fault.NONE:
        return _answered(health)
    return health if result is Fault.SILENT and not health.rests else _failed(health)


def _answered(health: Health) -> Health:
    if health.rests:
        return Health(ramp=1.0)
    if health.ramp is not None:
        ramp = health.ramp + MORE
        return Health(ramp=ramp if ramp < WIDEST else None)
    # It answers some and fails others, so less at a time may be what it needs.
    return Health(ramp=_less(WIDEST, health.fails) if health.fails else None)


def _failed(health: Health) -> Health:
    fails = health.fails + 1
    if health.is_resting:
        return replace(health, fails=fails)  # in flight since before the rest
    if health.rests or fails >= IN_A_ROW:
        return Health(fails, health.rests + 1, is_resting=True)
    return Health(fails, ramp=None if health.ramp is None else _less(health.ramp))


def _less(ramp: float, times: int = 1) -> float:
    return max(1.0, ramp * LESS**times)


def rest_seconds(rests: int, chance: random.Random | None = None) -> float:
    """Of the so many-th rest in a row."""
    seconds = min(FIRST_REST * 2.0 ** min(rests - 1, 10), LONGEST_REST / APART[1])
    return seconds * _apart(chance)


def wait_seconds(delay: float, before: int, chance: random.Random | None = None) -> float:
    """How long a task waits that has `delay` of its own and failed so `before` times in a row.

    At least its delay and a second; twice as long each time, up to five minutes more; and not
    all that failed together come again together.
    """
    own = max(1.0, delay)
    longer = min(own * (2.0 ** min(before, 10) - 1), LONGER)
    late = min(own, LONGER / 2) * (_apart(chance) - APART[0]) / 2
    return own + longer * _apart(chance) + late


def _apart(chance: random.Random | None) -> float:
    return random.uniform(*APART) if chance is None else chance.uniform(*APART)  # noqa: S311

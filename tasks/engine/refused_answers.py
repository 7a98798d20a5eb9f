"""What is left of an answer that the database refuses: piece by piece less, until it takes it."""

from collections.abc import Iterator
from dataclasses import replace

from ..rules.decide import MAX_ERROR, Completed, Delays, Failed, Held
from ..rules.transcript import NOTHING
from .settlement import Settlement

UNSTORABLE = "the answer could not be stored"


def lesser(settlement: Settlement, error: str) -> Iterator[Settlement]:
    """First without what is only for people to read; then done work is no longer done.

    A rate limit stays one, and costs no attempt. The last holds nothing that came from outside.
    """
    words = f"{UNSTORABLE}: {error}"[:MAX_ERROR]
    yield _bare(settlement)
    yield _without_output(settlement, words)
    yield _bare(_without_output(settlement, words))
    yield plain(settlement, UNSTORABLE)


def plain(settlement: Settlement, words: str) -> Settlement:
    """Of what came, nothing but whether it was a success, a failure or neither."""
    outcome = settlement.outcome
    if isinstance(outcome, Completed | Failed):
        outcome = Failed(words)
    elif isinstance(outcome, Held):
        outcome = Held(outcome.seconds, words)
    return replace(settlement, outcome=outcome, status=None, transcript=NOTHING)


def _bare(settlement: Settlement) -> Settlement:
    outcome = settlement.outcome
    if isinstance(outcome, Completed | Failed | Held):
        outcome = replace(outcome, note="")
    return replace(settlement, outcome=outcome, transcript=NOTHING)


def _without_output(settlement: Settlement, words: str) -> Settlement:
    outcome = settlement.outcome
    if isinstance(outcome, Completed):
        outcome = Failed(words)
    elif isinstance(outcome, Failed | Held):
        outcome = replace(outcome, output=None, delays=Delays())
    return replace(settlement, outcome=outcome)

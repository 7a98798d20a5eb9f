"""What became of a lease, as values, and how the statements are told of it. Never the database."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from ..rules.decide import Completed, Decided, Delays, Failed, Held
from ..rules.jsonio import quote
from ..rules.outages import Fault
from ..rules.transcript import NOTHING, Transcript
from .lease import Lease


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The lease was lost with its scheduler. `seconds` is kept from the second loss in a row on."""

    seconds: float = 0.0
    error: str = "abandoned: the scheduler that ran this attempt died"


@dataclass(frozen=True, slots=True)
class Returned:
    """Never sent: back it goes for `seconds`, and no attempt is used up."""

    seconds: float = 0.0


Outcome = Decided | Abandoned | Returned


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one lease. `status` is the HTTP status, if there was one; else `fault` is
    how the worker failed, if it did. `is_weighed`: what it says of its worker is counted.

    `may_run`: the worker may still be at it, without a connection that would tell. `is_alone`: it
    is written by itself, with its group alone.
    """

    lease: Lease
    outcome: Outcome
    status: int | None = None
    transcript: Transcript = NOTHING
    may_run: bool = False
    fault: Fault = Fault.NONE
    is_weighed: bool = False
    is_alone: bool = False

    @property
    def answers_again(self) -> bool:
        """What earlier answers made has to make way for it."""
        return self.is_alone or (self.lease.has_made and isinstance(self.outcome, Completed))

    @property
    def key(self) -> tuple[str, int]:
        """The attempt."""
        return self.lease.task_id, self.lease.attempt

    @property
    def fence(self) -> tuple[str, int, str]:
        return self.lease.task_id, self.lease.attempt, self.lease.leased_by

    @property
    def kind(self) -> str:
        """The outcome, by its name in statements and in the history."""
        return type(self.outcome).__name__.lower()

    @property
    def error(self) -> str:
        return getattr(self.outcome, "error", "")

    @property
    def is_answer(self) -> bool:
        """It says something of its worker that is not counted yet."""
        return self.status is not None and not self.is_weighed

    @property
    def wait(self) -> float:
        """How long the task waits by itself: not at all where its workgroup's hold keeps it.

        So it is free with all others when somebody opens that.
        """
        return 0.0 if self.is_of_hold else getattr(self.outcome, "seconds", 0.0)

    @property
    def is_of_hold(self) -> bool:
        return isinstance(self.outcome, Held) and self.hold >= self.outcome.seconds

    @property
    def hold(self) -> float:
        """How long the answer holds the task's workgroup; 0 for not at all."""
        is_meant = isinstance(self.outcome, Completed | Failed | Held)
        if not is_meant or not self.lease.workgroup:
            return 0.0
        return float(getattr(self.outcome, "delays", Delays()).workgroup)

    @property
    def children_delay(self) -> float:
        return float(getattr(self.outcome, "delays", Delays()).children)


class AnswersAgainError(Exception):
    """These tasks turned out to answer again: nothing was written, and they are to be alone."""

    def __init__(self, task_ids: Collection[str]) -> None:
        super().__init__("an answer changes what earlier answers made")
        self._task_ids = task_ids

    def alone(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        found = self._task_ids
        return [replace(s, is_alone=s.is_alone or s.lease.task_id in found) for s in settlements]


class Why(Enum):
    """Why a settlement could not be written, though nothing is wrong with the database."""

    GROUP = "its group is locked by somebody"
    TASK = "its row is locked by somebody"
    LOCK = "something that its answer changes is locked by somebody"
    SLOW = "the database did not get done with it"
    REFUSED = "the database refused it"
    MUCH = "much that it replaces is deleted before it"


@dataclass(frozen=True, slots=True)
class Left:
    """A settlement of which nothing was written: its lease holds, its answer still counts."""

    settlement: Settlement
    why: Why


@dataclass(frozen=True, slots=True)
class Settled:
    """How many settlements took effect, how many came too late, and what was left."""

    live: int = 0
    late: int = 0
    left: tuple[Left, ...] = ()

    def __add__(self, other: "Settled") -> "Settled":
        return Settled(self.live + other.live, self.late + other.late, self.left + other.left)


def as_row(settlement: Settlement) -> str:
    """The settlement as JSON; the output is spliced in as it came."""
    lease, outcome, transcript = settlement.lease, settlement.outcome, settlement.transcript
    status = "null" if settlement.status is None else settlement.status
    spared = "true" if getattr(outcome, "is_spared", False) else "false"
    soon = "true" if getattr(outcome, "is_soon", False) else "false"
    # Piece by piece: a dict would cost three times as much, for each task.
    return (
        f'{{"id":{quote(lease.task_id)},"group":{quote(lease.group_id)}'
        f',"attempt":{lease.attempt},"leased_by":{quote(lease.leased_by)}'
        f',"outcome":"{settlement.kind}","wait":{settlement.wait}'
        f',"spared":{spared},"soon":{soon},"status":{status},"error":{quote(settlement.error)}'
        f',"note":{quote(getattr(outcome, "note", ""))}'
        f',"request":{quote(transcript.request)},"answer":{quote(transcript.answer)}'
        f',"output":{getattr(outcome, "output", None) or "null"}}}'
    )

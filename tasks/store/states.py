"""How far a group is. Reads only, and never more rows than the group has left to do."""

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime

from django.db import models
from django.db.models import Case, Count, Q, Value, When
from django.db.models.functions import Now

from ..errors import NotFoundError
from ..models import Task, TaskGroup, Workgroup
from ..models.queries import says
from ..rules.states import FACTS, LEFT, State, of_row

# The hold of a task's workgroup is a later time for it (contract 2.4). Asked once a query.
HELD = ~Q(workgroup="") & Q(
    workgroup__in=Workgroup.objects.filter(held_until__gt=Now()).values("name")
)
# One truth for lists and counts: annotate with it, as `state`. The clock is the database's.
STATE = Case(
    *(When(says(fact.state), then=Value(fact.state.value)) for fact in FACTS),
    When(Q(run_after__gt=Now()) | HELD, then=Value(State.SCHEDULED.value)),
    default=Value(State.READY.value),
    output_field=models.CharField(),
)


def state_of(task: Task, now: datetime, held: Container[str]) -> State:
    """`STATE` of a row that has been read, for showing it; `held` are the workgroups that are."""
    return of_row(task, is_later=lambda: task.run_after > now or task.workgroup in held)


@dataclass(frozen=True, slots=True)
class Progress:
    """The tasks of a group by state; each is counted once."""

    total: int
    executing: int = 0
    following: int = 0
    failed: int = 0
    paused: int = 0
    blocked: int = 0
    unassigned: int = 0
    scheduled: int = 0
    ready: int = 0

    @property
    def left(self) -> int:
        return sum(getattr(self, state) for state in LEFT)

    @property
    def complete(self) -> int:
        return max(0, self.total - self.left)

    @property
    def is_complete(self) -> bool:
        return self.left == 0

    def __str__(self) -> str:
        """One line for people, which scripts may read too."""
        rest = ", ".join(
            f"{count} {word}"
            for count, word in (
                (self.following, "following"),
                (self.ready, "ready"),
                (self.unassigned, "without a worker"),
            )
            if count
        )
        return (
            f"{self.complete}/{self.total} complete, {self.executing} executing,"
            f" {self.blocked} blocked, {self.scheduled} scheduled,"
            f" {self.failed} failed (no attempts left), {self.paused} paused"
        ) + (f", {rest}" if rest else "")


def progress(group_id: str) -> Progress:
    """Count the tasks of a group by state. Raises NotFoundError."""
    total = TaskGroup.objects.filter(pk=group_id).values_list("task_count", flat=True).first()
    if total is None:
        raise NotFoundError(f"there is no task group {group_id}")
    # Served by the index crew_task_incomplete: what is complete costs nothing.
    counts = (
        Task.objects.filter(group_id=group_id, is_complete=False)
        .order_by()
        .values_list(STATE)
        .annotate(n=Count("*"))
    )
    return Progress(total, **{str(state): n for state, n in counts})

"""Run a group to its end inside a test: no network, no threads, no waiting.

The scheduler's own steps, one call at a time, by the `requests` deliverer, so that `responses`
stands in for the workers. Works inside a test's transaction. Not for a database on which a
scheduler runs.
"""

import random
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from .delivery import thread_calls
from .delivery.calls import CallRules, Delivery, OnAnswer, tls_context
from .delivery.threads import RequestsDeliverer
from .engine import claim
from .engine.lane_walk import Walk
from .engine.scheduler import Scheduler
from .models import Limit, Task, TaskGroup, Workgroup
from .rules.states import State
from .sql.probes import among
from .store.states import STATE, Progress, progress
from .worker import Call, read_call

__all__ = ["GroupStuck", "Report", "run_group"]

NAMED = 10  # tasks named in one error


class GroupStuck(Exception):
    """Tasks are left that cannot go on; the text names them and says why.

    `report` tells what was done until then.
    """

    def __init__(self, report: "Report", reasons: Sequence[str]) -> None:
        super().__init__("the group cannot go on: " + "; ".join(reasons))
        self.report = report
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the group.

    `complete` and `failed` (no attempts left) are ids, oldest task first; `progress` counts the
    tasks by state. `calls` are the calls to workers in order, repeats included. `seconds` is how
    far time was moved.
    """

    complete: tuple[str, ...]
    failed: tuple[str, ...]
    progress: Progress
    calls: tuple[Call, ...]
    seconds: float

    @property
    def is_complete(self) -> bool:
        return self.progress.is_complete

    def calls_of(self, worker: str) -> list[Call]:
        return [call for call in self.calls if call.worker == worker]


def run_group(
    group: TaskGroup | str,
    *,
    max_seconds_of_delays: float = 86_400.0,
    max_attempts: int = 100,
    max_calls: int = 10_000,
    failures_allowed: bool = False,
) -> Report:
    """Run the group until nothing of it is left to do, and report.

    One call at a time: by priority, then by worker's name, then the longest due. Delays (after
    an error, of children, of a held workgroup, `run_after`) are not waited for: when everything
    left is due later, the group's times are moved to the next one, by `max_seconds_of_delays` in
    all. Other groups do not run meanwhile.

    Raises GroupStuck when tasks are left that cannot go on: paused, without a worker, of a
    worker whose limit is 0, scheduled too late; out of attempts, unless `failures_allowed`; or
    when a task was called `max_attempts` times, or workers `max_calls` times. What was done
    stays. An exception in a mock of `responses` that is not one of `requests` or of the network
    comes through. NotFoundError if there is no such group.
    """
    group_id = group if isinstance(group, str) else group.pk
    progress(group_id)
    run = _Run(group_id, max_seconds_of_delays)
    with _alone(group_id):
        reasons = run.to_its_end(max_attempts, max_calls)
    rows = _rows(group_id)
    report = Report(
        complete=tuple(row.id for row in rows if row.state == State.COMPLETE),
        failed=tuple(row.id for row in rows if row.state == State.FAILED),
        progress=progress(group_id),
        calls=tuple(run.calls),
        seconds=run.seconds,
    )
    reasons = reasons or _reasons(rows, failures_allowed=failures_allowed)
    if reasons:
        raise GroupStuck(report, reasons)
    return report


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    worker: str
    workgroup: str
    errors: list[str]
    state: str


class _Run(Scheduler):
    """A scheduler of one slot that neither beats nor sleeps."""

    def __init__(self, group_id: str, seconds_allowed: float) -> None:
        super().__init__(slots=1, once=True)
        self.group_id = group_id
        self.seconds = 0.0
        self.calls: list[Call] = []
        self._seconds_allowed = seconds_allowed
        self._deliverer = _InlineDeliverer(self.calls)

    def to_its_end(self, max_attempts: int, max_calls: int) -> list[str]:
        """Until nothing can be claimed, now or later; sentences if a limit ended it."""
        attempts: Counter[str] = Counter()
        waits: list[float] = []
        self._deliverer.start(self._on_answer)
        while True:
            claimed = self._step()
            for lease in claimed.leases:
                attempts[lease.task_id] += 1
                if attempts[lease.task_id] >= max_attempts and _may_go_on(lease.task_id):
                    return [f"{lease.task_id} was called {max_attempts} times (max_attempts)"]
            if len(self.calls) >= max_calls and not progress(self.group_id).is_complete:
                return [f"workers were called {max_calls} times (max_calls)"]
            if claimed.leases:
                waits.clear()
                self._walk = Walk()
                continue
            waits += [] if claimed.wait is None else [claimed.wait]
            if claimed.goes_on:
                continue  # there are more lanes than one claim looks at
            if not waits or not self._jump(min(waits)):
                return []
            waits.clear()
            self._walk = Walk()

    def _step(self) -> claim.Claimed:
        """One task is claimed, delivered and settled."""
        claimed = claim.claim(
            self.me,
            slots=1,
            total=1,
            busy=self._busy,
            walk=self._walk,
            chance=_InOrder(),
        )
        self._send(claimed.leases)
        self._take_answers()
        self._settle()
        return claimed

    def _jump(self, wait: float) -> bool:
        """Move the time of the group on by `wait`; False if that is more than is allowed."""
        if self.seconds + wait > self._seconds_allowed:
            return False
        # A millisecond more, because SQLite's clock has no finer grain.
        step = timedelta(seconds=wait + 0.001)
        later = Task.objects.filter(group_id=self.group_id, run_after__gt=Now(), is_complete=False)
        later.update(run_after=F("run_after") - step)
        for model in (Workgroup, Limit):
            model.objects.filter(held_until__gt=Now()).update(held_until=F("held_until") - step)
        self.seconds += wait
        return True


class _InOrder(random.Random):
    """No lots in a test: lanes stay in the order of their workers' names."""

    def shuffle(self, x: Any) -> None:
        pass


class _InlineDeliverer(RequestsDeliverer):
    """Answers each delivery before `send` returns, in the caller's own thread."""

    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        self._log = calls

    def start(self, on_answer: OnAnswer) -> None:
        self._on_answer = on_answer
        self._rules = CallRules.from_conf()
        self._tls = tls_context(self._rules.ca_file)

    def send(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._log.append(read_call(delivery.body, self._rules.headers(delivery)))
            call = thread_calls.ThreadCall(delivery, self._rules, self._host)
            self._on_answer(delivery, self._answer(call))


@contextmanager
def _alone(group_id: str) -> Iterator[None]:
    """Claims are made for all groups: what lies in others is paused meanwhile."""
    others = Task.objects.filter(is_paused=False, is_complete=False).exclude(group_id=group_id)
    ids = list(others.values_list("id", flat=True))
    Task.objects.filter(among("id", ids)).update(is_paused=True)
    try:
        yield
    finally:
        Task.objects.filter(among("id", ids)).update(is_paused=False)


def _may_go_on(task_id: str) -> bool:
    return Task.objects.filter(pk=task_id, is_complete=False, remaining_attempts__gt=0).exists()


def _rows(group_id: str) -> list[_Row]:
    tasks = Task.objects.filter(group_id=group_id).order_by("created_at", "id")
    return [_Row(*row) for row in tasks.values_list("id", "worker", "workgroup", "errors", STATE)]


def _reasons(rows: Sequence[_Row], *, failures_allowed: bool) -> list[str]:
    """A sentence for each task that keeps the group from going on."""
    # What is blocked only waits for the others.
    passed = {State.COMPLETE, State.BLOCKED} | ({State.FAILED} if failures_allowed else set())
    stuck = [row for row in rows if row.state not in passed]
    held = set(Workgroup.objects.filter(held_until__gt=Now()).values_list("name", flat=True))
    reasons = [f"{row.id} {_why(row, held)}" for row in stuck[:NAMED]]
    return reasons + [f"and {len(stuck) - NAMED} more"] * (len(stuck) > NAMED)


def _why(row: _Row, held: Container[str]) -> str:
    match row.state:
        case State.FAILED:
            error = row.errors[-1] if row.errors else "none"
            return f"has no attempts left; the last error of {row.worker}: {error}"
        case State.UNASSIGNED:
            return "has no worker"
        case State.SCHEDULED if row.workgroup in held:
            return f"is held with {row.workgroup}, longer than max_seconds_of_delays allows"
        case State.SCHEDULED:
            return "is due later than max_seconds_of_delays allows"
        case State.READY:
            return f"is ready, but {row.worker} takes no calls: its limit is 0"
        case State.EXECUTING | State.FOLLOWING:
            return "is being executed by another scheduler"
    return f"is {row.state}"

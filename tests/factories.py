"""Groups, tasks, leases and outcomes for tests, by the same doors that everyone uses."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from tasks import create
from tasks.engine import claim as claiming
from tasks.engine.claim import Claimed
from tasks.engine.lease import Lease
from tasks.engine.settle import settle
from tasks.engine.settlement import Settled, Settlement
from tasks.models import CutCall, SchedulerProcess, Task, TaskGroup
from tasks.rules.decide import Answer, Completed, Delays, Failed, Held, decide
from tasks.rules.names import camel
from tasks.rules.spec import TaskSpec, read_child

MAX_INPUT = 1024 * 1024
# What no client may send: written into the row afterwards.
MACHINE_FIELDS = {
    "attempt",
    "completed_at",
    "held_count",
    "leased_at",
    "leased_by",
    "merged_into",
    "pending_parents",
    "rescues",
}


def make_group(**fields: Any) -> TaskGroup:
    return create.create_group(**fields)


def make_task(group: TaskGroup | None = None, **fields: Any) -> Task:
    """A task by its model's field names; `parents` are tasks, the worker is worker-a."""
    machine = {name: fields.pop(name) for name in MACHINE_FIELDS & fields.keys()}
    group = group or make_group()
    (id_,) = create.create_tasks(group.pk, [wire(**fields)])
    if machine:
        Task.objects.filter(pk=id_).update(**machine)
    return Task.objects.get(pk=id_)


def diamond() -> TaskGroup:
    """a -> b, c -> d"""
    tasks = [
        wire(id="a"),
        wire(id="b", parent_ids=["a"]),
        wire(id="c", parent_ids=["a"]),
        wire(id="d", parent_ids=["b", "c"]),
    ]
    return make_group(tasks=tasks)


def wire(**fields: Any) -> dict[str, Any]:
    """A task in the wire's words."""
    fields.setdefault("worker", "worker-a")
    parents: Iterable[Task] = fields.pop("parents", ())
    fields.setdefault("parent_ids", [parent.pk for parent in parents])
    return {camel(name): _plain(value) for name, value in fields.items()}


def make_scheduler(me: str = "s1", *, slots: int = 100) -> SchedulerProcess:
    process, _ = SchedulerProcess.objects.get_or_create(
        pk=me, defaults={"host": "test", "pid": 1, "slots": slots}
    )
    return process


def claim(me: str = "s1", slots: int = 100, **steering: Any) -> Claimed:
    make_scheduler(me)
    return claiming.claim(me, slots=slots, **{"total": 2 * slots, "busy": {}} | steering)


def claim_all(me: str = "s1", slots: int = 100) -> list[Lease]:
    return list(claim(me, slots).leases)


def claim_ids(me: str = "s1", slots: int = 100) -> list[str]:
    return [lease.task_id for lease in claim_all(me, slots)]


def claim_one(me: str = "s1") -> Lease:
    (lease,) = claim_all(me)
    return lease


def completed(
    output: Any = None,
    children: Iterable[Mapping[str, Any]] = (),
    *,
    children_delay: float = 0.0,
    workgroup_delay: float = 0.0,
) -> Completed:
    return Completed(
        None if output is None else json.dumps(output),
        tuple(map(make_child, children)),
        Delays(workgroup_delay, children_delay),
    )


def make_child(raw: Mapping[str, Any]) -> TaskSpec:
    return read_child({"worker": "worker-b"} | dict(raw), max_input=MAX_INPUT)


def complete(lease: Lease, *args: Any, **kwargs: Any) -> Settled:
    return settle([Settlement(lease, completed(*args, **kwargs), 200)])


def fail(lease: Lease, error: str = "boom", **delays: float) -> Settled:
    return settle([Settlement(lease, Failed(error, None, Delays(**delays)), 500)])


def hold(lease: Lease, seconds: float = 30.0) -> Settled:
    return settle([Settlement(lease, Held(seconds, "slow down"), 429)])


def answer(
    lease: Lease,
    status: int = 200,
    json_: Any = None,
    *,
    body: bytes | None = None,
    retry_after: str | None = None,
) -> Settled:
    """What a scheduler does with an answer: decide, then settle."""
    came = Answer(status, json.dumps(json_).encode() if body is None else body, retry_after)
    outcome = decide(
        came, workgroup=lease.workgroup, now=timezone.now(), error_delay=lease.error_delay
    )
    return settle([Settlement(lease, outcome, status)])


def make_due(*tasks: Task) -> None:
    """The time of these tasks (of all, when none is named) has come."""
    rows = Task.objects.filter(pk__in=[task.pk for task in tasks]) if tasks else Task.objects.all()
    rows.update(run_after=Now() - timedelta(seconds=1))


def end_calls() -> None:
    """The calls that were given up have ended: they take no slot and no key any more."""
    CutCall.objects.all().delete()


def row(task: Task) -> dict[str, Any] | None:
    """Every column of the task as stored; None when it is gone."""
    return Task.objects.filter(pk=task.pk).values().first()


def pending() -> dict[str, int]:
    """How many parents each task waits for, by its id."""
    return dict(Task.objects.values_list("id", "pending_parents"))


def in_an_hour() -> datetime:
    return timezone.now() + timedelta(hours=1)


def from_now(moment: datetime) -> float:
    return (moment - timezone.now()).total_seconds()


def in_threads(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """`work` on all items at once, each by a database connection of its own."""

    def run(item: Any) -> Any:
        try:
            return work(item)
        finally:
            connection.close()

    items = list(items)
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(run, items))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value

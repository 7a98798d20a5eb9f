"""What people may do to workers and workgroups, which all groups share. Beside `control`."""

from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from . import audit
from .errors import InvalidInputError, NotFoundError
from .models import Limit, Task, Worker, Workgroup
from .rules import outages
from .rules.decide import MAX_DELAY
from .rules.jsonio import dump
from .rules.spec import read_text, read_worker
from .sql import create as create_sql
from .sql import health, run, run_steered
from .store import changes

__all__ = ["forget_workers", "hold_workgroup", "limit_worker", "try_worker"]

MAX_CONCURRENCY = 1_000_000
FREED_PER_TRANSACTION = 2_000  # tasks, in one transaction


def limit_worker(name: str, max_concurrency: int | None) -> None:
    """Let the worker have so many attempts in flight, over all schedulers; None = the default.

    Raises InvalidInputError for a name or a limit that cannot be.
    """
    if not read_worker(name):
        raise InvalidInputError("a worker has a name")
    if max_concurrency is not None and not 0 <= max_concurrency <= MAX_CONCURRENCY:
        raise InvalidInputError(
            f"maxConcurrency must be a whole number from 0 to {MAX_CONCURRENCY}"
        )
    with transaction.atomic():
        Worker.objects.update_or_create(name=name, defaults={"max_concurrency": max_concurrency})
        changes.wake_schedulers()
        audit.record("limit", audit.Kind.WORKER, name, maxConcurrency=max_concurrency)


def forget_workers(names: Sequence[str]) -> None:
    """Delete what is set for these workers. Those that tasks wait for keep a row, and how they are.

    The claim knows no limit and no rest of a worker without one, not even the default.
    """
    with transaction.atomic():
        for name in names:
            audit.record("delete", audit.Kind.WORKER, name)
        Worker.objects.filter(pk__in=names).delete()
        left = Task.objects.incomplete()
        asked = [name for name in names if left.filter(worker=name).exists()]
        run(create_sql.WORKERS, {"workers": dump(asked)})
        changes.wake_schedulers()


def try_worker(name: str) -> None:
    """End the rest of a worker that failed: one attempt tries it at once. Raises NotFoundError.

    What waits because it failed is due then. So there is something to try it with, and all goes
    on, as fast as it may, if that is answered.
    """
    if not Worker.objects.filter(pk=name).exists():
        raise NotFoundError("worker not found")
    resting = Limit.objects.filter(kind="worker", name=name, rests__gt=0)
    if not resting.exists():
        return
    while _free(name) == FREED_PER_TRANSACTION:
        pass
    with transaction.atomic():
        if resting.update(held_until=Now()):
            changes.wake_schedulers()
            audit.record("open", audit.Kind.WORKER, name)


def _free(worker: str) -> int:
    asked = {
        "worker": worker,
        "most": FREED_PER_TRANSACTION,
        "most_wait": outages.MOST_WAIT,
        "spared": outages.SPARED,
    }
    with transaction.atomic():
        (freed,) = run_steered((health.FREE, asked))
        changes.tasks_changed((group_id, id_) for group_id, id_ in freed)
    return len(freed)


def hold_workgroup(name: str, *, seconds: float) -> None:
    """Claim no task of the workgroup for `seconds` from now; 0 opens it at once.

    Raises InvalidInputError for a name that cannot be, and for more than 366 days.
    """
    if not read_text(name, "workgroup") or not 0 <= seconds <= MAX_DELAY:
        raise InvalidInputError("a workgroup with a name is held for 0 seconds to 366 days")
    if not name:
        raise InvalidInputError("tasks without a workgroup cannot be held together")
    with transaction.atomic():
        Workgroup.objects.bulk_create([Workgroup(name=name)], ignore_conflicts=True)
        until = Now() + timedelta(seconds=seconds) if seconds else None
        Workgroup.objects.filter(pk=name).update(held_until=until, held_by="")
        changes.workgroup_changed([name])
        changes.wake_schedulers()
        _record_hold(name, seconds)


def _record_hold(name: str, seconds: float) -> None:
    if seconds:
        audit.record("hold", audit.Kind.WORKGROUP, name, seconds=seconds)
    else:
        audit.record("open", audit.Kind.WORKGROUP, name)

"""Why a task is not running: every gate that keeps it, in the order the claim sees them.

Changes nothing. UI, API and the tests that hold it to the claim call this one function.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import Count, ExpressionWrapper, Q, QuerySet
from django.db.models.fields import DateTimeField
from django.db.models.functions import Now

from ..models import Attempt, CutCall, ParentEdge, Task, Worker, Workgroup
from ..models.queries import says
from ..rules.jsonio import dump
from ..rules.states import STUCK, State
from ..sql import Within, run, run_steered
from ..sql import control as sql
from ..sql.claim import LEASE
from ..sql.patience import is_locked, is_refusal, refusal
from ..sql.probes import among
from ..store.states import STATE
from .fleet.resting import rests
from .fleet.slots import leases, slots

SHOWN = 10  # tasks named in one gate
OVERDUE = timedelta(seconds=5)  # since a task is due that nothing keeps: then the claim is tried
PATIENCE = Within(lock=0.1, statement=1.0)  # of that


@dataclass(frozen=True, slots=True)
class Gate:
    """One reason to wait.

    `code` is for programs, `text` for people. `opens_itself` says that nobody has to do anything;
    `until` is when it opens, where that is known. `tasks` are the ids it is about, at most ten of
    `count`; `worker` and `workgroup` name what else it is about.
    """

    code: str
    text: str
    opens_itself: bool
    until: datetime | None = None
    tasks: tuple[str, ...] = ()
    count: int = 0
    worker: str = ""
    workgroup: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`state` is a word of `State`. A task that waits without a gate starts at once."""

    state: str
    gates: tuple[Gate, ...]

    @property
    def starts_itself(self) -> bool:
        """Whether it will run without anybody's doing."""
        return self.state not in (State.COMPLETE, State.EXECUTING) and all(
            gate.opens_itself for gate in self.gates
        )


def explain(task_id: str, group_ids: Collection[str] | None = None) -> Explanation | None:
    """Why the task is not running; None if there is no such task.

    Nothing of other groups than `group_ids` is named (None = all): they are only counted.
    """
    rows = Task.objects.select_related("group").annotate(
        state=STATE, now=ExpressionWrapper(Now(), output_field=DateTimeField())
    )
    task = rows.filter(pk=task_id).first()
    if task is None:
        return None
    if task.state == State.COMPLETE:
        return Explanation(task.state, ())
    if task.state == State.EXECUTING:
        return Explanation(task.state, tuple(_locked(task)))
    gates = tuple(_gates(task, group_ids))
    return Explanation(task.state, gates or tuple(_unclaimable(task)))


def _gates(task: Any, group_ids: Collection[str] | None) -> Iterator[Gate]:
    if task.is_paused:
        yield _paused(task)
    if task.pending_parents:
        yield _parents(task)
    if task.run_after > task.now:
        yield Gate("scheduled", "It runs later.", True, until=task.run_after)
    yield from _duplicate(task)
    yield from _ending(task)
    yield from _hold(task, group_ids)
    yield from _rest(task, group_ids)
    yield from _full(task, group_ids)
    if task.remaining_attempts == 0:
        yield Gate("exhausted", f"It has no attempts left. {_last(task)}", False)
    if not task.worker:
        yield Gate("no_worker", "It has no worker.", False)
    yield from _slots(task)
    yield from _locked(task)


def _last(task: Any) -> str:
    """Why it has no attempts left, in words, whether or not it failed."""
    if task.errors:
        return f"Its last error: {task.errors[-1]}"
    ended = Attempt.objects.filter(task=task.pk).exclude(error="").order_by("-number").first()
    if ended is None:
        return "It was given none."
    held = f", {_several(task.held_count, 'time')} in a row" if ended.outcome == "held" else ""
    return f"Its last attempt was {ended.outcome}{held}: {ended.error}"


def _paused(task: Any) -> Gate:
    if task.group.is_paused:
        return Gate("group_paused", "Its group is paused.", False)
    return Gate("paused", "It is paused.", False)


def _parents(task: Any) -> Gate:
    """The parents it waits for; who keeps them for good is named, however far above."""
    open_parents = Task.objects.filter(
        pk__in=ParentEdge.objects.filter(child=task.pk).values("parent_id"), is_complete=False
    )
    ids = tuple(open_parents.order_by("created_at", "id").values_list("id", flat=True)[:SHOWN])
    stuck = _stuck_above(ids)
    words = f"It waits for {_several(task.pending_parents, 'parent')}."
    if stuck:
        words += f" They will not go on by themselves because of {', '.join(stuck)}."
    return Gate("parents", words, not stuck, tasks=ids, count=task.pending_parents)


def _stuck_above(ids: tuple[str, ...]) -> list[str]:
    """Of these tasks and all above them, some that nothing but a person gets going."""
    above = [row[0] for row in run(sql.ANCESTORS, {"ids": dump(list(ids))})]
    rows = Task.objects.filter(among("id", above), says(*STUCK), is_complete=False, leased_by=None)
    return list(rows.values_list("id", flat=True)[:SHOWN])


def _duplicate(task: Any) -> Iterator[Gate]:
    if task.merged_into:
        words = "A task of the same key runs for it."
        yield Gate("duplicate", words, True, tasks=(task.merged_into,), count=1)
        return
    if not task.key:
        return
    twins = Task.objects.filter(group_id=task.group_id, key=task.key, leased_by__isnull=False)
    running = twins.values_list("id", flat=True).first()
    if running:
        words = "A task of the same key is running."
        yield Gate("duplicate", words, True, tasks=(running,), count=1)


def _ending(task: Any) -> Iterator[Gate]:
    """A call of it, or of its key, was given up and may still run."""
    own = Q(task_id=task.pk)
    of_key = Q(group_id=task.group_id, key=task.key) if task.key else own
    call = CutCall.objects.taking().filter(own | of_key).order_by("id").first()
    if call is None:
        return
    words = "Its slot is still taken by a call that is being ended."
    if call.task_id != task.pk:
        words = "A call of its key is still being ended."
    yield Gate("ending", words, True, until=call.until, tasks=(call.task_id,), count=1)


def _seen(rows: QuerySet[Task], group_ids: Collection[str] | None) -> QuerySet[Task]:
    """Those of the tasks that the caller may know of."""
    return rows if group_ids is None else rows.filter(group_id__in=sorted(group_ids))


def _hold(task: Any, group_ids: Collection[str] | None) -> Iterator[Gate]:
    row = Workgroup.objects.filter(pk=task.workgroup, held_until__gt=Now()).first()
    if row is None or not task.workgroup:
        return
    words = "Its workgroup is held" + (", as a worker asked." if row.held_by else " by a person.")
    by: tuple[str, ...] = (row.held_by,) if row.held_by else ()
    if by and group_ids is not None:  # the task may be gone, and then nobody knows whose it was
        by = tuple(_seen(Task.objects.filter(pk__in=by), group_ids).values_list("id", flat=True))
    count = 1 if row.held_by else 0
    yield Gate("held", words, True, until=row.held_until, tasks=by, count=count, workgroup=row.name)


def _rest(task: Any, group_ids: Collection[str] | None) -> Iterator[Gate]:
    rest = rests([task.worker]).get(task.worker) if task.worker else None
    if rest is None or not rest.is_full:
        return
    # The answer to a task of any group.
    is_shown = rest.error and group_ids is None
    last = f" The last: {rest.error.rstrip('.')}." if is_shown else ""
    if rest.until or rest.failures:
        words = f"Its worker failed {_several(rest.failures, 'time')} in a row and rests."
        if not rest.until:
            words = (
                f"Its worker failed {_several(rest.failures, 'time')} in a row; one call tries it."
            )
        yield Gate("worker_rests", f"{words}{last}", True, until=rest.until, worker=task.worker)
        return
    words = f"Its worker failed of late and may have {_several(rest.allowed, 'attempt')} for now."
    yield Gate("worker_ramp", words + last, True, count=rest.in_flight, worker=task.worker)


def _full(task: Any, group_ids: Collection[str] | None) -> Iterator[Gate]:
    limit = (Worker.objects.filter(pk=task.worker).first() or Worker()).limit
    if limit is None or not task.worker:
        return
    flying = Task.objects.filter(worker=task.worker, leased_by__isnull=False)
    ending = CutCall.objects.taking().filter(worker=task.worker).count()
    count = flying.aggregate(n=Count("*"))["n"] + ending
    if count < limit:
        return
    shown = _seen(flying, group_ids).order_by("leased_at")
    by = tuple(shown.values_list("id", flat=True)[:SHOWN])
    words = f"Its worker is full: {count} of {limit} attempts run."
    if ending:
        words += (
            f" {_several(ending, 'call')} of them {'is' if ending == 1 else 'are'} being ended."
        )
    if limit == 0:
        words = "Its worker may run no attempts."
    yield Gate("worker_full", words, limit > 0, tasks=by, count=count, worker=task.worker)


def _slots(task: Any) -> Iterator[Gate]:
    """The schedulers, and whether any of them has a slot that this task's worker may take."""
    alive = slots(leases())
    if not alive:
        yield Gate("no_scheduler", "No scheduler is running.", False)
        return
    total, free = sum(one.total for one in alive), sum(one.free for one in alive)
    if not free:
        words = f"No slot is free: the schedulers may run {_several(total, 'attempt')}, and do."
        yield Gate("no_slot", words, True, count=total)
    elif task.worker and not any(one.open_to(task.worker) for one in alive):
        taken = sum(one.taken[task.worker] for one in alive)
        words = f"Its worker has {taken} of {total} slots; the {free} free ones are for others."
        yield Gate("slots_kept", words, True, count=taken, worker=task.worker)


def _locked(task: Any) -> Iterator[Gate]:
    """Whether somebody has the row of its group, or its own, which an answer needs to be written.

    Who waits for nothing else, and whose own row it is, is told by `_unclaimable`.
    """
    try:
        with transaction.atomic():
            group_is_free = run(sql.GROUP_FREE, {"group": task.group_id})
            is_free = not task.leased_by or run(sql.TASK_FREE, {"task": task.pk})
    except DatabaseError:  # a database that is only read, as after a fail-over, tells no locks
        return
    if not group_is_free:
        words = "Somebody's transaction locks its group: no answer is written until that ends."
        yield Gate("group_locked", words, True)
    if not is_free:
        words = "Somebody's transaction locks it: its answer is not written until that ends."
        yield Gate("task_locked", words, True)


def _unclaimable(task: Any) -> Iterator[Gate]:
    """Of one that nothing keeps and nobody starts: what the database says to that."""
    if task.now - task.run_after < OVERDUE:
        return
    try:
        with transaction.atomic():
            run_steered((LEASE, {"ids": dump([task.pk]), "me": "explain"}), within=PATIENCE)
            transaction.set_rollback(True)
    except DatabaseError as error:
        if is_locked(error):
            words = "Somebody's transaction locks it: it is not started until that ends."
            yield Gate("task_locked", words, True)
        elif is_refusal(error):
            words = f"The database does not let it be started: {refusal(error)}."
            yield Gate("refused", words, False)


def _several(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"

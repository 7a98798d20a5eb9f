"""Groups and tasks as the wire shows them (contract 1.1): one shape for API, stream and exports.

Times are UTC with three fraction digits and `Z`, and never null: old clients break on anything
else.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now
from django.utils import timezone

from ..models import Attempt, AuditEntry, ParentEdge, Task, TaskGroup, Workgroup
from ..rules.names import camel
from ..rules.spec import FIELDS, PLAIN
from ..rules.states import State
from ..sql.probes import among, probed
from .states import Progress, state_of

ZERO_TIME = "0001-01-01T00:00:00Z"

Json = dict[str, Any]


def _order() -> list[str]:
    """The words of a task as the old Crew gave them, then ours."""
    words = [field.word for field in FIELDS]
    words.insert(1, "taskGroupId")
    words.insert(words.index("priority"), "busyExecuting")
    return [*words, "state"]


_IN_ORDER = dict.fromkeys(_order())
_WORDS = tuple(field.word for field in PLAIN)
_shown = attrgetter(*(field.column for field in PLAIN))


def time(moment: datetime | None) -> str:
    """A moment as old clients can parse it; the zero time for none."""
    if moment is None:
        return ZERO_TIME
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def group(row: TaskGroup) -> Json:
    """A group; `isPaused` is ours (decision 6)."""
    return {
        "id": row.pk,
        "name": row.name,
        "createdAt": time(row.created_at),
        "isPaused": row.is_paused,
    }


def tasks(rows: Sequence[Task]) -> list[Json]:
    """These tasks, in the order given, by two look-ups however many they are.

    A hold of the workgroup shows as a later `runAfter` (contract 2.4): the rows do not carry it.
    It still does when it has passed: whoever was told of the hold is not told that it passed.
    """
    parents: defaultdict[str, list[str]] = defaultdict(list)
    edges = ParentEdge.objects.filter(probed("child_id", [row.pk for row in rows]))
    pairs = edges.order_by("child_id", "position").values_list("child_id", "parent_id")
    for child, parent in pairs:
        parents[child].append(parent)
    holds = _holds({row.workgroup for row in rows if row.workgroup and not row.is_complete})
    now = timezone.now()
    return [_task(row, parents[row.pk], holds, now) for row in rows]


def task(row: Task) -> Json:
    return tasks([row])[0]


def new_task(row: Task, parent_ids: Sequence[str]) -> Json:
    """A task that was created with these parents, without a look at its edges."""
    holds = _holds({row.workgroup} - {""} if not row.is_complete else ())
    return _task(row, list(parent_ids), holds, timezone.now())


def attempt(row: Attempt) -> Json:
    """An attempt that ended; `late` is the answer that came after its lease was lost, if any."""
    late = None
    if row.late_at is not None:
        late = {
            "at": time(row.late_at),
            "outcome": row.late_outcome,
            "status": row.late_status,
            "error": row.late_error,
        }
    return {
        "taskId": row.task_id,
        "number": row.number,
        "worker": row.worker,
        "outcome": row.outcome,
        "status": row.status,
        "error": row.error,
        "note": row.note,
        "startedAt": time(row.started_at),
        "finishedAt": time(row.finished_at),
        "late": late,
    }


def whole_attempt(row: Attempt) -> Json:
    """With what is kept of the call, null where nothing is."""
    return attempt(row) | {"request": row.request, "answer": row.answer}


def audit_entry(row: AuditEntry) -> Json:
    """What somebody did; without the address, which is for those who look after the site."""
    return {
        "at": time(row.at),
        "who": row.who,
        "verb": row.verb,
        "kind": row.kind,
        "id": row.target,
        "ids": row.ids.split(),
        "count": row.count,
        "detail": row.detail,
        "isImported": row.is_imported,
        "seal": row.seal,
    }


def _task(row: Task, parent_ids: list[str], holds: "_Holds", now: datetime) -> Json:
    run_after = row.run_after
    if not row.is_complete and row.workgroup in holds.until:
        run_after = max(run_after, holds.until[row.workgroup])
    return {
        **_IN_ORDER,
        "id": row.pk,
        "taskGroupId": row.group_id,
        **dict(zip(_WORDS, _shown(row), strict=True)),
        "isPaused": row.is_paused,
        "runAfter": time(run_after),
        "errors": row.errors,
        "createdAt": time(row.created_at),
        "parentIds": parent_ids,
        "busyExecuting": row.is_executing,
        "state": state_of(row, now, holds.now).value,
    }


@dataclass(frozen=True, slots=True)
class _Holds:
    """Until when workgroups are, or were, held; and which are so now."""

    until: dict[str, datetime]
    now: set[str]


def _holds(names: Collection[str]) -> _Holds:
    if not names:
        return _Holds({}, set())
    rows = Workgroup.objects.filter(among("name", names), held_until__isnull=False)
    on = ExpressionWrapper(Q(held_until__gt=Now()), BooleanField())
    held = list(rows.values_list("name", "held_until", on))
    return _Holds({name: until for name, until, _ in held}, {name for name, _, on in held if on})


def plain(value: Any) -> Any:
    """A dataclass, and what is in it, for the routes that are ours: camelCase, null for none."""
    if isinstance(value, datetime):
        return time(value)
    if isinstance(value, Progress):
        return {state: getattr(value, state) for state in ("total", *State)}
    if is_dataclass(value) and not isinstance(value, type):
        return {camel(field.name): plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

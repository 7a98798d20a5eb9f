"""A store as it looks on a busy day: many groups, one of them of 100,000 tasks in every state.

Rows are written directly, and keep every rule that `manage.py crewcheck` knows.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from tasks.models import Attempt, ParentEdge, SchedulerProcess, Task, TaskGroup, Worker
from tasks.models.task import Outcome

LARGE, MIDDLE = "large", "middle"
WORKERS = 8
OTHERS = 1_000  # groups
SCHEDULER = "s1"
ROWS_PER_STATEMENT = 10_000  # rows in one statement's list
ERROR = "ConnectError: files.example.org refused"


def furnish() -> None:
    """100,000 tasks on 20 levels, 500 on 10, and three in each of a thousand groups."""
    now = timezone.now()
    with transaction.atomic():
        # It is not running: far ahead, so that nobody finds it dead meanwhile.
        ahead = now + timedelta(days=1)
        SchedulerProcess.objects.create(id=SCHEDULER, host="bench", pid=1, slots=500, beat_at=ahead)
        Worker.objects.bulk_create(Worker(name=f"worker-{n}") for n in range(WORKERS))
        for n in range(OTHERS):
            add_group(f"group-{n:04}", 3, 1, now)
        add_group(MIDDLE, 10, 50, now)
        add_group(LARGE, 20, 5_000, now)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # what the database would do by itself before long


def ready_ids(group_id: str, count: int) -> list[str]:
    """Tasks that nobody takes, and that nothing but a person keeps."""
    rows = Task.objects.filter(
        group_id=group_id, leased_by=None, is_complete=False, pending_parents=0, merged_into=None
    )
    rows = rows.filter(remaining_attempts__gt=0, is_paused=False, run_after__lt=timezone.now())
    return list(rows.exclude(worker="").order_by("id").values_list("id", flat=True)[:count])


def add_group(group_id: str, levels: int, width: int, now: datetime) -> None:
    """Half of its levels are complete, the next is in every state, and the others wait for it."""
    group = TaskGroup(pk=group_id, name=f"Import {group_id}", task_count=levels * width)
    TaskGroup.objects.bulk_create([group])
    tasks = {task.pk: task for task in _tasks(group_id, levels, width, now)}
    edges = list(_edges(group_id, levels, width))
    for edge in edges:
        if not tasks[edge.parent_id].is_complete:
            tasks[edge.child_id].pending_parents += 1
    Task.objects.bulk_create(tasks.values(), batch_size=ROWS_PER_STATEMENT)
    ParentEdge.objects.bulk_create(edges, batch_size=ROWS_PER_STATEMENT)
    Attempt.objects.bulk_create(_attempts(tasks.values(), now), batch_size=ROWS_PER_STATEMENT)


def _tasks(group_id: str, levels: int, width: int, now: datetime) -> Iterator[Task]:
    began = now - timedelta(hours=1)
    for level in range(levels):
        for at in range(width):
            number = level * width + at
            state: dict[str, Any] = {}
            if level < levels // 2:
                state = {"is_complete": True, "completed_at": now, "attempt": 1}
            elif level == levels // 2:
                state = _state(group_id, level, at, now)
            yield Task(
                id=_id(group_id, level, at),
                group_id=group_id,
                name=f"Step {level} of file {at}",
                input={"file": f"s3://in/{at}.csv", "step": level},
                created_at=began + timedelta(microseconds=number),
                run_after=state.pop("run_after", began),
                worker=state.pop("worker", f"worker-{(at + level) % WORKERS}"),
                **state,
            )


def _state(group_id: str, level: int, at: int, now: datetime) -> dict[str, Any]:
    """Every state in turn; ready is what is left."""
    key = f"{group_id}-{at - at % 10}"
    lead = _id(group_id, level, at - 1)
    states: dict[int, dict[str, Any]] = {
        0: {"leased_by": SCHEDULER, "leased_at": now, "attempt": 1, "key": key},
        1: {"merged_into": lead, "key": key},
        2: {"is_complete": True, "completed_at": now, "attempt": 1},
        3: {"remaining_attempts": 0, "errors": [ERROR], "attempt": 1},
        4: {"is_paused": True},
        5: {"worker": ""},
        6: {"run_after": now + timedelta(days=1)},
    }
    return states.get(at % 10, {})


def _edges(group_id: str, levels: int, width: int) -> Iterator[ParentEdge]:
    """Two parents on the level above, where it is wide enough."""
    for level in range(1, levels):
        for at in range(width):
            child = _id(group_id, level, at)
            for position, above in enumerate(sorted({at, (7 * at + 1) % width})):
                parent = _id(group_id, level - 1, above)
                yield ParentEdge(child_id=child, parent_id=parent, position=position)


def _attempts(tasks: Iterable[Task], now: datetime) -> list[Attempt]:
    """One of each task that ran, spread over the last hour."""
    ran = [task for task in tasks if task.is_complete or task.errors]
    return [
        Attempt(
            task_id=task.pk,
            number=1,
            worker=task.worker,
            scheduler=SCHEDULER,
            outcome=Outcome.COMPLETED if task.is_complete else Outcome.FAILED,
            status=200 if task.is_complete else 500,
            error="" if task.is_complete else ERROR,
            started_at=now - timedelta(seconds=3_500 * (1 - n / len(ran)) + 2),
            finished_at=now - timedelta(seconds=3_500 * (1 - n / len(ran))),
        )
        for n, task in enumerate(ran)
    ]


def _id(group_id: str, level: int, at: int) -> str:
    return f"{group_id}.{level}.{at}"

"""All that is known of a run at its end: the worker's log, the journal, the plans, the rows."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .journal import Asked
from .plan import GroupPlan

MadeBy = tuple[str, int]  # the task and the attempt whose output it is


@dataclass(frozen=True, slots=True)
class Post:
    """One call that the worker got; `status` is 0 when its answer was lost on purpose.

    `place` is the line of the log; `answered` that of the answer, None when it was never sent;
    `gone` that of the end of the connection before it.
    """

    place: int
    task: str
    attempt: int
    webhook_id: str = ""
    parents: dict[str, MadeBy | None] = field(default_factory=dict)
    children: tuple[str, ...] = ()
    status: int = 200
    error: Any = None
    is_early: bool = False
    at: float = 0.0
    answered: int | None = None
    worker: str = ""
    gone: int | None = None
    answered_at: float | None = None

    @property
    def may_complete(self) -> bool:
        return self.status == 200 and self.error is None


@dataclass(frozen=True, slots=True)
class TaskRow:
    id: str
    group: str
    key: str = ""
    attempt: int = 0
    is_complete: bool = True
    made_by: MadeBy | None = None
    merged_into: str | None = None
    created_by: str = ""
    state: str = ""  # what to show of a task that is stuck
    size: int = 0  # characters of its output


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """`started_at` and `finished_at` are seconds of the database's clock."""

    number: int
    outcome: str
    started_at: float = 0.0
    finished_at: float = 0.0
    scheduler: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """Somebody held the row of a group, from and until these seconds of the clock."""

    group: str
    since: float
    until: float


@dataclass(slots=True)
class Story:
    posts: list[Post] = field(default_factory=list)
    calls: list[Asked] = field(default_factory=list)
    tasks: dict[str, TaskRow] = field(default_factory=dict)
    attempts: dict[str, list[AttemptRow]] = field(default_factory=dict)
    parents: dict[str, set[str]] = field(default_factory=dict)
    plans: list[GroupPlan] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    invariants: dict[str, list[str]] = field(default_factory=dict)
    deaths: list[str] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)  # of workers
    locks: list[Lock] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)  # bytes, the most, by process

    # --- What the rules ask ---

    def completed(self, task: str) -> list[AttemptRow]:
        return [each for each in self.attempts.get(task, ()) if each.outcome == "completed"]

    def posts_of(self) -> dict[str, list[Post]]:
        by_task: defaultdict[str, list[Post]] = defaultdict(list)
        for post in self.posts:
            by_task[post.task].append(post)
        return by_task

    def gone(self) -> set[str]:
        """Tasks, and groups, that a call wanted to delete, whether or not it is known to have."""
        deletions = [call for call in self.calls if call.verb.startswith("delete_")]
        gone = {id_ for call in deletions for id_ in call.takes}
        return gone | {call.group for call in deletions if call.verb == "delete_group"}

    def unrun(self) -> dict[str, int]:
        """How often each task, or group, may have been reset."""
        counts: defaultdict[str, int] = defaultdict(int)
        for call in self.calls:
            if call.verb.startswith("reset_") and call.result != "refused":
                for id_ in call.ids or (call.group,):
                    counts[id_] += 1
        return counts


def read_log(path: Path) -> list[Post]:
    posts: list[dict[str, Any]] = []
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for place, line in enumerate(_lines(path)):
        name = (line["task"], line["attempt"])
        if line["is"] == "call":
            last[name] = line | {"place": place}
            posts.append(last[name])
        else:
            last[name]["answered" if line["is"] == "answer" else "gone"] = place
            last[name][f"{line['is']} at"] = line["at"]
    return [_post(line) for line in posts]


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    with path.open() as file:
        for line in file:
            yield json.loads(line)


def _post(line: dict[str, Any]) -> Post:
    return Post(
        line["place"],
        line["task"],
        line["attempt"],
        line["id"],
        {id_: tuple(made) if made else None for id_, made in line["parents"].items()},
        tuple(line["children"]),
        line["status"],
        line["error"],
        line["early"],
        line["at"],
        line.get("answered"),
        line.get("worker", ""),
        line.get("gone"),
        line.get("answer at"),
    )


def load(story: Story) -> Story:
    """Read the rows, and what breaks an invariant, by the Django of this process."""
    from django.db.models import TextField
    from django.db.models.functions import Cast, Length

    from tasks.models import Attempt, ParentEdge, Task, TaskGroup, Worker
    from tasks.upkeep.invariants import INVARIANTS

    fields = (
        "id", "group_id", "key", "attempt", "is_complete", "output__task", "output__attempt",
        "merged_into", "created_by", "remaining_attempts", "pending_parents", "is_paused",
        "leased_by", "run_after", "rescues",
    )  # fmt: skip
    sized = Task.objects.annotate(size=Length(Cast("output", TextField())))
    for row in sized.values_list(*fields, "size").iterator(chunk_size=10_000):
        made_by = (row[5], row[6]) if row[5] is not None else None
        state = ", ".join(f"{n}={v}" for n, v in zip(fields[9:], row[9:-1], strict=True))
        story.tasks[row[0]] = TaskRow(*row[:5], made_by, row[7], row[8], state, row[-1] or 0)
    attempts = Attempt.objects.order_by("task_id", "number").values_list(
        "task_id", "number", "outcome", "started_at", "finished_at", "scheduler"
    )
    for task, number, outcome, started, finished, by in attempts.iterator(chunk_size=10_000):
        attempt = AttemptRow(number, outcome, started.timestamp(), finished.timestamp(), by)
        story.attempts.setdefault(task, []).append(attempt)
    for child, parent in ParentEdge.objects.values_list("child_id", "parent_id").iterator():
        story.parents.setdefault(child, set()).add(parent)
    limited = Worker.objects.filter(max_concurrency__isnull=False)
    story.limits = dict(limited.values_list("name", "max_concurrency"))
    story.groups = set(TaskGroup.objects.values_list("id", flat=True))
    for invariant in INVARIANTS:
        if not invariant.is_warning and (ids := list(invariant.find())):
            story.invariants[invariant.name] = ids
    return story
